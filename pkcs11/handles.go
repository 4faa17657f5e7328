package pkcs11

import (
	"container/list"
	"crypto"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"runtime"
	"slices"
	"strings"
	"sync"

	"github.com/strongroom/strongroom/internal/wrapped"
)

// handles keeps the keys that are loaded, by the sum of their wrapped form:
// a handle is found again only by the very bytes, MAC included, that were
// checked when it was made. It is bounded; the one used longest ago goes
// first, and none goes while somebody uses it (destroying a key in use makes
// calls fail with transient codes, and HSMs reuse handle numbers).
//
// Handles cannot outlive their generation: a generation is one worker
// process, and the cache dies with it.
type handles struct {
	mu    sync.Mutex
	max   int
	byKey map[[sha256.Size]byte]*list.Element
	order *list.List // of *keyHandle, most recent first
	dead  []uint     // objects that nobody uses, for the anchor to destroy
}

type keyHandle struct {
	sum    [sha256.Size]byte
	object uint
	public crypto.PublicKey // of a pair, as authenticated; never changed
	users  int
	gone   bool // not in the cache any more; the last user buries it
}

func newHandles(max int) *handles {
	return &handles{max: max, byKey: make(map[[sha256.Size]byte]*list.Element), order: list.New()}
}

func (h *handles) len() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.order.Len()
}

// acquire answers the handle for sum, nil when it is not loaded. Whoever gets
// one calls release.
func (h *handles) acquire(sum [sha256.Size]byte) *keyHandle {
	h.mu.Lock()
	defer h.mu.Unlock()
	element, ok := h.byKey[sum]
	if !ok {
		return nil
	}
	h.order.MoveToFront(element)
	k := element.Value.(*keyHandle)
	k.users++
	return k
}

func (h *handles) release(k *keyHandle) {
	h.mu.Lock()
	defer h.mu.Unlock()
	k.users--
	if k.gone && k.users == 0 {
		h.dead = append(h.dead, k.object)
	}
}

// add takes in a new object, acquired for the caller, and lets go of what is
// over the bound.
func (h *handles) add(sum [sha256.Size]byte, object uint, public crypto.PublicKey) *keyHandle {
	h.mu.Lock()
	defer h.mu.Unlock()
	k := &keyHandle{sum: sum, object: object, public: public, users: 1}
	h.byKey[sum] = h.order.PushFront(k)
	h.shrinkTo(h.max)
	return k
}

// drop forgets a handle that the module says is not valid.
func (h *handles) drop(sum [sha256.Size]byte) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if element, ok := h.byKey[sum]; ok {
		h.remove(element)
	}
}

// halve makes room when the HSM says that it has none.
func (h *handles) halve() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.max = max(1, min(h.max, h.order.Len())/2)
	h.shrinkTo(h.max)
}

// shrinkTo removes the oldest handles that nobody uses. Those in use are as
// many as there are sessions at most, so the bound holds but for these.
func (h *handles) shrinkTo(limit int) {
	for element := h.order.Back(); element != nil && h.order.Len() > limit; {
		previous := element.Prev()
		if element.Value.(*keyHandle).users == 0 {
			h.remove(element)
		}
		element = previous
	}
}

func (h *handles) remove(element *list.Element) {
	k := h.order.Remove(element).(*keyHandle)
	delete(h.byKey, k.sum)
	k.gone = true
	if k.users == 0 {
		h.dead = append(h.dead, k.object)
	}
}

func (h *handles) takeDead() []uint {
	h.mu.Lock()
	defer h.mu.Unlock()
	out := h.dead
	h.dead = nil
	return out
}

// anchor is the session that is logged in and owns every loaded key: session
// objects die with the session that made them, and when the last session of a
// token closes the log-in goes too. Its goroutine is the only one to use it.
type anchor struct {
	session uint
	jobs    chan func(session uint)
}

func newAnchor(session uint) *anchor {
	return &anchor{session: session, jobs: make(chan func(uint))}
}

// run serves until the process ends.
func (a *anchor) run() {
	runtime.LockOSThread()
	for job := range a.jobs {
		job(a.session)
	}
}

// do runs job on the anchor session and waits for it.
func (a *anchor) do(job func(session uint) error) error {
	done := make(chan error, 1)
	a.jobs <- func(session uint) { done <- job(session) }
	return <-done
}

