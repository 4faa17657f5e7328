package api

import (
	"fmt"
	"net"
	"net/http"
	"runtime/debug"
	"strings"

	"github.com/google/uuid"

	"github.com/strongroom/strongroom/api/wire"
	"github.com/strongroom/strongroom/engine"
	"github.com/strongroom/strongroom/internal/console"
	"github.com/strongroom/strongroom/internal/fault"
)

const (
	prefix      = "/api/v1/"
	headerID    = "Strongroom-Request-Id"
	headerIndex = "Strongroom-Index"
)

// guard sets what every response carries, and turns a panic into an error of
// ours. The panic's value is not logged: it may hold a piece of a request.
func (s *Server) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Cache-Control", "no-store")
		h.Set("X-Content-Type-Options", "nosniff")
		defer func() {
			if p := recover(); p == http.ErrAbortHandler {
				panic(p) // a stream that was cut
			} else if p != nil {
				s.Logger.Error("a request panicked", "requestId", h.Get(headerID), "type", fmt.Sprintf("%T", p), "stack", string(debug.Stack()))
				s.fail(w, fault.New(fault.Internal, "panic"), false)
			}
		}()
		next.ServeHTTP(w, r)
	})
}

// servePublic is the whole routing: an exact table. Nothing is cleaned,
// redirected or decoded; what does not match byte by byte is not there.
func (s *Server) servePublic(w http.ResponseWriter, r *http.Request) {
	w.Header().Set(headerID, uuid.NewString())
	if err := s.checkRequest(r); err != nil {
		// What follows on this connection may be framed in a way that this
		// server does not read.
		w.Header().Set("Connection", "close")
		s.fail(w, err, false)
		return
	}
	switch path := r.RequestURI; path {
	case prefix + "health/live", prefix + "health/ready", prefix + "health/leader", "/metrics":
		if err := method(w, r, http.MethodGet); err != nil {
			s.fail(w, err, false)
			return
		}
		s.serveHealth(w, r, path)
	default:
		if s.console != nil && strings.HasPrefix(path, console.Prefix) {
			s.serveConsole(w, r)
			return
		}
		o := lookup(path, prefix)
		if o == nil {
			s.fail(w, fault.New(fault.NotFound, "there is nothing at this path; operations are POST %s{service}/{operation}", prefix), false)
			return
		}
		if err := method(w, r, http.MethodPost); err != nil {
			s.fail(w, err, false)
			return
		}
		s.serveOperation(w, r, o)
	}
}

func lookup(path, prefix string) *engine.Operation {
	rest, ok := strings.CutPrefix(path, prefix)
	if !ok {
		return nil
	}
	service, name, _ := strings.Cut(rest, "/")
	return engine.Find(service, name)
}

func method(w http.ResponseWriter, r *http.Request, want string) error {
	if r.Method == want {
		return nil
	}
	w.Header().Set("Allow", want)
	return fault.Invalid("method", "must be %s", want)
}

// checkRequest refuses what Go accepts and no client of ours sends: forms
// that two programs may read differently.
func (s *Server) checkRequest(r *http.Request) error {
	switch {
	case !strings.HasPrefix(r.RequestURI, "/"):
		return fault.Invalid("URL", "must be a path, not an absolute URL")
	case strings.Contains(r.RequestURI, "?"):
		return fault.Invalid("URL", "must not have a query; fields go into the JSON body, the token into the Authorization header")
	case len(r.Header.Values("Authorization")) > 1:
		return fault.Invalid("Authorization", "is given more than once")
	case len(r.TransferEncoding) > 0:
		return fault.Invalid("Transfer-Encoding", "is not accepted; send Content-Length")
	case len(r.Header.Values("Content-Encoding")) > 0:
		return fault.Invalid("Content-Encoding", "is not accepted; send the JSON as it is")
	}
	if len(s.hosts) > 0 && !s.hosts[hostname(r.Host)] {
		return fault.Invalid("Host", "is not a name of this server; see api.allowedHosts in its configuration")
	}
	return nil
}

func hostname(hostport string) string {
	if host, _, err := net.SplitHostPort(hostport); err == nil {
		return host
	}
	return strings.Trim(hostport, "[]")
}

func (s *Server) serveHealth(w http.ResponseWriter, r *http.Request, path string) {
	switch path {
	case "/metrics":
		if s.metrics == nil {
			s.fail(w, fault.New(fault.NotFound, "metrics are switched off"), false)
			return
		}
		s.metrics.ServeHTTP(w, r)
	case prefix + "health/live":
		s.health(w, http.StatusOK, map[string]any{"status": "live", "nodeId": s.NodeID})
	case prefix + "health/ready":
		if err := s.Ready(); err != nil {
			s.health(w, http.StatusServiceUnavailable, map[string]any{"status": "notReady", "nodeId": s.NodeID, "reason": err.Error()})
			return
		}
		s.health(w, http.StatusOK, map[string]any{"status": "ready", "nodeId": s.NodeID})
	case prefix + "health/leader":
		id, self, known := s.Cluster.Leader()
		body := map[string]any{"nodeId": s.NodeID, "leader": self}
		if known {
			body["leaderId"] = id
		}
		if self {
			s.health(w, http.StatusOK, body)
			return
		}
		body["reason"] = "another node leads"
		if !known {
			body["reason"] = "no leader is known"
		}
		s.health(w, http.StatusServiceUnavailable, body)
	}
}

func (s *Server) health(w http.ResponseWriter, status int, body map[string]any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = wire.Encode(w, body) // a client that hangs up is no news
}

// bearer answers the token of the Authorization header, empty if there is
// none.
func bearer(r *http.Request) (string, error) {
	header := r.Header.Get("Authorization")
	if header == "" {
		return "", nil
	}
	scheme, token, ok := strings.Cut(header, " ")
	if !ok || !isBearer(scheme) || token == "" || strings.ContainsAny(token, " \t") {
		return "", fault.New(fault.Unauthenticated, "Authorization: must be \"Bearer TOKEN\"")
	}
	return token, nil
}

// isBearer compares the scheme as RFC 9110 section 11.1 has it, without
// regard to case, in ASCII only: Unicode folding would take other letters for
// these.
func isBearer(scheme string) bool {
	const want = "bearer"
	if len(scheme) != len(want) {
		return false
	}
	for i := range len(want) {
		c := scheme[i]
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		if c != want[i] {
			return false
		}
	}
	return true
}
