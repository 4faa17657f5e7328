package iam

import (
	"net/netip"
	"slices"
	"time"

	"github.com/strongroom/strongroom/internal/names"
)

// Resource is what a question is about. Actions of secrets look at Path and
// Below only, actions of kms at KeyID and KeyAliases only, all others at
// nothing.
type Resource struct {
	Path names.Path
	// Below asks about every path below a prefix ("/" or "/app/") at once: an
	// allow must cover them all, a deny of one of them denies.
	Below      string
	KeyID      string
	KeyAliases []string // each with its "alias/"
	// Tags are those of the secret or the key.
	Tags map[string]string
	// Any says that the operation has no path and no key, such as createKey.
	// Only a statement about all paths ("/**") or all keys ("*") reaches it.
	Any bool
}

// Question is one thing that somebody wants to do.
type Question struct {
	Principal string
	Action    Action
	Resource  Resource
	Source    netip.Addr
	At        time.Time
	// AuthMethod is one of AuthMethods, and Groups are those that the caller
	// is in.
	AuthMethod string
	Groups     []string
	// ApprovedBy are those who approved this exact request.
	ApprovedBy []Approver
}

// Rules are what a question is held against: the policies that reach the
// principal, the boundaries that it is under, and every access policy there
// is.
type Rules struct {
	Policies *PolicySet
	// Boundaries cap what a principal can ever get: each must allow it too.
	Boundaries []*PolicySet
	Access     *AccessSet
	// Quarantined says that the principal may do nothing, whatever else is here.
	Quarantined bool
}

// Reasons of a denial.
const (
	ReasonIAM      = "iam"
	ReasonBoundary = "boundary"
	ReasonSource   = "sourceAddress"
	ReasonWindow   = "timeWindow"
	ReasonApproval = "approval"
	// ReasonQuarantined: the principal may do nothing until it is released.
	ReasonQuarantined = "quarantined"
)

// Decision is the answer, with every rule that had a say.
type Decision struct {
	Allowed bool
	Reason  string // of a denial
	// Timed says that times had a say: a statement about the question has a
	// condition on them, or, where statements allow, an access policy has that
	// no break-glass session waives. Whoever cannot trust the clock that At is
	// from cannot trust the answer.
	Timed bool
	// Chain lists the statements that match, in the order of the policies,
	// then those of boundaries; when they allow, then the access policies that
	// match. Empty: nothing matched, so nothing allowed it. It also lists the
	// statements that would match but for a condition.
	Chain []Step
	// OpensAt is when a denial for ReasonWindow ends, zero if never.
	OpensAt time.Time
	// Needs are the approvals that are missing, of a denial for
	// ReasonApproval.
	Needs []Need
	// BreakGlass is the session without which this would not be allowed, ""
	// if it is allowed without. It waives the times of access policies, and
	// nothing else.
	BreakGlass string
	// Covered is the session that would be needed at another time, of what is
	// allowed without one now. Whoever cannot trust the clock has to take it
	// for needed.
	Covered string
	// Report is what the policies that only report would change; nil: nothing.
	Report *Outcome
}

// Outcome is a decision without its grounds.
type Outcome struct {
	Allowed bool
	Reason  string
}

// Step is one rule that matched.
type Step struct {
	Policy    string // name of the policy or of the access policy
	Revision  uint64
	Access    bool   // it is an access policy
	Boundary  bool   // it caps
	Statement int    // index in the policy
	Effect    string // Allow, Deny or RequireApproval; of an access policy: satisfied, not, or Waived
	Action    string // how the action matched: itself, "secrets:*", "role secrets-read-access"
	Matched   string // how the resource matched: "path /app/**", "key alias/default", "everything"
	Via       string // how the policy reaches the principal: "" directly, "group ops"
	// Unmet is the condition for want of which the statement had no say.
	Unmet string
	// Report says that the policy only reports: it had no say.
	Report     bool
	BreakGlass string // the session by which the policy holds
	// Missing is how many approvals are missing.
	Missing int
}

