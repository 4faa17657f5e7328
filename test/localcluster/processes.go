package localcluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/stretchr/testify/require"
)

// Process is a running process of a cluster.
type Process struct {
	PID    int
	Parent int
	Args   []string
}

// processes answers the supervisor, the servers and their HSM workers, by what
// /proc says of them: nothing else is ever signalled.
func (m *machine) processes() []Process {
	var all, out []Process
	entries, err := os.ReadDir("/proc")
	if err != nil {
		panic(err) // these tests are for Linux
	}
	for _, e := range entries {
		if pid, err := strconv.Atoi(e.Name()); err == nil {
			if p, ok := readProcess(pid); ok && m.isOurs(p.Args[0]) {
				all = append(all, p)
			}
		}
	}
	ours := map[int]bool{}
	for _, p := range all {
		if slices.ContainsFunc(p.Args, func(a string) bool { return a == m.Dir || strings.HasPrefix(a, m.Dir+"/") }) {
			ours[p.PID] = true
		}
	}
	for _, p := range all {
		if ours[p.PID] || ours[p.Parent] {
			out = append(out, p)
		}
	}
	return out
}

// isOurs says whether a program is a binary that this cluster runs.
func (m *machine) isOurs(program string) bool {
	if program == m.Binary {
		return true
	}
	for _, binary := range m.releases {
		if program == binary {
			return true
		}
	}
	return false
}

// readProcess reads a process that has not ended.
func readProcess(pid int) (Process, bool) {
	dir := "/proc/" + strconv.Itoa(pid)
	cmdline, err := os.ReadFile(dir + "/cmdline")
	if err != nil || len(cmdline) == 0 { // one that has ended and is not waited for has none
		return Process{}, false
	}
	stat, err := os.ReadFile(dir + "/stat")
	if err != nil {
		return Process{}, false
	}
	// pid (name) state parent …; the name may hold anything.
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	parent, err := strconv.Atoi(fields[1])
	if err != nil {
		return Process{}, false
	}
	return Process{pid, parent, strings.Split(strings.TrimSuffix(string(cmdline), "\x00"), "\x00")}, true
}

// Processes answers every running process of the cluster.
func (c *Cluster) Processes() []Process { return c.processes() }

// Server answers the process of a node, if it runs.
func (m *machine) Server(node int) (Process, bool) {
	config := filepath.Join(m.NodeDir(node), "config.yaml")
	for _, p := range m.processes() {
		if p.Args[1] == "server" && slices.Contains(p.Args, config) {
			return p, true
		}
	}
	return Process{}, false
}

// Worker answers the HSM worker of a node, if it runs.
func (m *machine) Worker(node int) (Process, bool) {
	server, ok := m.Server(node)
	for _, p := range m.processes() {
		if ok && p.Parent == server.PID && p.Args[1] == "hsm-worker" {
			return p, true
		}
	}
	return Process{}, false
}

// Signal sends a signal to a node's server.
func (c *Cluster) Signal(node int, s syscall.Signal) {
	c.t.Helper()
	p, ok := c.Server(node)
	require.True(c.t, ok, "node%d does not run", node)
	require.NoError(c.t, syscall.Kill(p.PID, s))
}

// Kill ends a node's server at once and waits until it is gone.
func (c *Cluster) Kill(node int) {
	c.t.Helper()
	c.Signal(node, syscall.SIGKILL)
	c.AwaitEnd(node)
}

// AwaitEnd waits until a node's server has ended and its addresses are free: a
// process that is killed loses its memory, and with it its command line, before
// it closes its sockets.
func (c *Cluster) AwaitEnd(node int) {
	c.t.Helper()
	c.Await("the end of "+Name(node), func() bool { _, runs := c.Server(node); return !runs && c.addressesFree(node) })
}

func (m *machine) addressesFree(node int) bool {
	api := strings.TrimPrefix(m.Addr(node), "https://")
	host, text, err := net.SplitHostPort(api)
	if err != nil {
		panic(err) // Addr made it
	}
	port, err := strconv.Atoi(text)
	if err != nil {
		panic(err)
	}
	for p := port; p <= port+2; p++ { // API, node link and gossip
		l, err := net.Listen("tcp", net.JoinHostPort(host, strconv.Itoa(p)))
		if err != nil {
			return false
		}
		_ = l.Close()
	}
	return true
}

