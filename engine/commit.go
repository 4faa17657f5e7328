package engine

import (
	"context"

	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/iam"
	"github.com/strongroom/strongroom/internal/fault"
	"github.com/strongroom/strongroom/internal/names"
)

// maxRaces bounds how often a write is sealed again because another one took
// its version number. Writers of one path on one leader queue on a lock, so a
// race needs a change of leader, or a key change, in between.
const maxRaces = 8

// replayed answers the first result of a write that came again, if meta
// names one. Apply decides the same again; asking here saves the HSM calls.
func (c *call) replayed(meta fsm.Meta) (*fsm.Result, error) {
	if meta.ClientToken == "" {
		return nil, nil
	}
	result, refusal := c.state.Replay(meta)
	if refusal != nil {
		return nil, c.refused(refusal)
	}
	return result, nil
}

// commit proposes one command. A refusal of Apply is answered as the error
// that it names.
func (c *call) commit(ctx context.Context, command fsm.Command) (fsm.Result, error) {
	result, err := c.propose(ctx, command)
	if err != nil {
		return result, err
	}
	if result.Refused != nil {
		return result, c.refused(result.Refused)
	}
	return result, nil
}

func (c *call) propose(ctx context.Context, command fsm.Command) (fsm.Result, error) {
	if c.trial != nil {
		return fsm.Result{}, fault.New(fault.Internal, "a trial of %s came to a command", c.op.Path())
	}
	if c.follow != nil {
		return fsm.Result{}, c.toLeader("commit", nil)
	}
	encoded, err := fsm.Encode(command)
	if err != nil {
		return fsm.Result{}, err
	}
	result, err := c.engine.Log.Propose(ctx, encoded)
	if err != nil {
		return result, err
	}
	c.index = max(c.index, result.Index)
	return result, nil
}

// refused turns a refusal into the error for this caller: of bound paths it
// shows those that the caller may see.
func (c *call) refused(r *fsm.Refusal) error {
	err := fault.New(fault.Kind(r.Code), "%s", r.Message)
	for name, value := range r.Details {
		err = err.With(name, value)
	}
	// A quota is no flood, and what was sealed for it was used.
	c.noteLimit = r.Code == string(fault.RateLimited)
	if c.noteLimit {
		c.engine.metrics.quotas.WithLabelValues(r.Details["quota"]).Inc()
	}
	if r.Code == string(fault.KeyInUse) {
		visible := []string{}
		for _, path := range r.Paths {
			if c.may("secrets:describeSecret", iam.Resource{Path: names.Path(path)}) {
				visible = append(visible, path)
			}
		}
		err = err.With("boundSecrets", map[string]any{"count": r.Count, "paths": visible})
	}
	return err
}

// afterCommit takes a look at a state with what this call has committed, to
// describe it in the answer, and to open nothing by. This node's own state holds
// that, and nothing that is not committed. A consistent read would fail where
// leadership is handed over just then, and make an outcome that is known
// unknown.
func (c *call) afterCommit(ctx context.Context) error {
	if state := c.engine.Log.Local(); c.follow == nil && state.Index() >= c.index {
		c.state, c.index = state, state.Index()
		return nil
	}
	return c.refresh(ctx)
}

// refresh takes a new look at the state after a race.
func (c *call) refresh(ctx context.Context) error {
	if c.follow != nil {
		return c.toLeader("again", nil)
	}
	state, err := c.engine.Log.ReadState(ctx)
	if err != nil {
		return err
	}
	c.state, c.index = state, max(c.index, state.Index())
	return nil
}

// errRaces is the answer when a write lost too many races in a row.
func errRaces() error {
	return fault.New(fault.Conflict, "path: was changed by others each time this write was about to be committed; retry")
}
