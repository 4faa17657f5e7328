package iam_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/strongroom/strongroom/iam"
	"github.com/strongroom/strongroom/internal/names"
)

// wider is the small world with all that can be written in a policy.
type wider struct {
	policies   [][]iam.Statement
	boundaries [][]iam.Statement
	report     []bool // of policies: it only reports
	glass      []bool // of policies: it holds by a break-glass session
	access     []iam.AccessDocument
}

const session = "session-1"

func (w wider) compile(t require.TestingT) iam.Rules {
	var grants []iam.Grant
	for i, statements := range w.policies {
		g := iam.Grant{Policy: compile(t, fmt.Sprintf("p%d", i), statements...)}
		if w.report[i] {
			g.Policy = g.Policy.ReportOnly()
		}
		if w.glass[i] {
			g.BreakGlass = session
		}
		grants = append(grants, g)
	}
	out := rules()
	out.Policies = iam.NewPolicySet(grants)
	out.Access = written{access: w.access}.compile(t).Access
	for i, statements := range w.boundaries {
		out.Boundaries = append(out.Boundaries, iam.Set(compile(t, fmt.Sprintf("b%d", i), statements...)))
	}
	return out
}

func widerStatement(t *rapid.T) iam.Statement {
	s := worldStatements(iam.Allow, iam.Allow, iam.Deny, iam.RequireApproval).Draw(t, "statement")
	if s.Effect == iam.RequireApproval {
		s.Approval = &iam.Approval{
			Principals: some(t, "approvers", 0, "ann", "bob", "web"), Groups: some(t, "approving groups", 0, "security"),
			Count: 1,
		}
		if len(s.Approval.Groups) > 0 || len(s.Approval.Principals) != 1 {
			s.Approval.Count = rapid.IntRange(1, 2).Draw(t, "count")
		}
	}
	if !rapid.Bool().Draw(t, "conditional") {
		return s
	}
	c := iam.Conditions{}
	switch pick(t, "condition", []string{"source", "method", "group", "time", "tags"}) {
	case "source":
		c.SourceCIDRs = some(t, "cidrs", 1, "10.0.0.0/8", "192.0.2.0/24", "2001:db8::/32", "::/0")
	case "method":
		c.AuthMethods = some(t, "methods", 1, iam.AuthMethods()...)
	case "group":
		c.Groups = some(t, "groups", 1, "ops", "security")
	case "time":
		c.NotBefore = pick(t, "from", worldTimes[:3])
	case "tags":
		if len(s.Paths)+len(s.Keys) == 0 {
			c.NotAfter = pick(t, "to", worldTimes)
			break
		}
		c.Tags = map[string][]string{"tier": some(t, "tiers", 1, "1", "2", "*")}
	}
	s.Conditions = &c
	return s
}

func drawWider(t *rapid.T) wider {
	w := wider{
		policies:   rapid.SliceOfN(rapid.SliceOfN(rapid.Custom(widerStatement), 1, 3), 0, 3).Draw(t, "policies"),
		boundaries: rapid.SliceOfN(rapid.SliceOfN(rapid.Custom(widerStatement), 1, 2), 0, 2).Draw(t, "boundaries"),
	}
	for range w.policies {
		w.report = append(w.report, pick(t, "report only", []bool{false, false, false, true}))
		w.glass = append(w.glass, pick(t, "break-glass", []bool{false, false, true}))
	}
	for _, glass := range []bool{false, true} {
		if rapid.Bool().Draw(t, "generous") {
			w.policies, w.report, w.glass = append(w.policies, []iam.Statement{allow(list("*"))}), append(w.report, false), append(w.glass, glass)
		}
	}
	if rapid.Bool().Draw(t, "restricted") {
		w.access = rapid.SliceOfN(worldAccess(), 1, 3).Draw(t, "access")
	}
	for i := range w.boundaries {
		if rapid.Bool().Draw(t, "wide boundary") {
			w.boundaries[i] = append(w.boundaries[i], allow(list("*")))
		}
	}
	return w
}

