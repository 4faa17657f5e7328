package fsm

import (
	"bytes"
	"encoding/binary"
	"iter"
	"slices"

	iradix "github.com/hashicorp/go-immutable-radix/v2"

	"github.com/strongroom/strongroom/internal/wrapped"
)

// Bounds of roots.
const (
	maxRootBytes    = 256 << 10 // of one root with its copies, roughly
	maxRetiredRoots = 1000
	maxRewrapItems  = 64
)

// Roots answers the versions of the root key; nil before genesis.
func (s *State) Roots() *Roots { return s.roots }

// FingerprintKey answers the key of fingerprints and request hashes, nil
// before genesis.
func (s *State) FingerprintKey() *wrapped.Key {
	if s.genesis == nil {
		return nil
	}
	return s.genesis.FingerprintKey
}

// KeysUnder answers the keys that have material under version of the root
// key, ordered by id.
func (s *State) KeysUnder(version uint32) iter.Seq[*Key] {
	return func(yield func(*Key) bool) {
		prefix := binary.BigEndian.AppendUint32(nil, version)
		for id := range scan(s.under.Root(), prefix, nil) {
			if !yield(s.Key(string(id[len(prefix):]))) {
				return
			}
		}
	}
}

// MaterialUnder answers how many pieces of key material are under version of
// the root key.
func (s *State) MaterialUnder(version uint32) uint64 {
	return piecesUnder(s.under.Root(), version) + fingerprintUnder(s.genesis, version)
}

func piecesUnder(root *iradix.Node[int], version uint32) (n uint64) {
	for _, pieces := range scan(root, binary.BigEndian.AppendUint32(nil, version), nil) {
		n += uint64(pieces)
	}
	return n
}

func fingerprintUnder(g *Genesis, version uint32) uint64 {
	if g != nil && g.FingerprintKey != nil && g.FingerprintKey.Root == version {
		return 1
	}
	return 0
}

// Pieces answers the key material of k with the place of each.
func (k *Key) Pieces() iter.Seq2[Place, wrapped.Key] {
	return func(yield func(Place, wrapped.Key) bool) {
		for _, v := range k.Versions {
			if len(v.Wrapped.Blob) != 0 && !yield(PlaceVersion, v.Wrapped) {
				return
			}
		}
		if k.ImportKey != nil && len(k.ImportKey.Blob) != 0 {
			yield(PlaceImport, *k.ImportKey)
		}
	}
}

// indexRoots keeps the index of what is under which root in step with a key
// that changes from old, nil for a new one, to k.
func (t *txn) indexRoots(old, k *Key) {
	before, after := rootsOf(old), rootsOf(k)
	for version := range before {
		if after[version] == 0 {
			t.under.remove(underKey(version, k.ID))
		}
	}
	for version, n := range after {
		if before[version] != n {
			t.under.put(underKey(version, k.ID), n)
		}
	}
}

func rootsOf(k *Key) map[uint32]int {
	out := map[uint32]int{}
	if k != nil {
		for _, piece := range k.Pieces() {
			out[piece.Root]++
		}
	}
	return out
}

func underKey(version uint32, keyID string) []byte {
	return append(binary.BigEndian.AppendUint32(nil, version), keyID...)
}

// checkRoot refuses material under a root that is on its way out, or not in
// use yet: it would be lost with it.
func (t *txn) checkRoot(w wrapped.Key) *Refusal {
	switch roots := t.roots; {
	case roots == nil: // genesis brings the root itself
	case w.Root == roots.Current.Version:
	case roots.Previous != nil && w.Root == roots.Previous.Version:
		// Made just before the node heard of the switch; the job moves it.
	default:
		return race("the material is wrapped under root key v%d, and v%d is in use; the root key was rotated just now: retry", w.Root, roots.Current.Version)
	}
	return nil
}

