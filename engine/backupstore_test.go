package engine_test

import (
	"bytes"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/audit"
	"github.com/strongroom/strongroom/engine"
	"github.com/strongroom/strongroom/internal/fault"
	"github.com/strongroom/strongroom/internal/objectstore"
	object "github.com/strongroom/strongroom/test/objectstore"
)

// inBucket is backedUp with a bucket of a store that checks signatures.
func inBucket(t *testing.T) (*world, *object.Server, *objectstore.Bucket, *prometheus.Registry) {
	w := newWorld(t)
	w.ok("secrets/createSecret", `{"path":"/app/dev/web/db","value":%q}`, b64("one"))
	s := object.Start(t, "backups")
	bucket, err := objectstore.New(objectstore.Config{
		Endpoint: s.URL, Region: "us-east-1", Bucket: "backups", PathStyle: true, Credentials: "file",
		CredentialsFile: object.Credentials(t, object.Secret), ClusterID: w.engine.ClusterID, Node: "n1",
	})
	require.NoError(t, err)
	r := prometheus.NewRegistry()
	w.reborn(func(cfg *engine.Config) {
		cfg.Backups = engine.Backups{Store: bucket, Every: time.Hour, Keep: 2}
		cfg.Registerer = r
	})
	require.NoError(t, w.engine.OpenLedger(t.Context()))
	return w, s, bucket, r
}

// A node saves to a bucket as to a folder: on its schedule, read back each time,
// so many kept, with an event for each.
func TestANodeSavesToABucket(t *testing.T) {
	w, s, bucket, _ := inBucket(t)
	for i := range 4 {
		w.put("/app/dev/web/db", fmt.Sprint("more ", i))
		w.setNow(w.now().Add(time.Hour))
		require.True(t, w.engine.BackupDue())
		w.engine.KeepBackup(t.Context())
		require.False(t, w.engine.BackupDue())
	}
	all, err := bucket.List(t.Context())
	require.NoError(t, err)
	require.Len(t, all, 2)
	file := s.Object(all[0].Path)
	require.NotContains(t, string(file), "/app/dev/web")
	state, err := w.restored(file)
	require.NoError(t, err)
	require.EqualValues(t, 5, state.Secret("/app/dev/web/db").Latest)
	told := w.events(audit.Filter{Events: []string{"cluster.save_snapshot"}})
	require.Len(t, told, 4)
	require.Equal(t, []string{audit.OK, filepath.Base(all[0].Path)}, []string{told[3].Outcome, told[3].Reason})

	// With Keep 0 something else removes what is old.
	w.engine.Backups.Keep = 0
	w.setNow(w.now().Add(time.Hour))
	w.engine.KeepBackup(t.Context())
	all, err = bucket.List(t.Context())
	require.NoError(t, err)
	require.Len(t, all, 3)
}

// What the store gives back is believed only when it has proven itself.
func TestAnObjectThatWasChangedIsRefused(t *testing.T) {
	w, s, bucket, _ := inBucket(t)
	w.engine.KeepBackup(t.Context())
	w.ok("cluster/verifySnapshot", `{}`)
	all, err := bucket.List(t.Context())
	require.NoError(t, err)
	good := s.Object(all[0].Path)
	for _, at := range []int{0, len(good) / 2, len(good) - 1} {
		bad := bytes.Clone(good)
		bad[at] ^= 1
		s.Put(all[0].Path, bad)
		_, err = w.as(w.admin, "cluster/verifySnapshot", `{}`)
		w.refused(fault.Conflict, "is not good", err)
	}
	s.Put(all[0].Path, good[:len(good)-1])
	_, err = w.as(w.admin, "cluster/verifySnapshot", `{}`)
	w.refused(fault.Conflict, "is not good", err)
	s.Put(all[0].Path, good)
	w.ok("cluster/verifySnapshot", `{}`)
}

// A store that is gone is told by event and metric, and the backup stays due.
func TestAStoreThatIsGoneIsTold(t *testing.T) {
	w, s, _, r := inBucket(t)
	s.Kill()
	w.engine.KeepBackup(t.Context())
	require.True(t, w.engine.BackupDue())
	told := w.events(audit.Filter{Events: []string{"cluster.save_snapshot"}})
	require.Len(t, told, 1)
	require.Equal(t, audit.Failed, told[0].Outcome)
	require.NotContains(t, fmt.Sprint(told), object.Secret)
	require.NoError(t, testutil.GatherAndCompare(r, bytes.NewBufferString(`
# HELP strongroom_snapshots_saved_total Snapshots that this node saved on its schedule and read back, or could not, by result.
# TYPE strongroom_snapshots_saved_total counter
strongroom_snapshots_saved_total{result="failed"} 1
strongroom_snapshots_saved_total{result="ok"} 0
`), "strongroom_snapshots_saved_total"))
}
