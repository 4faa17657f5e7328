package fsm_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/internal/fault"
)

// approvalWorld has ann, who asks, and bob and eve, who may approve.
type approvalWorld struct{ *world }

func newApprovalWorld(t tester) approvalWorld {
	w := approvalWorld{newWorld(t)}
	for _, name := range []string{"ann", "bob", "eve"} {
		w.ok(fsm.CreatePrincipal{Meta: w.meta(), Principal: fsm.Principal{Name: name, Kind: "user"}})
	}
	return w
}

func (w approvalWorld) by(name string) fsm.Meta {
	m := w.meta()
	m.Principal = name
	return m
}

func need(count int, principals ...string) []fsm.ApprovalNeed {
	return []fsm.ApprovalNeed{{Policy: "two", Approval: fsm.Approval{Principals: principals, Count: count, ValidFor: day}}}
}

func (w approvalWorld) request(n int) fsm.RequestApproval {
	return fsm.RequestApproval{Meta: w.by("ann"), Request: fsm.ApprovalRequest{
		ID: approvalID(n), Operation: "secrets/destroyVersion", Hash: someHash(byte(n)), Reason: "leaked", Needs: need(1), ExpiresAt: w.now + day,
	}}
}

func (w approvalWorld) say(who, verdict string) fsm.DecideApproval {
	return fsm.DecideApproval{Meta: w.by(who), ID: approvalID(1), Verdict: verdict}
}

func (w approvalWorld) use(needs []fsm.ApprovalNeed) fsm.UseApproval {
	m := w.by("ann")
	m.Approval = &fsm.ApprovalUse{ID: approvalID(1), Operation: "secrets/destroyVersion", Hash: someHash(1), Needs: needs, Attempt: m.RequestID}
	return fsm.UseApproval{Meta: m}
}

func TestAnApprovalIsUsedOnce(t *testing.T) {
	w := newApprovalWorld(t)
	w.ok(w.request(1))
	w.refused(fault.Conflict, w.use(need(1)), "asks for more approvals")
	w.ok(w.say("bob", fsm.VerdictApprove))
	first := w.use(need(1))
	w.ok(first)
	w.ok(first) // a further command of the same attempt
	w.refused(fault.Conflict, w.use(need(1)), "was used")
	w.refused(fault.InvalidRequest, with(first, "", ""), "attempt: ")
	w.refused(fault.Conflict, w.say("eve", fsm.VerdictApprove), "is used already")
}

// The answer of a request may have been lost, so it may come again, if it shows
// that it is the same.
func TestAUseIsRepeatedForAWhile(t *testing.T) {
	w := newApprovalWorld(t)
	w.ok(w.request(1))
	w.ok(w.say("bob", fsm.VerdictApprove))
	used := w.now
	w.ok(with(w.use(need(1)), "1", "token"))
	w.refused(fault.Conflict, with(w.use(need(1)), "2", ""), "was used")
	w.refused(fault.Conflict, with(w.use(need(1)), "2", "another"), "was used")
	w.now = used + fsm.ApprovalReplay - 1
	w.ok(with(w.use(need(1)), "2", "token"))
	w.now = used + fsm.ApprovalReplay
	w.refused(fault.Conflict, with(w.use(need(1)), "2", "token"), "was used")
	w.refused(fault.Conflict, with(w.use(need(1)), "1", "token"), "was used")
}

func TestWhatIsRefusedUsesNoApproval(t *testing.T) {
	w := newApprovalWorld(t)
	w.ok(w.request(1))
	w.ok(w.say("bob", fsm.VerdictApprove))
	c := fsm.DeleteGroup{Meta: w.use(need(1)).Meta, Name: "none"}
	w.refused(fault.NotFound, c, "no group")
	require.Equal(t, fsm.ApprovalPending, w.m.State().Approval(approvalID(1)).State)
	w.ok(fsm.CreateGroup{Meta: w.use(need(1)).Meta, Group: fsm.Group{Name: "security"}})
	require.Equal(t, fsm.ApprovalUsed, w.m.State().Approval(approvalID(1)).State)
	w.refused(fault.Conflict, fsm.CreateGroup{Meta: w.use(need(1)).Meta, Group: fsm.Group{Name: "others"}}, "was used")
	require.Nil(t, w.m.State().Group("others"))
	w.refused(fault.InvalidRequest, fsm.UseApproval{Meta: w.by("ann")}, "approvalId: is missing")
}

func with(c fsm.UseApproval, attempt, repeat string) fsm.UseApproval {
	use := *c.Meta.Approval
	use.Attempt, use.Repeat = attempt, repeat
	c.Meta.Approval = &use
	return c
}

