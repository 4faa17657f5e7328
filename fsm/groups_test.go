package fsm_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/internal/fault"
)

var someGroups = []string{"g1", "g2", fsm.Everyone}

// groupLife draws a command about groups, and what is attached to whom.
func (p player) groupLife() fsm.Command {
	m, group, policy := p.w.meta(), pick(p, someGroups...), pick(p, somePolicies...)
	principal := pick(p, somePrincipals...)
	mode := pick(p, fsm.ModeGrant, fsm.ModeGrant, fsm.ModeBoundary, fsm.ModeBreakGlass, "other")
	end := pick(p, 0, p.w.now+1000, p.w.now+1000, p.w.now+day, p.w.now)
	return pick(p, func() fsm.Command {
		return fsm.CreateGroup{Meta: m, Group: fsm.Group{Name: group}}
	}, func() fsm.Command {
		return fsm.DeleteGroup{Meta: m, Name: group}
	}, func() fsm.Command {
		return fsm.AddToGroup{Meta: m, Group: group, Principal: principal, ExpiresAt: end}
	}, func() fsm.Command {
		return fsm.RemoveFromGroup{Meta: m, Group: group, Principal: principal}
	}, func() fsm.Command {
		return fsm.AttachPolicy{Meta: m, Policy: policy, Group: group, Mode: mode, ExpiresAt: end}
	}, func() fsm.Command {
		return fsm.DetachPolicy{Meta: m, Policy: policy, Group: group, Mode: mode}
	}, func() fsm.Command {
		return fsm.AttachPolicy{Meta: m, Policy: policy, Principal: principal, Mode: mode, ExpiresAt: end}
	}, func() fsm.Command {
		return fsm.DetachPolicy{Meta: m, Policy: policy, Principal: principal, Mode: mode}
	}, func() fsm.Command {
		return fsm.RollbackPolicy{Meta: m, Name: policy, Revision: uint64(pick(p, 1, 2, 3))}
	})()
}

// checkGroups holds memberships and attachments to what they point at.
func checkGroups(t tester, s *fsm.State) {
	for g := range s.Groups("") {
		for m := range s.Members(g.Name, "") {
			require.NotNil(t, s.Principal(m.Principal), "a member that is not there")
			require.NotEqual(t, fsm.Everyone, g.Name)
		}
		for _, a := range g.Attached {
			require.NotNil(t, s.Policy(a.Policy), "a policy was deleted while a group had it")
			require.Contains(t, holdersOf(s, a.Policy), fsm.Holder{Group: g.Name, Mode: a.Mode})
		}
	}
	for p := range s.Principals("") {
		for _, a := range p.Attachments() {
			require.NotNil(t, s.Policy(a.Policy), "a policy was deleted while attached")
			require.Contains(t, holdersOf(s, a.Policy), fsm.Holder{Principal: p.Name, Mode: a.Mode})
		}
		for m := range s.Memberships(p.Name) {
			require.NotNil(t, s.Group(m.Group), "a membership of a group that is not there")
		}
	}
	for p := range s.Policies("") {
		for _, h := range holdersOf(s, p.Name) {
			require.True(t, s.Principal(h.Principal) != nil || s.Group(h.Group) != nil, "%+v holds a policy and is not there", h)
		}
		for old := range s.PolicyRevisions(p.Name) {
			require.Less(t, old.Revision, p.Revision)
		}
	}
}

func holdersOf(s *fsm.State, policy string) []fsm.Holder {
	var out []fsm.Holder
	for h := range s.Holders(policy) {
		out = append(out, h)
	}
	return out
}

