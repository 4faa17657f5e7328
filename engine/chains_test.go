package engine_test

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/api/wire"
	"github.com/strongroom/strongroom/audit"
	"github.com/strongroom/strongroom/engine"
	"github.com/strongroom/strongroom/fsm"
)

// A member that went down, lost its disk or was removed is answered for by the
// copy of its trail: every event once, also over pages between which it goes.
func TestACopyAnswersForAMemberThatCannotBeAsked(t *testing.T) {
	w := newWorld(t)
	n2, n3 := newPeer(t, "n2"), newPeer(t, "n3")
	w.among(n2, n3)
	w.copying()
	n2.write(20)
	n3.write(10)
	w.awaitCopy(n2)
	w.awaitCopy(n3)
	all := w.asked(`"event":"secrets.marked"`)
	require.Len(t, all.Events, 30)
	require.Empty(t, all.FromCopies, "who writes a chain answers for it")

	first := w.asked(`"event":"secrets.marked","limit":7`)
	n2.set(true)
	seen := map[string]int{}
	page := first
	for {
		for _, e := range page.Events {
			seen[fmt.Sprint(e.Node, e.Sequence)]++
		}
		if page.NextCursor == "" {
			break
		}
		page = w.asked(fmt.Sprintf(`"event":"secrets.marked","limit":7,"cursor":%q`, page.NextCursor))
		require.Empty(t, page.Unreachable)
		require.Len(t, page.FromCopies, 1)
		require.Equal(t, "n2", page.FromCopies[0].Node)
		require.Equal(t, uint64(21), page.FromCopies[0].Through)
	}
	require.Len(t, seen, 30)
	for at, n := range seen {
		require.Equal(t, 1, n, at)
	}
	w.ok("iam/putPolicy", `{"name":"new","statements":[{"effect":"allow","actions":["kms:encrypt"],"keys":["*"]}]}`)
	simulated := w.ok("iam/simulatePolicy", `{"name":"new","statements":[],"since":"1h"}`)
	require.Contains(t, simulated, `"fromCopies"`)
	require.NotContains(t, simulated, `"unreachable"`)
}

func TestAMemberWithoutACopyIsNamed(t *testing.T) {
	w := newWorld(t)
	n2, n3 := newPeer(t, "n2"), newPeer(t, "n3")
	w.among(n2, n3)
	n3.set(true)
	w.copying()
	w.awaitCopy(n2)
	got := w.asked(`"event":"secrets.marked"`)
	require.Equal(t, []string{"n3"}, got.Unreachable)
	n2.set(true)
	got = w.asked(`"event":"secrets.marked"`)
	require.Equal(t, []string{"n3"}, got.Unreachable)
	require.Len(t, got.FromCopies, 1)
}

// What a node wrote before it lost its disk is found beside what it writes
// now, though both begin with the same numbers.
func TestBothChainsOfANodeThatLostItsDiskAreAsked(t *testing.T) {
	w := newWorld(t)
	n2 := newPeer(t, "n2")
	w.among(n2)
	stop := w.copying()
	n2.write(5)
	w.awaitCopy(n2)
	stop()
	w.engine.AnchorHeads(t.Context())
	n2.wipe()
	n2.write(3)
	for _, limit := range []int{1, 3, 100} {
		require.Len(t, w.allEvents(`"event":"secrets.marked"`, limit), 8)
	}
	// An old copy is no answer for the chain that nobody copied yet. That it is
	// there is not known either, so nothing is missed that could be named.
	w.copying()
	w.awaitCopy(n2)
	w.engine.AnchorHeads(t.Context())
	events := w.events(audit.Filter{Events: []string{"audit.new_chain"}})
	require.Len(t, events, 1)
	require.Contains(t, events[0].Reason, "node n2")
	chains := into[wire.ListChainsResponse](t, w.ok("audit/listChains", `{}`)).Chains
	require.Len(t, chains, 3)
	current := 0
	for _, chain := range chains {
		require.NotZero(t, chain.Anchored, "%+v", chain)
		if chain.Current {
			current++
		}
	}
	require.Equal(t, 2, current)
}

// Anchors go with events, and are no event: a cluster in which nothing
// happens proposes nothing.
func TestAnIdleClusterAnchorsNothing(t *testing.T) {
	w := newWorld(t)
	n2 := newPeer(t, "n2")
	w.among(n2)
	w.copying()
	w.awaitCopy(n2)
	w.sync()
	w.engine.AnchorHeads(t.Context())
	proposed, head := w.log.proposed, w.trail.Head()
	for range 5 {
		w.engine.AnchorHeads(t.Context())
	}
	require.Equal(t, proposed, w.log.proposed)
	require.Equal(t, head, w.trail.Head())
	n2.write(1)
	w.awaitCopy(n2)
	w.engine.AnchorHeads(t.Context())
	require.Equal(t, proposed+1, w.log.proposed)
}