func widerQuestion(t *rapid.T) iam.Question {
	q := worldQuestion(t)
	q.AuthMethod = pick(t, "method", iam.AuthMethods())
	if rapid.Bool().Draw(t, "of a value") {
		q.Action, q.Resource = "secrets:getSecretValue", iam.Resource{Path: names.Path(pick(t, "path", worldPaths))}
	}
	q.Groups = some(t, "in groups", 0, "ops", "security", "other")
	if rapid.Bool().Draw(t, "tagged") {
		q.Resource.Tags = map[string]string{"tier": pick(t, "tier", []string{"1", "2", "3"})}
	}
	for _, name := range some(t, "approved by", 0, "ann", "bob", "web") {
		a := iam.Approver{Principal: name}
		if rapid.Bool().Draw(t, "of security") {
			a.Groups = []string{"security"}
		}
		q.ApprovedBy = append(q.ApprovedBy, a)
	}
	return q
}

// says is what one list of statements says to q, from what was written.
func says(statements []iam.Statement, q iam.Question) (allowed, denied, held bool) {
	for _, s := range statements {
		if !naiveActions(s.Actions, s.Roles, q.Action) || !naiveReach(s, q) || !naiveConditions(s, q) {
			continue
		}
		switch s.Effect {
		case iam.Allow:
			allowed = true
		case iam.Deny:
			denied = true
		default:
			approves := q.Action == "iam:approve" || q.Action == "iam:deny" // needs no approval
			held = held || !approves && !naiveApproved(*s.Approval, q)
		}
	}
	return allowed, denied, held
}

func naiveConditions(s iam.Statement, q iam.Question) bool {
	c, restricts := s.Conditions, s.Effect != iam.Allow
	if c == nil {
		return true
	}
	if len(c.SourceCIDRs) > 0 {
		source := strings.TrimPrefix(q.Source.String(), "::ffff:")
		in := slices.ContainsFunc(c.SourceCIDRs, func(cidr string) bool { return slices.Contains(inside[cidr], source) })
		if !in && (q.Source != netip.Addr{} || !restricts) {
			return false
		}
	}
	if len(c.AuthMethods) > 0 && !slices.Contains(c.AuthMethods, q.AuthMethod) {
		return false
	}
	if len(c.Groups) > 0 && !slices.ContainsFunc(c.Groups, func(g string) bool { return slices.Contains(q.Groups, g) }) {
		return false
	}
	if !c.NotBefore.IsZero() && q.At.Before(c.NotBefore) || !c.NotAfter.IsZero() && !q.At.Before(c.NotAfter) {
		return false
	}
	if want := c.Tags["tier"]; want != nil {
		tier, tagged := q.Resource.Tags["tier"]
		if q.Resource.Path == "" && q.Resource.KeyID == "" {
			return restricts
		}
		return tagged && (slices.Contains(want, "*") || slices.Contains(want, tier))
	}
	return true
}

func naiveApproved(a iam.Approval, q iam.Question) bool {
	n := 0
	for _, who := range q.ApprovedBy {
		entitled := len(a.Principals)+len(a.Groups) == 0 || slices.Contains(a.Principals, who.Principal) ||
			slices.ContainsFunc(a.Groups, func(g string) bool { return slices.Contains(who.Groups, g) })
		if entitled && who.Principal != q.Principal {
			n++
		}
	}
	return n >= a.Count
}

// outcome is what comes of a question: the reason of a denial, and what it has
// to do with the session.
type outcome struct {
	reason         string
	needs, covered bool
}

// outcomeOf answers what comes of q; shadow: as if what only reports had a say.
func (w wider) outcomeOf(q iam.Question, shadow bool) outcome {
	var lasting, glass []iam.Statement
	for i, policy := range w.policies {
		switch {
		case w.report[i] && !shadow:
		case w.glass[i]:
			glass = append(glass, policy...)
		default:
			lasting = append(lasting, policy...)
		}
	}
	allowed, denied, held := says(slices.Concat(lasting, glass), q)
	if denied || !allowed {
		return outcome{reason: iam.ReasonIAM}
	}
	for _, b := range w.boundaries {
		if a, d, _ := says(b, q); d || !a {
			return outcome{reason: iam.ReasonBoundary}
		}
	}
	without, _, _ := says(lasting, q)
	with, _, _ := says(glass, q)
	shut, timed := false, false
	for _, d := range w.access {
		away, closed := naiveAccess(d, q)
		if away {
			return outcome{reason: iam.ReasonSource}
		}
		shut, timed = shut || closed, timed || naiveTimed(d, q)
	}
	switch {
	case shut && !with:
		return outcome{reason: iam.ReasonWindow}
	case held:
		return outcome{reason: iam.ReasonApproval}
	}
	needs := !without || shut
	return outcome{needs: needs, covered: !needs && with && timed}
}

