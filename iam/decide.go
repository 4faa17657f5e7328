package iam

import (
	"net/netip"
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
}

// Rules are what a question is held against: the policies attached to the
// principal, and every access policy there is.
type Rules struct {
	Policies []*Policy
	Access   []*AccessPolicy
}

// Reasons of a denial.
const (
	ReasonIAM    = "iam"
	ReasonSource = "sourceAddress"
	ReasonWindow = "timeWindow"
)

// Decision is the answer, with every rule that had a say.
type Decision struct {
	Allowed bool
	Reason  string // of a denial
	// Chain lists the statements that match, in the order of the policies;
	// when they allow, then the access policies that match. Empty: nothing
	// matched, so nothing allowed it.
	Chain []Step
	// OpensAt is when a denial for ReasonWindow ends, zero if never.
	OpensAt time.Time
}

// Step is one rule that matched.
type Step struct {
	Policy    string // name of the policy or of the access policy
	Access    bool   // it is an access policy
	Statement int    // index in the policy
	Effect    string // Allow or Deny; of an access policy: satisfied or not
	Action    string // how the action matched: itself, "secrets:*", "role secrets-read-access"
	Matched   string // how the resource matched: "path /app/**", "key alias/default", "everything"
}

// Decide answers q under r. An explicit deny wins; otherwise any allow
// decides; otherwise it is denied. Nothing depends on order or on how
// specific a rule is. What is allowed must then satisfy every access policy
// that applies.
func Decide(r Rules, q Question) Decision {
	var d Decision
	denied := false
	for _, p := range r.Policies {
		for i := range p.statements {
			s := &p.statements[i]
			action := s.actions.covers(q.Action)
			if action == "" {
				continue
			}
			matched := s.reaches(&q)
			if matched == "" {
				continue
			}
			step := Step{Policy: p.name, Statement: i, Effect: Allow, Action: action, Matched: matched}
			if s.deny {
				step.Effect, denied = Deny, true
			} else {
				d.Allowed = true
			}
			d.Chain = append(d.Chain, step)
		}
	}
	if denied || !d.Allowed {
		d.Allowed, d.Reason = false, ReasonIAM
		return d
	}
	restrict(&d, r.Access, &q)
	return d
}

// restrict holds an allowed question against the access policies. The source
// address comes before the time: who asks from a wrong place need not be told
// when to come back.
func restrict(d *Decision, access []*AccessPolicy, q *Question) {
	var closes time.Time // the earliest notAfter: nothing opens from there on
	for _, p := range access {
		matched := p.applies(q)
		if matched == "" {
			continue
		}
		step := Step{Policy: p.name, Access: true, Effect: Allow, Action: p.actions.covers(q.Action), Matched: matched}
		if len(p.cidrs) > 0 && !SourceAllowed(p.cidrs, q.Source) {
			step.Effect, d.Allowed, d.Reason = Deny, false, ReasonSource
		}
		early := q.At.Before(p.notBefore)
		late := !p.notAfter.IsZero() && !q.At.Before(p.notAfter)
		if early || late {
			step.Effect, d.Allowed = Deny, false
			if d.Reason == "" {
				d.Reason = ReasonWindow
			}
		}
		if early && p.notBefore.After(d.OpensAt) {
			d.OpensAt = p.notBefore
		}
		if !p.notAfter.IsZero() && (closes.IsZero() || p.notAfter.Before(closes)) {
			closes = p.notAfter
		}
		d.Chain = append(d.Chain, step)
	}
	if d.Reason != ReasonWindow || !closes.IsZero() && !d.OpensAt.Before(closes) {
		d.OpensAt = time.Time{}
	}
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
			return matchBelow(s.paths, q.Resource.Below, s.deny)
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
// everything takes it away.
func MayAnywhere(r Rules, a Action) bool {
	allowed := false
	for _, p := range r.Policies {
		for i := range p.statements {
			s := &p.statements[i]
			if s.actions.covers(a) == "" {
				continue
			}
			if !s.deny {
				allowed = allowed || s.reachesSomething(a)
				continue
			}
			if s.reaches(&Question{Action: a, Resource: Resource{Any: true}}) != "" {
				return false
			}
		}
	}
	return allowed
}

// MayBelow reports whether the policies of r allow a, an action of secrets, on
// some path below a prefix that could exist: MayAnywhere for a part of the
// tree. Only a deny that reaches all of that part takes it away.
func MayBelow(r Rules, a Action, prefix string) bool {
	allowed := false
	for _, p := range r.Policies {
		for i := range p.statements {
			s := &p.statements[i]
			if s.actions.covers(a) == "" {
				continue
			}
			if s.deny {
				if s.everywhere || matchBelow(s.paths, prefix, false) != "" {
					return false
				}
				continue
			}
			allowed = allowed || s.everywhere || matchBelow(s.paths, prefix, true) != ""
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