func TestGroups(t *testing.T) {
	w := newWorld(t)
	w.policy("reader")
	w.principal("svc")
	group := func(name string) fsm.CreateGroup {
		return fsm.CreateGroup{Meta: w.meta(), Group: fsm.Group{Name: name}}
	}
	w.ok(group("ops"))
	w.refused(fault.AlreadyExists, group("ops"), "name: ")
	w.refused(fault.AlreadyExists, group(fsm.Everyone), "built in")
	w.refused(fault.InvalidRequest, group("a b"), "name: ")
	w.refused(fault.NotFound, fsm.AddToGroup{Meta: w.meta(), Group: "none", Principal: "svc"}, "group: ")
	w.refused(fault.NotFound, fsm.AddToGroup{Meta: w.meta(), Group: "ops", Principal: "none"}, "principal: ")
	w.refused(fault.Conflict, fsm.AddToGroup{Meta: w.meta(), Group: fsm.Everyone, Principal: "svc"}, "group: ")
	w.refused(fault.Conflict, fsm.RemoveFromGroup{Meta: w.meta(), Group: fsm.Everyone, Principal: "svc"}, "group: ")
	w.refused(fault.Conflict, fsm.DeleteGroup{Meta: w.meta(), Name: fsm.Everyone}, "built in")
	w.refused(fault.InvalidRequest, fsm.AddToGroup{Meta: w.meta(), Group: "ops", Principal: "svc", ExpiresAt: w.now}, "expiresAt: ")
	w.ok(fsm.AddToGroup{Meta: w.meta(), Group: "ops", Principal: "svc"})
	w.ok(fsm.AttachPolicy{Meta: w.meta(), Policy: "reader", Group: "ops"})
	w.refused(fault.Conflict, fsm.DeletePolicy{Meta: w.meta(), Name: "reader"}, "group ops")
	w.refused(fault.Conflict, fsm.DeleteGroup{Meta: w.meta(), Name: "ops"}, "reader")
	w.ok(fsm.DetachPolicy{Meta: w.meta(), Policy: "reader", Group: "ops"})
	w.ok(fsm.DeleteGroup{Meta: w.meta(), Name: "ops"})
	for m := range w.m.State().Memberships("svc") {
		require.Fail(t, "a membership outlives its group", "%+v", m)
	}
	w.ok(group("ops"))
	w.ok(fsm.AddToGroup{Meta: w.meta(), Group: "ops", Principal: "svc"})
	w.ok(fsm.DeletePrincipal{Meta: w.meta(), Name: "svc"})
	w.principal("svc") // the next of this name is another one
	for m := range w.m.State().Memberships("svc") {
		require.Fail(t, "a membership outlives its principal", "%+v", m)
	}
}

func TestGrantsEndByThemselves(t *testing.T) {
	w := newWorld(t)
	w.policy("reader")
	w.principal("svc")
	w.ok(fsm.CreateGroup{Meta: w.meta(), Group: fsm.Group{Name: "ops"}})
	end := w.now + 10_000
	attach := fsm.AttachPolicy{Meta: w.meta(), Policy: "reader", Principal: "svc", ExpiresAt: end}
	w.ok(attach)
	w.ok(fsm.AddToGroup{Meta: w.meta(), Group: "ops", Principal: "svc", ExpiresAt: end})
	require.True(t, w.m.State().Principal("svc").Attachments()[0].Holds(end-1))
	require.False(t, w.m.State().Principal("svc").Attachments()[0].Holds(end))
	require.False(t, w.m.State().Due(end-1))
	require.True(t, w.m.State().Due(end))
	w.refused(fault.Conflict, fsm.DeletePolicy{Meta: w.meta(), Name: "reader"}, "svc")
	w.now = end
	w.sweep()
	require.Empty(t, w.m.State().Principal("svc").Attachments())
	for m := range w.m.State().Members("ops", "") {
		require.Fail(t, "still a member", "%+v", m)
	}
	w.ok(fsm.DeletePolicy{Meta: w.meta(), Name: "reader"})
}

func TestAGrantWithoutEndIsNotShortened(t *testing.T) {
	w := newWorld(t)
	w.policy("reader")
	w.principal("svc", "reader")
	end := w.now + 10_000
	w.refused(fault.Conflict, fsm.AttachPolicy{Meta: w.meta(), Policy: "reader", Principal: "svc", ExpiresAt: end}, "expiresAt: ")
	w.ok(fsm.AttachPolicy{Meta: w.meta(), Policy: "reader", Principal: "svc", Mode: fsm.ModeBoundary})
	// The other way round it is made lasting.
	w.principal("other")
	w.ok(fsm.AttachPolicy{Meta: w.meta(), Policy: "reader", Principal: "other", ExpiresAt: end})
	w.ok(fsm.AttachPolicy{Meta: w.meta(), Policy: "reader", Principal: "other"})
	require.Equal(t, []fsm.Attachment{{Policy: "reader"}}, w.m.State().Principal("other").Attachments())
}

// What ends by itself, and what only caps, keeps nobody in power.
func TestTheLastFullAccessIsOneThatLasts(t *testing.T) {
	w := newWorld(t)
	w.principal("ann")
	w.ok(fsm.AttachPolicy{Meta: w.meta(), Policy: fsm.FullAccess, Principal: "ann", ExpiresAt: w.now + day})
	w.ok(fsm.AttachPolicy{Meta: w.meta(), Policy: fsm.FullAccess, Principal: "ann", Mode: fsm.ModeBoundary})
	w.ok(fsm.AttachPolicy{Meta: w.meta(), Policy: fsm.FullAccess, Group: fsm.Everyone})
	w.refused(fault.Conflict, fsm.DetachPolicy{Meta: w.meta(), Policy: fsm.FullAccess, Principal: "admin"}, "last principal")
	w.refused(fault.Conflict, fsm.DeletePrincipal{Meta: w.meta(), Name: "admin"}, "last principal")
}

