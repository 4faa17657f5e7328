package fsm_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/internal/fault"
)

func (w *world) principal(name string, policies ...string) {
	w.t.Helper()
	w.ok(fsm.CreatePrincipal{Meta: w.meta(), Principal: fsm.Principal{Name: name, Kind: "service"}})
	for _, policy := range policies {
		w.ok(fsm.AttachPolicy{Meta: w.meta(), Policy: policy, Principal: name})
	}
}

func (w *world) policy(name string) fsm.Result {
	w.t.Helper()
	return w.ok(fsm.PutPolicy{Meta: w.meta(), Name: name, Statements: []fsm.Statement{
		{Effect: "allow", Roles: []string{"secrets-read-access"}, Paths: []string{"/app/**"}},
	}})
}

func TestPrincipals(t *testing.T) {
	w := newWorld(t)
	w.principal("svc-b")
	w.principal("svc-a")
	p := w.m.State().Principal("svc-a")
	require.Equal(t, "admin", p.CreatedBy)
	require.NotZero(t, p.CreatedAt)
	var all []string
	for p := range w.m.State().Principals("admin") {
		all = append(all, p.Name)
	}
	require.Equal(t, []string{"svc-a", "svc-b"}, all)
	make := func(p fsm.Principal) fsm.CreatePrincipal { return fsm.CreatePrincipal{Meta: w.meta(), Principal: p} }
	w.refused(fault.AlreadyExists, make(fsm.Principal{Name: "svc-a", Kind: "user"}), "name: ")
	w.refused(fault.InvalidRequest, make(fsm.Principal{Name: "a b", Kind: "user"}), "name: ")
	w.refused(fault.InvalidRequest, make(fsm.Principal{Name: "", Kind: "user"}), "name: ")
	w.refused(fault.InvalidRequest, make(fsm.Principal{Name: "x", Kind: "robot"}), "kind: ")
	w.refused(fault.NotFound, make(fsm.Principal{Name: "x", Kind: "user", Policies: []string{"none"}}), "policies: ")
	w.refused(fault.NotFound, fsm.DeletePrincipal{Meta: w.meta(), Name: "none"}, "name: ")
}

func TestDeletePrincipalEndsItsTokens(t *testing.T) {
	w := newWorld(t)
	w.policy("reader")
	w.principal("svc", "reader")
	w.principal("svc2")
	for _, id := range []string{"t1", "t2"} {
		w.ok(fsm.CreateToken{Meta: w.meta(), Token: token(id, "svc", w.now+day)})
	}
	w.ok(fsm.CreateToken{Meta: w.meta(), Token: token("t3", "svc2", w.now+day)})
	w.ok(fsm.DeletePrincipal{Meta: w.meta(), Name: "svc"})
	for _, id := range []string{"t1", "t2"} {
		require.Nil(t, w.m.State().TokenByHash(hashOf(id)))
		require.Nil(t, w.m.State().Token(id))
	}
	require.NotNil(t, w.m.State().TokenByHash(hashOf("t3")), "svc2 is another principal")
	w.ok(fsm.DeletePolicy{Meta: w.meta(), Name: "reader"}) // attached to nobody any more
	w.principal("svc")
	require.Empty(t, w.m.State().Principal("svc").Policies, "the same name again starts with nothing")
	for k := range w.m.State().Tokens("svc", "") {
		t.Fatalf("token %s of a principal that is gone", k.ID)
	}
}

func TestLastFullAccess(t *testing.T) {
	w := newWorld(t)
	take := map[string]func() fsm.Command{
		"delete": func() fsm.Command { return fsm.DeletePrincipal{Meta: w.meta(), Name: "admin"} },
		"detach": func() fsm.Command {
			return fsm.DetachPolicy{Meta: w.meta(), Policy: fsm.FullAccess, Principal: "admin"}
		},
	}
	w.principal("second")
	for _, c := range take {
		w.refused(fault.Conflict, c(), "last principal with full-access")
	}
	w.refused(fault.Conflict, fsm.DeletePolicy{Meta: w.meta(), Name: fsm.FullAccess}, "built in")
	w.refused(fault.Conflict, fsm.PutPolicy{Meta: w.meta(), Name: fsm.FullAccess, Statements: []fsm.Statement{{Effect: "deny", Roles: []string{"x"}}}}, "built in")

	attach := fsm.AttachPolicy{Meta: w.meta(), Policy: fsm.FullAccess, Principal: "second"}
	w.ok(attach)
	w.ok(take["detach"]())
	w.refused(fault.Conflict, fsm.DeletePrincipal{Meta: w.meta(), Name: "second"}, "last principal")
	w.ok(fsm.AttachPolicy{Meta: w.meta(), Policy: fsm.FullAccess, Principal: "admin"})
	w.ok(fsm.DeletePrincipal{Meta: w.meta(), Name: "second"})
	w.refused(fault.Conflict, take["delete"](), "last principal")
}

