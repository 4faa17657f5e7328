package fsm_test

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/fsm"
)

const approvalSnapshotGolden = "testdata/snapshots/v1/approvals.snapshot"

func approvalID(n int) string { return fmt.Sprintf("00000000-0000-4000-8000-0000000a%04d", n) }

func someHash(n byte) []byte { return bytes.Repeat([]byte{n}, 32) }

// approvalStory holds the life of requests for approval. It is a promise to
// logs like story: append to a new one for what is new.
func approvalStory() []fsm.Command {
	at := start
	meta := func(who string) fsm.Meta {
		at += 1000
		return fsm.Meta{Time: at, Principal: who, RequestID: fmt.Sprintf("request-%d", at)}
	}
	needs := []fsm.ApprovalNeed{{Policy: "two", Approval: fsm.Approval{
		Principals: []string{"bob"}, Groups: []string{"security"}, Count: 1, ValidFor: day,
	}}}
	ask := func(n int, end int64) fsm.Command {
		return fsm.RequestApproval{Meta: meta("admin"), Request: fsm.ApprovalRequest{
			ID: approvalID(n), Operation: "secrets/destroyVersion", Hash: someHash(byte(n)), Action: "secrets:destroyVersion",
			Path: "/app/prod/pay/db", KeyID: defaultKey, Version: 3, Subject: "svc", Request: `{"path":"/app/prod/pay/db","version":3}`,
			Reason: "leaked", Needs: needs, ExpiresAt: end,
		}}
	}
	use := func(n int) fsm.Command {
		m := meta("admin")
		m.Approval = &fsm.ApprovalUse{
			ID: approvalID(n), Operation: "secrets/destroyVersion", Hash: someHash(byte(n)), Needs: needs, Attempt: m.RequestID, Repeat: "token",
		}
		return fsm.UseApproval{Meta: m}
	}
	say := func(who string, n int, verdict, text string) fsm.Command {
		return fsm.DecideApproval{Meta: meta(who), ID: approvalID(n), Verdict: verdict, Text: text}
	}
	return []fsm.Command{
		genesis(start),
		fsm.CreatePrincipal{Meta: meta("admin"), Principal: fsm.Principal{Name: "bob", Kind: "user"}},
		ask(1, start+day), ask(2, start+day), ask(3, start+day), ask(4, start+day), ask(5, start+60_000),
		use(1), // refused
		say("admin", 1, fsm.VerdictApprove, "me"), // refused
		say("bob", 1, fsm.VerdictApprove, "seen the ticket"),
		use(1), use(1),
		say("bob", 2, fsm.VerdictDeny, "not today"),
		say("admin", 3, fsm.VerdictWithdraw, "a mistake"),
		say("bob", 4, fsm.VerdictApprove, ""),
		fsm.Sweep{Meta: fsm.Meta{Time: start + 90_000}, Limit: 100},
	}
}

func TestGoldenApprovalSnapshot(t *testing.T) {
	w := emptyWorld(t)
	for _, c := range approvalStory() {
		w.do(c)
	}
	old := golden(t, approvalSnapshotGolden, snapshot(t, w.m))
	m := fsm.New()
	require.NoError(t, m.Restore(bytes.NewReader(old)))
	require.Equal(t, fsm.Dump(w.m.State()), fsm.Dump(m.State()))
	var states []string
	for a := range m.State().Approvals("") {
		states = append(states, m.State().ApprovalState(a, start+90_000))
	}
	require.Equal(t, []string{fsm.ApprovalUsed, fsm.ApprovalDenied, fsm.ApprovalWithdrawn, fsm.ApprovalApproved, fsm.ApprovalExpired}, states)
}
