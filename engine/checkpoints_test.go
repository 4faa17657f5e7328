package engine_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/strongroom/strongroom/api/wire"
	"github.com/strongroom/strongroom/audit"
	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/internal/checkpoint"
	"github.com/strongroom/strongroom/internal/fault"
)

// signedWorld is a world whose trail is signed as a leader does it.
func signedWorld(t *testing.T) *world {
	w := newWorld(t)
	w.engine.MakeAuditKey(t.Context())
	w.ok("secrets/createSecret", `{"path":"/a","value":%q}`, b64("v"))
	w.signTrail()
	return w
}

// signTrail waits until all is on the disk, lets a minute pass, and signs.
func (w *world) signTrail() {
	w.t.Helper()
	require.Eventually(w.t, func() bool { return w.trail.Settled() == w.trail.Head() }, 20*time.Second, time.Millisecond)
	w.setNow(w.now().Add(time.Minute))
	w.engine.SignChains(w.t.Context())
}

func (w *world) checkpoint() wire.GetCheckpointResponse {
	w.t.Helper()
	return into[wire.GetCheckpointResponse](w.t, w.ok("audit/getCheckpoint", `{"node":"n1"}`))
}

func (w *world) auditTrust(keys string) audit.Trust {
	w.t.Helper()
	parsed, err := checkpoint.ParseKeys([]byte(keys))
	require.NoError(w.t, err)
	return audit.Trust{Keys: parsed}
}

// What the node says of itself is verified with the public key alone: the
// folder, an export, and proofs of both kinds.
func TestCheckpointsAreVerifiedWithThePublicKeyAlone(t *testing.T) {
	w := signedWorld(t)
	first := w.checkpoint()
	trust := w.auditTrust(first.PublicKeys)
	old, err := checkpoint.Open([]byte(first.Checkpoints[0].Note), trust.Keys)
	require.NoError(t, err)
	require.Equal(t, "n1", old.Node)

	for i := range 30 {
		w.ok("secrets/putSecretValue", `{"path":"/a","value":%q}`, b64(fmt.Sprint(i)))
	}
	w.signTrail()
	report, err := audit.VerifySigned(w.dir, trust)
	require.NoError(t, err)
	require.Equal(t, 2, report.Checkpoints)

	got := into[wire.GetProofResponse](t, w.ok("audit/getProof", `{"node":"n1","sequence":2,"fromSize":%d}`, old.Size))
	now, err := checkpoint.Open([]byte(got.Checkpoint.Note), trust.Keys)
	require.NoError(t, err)
	require.Greater(t, now.Size, old.Size)
	require.NoError(t, tlog.CheckTree(parseHashes(t, got.Consistency), int64(now.Size), now.Root, int64(old.Size), old.Root))
	text, err := os.ReadFile(filepath.Join(w.dir, "audit-00000000000000000001.jsonl"))
	require.NoError(t, err)
	line := bytes.Split(text, []byte("\n"))[1]
	require.NoError(t, tlog.CheckRecord(parseHashes(t, got.Inclusion), int64(now.Size), now.Root, 1, tlog.RecordHash(line)))

	require.Eventually(t, func() bool { return w.trail.Settled() == w.trail.Head() }, 20*time.Second, time.Millisecond)
	before := w.trail.Head().Sequence
	export := w.ok("audit/exportEvents", `{"node":"n1"}`)
	parts, err := audit.VerifyExport("x", strings.NewReader(export), trust)
	require.NoError(t, err)
	require.Equal(t, before, parts[0].To, "an export goes up to the moment")
	told := w.events(audit.Filter{Events: []string{"audit.export_events"}})
	require.Equal(t, fmt.Sprintf("n1 1 to %d", before), told[0].Reason)
	part := w.ok("audit/exportEvents", `{"node":"n1","fromSequence":5,"toSequence":9}`)
	parts, err = audit.VerifyExport("x", strings.NewReader(part), trust)
	require.NoError(t, err)
	require.Equal(t, []uint64{5, 9}, []uint64{parts[0].From, parts[0].To})
	_, err = w.as(w.admin, "audit/exportEvents", `{"from":"2031-01-01T00:00:00.000Z"}`)
	w.refused(fault.NotFound, "no signed events", err)
}

