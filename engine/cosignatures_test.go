package engine_test

import (
	"crypto/ed25519"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/api/wire"
	"github.com/strongroom/strongroom/audit"
	"github.com/strongroom/strongroom/internal/checkpoint"
	"github.com/strongroom/strongroom/internal/fault"
)

// cosigner is a witness with its key.
type cosigner struct {
	checkpoint.Witness
	key ed25519.PrivateKey
}

// strangeWitness makes a witness that nobody has configured.
func (w *world) strangeWitness(name string) cosigner {
	w.t.Helper()
	public, key, err := ed25519.GenerateKey(nil)
	require.NoError(w.t, err)
	text, err := checkpoint.Cosign([]byte("x\n\n"), name, key, w.now())
	require.NoError(w.t, err)
	require.NotEmpty(w.t, text)
	known, err := checkpoint.ParseWitness(name + "+" + b64(string(public)))
	require.NoError(w.t, err)
	return cosigner{known, key}
}

// witness makes one that is configured.
func (w *world) witness(name string) cosigner {
	w.t.Helper()
	c := w.strangeWitness(name)
	w.engine.Witnesses = append(w.engine.Witnesses, c.Witness)
	return c
}

func (w *world) cosign(note string, by cosigner) string {
	w.t.Helper()
	out, err := checkpoint.Cosign([]byte(note), by.Name(), by.key, w.now())
	require.NoError(w.t, err)
	return string(out)
}

// What a known witness cosigned and handed in is shown with the chain, also
// when that has grown, and verifies with the keys of both.
func TestCosignaturesOfKnownWitnessesAreShown(t *testing.T) {
	w := signedWorld(t)
	first, second := w.witness("w1.example.com"), w.witness("w2.example.com")
	old := w.checkpoint().Checkpoints[0]
	require.Empty(t, old.Cosigned)
	note := w.cosign(old.Note, first)
	handIn := func(note string) wire.AddCosignatureResponse {
		t.Helper()
		return into[wire.AddCosignatureResponse](t, w.ok("audit/addCosignature", `{"note":%q}`, note))
	}
	require.Equal(t, wire.AddCosignatureResponse{Node: "n1", Chain: old.Chain, Size: old.Size, Witness: "w1.example.com"}, handIn(note))
	events := w.events(audit.Filter{Events: []string{"audit.add_cosignature"}})
	require.Len(t, events, 1)
	require.Equal(t, fmt.Sprintf("w1.example.com, of n1 up to event %d", old.Size), events[0].Reason)
	require.True(t, handIn(note).Unchanged)
	handIn(w.cosign(old.Note, second))

	w.signTrail()
	now := w.checkpoint()
	require.Greater(t, now.Checkpoints[0].Size, old.Size)
	shown := now.Checkpoints[0].Cosigned
	require.Len(t, shown, 2)
	require.Equal(t, wire.Cosignature{Witness: "w1.example.com", Size: old.Size, Time: old.Time, Note: note}, shown[0])
	trust := w.auditTrust(now.PublicKeys)
	for i, by := range []cosigner{first, second} {
		signed, err := checkpoint.Open([]byte(shown[i].Note), trust.Keys, by.Witness)
		require.NoError(t, err)
		require.Equal(t, []string{by.Name()}, signed.Witnesses)
		trust.Kept = append(trust.Kept, signed)
	}
	report, err := audit.VerifySigned(w.dir, trust)
	require.NoError(t, err)
	require.Equal(t, 2, report.Kept)

	handIn(w.cosign(now.Checkpoints[0].Note, first))
	require.Equal(t, now.Checkpoints[0].Size, w.checkpoint().Checkpoints[0].Cosigned[0].Size, "the newest of each")
	require.True(t, handIn(note).Unchanged, "an older one moves nothing back")
	require.Equal(t, now.Checkpoints[0].Size, w.checkpoint().Checkpoints[0].Cosigned[0].Size)

	// Who is configured no more, or has another key now, is not shown.
	other := w.strangeWitness("w1.example.com")
	w.engine.Witnesses = []checkpoint.Witness{other.Witness}
	require.Empty(t, w.checkpoint().Checkpoints[0].Cosigned)
	w.engine.Witnesses = nil
	require.Empty(t, w.checkpoint().Checkpoints[0].Cosigned)
}