// naiveTimed reports whether d is about q and says anything about times.
func naiveTimed(d iam.AccessDocument, q iam.Question) bool {
	timed := len(d.TimeWindows) > 0 || !d.NotBefore.IsZero() || !d.NotAfter.IsZero()
	d.NotBefore = q.At.AddDate(100, 0, 0)
	_, about := naiveAccess(d, q)
	return timed && about
}

// TestDecideAgreesWithWhatIsWritten holds the index, the conditions, the
// boundaries, the approvals and what only reports against a second
// implementation, which has none of its structures.
func TestDecideAgreesWithWhatIsWritten(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		drawCase(t).hold(t)
	})
}

// The same over cases that never change, so what they reach never changes
// either: each outcome there is. Chance alone misses the rarest now and then.
func TestDecideAgreesOnEachOutcome(t *testing.T) {
	seen := map[outcome]int{}
	cases := rapid.Custom(drawCase)
	for seed := range 300 {
		for _, o := range cases.Example(seed).hold(t) {
			seen[o]++
		}
	}
	for _, reason := range []string{"", iam.ReasonIAM, iam.ReasonBoundary, iam.ReasonApproval, iam.ReasonSource, iam.ReasonWindow} {
		require.Greater(t, seen[outcome{reason: reason}], 10, reason)
	}
	require.Greater(t, seen[outcome{needs: true}], 10)
	require.Greater(t, seen[outcome{covered: true}], 10)
}

// widerCase is a set of rules, and what is asked of it.
type widerCase struct {
	wider
	questions []iam.Question
}

func drawCase(t *rapid.T) widerCase {
	return widerCase{drawWider(t), rapid.SliceOfN(rapid.Custom(widerQuestion), 40, 40).Draw(t, "questions")}
}

// hold decides each question in both ways, and answers what came of it.
func (c widerCase) hold(t require.TestingT) []outcome {
	w, r := c.wider, c.compile(t)
	var out []outcome
	for _, q := range c.questions {
		d := iam.Decide(r, q)
		want := w.outcomeOf(q, false)
		require.Equal(t, want.reason, d.Reason, "%+v on %+v", w, q)
		require.Equal(t, want.reason == "", d.Allowed)
		require.Equal(t, want.needs, d.BreakGlass == session, "%+v on %+v", w, q)
		require.Equal(t, want.covered, d.Covered == session, "%+v on %+v", w, q)
		require.Equal(t, want.reason == iam.ReasonApproval, len(d.Needs) > 0)
		if would := w.outcomeOf(q, true).reason; would == want.reason {
			require.Nil(t, d.Report)
		} else {
			require.Equal(t, &iam.Outcome{Allowed: would == "", Reason: would}, d.Report)
		}
		if d.Allowed && !q.Resource.Any {
			require.True(t, iam.MayAnywhere(r, q.Action), "a list that is refused could have shown something")
			if iam.BreakGlassAnywhere(r, q.Action) != "" {
				require.NotEmpty(t, d.BreakGlass, "nothing is allowed without, so this is not")
			}
		}
		out = append(out, want)
	}
	return out
}

// Nobody approves their own request, not for a threshold of any height.
func TestNobodyApprovesTheirOwnRequest(t *testing.T) {
	r := rules(compile(t, "p", allow(list("*")), iam.Statement{
		Effect: iam.RequireApproval, Actions: list("secrets:destroyVersion"), Paths: list("/**"), Approval: &iam.Approval{Groups: list("security"), Count: 1},
	}))
	q := about("secrets:destroyVersion", "/a")
	security := list("security")
	for name, c := range map[string]struct {
		by   []iam.Approver
		want bool
	}{
		"nobody":              {nil, false},
		"themselves":          {[]iam.Approver{{Principal: "web", Groups: security}}, false},
		"themselves, twice":   {[]iam.Approver{{Principal: "web", Groups: security}, {Principal: "web", Groups: security}}, false},
		"somebody else":       {[]iam.Approver{{Principal: "ann"}}, false},
		"one of the group":    {[]iam.Approver{{Principal: "ann", Groups: security}}, true},
		"one of another name": {[]iam.Approver{{Principal: "web2", Groups: security}}, true},
	} {
		q.ApprovedBy = c.by
		d := iam.Decide(r, q)
		require.Equal(t, c.want, d.Allowed, name)
		if !c.want {
			require.Equal(t, iam.ReasonApproval, d.Reason)
			require.Len(t, d.Needs, 1)
			require.Equal(t, 24*time.Hour, d.Needs[0].ValidFor)
		}
	}
}

