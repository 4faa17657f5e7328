package engine_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/api/wire"
	"github.com/strongroom/strongroom/audit"
	"github.com/strongroom/strongroom/engine"
	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/internal/fault"
	"github.com/strongroom/strongroom/internal/names"
	"github.com/strongroom/strongroom/internal/secret"
)

const turned = "/app/dev/web/turned"

// waits puts off the step of a rotation that is on its way.
func (w *world) waits(path string, until time.Time) {
	w.t.Helper()
	s := w.log.machine.State().Secret(names.Path(path))
	run := s.Rotation.Run
	command, err := fsm.Encode(fsm.RetryRotation{
		Meta: fsm.Meta{Time: w.now().UnixMilli(), Principal: "system:rotation"}, Path: path, SecretID: s.ID, ID: run.ID,
		Step: run.Step, Attempts: run.Attempts, NextAt: until.UnixMilli(), Error: "the target is away",
	})
	require.NoError(w.t, err)
	result, err := w.log.Propose(context.Background(), command)
	require.NoError(w.t, err)
	require.Nil(w.t, result.Refused)
}

// target is a rotator that keeps the value in force, as a server with one
// user does.
type target struct {
	inForce string
	calls   []string
	fail    map[string]error // by step
	forward bool
	tells   bool
	set     map[string]error // fails after it was done
}

func (f *target) Check(s wire.RotationSettings) error {
	if s.Database == "bad" {
		return fault.Invalid("database", "must be good")
	}
	return nil
}

func (f *target) call(step string, t engine.RotationTask) error {
	f.calls = append(f.calls, fmt.Sprintf("%s %d", step, t.Attempt))
	return f.fail[step]
}

func (f *target) Create(ctx context.Context, t engine.RotationTask) (engine.NewValue, error) {
	if err := f.call("create", t); err != nil {
		return engine.NewValue{}, err
	}
	if _, err := t.OpenAdmin(ctx); err != nil {
		return engine.NewValue{}, err
	}
	made, err := t.Generate(ctx)
	made.ContentType = "text/plain"
	return made, err
}

func (f *target) put(open func(context.Context) (secret.Bytes, error), ctx context.Context) error {
	plain, err := open(ctx)
	if err == nil {
		f.inForce = string(plain.Expose())
	}
	return err
}

func (f *target) Set(ctx context.Context, t engine.RotationTask) error {
	if err := f.call("set", t); err != nil {
		return err
	}
	if err := f.put(t.OpenPending, ctx); err != nil {
		return err
	}
	return f.set["set"]
}

func (f *target) Test(ctx context.Context, t engine.RotationTask) error {
	if err := f.call("test", t); err != nil {
		return err
	}
	plain, err := t.OpenPending(ctx)
	if err == nil && f.inForce != string(plain.Expose()) {
		err = engine.TargetError(nil, "test: the login does not work")
	}
	return err
}

func (f *target) Tells() bool                                         { return f.tells }
func (f *target) Tell(_ context.Context, t engine.RotationTask) error { return f.call("tell", t) }

func (f *target) RollBack(ctx context.Context, t engine.RotationTask) (engine.RolledBack, error) {
	if err := f.call("rollBack", t); err != nil {
		return engine.RolledBack{}, err
	}
	if f.forward {
		return engine.RolledBack{Forward: true}, nil
	}
	return engine.RolledBack{}, f.put(t.OpenCurrent, ctx)
}

// turning makes a secret that is rotated every day at a target of its own.
func turning(t *testing.T) (*world, *target) {
	w := newWorld(t)
	f := &target{inForce: "first value", fail: map[string]error{}, set: map[string]error{}}
	w.engine.Rotators = map[string]engine.Rotator{"postgresql": f}
	w.ok("secrets/createSecret", `{"path":"/app/dev/web/admin","value":%q}`, b64("the admin's"))
	w.ok("secrets/createSecret", `{"path":%q,"value":%q}`, turned, b64(f.inForce))
	w.ok("secrets/updateSecret", `{"path":%q,"rotation":{"kind":"postgresql","interval":"1d","adminSecret":"/app/dev/web/admin"}}`, turned)
	w.admin = w.longToken()
	return w, f
}