// loaded answers the handle of k, acquired: from the cache, or by checking
// and unwrapping it.
func (w *worker) loaded(sum [sha256.Size]byte, k wrapped.Key) (*keyHandle, error) {
	if h := w.keys.acquire(sum); h != nil {
		return h, nil
	}
	var out *keyHandle
	err := w.anchor.do(func(session uint) error {
		if out = w.keys.acquire(sum); out != nil {
			return nil // another session asked for the same key just now
		}
		object, public, err := w.unwrapKey(session, w.root.Load(), k)
		var call *callError
		if errors.As(err, &call) && classes[call.code] == classCapacity {
			w.keys.halve()
			w.bury(session)
			object, public, err = w.unwrapKey(session, w.root.Load(), k)
		}
		if err != nil {
			return err
		}
		out = w.keys.add(sum, object, public)
		w.bury(session)
		return nil
	})
	return out, cannotLoad(err)
}

// cannotLoad tells a failure of unwrapKey. Where the MAC was right the blob is
// ours: if the HSM cannot take it in, the HSM is ill.
func cannotLoad(err error) error {
	var call *callError
	if errors.As(err, &call) && classes[call.code] != classCapacity {
		return fail(statusSick, err, "the HSM cannot load a key")
	}
	return err
}

// bury destroys what the cache let go of. A failure is not one of the
// request's: the object dies with the anchor session at the latest.
func (w *worker) bury(session uint) {
	for _, object := range w.keys.takeDead() {
		_ = w.mod.destroy(session, object)
	}
}

// unwrapKey checks that k is ours, whole, and unwraps it.
func (w *worker) unwrapKey(session uint, root *rootKeys, k wrapped.Key) (uint, crypto.PublicKey, error) {
	kind, public, err := w.checkKey(session, root, k)
	if err != nil {
		return 0, nil, err
	}
	object, err := w.mod.unwrap(session, w.profile.wrapping(kind), root.of(k.Root).key, k.Blob, kind.useTemplate(w.profile.ValueLen))
	return object, public, err
}

// checkKey refuses what is not ours, whole, under one of the roots in use.
//
// The MAC comes first and covers every field: AES key wrap has no associated
// data, so without it one key's blob could be put under another's name, and a
// public half of somebody else's beside a private one. A pair must have a
// public half and no other key may: what is answered as public is what was
// authenticated. All faults of k get the same answer.
func (w *worker) checkKey(session uint, root *rootKeys, k wrapped.Key) (keyKind, crypto.PublicKey, error) {
	under := root.of(k.Root)
	if under == nil {
		return keyKind{}, nil, errCannotUse()
	}
	sum, err := w.mod.hmac(session, under.mac, k.Authenticated())
	if err != nil {
		return keyKind{}, nil, err
	}
	kind, known := specs[specUsage{k.Spec, k.Usage}]
	if !hmac.Equal(sum, k.MAC) || !known || k.Wrap != kind.wrapName() || kind.pair() != (len(k.Public) != 0) {
		return keyKind{}, nil, errCannotUse()
	}
	if !kind.pair() {
		return kind, nil, nil
	}
	public, err := kind.parsePublic(k.Public)
	if err != nil {
		return keyKind{}, nil, errCannotUse()
	}
	return kind, public, nil
}

// serves refuses, in words, the specs that the probe has not seen to work in
// this module, for this usage.
func (w *worker) serves(spec, usage string) error {
	able := slices.Contains(w.profile.Specs, spec)
	switch {
	case usage == wrapped.Sign:
		able = able && w.profile.signs(spec)
	case wrapped.IsPair(spec):
		able = able && len(w.profile.OAEP) > 0
	}
	if able {
		return nil
	}
	return fail(statusInvalid, nil, "the HSM of this node does not serve keys of spec %q for %q: it lacks %s", spec, usage, strings.Join(w.profile.Lacks, "; "))
}

// signs reports whether a key of spec can sign by any algorithm.
func (p Profile) signs(spec string) bool {
	return slices.ContainsFunc(wrapped.SignAlgorithms(spec), func(a string) bool { return slices.Contains(p.Sign, a) })
}