// A member that does not answer for its chains may be of a release that would
// stop at the command.
func TestNothingIsAnchoredBeforeEveryMemberKnowsAnchors(t *testing.T) {
	w := newWorld(t)
	n2, n3 := newPeer(t, "n2"), newPeer(t, "n3")
	w.among(n2, n3)
	n3.set(true)
	w.copying()
	w.awaitCopy(n2)
	w.sync()
	proposed := w.log.proposed
	w.engine.AnchorHeads(t.Context())
	require.Equal(t, proposed, w.log.proposed)
	n3.set(false)
	w.awaitCopy(n3)
	w.engine.AnchorHeads(t.Context())
	require.Equal(t, proposed+1, w.log.proposed)
	n3.set(true)
	n2.write(1)
	w.awaitCopy(n2)
	w.engine.AnchorHeads(t.Context())
	require.Equal(t, proposed+2, w.log.proposed, "they all know by now")
}

// sync brings the world's trail to its disk.
func (w *world) sync() {
	w.t.Helper()
	require.Eventually(w.t, func() bool { return w.trail.Settled() == w.trail.Head() }, 10*time.Second, time.Millisecond)
}

// A trail that is not the one which was anchored is said once, in the trail
// and the metrics, and the node goes on.
func TestATrailThatPartedFromItsAnchorIsSaid(t *testing.T) {
	for name, change := range map[string]func(*fsm.TrailHead){
		"changed": func(h *fsm.TrailHead) { h.Sequence, h.Hash = 1, make([]byte, 32) },
		"cut":     func(h *fsm.TrailHead) { h.Sequence += 1000 },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.among()
			w.sync()
			id, err := w.trail.ChainID(t.Context())
			require.NoError(t, err)
			head := w.trail.Settled()
			h := fsm.TrailHead{Node: "n1", Chain: id[:], Sequence: head.Sequence, Hash: head.Hash[:]}
			change(&h)
			command, err := fsm.Encode(fsm.AnchorHeads{Meta: fsm.Meta{Time: w.now().UnixMilli(), Principal: "strongroom"}, Heads: []fsm.TrailHead{h}})
			require.NoError(t, err)
			_, err = w.log.Propose(t.Context(), command)
			require.NoError(t, err)
			for range 3 {
				w.engine.CheckChains(t.Context())
			}
			events := w.events(audit.Filter{Events: []string{"audit.anchor_mismatch"}})
			require.Len(t, events, 1)
			require.Equal(t, audit.Failed, events[0].Outcome)
			chains := into[wire.ListChainsResponse](t, w.ok("audit/listChains", `{}`)).Chains
			require.NotEmpty(t, chains[0].Trouble)
			require.Len(t, into[wire.StatusResponse](t, w.ok("cluster/status", `{}`)).AuditTrouble, 1)
			anchored := w.log.Local().Anchor("n1", id).Sequence
			w.sync()
			w.engine.AnchorHeads(t.Context())
			require.Equal(t, anchored, w.log.Local().Anchor("n1", id).Sequence, "it does not take its anchor along")
		})
	}
}

// Events that do not fit are kept out, and said once.
func TestAMemberThatHandsOnWhatItDidNotWriteIsRefused(t *testing.T) {
	w := newWorld(t)
	n2 := newPeer(t, "n2")
	n2.changes = func(run *engine.ChainRun) {
		run.Data = []byte(strings.Replace(string(run.Data), "secrets.marked", "secrets.masked", 1))
	}
	w.among(n2)
	n2.write(3)
	w.copying()
	require.Eventually(t, func() bool { return len(w.engine.Copies.Broken()) == 1 }, 30*time.Second, time.Millisecond)
	require.Empty(t, w.engine.Copies.All())
	require.Eventually(t, func() bool {
		w.engine.CheckChains(t.Context())
		return len(w.events(audit.Filter{Events: []string{"audit.copy_broken"}})) == 1
	}, 30*time.Second, time.Millisecond)
	w.engine.CheckChains(t.Context())
	require.Len(t, w.events(audit.Filter{Events: []string{"audit.copy_broken"}}), 1)
}

// What was cut or written anew at home is found by who holds a copy, before
// it takes anything.
func TestAChainThatEndsBeforeItsCopyIsRefused(t *testing.T) {
	w := newWorld(t)
	n2 := newPeer(t, "n2")
	w.among(n2)
	n2.write(3)
	id, err := n2.trail.ChainID(t.Context())
	require.NoError(t, err)
	e, err := n2.engine()
	require.NoError(t, err)
	head := n2.trail.Settled()
	ask := func(after uint64, hash string) engine.ChainRun {
		run, err := e.LocalChain(t.Context(), t.Context(), "n1", engine.ChainQuery{Node: "n2", Chain: id.String(), After: after, Hash: hash})
		require.NoError(t, err)
		return run
	}
	good := fmt.Sprintf("%x", head.Hash)
	require.False(t, ask(head.Sequence, good).Forked)
	require.True(t, ask(head.Sequence+1, good).Forked, "it holds more than there is")
	require.True(t, ask(head.Sequence, strings.Repeat("00", 32)).Forked)
	require.True(t, ask(head.Sequence-1, good).Forked, "what comes next does not carry that hash")
	run := ask(0, "")
	require.EqualValues(t, head.Sequence, run.Count)
	none, err := e.LocalChain(t.Context(), t.Context(), "n1", engine.ChainQuery{Node: "n2", Chain: strings.Repeat("ab", 32)})
	require.NoError(t, err)
	require.True(t, none.Gone)
	for _, bad := range []engine.ChainQuery{{Node: "n2", Chain: "x"}, {Node: "n2", Chain: id.String(), After: 1, Hash: "x"}} {
		_, err = e.LocalChain(t.Context(), t.Context(), "n1", bad)
		require.Error(t, err)
	}
}

