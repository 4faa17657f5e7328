package fsm_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/internal/fault"
	"github.com/strongroom/strongroom/internal/names"
)

// moving is a world with n secrets of two versions under the default key and
// a second key to move them to.
func moving(t *testing.T, n int) *world {
	w := newWorld(t)
	w.ok(fsm.CreateKey{Meta: w.meta(), Key: key(keyID(2))})
	for i := range n {
		w.secret(fmt.Sprintf("/app/s%02d", i), 2)
	}
	return w
}

func (w *world) migrate(id string) fsm.CreateJob {
	return fsm.CreateJob{Meta: w.meta(), Job: fsm.Job{ID: id, Kind: fsm.JobMigrate, From: defaultKey, To: keyID(2), Rate: 10}}
}

// step is the command that moves the given secrets, decided on the state as
// it is now.
func (w *world) step(job string, paths ...string) fsm.RewrapVersions {
	c := fsm.RewrapVersions{Meta: w.meta(), JobID: job, From: defaultKey, To: keyID(2), Paths: paths}
	for _, path := range paths {
		for v := range w.m.State().Versions(names.Path(path)) {
			if v.State != fsm.VersionDestroyed && v.KeyID == defaultKey {
				c.Items = append(c.Items, fsm.Rewrapped{
					Path: path, Version: v.Number, Old: hashOf(string(v.DataKey)), DataKey: []byte("anew"), KeyVersion: 1,
				})
			}
		}
	}
	return c
}

func TestAMigrationMovesDataKeysAndNothingElse(t *testing.T) {
	w := moving(t, 3)
	w.ok(fsm.CreateSecret{Meta: w.meta(), Path: "/app/empty", SecretID: "e", KeyID: defaultKey})
	w.ok(fsm.DeleteSecret{Meta: w.meta(), Path: "/app/s02", PurgeAt: w.now + 8*day})
	before, secret := w.version("/app/s00", 1), w.get("/app/s00")
	require.Equal(t, "job-1", w.ok(w.migrate("job-1")).JobID)
	require.EqualValues(t, 3, w.m.State().Job("job-1").Total)

	first := w.step("job-1", "/app/s00")
	require.Equal(t, 2, w.ok(first).Done)
	after := w.version("/app/s00", 1)
	require.Equal(t, keyID(2), after.KeyID)
	require.Equal(t, []byte("anew"), after.DataKey)
	same := *after
	same.KeyID, same.KeyVersion, same.DataKey = before.KeyID, before.KeyVersion, before.DataKey
	require.Equal(t, *before, same, "nothing else of the version has changed")
	require.Equal(t, secret.UpdatedAt, w.get("/app/s00").UpdatedAt)
	require.Equal(t, secret.Latest, w.get("/app/s00").Latest, "no new version")
	require.Equal(t, keyID(2), w.get("/app/s00").KeyID)
	require.Zero(t, w.ok(first).Done, "a step that comes twice does nothing")
	require.EqualValues(t, 1, w.m.State().Job("job-1").Done)

	// A version that was put meanwhile is not what the step was decided on.
	stale := w.step("job-1", "/app/s01")
	w.ok(w.put("/app/s01"))
	require.Equal(t, 2, w.ok(stale).Done)
	require.EqualValues(t, 2, w.m.State().BoundCount(defaultKey), "its new version is still bound")
	require.Equal(t, keyID(2), w.get("/app/s01").KeyID)

	w.ok(w.step("job-1", "/app/s01", "/app/s02"))
	require.Zero(t, w.m.State().BoundCount(defaultKey))
	require.Equal(t, fsm.JobRunning, w.m.State().Job("job-1").State, "one secret would still put its next version there")
	require.False(t, w.ok(w.step("job-1", "/app/empty")).More)
	job := w.m.State().Job("job-1")
	require.Equal(t, fsm.JobDone, job.State)
	require.EqualValues(t, 3, job.Done)
	require.EqualValues(t, 3, job.Total)
	require.Equal(t, w.index, job.EmptyIndex)
	require.Equal(t, fsm.KeyActive, w.m.State().Key(defaultKey).State, "nobody asked to retire it")
	w.ok(fsm.SetKeyState{Meta: w.meta(), KeyID: defaultKey, State: fsm.KeyDisabled})
}