// Decide answers q under r. An explicit deny wins; then each boundary must
// allow; then any allow decides; otherwise it is denied. Nothing depends on
// order or on how specific a rule is. What is allowed must then satisfy every
// access policy that applies, and have the approvals that statements ask for.
func Decide(r Rules, q Question) Decision {
	if r.Quarantined {
		return Decision{Reason: ReasonQuarantined}
	}
	d := decide(&r, &q, false)
	if !r.reports() {
		return d
	}
	// Once more, as if the rules that only report had a say.
	if would := decide(&r, &q, true); would.Allowed != d.Allowed || would.Reason != d.Reason {
		d.Report = &Outcome{would.Allowed, would.Reason}
	}
	return d
}

// reports tells whether some of r only reports.
func (r *Rules) reports() bool {
	return r.Policies != nil && r.Policies.report || r.Access != nil && r.Access.report || slices.ContainsFunc(r.Boundaries, func(b *PolicySet) bool { return b.report })
}

// UsesTags reports whether a decision under r may depend on tags.
func (r *Rules) UsesTags() bool {
	return r.Policies != nil && r.Policies.tags || slices.ContainsFunc(r.Boundaries, func(b *PolicySet) bool { return b.tags })
}

func decide(r *Rules, q *Question, strict bool) Decision {
	var d Decision
	own := r.Policies.match(q, strict, false, &d.Chain)
	d.Timed = own.timed
	capped := false
	for _, b := range r.Boundaries {
		m := b.match(q, strict, true, &d.Chain)
		if !b.report || strict {
			capped = capped || m.denied || !m.allowed
			d.Timed = d.Timed || m.timed
		}
	}
	switch {
	case own.denied:
		d.Reason = ReasonIAM
		return d
	case capped && own.allowed:
		d.Reason = ReasonBoundary
		return d
	case capped || !own.allowed:
		// Who has no right learns nothing of boundaries.
		d.Reason = ReasonIAM
		return d
	}
	d.Allowed = true
	if !own.lasting {
		d.BreakGlass = own.breakGlass
	}
	r.Access.restrict(&d, q, strict, own.breakGlass)
	if d.Allowed && len(own.needs) > 0 {
		d.Allowed, d.Reason, d.Needs = false, ReasonApproval, own.needs
		d.BreakGlass, d.Covered = "", ""
	}
	return d
}

// matched is what the statements of one set say together.
type matched struct {
	allowed, denied bool
	timed           bool // a statement that has a say, or would at another time
	needs           []Need
	lasting         bool   // allowed without a break-glass session
	breakGlass      string // a session by which it is allowed, too or alone
}

// match holds q against the statements of s and notes in chain those that are
// about it. What only reports is noted, and has a say only if strict.
func (s *PolicySet) match(q *Question, strict, boundary bool, chain *[]Step) matched {
	var out matched
	var room [16]int32
	for _, place := range s.candidates(q, room[:0]) {
		e := &s.entries[place]
		action := e.actions.covers(q.Action)
		if action == "" || e.approval != nil && slices.Contains(neverHeldBack, q.Action) {
			continue
		}
		reached := e.reaches(q)
		if reached == "" {
			continue
		}
		step := Step{
			Policy: e.policy.name, Revision: e.policy.revision, Boundary: boundary, Statement: e.index, Effect: e.effect,
			Action: action, Matched: reached, Via: e.via, Report: e.policy.report, BreakGlass: e.breakGlass,
		}
		step.Unmet = e.conditions.unmet(q, e.restricts())
		var need *Need
		if e.approval != nil && step.Unmet == "" {
			given := e.approval.given(q)
			if step.Missing = max(0, e.approval.Count-given); step.Missing > 0 {
				need = &Need{Policy: e.policy.name, Statement: e.index, Approval: *e.approval, Given: given}
			}
		}
		*chain = append(*chain, step)
		out.timed = out.timed || e.conditions.timed() && (strict || !e.policy.report)
		if step.Unmet != "" || e.policy.report && !strict {
			continue
		}
		switch {
		case e.effect == Deny:
			out.denied = true
		case need != nil:
			out.needs = append(out.needs, *need)
		case e.effect == Allow:
			out.allowed = true
			if e.breakGlass == "" {
				out.lasting = true
			} else {
				out.breakGlass = e.breakGlass
			}
		}
	}
	return out
}