// Only what a member has of this very chain counts for a majority.
func TestOnlyWhoHoldsTheChainCountsForQuorum(t *testing.T) {
	w := newWorld(t)
	trail, err := audit.Open(audit.Config{Dir: filepath.Join(t.TempDir(), "q"), Node: "n1", Durability: audit.Quorum, Logger: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	t.Cleanup(func() { _ = trail.Close() })
	e := &engine.Engine{Config: engine.Config{Node: "n1", Trail: trail, AwaitedTrail: true, Log: w.log}}
	trail.SetVoters([]string{"n1", "n2", "n3"})
	id, err := trail.ChainID(t.Context())
	require.NoError(t, err)
	head := trail.Settled()
	ask := func(hash string) engine.ChainRun {
		run, err := e.LocalChain(t.Context(), t.Context(), "n2", engine.ChainQuery{Node: "n1", Chain: id.String(), After: head.Sequence, Hash: hash})
		require.NoError(t, err)
		return run
	}
	ask(strings.Repeat("00", 32))
	require.Zero(t, trail.Safe())
	require.True(t, ask(fmt.Sprintf("%x", head.Hash)).Awaited)
	require.Equal(t, head.Sequence, trail.Safe())
}

// A node that joins gets the chain of a member that is gone from who has a
// copy, once Raft knows of that chain.
func TestAChainOfADeadMemberIsTakenFromWhoHasACopy(t *testing.T) {
	w := newWorld(t)
	dead, holder := newPeer(t, "n9"), newPeer(t, "n2")
	dead.write(4)
	id, err := dead.trail.ChainID(t.Context())
	require.NoError(t, err)
	run, err := dead.trail.Lines(t.Context(), 0, 1<<20)
	require.NoError(t, err)
	holder.held, err = audit.OpenCopies(audit.CopiesConfig{Dir: holder.dir})
	require.NoError(t, err)
	t.Cleanup(func() { _ = holder.held.Close() })
	require.NoError(t, holder.held.Take("n9", id, run))
	w.among(holder)

	stop := w.copying()
	w.awaitCopy(holder)
	stop()
	require.Nil(t, w.engine.Copies.Find("n9", id), "a chain that a member may have made up")

	head := dead.trail.Settled()
	command, err := fsm.Encode(fsm.AnchorHeads{
		Meta:  fsm.Meta{Time: w.now().UnixMilli(), Principal: "strongroom"},
		Heads: []fsm.TrailHead{{Node: "n9", Chain: id[:], Sequence: head.Sequence, Hash: head.Hash[:]}},
	})
	require.NoError(t, err)
	_, err = w.log.Propose(t.Context(), command)
	require.NoError(t, err)
	w.copying()
	w.awaitCopy(dead)
	got := w.asked(`"event":"secrets.marked"`)
	require.Len(t, got.Events, 4)
	require.Equal(t, "n9", got.FromCopies[0].Node)
}

func TestListChainsNamesWhoLacksWhat(t *testing.T) {
	w := newWorld(t)
	n2, n3 := newPeer(t, "n2"), newPeer(t, "n3")
	w.among(n2, n3)
	stop := w.copying()
	n2.write(5)
	w.awaitCopy(n2)
	stop()
	n2.write(2)
	n3.set(true)
	var got wire.ListChainsResponse
	require.NoError(t, json.Unmarshal([]byte(w.ok("audit/listChains", `{}`)), &got))
	require.Equal(t, []string{"n3"}, got.Unreachable)
	for _, chain := range got.Chains {
		if chain.Node != "n2" {
			continue
		}
		require.True(t, chain.Current)
		require.EqualValues(t, 8, chain.Sequence)
		require.Equal(t, []wire.ChainHolder{{NodeID: "n1", Sequence: 6, Lag: 2}, {NodeID: "n2", Sequence: 8}}, chain.Holders)
	}
	nobody := w.principal("nobody", `[{"effect":"allow","actions":["kms:encrypt"],"keys":["*"]}]`)
	_, err := w.as(nobody, "audit/listChains", `{}`)
	require.Error(t, err)
}
