package fsm_test

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/internal/fault"
	"github.com/strongroom/strongroom/internal/wrapped"
)

// root is the description of version of the root key.
func root(version uint32) fsm.Root {
	return fsm.Root{
		Version: version, MACCheck: hashOf(fmt.Sprint("mac check ", version)), CanaryIV: []byte("iv"), CanaryBox: []byte("box"),
		Canary: wrapped.Key{ID: "canary", Version: 1, Spec: wrapped.AES256, Usage: "encrypt", Wrap: wrapped.RFC3394, Root: version, Blob: []byte("b"), MAC: []byte("m")},
		Copies: []fsm.RootCopy{{NodeID: "node1", Fingerprint: []byte("f"), Wrap: "rsa-oaep-sha1", RootKey: []byte("r"), MACKey: []byte("k")}},
	}
}

// anew is the step's item that brings old under root.
func anew(place fsm.Place, old wrapped.Key, root uint32) fsm.RewrappedKey {
	sum := old.Sum()
	next := old
	next.Root, next.Blob, next.MAC = root, []byte("blob anew"), []byte("mac anew")
	return fsm.RewrappedKey{Place: place, Old: sum[:], Wrapped: next}
}

func fingerprintKey() *wrapped.Key {
	return &wrapped.Key{ID: "fingerprint", Version: 1, Spec: wrapped.HMAC256, Usage: wrapped.MAC, Wrap: wrapped.RFC3394, Root: 1, Blob: []byte("fp"), MAC: []byte("mac")}
}

// startRotation starts the rotation to version, job "rotation".
func (w *world) startRotation(version uint32) fsm.StartRootRotation {
	return fsm.StartRootRotation{Meta: w.meta(), Root: root(version), Job: fsm.Job{ID: fmt.Sprint("rotation-", version), Rate: 100}, FingerprintKey: fingerprintKey()}
}

func (w *world) roots() *fsm.Roots { return w.m.State().Roots() }

// items answers all that is under version, on its way to the next.
func (w *world) items(version uint32) (out []fsm.RewrappedKey) {
	s := w.m.State()
	for k := range s.KeysUnder(version) {
		for place, piece := range k.Pieces() {
			if piece.Root == version {
				out = append(out, anew(place, piece, version+1))
			}
		}
	}
	if k := s.FingerprintKey(); k != nil && k.Root == version {
		out = append(out, anew(fsm.PlaceFingerprint, *k, version+1))
	}
	return out
}

// under counts by looking at every key, which the index must agree with.
func (w *world) under(version uint32) (n uint64) {
	for k := range w.m.State().Keys("") {
		for _, piece := range k.Pieces() {
			if piece.Root == version {
				n++
			}
		}
	}
	if k := w.m.State().FingerprintKey(); k != nil && k.Root == version {
		n++
	}
	require.Equal(w.t, n, w.m.State().MaterialUnder(version))
	return n
}

