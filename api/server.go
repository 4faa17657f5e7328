// Package api is HTTP in and HTTP out: an exact table of routes, limits,
// hand-over to the leader, and one table from errors to statuses. It decides
// nothing about who may do what; that is the gate in engine.
package api

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/strongroom/strongroom/engine"
	"github.com/strongroom/strongroom/internal/console"
	"github.com/strongroom/strongroom/internal/origin"
)

// Cluster is what the front end needs of the cluster. *raft.Node satisfies
// it.
type Cluster interface {
	// Leader says who leads, as far as this node knows. self is true only
	// when this node leads and is ready to serve.
	Leader() (id string, self, known bool)
	// DialLink opens a connection to another member over the node link.
	DialLink(ctx context.Context, node string) (net.Conn, error)
}

// writeTime is what an answer gets to reach the client.
const writeTime = 60 * time.Second

// Defaults of Config.
const (
	DefaultMaxBody        = 2 << 20
	DefaultTimeout        = 15 * time.Second
	DefaultMaxConnections = 20_000 // half of them may wait
)

// Config wires a Server.
type Config struct {
	Engine  *engine.Engine
	Cluster Cluster
	NodeID  string
	// Standing answers why this node takes no part in the cluster; nil: it does.
	Standing       func() error
	MaxBodyBytes   int64          // default 2 MiB
	Timeout        time.Duration  // of one operation, waiting for a leader included; default 15 s
	MaxConnections int            // default 20,000
	MaxBodies      int64          // bytes of all request bodies held at one time; default 256 MiB
	Proxies        origin.Proxies // whose word about a client's address counts
	AllowedHosts   []string       // names that the Host header may have, without port; empty: any
	Logger         *slog.Logger
	Registry       *prometheus.Registry
	Console        map[string]console.File // the files of the console; nil: there is none
	// Ready answers nil when this node serves requests, else why not.
	Ready func() error
}

// Server serves the API on one node.
type Server struct {
	Config
	link    *Link
	hosts   map[string]bool
	bodies  atomic.Int64 // see requestBody
	metrics http.Handler
	console map[string]console.File
	waits   atomic.Int64  // requests that wait
	looks   chan struct{} // see maxLooks
	public  *http.Server
	peers   *http.Server

	draining context.Context // ends with Drain
	drain    context.CancelFunc
}

// New makes a Server. link is what it hands requests to the leader with.
func New(cfg Config, link *Link) *Server {
	if cfg.MaxBodyBytes == 0 {
		cfg.MaxBodyBytes = DefaultMaxBody
	}
	if cfg.Standing == nil {
		cfg.Standing = func() error { return nil }
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = DefaultTimeout
	}
	if cfg.MaxBodies == 0 {
		cfg.MaxBodies = DefaultMaxBodies
	}
	if cfg.MaxConnections == 0 {
		cfg.MaxConnections = DefaultMaxConnections
	}
	s := &Server{Config: cfg, link: link, console: cfg.Console, hosts: map[string]bool{}, looks: make(chan struct{}, maxLooks)}
	s.draining, s.drain = context.WithCancel(context.Background())
	for _, host := range cfg.AllowedHosts {
		s.hosts[host] = true
	}
	if cfg.Registry != nil {
		s.metrics = promhttp.HandlerFor(cfg.Registry, promhttp.HandlerOpts{})
	}
	s.public = s.httpServer(s.guard(http.HandlerFunc(s.servePublic)))
	s.peers = s.httpServer(s.guard(http.HandlerFunc(s.servePeer)))
	s.peers.ConnContext = withPeer
	s.public.ConnContext = func(ctx context.Context, conn net.Conn) context.Context {
		return withTLS(withRemote(ctx, conn), conn)
	}
	return s
}

// httpServer sets every limit that Go leaves open: a slow or silent client
// holds a connection for a bounded time and nothing else.
func (s *Server) httpServer(h http.Handler) *http.Server {
	return &http.Server{
		Handler: h,
		// OPTIONS * goes through the table like everything else: Go would
		// answer 200 by itself, without what every response carries.
		DisableGeneralOptionsHandler: true,

		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       30 * time.Second,
		WriteTimeout:      s.Timeout + writeTime,
		IdleTimeout:       120 * time.Second,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(s.Logger.Handler(), slog.LevelDebug),
	}
}

// Serve serves the API on l, a TLS listener, until Close.
func (s *Server) Serve(l net.Listener) error {
	return closed(s.public.Serve(limitListener(l, s.MaxConnections)))
}

// ServeLink serves requests that other members hand on, on the listener of
// the node link, whose connections are from verified members only.
func (s *Server) ServeLink(l net.Listener) error { return closed(s.peers.Serve(l)) }

func closed(err error) error {
	if errors.Is(err, http.ErrServerClosed) || errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// Close stops listening, ends what waits, lets requests in flight finish until
// ctx ends, and then cuts the rest.
func (s *Server) Close(ctx context.Context) error {
	s.Drain()
	err := errors.Join(s.public.Shutdown(ctx), s.peers.Shutdown(ctx))
	if err != nil {
		err = errors.Join(err, s.public.Close(), s.peers.Close())
	}
	s.link.Close()
	return err
}
