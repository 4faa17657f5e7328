package engine

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/strongroom/strongroom/api/wire"
	"github.com/strongroom/strongroom/iam"
)

// decisionText says a decision in a sentence or two, for people who do not
// read chains.
func decisionText(a *asker, t *target, d iam.Decision) string {
	chain := wireChain(d.Chain)
	asks := a.principal + " may " + t.String()
	text := ""
	if d.Allowed {
		text = "allowed: " + asks + allowedBy(chain, t.anywhere)
		if d.BreakGlass != "" {
			text += "; only while the break-glass session " + d.BreakGlass + " is open" + waivedText(chain)
		}
	} else {
		text = "denied: " + deniedBy(a.principal, t.String(), d.Reason, chain, d.OpensAt)
		switch {
		case d.Reason == iam.ReasonBoundary:
			text += boundaryNames(a.rules, chain)
		case d.Reason == iam.ReasonIAM && nothingMatched(chain) && !t.anywhere:
			text += nearText(a, t)
		}
	}
	return text + reportText(d.Report != nil, d.Report != nil && d.Report.Allowed)
}

// waivedText names the access policies whose times a session waives.
func waivedText(chain []wire.DecisionStep) string {
	var names []string
	for _, s := range chain {
		if s.Access && s.Effect == iam.Waived && !s.Report {
			names = append(names, s.Policy)
		}
	}
	if len(names) == 0 {
		return ""
	}
	return ", which waives the times of access policy " + strings.Join(names, ", ")
}

// recordedText is decisionText for what the trail keeps.
func recordedText(e *wire.AuditEvent, d *wire.AuditDecision) string {
	t := target{action: iam.Action(d.Action), anywhere: d.Anywhere, resource: iam.Resource{Below: d.Prefix, KeyID: d.KeyID}}
	asked := t.String()
	if d.Path != "" {
		asked = d.Action + " on " + d.Path
	}
	report := reportText(d.Report != nil, d.Report != nil && d.Report.Allowed)
	switch {
	case d.Guard && d.Reason == iam.ReasonApproval:
		return "denied: " + e.Principal + " may " + d.Action + ", but is none of those whom the policies name for this request"
	case d.Guard:
		return "denied: " + e.Principal + " is under a boundary, and " + d.Action + " here could lift it; no policy decides this"
	case d.Allowed:
		return "allowed: " + e.Principal + " could " + asked + allowedBy(d.Chain, d.Anywhere) + report
	}
	var opens time.Time
	if d.OpensAt != nil {
		opens = d.OpensAt.Time
	}
	return "denied: " + deniedBy(e.Principal, asked, d.Reason, d.Chain, opens) + report
}

// allowedBy names the first statement that allows.
func allowedBy(chain []wire.DecisionStep, anywhere bool) string {
	for _, s := range chain {
		if s.Effect == iam.Allow && !s.Access && !s.Boundary && s.Unmet == "" && !s.Report {
			if anywhere {
				return ", by " + place(s)
			}
			return ", by " + place(s) + " (" + s.Matched + ")"
		}
	}
	return ""
}

// place names a statement and how it reaches the principal.
func place(s wire.DecisionStep) string {
	if s.Access {
		return "access policy " + s.Policy
	}
	kind := "policy"
	if s.Boundary {
		kind = "boundary"
	}
	text := fmt.Sprintf("statements[%d] of %s %s", s.Statement, kind, s.Policy)
	if s.Via != "" {
		text += ", through " + s.Via
	}
	return text
}

// nothingMatched reports whether no statement denies, and none would allow but
// for a condition.
func nothingMatched(chain []wire.DecisionStep) bool {
	for _, s := range chain {
		if s.Access || s.Boundary || s.Report {
			continue
		}
		if s.Effect == iam.Deny && s.Unmet == "" || s.Effect == iam.Allow {
			return false
		}
	}
	return true
}

