package engine

import (
	"slices"
	"strings"

	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/iam"
	"github.com/strongroom/strongroom/internal/fault"
)

// rights are what a principal, in some groups, may do: compiled, and kept for
// its next request. They hold while nothing changes on which they depend, and
// until the first grant among them ends.
type rights struct {
	of     fsm.Rights
	rules  iam.Rules
	groups []string // all that the principal is in, sorted, except everyone
	until  int64    // 0: without end
	// boundaries names the policies that cap it, each once.
	boundaries []string
	// glass is the id of its break-glass session, if one is open and any policy
	// holds by it.
	glass string
}

// keptRights is for how many principals rights are kept.
const keptRights = 4096

// keptPolicies is how many compiled policies are kept.
const keptPolicies = 16384

// rightsOf collects the policies that reach principal at now: attached to
// itself, and to the groups that it is in, by the state or by claims.
func (e *Engine) rightsOf(state *fsm.State, principal *fsm.Principal, claimed []string, now int64) (*rights, error) {
	// No name has a space, so no two lists of groups share a key.
	key := principal.Name + " " + strings.Join(claimed, " ")
	of := state.Rights()
	if kept, ok := e.kept.Get(key); ok && kept.of == of && (kept.until == 0 || now < kept.until) {
		return kept, nil
	}
	r, err := e.rightsAt(state, principal, claimed, now)
	if err != nil {
		return nil, err
	}
	e.kept.Add(key, r)
	return r, nil
}

// rightsAt is rightsOf for any time, of which nothing is kept: what holds at
// another time than now must not be found by the next request.
func (e *Engine) rightsAt(state *fsm.State, principal *fsm.Principal, claimed []string, now int64) (*rights, error) {
	return e.rightsIn(state, principal, claimed, now, state.OpenGlass(principal.Name, now))
}

// rightsIn is rightsAt as if session were open, and no other; nil: none.
func (e *Engine) rightsIn(state *fsm.State, principal *fsm.Principal, claimed []string, now int64, session *fsm.BreakGlassSession) (*rights, error) {
	r := &rights{of: state.Rights()}
	b := rightsBuilder{engine: e, state: state, now: now, rights: r, session: session}
	b.groups(principal, claimed)
	b.holder("", principal.Attachments(), b.session)
	for _, name := range append(slices.Clone(r.groups), fsm.Everyone) {
		if g := state.Group(name); g != nil {
			b.holder("group "+name, g.Attached, b.glassThrough(name))
		}
	}
	if b.err != nil {
		return nil, b.err
	}
	if r.rules.Quarantined = principal.Quarantine != nil; r.rules.Quarantined {
		// The flag decides; without grants nothing that overlooks it allows.
		b.grants, r.glass = nil, ""
	}
	r.rules.Policies = iam.NewPolicySet(b.grants)
	var err error
	if r.rules.Access, err = e.access.compiled(e.catalogue, state); err != nil {
		return nil, err
	}
	return r, nil
}

type rightsBuilder struct {
	engine *Engine
	state  *fsm.State
	now    int64
	rights *rights
	grants []iam.Grant
	err    error
	// session is the one that is open, nil: none; members are the groups that
	// the principal is in by the state.
	session *fsm.BreakGlassSession
	members []string
}

// groups notes which groups the principal is in.
func (b *rightsBuilder) groups(principal *fsm.Principal, claimed []string) {
	all := slices.Clone(claimed)
	for m := range b.state.Memberships(principal.Name) {
		if m.Holds(b.now) {
			b.ends(m.ExpiresAt)
			all, b.members = append(all, m.Group), append(b.members, m.Group)
		}
	}
	slices.Sort(all)
	b.rights.groups = slices.DeleteFunc(slices.Compact(all), func(g string) bool { return g == fsm.Everyone })
}

// ends notes that something among the rights holds until at.
func (b *rightsBuilder) ends(at int64) {
	if at != 0 && (b.rights.until == 0 || at < b.rights.until) {
		b.rights.until = at
	}
}

// glassThrough answers the session for what is attached to a group: groups of
// claims open no glass, as Apply says.
func (b *rightsBuilder) glassThrough(group string) *fsm.BreakGlassSession {
	if group == fsm.Everyone || slices.Contains(b.members, group) {
		return b.session
	}
	return nil
}

// holder takes what is attached to the principal, or to a group of it. What is
// attached for emergencies holds while it is attached and session is open.
func (b *rightsBuilder) holder(via string, attached []fsm.Attachment, session *fsm.BreakGlassSession) {
	for _, a := range attached {
		if !a.Holds(b.now) || b.err != nil {
			continue
		}
		glass := ""
		if a.Mode == fsm.ModeBreakGlass {
			if session == nil || !slices.Contains(session.Policies, a.Policy) {
				continue
			}
			glass = session.ID
			b.rights.glass = glass
			b.ends(session.ExpiresAt)
		}
		b.ends(a.ExpiresAt)
		policy, err := b.engine.compiled(b.state, a.Policy)
		if err != nil {
			b.err = err
			return
		}
		if a.Mode == fsm.ModeBoundary {
			if !slices.Contains(b.rights.boundaries, a.Policy) {
				b.rights.boundaries = append(b.rights.boundaries, a.Policy)
			}
			b.rights.rules.Boundaries = append(b.rights.rules.Boundaries, iam.NewPolicySet([]iam.Grant{{Policy: policy, Via: via}}))
			continue
		}
		b.grants = append(b.grants, iam.Grant{Policy: policy, Via: via, BreakGlass: glass})
	}
}

// compiled answers a policy, compiled. Records are immutable, so the pointer
// of a record names its content and a compiled policy is kept by it.
func (e *Engine) compiled(state *fsm.State, name string) (*iam.Policy, error) {
	record := state.Policy(name)
	if record == nil {
		// What is attached is never deleted. Deny all rather than leave out
		// what may be a deny or a boundary.
		return nil, fault.New(fault.Internal, "policy %s is attached and not there", name)
	}
	if policy, ok := e.policies.Get(record); ok {
		return policy, nil
	}
	policy, _, err := iam.CompilePolicy(e.catalogue, record.Name, record.Revision, iamStatements(record.Statements))
	if err != nil {
		return nil, fault.Wrap(fault.Internal, err, "policy %s cannot be read by this release", name)
	}
	if record.ReportOnly {
		policy = policy.ReportOnly()
	}
	e.policies.Add(record, policy)
	return policy, nil
}

func iamStatements(in []fsm.Statement) []iam.Statement {
	out := make([]iam.Statement, len(in))
	for i, s := range in {
		out[i] = iam.Statement{
			Effect: s.Effect, Actions: s.Actions, Roles: s.Roles, Paths: s.Paths, Keys: s.Keys,
			Conditions: iamConditions(s.Conditions), Approval: iamApproval(s.Approval),
		}
	}
	return out
}