func TestCosignaturesThatAreNotOfAKnownWitnessAreRefused(t *testing.T) {
	w := signedWorld(t)
	old := w.checkpoint().Checkpoints[0]
	stranger := w.strangeWitness("w1")
	_, err := w.as(w.admin, "audit/addCosignature", fmt.Sprintf(`{"note":%q}`, w.cosign(old.Note, stranger)))
	w.refused(fault.Conflict, "audit.witnesses", err)

	known, second := w.witness("w1"), w.witness("w2")
	good := w.cosign(old.Note, known)
	impostor := w.strangeWitness("w1")
	body, _, _ := strings.Cut(old.Note, "\n\n")
	for name, c := range map[string]struct{ note, says string }{
		"nothing":            {"", "note: is missing"},
		"too long":           {good + strings.Repeat("x", 4096), "note: must have at most 4096 bytes"},
		"no cosignature":     {old.Note, "note: is cosigned by no witness of audit.witnesses"},
		"of a stranger":      {w.cosign(old.Note, w.strangeWitness("w9")), "note: is cosigned by no witness of audit.witnesses"},
		"of an impostor":     {w.cosign(old.Note, impostor), "note: is cosigned by no witness of audit.witnesses"},
		"of two":             {w.cosign(good, second), "note: must have two signatures"},
		"and of a stranger":  {w.cosign(good, w.strangeWitness("w9")), "note: must have two signatures"},
		"not of the cluster": {w.cosign(body+"\n\n", known), "note: "},
		"over another size":  {strings.Replace(good, fmt.Sprintf("\n%d\n", old.Size), fmt.Sprintf("\n%d\n", old.Size+1), 1), "note: the signature of"},
		"with a rest":        {good + "x", "note: "},
		"no note":            {"x", "note: it has no signature"},
	} {
		_, err := w.as(w.admin, "audit/addCosignature", fmt.Sprintf(`{"note":%q}`, c.note))
		w.refused(fault.InvalidRequest, c.says, err)
		require.Empty(t, w.checkpoint().Checkpoints[0].Cosigned, name)
	}
}

// A checkpoint that the cluster's key signed and a witness cosigned, and that
// is not of the chain that is here, is what witnesses are for: it is refused,
// and the refusal is on record.
func TestACosignedCheckpointOfAnotherHistoryIsRefused(t *testing.T) {
	w := signedWorld(t)
	known := w.witness("w1")
	now := w.checkpoint()
	signed, err := checkpoint.Open([]byte(now.Checkpoints[0].Note), w.auditTrust(now.PublicKeys).Keys)
	require.NoError(t, err)
	hand := func(c checkpoint.Checkpoint) error {
		note, err := w.engine.SignStatement(t.Context(), c)
		require.NoError(t, err)
		_, err = w.as(w.admin, "audit/addCosignature", fmt.Sprintf(`{"note":%q}`, w.cosign(string(note), known)))
		return err
	}
	other := signed.Checkpoint
	other.Root[0]++
	w.refused(fault.Conflict, "the chain of n1 is not the one that was signed and cosigned", hand(other))
	longer := signed.Checkpoint
	longer.Size += 1000
	w.refused(fault.Conflict, "events are here yet", hand(longer))
	foreign := signed.Checkpoint
	foreign.Node = "n9"
	w.refused(fault.NotFound, "", hand(foreign))
	foreign = signed.Checkpoint
	foreign.Cluster = "another"
	w.refused(fault.InvalidRequest, "note: is of another cluster", hand(foreign))
	events := w.events(audit.Filter{Events: []string{"audit.add_cosignature"}, Outcome: audit.Failed})
	require.Len(t, events, 4)
	require.Equal(t, fmt.Sprintf("w1, of n1 up to event %d", signed.Size), events[0].Reason)
	require.Empty(t, w.checkpoint().Checkpoints[0].Cosigned)
	require.NoError(t, hand(signed.Checkpoint), "the one that it is")
}

// A witness needs three rights and no other; to read the trail is not to hand
// in.
func TestAWitnessNeedsItsOwnRight(t *testing.T) {
	w := signedWorld(t)
	known := w.witness("w1")
	note := w.cosign(w.checkpoint().Checkpoints[0].Note, known)
	reader := w.principal("auditor", `[{"effect":"allow","roles":["audit-read-access"]}]`)
	_, err := w.as(reader, "audit/addCosignature", fmt.Sprintf(`{"note":%q}`, note))
	w.refused(fault.AccessDenied, "", err)
	witness := w.principal("witness", `[{"effect":"allow","actions":["audit:getCheckpoint","audit:getProof","audit:addCosignature"]}]`)
	_, err = w.as(witness, "audit/addCosignature", fmt.Sprintf(`{"note":%q}`, note))
	require.NoError(t, err)
}
