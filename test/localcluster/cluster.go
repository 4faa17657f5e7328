// Package localcluster runs the built binary as a person does: a local cluster
// of real processes with SoftHSM, spoken to by HTTPS. It is for tests.
package localcluster

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
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

// Binary builds cmd/strongroom into a temporary folder and answers its path.
func Binary(t testing.TB) string {
	t.Helper()
	if prebuilt := os.Getenv("STRONGROOM_BINARY"); prebuilt != "" {
		return prebuilt
	}
	path := filepath.Join(t.TempDir(), "strongroom")
	out, err := exec.Command("go", "build", "-o", path, "github.com/strongroom/strongroom/cmd/strongroom").CombinedOutput()
	require.NoError(t, err, string(out))
	return path
}

// Cluster is a running local cluster.
type Cluster struct {
	t      testing.TB
	Binary string
	Dir    string
	Nodes  int
	port   int
	client *http.Client
	Token  string

	dev    *exec.Cmd
	output *lockedBuffer
	mu     sync.Mutex
	extra  map[int]*exec.Cmd // nodes that a test started itself
}

// Start brings up a fresh cluster of three nodes on ports of its own and
// stops it when the test ends.
func Start(t testing.TB) *Cluster {
	t.Helper()
	c := &Cluster{t: t, Binary: Binary(t), Dir: filepath.Join(t.TempDir(), "cluster"), Nodes: 3, port: freePorts(t), extra: map[int]*exec.Cmd{}}
	t.Cleanup(c.Stop)
	c.Up()
	return c
}

// freePorts finds a base so that base..base+29 are free now. Tests of one
// package run one after another, and packages take bases far apart.
func freePorts(t testing.TB) int {
	for base := 20000 + os.Getpid()%300*100; base < 60000; base += 100 {
		if rangeFree(base) {
			return base
		}
	}
	t.Fatal("no free range of ports")
	return 0
}

func rangeFree(base int) bool {
	for p := base; p < base+30; p++ {
		l, err := net.Listen("tcp", "127.0.0.1:"+strconv.Itoa(p))
		if err != nil {
			return false
		}
		_ = l.Close()
	}
	return true
}

// Up starts the supervisor and waits until the cluster is ready.
func (c *Cluster) Up() {
	c.t.Helper()
	_ = os.Remove(filepath.Join(c.Dir, "ready"))
	c.output = &lockedBuffer{}
	c.dev = exec.Command(c.Binary, "dev", "--nodes", strconv.Itoa(c.Nodes), "--dir", c.Dir, "--base-port", strconv.Itoa(c.port))
	c.dev.Stdout, c.dev.Stderr = c.output, c.output
	c.dev.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	require.NoError(c.t, c.dev.Start())
	ready := filepath.Join(c.Dir, "ready")
	require.Eventually(c.t, func() bool { _, err := os.Stat(ready); return err == nil }, 90*time.Second, 50*time.Millisecond, "the cluster did not become ready:\n%s", c.output)
	ca, err := os.ReadFile(filepath.Join(c.Dir, "ca.pem"))
	require.NoError(c.t, err)
	token, err := os.ReadFile(filepath.Join(c.Dir, "admin.token"))
	require.NoError(c.t, err)
	c.Token = strings.TrimSpace(string(token))
	pool := x509.NewCertPool()
	require.True(c.t, pool.AppendCertsFromPEM(ca))
	c.client = &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: pool}, MaxIdleConnsPerHost: 64,
	}}
}