func TestTheRootIsRotated(t *testing.T) {
	w := newWorld(t)
	w.ok(fsm.CreateKey{Meta: w.meta(), Key: key(keyID(2))})
	w.ok(fsm.RotateKey{Meta: w.meta(), KeyID: keyID(2), Version: keyVersion(keyID(2), 2)})
	waiting := key(keyID(3))
	waiting.State, waiting.Origin, waiting.Versions, waiting.Current = fsm.KeyPendingImport, fsm.OriginImported, nil, 0
	w.ok(fsm.CreateKey{Meta: w.meta(), Key: waiting})
	w.ok(fsm.SetImportKey{Meta: w.meta(), KeyID: keyID(3), ImportKey: wrapped.Key{ID: keyID(3), Version: 1, Spec: "rsa-3072", Usage: "import", Root: 1, Blob: []byte("b"), Public: []byte("p")}})
	require.EqualValues(t, 4, w.under(1))
	before := w.m.State().Key(keyID(2))

	// Nothing may be under a root that is not in use.
	ahead := keyVersion(keyID(2), 3)
	ahead.Wrapped.Root = 2
	w.refused(fault.Conflict, fsm.RotateKey{Meta: w.meta(), KeyID: keyID(2), Version: ahead}, "root key v2")

	w.refused(fault.Conflict, w.startRotation(3), "the next root key is v2")
	started := w.ok(w.startRotation(2))
	require.Equal(t, fsm.Result{Index: w.index, JobID: "rotation-2", RootVersion: 2, State: "running"}, started)
	w.refused(fault.Conflict, w.startRotation(2), "on its way", "rotation-2")
	w.refused(fault.Conflict, fsm.RotateKey{Meta: w.meta(), KeyID: keyID(2), Version: ahead}, "root key v2")
	w.refused(fault.Conflict, fsm.RewrapKeys{Meta: w.meta(), JobID: "rotation-2", Items: w.items(1)}, "no root key is being left")
	w.refused(fault.Conflict, fsm.SwitchRoot{Meta: w.meta(), JobID: "rotation-2", Version: 3}, "not on its way")
	w.refused(fault.NotFound, fsm.SwitchRoot{Meta: w.meta(), JobID: "other", Version: 2})

	w.ok(fsm.SwitchRoot{Meta: w.meta(), JobID: "rotation-2", Version: 2})
	require.EqualValues(t, 2, w.roots().Current.Version)
	require.EqualValues(t, 1, w.roots().Previous.Version)
	require.EqualValues(t, 5, w.m.State().Job("rotation-2").Total, "the fingerprint key too")
	// A node that has not heard yet makes one under the old root: the job finds it.
	w.ok(fsm.RotateKey{Meta: w.meta(), KeyID: keyID(2), Version: keyVersion(keyID(2), 3)})
	w.refused(fault.Conflict, fsm.SetJobState{Meta: w.meta(), JobID: "rotation-2", State: fsm.JobCancelled}, "already", "pauseJob")

	items := w.items(1)
	require.Len(t, items, 6)
	step := w.ok(fsm.RewrapKeys{Meta: w.meta(), JobID: "rotation-2", Items: items[:2]})
	require.Equal(t, 2, step.Done)
	require.True(t, step.More)
	require.EqualValues(t, 4, w.under(1))
	again := w.ok(fsm.RewrapKeys{Meta: w.meta(), JobID: "rotation-2", Items: items[:2]})
	require.Zero(t, again.Done, "two leaders in a hand-over do it once")
	last := w.ok(fsm.RewrapKeys{Meta: w.meta(), JobID: "rotation-2", Items: items})
	require.Equal(t, 4, last.Done)
	require.False(t, last.More)

	job := w.m.State().Job("rotation-2")
	require.Equal(t, fsm.JobDone, job.State)
	require.EqualValues(t, 6, job.Done)
	require.EqualValues(t, 6, job.Total)
	require.Equal(t, w.index, job.EmptyIndex)
	require.Zero(t, w.under(1))
	require.EqualValues(t, 6, w.under(2))
	require.Nil(t, w.roots().Previous)
	require.Len(t, w.roots().Retired, 1)
	require.Empty(t, w.roots().Retired[0].Root.Copies, "the copies of the old root are gone")
	after := w.m.State().Key(keyID(2))
	require.Equal(t, before.Description, after.Description)
	require.Equal(t, w.m.State().Key(keyID(2)).Versions[0].CreatedAt, before.Versions[0].CreatedAt)
	w.refused(fault.Conflict, fsm.RotateKey{Meta: w.meta(), KeyID: keyID(2), Version: keyVersion(keyID(2), 4)}, "v1")

	// Removal is a wish of its own, and done once.
	w.refused(fault.Conflict, fsm.RemoveRoot{Meta: w.meta(), Version: 2}, "not one that has been replaced")
	w.ok(fsm.RemoveRoot{Meta: w.meta(), Version: 1})
	at := w.roots().Retired[0].RemovedAt
	require.NotZero(t, at)
	w.ok(fsm.RemoveRoot{Meta: w.meta(), Version: 1})
	require.Equal(t, at, w.roots().Retired[0].RemovedAt)

	// It all comes back from a snapshot, and goes on from there.
	m := fsm.New()
	require.NoError(t, m.Restore(w.reader()))
	require.Equal(t, fsm.Dump(w.m.State()), fsm.Dump(m.State()))
	require.Equal(t, w.roots(), m.State().Roots())
	w.ok(w.startRotation(3))
	require.NotNil(t, w.m.State().FingerprintKey())
}

// TestARotationThatIsCancelled: nothing is under the new root, so it can go;
// its number is never used again.
func TestARotationThatIsCancelled(t *testing.T) {
	w := newWorld(t)
	w.ok(w.startRotation(2))
	w.ok(fsm.SetJobState{Meta: w.meta(), JobID: "rotation-2", State: fsm.JobPaused})
	w.refused(fault.Conflict, fsm.SwitchRoot{Meta: w.meta(), JobID: "rotation-2", Version: 2}, "paused")
	w.ok(fsm.SetJobState{Meta: w.meta(), JobID: "rotation-2", State: fsm.JobCancelled})
	require.Nil(t, w.roots().Next)
	require.EqualValues(t, 1, w.roots().Current.Version)
	require.NotZero(t, w.roots().Retired[0].RemovedAt, "it goes from the HSMs that have it")
	w.refused(fault.Conflict, w.startRotation(2), "v3")
	w.ok(w.startRotation(3))
}

