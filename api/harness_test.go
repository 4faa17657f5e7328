package api

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/api/wire"
	"github.com/strongroom/strongroom/audit"
	"github.com/strongroom/strongroom/engine"
	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/kms"
	"github.com/strongroom/strongroom/test/softtoken"
)

// memoryLog is engine.Log on one machine in this process, shared by the nodes
// of a test. before runs before each look at the state, and fails it; after
// runs once a command was applied.
type memoryLog struct {
	mu      sync.Mutex
	moved   chan struct{} // closed when something is applied, nil: nobody asked
	machine *fsm.Machine
	index   uint64
	before  func(context.Context) error
	after   func() error
}

func (l *memoryLog) hook(before func(context.Context) error, after func() error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.before, l.after = before, after
}

func (l *memoryLog) Propose(_ context.Context, command []byte) (fsm.Result, error) {
	l.mu.Lock()
	l.index++
	result, err := l.machine.Apply(l.index, command)
	l.broadcast()
	after := l.after
	l.mu.Unlock()
	if err == nil && after != nil {
		err = after()
	}
	return result, err
}

func (l *memoryLog) Local() *fsm.State { return l.machine.State() }

// Moved implements engine.Log.
func (l *memoryLog) Moved() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.moved == nil {
		l.moved = make(chan struct{})
	}
	return l.moved
}

// broadcast says that something was applied; l is locked.
func (l *memoryLog) broadcast() {
	if l.moved != nil {
		close(l.moved)
		l.moved = nil
	}
}

func (l *memoryLog) ReadState(ctx context.Context) (*fsm.State, error) {
	l.mu.Lock()
	before := l.before
	l.mu.Unlock()
	if before != nil {
		if err := before(ctx); err != nil {
			return nil, err
		}
	}
	return l.machine.State(), nil
}

// cluster is a set of nodes over one log. It is api.Cluster for each of them
// through view.
type cluster struct {
	t     testing.TB
	log   *memoryLog
	kms   *kms.Service
	id    string
	admin string

	mu     sync.Mutex
	leader string            // who leads
	told   map[string]string // what a node is told instead
	nodes  map[string]*node
}

// node is one server with its listeners.
type node struct {
	*cluster
	name     string
	server   *Server
	engine   *engine.Engine
	trail    *audit.Trail
	registry *prometheus.Registry
	address  string
	link     *pipes
	logged   *lines
	served   chan error
}

// view is the cluster as one node sees it.
type view struct {
	*cluster
	self string
}

func (v view) Leader() (id string, self, known bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	leader := v.leader
	if told, ok := v.told[v.self]; ok {
		leader = told
	}
	return leader, leader == v.self, leader != ""
}

func (v view) DialLink(_ context.Context, to string) (net.Conn, error) {
	v.mu.Lock()
	n := v.nodes[to]
	v.mu.Unlock()
	if n == nil {
		return nil, errors.New("no such node")
	}
	return n.link.dial(v.self)
}