// KillAll ends every process of the cluster at once, the supervisor first, as
// a machine that loses its mains does.
func (c *Cluster) KillAll() {
	c.t.Helper()
	require.NotNil(c.t, c.dev)
	require.NoError(c.t, c.dev.Process.Kill())
	for _, p := range c.processes() {
		_ = syscall.Kill(p.PID, syscall.SIGKILL) // a worker may have ended with its server
	}
	c.Await("the end of all processes", func() bool { return len(c.processes()) == 0 })
	for node := 1; node <= c.Nodes; node++ {
		c.AwaitEnd(node)
	}
	<-c.dev.ended
	c.dev, c.extra = nil, map[int]*process{}
}

// StartNode starts a node's server by hand, as an operator does; within is a
// command that it is started through, if any, which must become the server.
func (c *Cluster) StartNode(node int, within ...string) {
	c.t.Helper()
	log, err := os.OpenFile(filepath.Join(c.NodeDir(node), "log"), os.O_APPEND|os.O_WRONLY|os.O_CREATE, 0o600)
	require.NoError(c.t, err)
	defer log.Close()
	command := append(slices.Clone(within), c.binaryOf(node), "server", "--config", filepath.Join(c.NodeDir(node), "config.yaml"))
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	c.extra[node], err = start(cmd)
	require.NoError(c.t, err)
}

// Install makes StartNode start a node with another binary from now on, as an
// operator does who upgrades a machine. The node must not run: it would not be
// recognised as one of the cluster's any more.
func (c *Cluster) Install(node int, binary string) {
	c.t.Helper()
	_, runs := c.Server(node)
	require.False(c.t, runs, "%s runs", Name(node))
	c.releases[node] = binary
}

func (m *machine) binaryOf(node int) string {
	if binary := m.releases[node]; binary != "" {
		return binary
	}
	return m.Binary
}

// Ended waits until a server that StartNode started has ended by itself, and
// answers its exit code, -1 if a signal ended it.
func (c *Cluster) Ended(node int) int {
	c.t.Helper()
	p := c.extra[node]
	require.NotNil(c.t, p, "%s was not started by hand", Name(node))
	select {
	case <-p.ended:
	case <-time.After(Patience):
		require.FailNow(c.t, "waited in vain for the end of "+Name(node))
	}
	return p.ProcessState.ExitCode()
}

// Configure adds settings to every node's file, and starts the cluster anew.
func (c *Cluster) Configure(settings func(node int) string) {
	c.t.Helper()
	c.Stop()
	for node := 1; node <= c.Nodes; node++ {
		f, err := os.OpenFile(filepath.Join(c.NodeDir(node), "config.yaml"), os.O_APPEND|os.O_WRONLY, 0o600)
		require.NoError(c.t, err)
		_, err = f.WriteString(settings(node))
		require.NoError(c.t, errors.Join(err, f.Close()))
	}
	c.Up()
}

// Revive starts what does not run and waits until every node is ready.
func (c *Cluster) Revive() {
	c.t.Helper()
	for node := 1; node <= c.Nodes; node++ {
		if _, runs := c.Server(node); !runs {
			c.StartNode(node)
		}
	}
	for node := 1; node <= c.Nodes; node++ {
		c.AwaitReady(node)
	}
}

// AwaitReady waits until a node says that it is ready.
func (c *Cluster) AwaitReady(node int) {
	c.t.Helper()
	c.Await(Name(node)+" to be ready", func() bool { return c.health(node, "ready") })
}

func (m *machine) health(node int, what string) bool {
	resp, err := m.client.Get(m.Addr(node) + "/api/v1/health/" + what)
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}

// Leader answers the number of the node that leads, waiting until one does.
func (c *Cluster) Leader() int {
	c.t.Helper()
	leader := 0
	c.Await("a leader", func() bool {
		for node := 1; node <= c.Nodes; node++ {
			if _, runs := c.Server(node); runs && c.health(node, "leader") {
				leader = node
				return true
			}
		}
		return false
	})
	return leader
}

// Lead makes a node the leader. A successor that is busy may miss its moment,
// and is asked again.
func (c *Cluster) Lead(node int) {
	c.t.Helper()
	c.Await(Name(node)+" to lead", func() bool {
		r, err := c.Do(context.Background(), node, c.Token, "cluster/transferLeadership", fmt.Sprintf(`{"to":%q}`, Name(node)))
		require.NoError(c.t, err)
		require.Contains(c.t, []string{"", "Conflict", "NoLeader", "Uncertain"}, r.Code(), "%s", r.Body)
		return r.Status == http.StatusOK && c.health(node, "leader")
	})
}

// Others answers every node but one.
func (m *machine) Others(than int) []int {
	var out []int
	for node := 1; node <= m.Nodes; node++ {
		if node != than {
			out = append(out, node)
		}
	}
	return out
}
