package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/api/wire"
	"github.com/strongroom/strongroom/internal/fault"
	"github.com/strongroom/strongroom/internal/secret"
)

// TestAWriteThatMayHaveBeenDoneIsNotReportedAsNotDone: the first attempt is
// open, and those after it surely did nothing. "Nothing was done" would be
// the wrong thing to tell the caller.
func TestAWriteThatMayHaveBeenDoneIsNotReportedAsNotDone(t *testing.T) {
	for name, first := range map[string]func(http.ResponseWriter){
		"the server says so":             func(w http.ResponseWriter) { fail(w, 503, "Uncertain") },
		"the trail failed after it":      func(w http.ResponseWriter) { fail(w, 503, "AuditUnavailable") },
		"the connection broke":           func(http.ResponseWriter) { panic(http.ErrAbortHandler) },
		"a proxy in between gave up":     func(w http.ResponseWriter) { w.WriteHeader(http.StatusGatewayTimeout) },
		"the answer broke in the middle": func(w http.ResponseWriter) { _, _ = io.WriteString(w, `{"path`); panic(http.ErrAbortHandler) },
	} {
		t.Run(name, func(t *testing.T) {
			n := serve(t, func(count int, w http.ResponseWriter) {
				if count == 1 {
					first(w)
					return
				}
				fail(w, 503, "NoLeader")
			})
			c := connect(t, Config{RetryFor: 300 * time.Millisecond}, n)
			err := c.Do(context.Background(), "secrets", "restoreSecret", &wire.RestoreSecretRequest{Path: "/a"}, nil)
			require.True(t, mayBeDone(err), "%v", err)
			require.GreaterOrEqual(t, len(n.bodies), 2)
			require.Equal(t, n.bodies[0]["clientToken"], n.bodies[len(n.bodies)-1]["clientToken"])

			n.mu.Lock()
			n.bodies = nil
			n.mu.Unlock()
			err = c.Do(context.Background(), "secrets", "describeSecret", &wire.PathRequest{Path: "/a"}, nil)
			require.True(t, IsCode(err, fault.NoLeader), "a read is told what was last: %v", err)
		})
	}
}

func TestALastWordSettlesWhatWasOpen(t *testing.T) {
	n := serve(t, func(count int, w http.ResponseWriter) {
		if count == 1 {
			fail(w, 503, "Uncertain")
			return
		}
		fail(w, 409, "Conflict")
	})
	err := connect(t, Config{}, n).Do(context.Background(), "secrets", "restoreSecret", &wire.RestoreSecretRequest{Path: "/a"}, nil)
	require.True(t, IsCode(err, fault.Conflict), "%v", err)
}

func TestAnOpenWriteIsToldAlsoWhenTheContextEnds(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	n := serve(t, func(count int, w http.ResponseWriter) {
		switch count {
		case 1:
			fail(w, 503, "Uncertain")
		default:
			cancel()
			fail(w, 503, "NoLeader")
		}
	})
	err := connect(t, Config{RetryFor: time.Hour}, n).Do(ctx, "secrets", "restoreSecret", &wire.RestoreSecretRequest{Path: "/a"}, nil)
	require.True(t, mayBeDone(err), "%v", err)
	require.False(t, IsCode(err, fault.NoLeader))
}

// TestTheOtherNodesAreTriedAtOnce: a node that does not know the leader does
// not cost a pause while there are others.
func TestTheOtherNodesAreTriedAtOnce(t *testing.T) {
	c := connect(t, Config{}, serve(t, nil), serve(t, nil), serve(t, nil))
	for attempt, pauses := range []bool{false, false, true, false, false, true} {
		again, pause := c.again(&Error{Code: "NoLeader"}, attempt, 0)
		require.True(t, again)
		require.Equal(t, pauses, pause > 0, "attempt %d", attempt)
	}
	for attempt := range 50 {
		_, pause := c.again(&Error{Code: "Uncertain"}, attempt, 0)
		require.Positive(t, pause, "the cluster is busy with it")
		require.LessOrEqual(t, pause, time.Second)
	}
	again, _ := c.again(&UnreachableError{NotSent: true}, 0, DefaultRetryFor)
	require.False(t, again)
}

func TestWritesGoOnAtAnotherNode(t *testing.T) {
	lost := serve(t, func(int, http.ResponseWriter) { panic(http.ErrAbortHandler) })
	up := serve(t, func(_ int, w http.ResponseWriter) { _, _ = io.WriteString(w, put) })
	c := connect(t, Config{}, lost, up)
	var resp wire.PutSecretValueResponse
	require.NoError(t, c.Do(context.Background(), "secrets", "putSecretValue", &wire.PutSecretValueRequest{Path: "/a/b", Value: wire.NewValue([]byte("v"))}, &resp))
	require.Equal(t, uint64(7), resp.Version)
	require.Equal(t, lost.bodies[0], up.bodies[0], "the same request with the same token")
}

