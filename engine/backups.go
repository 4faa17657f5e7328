package engine

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/strongroom/strongroom/api/wire"
	"github.com/strongroom/strongroom/audit"
	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/internal/backup"
	"github.com/strongroom/strongroom/internal/fault"
)

// Backups says where this node saves its state, how often, and how many saved
// snapshots stay. Without Dir or Store it saves none.
type Backups struct {
	Dir   string
	Store BackupStore // instead of Dir
	Every time.Duration
	Keep  int // 0, for a Store only: something else removes old ones
}

const (
	backupLook  = time.Second
	backupRetry = time.Minute
)

// backupState is what the metrics tell of this node's saved snapshots.
type backupState struct {
	at   atomic.Int64 // seconds since the epoch, of the newest that was verified; 0: none yet
	size atomic.Int64
	root atomic.Uint32 // version of the root key that opens it
}

func backupOperations() []*Operation {
	return []*Operation{
		streaming(contentFile, operation(row[wire.SaveSnapshotRequest, wire.SaveSnapshotResponse]{
			service: "cluster", name: "saveSnapshot", event: "cluster.save_snapshot",
			summary: "Stream the whole state as a backup, encrypted under a key that only HSMs of the cluster open.",
			scope:   func(*call, *wire.SaveSnapshotRequest) (scope, error) { return scope{}, nil },
			run:     saveSnapshot,
		})),
		operation(row[wire.VerifySnapshotRequest, wire.VerifySnapshotResponse]{
			service: "cluster", name: "verifySnapshot", event: "cluster.verify_snapshot",
			summary: "Open the newest backup that the leader's node has saved, and restore it into a scratch state.",
			scope:   func(*call, *wire.VerifySnapshotRequest) (scope, error) { return scope{}, nil },
			run:     verifySnapshot,
		}),
	}
}

func saveSnapshot(ctx context.Context, c *call, _ *wire.SaveSnapshotRequest) (*wire.SaveSnapshotResponse, error) {
	draft, err := c.engine.draftBackup(ctx, c.state)
	if err != nil {
		return nil, err
	}
	state := c.state
	c.stream = func(_ context.Context, w io.Writer) error { return draft.Write(w, writeState(state)) }
	return &wire.SaveSnapshotResponse{}, nil
}

func writeState(state *fsm.State) func(io.Writer) error {
	return func(w io.Writer) error {
		_, err := state.Snapshot().WriteTo(w)
		return err
	}
}

// draftBackup makes the key of a backup of state.
func (e *Engine) draftBackup(ctx context.Context, state *fsm.State) (*backup.Draft, error) {
	current := state.Roots().Current
	root, err := fsm.EncodeRoot(current)
	if err != nil {
		return nil, err
	}
	hash := state.Hash()
	// The stream goes on when the time of the request is over.
	return backup.Begin(context.WithoutCancel(ctx), e.KMS.HSM(), backup.Header{
		ClusterID: e.ClusterID, Node: e.Node, CreatedAt: e.Now(), Index: state.Index(), StateHash: hash[:], Root: root, RootVersion: current.Version,
	})
}

// RestoreBackup restores a backup into a state of its own, and holds it
// against the backup: every byte is authentic, index and state hash are those
// of its header, and the state writes the same snapshot again. unlock answers
// an HSM that has the root key of the header in use.
func RestoreBackup(ctx context.Context, from io.Reader, clusterID string, unlock func(backup.Header) (backup.HSM, error)) (backup.Header, *fsm.State, error) {
	h, r, err := backup.Open(ctx, from, func(h backup.Header) (backup.HSM, error) {
		if h.ClusterID != clusterID {
			return nil, fmt.Errorf("the backup is of cluster %s, not of %s: its keys would open nothing here", h.ClusterID, clusterID)
		}
		return unlock(h)
	})
	if err != nil {
		return h, nil, err
	}
	read := sha256.New()
	r = io.TeeReader(r, read)
	m := fsm.New()
	if err := m.Restore(r); err != nil {
		return h, nil, fmt.Errorf("the backup cannot be restored: %w", err)
	}
	if n, err := io.Copy(io.Discard, r); err != nil || n > 0 {
		return h, nil, errors.Join(fmt.Errorf("the backup does not end where its state does"), err)
	}
	state := m.State()
	if hash := state.Hash(); state.Index() != h.Index || string(hash[:]) != string(h.StateHash) {
		return h, nil, errors.New("the backup holds another state than its header says")
	}
	again := sha256.New()
	if err := writeState(state)(again); err != nil {
		return h, nil, err
	}
	if string(again.Sum(nil)) != string(read.Sum(nil)) {
		return h, nil, errors.New("the state that was restored is not the one that was saved")
	}
	return h, state, nil
}

func (e *Engine) verifySaved(ctx context.Context, store BackupStore, path string) (backup.Header, *fsm.State, error) {
	in, err := store.Open(ctx, path)
	if err != nil {
		return backup.Header{}, nil, err
	}
	h, state, err := RestoreBackup(ctx, in, e.ClusterID, func(h backup.Header) (backup.HSM, error) {
		roots := e.Log.Local().Roots()
		if h.RootVersion != roots.Current.Version && (roots.Previous == nil || h.RootVersion != roots.Previous.Version) {
			return nil, fmt.Errorf("it was saved under version %d of the root key, which the HSMs of this cluster have no more", h.RootVersion)
		}
		return e.KMS.HSM(), nil
	})
	return h, state, errors.Join(err, in.Close())
}

