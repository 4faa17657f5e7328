package pkcs11

import (
	"bytes"
	"context"
	"errors"
	"slices"

	"github.com/strongroom/strongroom/internal/fault"
	"github.com/strongroom/strongroom/internal/wrapped"
)

// maxRoots bounds the root keys in use at once: one, or two while a rotation
// is on its way.
const maxRoots = 4

// MaxRewrap bounds the keys of one Rewrap, so that it ends well within its
// deadline and its frame.
const MaxRewrap = 16

// MakeRoot makes version of the root key, and its MAC key, inside this HSM.
// They leave it only wrapped to the transport keys of to and to our own, and
// nothing stays behind: what is not in to is fed by nobody. The device goes
// on with the roots that it has; UseRoots takes the new one in. It may be
// called again at any time: a root that nobody uses is lost, and nothing
// depends on it.
func (d *Device) MakeRoot(ctx context.Context, version uint32, to []Recipient) (Root, error) {
	if version == 0 {
		return Root{}, fault.Invalid("version", "must be 1 or more")
	}
	e := newEncoder(1024 * (len(to) + 1))
	e.u32(version)
	putRecipients(e, to)
	var out Root
	d.ceremonies.Lock()
	defer d.ceremonies.Unlock()
	err := d.request(ctx, opCreateRoot, e.b, func(in *decoder) { out = getRoot(in) })
	return out, err
}

// CreateRoot is MakeRoot, and UseRoot of what it made: this HSM imports its
// own copy like any other and is then checked by a fresh worker.
func (d *Device) CreateRoot(ctx context.Context, version uint32, to []Recipient) (Root, error) {
	out, err := d.MakeRoot(ctx, version, to)
	if err != nil {
		return Root{}, err
	}
	if err := d.UseRoot(ctx, out); err != nil {
		return Root{}, err
	}
	return out, nil
}

// UseRoot is UseRoots with one.
func (d *Device) UseRoot(ctx context.Context, r Root) error {
	return d.UseRoots(ctx, []Root{r}, r.Version)
}

// UseRoots makes the device serve with roots: keys open that are wrapped
// under any of them, and new keys are wrapped under version making. The HSM
// must hold exactly those roots: found by name and id, check value, MAC check
// and canary right, and kept in by the HSM. An HSM that has the transport key
// and not yet a root imports it from the root's copies. Nothing is ever
// created. From then on the canary runs every ProbeInterval.
//
// After a failure the device goes on with the roots that it had. A root that
// is in use and not in roots is let go of without a disturbance: when the
// worker is next replaced.
func (d *Device) UseRoots(ctx context.Context, roots []Root, making uint32) error {
	return d.useRoots(ctx, roots, making, true)
}

// UseFoundRoots is UseRoots of roots that must be in the HSM already: it
// imports none. It is for nodes of one HSM: PKCS#11 has no call that looks and
// makes at once, so of several that look and find nothing one may import, and
// the others wait for what it brings. HsmUnavailable says that it is not there
// yet; nothing was disturbed then.
func (d *Device) UseFoundRoots(ctx context.Context, roots []Root, making uint32) error {
	return d.useRoots(ctx, roots, making, false)
}

func (d *Device) useRoots(ctx context.Context, roots []Root, making uint32, mayImport bool) error {
	if err := checkRoots(roots, making); err != nil {
		return err
	}
	d.ceremonies.Lock()
	defer d.ceremonies.Unlock()
	before := d.snapshot()
	if before.conn != nil && holdsAll(before.roots, roots) {
		return d.makeUnder(ctx, roots, making)
	}
	if before.conn != nil && len(before.roots) > 0 {
		// One more root. It is imported beside those that serve, so that an
		// HSM that cannot have it goes on undisturbed.
		for _, r := range roots {
			if holdsAll(before.roots, []Root{r}) {
				continue
			}
			e := newEncoder(8192)
			e.flag(mayImport)
			r.put(e)
			if err := d.request(ctx, opImportRoot, e.b, func(*decoder) {}); err != nil {
				return err
			}
		}
	}
	// With a worker in service every root is in the token by now.
	allowImport := mayImport && (before.conn == nil || len(before.roots) == 0)
	d.change(func(s *deviceState) { s.roots, s.making, s.allowImport = roots, making, allowImport })
	err := d.restart(ctx)
	d.change(func(s *deviceState) {
		s.allowImport = false
		if err != nil {
			s.roots, s.making = before.roots, before.making
		}
	})
	if err != nil && len(before.roots) > 0 {
		return errors.Join(err, d.restart(context.WithoutCancel(ctx)))
	}
	return err
}