func (w *world) rotation() wire.RotationStatus {
	w.t.Helper()
	out := into[wire.DescribeSecretResponse](w.t, w.ok("secrets/describeSecret", `{"path":%q}`, turned))
	require.NotNil(w.t, out.Rotation)
	return *out.Rotation
}

// turns runs the leader's work for a while of the world's clock.
func (w *world) turns(f time.Duration) {
	for range 200 {
		w.engine.RotateSecrets(w.t.Context())
		if f <= 0 {
			return
		}
		step := min(f, time.Minute)
		w.setNow(w.now().Add(step))
		f -= step
	}
}

func TestASecretIsRotatedByItsSchedule(t *testing.T) {
	w, f := turning(t)
	status := w.rotation()
	require.Equal(t, "idle", status.State)
	require.Equal(t, w.now().Add(24*time.Hour), status.NextRotationAt.Time)
	require.Equal(t, "admin", status.SetBy)
	proposed := w.log.proposed
	w.turns(0)
	require.Equal(t, proposed, w.log.proposed, "an idle cluster writes nothing")

	w.setNow(w.now().Add(24 * time.Hour))
	w.turns(0)
	require.Equal(t, []string{"create 1", "set 1", "test 1"}, f.calls)
	require.Equal(t, f.inForce, w.value(turned))
	require.Len(t, f.inForce, 32)
	status = w.rotation()
	require.Equal(t, "idle", status.State)
	require.Equal(t, w.now(), status.LastRotatedAt.Time)
	require.Equal(t, w.now().Add(24*time.Hour), status.NextRotationAt.Time)
	require.False(t, status.Overdue)
	labels := into[wire.DescribeSecretResponse](t, w.ok("secrets/describeSecret", `{"path":%q}`, turned)).Labels
	require.Equal(t, map[string]uint64{"current": 2, "previous": 1}, labels)
}

// TestTheTrailSaysWhatARotationHadInItsHands: each value that is opened, with
// the data keys, under one request id for each step.
func TestTheTrailSaysWhatARotationHadInItsHands(t *testing.T) {
	w, _ := turning(t)
	w.ok("secrets/rotateSecret", `{"path":%q,"reason":"it leaked"}`, turned)
	w.turns(0)
	var told []string
	requests := map[string]bool{}
	for _, e := range w.events(audit.Filter{Principal: "system:rotation"}) {
		requests[e.RequestID] = true
		require.Equal(t, audit.OK, e.Outcome)
		what, _, _ := strings.Cut(e.Reason, " ")
		told = append(told, fmt.Sprintf("%s %s %d %s", e.Event, e.Path[len("/app/dev/web/"):], e.Version, what))
	}
	require.ElementsMatch(t, []string{
		"kms.decrypt admin 1 ", "secrets.get_value admin 1 rotation", "kms.encrypt turned 2 ", "secrets.rotation_step turned 2 create",
		"kms.decrypt turned 2 ", "secrets.get_value turned 2 rotation", "secrets.rotation_step turned 2 set",
		"kms.decrypt turned 2 ", "secrets.get_value turned 2 rotation", "secrets.rotation_step turned 2 test",
		"secrets.rotation_step turned 2 finish",
	}, told)
	require.Len(t, requests, 4)
	asked := w.named("secrets.rotate")
	require.Equal(t, "admin", asked[0].Principal)
	require.Regexp(t, `^start rotation [0-9a-f-]{36}: it leaked$`, asked[0].Reason)
}

// TestALeaderThatIsLostBetweenTwoStepsIsFollowedByAnother: after the target
// was asked and before the step is committed, and after it is committed; each
// time the end is the same, and the current version works.
func TestALeaderThatIsLostBetweenTwoStepsIsFollowedByAnother(t *testing.T) {
	for n := 1; n <= 4; n++ {
		for _, when := range []string{"before", "after"} {
			w, f := turning(t)
			w.ok("secrets/rotateSecret", `{"path":%q}`, turned)
			commits := 0
			cut := func(at string) {
				if commits == n && at == when {
					w.log.lost = true
				}
			}
			w.log.proposing = func() { commits++; cut("before") }
			w.log.committed = func() error {
				cut("after")
				if w.log.lost {
					return fault.New(fault.Uncertain, "lost")
				}
				return nil
			}
			w.turns(0)
			require.True(t, w.log.lost, "%d", n)
			w.log.lost, w.log.proposing, w.log.committed = false, nil, nil
			w.setNow(w.now().Add(time.Second))
			w.turns(0)
			require.Equal(t, f.inForce, w.value(turned), "%d %s", n, when)
			require.Equal(t, "idle", w.rotation().State)
			require.EqualValues(t, 2, into[wire.DescribeSecretResponse](t, w.ok("secrets/describeSecret", `{"path":%q}`, turned)).LatestVersion)
		}
	}
}