func TestPolicyHistory(t *testing.T) {
	w := newWorld(t)
	put := func(path string) fsm.PutPolicy {
		return fsm.PutPolicy{Meta: w.meta(), Name: "p", Reason: path, Statements: []fsm.Statement{{Effect: "allow", Actions: []string{"a"}, Paths: []string{path}}}}
	}
	w.ok(put("/a"))
	w.ok(put("/b"))
	require.Equal(t, uint64(3), w.ok(fsm.RollbackPolicy{Meta: w.meta(), Name: "p", Revision: 1, Reason: "b was wrong"}).Revision)
	require.Equal(t, []string{"/a"}, w.m.State().Policy("p").Statements[0].Paths)
	require.Equal(t, []string{"/b"}, w.m.State().PolicyRevision("p", 2).Statements[0].Paths, "a rollback loses nothing")
	w.refused(fault.Conflict, fsm.RollbackPolicy{Meta: w.meta(), Name: "p", Revision: 3}, "revision: ")
	w.refused(fault.NotFound, fsm.RollbackPolicy{Meta: w.meta(), Name: "p", Revision: 9}, "revision: ")
	w.refused(fault.NotFound, fsm.RollbackPolicy{Meta: w.meta(), Name: "q", Revision: 1}, "name: ")
	stale := uint64(2)
	again := put("/c")
	again.Expected = &stale
	w.refused(fault.Conflict, again, "expectedRevision: ")
	for range 150 {
		w.ok(put("/c"))
	}
	kept := 0
	for range w.m.State().PolicyRevisions("p") {
		kept++
	}
	require.Equal(t, 100, kept)
	w.ok(fsm.DeletePolicy{Meta: w.meta(), Name: "p"})
	require.Nil(t, w.m.State().PolicyRevision("p", 100))
}

func TestApprovalsBelowOneAreRefused(t *testing.T) {
	w := newWorld(t)
	for name, test := range map[string]struct {
		field string
		s     fsm.Statement
	}{
		"none":      {"statements[0].approval: ", fsm.Statement{Effect: "requireApproval"}},
		"zero":      {"statements[0].approval.count: ", fsm.Statement{Effect: "requireApproval", Approval: &fsm.Approval{ValidFor: day}}},
		"negative":  {"statements[0].approval.count: ", fsm.Statement{Effect: "requireApproval", Approval: &fsm.Approval{Count: -1, ValidFor: day}}},
		"no time":   {"statements[0].approval.validFor: ", fsm.Statement{Effect: "requireApproval", Approval: &fsm.Approval{Count: 1}}},
		"elsewhere": {"statements[0].approval: ", fsm.Statement{Effect: "allow", Approval: &fsm.Approval{Count: 1, ValidFor: day}}},
		"no name":   {"statements[0].approval: ", fsm.Statement{Effect: "requireApproval", Approval: &fsm.Approval{Count: 1, ValidFor: day, Groups: []string{"a b"}}}},
		"no tag":    {"statements[0].conditions.tags.tier: ", fsm.Statement{Effect: "deny", Conditions: &fsm.Conditions{Tags: map[string][]string{"tier": nil}}}},
		"backwards": {"statements[0].conditions.notAfter: ", fsm.Statement{Effect: "deny", Conditions: &fsm.Conditions{NotBefore: 5, NotAfter: 5}}},
	} {
		test.s.Actions = []string{"a"}
		w.refused(fault.InvalidRequest, fsm.PutPolicy{Meta: w.meta(), Name: "p", Statements: []fsm.Statement{test.s}}, test.field)
		require.Nil(t, w.m.State().Policy("p"), name)
	}
}

func TestWindowsAreCheckedInApplyToo(t *testing.T) {
	w := newWorld(t)
	good := fsm.TimeWindow{Days: []string{"mon"}, From: "09:00", To: "24:00", Timezone: "Europe/Madrid"}
	put := func(ws ...fsm.TimeWindow) fsm.PutAccessPolicy {
		return fsm.PutAccessPolicy{Meta: w.meta(), Policy: fsm.AccessPolicy{Name: "hours", Paths: []string{"/a"}, TimeWindows: ws}}
	}
	w.ok(put(good))
	for field, change := range map[string]func(*fsm.TimeWindow){
		"timeWindows[0].days":     func(w *fsm.TimeWindow) { w.Days = []string{"Mon"} },
		"timeWindows[0].from":     func(w *fsm.TimeWindow) { w.From = "24:00" },
		"timeWindows[0].from: ":   func(w *fsm.TimeWindow) { w.From = "9:00" },
		"timeWindows[0].to":       func(w *fsm.TimeWindow) { w.To = "24:01" },
		"timeWindows[0].to: ":     func(w *fsm.TimeWindow) { w.To = "17:60" },
		"timeWindows[0].timezone": func(w *fsm.TimeWindow) { w.Timezone = "" },
	} {
		bad := good
		change(&bad)
		w.refused(fault.InvalidRequest, put(bad), field)
	}
	stale := uint64(0)
	again := put(good)
	again.Expected = &stale
	w.refused(fault.Conflict, again, "expectedRevision: ")
}