// TestAStepChangesNothingButTheWrapping: the leader's memory may be the
// attacker's; what a key is stays as it was.
func TestAStepChangesNothingButTheWrapping(t *testing.T) {
	w := newWorld(t)
	w.ok(fsm.CreateKey{Meta: w.meta(), Key: key(keyID(2))})
	w.ok(w.startRotation(2))
	w.ok(fsm.SwitchRoot{Meta: w.meta(), JobID: "rotation-2", Version: 2})
	good := anew(fsm.PlaceVersion, w.m.State().Key(keyID(2)).Versions[0].Wrapped, 2)
	for name, change := range map[string]func(*fsm.RewrappedKey){
		"another key's name": func(i *fsm.RewrappedKey) { i.Wrapped.ID = defaultKey },
		"another version":    func(i *fsm.RewrappedKey) { i.Wrapped.Version = 2 },
		"another spec":       func(i *fsm.RewrappedKey) { i.Wrapped.Spec = wrapped.HMAC256 },
		"another usage":      func(i *fsm.RewrappedKey) { i.Wrapped.Usage = wrapped.MAC },
		"a public half":      func(i *fsm.RewrappedKey) { i.Wrapped.Public = []byte("p") },
		"another wrap":       func(i *fsm.RewrappedKey) { i.Wrapped.Wrap = wrapped.RFC5649 },
		"what is not there":  func(i *fsm.RewrappedKey) { i.Old = hashOf("x") },
		"no such place":      func(i *fsm.RewrappedKey) { i.Place = "x" },
		"not an import":      func(i *fsm.RewrappedKey) { i.Place = fsm.PlaceImport },
		"not that key":       func(i *fsm.RewrappedKey) { i.Place = fsm.PlaceFingerprint },
		"no such key":        func(i *fsm.RewrappedKey) { i.Wrapped.ID = keyID(9) },
	} {
		item := good
		change(&item)
		before, fingerprint := fsm.Dump(w.m.State())["keys"], w.m.State().FingerprintKey()
		require.Zero(t, w.ok(fsm.RewrapKeys{Meta: w.meta(), JobID: "rotation-2", Items: []fsm.RewrappedKey{item}}).Done, name)
		require.Equal(t, before, fsm.Dump(w.m.State())["keys"], name)
		require.Equal(t, fingerprint, w.m.State().FingerprintKey(), name)
	}
	old, empty := good, good
	old.Wrapped.Root, empty.Wrapped.Blob = 1, nil
	for _, item := range []fsm.RewrappedKey{old, empty} {
		w.refused(fault.InvalidRequest, fsm.RewrapKeys{Meta: w.meta(), JobID: "rotation-2", Items: []fsm.RewrappedKey{item}}, "items")
	}
	require.Equal(t, 1, w.ok(fsm.RewrapKeys{Meta: w.meta(), JobID: "rotation-2", Items: []fsm.RewrappedKey{good}}).Done)
}

func TestBeforeGenesisThereIsNoRoot(t *testing.T) {
	w := emptyWorld(t)
	require.Nil(t, w.roots())
	require.Nil(t, w.m.State().FingerprintKey())
	for _, c := range []fsm.Command{w.startRotation(1), fsm.SwitchRoot{Meta: w.meta(), JobID: "j"}, fsm.RewrapKeys{Meta: w.meta(), JobID: "j"}, fsm.RemoveRoot{Meta: w.meta(), Version: 1}} {
		require.NotNil(t, w.do(c).Refused)
	}
}

// rootStory holds every kind of the life of the root key: a promise to logs.
func rootStory() []fsm.Command {
	at := start
	meta := func() fsm.Meta {
		at += 1000
		return fsm.Meta{Time: at, Principal: "admin", RequestID: fmt.Sprintf("request-%d", at)}
	}
	return []fsm.Command{
		genesis(start),
		fsm.CreateKey{Meta: meta(), Key: key(keyID(2))},
		fsm.StartRootRotation{Meta: meta(), Root: root(2), Job: fsm.Job{ID: "rotation", Rate: 10}, FingerprintKey: fingerprintKey()},
		fsm.SwitchRoot{Meta: meta(), JobID: "rotation", Version: 2},
		fsm.RewrapKeys{Meta: meta(), JobID: "rotation", Items: []fsm.RewrappedKey{
			anew(fsm.PlaceVersion, key(keyID(2)).Versions[0].Wrapped, 2), anew(fsm.PlaceFingerprint, *fingerprintKey(), 2)}},
		fsm.RewrapKeys{Meta: meta(), JobID: "rotation", Items: []fsm.RewrappedKey{anew(fsm.PlaceVersion, key(defaultKey).Versions[0].Wrapped, 2)}},
		fsm.RemoveRoot{Meta: meta(), Version: 1},
		fsm.StartRootRotation{Meta: meta(), Root: root(3), Job: fsm.Job{ID: "rotation-2", Rate: 10}},
	}
}

func TestGoldenRoots(t *testing.T) {
	w := emptyWorld(t)
	for _, c := range rootStory() {
		w.ok(c)
	}
	require.EqualValues(t, 2, w.roots().Current.Version)
	require.EqualValues(t, 3, w.roots().Next.Version)
	old := golden(t, rootSnapshotGolden, snapshot(t, w.m))
	m := fsm.New()
	require.NoError(t, m.Restore(bytes.NewReader(old)))
	require.Equal(t, fsm.Dump(w.m.State()), fsm.Dump(m.State()))
	require.Equal(t, w.roots(), m.State().Roots())
	hash := w.m.State().Hash()
	oldHash := golden(t, rootHashGolden, []byte(hex.EncodeToString(hash[:])+"\n"))
	require.Equal(t, strings.TrimSpace(string(oldHash)), hex.EncodeToString(hash[:]))
}