func startRootRotation(t *txn, c StartRootRotation) (Result, *Refusal) {
	if t.roots == nil {
		return Result{}, conflict("the cluster has not been initialised")
	}
	roots := *t.roots
	switch {
	case roots.Next != nil || roots.Previous != nil:
		return Result{}, conflict("a rotation of the root key is on its way: job %s", roots.JobID).with("jobId", roots.JobID)
	case c.Root.Version != roots.Newest()+1:
		return Result{}, race("version: the next root key is v%d", roots.Newest()+1)
	case len(c.Root.MACCheck) != 32 || len(c.Root.CanaryBox) == 0 || len(c.Root.Copies) == 0 || c.Root.size() > maxRootBytes:
		return Result{}, invalid("root", "is not the description of a root key with copies for the HSMs")
	case len(roots.Retired) >= maxRetiredRoots:
		return Result{}, conflict("there have been %d root keys, the most that are kept", len(roots.Retired)+1)
	case c.Job.Rate < 1 || c.Job.Rate > maxJobRate:
		return Result{}, invalid("ratePerSecond", "must be 1 to %d", maxJobRate)
	}
	if r := checkName("jobId", c.Job.ID); r != nil {
		return Result{}, r
	}
	if r := t.checkJobs(c.Job.ID, "", ""); r != nil {
		return Result{}, r
	}
	if t.genesis.FingerprintKey == nil && c.FingerprintKey != nil {
		if r := t.checkRoot(*c.FingerprintKey); r != nil {
			return Result{}, r
		}
		genesis := *t.genesis
		genesis.FingerprintKey = c.FingerprintKey
		t.genesis = &genesis
	}
	next := c.Root
	roots.Next, roots.JobID = &next, c.Job.ID
	t.roots = &roots
	t.putJob(&Job{
		ID: c.Job.ID, Kind: JobRotateRoot, State: JobRunning, Rate: c.Job.Rate, RootVersion: next.Version,
		Total:     t.materialUnder(roots.Current.Version),
		CreatedAt: t.now, CreatedBy: t.by, RequestID: c.Meta.RequestID, UpdatedAt: t.now,
	})
	return Result{JobID: c.Job.ID, RootVersion: next.Version, State: string(JobRunning)}, nil
}

// first reports whether nothing has happened to the root since genesis, which
// then tells all.
func (r *Roots) first() bool { return r.Next == nil && r.Previous == nil && len(r.Retired) == 0 }

// Newest answers the highest version that there ever was: none is used twice.
func (r *Roots) Newest() uint32 {
	newest := r.Current.Version
	for _, old := range r.Retired {
		newest = max(newest, old.Root.Version)
	}
	return newest
}

func (r *Root) size() int {
	n := len(r.CheckValue) + len(r.MACCheck) + len(r.Canary.Blob) + len(r.CanaryBox)
	for _, c := range r.Copies {
		n += len(c.NodeID) + len(c.Fingerprint) + len(c.RootKey) + len(c.MACKey)
	}
	return n
}

func (t *txn) materialUnder(version uint32) uint64 {
	return piecesUnder(t.under.root(), version) + fingerprintUnder(t.genesis, version)
}

// rotation answers the job of a root rotation while it may go on.
func (t *txn) rotation(jobID string) (*Job, *Refusal) {
	job := t.jobs.value([]byte(jobID))
	switch {
	case job == nil || job.Kind != JobRotateRoot:
		return nil, notFound("jobId: there is no rotation of the root key %.64s", jobID)
	case job.State != JobRunning:
		return nil, conflict("jobId: the job is %s", job.State).with("jobId", job.ID).with("state", string(job.State))
	}
	return job, nil
}

func switchRoot(t *txn, c SwitchRoot) (Result, *Refusal) {
	job, r := t.rotation(c.JobID)
	if r != nil {
		return Result{}, r
	}
	roots := *t.roots
	if roots.Next == nil || roots.Next.Version != c.Version {
		return Result{}, conflict("version: root key v%d is not on its way", c.Version)
	}
	previous := roots.Current
	roots.Previous, roots.Current, roots.Next = &previous, *roots.Next, nil
	t.roots = &roots
	next := *job
	next.Total, next.UpdatedAt = t.materialUnder(previous.Version), t.now
	t.putJob(&next)
	return Result{JobID: job.ID, RootVersion: c.Version, State: string(job.State), More: true}, nil
}

