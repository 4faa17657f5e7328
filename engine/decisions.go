package engine

import (
	"encoding/binary"
	"net/netip"
	"time"

	"github.com/google/uuid"

	"github.com/strongroom/strongroom/audit"
	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/iam"
)

// asker is somebody who asks, in one state at one time. Enforcement,
// explanation and simulation all decide by it, so they cannot disagree.
type asker struct {
	state      *fsm.State
	rules      iam.Rules
	principal  string
	method     string
	groups     []string // all that the principal is in, by the state and by claims
	source     netip.Addr
	at         time.Time
	approvedBy []iam.Approver
}

// asker answers the caller as one who asks.
func (c *call) asker() asker {
	return asker{
		state: c.state, rules: c.rules, principal: c.who.name, method: c.who.method, groups: c.who.groups,
		source: c.from.Source, at: c.now,
	}
}

// decide answers the question for action on r. What the rules need to know of
// a secret is looked up in the state.
func (a *asker) decide(action iam.Action, r iam.Resource) iam.Decision {
	if r.Tags == nil && r.Path != "" && a.rules.UsesTags() {
		if s := a.state.Secret(r.Path); s != nil && s.State != fsm.SecretPurged {
			r.Tags = s.Tags
		}
	}
	return iam.Decide(a.rules, a.question(action, r))
}

func (a *asker) question(action iam.Action, r iam.Resource) iam.Question {
	return iam.Question{
		Principal: a.principal, Action: action, Resource: r, Source: a.source, At: a.at,
		AuthMethod: a.method, Groups: a.groups, ApprovedBy: a.approvedBy,
	}
}

// anywhere answers whether a may do action on anything at all, as lists ask
// before they filter. The chain has every statement about the action.
func (a *asker) anywhere(action iam.Action) iam.Decision {
	d := iam.Decision{Allowed: iam.MayAnywhere(a.rules, action), Chain: iam.About(a.rules, action)}
	d.BreakGlass = iam.BreakGlassAnywhere(a.rules, action)
	if !d.Allowed {
		d.Reason = iam.ReasonIAM
	}
	if a.rules.Quarantined {
		d.Reason = iam.ReasonQuarantined
	}
	return d
}

// newDecisionID makes an id that says when the request began, to the
// millisecond (RFC 9562, version 7), so that a trail is searched there only.
func newDecisionID(at time.Time) string {
	id := uuid.New()
	var ms [8]byte
	binary.BigEndian.PutUint64(ms[:], uint64(max(0, at.UnixMilli())))
	copy(id[:6], ms[2:])
	id[6] = id[6]&0x0f | 0x70
	return id.String()
}

// decisionTime is the way back from newDecisionID; zero for an id of an
// earlier release, which says nothing.
func decisionTime(id string) time.Time {
	parsed, err := uuid.Parse(id)
	if err != nil || parsed.Version() != 7 {
		return time.Time{}
	}
	var ms [8]byte
	copy(ms[2:], parsed[:6])
	return time.UnixMilli(int64(binary.BigEndian.Uint64(ms[:])))
}

// note keeps a decision for the event. A denial takes the place of what only
// reported before it: it is what the caller heard of.
func (c *call) note(d *audit.Decision) string {
	id := newDecisionID(c.now)
	c.event.DecisionID, c.event.Decision = id, d
	return id
}

// noteReport keeps what was allowed while a policy that only reports would
// have decided otherwise, the first such decision of the event.
func (c *call) noteReport(action iam.Action, r iam.Resource, d iam.Decision) {
	if d.Report == nil {
		return
	}
	c.engine.metrics.report(d)
	if d.Allowed && c.event.Decision == nil {
		c.note(c.recorded(action, r, d))
	}
}

// recorded is a decision as the trail keeps it.
func (c *call) recorded(action iam.Action, r iam.Resource, d iam.Decision) *audit.Decision {
	out := &audit.Decision{
		Action: string(action), Allowed: d.Allowed, Reason: d.Reason,
		Path: string(r.Path), Below: r.Below, KeyID: r.KeyID, AuthMethod: c.who.method, Groups: c.who.claims,
	}
	if !d.OpensAt.IsZero() {
		out.OpensAt = d.OpensAt.UnixMilli()
	}
	if len(out.Groups) > audit.MaxGroups {
		out.Groups = out.Groups[:audit.MaxGroups]
	}
	chain := decisive(d.Chain, audit.MaxSteps)
	out.More = len(d.Chain) - len(chain)
	for _, s := range chain {
		out.Steps = append(out.Steps, audit.Step{
			Policy: s.Policy, Revision: s.Revision, Statement: s.Statement, Effect: s.Effect, Action: s.Action, Matched: s.Matched,
			Via: s.Via, Unmet: s.Unmet, Access: s.Access, Boundary: s.Boundary, Report: s.Report, BreakGlass: s.BreakGlass, Missing: s.Missing,
		})
	}
	if d.Report != nil {
		out.Report = &audit.Outcome{Allowed: d.Report.Allowed, Reason: d.Report.Reason}
	}
	return out
}

// recordedAnywhere is recorded for the question of lists.
func (c *call) recordedAnywhere(action iam.Action, d iam.Decision) *audit.Decision {
	out := c.recorded(action, iam.Resource{}, d)
	out.Anywhere = true
	return out
}

// decisive cuts a chain to limit steps, in their order: those that restrict
// first, because they are why, then the others.
func decisive(chain []iam.Step, limit int) []iam.Step {
	if len(chain) <= limit {
		return chain
	}
	restricts := func(s iam.Step) bool { return s.Effect != iam.Allow && s.Unmet == "" && !s.Report }
	room := limit
	for _, s := range chain {
		if restricts(s) && room > 0 {
			room--
		}
	}
	var out []iam.Step
	for _, s := range chain {
		switch {
		case len(out) == limit:
			return out
		case restricts(s):
			out = append(out, s)
		case room > 0:
			room--
			out = append(out, s)
		}
	}
	return out
}
