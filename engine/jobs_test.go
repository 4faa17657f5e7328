package engine_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/api/wire"
	"github.com/strongroom/strongroom/audit"
	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/internal/fault"
)

// bound makes a key alias/old with n secrets of two versions under it, and a
// key alias/new.
func (w *world) bound(n int) {
	w.t.Helper()
	w.ok("kms/createKey", `{"alias":"alias/old"}`)
	w.ok("kms/createKey", `{"alias":"alias/new"}`)
	for i := range n {
		path := fmt.Sprintf("/app/dev/web/s%03d", i)
		w.ok("secrets/createSecret", `{"path":%q,"kmsKeyId":"alias/old","value":%q}`, path, b64("one of "+path))
		w.put(path, "two of "+path)
	}
}

// lead lets the engine do a leader's work until the test, or stop, ends it.
func (w *world) lead() (stop func()) {
	ctx, cancel := context.WithCancel(w.t.Context())
	done := make(chan struct{})
	go func() { defer close(done); w.engine.RunLeader(ctx) }()
	stop = func() { cancel(); <-done }
	w.t.Cleanup(stop)
	return stop
}

func (w *world) job(id string) wire.JobResponse {
	w.t.Helper()
	return into[wire.JobResponse](w.t, w.ok("cluster/describeJob", `{"jobId":%q}`, id))
}

func (w *world) jobBecomes(id string, state string) wire.JobResponse {
	w.t.Helper()
	var got wire.JobResponse
	require.Eventually(w.t, func() bool { got = w.job(id); return got.State == state }, 30*time.Second, 10*time.Millisecond, "%+v", &got)
	return got
}

// TestMigrationUnderReaders: nobody who reads meanwhile sees an error, an old
// or a wrong value, a new version, or an update; two leaders share the work.
func TestMigrationUnderReaders(t *testing.T) {
	w := newWorld(t)
	const n = 40
	w.bound(n)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var readers sync.WaitGroup
	for r := range 4 {
		readers.Go(func() {
			for i := r; ctx.Err() == nil; i++ {
				path := fmt.Sprintf("/app/dev/web/s%03d", i%n)
				for version, want := range map[int]string{1: "one of ", 2: "two of "} {
					answer, err := w.as(w.admin, "secrets/getSecretValue", fmt.Sprintf(`{"path":%q,"version":%d}`, path, version))
					if err != nil || string(into[wire.GetSecretValueResponse](t, answer).Value.Expose()) != want+path {
						t.Errorf("%s, version %d: %v", path, version, err)
						return
					}
				}
			}
		})
	}
	id := into[wire.MigrateBoundSecretsResponse](t, w.ok("kms/migrateBoundSecrets", `{"fromKeyId":"alias/old","toKeyId":"alias/new","ratePerSecond":60}`)).JobID
	stop := w.lead()
	require.Eventually(t, func() bool { return w.job(id).Done > 0 }, 30*time.Second, time.Millisecond)
	stop() // the first leader is gone in the middle
	require.Equal(t, "running", w.job(id).State)
	w.lead()
	job := w.jobBecomes(id, "done")
	cancel()
	readers.Wait()
	require.EqualValues(t, n, job.Total)
	require.EqualValues(t, n, job.Done)
	require.NotZero(t, job.EmptyIndex)
	require.Zero(t, w.log.machine.State().BoundCount(w.key("alias/old").ID))
	require.EqualValues(t, n, w.log.machine.State().BoundCount(w.key("alias/new").ID))
	history := into[wire.ListSecretVersionsResponse](t, w.ok("secrets/listSecretVersions", `{"path":"/app/dev/web/s000"}`))
	require.Len(t, history.Versions, 2)
	w.ok("kms/disableKey", `{"keyId":"alias/old"}`)
	require.Equal(t, "two of /app/dev/web/s000", w.value("/app/dev/web/s000"))

	// Each data key's two uses are in the trail, under the request that asked
	// for the migration.
	asked := w.named("kms.migrate_bound_secrets")[0]
	require.Len(t, w.events(audit.Filter{Events: []string{"kms.encrypt"}, RequestID: asked.RequestID}), 2*n)
	require.Len(t, w.events(audit.Filter{Events: []string{"kms.decrypt"}, RequestID: asked.RequestID}), 2*n)
}

