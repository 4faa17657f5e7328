package engine

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/strongroom/strongroom/api/wire"
	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/iam"
	"github.com/strongroom/strongroom/internal/names"
)

// Kinds of findings about policies.
const (
	findWide     = "wide"
	findPeople   = "valueAccessForPeople"
	findUnused   = "unused"
	findShadowed = "shadowed"
	findNever    = "neverAllows"
	findMissing  = "missing"
	findStale    = "stale"
	findUncapped = "noBoundary"

	severityWarning = "warning"
)

// Bounds of lintPolicies.
const (
	maxFindings   = 1000
	defaultUnused = 30 * 24 * time.Hour
	// maxCompared is how many pairs of statements are held against each other.
	maxCompared = 2_000_000
	// maxCapped is how many holders of a policy are looked at for boundaries.
	maxCapped = 100
	// maxMembersLooked is how many members of a group are looked at for people.
	maxMembersLooked = 1000
)

// place of a statement.
type statementAt struct {
	policy    string
	statement int
}

type policyLinter struct {
	c        *call
	out      *wire.LintPoliciesResponse
	used     map[statementAt]bool
	looked   bool // at the trail, all of it
	compared int
	reaches  map[string][]iam.Reach
	holders  map[string][]fsm.Holder
}

// lintPolicies goes over the policies as they are in the state, and over the
// trail for what was used.
func lintPolicies(ctx context.Context, c *call, r *wire.LintPoliciesRequest) (*wire.LintPoliciesResponse, error) {
	since, err := c.sinceTime(r.Since, defaultUnused)
	if err != nil {
		return nil, err
	}
	if r.Policy != "" && c.state.Policy(r.Policy) == nil {
		return nil, errNoPolicy(r.Policy)
	}
	l := &policyLinter{
		c: c, out: &wire.LintPoliciesResponse{Findings: []wire.PolicyFinding{}}, used: map[statementAt]bool{},
		reaches: map[string][]iam.Reach{}, holders: map[string][]fsm.Holder{},
	}
	replayer := c.newReplayer(since)
	if since.Before(c.now) {
		if err := l.use(ctx, replayer); err != nil {
			return nil, err
		}
	}
	l.out.Replayed = replayer.out
	l.looked = since.Before(c.now) && replayer.out.StoppedAt == nil && len(replayer.out.Unreachable) == 0
	for policy := range c.state.Policies("") {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if r.Policy != "" && policy.Name != r.Policy {
			continue
		}
		if err := l.policy(policy, since); err != nil {
			return nil, err
		}
	}
	return l.out, nil
}

// use notes which statements allowed what was asked for.
func (l *policyLinter) use(ctx context.Context, replayer *replayer) error {
	return replayer.run(ctx, func(q *replay) error {
		d, _, err := replayer.ask(l.c.state, q)
		if err != nil {
			return err
		}
		for _, s := range d.Chain {
			if s.Effect == iam.Allow && !s.Access && !s.Boundary && s.Unmet == "" {
				l.used[statementAt{s.Policy, s.Statement}] = true
			}
		}
		return nil
	})
}

func (l *policyLinter) find(at statementAt, kind, severity, format string, args ...any) {
	if len(l.out.Findings) == maxFindings {
		l.out.More++
		return
	}
	l.out.Findings = append(l.out.Findings, wire.PolicyFinding{
		Policy: at.policy, Statement: at.statement, Kind: kind, Severity: severity, Message: fmt.Sprintf(format, args...),
	})
}