func verifySnapshot(ctx context.Context, c *call, _ *wire.VerifySnapshotRequest) (*wire.VerifySnapshotResponse, error) {
	e := c.engine
	store := e.Backups.store()
	if store == nil {
		return nil, fault.New(fault.NotFound, "this node, %s, saves no snapshots; snapshots.dir or snapshots.s3Bucket of its configuration says where it should", e.Node)
	}
	all, err := store.List(ctx)
	if err != nil {
		return nil, err
	}
	if len(all) == 0 {
		return nil, fault.New(fault.NotFound, "this node, %s, has saved no snapshot yet; it does so each %v (snapshots.every)", e.Node, e.Backups.Every)
	}
	h, state, err := e.verifySaved(ctx, store, all[0].Path)
	if err != nil {
		return nil, fault.Wrap(fault.Conflict, err, "the snapshot %s of %s is not good: %v", filepath.Base(all[0].Path), e.Node, err)
	}
	e.noteBackup(all[0], h)
	secrets, versions := Holdings(state)
	return &wire.VerifySnapshotResponse{
		NodeID: e.Node, File: filepath.Base(all[0].Path), Size: all[0].Size, CreatedAt: wire.Millis(h.CreatedAt.UnixMilli()), Index: h.Index,
		StateHash: fmt.Sprintf("%x", h.StateHash), RootVersion: h.RootVersion, Secrets: secrets, Versions: versions,
	}, nil
}

// Holdings counts the secrets that are not purged, and their stored versions.
func Holdings(state *fsm.State) (secrets, versions uint64) {
	for s, usage := range state.Usages("/", state.Time()) {
		if s.State != fsm.SecretPurged {
			secrets++
			versions += usage.Versions
		}
	}
	return secrets, versions
}

// backupMetrics tell of backups, also that there are none.
func (e *Engine) backupMetrics(r prometheus.Registerer) {
	if r == nil {
		return
	}
	r.MustRegister(e.metrics.backups, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "strongroom_snapshot_verified_timestamp_seconds",
		Help: "When the newest snapshot that this node saved and verified since its start was saved, in seconds since the Unix epoch; 0 if there is none.",
	}, func() float64 { return float64(e.backups.at.Load()) }), prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "strongroom_snapshot_saved_bytes",
		Help: "Size of that snapshot.",
	}, func() float64 { return float64(e.backups.size.Load()) }))
}

func (e *Engine) noteBackup(saved backup.Saved, h backup.Header) {
	e.backups.root.Store(h.RootVersion)
	e.backups.at.Store(saved.At.Unix())
	e.backups.size.Store(saved.Size)
}

// RunBackups saves the state of this node when it is due, reads each saved
// snapshot back, and removes old ones, until ctx ends. Every node for itself:
// no election and no lost quorum leaves a cluster without backups.
func (e *Engine) RunBackups(ctx context.Context) {
	if e.Backups.store() == nil {
		return
	}
	var next time.Time
	every(ctx, backupLook, func(ctx context.Context) {
		if now := time.Now(); e.backupDue() && !now.Before(next) {
			next = now.Add(e.keepBackup(ctx))
		}
	})
}

// backupDue reports whether the newest snapshot that was verified since the
// start of this node is older than it may be, or under a root key that another
// has replaced: that one may be removed, and then nothing opens it.
func (e *Engine) backupDue() bool {
	state := e.Log.Local()
	at := e.backups.at.Load()
	return state.Genesis() != nil && (at == 0 || e.backups.root.Load() != state.Roots().Current.Version || e.Now().Sub(time.Unix(at, 0)) >= e.Backups.Every)
}

// keepBackup saves, verifies and prunes once, and tells. It answers how long
// to wait before it is tried again, if it is still due.
func (e *Engine) keepBackup(ctx context.Context) time.Duration {
	path, err := e.saveBackup(ctx)
	if fault.Is(err, fault.HsmUnavailable) && e.backups.at.Load() == 0 || fault.Is(err, fault.Conflict) {
		// A node that starts waits for its HSM, and one whose HSM is just being
		// brought to the next root key for that.
		e.Logger.Debug("no snapshot can be saved yet", "error", err)
		return 0
	}
	result, pause := "ok", time.Duration(0)
	if err != nil {
		result, pause = "failed", backupRetry
		e.Logger.Error("a snapshot could not be saved, or is not good; it is tried again", "to", e.Backups.store().String(), "error", err)
	}
	e.metrics.backups.WithLabelValues(result).Inc()
	meta := fsm.Meta{Principal: ownName, RequestID: uuid.NewString()}
	event := audit.Event{Event: "cluster.save_snapshot", Index: e.Log.Local().Index()}
	if err == nil {
		event.Reason = filepath.Base(path)
	}
	e.record(ctx, meta, event, err)
	return pause
}

// saveBackup answers where it saved. What is not good is removed again, and
// takes the place of none.
func (e *Engine) saveBackup(ctx context.Context) (string, error) {
	store, state := e.Backups.store(), e.Log.Local()
	draft, err := e.draftBackup(ctx, state)
	if err != nil {
		return "", err
	}
	saved, err := store.Save(ctx, e.Now(), state.Index(), func(w io.Writer) error { return draft.Write(w, writeState(state)) })
	if err != nil {
		return "", err
	}
	h, _, err := e.verifySaved(ctx, store, saved.Path)
	if err != nil {
		return "", errors.Join(fmt.Errorf("read back: %w", err), store.Remove(ctx, saved.Path))
	}
	e.noteBackup(saved, h)
	return saved.Path, e.pruneBackups(ctx, store)
}
