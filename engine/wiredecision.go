package engine

import (
	"github.com/strongroom/strongroom/api/wire"
	"github.com/strongroom/strongroom/audit"
	"github.com/strongroom/strongroom/iam"
)

// A decision has three forms: as iam makes it, as the trail keeps it, and as
// it travels. The turns to the last are here.

func wireDecision(d *audit.Decision) *wire.AuditDecision {
	out := &wire.AuditDecision{
		Action: d.Action, Allowed: d.Allowed, Reason: d.Reason, Path: d.Path, Prefix: d.Below, KeyID: d.KeyID, Anywhere: d.Anywhere,
		Guard: d.Guard, AuthMethod: d.AuthMethod, Groups: d.Groups, More: d.More,
	}
	if d.OpensAt != 0 {
		out.OpensAt = wire.Millis(d.OpensAt)
	}
	for _, s := range d.Steps {
		out.Chain = append(out.Chain, wire.DecisionStep{
			Policy: s.Policy, Revision: s.Revision, Statement: s.Statement, Effect: s.Effect, Action: s.Action, Matched: s.Matched, Via: s.Via,
			Unmet: s.Unmet, Access: s.Access, Boundary: s.Boundary, Report: s.Report, BreakGlass: s.BreakGlass, Missing: s.Missing,
		})
	}
	if d.Report != nil {
		out.Report = &wire.PolicyReport{Allowed: d.Report.Allowed, Reason: d.Report.Reason}
	}
	return out
}

func wireChain(chain []iam.Step) []wire.DecisionStep {
	out := make([]wire.DecisionStep, len(chain))
	for i, s := range chain {
		out[i] = wire.DecisionStep{
			Policy: s.Policy, Revision: s.Revision, Statement: s.Statement, Effect: s.Effect, Action: s.Action, Matched: s.Matched, Via: s.Via,
			Unmet: s.Unmet, Access: s.Access, Boundary: s.Boundary, Report: s.Report, BreakGlass: s.BreakGlass, Missing: s.Missing,
		}
	}
	return out
}
