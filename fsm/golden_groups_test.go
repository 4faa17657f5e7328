package fsm_test

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/fsm"
)

// fullStatements say all that a statement can say.
func fullStatements() []fsm.Statement {
	return []fsm.Statement{
		{Effect: "allow", Roles: []string{"secrets-value-access"}, Paths: []string{"/app/prod/**"}, Conditions: &fsm.Conditions{
			SourceCIDRs: []string{"10.0.0.0/8"}, TimeWindows: []fsm.TimeWindow{{Days: []string{"mon", "fri"}, From: "09:00", To: "17:30", Timezone: "Europe/Madrid"}},
			NotBefore: start, NotAfter: start + 300*day, AuthMethods: []string{"oidc"}, Groups: []string{"payments"},
			Tags: map[string][]string{"tier": {"1", "2"}, "owner": {"pay*"}},
		}},
		{Effect: "requireApproval", Actions: []string{"secrets:destroyVersion"}, Paths: []string{"/app/prod/**"}, Approval: &fsm.Approval{
			Principals: []string{"admin"}, Groups: []string{"security"}, Count: 2, ValidFor: day,
		}},
	}
}

// groupStory holds the life of groups, of policies with a history, and of
// attachments that end. It is a promise to logs like story: append to a new
// one for what is new.
func groupStory() []fsm.Command {
	at := start
	meta := func() fsm.Meta {
		at += 1000
		return fsm.Meta{Time: at, Principal: "admin", RequestID: fmt.Sprintf("request-%d", at)}
	}
	none, two := uint64(0), uint64(2)
	later := func() int64 { return start + 2*60*60*1000 }
	return []fsm.Command{
		genesis(start),
		fsm.CreatePrincipal{Meta: meta(), Principal: fsm.Principal{Name: "ann", Kind: "user"}},
		fsm.CreatePrincipal{Meta: meta(), Principal: fsm.Principal{Name: "bob", Kind: "user"}},
		fsm.CreateGroup{Meta: meta(), Group: fsm.Group{Name: "payments", Description: "who runs payments"}},
		fsm.CreateGroup{Meta: meta(), Group: fsm.Group{Name: "brief"}},
		fsm.CreateGroup{Meta: meta(), Group: fsm.Group{Name: fsm.Everyone}}, // refused
		fsm.PutPolicy{Meta: meta(), Name: "pay", Statements: fullStatements()[:1], Description: "payments", Reason: "first", Expected: &none},
		fsm.PutPolicy{Meta: meta(), Name: "pay", Statements: fullStatements(), Description: "payments", Reason: "approvals", ReportOnly: true},
		fsm.PutPolicy{Meta: meta(), Name: "pay", Statements: fullStatements(), Expected: &none}, // refused
		fsm.RollbackPolicy{Meta: meta(), Name: "pay", Revision: 1, Reason: "too strict", Expected: &two},
		fsm.AddToGroup{Meta: meta(), Group: "payments", Principal: "ann", Reason: "joined"},
		fsm.AddToGroup{Meta: meta(), Group: "payments", Principal: "bob", ExpiresAt: later(), Reason: "stands in for ann"},
		fsm.AddToGroup{Meta: meta(), Group: "brief", Principal: "ann", ExpiresAt: start + 20_000},
		fsm.AttachPolicy{Meta: meta(), Policy: "pay", Group: "payments", Reason: "their job"},
		fsm.AttachPolicy{Meta: meta(), Policy: "pay", Principal: "ann", Mode: fsm.ModeBreakGlass, Reason: "on call"},
		fsm.AttachPolicy{Meta: meta(), Policy: "pay", Principal: "bob", ExpiresAt: later(), Reason: "for two hours"},
		fsm.AttachPolicy{Meta: meta(), Policy: "pay", Principal: "bob", Mode: fsm.ModeBoundary},
		fsm.AttachPolicy{Meta: meta(), Policy: "pay", Group: fsm.Everyone, Mode: fsm.ModeGrant, ExpiresAt: start + 21_000},
		fsm.AttachPolicy{Meta: meta(), Policy: "pay", Group: "brief"},
		fsm.DetachPolicy{Meta: meta(), Policy: "pay", Group: "brief"},
		fsm.RemoveFromGroup{Meta: meta(), Group: "brief", Principal: "bob"}, // nothing to do
		fsm.Sweep{Meta: fsm.Meta{Time: start + 40_000}, Limit: 100},
		fsm.DeleteGroup{Meta: meta(), Name: "payments"}, // refused: a policy is attached
		fsm.DeleteGroup{Meta: meta(), Name: "brief"},
		fsm.PutAccessPolicy{Meta: meta(), Policy: fsm.AccessPolicy{
			Name: "hours", Paths: []string{"/app/prod/**"}, Actions: []string{"secrets:getSecretValue"}, Principals: []string{"ann"}, Groups: []string{"payments"},
			SourceCIDRs: []string{"10.0.0.0/8"}, NotBefore: start, NotAfter: start + 300*day,
			TimeWindows: []fsm.TimeWindow{{Days: []string{"mon", "fri"}, From: "09:00", To: "17:30", Timezone: "Europe/Madrid"}, {From: "22:00", To: "24:00", Timezone: "UTC"}},
			Description: "office hours", Reason: "audit", ReportOnly: true,
		}, Expected: &none},
	}
}

func TestGoldenGroupSnapshot(t *testing.T) {
	w := emptyWorld(t)
	for _, c := range groupStory() {
		w.do(c)
	}
	old := golden(t, groupSnapshotGolden, snapshot(t, w.m))
	m := fsm.New()
	require.NoError(t, m.Restore(bytes.NewReader(old)))
	require.Equal(t, fsm.Dump(w.m.State()), fsm.Dump(m.State()))

	state := m.State()
	require.Nil(t, state.Group("brief"))
	require.Equal(t, &fsm.Group{Name: fsm.Everyone}, state.Group(fsm.Everyone), "what was attached has ended")
	require.Equal(t, "who runs payments", state.Group("payments").Description)
	pay := state.Policy("pay")
	require.Equal(t, uint64(3), pay.Revision)
	require.Equal(t, uint64(1), pay.RolledBackTo)
	require.Equal(t, fullStatements()[:1], pay.Statements)
	require.Equal(t, fullStatements(), state.PolicyRevision("pay", 2).Statements)
	require.True(t, state.PolicyRevision("pay", 2).ReportOnly)
	var members []string
	for m := range state.Members("payments", "") {
		members = append(members, m.Principal)
	}
	require.Equal(t, []string{"ann", "bob"}, members)
	require.Equal(t, []fsm.Attachment{
		{Policy: "pay", ExpiresAt: start + 2*60*60*1000, AttachedAt: start + 15_000, AttachedBy: "admin", Reason: "for two hours"},
		{Policy: "pay", Mode: fsm.ModeBoundary, AttachedAt: start + 16_000, AttachedBy: "admin"},
	}, state.Principal("bob").Attachments())
}