// reaches answers how s is about the resource of q, "" if it is not.
func (s *statement) reaches(q *Question) string {
	if s.everywhere {
		return "everything"
	}
	switch q.Action.service() {
	case secretsService:
		if q.Resource.Path != "" {
			return matchPath(s.paths, q.Resource.Path)
		}
		if q.Resource.Below != "" {
			return matchBelow(s.paths, q.Resource.Below, s.restricts())
		}
		return s.reachesAllPaths()
	case kmsService:
		return matchKey(s.keys, &q.Resource)
	}
	return "" // about the cluster, which paths and keys are no part of
}

func (s *statement) reachesAllPaths() string {
	for i := range s.paths {
		if s.paths[i].all {
			return s.paths[i].why
		}
	}
	return ""
}

func matchPath(rules []pathRule, path names.Path) string {
	for i := range rules {
		if rules[i].pattern.Match(path) {
			return rules[i].why
		}
	}
	return ""
}

// matchBelow answers the rule that is about all paths below a prefix, or, for
// what restricts, about any of them.
func matchBelow(rules []pathRule, prefix string, any bool) string {
	for i := range rules {
		if p := rules[i].pattern; p.Covers(prefix) || any && p.Touches(prefix) {
			return rules[i].why
		}
	}
	return ""
}

func matchKey(rules []keyRule, r *Resource) string {
	for i := range rules {
		rule := &rules[i]
		if rule.ref == "*" || (r.KeyID != "" && rule.ref == r.KeyID) {
			return rule.why
		}
		for _, alias := range r.KeyAliases {
			if rule.ref == alias {
				return rule.why
			}
		}
	}
	return ""
}

// MayAnywhere reports whether the policies of r allow a on some resource that
// could exist, as far as that can be told without one: for operations that
// list, and filter what they answer by Decide. Only a deny that reaches
// everything, whatever the conditions, takes it away; and what a boundary
// never allows.
func MayAnywhere(r Rules, a Action) bool {
	return everySet(r, func(s *PolicySet) bool {
		return s.may(a, func(st *statement) bool { return st.reachesSomething(a) }, func(st *statement) bool {
			return st.reaches(&Question{Action: a, Resource: Resource{Any: true}}) != ""
		})
	})
}

// BreakGlassAnywhere answers the session without which MayAnywhere would not
// allow a, "" if it allows it without, or not at all.
func BreakGlassAnywhere(r Rules, a Action) string {
	if !r.Policies.behindGlass() || !MayAnywhere(r, a) {
		return ""
	}
	session := ""
	for _, e := range r.Policies.about(a) {
		if e.policy.report || e.effect != Allow || !e.reachesSomething(a) {
			continue
		}
		if e.breakGlass == "" {
			return ""
		}
		session = e.breakGlass
	}
	return session
}

// behindGlass reports whether some of s holds by a break-glass session.
func (s *PolicySet) behindGlass() bool { return s != nil && s.glass }

// MayBelow reports whether the policies of r allow a, an action of secrets, on
// some path below a prefix that could exist: MayAnywhere for a part of the
// tree. Only a deny that reaches all of that part takes it away.
func MayBelow(r Rules, a Action, prefix string) bool {
	return everySet(r, func(s *PolicySet) bool {
		return s.may(a,
			func(st *statement) bool { return st.everywhere || matchBelow(st.paths, prefix, true) != "" },
			func(st *statement) bool { return st.everywhere || matchBelow(st.paths, prefix, false) != "" })
	})
}

func everySet(r Rules, may func(*PolicySet) bool) bool {
	if r.Quarantined {
		return false
	}
	for _, b := range r.Boundaries {
		if !b.report && !may(b) {
			return false
		}
	}
	return may(r.Policies)
}

// may reports whether some statement about a allows what some names, and none
// denies what all names.
func (s *PolicySet) may(a Action, some, all func(*statement) bool) bool {
	allowed := false
	for _, e := range s.about(a) {
		switch {
		case e.policy.report || e.effect == RequireApproval:
		case e.effect == Deny:
			if e.conditions == nil && all(e.statement) {
				return false
			}
		default:
			allowed = allowed || some(e.statement)
		}
	}
	return allowed
}

func (s *statement) reachesSomething(a Action) bool {
	switch {
	case s.everywhere:
		return true
	case a.service() == secretsService:
		return len(s.paths) > 0
	case a.service() == kmsService:
		return len(s.keys) > 0
	}
	return false
}