// boundaryNames names the boundaries that let nothing of it pass.
func boundaryNames(r iam.Rules, chain []wire.DecisionStep) string {
	var names []string
	for _, name := range iam.Caps(r) {
		if !slices.ContainsFunc(chain, func(s wire.DecisionStep) bool { return s.Boundary && s.Policy == name }) {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return ""
	}
	return ": no statement of " + strings.Join(names, ", ") + " allows it"
}

func deniedBy(principal, asked, reason string, chain []wire.DecisionStep, opens time.Time) string {
	switch reason {
	case iam.ReasonBoundary:
		return boundaryText(principal, asked, chain)
	case iam.ReasonSource:
		return accessText(chain, true) + " does not accept this source address"
	case iam.ReasonWindow:
		text := accessText(chain, false) + " does not accept this time"
		if !opens.IsZero() {
			text += "; it opens at " + opens.UTC().Format(time.RFC3339)
		}
		return text
	case iam.ReasonApproval:
		return approvalText(asked, chain)
	case iam.ReasonQuarantined:
		return principal + " is in quarantine and may do nothing; releasePrincipal ends it"
	}
	var unmet []string
	for _, s := range chain {
		switch {
		case s.Access || s.Boundary || s.Report:
		case s.Effect == iam.Deny && s.Unmet == "":
			return place(s) + " denies it (" + s.Matched + "), and a deny wins over every allow"
		case s.Effect == iam.Allow && s.Unmet != "":
			unmet = append(unmet, place(s)+" would allow it, but its condition "+s.Unmet+" is not met")
		}
	}
	if len(unmet) > 0 {
		return strings.Join(unmet, "; ")
	}
	return "no statement allows " + principal + " to " + asked
}

// accessText names the access policy that does not accept the source address,
// or the time.
func accessText(chain []wire.DecisionStep, source bool) string {
	for _, s := range chain {
		if s.Access && s.Effect == iam.Deny && !s.Report && (s.Unmet == "sourceCidrs") == source {
			return place(s) + " (" + s.Matched + ")"
		}
	}
	return "an access policy"
}

func boundaryText(principal, asked string, chain []wire.DecisionStep) string {
	for _, s := range chain {
		if s.Boundary && !s.Report && s.Effect == iam.Deny && s.Unmet == "" {
			return place(s) + " denies it (" + s.Matched + ")"
		}
		if s.Boundary && !s.Report && s.Effect == iam.Allow && s.Unmet != "" {
			return place(s) + " would let it pass, but its condition " + s.Unmet + " is not met"
		}
	}
	return "policies allow " + asked + ", but a boundary of " + principal + " does not"
}

func approvalText(asked string, chain []wire.DecisionStep) string {
	for _, s := range chain {
		if s.Missing > 0 && !s.Report {
			return fmt.Sprintf("%s asks for %d more approvals before %s; requests for approval name it", place(s), s.Missing, asked)
		}
	}
	return asked + " waits for an approval"
}

// nearText names the statement that misses by one thing, if there is one.
func nearText(a *asker, t *target) string {
	q := iam.Question{Principal: a.principal, Action: t.action, Resource: t.resource}
	near := iam.Nearest(a.rules, q, 1)
	if len(near) == 0 {
		return ""
	}
	s := wireChain([]iam.Step{near[0].Step})[0]
	if near[0].OtherAction {
		return "; the closest is " + place(s) + ", which reaches it (" + s.Matched + "), but not for this action"
	}
	return "; the closest is " + place(s) + " (" + s.Matched + ")"
}

func reportText(reports, allowed bool) string {
	switch {
	case !reports:
		return ""
	case allowed:
		return ". If the policies that only report had a say, it would be allowed"
	}
	return ". If the policies that only report had a say, it would be denied"
}

// reasonText says the reason of a denial.
func reasonText(reason string) string {
	switch reason {
	case iam.ReasonBoundary:
		return "a boundary caps what the principal can get"
	case iam.ReasonSource:
		return "an access policy does not accept the source address"
	case iam.ReasonWindow:
		return "an access policy does not accept the time"
	case iam.ReasonApproval:
		return "an approval was missing"
	case iam.ReasonQuarantined:
		return "the principal was in quarantine"
	}
	return "no statement allowed it, or one denied it"
}

func firstWord(s string) string {
	word, _, _ := strings.Cut(s, ":")
	return word
}