// TestAStepThatFailsIsTriedAgainAndThenRolledBack, with growing pauses, and
// the current version works at the end.
func TestAStepThatFailsIsTriedAgainAndThenRolledBack(t *testing.T) {
	for _, step := range []string{"create", "set", "test"} {
		w, f := turning(t)
		f.fail[step] = engine.TargetError(nil, "%s: the server is away", step)
		w.setNow(w.now().Add(24 * time.Hour))
		w.turns(0)
		status := w.rotation()
		require.Equal(t, "running", status.State)
		require.Equal(t, step, status.Step)
		require.EqualValues(t, 1, status.Attempts)
		require.Equal(t, step+": the server is away", status.LastError)
		require.Equal(t, w.now().Add(2*time.Second), status.NextAttemptAt.Time)

		w.turns(14 * time.Minute)
		status = w.rotation()
		require.Equal(t, "failed", status.State, "%+v", status)
		require.EqualValues(t, 1, status.Failures)
		require.Equal(t, step+": the server is away", status.LastError)
		require.True(t, status.Overdue)
		require.NotNil(t, status.NextAttemptAt)
		require.Equal(t, "first value", f.inForce)
		require.Equal(t, "first value", w.value(turned))
		require.Contains(t, f.calls, step+" 5")
		require.NotContains(t, f.calls, step+" 6")
		failed := w.named("secrets.rotation_failed")
		require.Len(t, failed, 1)
		require.Equal(t, "system:rotation", failed[0].Principal)
		require.Contains(t, failed[0].Reason, "the server is away")

		f.fail = map[string]error{}
		w.turns(40 * time.Minute)
		require.Equal(t, "idle", w.rotation().State, "it was tried again")
		require.Equal(t, f.inForce, w.value(turned))
		require.NotEqual(t, "first value", f.inForce)
	}
}

// TestWhatIsInForceAndCannotBeTakenBackGoesForward: the current version does
// not work any more, and the pending one does.
func TestWhatIsInForceAndCannotBeTakenBackGoesForward(t *testing.T) {
	w, f := turning(t)
	f.set["set"] = fault.New(fault.NotFound, "set: the answer was lost")
	f.forward = true
	w.ok("secrets/rotateSecret", `{"path":%q}`, turned)
	w.turns(20 * time.Minute)
	require.Equal(t, "idle", w.rotation().State)
	require.Equal(t, f.inForce, w.value(turned))
	require.NotEqual(t, "first value", f.inForce)
}

func TestTheWayBackIsTriedForAsLongAsItTakes(t *testing.T) {
	w, f := turning(t)
	f.fail["test"] = fault.New(fault.NotFound, "test: no")
	f.fail["rollBack"] = fault.New(fault.NotFound, "rollBack: the server is away")
	w.ok("secrets/rotateSecret", `{"path":%q}`, turned)
	w.turns(3 * time.Hour)
	status := w.rotation()
	require.Equal(t, "rollingBack", status.State)
	require.Greater(t, status.Attempts, uint32(10))
	delete(f.fail, "rollBack")
	w.turns(11 * time.Minute)
	require.Equal(t, "failed", w.rotation().State)
	require.Equal(t, "first value", f.inForce)
	w.turns(3 * time.Hour)
	require.Equal(t, "failed", w.rotation().State, "nobody asked for another one")
}