func parseHashes(t *testing.T, texts []string) []tlog.Hash {
	var out []tlog.Hash
	for _, text := range texts {
		h, err := tlog.ParseHash(text)
		require.NoError(t, err)
		out = append(out, h)
	}
	return out
}

// A checkpoint is due after a minute, or after many events, and not before; a
// chain that does not grow is not signed again.
func TestCheckpointsAreSignedWhenTheyAreDue(t *testing.T) {
	w := signedWorld(t)
	w.engine.CheckpointEvents = 10
	size := w.checkpoint().Checkpoints[0].Size
	settle := func() {
		require.Eventually(t, func() bool { return w.trail.Settled() == w.trail.Head() }, 20*time.Second, time.Millisecond)
	}
	settle()
	w.engine.SignChains(t.Context())
	require.Equal(t, size, w.checkpoint().Checkpoints[0].Size, "not due")
	for range 10 {
		w.value("/a")
	}
	settle()
	w.engine.SignChains(t.Context())
	grown := w.checkpoint().Checkpoints[0].Size
	require.Greater(t, grown, size+10, "after many events")
	w.signTrail()
	last := w.checkpoint().Checkpoints[0].Size
	require.Greater(t, last, grown, "after a minute")
}

// The key signs checkpoints and nothing else, whoever asks. It can be rotated,
// and what it signed before goes on to verify.
func TestTheKeyOfCheckpointsServesNobodyElse(t *testing.T) {
	w := signedWorld(t)
	id := w.log.machine.State().KeyFor(fsm.PurposeAudit).ID
	_, err := w.as(w.admin, "kms/sign", fmt.Sprintf(`{"keyId":%q,"message":%q}`, id, b64("strongroom/forged")))
	w.refused(fault.Conflict, "serves nobody else", err)
	for _, operation := range []string{"kms/disableKey", "kms/scheduleKeyDeletion", "kms/retireKey"} {
		_, err := w.as(w.admin, operation, fmt.Sprintf(`{"keyId":%q%s}`, id, map[string]string{"kms/retireKey": `,"to":"alias/default"`}[operation]))
		require.Error(t, err, operation)
	}
	require.Equal(t, "active", into[wire.KeyResponse](t, w.ok("kms/describeKey", `{"keyId":%q}`, id)).State)

	w.ok("kms/rotateKey", `{"keyId":%q}`, id)
	w.signTrail()
	got := w.checkpoint()
	require.Equal(t, 2, strings.Count(got.PublicKeys, "BEGIN PUBLIC KEY"))
	report, err := audit.VerifySigned(w.dir, w.auditTrust(got.PublicKeys))
	require.NoError(t, err)
	require.Equal(t, 2, report.Checkpoints, "one under each")

	// A second leader makes no second key.
	w.engine.MakeAuditKey(t.Context())
	n := 0
	for key := range w.log.machine.State().Keys("") {
		if key.Purpose != "" {
			n++
		}
	}
	require.Equal(t, 1, n)
}

// A chain that is not the one that was signed: the node goes on, signs it no
// more, and says so once.
func TestARewrittenChainIsToldOf(t *testing.T) {
	w := signedWorld(t)
	require.NoError(t, w.trail.Close())
	path := filepath.Join(w.dir, "audit-00000000000000000001.jsonl")
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	lines := bytes.SplitAfter(text, []byte("\n"))
	require.NoError(t, os.WriteFile(path, bytes.Join(lines[:2], nil), 0o600)) // the end is cut
	w.openTrail()
	for range 3 {
		w.signTrail()
	}
	told := w.events(audit.Filter{Events: []string{"audit.chain_broken"}})
	require.Len(t, told, 1)
	require.Contains(t, told[0].Reason, "is not the one over whose first")
	require.Equal(t, audit.Failed, told[0].Outcome)
	require.Contains(t, w.checkpoint().Checkpoints[0].Problem, "is not the one over whose first")
	require.Equal(t, "v", w.value("/a"))
}

