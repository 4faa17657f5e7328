package engine

import (
	"context"
	"crypto/sha256"
	"time"

	"golang.org/x/time/rate"

	"github.com/strongroom/strongroom/audit"
	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/internal/fault"
	"github.com/strongroom/strongroom/internal/names"
	"github.com/strongroom/strongroom/kms"
)

// Pace of jobs.
const (
	jobEvery  = 100 * time.Millisecond
	jobPause  = time.Second // after a step that could not be done now
	stepPaths = 50          // secrets of one step, at most
	stepItems = 200         // versions of one step, so that its command stays small
)

// runJobs works on all running jobs in turn until ctx ends with the
// leadership. All that a job is lies in the state: the next leader goes on
// where this one stopped, and what both did is done once (each item of a step
// carries what it replaces).
func (e *Engine) runJobs(ctx context.Context) {
	pace := map[string]*rate.Limiter{}
	every(ctx, jobEvery, func(ctx context.Context) {
		// Only to see whether there is work, so that a leader without any asks
		// no majority ten times a second; runJob reads what it works on anew.
		running := map[string]*rate.Limiter{}
		for job := range e.Log.Local().Jobs("") {
			if job.State != fsm.JobRunning || job.Kind != fsm.JobMigrate {
				continue
			}
			limiter := pace[job.ID]
			if limiter == nil {
				limiter = rate.NewLimiter(rate.Limit(job.Rate), max(1, min(int(job.Rate)/10, stepPaths)))
			}
			running[job.ID] = limiter
			e.runJob(ctx, job, limiter)
		}
		pace = running
	})
}

// runJob does the steps of one job that its rate allows now.
func (e *Engine) runJob(ctx context.Context, job *fsm.Job, limiter *rate.Limiter) {
	for ctx.Err() == nil {
		n := min(int(limiter.Tokens()), stepPaths)
		if n < 1 || e.Trail.Ready() != nil {
			return
		}
		state, err := e.Log.ReadState(ctx)
		if err != nil {
			return
		}
		if job = state.Job(job.ID); job == nil || job.State != fsm.JobRunning {
			return
		}
		moved, err := e.jobStep(ctx, state, job, n)
		limiter.ReserveN(time.Now(), max(1, min(moved, limiter.Burst())))
		if err != nil {
			e.jobTrouble(ctx, job, err)
			return
		}
	}
}

// jobTrouble tells passing trouble, after which the job goes on by itself,
// from what a person has to mend.
func (e *Engine) jobTrouble(ctx context.Context, job *fsm.Job, err error) {
	switch kind := fault.KindOf(err); {
	case ctx.Err() != nil, kind == fault.NoLeader, kind == fault.Conflict:
		return // leadership, or the job's state, has changed
	case kind == fault.HsmUnavailable, kind == fault.Uncertain, kind == fault.AuditUnavailable:
		e.Logger.Warn("a step of a job could not be done; it is tried again", "jobId", job.ID, "error", err)
		select {
		case <-ctx.Done():
		case <-time.After(jobPause):
		}
		return
	}
	e.Logger.Error("a job has failed; resumeJob goes on once the cause is gone", "jobId", job.ID, "error", err)
	text := "internal error; the leader's log has the details"
	if f := asFault(err); f != nil && f.Kind != fault.Internal {
		text = f.Message
	} else if f != nil {
		text = "a stored data key does not open; the leader's log has the details"
	}
	meta := fsm.Meta{Time: e.Now().UnixMilli(), Principal: ownName, RequestID: job.RequestID}
	command, encodeErr := fsm.Encode(fsm.SetJobState{Meta: meta, JobID: job.ID, State: fsm.JobFailed, Error: text[:min(len(text), maxText)]})
	if encodeErr != nil {
		return
	}
	result, proposeErr := e.Log.Propose(ctx, command)
	if proposeErr == nil && result.Refused == nil {
		e.record(ctx, meta, audit.Event{Event: "cluster.job_failed", KeyID: job.From, Reason: "job " + job.ID, Index: result.Index}, err)
	}
}