func TestAStepMovesOnlyWhatItWasDecidedOn(t *testing.T) {
	w := moving(t, 1)
	w.ok(w.migrate("job-1"))
	wrong := w.step("job-1", "/app/s00")
	wrong.Items[0].Old = hashOf("another data key")
	wrong.Items[1].Version = 9
	require.Zero(t, w.ok(wrong).Done)

	destroyed := w.step("job-1", "/app/s00")
	w.ok(w.destroy("/app/s00", 1))
	require.Equal(t, 1, w.ok(destroyed).Done)
	require.Empty(t, w.version("/app/s00", 1).DataKey, "a destroyed version gets no data key back")

	for name, change := range map[string]func(*fsm.RewrapVersions){
		"no version": func(c *fsm.RewrapVersions) { c.Items[0].KeyVersion = 0 },
		"later":      func(c *fsm.RewrapVersions) { c.Items[0].KeyVersion = 2 },
		"no key":     func(c *fsm.RewrapVersions) { c.Items[0].DataKey = nil },
	} {
		t.Run(name, func(t *testing.T) {
			w := moving(t, 1)
			w.t = t
			w.ok(w.migrate("job-1"))
			c := w.step("job-1", "/app/s00")
			change(&c)
			w.refused(fault.InvalidRequest, c)
		})
	}
}

func TestJobRefusals(t *testing.T) {
	w := moving(t, 1)
	change := func(do func(*fsm.Job)) fsm.CreateJob {
		c := w.migrate("job-1")
		do(&c.Job)
		return c
	}
	w.refused(fault.InvalidRequest, change(func(j *fsm.Job) { j.Kind = "other" }), "kind: ")
	w.refused(fault.InvalidRequest, change(func(j *fsm.Job) { j.To = defaultKey }), "toKeyId: ")
	w.refused(fault.NotFound, change(func(j *fsm.Job) { j.To = keyID(9) }), "toKeyId: ")
	w.refused(fault.NotFound, change(func(j *fsm.Job) { j.From = keyID(9) }), "fromKeyId: ")
	w.refused(fault.InvalidRequest, change(func(j *fsm.Job) { j.Rate = 0 }), "ratePerSecond: ")
	w.refused(fault.InvalidRequest, change(func(j *fsm.Job) { j.Rate = 10_001 }), "ratePerSecond: ")
	w.refused(fault.InvalidRequest, change(func(j *fsm.Job) { j.ID = "" }), "jobId: ")
	fsm.ForceKeyState(w.m, keyID(2), fsm.KeyDisabled)
	w.refused(fault.KeyNotActive, w.migrate("job-1"), "toKeyId: ")
	fsm.ForceKeyState(w.m, keyID(2), fsm.KeyActive)

	w.ok(w.migrate("job-1"))
	w.refused(fault.AlreadyExists, w.migrate("job-1"))
	w.refused(fault.Conflict, w.migrate("job-2"), "job-1")
	back := w.migrate("job-2")
	back.Job.From, back.Job.To = keyID(2), defaultKey
	w.refused(fault.Conflict, back, "job-1")
	w.refused(fault.NotFound, w.step("job-9", "/app/s00"))
	other := w.step("job-1", "/app/s00")
	other.To = defaultKey
	w.refused(fault.NotFound, other)
	fsm.ForceKeyState(w.m, keyID(2), fsm.KeyDisabled)
	w.refused(fault.KeyNotActive, w.step("job-1", "/app/s00"), "toKeyId: ")
}

func TestJobStates(t *testing.T) {
	w := moving(t, 2)
	w.ok(w.migrate("job-1"))
	set := func(to fsm.JobState) fsm.SetJobState {
		return fsm.SetJobState{Meta: w.meta(), JobID: "job-1", State: to}
	}
	w.refused(fault.NotFound, fsm.SetJobState{Meta: w.meta(), JobID: "job-9", State: fsm.JobPaused})
	w.refused(fault.Conflict, set(fsm.JobDone))
	w.refused(fault.Conflict, set("other"))
	w.ok(set(fsm.JobPaused))
	w.ok(set(fsm.JobPaused))
	w.refused(fault.Conflict, w.step("job-1", "/app/s00"), "paused")
	w.refused(fault.Conflict, set(fsm.JobFailed))
	w.ok(set(fsm.JobRunning))
	failed := set(fsm.JobFailed)
	failed.Error = "the HSM was away"
	w.ok(failed)
	require.Equal(t, "the HSM was away", w.m.State().Job("job-1").Error)
	w.ok(set(fsm.JobRunning))
	require.Empty(t, w.m.State().Job("job-1").Error)
	w.ok(w.step("job-1", "/app/s00"))
	w.ok(set(fsm.JobCancelled))
	for _, to := range []fsm.JobState{fsm.JobRunning, fsm.JobPaused, fsm.JobFailed} {
		w.refused(fault.Conflict, set(to), "cancelled")
	}
	require.EqualValues(t, 1, w.m.State().BoundCount(defaultKey), "what was moved stays moved")

	w.now += 91 * day
	w.sweep()
	require.Nil(t, w.m.State().Job("job-1"))
}

