package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"time"
)

// listen serves GET /health on an address of this machine. The answer has
// paths, versions and states, never a value.
func listen(address string, mem *memory, log *slog.Logger) (func() error, error) {
	if address == "" {
		return func() error { return nil }, nil
	}
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("status.listen: %w", err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /health", func(w http.ResponseWriter, _ *http.Request) {
		report := mem.report()
		w.Header().Set("Content-Type", "application/json")
		if !report.OK {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		_ = json.NewEncoder(w).Encode(report) // whoever asked is gone
	})
	server := &http.Server{Handler: mux, ReadTimeout: 5 * time.Second, WriteTimeout: 5 * time.Second, MaxHeaderBytes: 16 << 10}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			log.Error("status.listen: the listener has ended", "error", err)
		}
	}()
	return func() error {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		err := server.Shutdown(ctx)
		<-ended
		return err
	}, nil
}

// report is the answer of /health.
type report struct {
	OK bool `json:"ok"` // every file is there, and nothing about it failed
	// ClusterAway: the last question had no answer.
	ClusterAway bool         `json:"clusterAway"`
	Files       []FileStatus `json:"files"`
}

func (m *memory) report() report {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := report{OK: true, ClusterAway: m.away, Files: []FileStatus{}}
	for _, one := range m.status {
		out.OK = out.OK && one.State == stateCurrent
		out.ClusterAway = out.ClusterAway || one.State == stateStale
		out.Files = append(out.Files, one)
	}
	slices.SortFunc(out.Files, func(a, b FileStatus) int {
		if a.Destination < b.Destination {
			return -1
		}
		return 1
	})
	return out
}
