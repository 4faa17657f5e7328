package fsm_test

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/internal/wrapped"
)

// keyStory holds every kind of the life of keys and of jobs. It is a promise
// to logs like story: append to a new one for what is new.
func keyStory() []fsm.Command {
	at := start
	meta := func() fsm.Meta {
		at += 1000
		return fsm.Meta{Time: at, Principal: "admin", RequestID: fmt.Sprintf("request-%d", at)}
	}
	description := "cards"
	first := newVersion(1, keyID(2))
	waiting := key(keyID(4))
	waiting.State, waiting.Origin, waiting.Versions, waiting.Current = fsm.KeyPendingImport, fsm.OriginImported, nil, 0
	importKey := wrapped.Key{ID: keyID(4), Version: 1, Spec: "rsa-3072", Usage: "import", Wrap: "rfc5649", Root: 1, Blob: []byte("private"), MAC: []byte("mac"), Public: []byte("public")}
	moved := fsm.Rewrapped{Path: "/app/prod/pay/card", Version: 1, Old: hashOf("wrapped data key"), DataKey: []byte("wrapped anew"), KeyVersion: 1}
	return []fsm.Command{
		genesis(start),
		fsm.CreateKey{Meta: meta(), Key: key(keyID(2))},
		fsm.CreateKey{Meta: meta(), Key: key(keyID(3), "alias/next")},
		fsm.CreateKey{Meta: meta(), Key: waiting},
		fsm.UpdateKey{Meta: meta(), KeyID: keyID(2), Description: &description, SetTags: true, Tags: map[string]string{"team": "cards"}},
		fsm.CreateAlias{Meta: meta(), Alias: "alias/cards", KeyID: keyID(2)},
		fsm.CreateAlias{Meta: meta(), Alias: "alias/gone", KeyID: keyID(2)},
		fsm.UpdateAlias{Meta: meta(), Alias: "alias/next", KeyID: keyID(2)},
		fsm.DeleteAlias{Meta: meta(), Alias: "alias/gone"},
		fsm.RotateKey{Meta: meta(), KeyID: keyID(2), Version: keyVersion(keyID(2), 2)},
		fsm.RotateKey{Meta: meta(), KeyID: keyID(2), Version: keyVersion(keyID(2), 2)}, // refused
		fsm.SetKeyRotation{Meta: meta(), KeyID: keyID(2), Period: 90 * day},
		fsm.SetImportKey{Meta: meta(), KeyID: keyID(4), ImportKey: importKey},
		fsm.ImportMaterial{Meta: meta(), KeyID: keyID(4), Version: keyVersion(keyID(4), 1)},
		fsm.ReserveSeals{Meta: meta(), KeyID: keyID(2), Version: 2, Count: 1 << 20},
		fsm.RecordKeyUse{Meta: meta(), Uses: []fsm.KeyUse{{KeyID: keyID(2), At: start + 5000}, {KeyID: keyID(3), At: start + 6000}}},
		fsm.CreateSecret{Meta: meta(), Path: "/app/prod/pay/card", SecretID: "s1", KeyID: keyID(2), First: keyed(first, 2)},
		fsm.ScheduleKeyDeletion{Meta: meta(), KeyID: keyID(2), DueAt: start + 30*day, Reason: "unused"}, // refused
		fsm.ScheduleKeyDeletion{Meta: meta(), KeyID: keyID(4), DueAt: start + 8*day, Reason: "unused"},
		fsm.ScheduleKeyDeletion{Meta: meta(), KeyID: keyID(3), DueAt: start + 30*day, Reason: "a mistake"},
		fsm.CancelKeyDeletion{Meta: meta(), KeyID: keyID(3)},
		fsm.SetKeyState{Meta: meta(), KeyID: keyID(3), State: fsm.KeyActive},
		fsm.CreateJob{Meta: meta(), Job: fsm.Job{ID: "job-1", Kind: fsm.JobMigrate, From: keyID(2), To: keyID(3), Rate: 10}},
		fsm.SetJobState{Meta: meta(), JobID: "job-1", State: fsm.JobFailed, Error: "the HSM was away"},
		fsm.SetJobState{Meta: meta(), JobID: "job-1", State: fsm.JobCancelled},
		fsm.RetireKey{Meta: meta(), KeyID: keyID(2), Job: fsm.Job{ID: "job-2", To: keyID(3), Rate: 100}},
		fsm.RewrapVersions{Meta: meta(), JobID: "job-2", From: keyID(2), To: keyID(3), Items: []fsm.Rewrapped{moved}, Paths: []string{moved.Path}},
		fsm.Sweep{Meta: fsm.Meta{Time: start + 9*day}, Limit: 100},
	}
}

// keyed is v sealed under another version of its key.
func keyed(v fsm.NewVersion, keyVersion uint32) *fsm.NewVersion {
	v.KeyVersion = keyVersion
	return &v
}

func tellKeys(t tester) *world {
	w := emptyWorld(t)
	for _, c := range keyStory() {
		w.do(c)
	}
	return w
}

