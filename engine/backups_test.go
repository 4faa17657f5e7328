package engine_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/api/wire"
	"github.com/strongroom/strongroom/audit"
	"github.com/strongroom/strongroom/engine"
	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/internal/backup"
	"github.com/strongroom/strongroom/internal/fault"
)

// backedUp has a secret and saves every hour, two snapshots at most.
func backedUp(t *testing.T) (*world, *prometheus.Registry) {
	w := newWorld(t)
	w.ok("secrets/createSecret", `{"path":"/app/dev/web/db","value":%q}`, b64("one"))
	w.put("/app/dev/web/db", "two")
	r := prometheus.NewRegistry()
	w.reborn(func(cfg *engine.Config) {
		cfg.Backups = engine.Backups{Dir: filepath.Join(t.TempDir(), "saved"), Every: time.Hour, Keep: 2}
		cfg.Registerer = r
	})
	require.NoError(t, w.engine.OpenLedger(t.Context()))
	return w, r
}

func (w *world) savedFiles() []backup.Saved {
	w.t.Helper()
	all, err := backup.Folder{Dir: w.engine.Backups.Dir}.List()
	require.NoError(w.t, err)
	return all
}

func (w *world) restored(file []byte) (*fsm.State, error) {
	_, state, err := engine.RestoreBackup(w.t.Context(), bytes.NewReader(file), w.engine.ClusterID, func(backup.Header) (backup.HSM, error) { return w.token, nil })
	return state, err
}

// What is streamed is the state that the request was served at, and opens by
// an HSM of the cluster alone.
func TestASavedSnapshotIsTheState(t *testing.T) {
	w, _ := backedUp(t)
	before := w.log.machine.State()
	file := []byte(w.ok("cluster/saveSnapshot", `{}`))
	require.NotContains(t, string(file), "/app/dev/web")
	state, err := w.restored(file)
	require.NoError(t, err)
	require.Equal(t, before.Hash(), state.Hash())
	require.Equal(t, before.Index(), state.Index())
	require.Equal(t, before.Version("/app/dev/web/db", 2).Sealed, state.Version("/app/dev/web/db", 2).Sealed)

	_, _, err = engine.RestoreBackup(t.Context(), bytes.NewReader(file), "5a0f1f0e-6d2a-4b5b-9f0a-0d8f4c1f5e11", func(backup.Header) (backup.HSM, error) { return w.token, nil })
	require.ErrorContains(t, err, "the backup is of cluster")

	w.token.Down.Store(true)
	_, err = w.as(w.admin, "cluster/saveSnapshot", `{}`)
	w.refused(fault.HsmUnavailable, "", err)
}

func TestWhoMayReadMetadataOnlySavesNoSnapshot(t *testing.T) {
	w, _ := backedUp(t)
	ann := w.principal("ann", `[{"effect":"allow","roles":["cluster-read-access"]},{"effect":"allow","roles":["secrets-full-access"],"paths":["/**"]}]`)
	_, err := w.as(ann, "cluster/saveSnapshot", `{}`)
	w.refused(fault.AccessDenied, "", err)
}

// A node saves at its start and then each hour, reads back what it saved, and
// keeps as many as it should.
func TestANodeSavesOnItsSchedule(t *testing.T) {
	w, r := backedUp(t)
	require.True(t, w.engine.BackupDue())
	w.engine.KeepBackup(t.Context())
	require.False(t, w.engine.BackupDue())
	w.setNow(w.now().Add(time.Hour))
	require.True(t, w.engine.BackupDue())
	for i := range 3 {
		w.put("/app/dev/web/db", fmt.Sprint("more ", i))
		w.setNow(w.now().Add(time.Hour))
		w.engine.KeepBackup(t.Context())
	}
	all := w.savedFiles()
	require.Len(t, all, 2)
	require.Equal(t, []time.Time{w.now(), w.now().Add(-time.Hour)}, []time.Time{all[0].At, all[1].At})
	file, err := os.ReadFile(all[0].Path)
	require.NoError(t, err)
	state, err := w.restored(file)
	require.NoError(t, err)
	require.EqualValues(t, 5, state.Secret("/app/dev/web/db").Latest)

	told := w.events(audit.Filter{Events: []string{"cluster.save_snapshot"}})
	require.Len(t, told, 4)
	require.Equal(t, []string{audit.OK, filepath.Base(all[0].Path)}, []string{told[3].Outcome, told[3].Reason})
	require.NoError(t, testutil.GatherAndCompare(r, bytes.NewBufferString(`
# HELP strongroom_snapshots_saved_total Snapshots that this node saved on its schedule and read back, or could not, by result.
# TYPE strongroom_snapshots_saved_total counter
strongroom_snapshots_saved_total{result="failed"} 0
strongroom_snapshots_saved_total{result="ok"} 4
`), "strongroom_snapshots_saved_total"))
	verified, err := testutil.GatherAndCount(r, "strongroom_snapshot_verified_timestamp_seconds", "strongroom_snapshot_saved_bytes")
	require.NoError(t, err)
	require.Equal(t, 2, verified)

	got := into[wire.VerifySnapshotResponse](t, w.ok("cluster/verifySnapshot", `{}`))
	require.Equal(t, []any{"n1", filepath.Base(all[0].Path), all[0].Size, state.Index(), uint32(1), uint64(1), uint64(5)},
		[]any{got.NodeID, got.File, got.Size, got.Index, got.RootVersion, got.Secrets, got.Versions})
	require.Equal(t, w.now(), got.CreatedAt.Time)
}

