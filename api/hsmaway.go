package api

import (
	"net/http"

	"github.com/google/uuid"

	"github.com/strongroom/strongroom/internal/fault"
)

// NewWaiting makes a Server for the time in which this node cannot open its
// log. It answers health and metrics, with what cfg.Ready says, and every
// operation with HsmUnavailable: before the log is open nobody is known, so
// nothing is looked at, and nothing is audited.
func NewWaiting(cfg Config) *Server {
	s := New(cfg, NewLink(nil))
	s.public = s.httpServer(s.guard(http.HandlerFunc(s.serveClosed)))
	return s
}

func (s *Server) serveClosed(w http.ResponseWriter, r *http.Request) {
	w.Header().Set(headerID, uuid.NewString())
	if err := s.checkRequest(r); err != nil {
		w.Header().Set("Connection", "close")
		s.fail(w, err, false)
		return
	}
	switch path := r.RequestURI; path {
	case prefix + "health/live", prefix + "health/ready", "/metrics":
		if err := method(w, r, http.MethodGet); err != nil {
			s.fail(w, err, false)
			return
		}
		s.serveHealth(w, r, path)
	case prefix + "health/leader":
		s.health(w, http.StatusServiceUnavailable, map[string]any{"nodeId": s.NodeID, "leader": false, "reason": "no leader is known"})
	default:
		// The body of the request is not read.
		w.Header().Set("Connection", "close")
		s.fail(w, fault.New(fault.HsmUnavailable, "this node has started without its HSM and waits for it; ask another node"), false)
	}
}