func TestAttachAndDetach(t *testing.T) {
	w := newWorld(t)
	w.policy("reader")
	w.policy("auditor")
	w.principal("svc", "reader", "auditor", "reader")
	require.Equal(t, []string{"auditor", "reader"}, w.m.State().Principal("svc").Policies)
	w.refused(fault.NotFound, fsm.AttachPolicy{Meta: w.meta(), Policy: "none", Principal: "svc"}, "policy: ")
	w.refused(fault.NotFound, fsm.AttachPolicy{Meta: w.meta(), Policy: "reader", Principal: "none"}, "principal: ")
	w.refused(fault.NotFound, fsm.DetachPolicy{Meta: w.meta(), Policy: "reader", Principal: "none"}, "principal: ")
	r := w.refused(fault.Conflict, fsm.DeletePolicy{Meta: w.meta(), Name: "reader"}, "svc")
	require.Equal(t, "svc", r.Details["principal"])
	detach := fsm.DetachPolicy{Meta: w.meta(), Policy: "reader", Principal: "svc"}
	w.ok(detach)
	w.ok(detach)
	require.Equal(t, []string{"auditor"}, w.m.State().Principal("svc").Policies)
	w.ok(fsm.DeletePolicy{Meta: w.meta(), Name: "reader"})
	w.refused(fault.NotFound, fsm.DeletePolicy{Meta: w.meta(), Name: "reader"}, "name: ")
	w.ok(fsm.DetachPolicy{Meta: w.meta(), Policy: "auditor", Principal: "svc"})
	require.Nil(t, w.m.State().Principal("svc").Policies)
}

func TestPrincipalsDoNotGrowWithoutBound(t *testing.T) {
	w := newWorld(t)
	w.principal("svc")
	for i := range 256 {
		name := fmt.Sprintf("p%d", i)
		w.policy(name)
		w.ok(fsm.AttachPolicy{Meta: w.meta(), Policy: name, Principal: "svc"})
	}
	w.policy("more")
	w.refused(fault.InvalidRequest, fsm.AttachPolicy{Meta: w.meta(), Policy: "more", Principal: "svc"}, "detach one")
	require.NoError(t, fsm.New().Restore(w.reader()))
}

func TestTokens(t *testing.T) {
	w := newWorld(t)
	w.principal("svc")
	make := func(id, principal string, expires int64) fsm.CreateToken {
		return fsm.CreateToken{Meta: w.meta(), Token: token(id, principal, expires)}
	}
	c := make("t1", "svc", w.now+day)
	c.Token.RevokedAt = 5
	result := w.ok(c)
	require.Equal(t, "t1", result.TokenID)
	require.Zero(t, w.m.State().Token("t1").RevokedAt, "a token is not born revoked")
	require.Same(t, w.m.State().Token("t1"), w.m.State().TokenByHash(hashOf("t1")))

	w.refused(fault.AlreadyExists, make("t1", "svc", w.now+day), "tokenId: ")
	same := make("t2", "svc", w.now+day)
	same.Token.Hash = hashOf("t1")
	w.refused(fault.AlreadyExists, same, "token: ")
	short := make("t2", "svc", w.now+day)
	short.Token.Hash = []byte("short")
	w.refused(fault.InvalidRequest, short, "hash: ")
	w.refused(fault.NotFound, make("t2", "none", w.now+day), "principal: ")
	w.refused(fault.InvalidRequest, make("t2", "svc", w.now), "ttl: ")
	w.refused(fault.InvalidRequest, make("t2", "svc", 1<<62), "ttl: ")
	w.refused(fault.InvalidRequest, make("", "svc", w.now+day), "tokenId: ")

	w.ok(fsm.RevokeToken{Meta: w.meta(), TokenID: "t1"})
	revoked := w.m.State().Token("t1").RevokedAt
	require.Equal(t, w.m.State().Time(), revoked)
	require.Equal(t, revoked, w.m.State().TokenByHash(hashOf("t1")).RevokedAt, "revocation is seen by hash at once")
	w.ok(fsm.RevokeToken{Meta: w.meta(), TokenID: "t1"})
	require.Equal(t, revoked, w.m.State().Token("t1").RevokedAt)
	for k := range w.m.State().Tokens("svc", "") {
		require.Equal(t, revoked, k.RevokedAt)
	}
	w.refused(fault.NotFound, fsm.RevokeToken{Meta: w.meta(), TokenID: "none"}, "tokenId: ")
	w.refused(fault.AlreadyExists, make("t1", "svc", w.now+day)) // an id is never used again

	w.ok(make("t2", "svc", w.now+day))
	ids := func(principal, after string) (out []string) {
		for k := range w.m.State().Tokens(principal, after) {
			out = append(out, k.ID)
		}
		return out
	}
	require.Equal(t, []string{"t1", "t2"}, ids("svc", ""))
	require.Equal(t, []string{"t2"}, ids("svc", "t1"))
	require.Equal(t, []string{"admin-token", "t1", "t2"}, ids("", ""))
	require.Empty(t, ids("sv", ""))
}

func TestExpiredTokensAreForgottenAfterThirtyDays(t *testing.T) {
	w := newWorld(t)
	expires := w.m.State().Token("admin-token").ExpiresAt
	w.now = expires + 30*day - 2
	require.Equal(t, 0, w.sweep().Done)
	require.NotNil(t, w.m.State().TokenByHash(hashOf("admin-token")), "expired, but still told apart from unknown")
	w.now = expires + 30*day
	require.Equal(t, 1, w.sweep().Done)
	require.Nil(t, w.m.State().TokenByHash(hashOf("admin-token")))
	require.Nil(t, w.m.State().Token("admin-token"))
}
