package engine_test

import (
	"context"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/api/wire"
	"github.com/strongroom/strongroom/engine"
	"github.com/strongroom/strongroom/internal/fault"
)

// withTLS gives the three members what they show and trust. A member without an
// entry does not answer.
func (w *world) withTLS(views map[string]engine.TLSView) {
	w.inACluster(threeMembers(w.now()))
	w.engine.Cluster.TLS = func() engine.TLSView { return views["n1"] }
	w.engine.Cluster.PeerTLS = func(_ context.Context, node string, _ engine.TLSQuery) (engine.TLSView, error) {
		if view, there := views[node]; there {
			return view, nil
		}
		return engine.TLSView{}, errors.New("dial 10.0.0.2:7401: refused")
	}
}

// shows is a member whose certificate is of the first authority, and that
// trusts all of them.
func shows(authorities []string, keys ...string) engine.TLSView {
	v := engine.TLSView{Certificate: "c", Authority: authorities[0], GossipKeys: keys}
	for _, a := range authorities {
		v.Trusts = append(v.Trusts, wire.TLSAuthority{Fingerprint: a, Subject: "CN=" + a})
	}
	return v
}

// Each step of a replacement may be taken when every member has taken the one
// before, and only then.
func TestTheNextStepIsSafeWhenEveryMemberHasTakenTheLast(t *testing.T) {
	w := newWorld(t)
	old, both, turned, fresh := []string{"old"}, []string{"old", "new"}, []string{"new", "old"}, []string{"new"}
	for name, c := range map[string]struct {
		members         [3]engine.TLSView
		issueNew, drop  bool
		useNew, dropKey bool
	}{
		"nothing was done":      {[3]engine.TLSView{shows(old, "k1"), shows(old, "k1"), shows(old, "k1")}, false, false, false, false},
		"one trusts the new":    {[3]engine.TLSView{shows(both, "k1", "k2"), shows(old, "k1"), shows(old, "k1")}, false, false, false, false},
		"all trust the new":     {[3]engine.TLSView{shows(both, "k1", "k2"), shows(both, "k1", "k2"), shows(both, "k1", "k2")}, true, false, true, false},
		"two use the new":       {[3]engine.TLSView{shows(turned, "k2", "k1"), shows(turned, "k2", "k1"), shows(both, "k1", "k2")}, true, false, true, false},
		"all use the new":       {[3]engine.TLSView{shows(turned, "k2", "k1"), shows(turned, "k2", "k1"), shows(turned, "k2", "k1")}, true, true, true, true},
		"one has only the new":  {[3]engine.TLSView{shows(fresh, "k2"), shows(turned, "k2", "k1"), shows(turned, "k2", "k1")}, true, true, true, true},
		"one names it twice":    {[3]engine.TLSView{shows([]string{"old", "new", "new", "new"}, "k1", "k2", "k2", "k2"), shows(old, "k1"), shows(old, "k1")}, false, false, false, false},
		"one does not say much": {[3]engine.TLSView{shows(turned, "k2", "k1"), shows(turned, "k2", "k1"), {}}, false, false, false, false},
	} {
		w.withTLS(map[string]engine.TLSView{"n1": c.members[0], "n2": c.members[1], "n3": c.members[2]})
		got := into[wire.TLSResponse](t, w.ok("cluster/tls", `{}`))
		require.Equal(t, c.members[2].Authority != "", got.Complete, name)
		for _, a := range got.Authorities {
			if a.Fingerprint == "new" {
				require.Equal(t, c.issueNew, a.MayIssue, name)
			} else {
				require.Equal(t, c.drop, a.MayDrop, name)
			}
		}
		for _, k := range got.GossipKeys {
			if k.Fingerprint == "k2" {
				require.Equal(t, c.useNew, k.MayUse, name)
			} else {
				require.Equal(t, c.dropKey, k.MayDrop, name)
			}
		}
	}
}

// A member that does not answer may need what the others are done with, and
// says nothing that somebody else put into its mouth.
func TestWhoDoesNotAnswerHoldsTheStepsBack(t *testing.T) {
	w := newWorld(t)
	spoofed := shows([]string{"new"}, "k2")
	spoofed.NodeID = "n2"
	w.withTLS(map[string]engine.TLSView{"n1": shows([]string{"new", "old"}, "k2", "k1"), "n3": spoofed})
	got := into[wire.TLSResponse](t, w.ok("cluster/tls", `{}`))
	require.False(t, got.Complete)
	require.Len(t, got.Members, 3)
	require.Equal(t, []string{"n1", "n2", "n3"}, []string{got.Members[0].NodeID, got.Members[1].NodeID, got.Members[2].NodeID})
	require.Contains(t, got.Members[1].Error, "does not answer")
	require.NotContains(t, got.Members[1].Error, "10.0.0.2", "addresses of the link are not told")
	for _, a := range got.Authorities {
		require.False(t, a.MayDrop || a.MayIssue)
	}
	for _, k := range got.GossipKeys {
		require.False(t, k.MayDrop || k.MayUse)
	}
	nobody := w.principal("nobody", `[{"effect":"allow","actions":["cluster:status"]}]`)
	_, err := w.as(nobody, "cluster/tls", `{}`)
	w.refused(fault.AccessDenied, "", err)
}