func TestGoldenKeySnapshot(t *testing.T) {
	w := tellKeys(t)
	old := golden(t, keySnapshotGolden, snapshot(t, w.m))
	m := fsm.New()
	require.NoError(t, m.Restore(bytes.NewReader(old)))
	require.Equal(t, fsm.WithoutHistory(fsm.DumpWithoutChanges(w.m.State())), fsm.WithoutHistory(fsm.DumpWithoutChanges(m.State())))

	state := m.State()
	require.Equal(t, state.Index(), state.Secret("/app/prod/pay/card").Changed, "that build did not say when: at the latest then")
	retired := state.KeyByRef("alias/cards")
	require.Equal(t, fsm.KeyDisabled, retired.State)
	require.NotZero(t, retired.EmptyIndex)
	require.Equal(t, []string{"alias/cards", "alias/next"}, retired.Aliases)
	require.EqualValues(t, 1<<20, retired.Versions[1].Reserved)
	require.Equal(t, start+5000, retired.LastUsedAt)
	require.Equal(t, keyID(3), state.Secret("/app/prod/pay/card").KeyID)
	require.Equal(t, []byte("wrapped anew"), state.Version("/app/prod/pay/card", 1).DataKey)
	require.Equal(t, fsm.KeyDestroyed, state.Key(keyID(4)).State)
	require.Equal(t, fsm.JobCancelled, state.Job("job-1").State)
	require.Equal(t, fsm.JobDone, state.Job("job-2").State)
	require.Equal(t, retired.EmptyIndex, state.Job("job-2").EmptyIndex)
}

func TestOldKeyLogsAreDecidedAlike(t *testing.T) {
	hash := tellKeys(t).m.State().Hash()
	old := golden(t, keyHashGolden, []byte(hex.EncodeToString(hash[:])+"\n"))
	require.Equal(t, strings.TrimSpace(string(old)), hex.EncodeToString(hash[:]))
}

// keepStory holds what came after keyStory.
func keepStory() []fsm.Command {
	meta := fsm.Meta{Time: start, Principal: "admin", RequestID: "request-1", ClientToken: "token-1", Operation: "secrets/putSecretValue", RequestHash: hashOf("token-1")}
	return []fsm.Command{fsm.KeepCurrent{Meta: meta, Path: "/app/prod/pay/db", SecretID: "s1", Version: 3}}
}

func TestGoldenCopySnapshot(t *testing.T) {
	w := emptyWorld(t)
	for _, c := range copyStory() {
		w.ok(c)
	}
	old := golden(t, copySnapshotGolden, snapshot(t, w.m))
	m := fsm.New()
	require.NoError(t, m.Restore(bytes.NewReader(old)))
	require.Equal(t, fsm.WithoutHistory(fsm.Dump(w.m.State())), fsm.WithoutHistory(fsm.Dump(m.State())))
	require.EqualValues(t, 3, m.State().Secret("/app/prod/pay/db").Changed)
	require.EqualValues(t, 4, m.State().Secret("/app/prod/pay/copy").Changed)
}

// copyStory makes a copy of a secret with two live versions.
func copyStory() []fsm.Command {
	at := start
	meta := func() fsm.Meta {
		at += 1000
		return fsm.Meta{Time: at, Principal: "admin", RequestID: fmt.Sprintf("request-%d", at)}
	}
	first := newVersion(1, defaultKey)
	copied := fsm.CopySecret{
		Meta: meta(), Path: "/app/prod/pay/copy", SecretID: "s2", KeyID: defaultKey, ReuseRetired: true, From: "/app/prod/pay/db", FromID: "s1",
	}
	for n := uint64(1); n <= 2; n++ {
		copied.Versions = append(copied.Versions, copiedVersion(n, []byte("wrapped data key")))
	}
	return []fsm.Command{
		genesis(start),
		fsm.CreateSecret{Meta: meta(), Path: "/app/prod/pay/db", SecretID: "s1", KeyID: defaultKey, First: &first},
		fsm.PutVersion{Meta: meta(), Path: "/app/prod/pay/db", SecretID: "s1", Version: newVersion(2, defaultKey), Activate: true},
		copied,
	}
}

// ledgerStory holds the kinds of the consumers' ledger.
func ledgerStory() []fsm.Command {
	at := start
	meta := func() fsm.Meta {
		at += 1000
		return fsm.Meta{Time: at}
	}
	return []fsm.Command{
		fsm.OpenLedger{Meta: meta(), Node: "node1", Trail: "2026-03-04T05:06:07.000Z", Boot: "b1", Durable: true, Sequence: 17},
		fsm.Observe{Meta: meta(), Session: 9, Sequence: 21, Observations: []fsm.Observation{{
			Path: "/app/prod/pay/db", SecretID: "s1", Version: 1, Principal: "svc-pay", Instance: "pod-1", Session: 9,
			First: start, Last: start + 5, Stamp: start*1000 + 5, Until: start + 300_000, Said: start*1000 + 7, SaidAt: start + 7,
		}}},
		fsm.SettleLedger{Meta: meta(), Session: 9, Lost: true},
	}
}
