package sink

import (
	"errors"
	"net"

	"golang.org/x/sys/unix"
)

// unacknowledged answers how many bytes that were written the other machine
// has not acknowledged yet, sent or not.
func unacknowledged(conn *net.TCPConn) (left int, err error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return 0, err
	}
	var failed error
	err = raw.Control(func(fd uintptr) { left, failed = unix.IoctlGetInt(int(fd), unix.SIOCOUTQ) })
	return left, errors.Join(err, failed)
}