func checkRoots(roots []Root, making uint32) error {
	if len(roots) == 0 || len(roots) > maxRoots {
		return fault.Invalid("roots", "must be 1 to %d", maxRoots)
	}
	seen := map[uint32]bool{}
	for _, r := range roots {
		if err := r.check(); err != nil {
			return err
		}
		if seen[r.Version] {
			return fault.Invalid("root", "v%d is there twice", r.Version)
		}
		seen[r.Version] = true
	}
	if !seen[making] {
		return fault.Invalid("making", "must be the version of one of the roots")
	}
	return nil
}

// makeUnder changes the root that new keys are wrapped under, in a worker
// that has it. The next worker is told first: whichever serves from now on
// ends up with the same.
func (d *Device) makeUnder(ctx context.Context, roots []Root, making uint32) error {
	d.change(func(s *deviceState) { s.roots, s.making = roots, making })
	e := newEncoder(4)
	e.u32(making)
	return d.request(ctx, opMakeUnder, e.b, func(*decoder) {})
}

// RootsInUse answers the MAC checks of the roots that the device serves with
// now, in no order, and the version that new keys are wrapped under; nothing
// while it does not serve.
func (d *Device) RootsInUse() (checks [][]byte, making uint32) {
	s := d.snapshot()
	if s.conn == nil {
		return nil, 0
	}
	for _, r := range s.roots {
		checks = append(checks, r.MACCheck)
	}
	return checks, s.making
}

// Rewrap answers keys, at most MaxRewrap of them, each wrapped under the root
// that new keys are made under; they must be wrapped under another one in
// use. It happens inside the HSM, and each key is answered only after its new
// form was loaded again as every use will load it and was found to be the
// same key: what comes back may replace what was given. A key that is not one
// of ours, whole, is InvalidRequest; NotFound says that this HSM has no copy
// of the old root in the Root (it was fed by an export), and another must do.
//
// The roots in use do not let a key out again that they let in. So each key
// passes through a third object that lives for this call: the old root, taken
// in once more from its copy in the Root.
func (d *Device) Rewrap(ctx context.Context, keys []wrapped.Key) ([]wrapped.Key, error) {
	if len(keys) == 0 || len(keys) > MaxRewrap {
		return nil, fault.Invalid("keys", "must be 1 to %d", MaxRewrap)
	}
	room := 0
	for _, k := range keys {
		if keyRoom(k) > maxKeyRoom {
			return nil, errCannotUse().fault()
		}
		room += keyRoom(k)
	}
	e := newEncoder(room)
	putKeys(e, keys)
	out, err := apart(ctx, d, opRewrap, e.b, getKeys)
	if err == nil && len(out) != len(keys) {
		return nil, fault.New(fault.Internal, "the HSM worker answered %d keys for %d", len(out), len(keys))
	}
	return out, err
}

// RemoveRoot destroys the objects of a root that is not in use any more. What
// is still wrapped under it can never be opened again by this HSM. A root
// that is not there is no error.
func (d *Device) RemoveRoot(ctx context.Context, r Root) error {
	if r.Version == 0 || len(r.MACCheck) != 32 {
		return fault.Invalid("root", "is not the description of a root key")
	}
	d.ceremonies.Lock()
	defer d.ceremonies.Unlock()
	s := d.snapshot()
	if len(s.roots) == 0 || slices.ContainsFunc(s.roots, func(used Root) bool { return bytes.Equal(used.MACCheck, r.MACCheck) }) {
		return fault.New(fault.Conflict, "the root key v%d is in use in this HSM, or none is", r.Version)
	}
	if s.conn == nil || holdsAll(s.conn.roots, []Root{r}) {
		// The worker still holds the root of a rotation that has just ended.
		if err := d.restart(ctx); err != nil {
			return err
		}
	}
	e := newEncoder(8192)
	r.put(e)
	return d.request(ctx, opRemoveRoot, e.b, func(*decoder) {})
}

// holdsAll reports whether every one of wanted is in have.
func holdsAll(have, wanted []Root) bool {
	for _, w := range wanted {
		if !slices.ContainsFunc(have, func(h Root) bool { return h.Version == w.Version && bytes.Equal(h.MACCheck, w.MACCheck) }) {
			return false
		}
	}
	return true
}
