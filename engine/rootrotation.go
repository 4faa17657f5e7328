package engine

import (
	"context"
	"errors"
	"time"

	"golang.org/x/time/rate"

	"github.com/strongroom/strongroom/audit"
	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/internal/fault"
	"github.com/strongroom/strongroom/internal/wrapped"
)

// rootEvery is the pace of looking after a rotation of the root key.
const rootEvery = 500 * time.Millisecond

// runRootRotation takes a rotation of the root key from step to step until
// ctx ends with the leadership:
//
//	next root known to all → every HSM serves with it → it becomes the current
//	one → each piece of key material is wrapped anew → nothing is under the
//	old one, and Apply lets it go
//
// Where it has come to is in the state, so any leader goes on. It is not one
// of runJobs, because it may wait for a node for hours.
func (e *Engine) runRootRotation(ctx context.Context) {
	var waiting string
	every(ctx, rootEvery, func(ctx context.Context) {
		roots := e.Log.Local().Roots()
		if roots == nil || roots.JobID == "" || e.Trail.Ready() != nil {
			waiting = ""
			return
		}
		state, err := e.Log.ReadState(ctx)
		if err != nil {
			return
		}
		roots = state.Roots()
		job := state.Job(roots.JobID)
		if job == nil || job.State != fsm.JobRunning {
			return
		}
		if roots.Next != nil {
			missing := e.withoutRoot(ctx, roots.Next)
			if missing != "" {
				if missing != waiting {
					e.Logger.Warn("the new root key waits until the HSM of every member serves with it", "rootVersion", roots.Next.Version, "missing", missing)
				}
				waiting = missing
				return
			}
			e.switchRoot(ctx, job, roots.Next.Version)
			return
		}
		limiter := rate.NewLimiter(rate.Limit(job.Rate), MaxRewrap)
		for ctx.Err() == nil {
			more, err := e.rootStep(ctx, job, limiter)
			if err != nil {
				e.jobTrouble(ctx, job, err)
			}
			if err != nil || !more {
				return
			}
		}
	})
}

func (e *Engine) switchRoot(ctx context.Context, job *fsm.Job, version uint32) {
	meta := fsm.Meta{Time: e.Now().UnixMilli(), Principal: job.CreatedBy, RequestID: job.RequestID}
	result, err := e.proposeJob(ctx, fsm.SwitchRoot{Meta: meta, JobID: job.ID, Version: version})
	if fault.Is(err, fault.NoLeader) || fault.Is(err, fault.Conflict) {
		return
	}
	e.record(ctx, meta, audit.Event{Event: "cluster.switch_root_key", Version: uint64(version), Reason: "job " + job.ID, Index: result.Index}, err)
	if err == nil {
		e.Logger.Info("new keys are wrapped under a new root key", "rootVersion", version)
	}
}

// proposeJob proposes a command of a job; a refusal is an error.
func (e *Engine) proposeJob(ctx context.Context, command fsm.Command) (fsm.Result, error) {
	encoded, err := fsm.Encode(command)
	if err != nil {
		return fsm.Result{}, err
	}
	result, err := e.Log.Propose(ctx, encoded)
	if err == nil && result.Refused != nil {
		err = fault.New(fault.Kind(result.Refused.Code), "%s", result.Refused.Message)
	}
	return result, err
}

// rootStep wraps a few pieces anew and reports whether to go on.
func (e *Engine) rootStep(ctx context.Context, job *fsm.Job, limiter *rate.Limiter) (bool, error) {
	state, err := e.Log.ReadState(ctx)
	if err != nil {
		return false, err
	}
	roots := state.Roots()
	if job = state.Job(job.ID); job == nil || job.State != fsm.JobRunning || roots.Previous == nil || e.Trail.Ready() != nil {
		return false, nil
	}
	own, err := e.LocalRoots(ctx, RootQuery{})
	if err != nil || own.Making != roots.Current.Version {
		return false, err // this node has not heard of the switch yet
	}
	items, keys := piecesUnder(state, roots.Previous.Version)
	if len(keys) > 0 {
		if err := limiter.WaitN(ctx, len(keys)); err != nil {
			return false, nil // leadership ended
		}
	}
	moved, failed := e.rewrapAll(ctx, keys)
	meta := fsm.Meta{Time: e.Now().UnixMilli(), Principal: job.CreatedBy, RequestID: job.RequestID}
	command := fsm.RewrapKeys{Meta: meta, JobID: job.ID}
	var events []audit.Event
	for i, k := range moved {
		items[i].Wrapped = k
		command.Items = append(command.Items, items[i])
		events = append(events, audit.Event{Event: "kms.rewrap_key", KeyID: k.ID, Version: uint64(k.Version), Outcome: audit.OK})
	}
	if fault.Is(failed, fault.NotFound) {
		// One that was fed by an export, or a later rotation. Another leads.
		if e.Cluster.StepDown != nil {
			e.Cluster.StepDown("a rotation of the root key: " + publicReason(failed))
		}
		return false, nil
	}
	if len(moved) == 0 && failed != nil {
		return false, failed
	}
	// With nothing left to move the command still goes: Apply ends the job.
	result, err := e.proposeJob(ctx, command)
	if undone := fault.Is(err, fault.NoLeader) || fault.Is(err, fault.Conflict); !undone {
		e.record(ctx, meta, audit.Event{Event: "cluster.rotate_root_key_step", Version: uint64(roots.Current.Version), Reason: "job " + job.ID, Index: result.Index}, err, events...)
	}
	return result.More, errors.Join(err, failed)
}

// piecesUnder answers some of the key material under version of the root key.
func piecesUnder(state *fsm.State, version uint32) (items []fsm.RewrappedKey, keys []wrapped.Key) {
	add := func(place fsm.Place, k wrapped.Key) {
		sum := k.Sum()
		items, keys = append(items, fsm.RewrappedKey{Place: place, Old: sum[:]}), append(keys, k)
	}
	if k := state.FingerprintKey(); k != nil && k.Root == version {
		add(fsm.PlaceFingerprint, *k)
	}
	for key := range state.KeysUnder(version) {
		for place, piece := range key.Pieces() {
			if piece.Root != version {
				continue
			}
			if len(keys) == MaxRewrap {
				return items, keys
			}
			add(place, piece)
		}
	}
	return items, keys
}

// rewrapAll wraps keys anew, in order, up to the first that cannot be: one
// damaged piece must not hold up the others, and a person has to know which
// it is.
func (e *Engine) rewrapAll(ctx context.Context, keys []wrapped.Key) ([]wrapped.Key, error) {
	if len(keys) == 0 {
		return nil, nil
	}
	moved, err := e.Cluster.Roots.Rewrap(ctx, keys)
	if !fault.Is(err, fault.InvalidRequest) {
		return moved, err
	}
	moved = nil
	for _, k := range keys {
		one, err := e.Cluster.Roots.Rewrap(ctx, []wrapped.Key{k})
		if fault.Is(err, fault.InvalidRequest) {
			return moved, fault.Wrap(fault.InvalidRequest, err, "the stored material of key %s, version %d, is not what an HSM of the cluster made; the store may have been altered. Restore it, or destroy the key, then resumeJob", k.ID, k.Version)
		}
		if err != nil {
			return moved, err
		}
		moved = append(moved, one...)
	}
	return moved, nil
}