func TestAPersonCancelsARotationThatIsStuck(t *testing.T) {
	for _, force := range []bool{false, true} {
		w, f := turning(t)
		f.fail["test"] = fault.New(fault.NotFound, "test: no")
		w.setNow(w.now().Add(24 * time.Hour))
		w.turns(0)
		require.Equal(t, "test", w.rotation().Step)
		out := into[wire.RotationResponse](t, w.ok("secrets/cancelRotation", `{"path":%q,"force":%v,"reason":"stuck"}`, turned, force))
		require.Equal(t, map[bool]string{false: "rollingBack", true: "cancelled"}[force], out.State)
		w.turns(0)
		status := w.rotation()
		require.Equal(t, "cancelled", status.State)
		require.Equal(t, "cancelled by admin: stuck", status.LastError)
		require.Equal(t, w.now().Add(24*time.Hour), status.NextRotationAt.Time, "this turn is left out")
		require.Equal(t, !force, f.inForce == "first value")
		versions := into[wire.ListSecretVersionsResponse](t, w.ok("secrets/listSecretVersions", `{"path":%q}`, turned)).Versions
		require.Equal(t, map[bool]string{false: "destroyed", true: "disabled"}[force], versions[0].State)
	}
}

// TestAPersonWhoPutsAValueMeanwhileWins: nothing replaces it, and the target
// is brought to it.
func TestAPersonWhoPutsAValueMeanwhileWins(t *testing.T) {
	w, f := turning(t)
	w.ok("secrets/rotateSecret", `{"path":%q}`, turned)
	for range 3 {
		require.True(t, w.engine.RotationStep(t.Context(), turned))
	}
	w.put(turned, "by hand")
	w.turns(0)
	require.Equal(t, "failed", w.rotation().State)
	require.Contains(t, w.rotation().LastError, "version 3 became current")
	require.Equal(t, "by hand", w.value(turned))
	require.Equal(t, "by hand", f.inForce)
}

// TestAPersonWhoDestroysThePendingVersionEndsTheRotation at once.
func TestAPersonWhoDestroysThePendingVersionEndsTheRotation(t *testing.T) {
	for _, operation := range []string{"destroyVersion", "disableVersion"} {
		w, f := turning(t)
		w.ok("secrets/rotateSecret", `{"path":%q}`, turned)
		for range 2 {
			require.True(t, w.engine.RotationStep(t.Context(), turned))
		}
		w.ok("secrets/"+operation, `{"path":%q,"version":2}`, turned)
		w.turns(0)
		require.Equal(t, "failed", w.rotation().State)
		require.Contains(t, w.rotation().LastError, "version")
		require.Equal(t, "first value", w.value(turned))
		require.Equal(t, "first value", f.inForce)
	}
}

// TestTheTargetThatCannotBeToldDoesNotUndoARotation.
func TestTheTargetThatCannotBeToldDoesNotUndoARotation(t *testing.T) {
	w, f := turning(t)
	f.tells = true
	f.fail["tell"] = fault.New(fault.NotFound, "tell: nobody listens")
	w.ok("secrets/rotateSecret", `{"path":%q}`, turned)
	w.turns(0)
	require.Equal(t, "tell", w.rotation().Step)
	require.Equal(t, f.inForce, w.value(turned), "it is current already")
	w.turns(2 * time.Hour)
	status := w.rotation()
	require.Equal(t, "idle", status.State)
	require.Equal(t, "tell: nobody listens", status.LastError)
	require.Empty(t, w.named("secrets.rotation_failed"))
}

// TestAnHSMThatIsAwaySendsNoRotationBack.
func TestAnHSMThatIsAwaySendsNoRotationBack(t *testing.T) {
	w, f := turning(t)
	f.fail["set"] = fault.New(fault.HsmUnavailable, "the HSM is away")
	w.ok("secrets/rotateSecret", `{"path":%q}`, turned)
	w.turns(2 * time.Hour)
	require.Equal(t, "set", w.rotation().Step)
	delete(f.fail, "set")
	w.turns(11 * time.Minute)
	require.Equal(t, "idle", w.rotation().State)
}

// TestATrailThatIsFullStopsRotations before anything is done.
func TestATrailThatIsFullStopsRotations(t *testing.T) {
	w, f := turning(t)
	w.ok("secrets/rotateSecret", `{"path":%q}`, turned)
	require.NoError(t, w.trail.Close())
	w.turns(0)
	require.Empty(t, f.calls)
}