func TestASnapshotThatIsNotGoodIsSaidSo(t *testing.T) {
	w, _ := backedUp(t)
	_, err := w.as(w.admin, "cluster/verifySnapshot", `{}`)
	w.refused(fault.NotFound, "has saved no snapshot yet", err)
	w.engine.KeepBackup(t.Context())
	path := w.savedFiles()[0].Path
	file, err := os.ReadFile(path)
	require.NoError(t, err)
	file[len(file)-50] ^= 1
	require.NoError(t, os.WriteFile(path, file, 0o600))
	_, err = w.as(w.admin, "cluster/verifySnapshot", `{}`)
	w.refused(fault.Conflict, "is not good", err)

	w.engine.Backups.Dir = ""
	_, err = w.as(w.admin, "cluster/verifySnapshot", `{}`)
	w.refused(fault.NotFound, "saves no snapshots", err)
}

// A folder that takes nothing, and an HSM that is away: nothing half is left,
// it is told, and the next try does it.
func TestASnapshotThatCannotBeSavedIsTold(t *testing.T) {
	w, _ := backedUp(t)
	w.token.Down.Store(true)
	w.engine.KeepBackup(t.Context())
	require.Empty(t, w.events(audit.Filter{Events: []string{"cluster.save_snapshot"}}), "a node that starts waits for its HSM")
	w.token.Down.Store(false)

	require.NoError(t, os.WriteFile(w.engine.Backups.Dir, []byte("a file"), 0o600))
	w.engine.KeepBackup(t.Context())
	told := w.events(audit.Filter{Events: []string{"cluster.save_snapshot"}})
	require.Len(t, told, 1)
	require.Equal(t, audit.Failed, told[0].Outcome)
	require.True(t, w.engine.BackupDue())

	require.NoError(t, os.Remove(w.engine.Backups.Dir))
	w.engine.KeepBackup(t.Context())
	require.Len(t, w.savedFiles(), 1)
	require.False(t, w.engine.BackupDue())

	w.token.Down.Store(true)
	w.setNow(w.now().Add(time.Hour))
	w.engine.KeepBackup(t.Context())
	require.Len(t, w.savedFiles(), 1, "the good one stays")
	require.Len(t, w.events(audit.Filter{Events: []string{"cluster.save_snapshot"}}), 3)
}

func TestBackupsRunUntilTheNodeStops(t *testing.T) {
	w, _ := backedUp(t)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); w.engine.RunBackups(ctx) }()
	require.Eventually(t, func() bool { return len(w.savedFiles()) == 1 }, 20*time.Second, 10*time.Millisecond)
	cancel()
	<-done
	require.Len(t, w.savedFiles(), 1)
}

// A root key that was replaced may be removed from the HSMs, and then nothing
// opens what was saved under it.
func TestAnotherRootKeyMakesABackupDue(t *testing.T) {
	w, _ := backedUp(t)
	w.engine.KeepBackup(t.Context())
	require.False(t, w.engine.BackupDue())
	w.withRoots()
	path := w.savedFiles()[0].Path
	started := w.rotateRoot()
	w.lead()
	w.jobBecomes(started.JobID, "done")
	require.True(t, w.engine.BackupDue())
	w.setNow(w.now().Add(time.Second))
	w.engine.KeepBackup(t.Context())
	require.False(t, w.engine.BackupDue())
	require.NotEqual(t, path, w.savedFiles()[0].Path)
	require.EqualValues(t, 2, into[wire.VerifySnapshotResponse](t, w.ok("cluster/verifySnapshot", `{}`)).RootVersion)
}