// Stop ends the cluster as Ctrl-C does, and everything that is left of it.
func (c *Cluster) Stop() {
	for node := range c.extra {
		_ = c.extra[node].Process.Kill()
		_ = c.extra[node].Wait()
	}
	c.extra = map[int]*exec.Cmd{}
	if c.dev == nil {
		return
	}
	_ = c.dev.Process.Signal(syscall.SIGINT)
	done := make(chan error, 1)
	go func() { done <- c.dev.Wait() }()
	select {
	case <-done:
	case <-time.After(30 * time.Second):
		c.t.Errorf("the cluster did not stop within 30 s of SIGINT:\n%s", c.output)
		_ = syscall.Kill(-c.dev.Process.Pid, syscall.SIGKILL)
		<-done
	}
	for node := 1; node <= c.Nodes; node++ {
		if pid := c.pid(node); pid > 0 {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	}
	c.dev = nil
	if c.t.Failed() {
		c.t.Logf("terminal of the local cluster:\n%s", c.output)
		c.logTails()
	}
}

func (c *Cluster) logTails() {
	for node := 1; node <= c.Nodes; node++ {
		raw, _ := os.ReadFile(filepath.Join(c.Dir, c.Name(node), "log"))
		c.t.Logf("log of node%d (end):\n%s", node, raw[max(0, len(raw)-4000):])
	}
}

// Name of a node, from 1.
func (c *Cluster) Name(node int) string { return "node" + strconv.Itoa(node) }

// Addr is the API address of a node.
func (c *Cluster) Addr(node int) string {
	return "https://127.0.0.1:" + strconv.Itoa(c.port+10*(node-1))
}

func (c *Cluster) pid(node int) int {
	raw, err := os.ReadFile(filepath.Join(c.Dir, c.Name(node), "pid"))
	if err != nil {
		return 0
	}
	pid, _ := strconv.Atoi(strings.TrimSpace(string(raw)))
	return pid
}

// Signal sends a signal to a node's process.
func (c *Cluster) Signal(node int, s syscall.Signal) {
	c.t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	if cmd := c.extra[node]; cmd != nil {
		require.NoError(c.t, cmd.Process.Signal(s))
		if s == syscall.SIGKILL || s == syscall.SIGTERM {
			_ = cmd.Wait()
			delete(c.extra, node)
		}
		return
	}
	pid := c.pid(node)
	require.Positive(c.t, pid, "no pid of node%d", node)
	require.NoError(c.t, syscall.Kill(pid, s))
}

// WaitGone waits until a node's process has ended.
func (c *Cluster) WaitGone(node int) {
	c.t.Helper()
	require.Eventually(c.t, func() bool {
		conn, err := net.DialTimeout("tcp", strings.TrimPrefix(c.Addr(node), "https://"), time.Second)
		if err == nil {
			_ = conn.Close()
		}
		return err != nil
	}, 30*time.Second, 20*time.Millisecond)
}

// StartNode starts a node's server by hand, as an operator does.
func (c *Cluster) StartNode(node int) {
	c.t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	cmd := exec.Command(c.Binary, "server", "--config", filepath.Join(c.Dir, c.Name(node), "config.yaml"))
	log, err := os.OpenFile(filepath.Join(c.Dir, c.Name(node), "log"), os.O_APPEND|os.O_WRONLY|os.O_CREATE, 0o600)
	require.NoError(c.t, err)
	cmd.Stdout, cmd.Stderr = log, log
	require.NoError(c.t, cmd.Start())
	_ = log.Close()
	c.extra[node] = cmd
}

// WaitReady waits until a node says that it is ready.
func (c *Cluster) WaitReady(node int) {
	c.t.Helper()
	require.Eventually(c.t, func() bool {
		resp, err := c.client.Get(c.Addr(node) + "/api/v1/health/ready")
		if err != nil {
			return false
		}
		defer resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	}, 60*time.Second, 50*time.Millisecond, "node%d did not become ready", node)
}

// KillAll sends SIGKILL to every process of the cluster, the supervisor first.
func (c *Cluster) KillAll() {
	c.t.Helper()
	require.NoError(c.t, c.dev.Process.Kill())
	_ = c.dev.Wait()
	c.dev = nil
	for node := 1; node <= c.Nodes; node++ {
		c.mu.Lock()
		running := c.extra[node] != nil
		c.mu.Unlock()
		if running {
			c.Signal(node, syscall.SIGKILL)
		} else if pid := c.pid(node); pid > 0 {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
		c.WaitGone(node)
	}
}

// Response is an answer of the API.
type Response struct {
	Status int
	Body   []byte
	Header http.Header
}

// Code is the error code of a failed request, empty for a good one.
func (r Response) Code() string {
	var e struct{ Error struct{ Code string } }
	_ = json.Unmarshal(r.Body, &e)
	return e.Error.Code
}

// Message is the error message of a failed request.
func (r Response) Message() string {
	var e struct{ Error struct{ Message string } }
	_ = json.Unmarshal(r.Body, &e)
	return e.Error.Message
}

// Do sends one request to a node.
func (c *Cluster) Do(ctx context.Context, node int, token, operation, body string) (Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.Addr(node)+"/api/v1/"+operation, strings.NewReader(body))
	if err != nil {
		return Response{}, err
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := c.client.Do(req)
	if err != nil {
		return Response{}, err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	return Response{resp.StatusCode, answer, resp.Header}, err
}

// Send is Do for requests that must get an answer.
func (c *Cluster) Send(node int, token, operation, format string, args ...any) Response {
	c.t.Helper()
	r, err := c.Do(context.Background(), node, token, operation, fmt.Sprintf(format, args...))
	require.NoError(c.t, err)
	return r
}

// OK is Send as the administrator for requests that must succeed; it decodes
// the answer into a generic object.
func (c *Cluster) OK(node int, operation, format string, args ...any) map[string]any {
	c.t.Helper()
	r := c.Send(node, c.Token, operation, format, args...)
	require.Equal(c.t, http.StatusOK, r.Status, "%s: %s", operation, r.Body)
	out := map[string]any{}
	require.NoError(c.t, json.Unmarshal(r.Body, &out))
	return out
}

// Leader answers the number of the node that leads, waiting until one does.
func (c *Cluster) Leader() int {
	c.t.Helper()
	leader := 0
	require.Eventually(c.t, func() bool {
		for node := 1; node <= c.Nodes; node++ {
			resp, err := c.client.Get(c.Addr(node) + "/api/v1/health/leader")
			if err != nil {
				continue
			}
			_ = resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				leader = node
				return true
			}
		}
		return false
	}, 60*time.Second, 20*time.Millisecond, "no leader")
	return leader
}

// Followers answers the nodes that do not lead.
func (c *Cluster) Followers() []int {
	leader := c.Leader()
	var out []int
	for node := 1; node <= c.Nodes; node++ {
		if node != leader {
			out = append(out, node)
		}
	}
	return out
}

// Principal makes a service with one policy and answers a token of it.
func (c *Cluster) Principal(name, statements string) string {
	c.t.Helper()
	c.OK(1, "iam/createPrincipal", `{"name":%q,"kind":"service"}`, name)
	c.OK(1, "iam/putPolicy", `{"name":%q,"statements":%s}`, name, statements)
	c.OK(1, "iam/attachPolicy", `{"policy":%q,"principal":%q}`, name, name)
	token, ok := c.OK(1, "iam/createToken", `{"principal":%q}`, name)["token"].(string)
	require.True(c.t, ok)
	return token
}

// CLI runs the binary's command line as a user of the cluster does.
func (c *Cluster) CLI(stdin string, args ...string) (stdout string, err error) {
	env, envErr := c.Env()
	require.NoError(c.t, envErr)
	cmd := exec.Command(c.Binary, args...)
	cmd.Env = append(os.Environ(), env...)
	cmd.Stdin = strings.NewReader(stdin)
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("%w: %s", err, errOut.String())
	}
	return out.String(), nil
}

// Env reads the variables that the local cluster's env file sets.
func (c *Cluster) Env() ([]string, error) {
	f, err := os.Open(filepath.Join(c.Dir, "env"))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var out []string
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		line := strings.TrimPrefix(lines.Text(), "export ")
		if name, value, ok := strings.Cut(line, "="); ok && !strings.HasPrefix(line, "#") {
			out = append(out, name+"="+strings.Trim(value, `"'`))
		}
	}
	return out, errors.Join(lines.Err())
}

// B64 is base64 as the API takes it.
func B64(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

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
