package engine

import (
	"fmt"
	"time"

	"github.com/strongroom/strongroom/api/wire"
	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/iam"
	"github.com/strongroom/strongroom/internal/fault"
)

// A statement has three forms: as it travels (wire), as it is kept (fsm), and
// as it is compiled (iam). The turns between them are here.

func iamConditions(c *fsm.Conditions) *iam.Conditions {
	if c == nil {
		return nil
	}
	return &iam.Conditions{
		SourceCIDRs: c.SourceCIDRs, TimeWindows: iamWindows(c.TimeWindows), NotBefore: instant(c.NotBefore), NotAfter: instant(c.NotAfter),
		AuthMethods: c.AuthMethods, Groups: c.Groups, Tags: c.Tags,
	}
}

func iamWindows(in []fsm.TimeWindow) []iam.TimeWindow {
	var out []iam.TimeWindow
	for _, w := range in {
		out = append(out, iam.TimeWindow{Days: w.Days, From: w.From, To: w.To, Timezone: w.Timezone})
	}
	return out
}

// instant answers a time of the state, the zero time for 0.
func instant(at int64) time.Time {
	if at == 0 {
		return time.Time{}
	}
	return time.UnixMilli(at).UTC()
}

func iamApproval(a *fsm.Approval) *iam.Approval {
	if a == nil {
		return nil
	}
	return &iam.Approval{Principals: a.Principals, Groups: a.Groups, Count: a.Count, ValidFor: time.Duration(a.ValidFor) * time.Millisecond}
}

func fsmStatements(in []wire.Statement) ([]fsm.Statement, error) {
	out := make([]fsm.Statement, len(in))
	for i, s := range in {
		out[i] = fsm.Statement{
			Effect: s.Effect, Actions: s.Actions, Roles: s.Roles, Paths: s.Paths, Keys: s.Keys, Conditions: fsmConditions(s.Conditions),
		}
		var err error
		if out[i].Approval, err = fsmApproval(fmt.Sprintf("statements[%d].approval", i), s.Approval); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func fsmConditions(c *wire.Conditions) *fsm.Conditions {
	if c == nil {
		return nil
	}
	return &fsm.Conditions{
		SourceCIDRs: c.SourceCIDRs, TimeWindows: fsmWindows(c.TimeWindows), NotBefore: c.NotBefore.Milli(), NotAfter: c.NotAfter.Milli(),
		AuthMethods: c.AuthMethods, Groups: c.Groups, Tags: c.Tags,
	}
}

func fsmWindows(in []wire.TimeWindow) []fsm.TimeWindow {
	var out []fsm.TimeWindow
	for _, w := range in {
		out = append(out, fsm.TimeWindow{Days: w.Days, From: w.From, To: w.To, Timezone: w.Timezone})
	}
	return out
}

// fsmApproval fills in what was left out. A count that was given stays as it
// is: one below 1 is refused, not mended.
func fsmApproval(field string, a *wire.Approval) (*fsm.Approval, error) {
	if a == nil {
		return nil, nil
	}
	out := &fsm.Approval{Principals: a.Principals, Groups: a.Groups, Count: 1, ValidFor: iam.DefaultApproval.Milliseconds()}
	if a.Count != nil {
		out.Count = *a.Count
	}
	if a.ValidFor != nil {
		d := time.Duration(*a.ValidFor)
		if d < iam.MinApprovalTime || d > iam.MaxApprovalTime {
			return nil, fault.Invalid(field+".validFor", "must be %s to %s", iam.MinApprovalTime, iam.MaxApprovalTime)
		}
		out.ValidFor = d.Milliseconds()
	}
	return out, nil
}

func wireStatements(in []fsm.Statement) []wire.Statement {
	out := make([]wire.Statement, len(in))
	for i, s := range in {
		out[i] = wire.Statement{Effect: s.Effect, Actions: s.Actions, Roles: s.Roles, Paths: s.Paths, Keys: s.Keys}
		if c := s.Conditions; c != nil {
			out[i].Conditions = &wire.Conditions{
				SourceCIDRs: c.SourceCIDRs, TimeWindows: wireWindows(c.TimeWindows), NotBefore: wire.Millis(c.NotBefore), NotAfter: wire.Millis(c.NotAfter),
				AuthMethods: c.AuthMethods, Groups: c.Groups, Tags: c.Tags,
			}
		}
		if a := s.Approval; a != nil {
			validFor := wire.Duration(time.Duration(a.ValidFor) * time.Millisecond)
			out[i].Approval = &wire.Approval{Principals: a.Principals, Groups: a.Groups, Count: &a.Count, ValidFor: &validFor}
		}
	}
	return out
}

func wireWindows(in []fsm.TimeWindow) []wire.TimeWindow {
	var out []wire.TimeWindow
	for _, w := range in {
		out = append(out, wire.TimeWindow{Days: w.Days, From: w.From, To: w.To, Timezone: w.Timezone})
	}
	return out
}
