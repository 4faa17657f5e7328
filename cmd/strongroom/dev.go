package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/strongroom/strongroom/pkcs11"
)

// devCluster is a cluster on this machine for trying things out: real server
// processes with a software HSM each, in one folder.
type devCluster struct {
	dir      string // absolute
	nodes    int
	basePort int
	module   string // SoftHSM
	profile  string // of the transport keys
	binary   string // this binary
	out      io.Writer
}

func devCommand() *cobra.Command {
	d := devCluster{}
	cmd := &cobra.Command{
		Use: "dev", Args: cobra.NoArgs,
		Short: "Run a local cluster with software HSMs, for trying things out",
		Long: `Runs a cluster of real server processes on 127.0.0.1 in the foreground, each
with its own SoftHSM token. Certificates, keys, PINs and the administrator's
token are made on the first run and kept in the folder; the next run goes on
with the same data. Ctrl-C stops all nodes. A node that dies is reported and
not started again: that is yours to play with.

Node N listens on base-port + 10·(N-1) for the API, one more for the node
link, two more for gossip.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			d.out = cmd.OutOrStdout()
			// A terminal that is gone must not end us before the nodes have
			// been told to stop. (Not Ignore: children would inherit that.)
			signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
			return d.run(cmd.Context())
		},
	}
	cmd.Flags().IntVar(&d.nodes, "nodes", 3, "number of nodes, 1 to 7")
	cmd.Flags().StringVar(&d.dir, "dir", ".strongroom", "folder for everything")
	cmd.Flags().IntVar(&d.basePort, "base-port", 7400, "first port")
	cmd.Flags().StringVar(&d.profile, "profile", pkcs11.Strict, "of the HSMs' transport keys: strict, or flexible (the root key can be passed on)")
	cmd.Flags().StringVar(&d.module, "softhsm", "", "path of libsofthsm2.so (default: where distributions put it)")
	return cmd
}

// run is the whole life of a local cluster. The order matters: what refuses
// comes before what changes anything.
func (d *devCluster) run(ctx context.Context) error {
	if err := d.prepare(); err != nil {
		return err
	}
	release, err := d.lock()
	if err != nil {
		return err
	}
	defer release()
	if err := d.stopOrphans(ctx); err != nil {
		return err
	}
	if err := os.Remove(d.path("ready")); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err := d.setUp(ctx); err != nil {
		return err
	}
	return d.supervise(ctx)
}

// prepare checks the flags and makes the folder.
func (d *devCluster) prepare() error {
	if d.nodes < 1 || d.nodes > 7 {
		return usagef("--nodes must be between 1 and 7; it is %d", d.nodes)
	}
	if d.basePort < 1024 || d.basePort+10*d.nodes > 65535 {
		return usagef("--base-port must be between 1024 and %d; it is %d", 65535-10*d.nodes, d.basePort)
	}
	if _, err := transportKeyMaker(d.profile); err != nil {
		return err
	}
	unix.Umask(0o077)
	var err error
	if d.dir, err = filepath.Abs(d.dir); err != nil {
		return err
	}
	if d.binary, err = os.Executable(); err != nil {
		return fmt.Errorf("this binary cannot find itself: %w", err)
	}
	if d.module, err = findSoftHSM(d.module); err != nil {
		return err
	}
	return os.MkdirAll(d.dir, 0o700)
}

// findSoftHSM looks where distributions put the module.
func findSoftHSM(path string) (string, error) {
	candidates := []string{path}
	if path == "" {
		candidates = []string{
			"/usr/lib/softhsm/libsofthsm2.so",
			"/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so",
			"/usr/lib/aarch64-linux-gnu/softhsm/libsofthsm2.so",
			"/usr/lib64/pkcs11/libsofthsm2.so",
			"/usr/lib64/softhsm/libsofthsm.so",
			"/usr/lib/pkcs11/libsofthsm2.so",
			"/usr/local/lib/softhsm/libsofthsm2.so",
		}
	}
	for _, c := range candidates {
		if info, err := os.Stat(c); err == nil && info.Mode().IsRegular() {
			return filepath.Abs(c)
		}
	}
	return "", fmt.Errorf("SoftHSM, the software HSM, was not found (%s).\n"+
		"Install it: apt-get install softhsm2 (Debian, Ubuntu), dnf install softhsm (Fedora, RHEL), apk add softhsm (Alpine); or name it with --softhsm", strings.Join(candidates, ", "))
}

func (d *devCluster) path(parts ...string) string {
	return filepath.Join(append([]string{d.dir}, parts...)...)
}

func (d *devCluster) nodePath(node int, parts ...string) string {
	return d.path(append([]string{nodeName(node)}, parts...)...)
}

func nodeName(node int) string { return "node" + strconv.Itoa(node) }

// The ports of a node.
func (d *devCluster) apiAddress(node int) string    { return d.address(node, 0) }
func (d *devCluster) linkAddress(node int) string   { return d.address(node, 1) }
func (d *devCluster) gossipAddress(node int) string { return d.address(node, 2) }

func (d *devCluster) address(node, offset int) string {
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(d.basePort+10*(node-1)+offset))
}

// lock keeps a second supervisor out of the folder. The lock ends with the
// process, however it ends.
func (d *devCluster) lock() (release func(), err error) {
	if err := d.refuseForeignFolder(); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(d.path("lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, errors.Join(fmt.Errorf("another strongroom dev runs in %s; stop it with Ctrl-C there, or use another --dir", d.dir), f.Close())
	}
	return func() { _ = f.Close() }, nil
}

// stopOrphans ends servers that outlived their supervisor, which somebody has
// killed: nobody else would. Their requests finish first. A server that was
// started by hand is not touched.
func (d *devCluster) stopOrphans(ctx context.Context) error {
	orphans := map[int]int{}
	for node := 1; node <= d.nodes; node++ {
		if pid := d.livePID(node); pid > 0 {
			fmt.Fprintf(d.out, "%s still runs from before (process %d); stopping it first.\n", nodeName(node), pid)
			if err := syscall.Kill(pid, syscall.SIGTERM); err != nil && !errors.Is(err, syscall.ESRCH) {
				return fmt.Errorf("%s, process %d: %w", nodeName(node), pid, err)
			}
			orphans[node] = pid
		}
	}
	ctx, cancel := context.WithTimeout(ctx, devStop)
	defer cancel()
	for node, pid := range orphans {
		for d.livePID(node) == pid {
			select {
			case <-ctx.Done():
				return fmt.Errorf("%s, process %d, does not stop; stop it first with: kill -9 %d", nodeName(node), pid, pid)
			case <-time.After(20 * time.Millisecond):
			}
		}
	}
	return nil
}

// livePID answers the process that the pid file names, if it is a server that
// a supervisor of this folder has started: numbers of processes are used
// again, and servers are also started by hand.
func (d *devCluster) livePID(node int) int {
	raw, err := os.ReadFile(d.nodePath(node, "pid"))
	if err != nil {
		return 0
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(raw)))
	if err != nil || pid <= 1 || syscall.Kill(pid, 0) != nil {
		return 0
	}
	cmdline, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	words := strings.Split(string(cmdline), "\x00")
	if err != nil || !slices.Contains(words, d.nodePath(node, "config.yaml")) || !slices.Contains(words, "--"+supervisedFlag) {
		return 0
	}
	return pid
}