func TestRetireKeyEndsWithAStatement(t *testing.T) {
	w := newWorld(t)
	w.bound(3)
	w.ok("secrets/createSecret", `{"path":"/app/dev/web/empty","kmsKeyId":"alias/old"}`)
	got := into[wire.RetireKeyResponse](t, w.ok("kms/retireKey", `{"keyId":"alias/old","toKeyId":"alias/new","ratePerSecond":1000}`))
	require.Equal(t, "retiring", got.State)
	_, err := w.as(w.admin, "secrets/putSecretValue", fmt.Sprintf(`{"path":"/app/dev/web/s000","value":%q}`, b64("x")))
	w.refused(fault.KeyNotActive, "retiring", err)
	w.lead()
	job := w.jobBecomes(got.JobID, "done")
	key := into[wire.KeyResponse](t, w.ok("kms/describeKey", `{"keyId":"alias/old"}`))
	require.Equal(t, "disabled", key.State)
	require.Equal(t, job.EmptyIndex, key.EmptyIndex)
	w.put("/app/dev/web/empty", "first")
	require.Equal(t, "first", w.value("/app/dev/web/empty"))

	w.ok("kms/createKey", `{"alias":"alias/unused"}`)
	at := into[wire.RetireKeyResponse](t, w.ok("kms/retireKey", `{"keyId":"alias/unused"}`))
	require.Equal(t, "disabled", at.State)
	require.Empty(t, at.JobID)
	require.NotZero(t, at.EmptyIndex)
}

func TestJobsArePausedResumedAndCancelled(t *testing.T) {
	w := newWorld(t)
	w.bound(5)
	id := into[wire.MigrateBoundSecretsResponse](t, w.ok("kms/migrateBoundSecrets", `{"fromKeyId":"alias/old","toKeyId":"alias/new","ratePerSecond":1}`)).JobID
	require.Equal(t, "paused", into[wire.JobResponse](t, w.ok("cluster/pauseJob", `{"jobId":%q}`, id)).State)
	stop := w.lead()
	require.Equal(t, "running", into[wire.JobResponse](t, w.ok("cluster/resumeJob", `{"jobId":%q}`, id)).State)
	require.Eventually(t, func() bool { return w.job(id).Done >= 1 }, 30*time.Second, time.Millisecond)
	stop()
	require.Less(t, w.job(id).Done, uint64(5), "the rate bounds it")
	w.ok("cluster/cancelJob", `{"jobId":%q}`, id)
	_, err := w.as(w.admin, "cluster/resumeJob", fmt.Sprintf(`{"jobId":%q}`, id))
	w.refused(fault.Conflict, "cancelled", err)
	require.Len(t, into[wire.ListJobsResponse](t, w.ok("cluster/listJobs", `{"state":"cancelled"}`)).Jobs, 1)
	require.Empty(t, into[wire.ListJobsResponse](t, w.ok("cluster/listJobs", `{"state":"running"}`)).Jobs)
	_, err = w.as(w.admin, "cluster/listJobs", `{"state":"other"}`)
	w.refused(fault.InvalidRequest, "state", err)
	_, err = w.as(w.admin, "cluster/describeJob", `{"jobId":"00000000-0000-4000-8000-000000000009"}`)
	w.refused(fault.NotFound, "jobId", err)
	_, err = w.as(w.admin, "cluster/describeJob", `{"jobId":"x"}`)
	w.refused(fault.InvalidRequest, "jobId", err)
}