// jobStep moves up to n secrets and answers how many it looked at.
func (e *Engine) jobStep(ctx context.Context, state *fsm.State, job *fsm.Job, n int) (int, error) {
	from, to := state.Key(job.From), state.Key(job.To)
	command := fsm.RewrapVersions{
		Meta:  fsm.Meta{Time: e.Now().UnixMilli(), Principal: job.CreatedBy, RequestID: job.RequestID},
		JobID: job.ID, From: from.ID, To: to.ID,
	}
	var events []audit.Event
	for path := range state.BoundPaths(from.ID, "") {
		if len(command.Paths) == n || len(command.Items) >= stepItems {
			break
		}
		items, inner, err := e.rewrapSecret(ctx, state, from, to, path, command.Meta, stepItems)
		events = append(events, inner...)
		if err != nil {
			// The step is not committed, but data keys were opened for it.
			if len(events) > 0 {
				e.recordStep(ctx, command, 0, err, events)
			}
			return len(command.Paths), err
		}
		command.Items = append(command.Items, items...)
		command.Paths = append(command.Paths, string(path))
	}
	if len(command.Paths) == 0 {
		// Nothing is bound any more; what is left are secrets whose next
		// version would be.
		for path := range state.ChosenPaths(from.ID, "") {
			if command.Paths = append(command.Paths, string(path)); len(command.Paths) == stepItems {
				break
			}
		}
	}
	encoded, err := fsm.Encode(command)
	if err != nil {
		return 0, err
	}
	result, err := e.Log.Propose(ctx, encoded)
	if err == nil && result.Refused != nil {
		err = fault.New(fault.Kind(result.Refused.Code), "%s", result.Refused.Message)
	}
	if undone := fault.Is(err, fault.NoLeader) || fault.Is(err, fault.Conflict); !undone || len(events) > 0 {
		e.recordStep(ctx, command, result.Index, err, events)
	}
	e.metrics.rewrapped.Add(float64(result.Done))
	return len(command.Paths), err
}

// recordStep writes the event of a step, done or not, after those of the data
// keys that were opened and sealed for it.
func (e *Engine) recordStep(ctx context.Context, step fsm.RewrapVersions, index uint64, err error, inner []audit.Event) {
	event := audit.Event{Event: "kms.migrate_bound_secrets_step", KeyID: step.From, Reason: "job " + step.JobID, Index: index}
	e.record(ctx, step.Meta, event, err, inner...)
}

// rewrapSecret opens the data keys of one secret under from and seals them
// under to, at most limit of them. Nothing is stored yet: readers go on with
// what the state holds, and both seals open until a key is disabled, which
// Apply refuses while anything is bound.
func (e *Engine) rewrapSecret(ctx context.Context, state *fsm.State, from, to *fsm.Key, path names.Path, meta fsm.Meta, limit int) ([]fsm.Rewrapped, []audit.Event, error) {
	s := state.Secret(path)
	var items []fsm.Rewrapped
	var events []audit.Event
	for v := range state.Versions(path) {
		if v.State == fsm.VersionDestroyed || v.KeyID != from.ID || len(items) == limit {
			continue
		}
		if err := e.book(ctx, to, 1, meta); err != nil {
			return nil, events, err
		}
		id := kms.Identity{Path: path, SecretID: s.ID, Version: v.Number}
		blob, keyVersion, err := e.KMS.Rewrap(ctx, from, to, id, v.DataKey)
		for _, use := range []struct {
			event string
			key   *fsm.Key
		}{{"kms.decrypt", from}, {"kms.encrypt", to}} {
			event := audit.Event{Event: use.event, KeyID: use.key.ID, Path: string(path), Version: v.Number}
			event.Outcome, event.Code = outcome(err)
			events = append(events, event)
		}
		if err != nil {
			return nil, events, err
		}
		sum := sha256.Sum256(v.DataKey)
		items = append(items, fsm.Rewrapped{Path: string(path), Version: v.Number, Old: sum[:], DataKey: blob, KeyVersion: keyVersion})
	}
	return items, events, nil
}
