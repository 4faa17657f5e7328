package iam_test

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/strongroom/strongroom/iam"
	"github.com/strongroom/strongroom/internal/names"
)

// The small world: few enough paths, keys and actions that random rules meet,
// contradict and miss each other all the time.
const (
	keyA  = "0198c0de-0000-7000-8000-00000000000a"
	keyB  = "0198c0de-0000-7000-8000-00000000000b"
	alias = "alias/payments"
)

var (
	worldPaths   = []string{"/a", "/a/b", "/a/b/c", "/a/bb/c", "/b", "/b/a"}
	worldActions = []iam.Action{
		"secrets:getSecretValue", "secrets:describeSecret", "secrets:createSecret",
		"kms:encrypt", "kms:decrypt", "kms:createKey",
		"cluster:status", "iam:putPolicy",
	}
	worldSources = []string{"10.1.2.3", "::ffff:10.1.2.3", "192.0.2.1", "2001:db8::1", ""}
	worldTimes   = []time.Time{noon.Add(-time.Hour), noon, noon.Add(time.Hour), noon.Add(2 * time.Hour)}
)

// worldResources are all that a question in the world can be about.
func worldResources(action iam.Action) []iam.Resource {
	out := []iam.Resource{{Any: true}}
	switch {
	case strings.HasPrefix(string(action), "secrets:"):
		for _, path := range worldPaths {
			out = append(out, iam.Resource{Path: names.Path(path)})
		}
	case strings.HasPrefix(string(action), "kms:"):
		out = append(out,
			iam.Resource{KeyID: keyA},
			iam.Resource{KeyID: keyA, KeyAliases: []string{"alias/x", alias}},
			iam.Resource{KeyID: keyB, KeyAliases: []string{"alias/other"}})
	}
	return out
}

// worldQuestions are every action on every resource.
func worldQuestions() []iam.Question {
	var out []iam.Question
	for _, action := range worldActions {
		for _, resource := range worldResources(action) {
			out = append(out, iam.Question{Principal: "web", Action: action, Resource: resource, Source: netip.MustParseAddr("10.1.2.3"), At: noon})
		}
	}
	return out
}

// written is one set of rules as somebody would write it, before compilation.
type written struct {
	policies [][]iam.Statement
	access   []iam.AccessDocument
}

func (w written) compile(t require.TestingT) iam.Rules {
	var all []*iam.Policy
	for i, statements := range w.policies {
		all = append(all, compile(t, fmt.Sprintf("p%d", i), statements...))
	}
	out := rules(all...)
	var access []*iam.AccessPolicy
	for _, document := range w.access {
		p, err := iam.CompileAccessPolicy(catalogue, document)
		require.NoError(t, err)
		access = append(access, p)
	}
	out.Access = iam.Accesses(access...)
	return out
}

func (w written) and(statement iam.Statement) written {
	w.policies = append(slices.Clone(w.policies), []iam.Statement{statement})
	return w
}

func pick[T any](t *rapid.T, label string, from []T) T { return rapid.SampledFrom(from).Draw(t, label) }

func some(t *rapid.T, label string, least int, from ...string) []string {
	return rapid.SliceOfNDistinct(rapid.SampledFrom(from), least, 3, rapid.ID[string]).Draw(t, label)
}

// worldStatements draws one that compiles, of any of the five shapes there are.
func worldStatements(effects ...string) *rapid.Generator[iam.Statement] {
	return rapid.Custom(func(t *rapid.T) iam.Statement {
		s := iam.Statement{Effect: pick(t, "effect", effects)}
		switch pick(t, "shape", []string{"paths", "paths", "keys", "cluster", "everything", "both"}) {
		case "paths":
			s.Actions = some(t, "actions", 1, "secrets:getSecretValue", "secrets:describeSecret", "secrets:createSecret", "secrets:*", "*")
			s.Paths = worldPatterns(t)
			s.Roles = some(t, "roles", 0, "secrets-read-access", "secrets-value-access", "secrets-full-access", "full-access")
		case "keys":
			s.Actions = some(t, "actions", 1, "kms:encrypt", "kms:decrypt", "kms:createKey", "kms:*", "*")
			s.Keys = some(t, "keys", 1, keyA, keyB, alias, "alias/other", "*")
			s.Roles = some(t, "roles", 0, "kms-use-access", "kms-admin-access", "full-access")
		case "cluster":
			s.Actions = some(t, "actions", 1, "cluster:status", "cluster:*", "iam:putPolicy", "iam:*")
		case "everything":
			s.Roles = []string{"full-access"}
		case "both":
			s.Actions = []string{"secrets:getSecretValue", "kms:decrypt"}
			s.Paths, s.Keys = worldPatterns(t), some(t, "keys", 1, keyA, keyB, alias, "*")
		}
		return s
	})
}

