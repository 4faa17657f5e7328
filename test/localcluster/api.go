package localcluster

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/engine"
)

// Response is an answer of the API.
type Response struct {
	Status int
	Body   []byte
	Header http.Header
}

type errorBody struct {
	Error struct{ Code, Message, RequestID string }
}

func (r Response) failure() errorBody {
	var e errorBody
	_ = json.Unmarshal(r.Body, &e) // an answer that is none has no code
	return e
}

// Code is the error code of a failed request, empty for a good one.
func (r Response) Code() string { return r.failure().Error.Code }

// Message is the error message of a failed request.
func (r Response) Message() string { return r.failure().Error.Message }

// RequestID is the id under which the request is in the audit trail.
func (r Response) RequestID() string { return r.Header.Get("Strongroom-Request-Id") }

// Retryable reports whether a client may send the same request again: one of
// the codes that say so.
func (r Response) Retryable() bool {
	switch r.Code() {
	case "NoLeader", "Uncertain", "HsmUnavailable", "AuditUnavailable", "RateLimited":
		return true
	}
	return false
}

// Do sends one request to a node.
func (m *machine) Do(ctx context.Context, node int, token, operation, body string) (Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, m.Addr(node)+"/api/v1/"+operation, strings.NewReader(body))
	if err != nil {
		return Response{}, err
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := m.client.Do(req)
	if err != nil {
		return Response{}, err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	return Response{resp.StatusCode, answer, resp.Header}, err
}

// Persist sends a request to nodes in turn until one gives an answer that is
// final, as a careful client does: the same bytes again, so a write carries its
// clientToken. It answers which node that was.
func (m *machine) Persist(ctx context.Context, nodes []int, operation, body string) (Response, int, error) {
	var last error
	for attempt := 0; ctx.Err() == nil; attempt++ {
		node := nodes[attempt%len(nodes)]
		r, err := m.Do(ctx, node, m.Token, operation, body)
		if err == nil && !r.Retryable() {
			return r, node, nil
		}
		last = errors.Join(err, errors.New(string(r.Body)))
		select {
		case <-ctx.Done():
		case <-time.After(10 * time.Millisecond):
		}
	}
	return Response{}, 0, errors.Join(ctx.Err(), last)
}

// Send is Do for requests that must get an answer.
func (c *Cluster) Send(node int, token, operation, format string, args ...any) Response {
	c.t.Helper()
	r, err := c.Do(context.Background(), node, token, operation, fmt.Sprintf(format, args...))
	require.NoError(c.t, err)
	return r
}

// OK sends a request as the administrator that must succeed, again if the
// cluster says so, and decodes the answer into a generic object.
func (c *Cluster) OK(node int, operation, format string, args ...any) map[string]any {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	r, _, err := c.Persist(ctx, []int{node}, operation, Repeatable(operation, fmt.Sprintf(format, args...)))
	require.NoError(c.t, err)
	require.Equal(c.t, http.StatusOK, r.Status, "%s: %s", operation, r.Body)
	return r.Object(c)
}

// Repeatable gives a request a clientToken if its operation takes one and it
// has none. An answer that reveals is given once, so those stay as they are.
func Repeatable(operation, body string) string {
	service, name, _ := strings.Cut(operation, "/")
	op := engine.Find(service, name)
	if op == nil || op.Reveals() || strings.Contains(body, `"clientToken"`) {
		return body
	}
	if _, takes := op.Request.FieldByName("ClientToken"); !takes {
		return body
	}
	return fmt.Sprintf(`{"clientToken":%q,`, uuid.NewString()) + body[1:]
}

// Object is the body, decoded.
func (r Response) Object(c *Cluster) map[string]any {
	c.t.Helper()
	out := map[string]any{}
	require.NoError(c.t, json.Unmarshal(r.Body, &out))
	return out
}

// Value is the value in an answer of getSecretValue.
func (r Response) Value() (string, error) {
	var answer struct{ Value []byte }
	if err := json.Unmarshal(r.Body, &answer); err != nil {
		return "", err
	}
	if r.Status != http.StatusOK {
		return "", fmt.Errorf("status %d: %s", r.Status, r.Body)
	}
	return string(answer.Value), nil
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

// Metrics is what a node tells Prometheus.
func (c *Cluster) Metrics(node int) string {
	c.t.Helper()
	resp, err := c.client.Get(c.Addr(node) + "/metrics")
	require.NoError(c.t, err)
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	require.NoError(c.t, err)
	require.Equal(c.t, http.StatusOK, resp.StatusCode)
	return string(raw)
}

// B64 is base64 as the API takes it.
func B64(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

// Client is an HTTP client that trusts the cluster.
func (m *machine) Client() *http.Client { return m.client }
