package fsm_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/internal/fault"
)

// retry answers the put of the next version, with a client token.
func (w *world) retry(path, token, request string) fsm.PutVersion {
	c := w.put(path)
	c.Meta.ClientToken, c.Meta.Operation, c.Meta.RequestHash = token, "secrets/putSecretValue", hashOf(request)
	return c
}

func TestRetriesMakeOneVersion(t *testing.T) {
	const path = "/app/a"
	w := newWorld(t)
	w.secret(path, 0)
	first := w.ok(w.retry(path, "token", "request"))
	for range 3 {
		c := w.retry(path, "token", "request") // sealed anew, for the next number
		stored, r := w.m.State().Replay(c.Meta)
		require.Nil(t, r)
		again := w.ok(c)
		require.True(t, again.Replayed)
		require.Equal(t, *stored, again)
		again.Replayed = false
		require.Equal(t, first, again)
	}
	require.Equal(t, uint64(1), w.get(path).Latest)

	r := w.refused(fault.Conflict, w.retry(path, "token", "another request"), "clientToken: ", "new token")
	_, before := w.m.State().Replay(w.retry(path, "token", "another request").Meta)
	require.Equal(t, r, before)

	// The token is of one principal and one operation.
	other := w.retry(path, "token", "another request")
	other.Meta.Principal = "other"
	require.False(t, w.ok(other).Replayed)
	other = w.retry(path, "token", "another request")
	other.Meta.Operation = "secrets/generateSecret"
	require.False(t, w.ok(other).Replayed)
	require.Equal(t, uint64(3), w.get(path).Latest)

	stored, r := w.m.State().Replay(fsm.Meta{Principal: "admin", Operation: "secrets/putSecretValue"})
	require.Nil(t, stored)
	require.Nil(t, r)
}

func TestARefusedWriteMaySucceedWithTheSameToken(t *testing.T) {
	w := newWorld(t)
	w.secret("/a", 1)
	expected := uint64(7)
	c := w.retry("/a", "token", "request")
	c.Expected = &expected
	w.refused(fault.Conflict, c)
	for w.get("/a").Current != 7 {
		w.ok(w.put("/a"))
	}
	c = w.retry("/a", "token", "request")
	c.Expected = &expected
	require.False(t, w.ok(c).Replayed)
	require.True(t, w.ok(c).Replayed)
}

func TestWritesAreRememberedForADay(t *testing.T) {
	w := newWorld(t)
	w.secret("/a", 0)
	w.ok(w.retry("/a", "token", "request"))
	done := w.m.State().Time()
	w.now = done + day - 2
	require.True(t, w.ok(w.retry("/a", "token", "request")).Replayed)
	w.now = done + day
	w.secret("/b", 0)
	require.False(t, w.ok(w.retry("/a", "token", "other request")).Replayed, "a day later the token is new")
	byToken, byIndex := fsm.RememberedWrites(w.m.State())
	require.Equal(t, 1, byToken)
	require.Equal(t, 1, byIndex, "the expired write was replaced in both trees")
	require.True(t, w.ok(w.retry("/a", "token", "other request")).Replayed)
	require.Equal(t, uint64(2), w.get("/a").Latest)
}

func TestSweepForgetsOldWrites(t *testing.T) {
	w := newWorld(t)
	w.secret("/a", 0)
	for i := range 5 {
		w.ok(w.retry("/a", fmt.Sprint("token", i), "request"))
	}
	last := w.m.State().Time()
	require.False(t, w.m.State().Due(last+day+day/48), "not worth a log entry yet")
	require.True(t, w.m.State().Due(last+day+day/24))
	w.now = last + day - 2 // the last two are a millisecond or two younger
	require.Equal(t, fsm.Result{Index: w.index + 1, Done: 3}, w.ok(fsm.Sweep{Meta: fsm.Meta{Time: w.now}, Limit: 3}))
	w.now = last + day
	require.Equal(t, fsm.Result{Index: w.index + 1, Done: 2}, w.ok(fsm.Sweep{Meta: fsm.Meta{Time: w.now}, Limit: 3}))
	byToken, byIndex := fsm.RememberedWrites(w.m.State())
	require.Zero(t, byToken+byIndex)
}

func TestRememberedWritesAreBounded(t *testing.T) {
	w := newWorld(t)
	w.secret("/a", 0)
	w.ok(w.retry("/a", "oldest", "request"))
	w.ok(w.retry("/a", "second", "request"))
	w.index = fsm.FillWrites(w.m, fsm.RememberMax-2)
	w.ok(w.retry("/a", "newest", "request"))
	byToken, byIndex := fsm.RememberedWrites(w.m.State())
	require.Equal(t, fsm.RememberMax, byToken)
	require.Equal(t, fsm.RememberMax, byIndex)
	for token, kept := range map[string]bool{"oldest": false, "second": true, "newest": true} {
		stored, r := w.m.State().Replay(w.retry("/a", token, "request").Meta)
		require.Nil(t, r)
		require.Equal(t, kept, stored != nil, token)
	}
}

func TestMalformedTokens(t *testing.T) {
	w := newWorld(t)
	w.secret("/a", 0)
	for name, change := range map[string]func(*fsm.Meta){
		"no operation":        func(m *fsm.Meta) { m.Operation = "" },
		"no hash":             func(m *fsm.Meta) { m.RequestHash = nil },
		"long hash":           func(m *fsm.Meta) { m.RequestHash = make([]byte, 65) },
		"zero in token":       func(m *fsm.Meta) { m.ClientToken = "a\x00b" },
		"zero in principal":   func(m *fsm.Meta) { m.Principal = "a\x00b" },
		"long token":          func(m *fsm.Meta) { m.ClientToken = string(make([]byte, 257)) },
		"zero in operation":   func(m *fsm.Meta) { m.Operation = "\x00" },
		"zero in the request": func(m *fsm.Meta) { m.RequestID = "\x00" },
	} {
		t.Run(name, func(t *testing.T) {
			w.t = t
			c := w.retry("/a", "token", "request")
			change(&c.Meta)
			w.refused(fault.InvalidRequest, c)
		})
	}
}

// TestAWriteOfTheCurrentBytesIsRememberedToo: without that, its retry after
// somebody else's write would put the old bytes back.
func TestAWriteOfTheCurrentBytesIsRememberedToo(t *testing.T) {
	w := newWorld(t)
	w.secret("/a", 2)
	keep := func(version uint64, token string) fsm.KeepCurrent {
		c := fsm.KeepCurrent{Meta: w.meta(), Path: "/a", SecretID: w.get("/a").ID, Version: version}
		if token != "" {
			c.Meta.ClientToken, c.Meta.Operation, c.Meta.RequestHash = token, "secrets/putSecretValue", hashOf("x")
		}
		return c
	}
	first := w.ok(keep(2, "t"))
	require.True(t, first.Unchanged)
	require.EqualValues(t, 2, first.Version)
	w.ok(w.put("/a"))
	again := w.ok(keep(2, "t"))
	require.True(t, again.Replayed)
	require.EqualValues(t, 2, again.Version)
	require.EqualValues(t, 3, w.get("/a").Current, "nothing was put back")

	require.True(t, w.refused(fault.Conflict, keep(2, "")).Race)
	other := keep(3, "")
	other.SecretID = "other"
	require.True(t, w.refused(fault.Conflict, other).Race)
	w.refused(fault.NotFound, fsm.KeepCurrent{Meta: w.meta(), Path: "/none", SecretID: "s", Version: 1})
}