func worldPatterns(t *rapid.T) []string {
	return some(t, "paths", 1, "/a", "/a/*", "/a/**", "/a/b*/c", "/*/b/**", "/b", "/**")
}

// worldRules draws a few policies, half of the time with access policies.
func worldRules() *rapid.Generator[written] {
	return rapid.Custom(func(t *rapid.T) written {
		return written{
			policies: rapid.SliceOfN(rapid.SliceOfN(worldStatements(iam.Allow, iam.Allow, iam.Deny), 1, 3), 0, 3).Draw(t, "policies"),
			access:   rapid.SliceOfN(worldAccess(), 0, 2).Draw(t, "access"),
		}
	})
}

func worldAccess() *rapid.Generator[iam.AccessDocument] {
	return rapid.Custom(func(t *rapid.T) iam.AccessDocument {
		d := iam.AccessDocument{
			Name:        "ap" + fmt.Sprint(rapid.IntRange(0, 99).Draw(t, "n")),
			Paths:       worldPatterns(t),
			Actions:     some(t, "actions", 0, "secrets:getSecretValue", "secrets:describeSecret", "secrets:*", "*"),
			Principals:  some(t, "principals", 0, "web", "batch"),
			Groups:      some(t, "groups", 0, "ops", "night"),
			SourceCIDRs: some(t, "cidrs", 0, "10.0.0.0/8", "::ffff:10.1.0.0/112", "192.0.2.0/24", "2001:db8::/32", "0.0.0.0/0", "::/0"),
		}
		if rapid.Bool().Draw(t, "windows") {
			d.TimeWindows = rapid.SliceOfN(rapid.Custom(drawWindow), 1, 2).Draw(t, "windows of it")
		}
		if rapid.Bool().Draw(t, "notBefore") {
			d.NotBefore = pick(t, "from", worldTimes[:3])
		}
		if rapid.Bool().Draw(t, "notAfter") || len(d.SourceCIDRs) == 0 && d.NotBefore.IsZero() {
			d.NotAfter = pick(t, "to", slices.DeleteFunc(slices.Clone(worldTimes), func(at time.Time) bool { return !at.After(d.NotBefore) }))
		}
		return d
	})
}

// worldQuestion draws one of the world, from any place at any time.
func worldQuestion(t *rapid.T) iam.Question {
	q := pick(t, "question", worldQuestions())
	q.Principal = pick(t, "principal", []string{"web", "batch", "ops"})
	q.Source, _ = netip.ParseAddr(pick(t, "source", worldSources))
	q.At = pick(t, "at", worldTimes)
	q.Groups = some(t, "in groups", 0, "ops", "night", "other")
	return q
}

// naive decides from what was written, the slow way: roles are looked up,
// patterns are regular expressions, addresses are compared by their text.
func naive(w written, q iam.Question) bool {
	granted := false
	for _, policy := range w.policies {
		for _, s := range policy {
			if !naiveActions(s.Actions, s.Roles, q.Action) || !naiveReach(s, q) {
				continue
			}
			if s.Effect == iam.Deny {
				return false
			}
			granted = true
		}
	}
	return granted && !slices.ContainsFunc(w.access, func(d iam.AccessDocument) bool { return naiveForbids(d, q) })
}