// Retention lets go of what is old, signed, sealed and not needed any more,
// with an event that says what.
func TestRetentionPrunes(t *testing.T) {
	w := newWorld(t)
	require.NoError(t, w.trail.Close())
	var err error
	w.trail, err = audit.Open(audit.Config{Dir: w.dir, Node: "n1", SegmentBytes: 20_000, SyncInterval: time.Millisecond})
	require.NoError(t, err)
	w.engine.Trail = w.trail
	w.engine.MakeAuditKey(t.Context())
	w.ok("secrets/createSecret", `{"path":"/a","value":%q}`, b64("v"))
	for range 150 {
		w.value("/a")
	}
	w.signTrail()
	keys := w.checkpoint().PublicKeys
	w.engine.Retention = audit.Retention{For: 24 * time.Hour}
	needed := uint64(0)
	w.engine.StillNeeded = func() uint64 { return needed }
	prune := func() uint64 {
		w.engine.PruneChains(t.Context())
		return w.trail.PrunedTo()
	}
	require.Zero(t, prune(), "nothing is old")
	w.setNow(time.Now().Add(48 * time.Hour))
	require.Zero(t, prune(), "a sink has taken nothing yet")
	needed = 101
	require.Eventually(t, func() bool { return prune() > 0 }, 20*time.Second, 10*time.Millisecond, "sealing is on its way")
	require.Less(t, w.trail.PrunedTo(), needed)
	told := w.events(audit.Filter{Events: []string{"audit.prune"}})
	require.Contains(t, told[0].Reason, "are not kept any more")
	w.signTrail()
	require.NoError(t, w.trail.Close())
	_, err = audit.VerifySigned(w.dir, w.auditTrust(keys))
	require.NoError(t, err)
	w.openTrail()
}

// Proofs and exports name what is wrong with a question.
func TestQuestionsToChainsAreChecked(t *testing.T) {
	w := signedWorld(t)
	size := w.checkpoint().Checkpoints[0].Size
	for body, want := range map[string]string{
		`{"node":"n1"}`:                                                    "sequence",
		`{"sequence":1}`:                                                   "node",
		`{"node":"n2","sequence":1}`:                                       "node",
		`{"node":"n1","chain":"zz","sequence":1}`:                          "chain",
		`{"node":"n1","chain":"0000","sequence":1}`:                        "chain",
		fmt.Sprintf(`{"node":"n1","sequence":%d}`, size+1):                 "sequence",
		fmt.Sprintf(`{"node":"n1","fromSize":%d,"size":%d}`, size+1, size): "fromSize",
		fmt.Sprintf(`{"node":"n1","sequence":1,"size":%d}`, size+5):        "no checkpoint over",
		`{"node":"n1","sequence":18446744073709551615}`:                    "2^62",
		`{"node":"a b","sequence":1}`:                                      "node",
	} {
		_, err := w.as(w.admin, "audit/getProof", body)
		require.ErrorContains(t, err, want, body)
	}
	for body, want := range map[string]string{
		`{"fromSequence":1}`:                                                  "node",
		`{"node":"n1","fromSequence":2,"toSequence":1}`:                       "toSequence",
		`{"from":"2026-01-02T00:00:00.000Z","to":"2026-01-01T00:00:00.000Z"}`: "to",
		`{"chain":"00"}`: "node",
	} {
		_, err := w.as(w.admin, "audit/exportEvents", body)
		require.ErrorContains(t, err, want, body)
	}
	reader := w.principal("reader", `[{"effect":"allow","roles":["secrets-read-access"],"paths":["/**"]}]`)
	for _, operation := range []string{"audit/getCheckpoint", "audit/getProof", "audit/exportEvents"} {
		_, err := w.as(reader, operation, `{"node":"n1","sequence":1}`)
		if operation != "audit/getProof" {
			_, err = w.as(reader, operation, `{"node":"n1"}`)
		}
		require.Equal(t, fault.AccessDenied, fault.KindOf(err), operation)
	}
}
