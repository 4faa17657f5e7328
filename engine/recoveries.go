package engine

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/strongroom/strongroom/api/wire"
	"github.com/strongroom/strongroom/audit"
	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/internal/fault"
)

// tellRecoveries writes the event of each recovery of the cluster that the
// trail does not have. It was decided while no server ran, so nobody could.
// The event comes first and the mark after it: a leader that dies between the
// two has it told twice, which is better than never.
func (e *Engine) tellRecoveries(ctx context.Context) {
	untold := false
	for r := range e.Log.Local().Recoveries() {
		untold = untold || r.ToldAt == 0
	}
	if !untold {
		return
	}
	state, err := e.Log.ReadState(ctx)
	if err != nil {
		return
	}
	for r := range state.Recoveries() {
		if r.ToldAt != 0 {
			continue
		}
		if err := e.tellRecovery(ctx, r); err != nil {
			if !fault.Is(err, fault.NoLeader) && ctx.Err() == nil {
				e.Logger.Warn("that the cluster was recovered could not be told; it is tried again", "error", err)
			}
			return
		}
	}
}

func (e *Engine) tellRecovery(ctx context.Context, r *fsm.Recovery) error {
	meta := fsm.Meta{Time: e.Now().UnixMilli(), Principal: ownName, RequestID: fmt.Sprintf("recover-%d", r.Index)}
	event := audit.Event{
		Event: "cluster.recover", Index: r.Index, Time: e.Now(), RequestID: meta.RequestID, Principal: meta.Principal, Reason: recoveryText(r),
	}
	event.Outcome, event.Code = outcome(nil)
	append, cancel := context.WithTimeout(context.WithoutCancel(ctx), appendTimeout)
	defer cancel()
	if _, err := e.Trail.Append(append, []audit.Event{event}); err != nil {
		e.auditFailed(err)
		return err
	}
	command, err := fsm.Encode(fsm.TellRecovery{Meta: meta, Index: r.Index})
	if err != nil {
		return err
	}
	_, err = e.Log.Propose(ctx, command)
	return err
}

// recoveryText has what cannot be wanting first: the list of nodes and the
// reason may be cut.
func recoveryText(r *fsm.Recovery) string {
	text := fmt.Sprintf("on %s by %s at %s, behind entry %d of term %d, last command at %s",
		r.NodeID, r.Operator, stamp(r.At), r.LastIndex, r.LastTerm, stamp(r.LastAt))
	if r.Missing != 0 {
		text += fmt.Sprintf("; damaged there, and lost: up to entry %d", r.Missing)
	}
	return fmt.Sprintf("%.980s", text+"; cut off: "+strings.Join(cutOffNames(r), ", ")+"; reason: "+r.Reason)
}

func stamp(ms int64) string { return time.UnixMilli(ms).UTC().Format(time.RFC3339) }

func cutOffNames(r *fsm.Recovery) []string {
	out := []string{}
	for _, n := range r.CutOff {
		out = append(out, n.ID)
	}
	return out
}

// recoveries answers those that status shows, the newest first.
func recoveries(state *fsm.State) []wire.Recovery {
	var out []wire.Recovery
	for r := range state.Recoveries() {
		out = append([]wire.Recovery{{
			NodeID: r.NodeID, At: wire.Millis(r.At), Operator: r.Operator, Reason: r.Reason, Index: r.Index,
			LastIndex: r.LastIndex, LastTerm: r.LastTerm, LastCommandAt: wire.Millis(r.LastAt), MissingUpTo: r.Missing, CutOff: cutOffNames(r),
		}}, out...)
	}
	return out
}