func naiveActions(texts, roles []string, action iam.Action) bool {
	for _, role := range roles {
		for _, a := range iam.Roles()[role] {
			texts = append(slices.Clone(texts), string(a))
		}
	}
	return slices.ContainsFunc(texts, func(text string) bool {
		prefix, wild := strings.CutSuffix(text, "*")
		return text == string(action) || wild && strings.HasPrefix(string(action), prefix)
	})
}

func naiveReach(s iam.Statement, q iam.Question) bool {
	if len(s.Paths)+len(s.Keys) == 0 {
		return true
	}
	switch service, _, _ := strings.Cut(string(q.Action), ":"); service {
	case "secrets":
		if q.Resource.Any {
			return slices.Contains(s.Paths, "/**")
		}
		return naivePaths(s.Paths, q.Resource.Path)
	case "kms":
		refs := map[string]bool{"*": true, q.Resource.KeyID: true}
		for _, a := range q.Resource.KeyAliases {
			refs[a] = true
		}
		return slices.ContainsFunc(s.Keys, func(key string) bool { return refs[key] })
	}
	return false
}

func naivePaths(patterns []string, path names.Path) bool {
	return slices.ContainsFunc(patterns, func(pattern string) bool {
		body, rest := strings.CutSuffix(pattern, "/**")
		expression := "^" + strings.ReplaceAll(regexp.QuoteMeta(body), `\*`, "[^/]*")
		if rest {
			expression += "(/[^/]+)+"
		}
		return regexp.MustCompile(expression + "$").MatchString(string(path))
	})
}

// inside is which of the world's sources lie in which of its ranges, by hand.
var inside = map[string][]string{
	"10.0.0.0/8":          {"10.1.2.3"},
	"::ffff:10.1.0.0/112": {"10.1.2.3"},
	"192.0.2.0/24":        {"192.0.2.1"},
	"2001:db8::/32":       {"2001:db8::1"},
	"0.0.0.0/0":           {"10.1.2.3", "192.0.2.1"},
	"::/0":                {"2001:db8::1"},
}

func naiveForbids(d iam.AccessDocument, q iam.Question) bool {
	away, shut := naiveAccess(d, q)
	return away || shut
}

// naiveAccess answers whether d does not accept the place, or the time.
func naiveAccess(d iam.AccessDocument, q iam.Question) (away, closed bool) {
	about := len(d.Principals)+len(d.Groups) == 0 || slices.Contains(d.Principals, q.Principal) ||
		slices.ContainsFunc(d.Groups, func(g string) bool { return slices.Contains(q.Groups, g) })
	if q.Resource.Path == "" || !naivePaths(d.Paths, q.Resource.Path) || !about {
		return false, false
	}
	if len(d.Actions) == 0 {
		// Of the world's actions, describeSecret alone neither reveals nor
		// changes a value.
		if q.Action == "secrets:describeSecret" {
			return false, false
		}
	} else if !naiveActions(d.Actions, nil, q.Action) {
		return false, false
	}
	source := strings.TrimPrefix(q.Source.String(), "::ffff:")
	there := len(d.SourceCIDRs) == 0 || slices.ContainsFunc(d.SourceCIDRs, func(cidr string) bool { return slices.Contains(inside[cidr], source) })
	early := !d.NotBefore.IsZero() && q.At.Unix() < d.NotBefore.Unix()
	late := !d.NotAfter.IsZero() && q.At.Unix() >= d.NotAfter.Unix()
	shut := len(d.TimeWindows) > 0 && !slices.ContainsFunc(d.TimeWindows, func(w iam.TimeWindow) bool { return onTheWall(w, q.At) })
	return !there, early || late || shut
}

// The properties mean something only in a world where both answers occur.
func TestTheSmallWorldIsNotTrivial(t *testing.T) {
	seen := map[bool]int{}
	rapid.Check(t, func(t *rapid.T) {
		r := worldRules().Draw(t, "rules").compile(t)
		for _, q := range worldQuestions() {
			seen[iam.Decide(r, q).Allowed]++
		}
	})
	require.Greater(t, seen[true], 100)
	require.Greater(t, seen[false], 100)
}