func TestAnApprovalIsOfOnePersonAndOneRequest(t *testing.T) {
	w := newApprovalWorld(t)
	w.ok(w.request(1))
	w.ok(w.say("bob", fsm.VerdictApprove))
	c := w.use(need(1))
	c.Meta.Principal = "eve"
	w.refused(fault.NotFound, c, "no such approval of this request")
	c = w.use(need(1))
	c.Meta.Approval.Hash = someHash(2)
	w.refused(fault.NotFound, c, "no such approval of this request")
	c = w.use(need(1))
	c.Meta.Approval.Operation = "secrets/deleteSecret"
	w.refused(fault.NotFound, c, "no such approval of this request")
	c = w.use(need(1))
	c.Meta.Approval.ID = approvalID(9)
	w.refused(fault.NotFound, c, "no such request")
	w.ok(w.use(need(1)))
}

func TestNobodyApprovesAlone(t *testing.T) {
	w := newApprovalWorld(t)
	w.ok(w.request(1))
	w.refused(fault.Conflict, w.say("ann", fsm.VerdictApprove), "nobody approves or denies a request of their own")
	w.refused(fault.Conflict, w.say("ann", fsm.VerdictDeny), "of their own")
	w.ok(w.say("bob", fsm.VerdictApprove))
	require.True(t, w.ok(w.say("bob", fsm.VerdictApprove)).Unchanged, "one person counts once")
	w.refused(fault.Conflict, w.use(need(2)), "asks for more approvals")
	w.ok(fsm.CreatePrincipal{Meta: w.by("ann"), Principal: fsm.Principal{Name: "puppet", Kind: "user"}})
	w.refused(fault.Conflict, w.say("puppet", fsm.VerdictApprove), "were there before the request")
	w.refused(fault.Conflict, w.use(need(1, "eve")), "asks for more approvals")
	for _, needs := range [][]fsm.ApprovalNeed{nil, need(0), need(-1), need(11)} {
		w.refused(fault.InvalidRequest, w.use(needs), "needs: ")
		c := w.request(2)
		c.Request.Needs = needs
		w.refused(fault.InvalidRequest, c, "needs: ")
	}
	w.ok(w.say("eve", fsm.VerdictApprove))
	w.ok(w.use(need(2)))
}

func TestAnApproverWhoIsGoneDoesNotCount(t *testing.T) {
	w := newApprovalWorld(t)
	w.ok(fsm.CreateGroup{Meta: w.meta(), Group: fsm.Group{Name: "security"}})
	w.ok(fsm.AddToGroup{Meta: w.meta(), Group: "security", Principal: "bob", ExpiresAt: w.now + 3_600_000})
	needs := []fsm.ApprovalNeed{{Policy: "two", Approval: fsm.Approval{Groups: []string{"security"}, Count: 1, ValidFor: day}}}
	w.ok(w.request(1))
	w.ok(w.say("bob", fsm.VerdictApprove))
	require.Equal(t, []string{"bob"}, w.m.State().Counted(w.m.State().Approval(approvalID(1)), &needs[0].Approval, w.now))
	w.now += 3_600_000
	w.refused(fault.Conflict, w.use(needs), "asks for more approvals")
	w.ok(fsm.DeletePrincipal{Meta: w.meta(), Name: "bob"})
	w.ok(fsm.CreatePrincipal{Meta: w.meta(), Principal: fsm.Principal{Name: "bob", Kind: "user"}})
	w.refused(fault.Conflict, w.use(need(1)), "asks for more approvals")
	w.ok(w.say("eve", fsm.VerdictApprove))
	w.ok(w.use(need(1)))
}

func TestAnApprovalExpiresToTheMillisecond(t *testing.T) {
	w := newApprovalWorld(t)
	c := w.request(1)
	end := c.Request.ExpiresAt
	w.ok(c)
	w.ok(w.say("bob", fsm.VerdictApprove))
	w.now = end
	w.refused(fault.Conflict, w.use(need(1)), "is expired")
	w.refused(fault.Conflict, w.say("eve", fsm.VerdictApprove), "is expired already")
	require.Equal(t, 1, w.sweep().Done)
	require.Equal(t, fsm.ApprovalExpired, w.m.State().Approval(approvalID(1)).State)
	w.now = end + 90*day - 1
	w.sweep()
	require.NotNil(t, w.m.State().Approval(approvalID(1)))
	w.now = end + 90*day
	w.sweep()
	require.Nil(t, w.m.State().Approval(approvalID(1)))
	require.Empty(t, slices.Collect(w.m.State().ApprovalsFor("ann", "secrets/destroyVersion", someHash(1))))
}

func TestAnApprovalIsGoodInItsLastMillisecond(t *testing.T) {
	w := newApprovalWorld(t)
	c := w.request(1)
	w.ok(c)
	w.ok(w.say("bob", fsm.VerdictApprove))
	w.now = c.Request.ExpiresAt - 1
	w.ok(w.use(need(1)))
}