func (l *policyLinter) policy(policy *fsm.Policy, since time.Time) error {
	l.out.Policies++
	reaches, err := l.reach(policy.Name)
	if err != nil {
		return err
	}
	people := l.people(policy.Name)
	held := slices.ContainsFunc(l.holdersOf(policy.Name), isGrant)
	for i := range reaches {
		at, one := statementAt{policy.Name, i}, &reaches[i]
		l.wide(at, policy)
		if one.Effect == iam.Allow && one.Values() && people != "" {
			l.find(at, findPeople, severityWarning, "lets people read values: %s; give values to services, and to people for some time or behind an approval", people)
		}
		if l.looked && held && one.Effect == iam.Allow && !policy.ReportOnly && !l.used[at] && policy.UpdatedAt <= since.UnixMilli() {
			l.find(at, findUnused, severityNotice, "no request since %s needed it; leave it out if nobody will", since.UTC().Format("2006-01-02"))
		}
		if err := l.uncapped(at, one); err != nil {
			return err
		}
		l.missing(at, one)
		l.stale(at, one)
		if err := l.shadow(at, one); err != nil {
			return err
		}
	}
	return nil
}

func isGrant(h fsm.Holder) bool { return h.Mode == fsm.ModeGrant }

// reach answers the statements of a policy, compiled.
func (l *policyLinter) reach(name string) ([]iam.Reach, error) {
	if known, ok := l.reaches[name]; ok {
		return known, nil
	}
	policy, err := l.c.engine.compiled(l.c.state, name)
	if err != nil {
		return nil, err
	}
	l.reaches[name] = iam.Reaches(iam.Rules{Policies: iam.Set(policy)})
	return l.reaches[name], nil
}

func (l *policyLinter) holdersOf(name string) []fsm.Holder {
	if known, ok := l.holders[name]; ok {
		return known
	}
	l.holders[name] = slices.Collect(l.c.state.Holders(name))
	return l.holders[name]
}

// wide repeats what putPolicy warned of.
func (l *policyLinter) wide(at statementAt, policy *fsm.Policy) {
	statements := iamStatements(policy.Statements[at.statement : at.statement+1])
	_, warnings, err := iam.CompilePolicy(l.c.engine.catalogue, policy.Name, policy.Revision, statements)
	if err != nil {
		return // it was compiled before, as a whole
	}
	for _, w := range warnings {
		l.find(at, findWide, severityWarning, "%s", w.Message)
	}
}

// people names the first of the users that a policy reaches as a grant, ""
// if it reaches none.
func (l *policyLinter) people(policy string) string {
	var found []string
	for _, h := range l.holdersOf(policy) {
		if !isGrant(h) {
			continue
		}
		if p := l.c.state.Principal(h.Principal); p != nil && p.Kind == "user" {
			found = append(found, h.Principal)
		}
		if h.Group == fsm.Everyone {
			found = append(found, "everyone")
		} else if h.Group != "" {
			found = append(found, l.members(h.Group)...)
		}
	}
	const few = 3
	if len(found) > few {
		return fmt.Sprintf("%s and %d more", strings.Join(found[:few], ", "), len(found)-few)
	}
	return strings.Join(found, ", ")
}

func (l *policyLinter) members(group string) []string {
	var out []string
	looked := 0
	for m := range l.c.state.Members(group, "") {
		if looked++; looked > maxMembersLooked {
			break
		}
		if p := l.c.state.Principal(m.Principal); m.Holds(l.c.now.UnixMilli()) && p != nil && p.Kind == "user" {
			out = append(out, m.Principal+" (group "+group+")")
		}
	}
	return out
}

// uncapped finds principals that may change policies, and so give themselves
// everything, with no boundary over them. Who may do everything already is not
// meant.
func (l *policyLinter) uncapped(at statementAt, r *iam.Reach) error {
	if r.Effect != iam.Allow || r.Names(iam.Everything) || !r.Names("iam:putPolicy") && !r.Names("iam:attachPolicy") {
		return nil
	}
	for i, h := range l.holdersOf(at.policy) {
		p := l.c.state.Principal(h.Principal)
		if p == nil || !isGrant(h) {
			continue
		}
		if i == maxCapped {
			return nil
		}
		rights, err := l.c.engine.rightsAt(l.c.state, p, nil, l.c.now.UnixMilli())
		if err != nil {
			return err
		}
		if len(rights.boundaries) == 0 {
			l.find(at, findUncapped, severityNotice, "%s may change policies, and so get everything; a boundary would cap that", p.Name)
			return nil
		}
	}
	return nil
}