func TestOneApproverCountsOnce(t *testing.T) {
	r := rules(compile(t, "p", allow(list("*")), iam.Statement{
		Effect: iam.RequireApproval, Actions: list("cluster:status"), Approval: &iam.Approval{Count: 2},
	}))
	q := about("cluster:status", "")
	q.Resource.Any = true
	q.ApprovedBy = []iam.Approver{{Principal: "ann"}, {Principal: "ann"}}
	require.Equal(t, 1, iam.Decide(r, q).Needs[0].Given)
	q.ApprovedBy = append(q.ApprovedBy, iam.Approver{Principal: "bob"})
	require.True(t, iam.Decide(r, q).Allowed)
}

// An approval that waits for an approval could never be given.
func TestWhoApprovesNeedsNoApproval(t *testing.T) {
	hold := func(actions ...string) iam.Statement {
		return iam.Statement{Effect: iam.RequireApproval, Actions: actions, Approval: &iam.Approval{Count: 1}}
	}
	r := rules(compile(t, "p", allow(list("*")), hold("*"), hold("iam:*")))
	for action, allowed := range map[iam.Action]bool{"iam:approve": true, "iam:deny": true, "iam:putPolicy": false, "iam:requestApproval": false} {
		q := about(action, "")
		q.Resource.Any = true
		require.Equal(t, allowed, iam.Decide(r, q).Allowed, action)
	}
	for _, action := range []string{"iam:approve", "iam:deny"} {
		_, _, err := iam.CompilePolicy(catalogue, "p", 1, []iam.Statement{hold("iam:putPolicy", action)})
		requireInvalid(t, err, "statements[0].approval", "cannot hold back "+action)
	}
}

// Where an approval is needed for one thing, what is not that thing goes on.
func TestWhatABreakGlassSessionIsNeededFor(t *testing.T) {
	emergency := compile(t, "emergency", allow(list("secrets:getSecretValue"), "/a/**"))
	usual := compile(t, "usual", allow(list("secrets:getSecretValue"), "/a/b"))
	r := iam.Rules{Policies: iam.NewPolicySet([]iam.Grant{{Policy: usual}, {Policy: emergency, BreakGlass: "session-1"}})}
	d := iam.Decide(r, about("secrets:getSecretValue", "/a/c"))
	require.True(t, d.Allowed)
	require.Equal(t, "session-1", d.BreakGlass)
	require.Empty(t, iam.Decide(r, about("secrets:getSecretValue", "/a/b")).BreakGlass, "this was allowed anyhow")
}

// TestAThousandStatementsCostADecisionNothing counts what a decision looks
// at: those statements that can be about the path, not those that there are.
func TestAThousandStatementsCostADecisionNothing(t *testing.T) {
	for _, n := range []int{10, 1000} {
		var policies []*iam.Policy
		for i := range n {
			policies = append(policies, compile(t, fmt.Sprintf("p%d", i),
				allow(list("secrets:getSecretValue"), fmt.Sprintf("/app/prod/service-%d/**", i), fmt.Sprintf("/app/dev/service-%d/db-*", i)),
				deny(list("secrets:destroyVersion"), "/**")))
		}
		set := iam.Set(policies...)
		require.Equal(t, 1, iam.LookedAt(set, about("secrets:getSecretValue", "/app/prod/service-7/db")))
		require.Equal(t, 0, iam.LookedAt(set, about("secrets:getSecretValue", "/app/prod/service-x/db")))
		require.Equal(t, n, iam.LookedAt(set, about("secrets:destroyVersion", "/app/prod/service-7/db")), "these are all about it")
	}
}

func BenchmarkDecide(b *testing.B) {
	for _, n := range []int{1, 10, 100, 1000, 10_000} {
		var policies []*iam.Policy
		for i := range n {
			policies = append(policies, compile(b, fmt.Sprintf("p%d", i),
				allow(list("secrets:getSecretValue"), fmt.Sprintf("/app/prod/service-%d/**", i))))
		}
		r := rules(policies...)
		q := about("secrets:getSecretValue", "/app/prod/service-0/db")
		b.Run(fmt.Sprintf("statements=%d", n), func(b *testing.B) {
			for b.Loop() {
				if !iam.Decide(r, q).Allowed {
					b.Fatal("denied")
				}
			}
		})
	}
}
