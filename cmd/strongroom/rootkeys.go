package main

import (
	"context"
	"encoding/hex"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/strongroom/strongroom/engine"
	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/internal/wrapped"
	"github.com/strongroom/strongroom/pkcs11"
)

// rootKeys is this node's HSM as engine sees it.
type rootKeys struct {
	device   *pkcs11.Device
	admitted []string // fingerprints, hexadecimal
}

// Status implements engine.RootKeys.
func (r rootKeys) Status(ctx context.Context, q engine.RootQuery) (engine.RootStatus, error) {
	var out engine.RootStatus
	out.InUse, out.Making = r.device.RootsInUse()
	if !q.TransportKey {
		return out, nil
	}
	key, err := r.device.TransportKey(ctx)
	if err != nil {
		return engine.RootStatus{}, err
	}
	out.TransportKey, out.Wrap = key.PublicDER, key.Wrap
	return out, nil
}

// MakeRoot implements engine.RootKeys.
func (r rootKeys) MakeRoot(ctx context.Context, version uint32, to []engine.RootRecipient) (fsm.Root, error) {
	recipients := make([]pkcs11.Recipient, 0, len(to))
	for _, t := range to {
		recipients = append(recipients, pkcs11.Recipient(t))
	}
	root, err := r.device.MakeRoot(ctx, version, recipients)
	return rootToState(root), err
}

// Rewrap implements engine.RootKeys.
func (r rootKeys) Rewrap(ctx context.Context, keys []wrapped.Key) ([]wrapped.Key, error) {
	return r.device.Rewrap(ctx, keys)
}

// Admits implements engine.RootKeys.
func (r rootKeys) Admits(fingerprint []byte) bool {
	return slices.ContainsFunc(r.admitted, func(text string) bool { return strings.EqualFold(text, hex.EncodeToString(fingerprint)) })
}

const (
	rootsEvery   = 200 * time.Millisecond
	rootsWaitMax = 10 * time.Second
)

// keepRoots keeps the HSM serving with the root keys of the replicated state,
// whatever becomes of them, and tries until it does. An HSM that has not seen
// a root imports its copy; nothing is ever created here.
func (n *node) keepRoots(ctx context.Context) {
	k := rootKeeper{n: n}
	wait := 50 * time.Millisecond
	for {
		// A log that is being replayed tells of root keys that have been
		// replaced since, and may be gone from the HSM. So this is asked
		// first, and then the state.
		caughtUp := n.raft.CaughtUp()
		state := n.machine.State()
		if genesis := state.Genesis(); genesis != nil && caughtUp {
			if genesis.ClusterID != n.cfg.Cluster.ID {
				n.mustStop(fmt.Errorf("the data in %s is of cluster %s, not of %s", n.cfg.Node.DataDir, genesis.ClusterID, n.cfg.Cluster.ID))
				return
			}
			if k.follow(ctx, state.Roots()) {
				wait = rootsEvery
			} else {
				wait = min(2*wait, rootsWaitMax)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
	}
}

// rootKeeper is what one node has done about root keys.
type rootKeeper struct {
	n       *node
	done    *fsm.Roots      // what the HSM was last brought in step with
	removed map[uint32]bool // versions that are gone from this HSM
	told    string
	turns   importTurns
}

// follow brings the HSM in step with roots and reports whether it is.
func (k *rootKeeper) follow(ctx context.Context, roots *fsm.Roots) bool {
	if roots == k.done {
		return true
	}
	serving := []pkcs11.Root{rootFromState(roots.Current)}
	if roots.Previous != nil {
		serving = append(serving, rootFromState(*roots.Previous))
	}
	if _, err := k.use(ctx, serving, roots.Current.Version); err != nil {
		text := "the root key cannot be used: " + err.Error()
		k.n.root.Store(&text)
		k.tell(text, err)
		k.awaitNext(ctx, roots)
		return false
	}
	if k.n.root.Swap(nil) != nil || k.done == nil || k.done.Current.Version != roots.Current.Version {
		k.n.log.Info("the root key is in use", "rootVersion", roots.Current.Version)
	}
	if roots.Next != nil {
		// One that cannot have the next root goes on with the others; the
		// rotation waits for it.
		mine, err := k.use(ctx, append(serving, rootFromState(*roots.Next)), roots.Current.Version)
		if err != nil && !mine {
			k.note(fmt.Sprintf("the next root key v%d is for another node of this HSM to bring in", roots.Next.Version), err)
			return false
		}
		if err != nil {
			k.tell(fmt.Sprintf("the next root key v%d cannot be used", roots.Next.Version), err)
			return false
		}
		k.n.log.Info("the next root key is ready", "rootVersion", roots.Next.Version)
	}
	if !k.remove(ctx, roots) {
		return false
	}
	k.done, k.told = roots, ""
	return true
}

// awaitNext has an HSM that lacks a root of now serve with the next one alone:
// an HSM that came later, which that root is made for. The rotation waits for
// it. This node is not ready before everything is under that root.
func (k *rootKeeper) awaitNext(ctx context.Context, roots *fsm.Roots) {
	if roots.Next == nil {
		return
	}
	if _, err := k.use(ctx, []pkcs11.Root{rootFromState(*roots.Next)}, roots.Next.Version); err != nil {
		k.n.log.Error("the next root key cannot be used either; trying again", "rootVersion", roots.Next.Version, "error", err)
	}
}

// use makes the HSM serve with roots, and brings in those that it does not
// have if it is this node's turn to, which it reports.
func (k *rootKeeper) use(ctx context.Context, roots []pkcs11.Root, making uint32) (mine bool, err error) {
	if k.turns.mine(k.n.cfg.Node.ID, roots, time.Now()) {
		return true, k.n.device.UseRoots(ctx, roots, making)
	}
	return false, k.n.device.UseFoundRoots(ctx, roots, making)
}

// remove destroys the objects of roots that were replaced and are to go.
func (k *rootKeeper) remove(ctx context.Context, roots *fsm.Roots) bool {
	for _, old := range roots.Retired {
		version := old.Root.Version
		if old.RemovedAt == 0 || k.removed[version] {
			continue
		}
		if err := k.n.device.RemoveRoot(ctx, rootFromState(old.Root)); err != nil {
			k.tell(fmt.Sprintf("the replaced root key v%d cannot be removed from the HSM", version), err)
			return false
		}
		if k.removed == nil {
			k.removed = map[uint32]bool{}
		}
		k.removed[version] = true
		k.n.log.Info("a replaced root key is gone from the HSM", "rootVersion", version)
	}
	return true
}

// tell logs trouble when it is new, not each time.
func (k *rootKeeper) tell(text string, err error) { k.say(slog.LevelError, text+"; trying again", err) }

// note is tell for what is to be expected.
func (k *rootKeeper) note(text string, err error) { k.say(slog.LevelInfo, text, err) }

func (k *rootKeeper) say(level slog.Level, text string, err error) {
	if key := text + err.Error(); key != k.told {
		k.told = key
		k.n.log.Log(context.Background(), level, text, "error", err)
	}
}