// TestWhoMayMigrateMayWatch: the right on the key reaches its jobs, and no
// others; a job that is not there looks like one of somebody else.
func TestWhoMayMigrateMayWatch(t *testing.T) {
	w := newWorld(t)
	w.bound(1)
	keeper := w.principal("keeper", `[{"effect":"allow","roles":["kms-admin-access"],"keys":["alias/old","alias/new"]}]`)
	other := w.principal("other", `[{"effect":"allow","roles":["kms-admin-access"],"keys":["alias/default"]}]`)
	answer, err := w.as(keeper, "kms/migrateBoundSecrets", `{"fromKeyId":"alias/old","toKeyId":"alias/new"}`)
	require.NoError(t, err)
	id := into[wire.MigrateBoundSecretsResponse](t, answer).JobID
	for _, operation := range []string{"describeJob", "pauseJob", "resumeJob", "cancelJob"} {
		_, err := w.as(other, "cluster/"+operation, fmt.Sprintf(`{"jobId":%q}`, id))
		w.refused(fault.AccessDenied, "", err)
		_, absent := w.as(other, "cluster/"+operation, `{"jobId":"00000000-0000-4000-8000-000000000009"}`)
		require.Equal(t, publicText(t, err), publicText(t, absent))
		_, err = w.as(keeper, "cluster/"+operation, fmt.Sprintf(`{"jobId":%q}`, id))
		require.NoError(t, err, operation)
	}
	_, err = w.as(other, "kms/migrateBoundSecrets", `{"fromKeyId":"alias/default","toKeyId":"alias/new"}`)
	w.refused(fault.AccessDenied, "", err)
}

// TestAJobWaitsForTheHSMAndFailsForWhatAPersonMustMend.
func TestAJobWaitsForTheHSMAndFailsForWhatAPersonMustMend(t *testing.T) {
	w := newWorld(t)
	w.bound(3)
	w.token.Down.Store(true)
	id := into[wire.MigrateBoundSecretsResponse](t, w.ok("kms/migrateBoundSecrets", `{"fromKeyId":"alias/old","toKeyId":"alias/new","ratePerSecond":1000}`)).JobID
	stop := w.lead()
	require.Never(t, func() bool { return w.job(id).State != "running" }, 300*time.Millisecond, 20*time.Millisecond)
	stop()
	w.token.Down.Store(false)

	// The target is taken away meanwhile.
	w.ok("kms/disableKey", `{"keyId":"alias/new"}`)
	w.lead()
	failed := w.jobBecomes(id, "failed")
	require.Contains(t, failed.Error, "disabled")
	require.EqualValues(t, 3, w.log.machine.State().BoundCount(w.key("alias/old").ID))
	require.Len(t, w.named("cluster.job_failed"), 1)
	w.ok("kms/enableKey", `{"keyId":"alias/new"}`)
	w.ok("cluster/resumeJob", `{"jobId":%q}`, id)
	w.jobBecomes(id, "done")
}

// TestADamagedDataKeyStopsTheJobAndIsNotTouched: moving on would lose it.
func TestADamagedDataKeyStopsTheJobAndIsNotTouched(t *testing.T) {
	w := newWorld(t)
	w.bound(2)
	v := w.log.machine.State().Version("/app/dev/web/s001", 1)
	v.DataKey[len(v.DataKey)-1] ^= 1
	id := into[wire.MigrateBoundSecretsResponse](t, w.ok("kms/migrateBoundSecrets", `{"fromKeyId":"alias/old","toKeyId":"alias/new","ratePerSecond":1000}`)).JobID
	w.lead()
	failed := w.jobBecomes(id, "failed")
	require.Contains(t, failed.Error, "does not open")
	opened := map[string]string{}
	for _, event := range w.named("kms.decrypt") {
		opened[fmt.Sprint(event.Path, " ", event.Version)] = event.Outcome
	}
	require.Equal(t, audit.OK, opened["/app/dev/web/s000 1"], "what a step opened is told, though the step was not done: %v", opened)
	require.Equal(t, audit.Failed, opened["/app/dev/web/s001 1"])
	w.ok("secrets/destroyVersion", `{"path":"/app/dev/web/s001","version":1}`)
	w.ok("cluster/resumeJob", `{"jobId":%q}`, id)
	w.jobBecomes(id, "done")
}

