package agent

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/strongroom/strongroom/internal/names"
)

// Instance is the name under which the ledger knows this process, held by a
// lock for as long as it runs: two processes of one name would speak for each
// other, and one that has not moved would be counted as moved.
type Instance struct {
	Name string
	lock net.Listener
}

// TakeInstance takes the given name, or makes one from the host's name and
// what tells this process from others on the host. So it is the same after a
// restart, which lets go of what the process before it held.
func TakeInstance(setting, given string, parts ...string) (*Instance, error) {
	name := given
	if name == "" {
		name = instanceName(parts...)
	} else if _, err := names.ParseName(name); err != nil {
		return nil, fmt.Errorf("%s: %w", setting, err)
	}
	// A socket without a file: it ends with the process, however that ends, needs
	// no folder, and is seen by all containers of a pod, which share a host name.
	sum := sha256.Sum256(fmt.Appendf(nil, "%d %s", os.Geteuid(), name))
	lock, err := net.Listen("unix", "@strongroom-instance-"+hex.EncodeToString(sum[:16]))
	if errors.Is(err, unix.EADDRINUSE) {
		return nil, fmt.Errorf("%s: another process on this machine runs as the instance %s; they would speak for each other, so give each a name of its own", setting, name)
	} else if err != nil {
		return nil, fmt.Errorf("lock of the instance %s: %w", name, err)
	}
	return &Instance{name, lock}, nil
}

// Release gives the name back.
func (i *Instance) Release() error { return i.lock.Close() }

func instanceName(parts ...string) string {
	host, err := os.Hostname()
	if err != nil {
		host = "host"
	}
	host = strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '.' {
			return r
		}
		return '-'
	}, host)
	if host = strings.TrimLeft(host[:min(len(host), 64)], "-."); host == "" {
		host = "host"
	}
	sum := sha256.Sum256([]byte(fmt.Sprintf("%q", append([]string{fmt.Sprint(os.Geteuid())}, parts...))))
	return host + "-" + hex.EncodeToString(sum[:5])
}
