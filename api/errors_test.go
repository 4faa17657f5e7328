package api

import (
	"context"
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/api/wire"
	"github.com/strongroom/strongroom/internal/fault"
)

// contract is the table of the API's contract, written out a second time on
// purpose: a status that changes by accident is seen.
var contract = map[fault.Kind]int{
	"InvalidRequest": 400, "Unauthenticated": 401, "AccessDenied": 403, "NotFound": 404, "AlreadyExists": 409, "Conflict": 409,
	"VersionNotActive": 409, "KeyNotActive": 409, "KeyInUse": 409, "VersionInUse": 409, "TooLarge": 413, "RateLimited": 429,
	"Internal": 500, "HsmUnavailable": 503, "NoLeader": 503, "Uncertain": 503, "AuditUnavailable": 503,
}

func TestEveryKindOfFaultHasItsStatus(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "../internal/fault/fault.go", nil, 0)
	require.NoError(t, err)
	kinds := 0
	ast.Inspect(file, func(node ast.Node) bool {
		v, ok := node.(*ast.ValueSpec)
		if !ok {
			return true
		}
		if name, ok := v.Type.(*ast.Ident); !ok || name.Name != "Kind" {
			return true
		}
		text, err := strconv.Unquote(v.Values[0].(*ast.BasicLit).Value)
		require.NoError(t, err)
		require.Contains(t, contract, fault.Kind(text), "give it a row here and in the contract")
		kinds++
		return true
	})
	require.Equal(t, len(contract), kinds)
	require.Equal(t, contract, statuses)
}

// TestEveryFaultOnTheWire has the state answer each kind, and looks at the
// response.
func TestEveryFaultOnTheWire(t *testing.T) {
	n := single(t, func(c *Config) { c.Timeout = 100 * time.Millisecond })
	retry := map[fault.Kind]bool{"RateLimited": true, "HsmUnavailable": true, "NoLeader": true, "Uncertain": true, "AuditUnavailable": true}
	for kind, status := range contract {
		n.log.hook(func(context.Context) error {
			return fault.Wrap(kind, errors.New("CAUSE"), "field: words for the caller").With("field", "field")
		}, nil)
		r := n.call("secrets/describeSecret", `{"path":"/a/b"}`)
		require.Equal(t, status, r.status)
		e := r.failed(t)
		require.Equal(t, string(kind), e.Code)
		require.NotContains(t, r.body, "CAUSE")
		if retry[kind] {
			require.Equal(t, "1", r.header.Get("Retry-After"), kind)
		} else {
			require.Empty(t, r.header.Get("Retry-After"), kind)
		}
		switch kind {
		case fault.Internal:
			require.Equal(t, "internal error; the server's log has the details under the request id", e.Message)
			require.Contains(t, n.logged.String(), e.RequestID)
			require.Contains(t, n.logged.String(), "CAUSE", "the log has what the caller has not")
		case fault.NoLeader:
			require.Contains(t, e.Message, "nothing was done, retry")
		default:
			require.Equal(t, "field: words for the caller", e.Message)
			require.Equal(t, map[string]any{"field": "field"}, e.Details)
		}
	}
}

func TestWhatIsNoFaultIsInternalAndStaysInTheLog(t *testing.T) {
	n := single(t, nil)
	for _, err := range []error{
		errors.New("open /var/lib/strongroom: CAUSE"), fault.New("Surprising", "CAUSE"), fault.New(fault.Internal, "CAUSE"),
		&json.SyntaxError{}, errors.Join(errors.New("CAUSE"), fault.New(fault.Internal, "x")),
	} {
		n.log.hook(func(context.Context) error { return err }, nil)
		r := n.call("secrets/describeSecret", `{"path":"/a/b"}`)
		require.Equal(t, 500, r.status)
		require.Equal(t, "Internal", r.failed(t).Code)
		require.NotContains(t, r.body, "CAUSE")
	}
}

func TestARequestThatRunsOutOfTimeSaysWhatMayHaveBeenDone(t *testing.T) {
	n := single(t, func(c *Config) { c.Timeout = 50 * time.Millisecond })
	n.log.hook(func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }, nil)
	r := n.call("secrets/describeSecret", `{"path":"/a/b"}`)
	require.Equal(t, "NoLeader", r.failed(t).Code, "a read did nothing")
	r = n.call("secrets/deleteSecret", `{"path":"/a/b"}`)
	require.Equal(t, "Uncertain", r.failed(t).Code)
	require.Contains(t, r.failed(t).Message, "clientToken")
	require.Equal(t, "1", r.header.Get("Retry-After"))
}

func TestAPanicAnswersInternalAndItsValueIsNotLogged(t *testing.T) {
	n := single(t, nil)
	n.ok("secrets/createSecret", `{"path":"/a/b","value":"`+mark+`"}`)
	n.log.hook(func(context.Context) error { panic("PANIC-" + mark) }, nil)
	r := n.call("secrets/putSecretValue", `{"path":"/a/b","value":"`+mark+`"}`)
	require.Equal(t, 500, r.status)
	e := r.failed(t)
	require.Equal(t, "internal error; the server's log has the details under the request id", e.Message)
	logged := n.logged.String()
	require.Contains(t, logged, e.RequestID)
	require.Contains(t, logged, "a request panicked")
	require.Contains(t, logged, "errors_test.go", "the stack is what is needed to find it")
	for _, leak := range []string{"PANIC", mark, "MARKED-VALUE", n.admin, "/a/b"} {
		require.NotContains(t, logged, leak)
	}
	n.log.hook(nil, nil)
	n.ok("secrets/getSecretValue", `{"path":"/a/b"}`) // the node serves on

	n.engine.Cluster.Members = func() []wire.NodeStatus { panic(errors.New("PANIC-" + mark)) }
	require.Equal(t, 500, n.call("cluster/status", `{}`).status)
	require.NotContains(t, n.logged.String(), "PANIC")
}

func TestEveryCodeIsDescribedForPeople(t *testing.T) {
	doc, err := os.ReadFile("../docs/api.md")
	require.NoError(t, err)
	for kind := range statuses {
		require.True(t, strings.Contains(string(doc), "`"+string(kind)+"`"), "docs/api.md does not name %s", kind)
	}
}