func TestOneSecretIsBoundToAnotherKey(t *testing.T) {
	w := newWorld(t)
	w.bound(2)
	w.ok("secrets/destroyVersion", `{"path":"/app/dev/web/s000","version":1}`)
	w.put("/app/dev/web/s000", "three")
	body := `{"path":"/app/dev/web/s000","kmsKeyId":"alias/new","clientToken":"b-1"}`
	got := into[wire.BindKeyResponse](t, w.ok("secrets/bindKey", "%s", body))
	require.Equal(t, w.key("alias/new").ID, got.KMSKeyID)
	require.Equal(t, 2, got.Versions)
	require.Equal(t, got, into[wire.BindKeyResponse](t, w.ok("secrets/bindKey", "%s", body)), "a retry")
	require.Equal(t, "three", w.value("/app/dev/web/s000"))
	require.Contains(t, w.ok("secrets/getSecretValue", `{"path":"/app/dev/web/s000","version":2}`), b64("two of /app/dev/web/s000"))
	w.put("/app/dev/web/s000", "four")
	require.EqualValues(t, 1, w.log.machine.State().BoundCount(w.key("alias/old").ID))
	event := w.named("secrets.bind_key")[0]
	require.Len(t, event.KMS, 4)
	require.Zero(t, into[wire.BindKeyResponse](t, w.ok("secrets/bindKey", `{"path":"/app/dev/web/s000","kmsKeyId":"alias/new"}`)).Versions)

	token := w.principal("binder", `[{"effect":"allow","actions":["secrets:bindKey"],"paths":["/app/dev/web/**"]},{"effect":"allow","actions":["kms:encrypt"],"keys":["alias/new"]}]`)
	_, err := w.as(token, "secrets/bindKey", `{"path":"/app/dev/web/s001","kmsKeyId":"alias/default"}`)
	w.refused(fault.AccessDenied, "kms:encrypt", err)
	_, err = w.as(token, "secrets/bindKey", `{"path":"/app/dev/web/s001","kmsKeyId":"alias/new"}`)
	require.NoError(t, err)
	for body, want := range map[string]fault.Kind{
		`{"path":"/app/dev/web/none","kmsKeyId":"alias/new"}`:  fault.NotFound,
		`{"path":"/app/dev/web/s001","kmsKeyId":"alias/none"}`: fault.NotFound,
		`{"path":"/app/dev/web/s001","kmsKeyId":"x"}`:          fault.InvalidRequest,
		`{"path":"/app/dev/web/s001"}`:                         fault.InvalidRequest,
	} {
		_, err := w.as(w.admin, "secrets/bindKey", body)
		w.refused(want, "kmsKeyId", errOrPath(err))
	}
}

// errOrPath lets a message about the path pass for the one that names the
// field, where the path is what is wrong.
func errOrPath(err error) error {
	if fault.Is(err, fault.NotFound) {
		return fault.Wrap(fault.NotFound, err, "kmsKeyId")
	}
	return err
}

// TestAStepThatBothLeadersDoIsDoneOnce: the old leader's last step arrives
// after the new one's.
func TestAStepThatBothLeadersDoIsDoneOnce(t *testing.T) {
	w := newWorld(t)
	w.bound(1)
	id := into[wire.MigrateBoundSecretsResponse](t, w.ok("kms/migrateBoundSecrets", `{"fromKeyId":"alias/old","toKeyId":"alias/new"}`)).JobID
	state := w.log.machine.State()
	stop := w.lead()
	w.jobBecomes(id, "done")
	stop()
	moved := w.log.machine.State().Version("/app/dev/web/s000", 1)
	late, err := w.engine.JobStep(t.Context(), state, state.Job(id), 10)
	require.Equal(t, fault.Conflict, fault.KindOf(err), "the job is done: %d", late)
	require.Equal(t, moved, w.log.machine.State().Version("/app/dev/web/s000", 1))
	require.Equal(t, fsm.JobDone, w.log.machine.State().Job(id).State)
}
