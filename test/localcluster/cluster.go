// Package localcluster runs the built binary as a person does: a local cluster
// of real processes with SoftHSM, spoken to by HTTPS. It is for tests.
package localcluster

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Patience is how long a test waits for what must come. It is for loaded
// machines, not a promise.
const Patience = 90 * time.Second

// Cluster is a local cluster in the hands of one test. Its methods are for the
// goroutine of the test, except Do, Persist and what only reads.
type Cluster struct {
	*machine
	t testing.TB
}

// machine is the cluster itself, which may outlive a test.
type machine struct {
	Binary string
	Dir    string
	Nodes  int
	Token  string // the administrator's

	flags  []string // of strongroom dev, besides its shape
	port   int
	keep   net.Listener
	client *http.Client
	output *lockedBuffer
	dev    *process
	extra  map[int]*process // nodes that a test started by hand
	// releases has the nodes that StartNode starts with another binary.
	releases map[int]string
}

// process is a child of ours that is waited for from its start.
type process struct {
	*exec.Cmd
	ended chan struct{}
}

func start(cmd *exec.Cmd) (*process, error) {
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p := &process{cmd, make(chan struct{})}
	go func() {
		_ = cmd.Wait() // how a killed process ends is no news
		close(p.ended)
	}()
	return p, nil
}

func newMachine(t testing.TB, binary, dir string, nodes int) *machine {
	port, keep := freePorts(t)
	return &machine{Binary: binary, Dir: dir, Nodes: nodes, port: port, keep: keep, output: &lockedBuffer{}, extra: map[int]*process{}, releases: map[int]string{}}
}

// of gives the cluster to a test, which shows the nodes' logs if it fails.
func (m *machine) of(t testing.TB) *Cluster {
	c := &Cluster{machine: m, t: t}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("terminal of the local cluster:\n%s", c.Terminal())
			for node := 1; node <= c.Nodes; node++ {
				log := c.Log(node)
				t.Logf("end of the log of node%d:\n%s", node, log[max(0, len(log)-4000):])
			}
		}
	})
	return c
}

// Up starts the supervisor and waits until the cluster is ready.
func (c *Cluster) Up() {
	c.t.Helper()
	_ = os.Remove(filepath.Join(c.Dir, "ready"))
	cmd := exec.Command(c.Binary, append([]string{"dev", "--nodes", strconv.Itoa(c.Nodes), "--dir", c.Dir, "--base-port", strconv.Itoa(c.port)}, c.flags...)...)
	cmd.Stdout, cmd.Stderr = c.output, c.output
	// A test that is killed takes the supervisor along, which stops the nodes.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	var err error
	c.dev, err = start(cmd)
	require.NoError(c.t, err)
	c.Await("the file ready", func() bool {
		select {
		case <-c.dev.ended:
			require.FailNow(c.t, "strongroom dev has ended", c.Terminal())
		default:
		}
		return c.Exists("ready")
	})
	ca, err := os.ReadFile(filepath.Join(c.Dir, "ca.pem"))
	require.NoError(c.t, err)
	token, err := os.ReadFile(filepath.Join(c.Dir, "admin.token"))
	require.NoError(c.t, err)
	c.Token = strings.TrimSpace(string(token))
	pool := x509.NewCertPool()
	require.True(c.t, pool.AppendCertsFromPEM(ca))
	c.client = &http.Client{Timeout: 45 * time.Second, Transport: &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: pool}, MaxIdleConnsPerHost: 64,
	}}
}

// Stop ends the cluster as Ctrl-C does. Up starts it again.
func (c *Cluster) Stop() {
	c.t.Helper()
	require.NoError(c.t, c.stopSupervised())
}

// stop ends everything and gives the ports back.
func (m *machine) stop() error {
	return errors.Join(m.stopSupervised(), m.keep.Close())
}

func (m *machine) stopSupervised() error {
	if m.client != nil {
		m.client.CloseIdleConnections()
	}
	for node, p := range m.extra {
		_ = p.Process.Signal(syscall.SIGCONT) // a paused process does not end
		_ = p.Process.Kill()
		<-p.ended
		delete(m.extra, node)
	}
	if m.dev == nil {
		return nil
	}
	dev := m.dev
	m.dev = nil
	_ = dev.Process.Signal(syscall.SIGINT)
	select {
	case <-dev.ended:
		return nil
	case <-time.After(Patience):
		for _, p := range m.processes() {
			_ = syscall.Kill(p.PID, syscall.SIGKILL)
		}
		<-dev.ended
		return fmt.Errorf("the cluster did not stop within %v of SIGINT:\n%s", Patience, m.output)
	}
}

// Await polls until done, in the goroutine of the test.
func (c *Cluster) Await(what string, done func() bool) {
	c.t.Helper()
	late := time.After(Patience)
	for !done() {
		select {
		case <-late:
			require.FailNow(c.t, "waited in vain for "+what)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// Exists reports whether a file of the cluster's folder is there.
func (m *machine) Exists(name string) bool {
	_, err := os.Stat(filepath.Join(m.Dir, name))
	return err == nil
}

// NodeDir is the folder of a node, from 1.
func (m *machine) NodeDir(node int) string { return filepath.Join(m.Dir, Name(node)) }

// Name is the id of a node, from 1.
func Name(node int) string { return "node" + strconv.Itoa(node) }

// Addr is the API address of a node.
func (m *machine) Addr(node int) string {
	return "https://127.0.0.1:" + strconv.Itoa(m.port+10*(node-1))
}

// Terminal is what the supervisor has printed so far.
func (m *machine) Terminal() string { return m.output.String() }

// Log is the log of a node, since its first start.
func (m *machine) Log(node int) string {
	raw, err := os.ReadFile(filepath.Join(m.NodeDir(node), "log"))
	if err != nil {
		return err.Error()
	}
	return string(raw)
}

// lockedBuffer is what a process writes while a test reads.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
