package client

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// world is a cluster in memory, for tests whose clock is not real. It speaks
// the wire at the place of the HTTP transport.
type world struct {
	mu      sync.Mutex
	index   uint64
	secrets map[string]*worldSecret
	moved   chan struct{}
	down    bool
	refuse  map[string]string // operation → code
	noWatch map[string]bool   // paths that may not be watched
	maxAge  string
	slow    time.Duration
	asked   map[string]int
	bodies  map[string][]map[string]any
}

type worldSecret struct {
	version, changed uint64
	id, value, state string
}

func newWorld() *world {
	return &world{secrets: map[string]*worldSecret{}, moved: make(chan struct{}), refuse: map[string]string{}, noWatch: map[string]bool{},
		maxAge: "1m0s", asked: map[string]int{}, bodies: map[string][]map[string]any{}}
}

func (w *world) do(fn func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	fn()
	w.index++
	close(w.moved)
	w.moved = make(chan struct{})
}

func (w *world) put(path, value string) {
	w.do(func() {
		s := w.secrets[path]
		if s == nil {
			s = &worldSecret{}
			w.secrets[path] = s
		}
		s.version++
		s.value, s.id, s.changed, s.state = value, fmt.Sprintf("id-%d", w.index), w.index+1, "active"
	})
}

func (w *world) count(operation string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.asked[operation]
}

// opened counts the questions that had a value opened.
func (w *world) opened() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := 0
	for _, body := range w.bodies["getSecretValue"] {
		if body["ifNotVersion"] == nil {
			out++
		}
	}
	return out
}

func (w *world) cache(t *testing.T, cfg CacheConfig) *Cache {
	c, err := New(Config{Addresses: []string{"https://one:1"}, RetryFor: 2 * time.Second})
	require.NoError(t, err)
	c.http.Transport = w
	cache, err := NewCache(c, cfg)
	require.NoError(t, err)
	return cache
}

func (w *world) RoundTrip(r *http.Request) (*http.Response, error) {
	raw, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	body := map[string]any{}
	if err := json.Unmarshal(raw, &body); err != nil {
		return nil, err
	}
	operation := r.URL.Path[len("/api/v1/secrets/"):]
	w.mu.Lock()
	w.asked[operation]++
	w.bodies[operation] = append(w.bodies[operation], body)
	down, code, slow := w.down, w.refuse[operation], w.slow
	w.mu.Unlock()
	if slow > 0 && operation == "getSecretValue" {
		timer := time.NewTimer(slow)
		select {
		case <-timer.C:
		case <-r.Context().Done():
			timer.Stop()
			return nil, r.Context().Err()
		}
	}
	if down {
		return nil, errors.New("nobody is there")
	}
	if code == "" && operation == "waitForChange" {
		return w.wait(r, body)
	}
	if code == "" && operation == "getSecretValue" {
		return w.get(body), nil
	}
	if code == "" {
		return reply(200, body), nil
	}
	return refusal(code), nil
}

func refusal(code string) *http.Response {
	status := map[string]int{"AccessDenied": 403, "NotFound": 404, "VersionNotActive": 409, "HsmUnavailable": 503, "Internal": 500, "InvalidRequest": 400}[code]
	return reply(status, map[string]any{"error": map[string]any{"code": code, "message": "told by a test"}})
}

func reply(status int, body any) *http.Response {
	raw, err := json.Marshal(body)
	if err != nil {
		panic(err)
	}
	return &http.Response{StatusCode: status, Header: http.Header{}, Body: io.NopCloser(bytes.NewReader(raw))}
}

func (w *world) get(body map[string]any) *http.Response {
	w.mu.Lock()
	defer w.mu.Unlock()
	path := body["path"].(string)
	s := w.secrets[path]
	if s == nil {
		return refusal("NotFound")
	}
	if s.state != "active" {
		return refusal(s.state)
	}
	out := map[string]any{"path": path, "version": s.version, "versionId": s.id, "cache": map[string]any{"maxAge": w.maxAge}}
	if body["ifNotVersion"] == float64(s.version) {
		out["notModified"] = true
	} else {
		out["value"] = []byte(s.value)
	}
	return reply(200, out)
}

func (w *world) wait(r *http.Request, body map[string]any) (*http.Response, error) {
	after, _ := body["afterIndex"].(float64)
	limit, err := time.ParseDuration(body["timeout"].(string))
	if err != nil {
		return nil, err
	}
	timer := time.NewTimer(limit)
	defer timer.Stop()
	for {
		w.mu.Lock()
		changes, moved, index := []any{}, w.moved, w.index
		denied := false
		for _, p := range body["paths"].([]any) {
			path := p.(string)
			denied = denied || w.noWatch[path]
			if s := w.secrets[path]; s != nil && s.changed > uint64(after) {
				changes = append(changes, map[string]any{"path": path, "currentVersion": s.version, "index": s.changed})
			}
		}
		w.mu.Unlock()
		if denied {
			return refusal("AccessDenied"), nil
		}
		if len(changes) > 0 {
			return reply(200, map[string]any{"changes": changes, "index": index}), nil
		}
		select {
		case <-moved:
		case <-timer.C:
			return reply(200, map[string]any{"changes": changes, "index": index}), nil
		case <-r.Context().Done():
			return nil, r.Context().Err()
		}
	}
}