// missing finds paths and keys that are named and not there.
func (l *policyLinter) missing(at statementAt, r *iam.Reach) {
	paths, heads, keys := r.Exact()
	for _, path := range paths {
		if s := l.c.state.Secret(names.Path(path)); s == nil || s.State == fsm.SecretPurged {
			l.find(at, findMissing, severityNotice, "there is no secret %s", path)
		}
	}
	for _, head := range heads {
		some := false
		for s := range l.c.state.SecretsFrom(head, "") {
			if some = s.State != fsm.SecretPurged; some {
				break
			}
		}
		if !some && head != "/" {
			l.find(at, findMissing, severityNotice, "no secret begins with %s", head)
		}
	}
	for _, ref := range keys {
		if l.c.state.KeyByRef(ref) == nil {
			l.find(at, findMissing, severityWarning, "there is no key %s", ref)
		}
	}
}

// stale finds groups and principals that are named and not there. A group may
// still come from the claims of a trust.
func (l *policyLinter) stale(at statementAt, r *iam.Reach) {
	groups, principals := r.Mentions()
	for _, g := range groups {
		if l.c.state.Group(g) == nil {
			l.find(at, findStale, severityNotice, "there is no group %s, unless claims of a trust name it", g)
		}
	}
	for _, p := range principals {
		if l.c.state.Principal(p) == nil {
			l.find(at, findStale, severityWarning, "there is no principal %s to approve", p)
		}
	}
}

// shadow finds what makes a statement that allows superfluous: another one,
// of the same policy or of one that all its holders have as well.
func (l *policyLinter) shadow(at statementAt, one *iam.Reach) error {
	if one.Effect != iam.Allow || one.Report {
		return nil
	}
	for _, name := range l.besides(at.policy) {
		others, err := l.reach(name)
		if err != nil {
			return err
		}
		for i := range others {
			other := &others[i]
			if name == at.policy && i == at.statement || other.Effect == iam.RequireApproval {
				continue
			}
			if l.compared++; l.compared > maxCompared {
				return nil
			}
			if !other.Covers(one) {
				continue
			}
			if other.Effect == iam.Deny {
				l.find(at, findNever, severityWarning, "statements[%d] of policy %s denies all that it allows", i, name)
				return nil
			}
			// Of two that cover each other, the later one is superfluous.
			if one.Covers(other) && (name > at.policy || name == at.policy && i > at.statement) {
				continue
			}
			l.find(at, findShadowed, severityNotice, "statements[%d] of policy %s allows all that it allows", i, name)
			return nil
		}
	}
	return nil
}

// besides answers the policies that every holder of a policy has as grants
// without end, itself included.
func (l *policyLinter) besides(policy string) []string {
	out := []string{policy}
	holders := l.holdersOf(policy)
	if len(holders) == 0 || slices.ContainsFunc(holders, func(h fsm.Holder) bool { return !isGrant(h) }) {
		return out // what caps, or holds by a session only, is not what is granted
	}
	candidates := l.lasting(holders[0])
	for _, name := range append(candidates, l.lasting(fsm.Holder{Group: fsm.Everyone})...) {
		if slices.Contains(out, name) || !l.allHave(holders, name) {
			continue
		}
		out = append(out, name)
	}
	return out
}

func (l *policyLinter) allHave(holders []fsm.Holder, policy string) bool {
	if slices.Contains(l.lasting(fsm.Holder{Group: fsm.Everyone}), policy) {
		return true
	}
	for _, h := range holders {
		if !slices.Contains(l.lasting(h), policy) {
			return false
		}
	}
	return true
}

// lasting answers the policies that a holder has as grants without end.
func (l *policyLinter) lasting(h fsm.Holder) []string {
	var attached []fsm.Attachment
	if p := l.c.state.Principal(h.Principal); p != nil {
		attached = p.Attachments()
	} else if g := l.c.state.Group(h.Group); g != nil {
		attached = g.Attached
	}
	var out []string
	for _, a := range attached {
		if a.Mode == fsm.ModeGrant && a.ExpiresAt == 0 {
			out = append(out, a.Policy)
		}
	}
	return out
}