// lead makes a node the leader, whose first work is to open its session.
func (c *cluster) lead(name string) {
	c.t.Helper()
	c.mu.Lock()
	n := c.nodes[name]
	c.mu.Unlock()
	if n != nil {
		require.NoError(c.t, n.engine.OpenLedger(context.Background()))
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.leader = name
}

func (c *cluster) tell(name, leader string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.told[name] = leader
}

func newCluster(t testing.TB) *cluster {
	ctx := context.Background()
	c := &cluster{t: t, log: &memoryLog{machine: fsm.New()}, id: uuid.NewString(), nodes: map[string]*node{}, told: map[string]string{}}
	token := softtoken.New()
	command, admin, err := engine.Genesis(ctx, engine.GenesisInput{
		ClusterID: c.id, Now: time.Now(), Token: token, Root: fsm.Root{Version: 1}, AdminName: "admin", AdminTTL: time.Hour,
	})
	require.NoError(t, err)
	c.admin = string(admin.Expose())
	_, err = c.log.Propose(ctx, command)
	require.NoError(t, err)
	c.kms, err = kms.New(token, c.id)
	require.NoError(t, err)
	return c
}

// start adds a node and serves. change may change its configuration.
func (c *cluster) start(name string, change func(*Config)) *node {
	c.t.Helper()
	n := &node{cluster: c, name: name, registry: prometheus.NewRegistry(), logged: &lines{}, link: newPipes(), served: make(chan error, 2)}
	logger := slog.New(slog.NewTextHandler(n.logged, nil))
	var err error
	n.trail, err = audit.Open(audit.Config{Dir: c.t.TempDir(), Node: name, Durability: audit.Written, Logger: slog.New(slog.DiscardHandler)})
	require.NoError(c.t, err)
	n.engine, err = engine.New(engine.Config{
		Node: name, ClusterID: c.id, Log: c.log, KMS: c.kms, Trail: n.trail, Logger: logger, Registerer: n.registry,
	})
	require.NoError(c.t, err)
	cfg := Config{
		Engine: n.engine, Cluster: view{c, name}, NodeID: name, Timeout: 10 * time.Second, Logger: logger, Registry: n.registry,
		Ready: func() error { return nil },
	}
	if change != nil {
		change(&cfg)
	}
	n.server = New(cfg, NewLink(view{c, name}.DialLink))
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(c.t, err)
	n.address = listener.Addr().String()
	c.mu.Lock()
	c.nodes[name] = n
	c.mu.Unlock()
	go func() { n.served <- n.server.Serve(listener) }()
	go func() { n.served <- n.server.ServeLink(n.link) }()
	watching, stopWatch := context.WithCancel(context.Background())
	watched := make(chan struct{})
	go func() { defer close(watched); n.engine.RunWatch(watching) }()
	c.t.Cleanup(func() {
		stopWatch()
		<-watched
		ctx, cancel := context.WithCancel(context.Background())
		cancel() // what is still in flight is cut
		_ = n.server.Close(ctx)
		_, _ = <-n.served, <-n.served
		_ = n.trail.Close()
	})
	return n
}

// single is a cluster of one node that leads.
func single(t testing.TB, change func(*Config)) *node {
	c := newCluster(t)
	n := c.start("n1", change)
	c.lead("n1")
	return n
}

// reply is one response, read to its end.
type reply struct {
	status int
	header http.Header
	body   string
	closed bool // the server says that it closes the connection
}

// send writes text as it is and reads one response.
func (n *node) send(text string) reply {
	n.t.Helper()
	conn, err := net.Dial("tcp", n.address)
	require.NoError(n.t, err)
	defer conn.Close()
	return exchange(n.t, conn, text)
}

func exchange(t testing.TB, conn net.Conn, text string) reply {
	t.Helper()
	require.NoError(t, conn.SetDeadline(time.Now().Add(30*time.Second)))
	go func() { _, _ = io.WriteString(conn, text) }() // a server that refuses early may not read all
	return read(t, conn)
}

func read(t testing.TB, conn net.Conn) reply {
	t.Helper()
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	require.NoError(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return reply{resp.StatusCode, resp.Header, string(body), resp.Close}
}

// post is the text of a request with a JSON body.
func post(operation, token, body string, headers ...string) string {
	h := ""
	for _, line := range headers {
		h += line + "\r\n"
	}
	if token != "" {
		h += "Authorization: Bearer " + token + "\r\n"
	}
	return fmt.Sprintf("POST /api/v1/%s HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n%s\r\n%s", operation, len(body), h, body)
}

// call sends a request as the administrator.
func (n *node) call(operation, body string, headers ...string) reply {
	n.t.Helper()
	return n.send(post(operation, n.admin, body, headers...))
}

func (n *node) ok(operation, body string) reply {
	n.t.Helper()
	r := n.call(operation, body)
	require.Equal(n.t, http.StatusOK, r.status, r.body)
	return r
}

func (n *node) get(path string) reply {
	n.t.Helper()
	return n.send("GET " + path + " HTTP/1.1\r\nHost: localhost\r\n\r\n")
}

// failed asserts the shape that every failed request has and answers its
// error.
func (r reply) failed(t testing.TB) wire.ErrorBody {
	t.Helper()
	require.Equal(t, "application/json", r.header.Get("Content-Type"))
	require.Equal(t, "no-store", r.header.Get("Cache-Control"))
	require.Equal(t, "nosniff", r.header.Get("X-Content-Type-Options"))
	var out wire.Error
	d := json.NewDecoder(strings.NewReader(r.body))
	d.DisallowUnknownFields()
	require.NoError(t, d.Decode(&out), r.body)
	require.NotEmpty(t, out.Error.Code)
	require.NotEmpty(t, out.Error.Message)
	require.NotEmpty(t, out.Error.RequestID)
	require.Equal(t, r.header.Get(headerID), out.Error.RequestID)
	return out.Error
}

// lines collects what is logged.
type lines struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}