func TestRetireEndsNewBindingsAndProvesTheEnd(t *testing.T) {
	w := moving(t, 2)
	retire := func(to string) fsm.RetireKey {
		return fsm.RetireKey{Meta: w.meta(), KeyID: defaultKey, Job: fsm.Job{ID: "job-1", To: to, Rate: 10}}
	}
	w.refused(fault.InvalidRequest, retire(""), "toKeyId: ", "2 secrets")
	w.refused(fault.NotFound, retire(keyID(9)))
	require.Equal(t, fsm.KeyActive, w.m.State().Key(defaultKey).State, "a refused retirement leaves the key active")

	w.ok(retire(keyID(2)))
	require.Equal(t, fsm.KeyRetiring, w.m.State().Key(defaultKey).State)
	w.refused(fault.KeyNotActive, w.put("/app/s00"), "retiring")
	w.refused(fault.KeyNotActive, fsm.CreateSecret{Meta: w.meta(), Path: "/b", SecretID: "b", KeyID: defaultKey})
	w.ok(w.step("job-1", "/app/s00"))
	put := w.put("/app/s00")
	put.Version.KeyID = keyID(2)
	w.ok(put) // the new key takes its next version while the job goes on
	w.ok(w.step("job-1", "/app/s01"))
	k := w.m.State().Key(defaultKey)
	require.Equal(t, fsm.KeyDisabled, k.State)
	require.Equal(t, w.index, k.EmptyIndex)
	require.Equal(t, w.index, w.m.State().Job("job-1").EmptyIndex)
	w.ok(fsm.SetKeyState{Meta: w.meta(), KeyID: defaultKey, State: fsm.KeyActive})
	require.Zero(t, w.m.State().Key(defaultKey).EmptyIndex, "active again, the statement is void")
}

func TestRetireOfAnEmptyKeyNeedsNoJob(t *testing.T) {
	w := moving(t, 0)
	w.ok(fsm.RetireKey{Meta: w.meta(), KeyID: keyID(2)})
	k := w.m.State().Key(keyID(2))
	require.Equal(t, fsm.KeyDisabled, k.State)
	require.Equal(t, w.index, k.EmptyIndex)
	for range w.m.State().Jobs("") {
		t.Fatal("there is a job")
	}
}

func TestAKeyThatIsWantedAgainIsNotDisabledByItsOldJob(t *testing.T) {
	w := moving(t, 1)
	w.ok(fsm.RetireKey{Meta: w.meta(), KeyID: defaultKey, Job: fsm.Job{ID: "job-1", To: keyID(2), Rate: 10}})
	w.ok(fsm.SetKeyState{Meta: w.meta(), KeyID: defaultKey, State: fsm.KeyActive})
	w.ok(w.step("job-1", "/app/s00"))
	require.Equal(t, fsm.JobDone, w.m.State().Job("job-1").State)
	require.Equal(t, fsm.KeyActive, w.m.State().Key(defaultKey).State)
}

// TestOneSecretCanChangeItsKey is RewrapVersions without a job.
func TestOneSecretCanChangeItsKey(t *testing.T) {
	w := moving(t, 2)
	w.ok(w.step("", "/app/s00"))
	require.Equal(t, keyID(2), w.get("/app/s00").KeyID)
	require.Equal(t, w.get("/app/s00").UpdatedAt, w.m.State().Time(), "a person's change is an update")
	require.EqualValues(t, 1, w.m.State().BoundCount(defaultKey))
}