func TestADenialAndAWithdrawalAreFinal(t *testing.T) {
	for verdict, who := range map[string]string{fsm.VerdictDeny: "eve", fsm.VerdictWithdraw: "ann"} {
		w := newApprovalWorld(t)
		w.ok(w.request(1))
		w.ok(w.say("bob", fsm.VerdictApprove))
		if verdict == fsm.VerdictWithdraw {
			w.refused(fault.NotFound, w.say("eve", verdict), "of yours")
		}
		w.ok(w.say(who, verdict))
		w.refused(fault.Conflict, w.use(need(1)), "requestApproval asks anew")
		w.refused(fault.Conflict, w.say("bob", fsm.VerdictApprove), "which is final")
	}
}

func TestARequestGoesWithItsPrincipal(t *testing.T) {
	w := newApprovalWorld(t)
	w.ok(w.request(1))
	w.ok(w.say("bob", fsm.VerdictApprove))
	w.ok(w.use(need(1)))
	w.ok(fsm.DeletePrincipal{Meta: w.meta(), Name: "ann"})
	w.refused(fault.NotFound, w.use(need(1)), "no such approval")
	w.ok(fsm.CreatePrincipal{Meta: w.meta(), Principal: fsm.Principal{Name: "ann", Kind: "user"}})
	w.refused(fault.NotFound, w.use(need(1)), "no such approval")
}

func TestRequestsForApprovalAreChecked(t *testing.T) {
	w := newApprovalWorld(t)
	first := w.ok(w.request(1))
	again := w.request(1)
	again.Request.ID = approvalID(2)
	result := w.ok(again)
	require.True(t, result.Unchanged)
	require.Equal(t, first.Name, result.Name)
	for message, change := range map[string]func(*fsm.ApprovalRequest){
		"approvalId: must not be empty": func(a *fsm.ApprovalRequest) { a.ID = "" },
		"operation: is missing":         func(a *fsm.ApprovalRequest) { a.Operation = "" },
		"request: has no hash":          func(a *fsm.ApprovalRequest) { a.Hash = a.Hash[1:] },
		"request: is longer": func(a *fsm.ApprovalRequest) {
			a.Request = strings.Repeat("x", fsm.MaxApprovalRequest+1)
		},
		"reason: must have":  func(a *fsm.ApprovalRequest) { a.Reason = "" },
		"expiresAt: must be": func(a *fsm.ApprovalRequest) { a.ExpiresAt = w.now },
	} {
		c := w.request(3)
		change(&c.Request)
		w.refused(fault.InvalidRequest, c, message)
	}
	c := w.request(3)
	c.Request.ID = approvalID(1)
	w.refused(fault.AlreadyExists, c, "is taken")
	w.refused(fault.InvalidRequest, w.say("bob", "maybe"), "verdict: ")
	for n := 2; n <= fsm.MaxPendingApprovals; n++ {
		w.ok(w.request(n))
	}
	w.refused(fault.Conflict, w.request(200), "wait for approval, which is the most")
}

// approvalLife draws a command about requests for approval.
func (p player) approvalLife() fsm.Command {
	m, n := p.w.meta(), pick(p, 1, 2, 3)
	m.Principal = pick(p, somePrincipals...)
	needs := need(pick(p, 1, 1, 2, 0), pick(p, somePrincipals...))
	return pick(p, func() fsm.Command {
		return fsm.RequestApproval{Meta: m, Request: fsm.ApprovalRequest{
			ID: approvalID(n), Operation: "iam/putPolicy", Hash: someHash(byte(n)), Reason: "r", Needs: needs, ExpiresAt: p.w.now + pick(p, 1000, day),
		}}
	}, func() fsm.Command {
		return fsm.DecideApproval{Meta: m, ID: approvalID(n), Verdict: pick(p, fsm.VerdictApprove, fsm.VerdictApprove, fsm.VerdictDeny, fsm.VerdictWithdraw)}
	}, func() fsm.Command {
		m.Approval = &fsm.ApprovalUse{
			ID: approvalID(n), Operation: "iam/putPolicy", Hash: someHash(byte(n)), Needs: needs,
			Attempt: pick(p, "a", "b"), Repeat: pick(p, "", "token"),
		}
		if pick(p, true, false) {
			return fsm.CreateGroup{Meta: m, Group: fsm.Group{Name: pick(p, someGroups...)}}
		}
		return fsm.UseApproval{Meta: m}
	})()
}

// checkApprovals: nothing is used that others did not approve.
func checkApprovals(t tester, s *fsm.State) {
	for a := range s.Approvals("") {
		require.Contains(t, slices.Collect(s.ApprovalsFor(a.Principal, a.Operation, a.Hash)), a)
		seen := map[string]bool{a.Principal: true}
		for _, g := range a.Given {
			require.False(t, seen[g.Principal], "approved twice, or by who asked")
			seen[g.Principal] = true
		}
		if a.State == fsm.ApprovalUsed {
			require.NotEmpty(t, a.Given, "used without approval")
			require.Less(t, a.EndedAt, a.ExpiresAt, "used too late")
			require.Equal(t, a.Principal, a.EndedBy)
		}
	}
}