func rewrapKeys(t *txn, c RewrapKeys) (Result, *Refusal) {
	job, r := t.rotation(c.JobID)
	switch {
	case r != nil:
		return Result{}, r
	case t.roots.Previous == nil:
		return Result{}, conflict("jobId: no root key is being left")
	case len(c.Items) > maxRewrapItems:
		return Result{}, invalid("items", "are more than %d", maxRewrapItems)
	}
	previous := t.roots.Previous.Version
	done := 0
	for _, item := range c.Items {
		moved, r := t.rewrapKey(item)
		if r != nil {
			return Result{}, r
		}
		if moved {
			done++
		}
	}
	next := *job
	next.Done += uint64(done)
	left := t.materialUnder(previous)
	next.Total, next.UpdatedAt = max(next.Total, next.Done+left), t.now
	if left == 0 {
		t.endRotation(&next)
	}
	t.putJob(&next)
	return Result{JobID: job.ID, RootVersion: t.roots.Current.Version, State: string(next.State), Done: done, More: next.State == JobRunning}, nil
}

// endRotation lets the previous root go, at the index at which nothing is
// under it. Its copies are erased: they are what a thief of the state and a
// PIN could have taken the old root in from.
func (t *txn) endRotation(job *Job) {
	roots := *t.roots
	roots.retire(*roots.Previous, t.now, 0)
	roots.Previous, roots.JobID = nil, ""
	t.roots = &roots
	job.State, job.FinishedAt, job.EmptyIndex, job.Error, job.Total = JobDone, t.now, t.index, "", job.Done
}

func (r *Roots) retire(root Root, at, removedAt int64) {
	root.Copies = nil
	r.Retired = append(slices.Clone(r.Retired), RetiredRoot{Root: root, RetiredAt: at, RemovedAt: removedAt})
}

// cancelRotation takes back a root that nothing is under yet. Its objects go
// from the HSMs that have them by now.
func (t *txn) cancelRotation(job *Job) *Refusal {
	if t.roots.Next == nil || t.roots.JobID != job.ID {
		return conflict("jobId: keys are under the new root key already; pauseJob holds the rotation, and it can only go on").with("jobId", job.ID)
	}
	roots := *t.roots
	roots.retire(*roots.Next, t.now, t.now)
	roots.Next, roots.JobID = nil, ""
	t.roots = &roots
	return nil
}

// rewrapKey replaces one piece, if it is as it was. All but root, blob and
// MAC must stay: a rotation never changes what a key is.
func (t *txn) rewrapKey(item RewrappedKey) (bool, *Refusal) {
	w := item.Wrapped
	if w.Root != t.roots.Current.Version || len(w.Blob) == 0 {
		return false, invalid("items", "hold material that is not under the current root key")
	}
	fits := func(old wrapped.Key) bool {
		sum := old.Sum()
		return bytes.Equal(sum[:], item.Old) && old.Root == t.roots.Previous.Version && old.ID == w.ID && old.Version == w.Version &&
			old.Spec == w.Spec && old.Usage == w.Usage && old.Wrap == w.Wrap && bytes.Equal(old.Public, w.Public)
	}
	if item.Place == PlaceFingerprint {
		if t.genesis.FingerprintKey == nil || !fits(*t.genesis.FingerprintKey) {
			return false, nil
		}
		genesis := *t.genesis
		genesis.FingerprintKey = &w
		t.genesis = &genesis
		return true, nil
	}
	key := t.keys.value([]byte(w.ID))
	if key == nil {
		return false, nil
	}
	next := *key
	switch {
	case item.Place == PlaceImport && key.ImportKey != nil && fits(*key.ImportKey):
		next.ImportKey = &w
	case item.Place == PlaceVersion && w.Version >= 1 && int(w.Version) <= len(key.Versions) && fits(key.Versions[w.Version-1].Wrapped):
		next.Versions = slices.Clone(key.Versions)
		next.Versions[w.Version-1].Wrapped = w
	default:
		return false, nil
	}
	// Nothing that anybody would notice about the key has changed.
	t.putKey(&next)
	return true, nil
}

func removeRoot(t *txn, c RemoveRoot) (Result, *Refusal) {
	if t.roots == nil {
		return Result{}, conflict("the cluster has not been initialised")
	}
	roots := *t.roots
	i := slices.IndexFunc(roots.Retired, func(r RetiredRoot) bool { return r.Root.Version == c.Version })
	if i < 0 {
		return Result{}, conflict("version: root key v%d is not one that has been replaced", c.Version)
	}
	if roots.Retired[i].RemovedAt == 0 {
		roots.Retired = slices.Clone(roots.Retired)
		roots.Retired[i].RemovedAt = t.now
		t.roots = &roots
	}
	return Result{RootVersion: c.Version, State: "removed"}, nil
}