func TestNoErrorHoldsTheTokenOrTheValue(t *testing.T) {
	const token, value = "srt_MARKED", "MARKED-VALUE"
	config := func() Config {
		return Config{
			RetryFor: 50 * time.Millisecond, AttemptTimeout: 2 * time.Second,
			Token: func() (secret.Bytes, error) { return secret.New([]byte(token)), nil },
		}
	}
	for name, answer := range map[string]func(int, http.ResponseWriter){
		"refused":    func(_ int, w http.ResponseWriter) { fail(w, 403, "AccessDenied") },
		"retried":    func(_ int, w http.ResponseWriter) { fail(w, 503, "NoLeader") },
		"broken off": func(int, http.ResponseWriter) { panic(http.ErrAbortHandler) },
		"a page":     func(_ int, w http.ResponseWriter) { w.WriteHeader(404); _, _ = io.WriteString(w, "<html>"+value) },
		"no JSON":    func(_ int, w http.ResponseWriter) { _, _ = io.WriteString(w, `{"version":"`+value+`"}`) },
	} {
		err := connect(t, config(), serve(t, answer)).Do(context.Background(), "secrets", "putSecretValue",
			&wire.PutSecretValueRequest{Path: "/a/b", Value: wire.NewValue([]byte(value))}, &wire.PutSecretValueResponse{})
		require.Error(t, err, name)
		for _, verb := range []string{"%v", "%+v", "%#v"} {
			require.NotContains(t, fmt.Sprintf(verb, err), "MARKED", name)
		}
		for e := err; e != nil; e = errors.Unwrap(e) {
			require.NotContains(t, e.Error(), "MARKED", name)
		}
	}
	down := serve(t, nil)
	down.Close()
	err := connect(t, config(), down).Do(context.Background(), "iam", "whoAmI", &wire.EmptyRequest{}, nil)
	require.NotContains(t, fmt.Sprintf("%+v", err), "MARKED")
}

func TestATokenThatCannotBeReadSendsNothing(t *testing.T) {
	n := serve(t, func(_ int, w http.ResponseWriter) { _, _ = io.WriteString(w, `{}`) })
	c := connect(t, Config{Token: func() (secret.Bytes, error) { return secret.Bytes{}, errors.New("token file: gone") }}, n)
	require.ErrorContains(t, c.Do(context.Background(), "iam", "whoAmI", &wire.EmptyRequest{}, nil), "token file: gone")
	require.Empty(t, n.bodies)
}

func TestTheTokenIsWipedAfterEachAttempt(t *testing.T) {
	n := serve(t, func(_ int, w http.ResponseWriter) { _, _ = io.WriteString(w, `{}`) })
	held := []byte("srt_MARKED")
	c := connect(t, Config{Token: func() (secret.Bytes, error) { return secret.New(held), nil }}, n)
	require.NoError(t, c.Do(context.Background(), "iam", "whoAmI", &wire.EmptyRequest{}, nil))
	require.Equal(t, make([]byte, len(held)), held)
}

func TestABufferIsWipedWithThePiecesThatItOutgrew(t *testing.T) {
	var b buffer
	var pieces [][]byte
	for range 50 {
		_, err := b.Write([]byte(strings.Repeat("x", 100)))
		require.NoError(t, err)
		pieces = append(pieces, b.b[:cap(b.b)])
	}
	b.wipe()
	for i, piece := range pieces {
		require.NotContains(t, string(piece), "x", "piece %d", i)
	}
}

func TestAClientServesManyAtOnce(t *testing.T) {
	n := serve(t, func(count int, w http.ResponseWriter) {
		if count%3 == 0 {
			fail(w, 503, "NoLeader")
			return
		}
		_, _ = io.WriteString(w, `{}`)
	})
	c := connect(t, Config{}, n)
	errs := make(chan error, 64)
	var wg sync.WaitGroup
	for range cap(errs) {
		wg.Go(func() {
			errs <- c.Do(context.Background(), "secrets", "restoreSecret", &wire.RestoreSecretRequest{Path: "/a"}, nil)
		})
	}
	wg.Wait()
	close(errs)
	for err := range errs {
		require.NoError(t, err)
	}
	tokens := map[any]bool{}
	for _, body := range n.bodies {
		tokens[body["clientToken"]] = true
	}
	require.Len(t, tokens, 64, "each write has a token of its own, each retry that of its write")
}
