package localcluster

import (
	"net"
	"os"
	"strconv"
	"testing"
)

// freePorts finds a base so that base..base+69 are free now, and keeps others
// of our kind away from them for as long as this process runs, by listening on
// base+99. All lie below the ports that the system gives to clients.
func freePorts(t testing.TB) (base int, keep net.Listener) {
	const first, step, count = 12000, 100, 200
	for i := range count {
		base := first + (os.Getpid()+i)%count*step
		keep, err := net.Listen("tcp", "127.0.0.1:"+strconv.Itoa(base+step-1))
		if err != nil {
			continue
		}
		if rangeFree(base, 70) {
			return base, keep
		}
		_ = keep.Close()
	}
	t.Fatal("no free range of ports")
	return 0, nil
}

func rangeFree(base, count int) bool {
	for p := base; p < base+count; p++ {
		l, err := net.Listen("tcp", "127.0.0.1:"+strconv.Itoa(p))
		if err != nil {
			return false
		}
		_ = l.Close()
	}
	return true
}
