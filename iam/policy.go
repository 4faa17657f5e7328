// Package iam decides who may do what. It is pure: it holds no state, reads
// no clock and asks no storage, so that enforcement, explanation and
// simulation are one function and cannot disagree.
package iam

import (
	"fmt"
	"slices"

	"github.com/strongroom/strongroom/internal/fault"
	"github.com/strongroom/strongroom/internal/names"
)

// Effects of a statement.
const (
	Allow = "allow"
	Deny  = "deny"
	// RequireApproval holds back what is allowed until others have approved
	// the request; see Approval.
	RequireApproval = "requireApproval"
)

// Bounds of a document: the cost of a decision is at most their product.
const (
	maxStatements = 1000
	maxEntries    = 256
)

// Statement is one line of a policy, as it is written.
//
// Actions and Roles add up. Paths are patterns over secrets' paths and bind
// the actions of secrets; Keys are key ids, alias/NAME, or "*" for every key,
// and bind the actions of kms. A statement with neither is about everything.
// A secrets action without Paths, a kms action without Keys, and an action of
// another service together with either are refused: none of them could mean
// what its author thought.
type Statement struct {
	Effect  string
	Actions []string
	Roles   []string
	Paths   []string
	Keys    []string
	// Conditions narrow the statement, nil: they do not.
	Conditions *Conditions
	// Approval goes with the effect RequireApproval.
	Approval *Approval
}

// Policy is a compiled policy, immutable and safe for concurrent use.
type Policy struct {
	name       string
	revision   uint64
	report     bool
	statements []statement
}

// ReportOnly answers p as a policy that decides nothing: a decision says what
// would be different if it did.
func (p *Policy) ReportOnly() *Policy {
	out := *p
	out.report = true
	return &out
}

// UsesTags reports whether a statement of p looks at tags.
func (p *Policy) UsesTags() bool {
	return slices.ContainsFunc(p.statements, func(s statement) bool { return s.conditions != nil && len(s.conditions.tags) > 0 })
}

// Name answers the name of the policy.
func (p *Policy) Name() string { return p.name }

// Revision answers the revision that was compiled.
func (p *Policy) Revision() uint64 { return p.revision }

// Warning is a part of a policy that is accepted and probably too wide.
type Warning struct {
	Field   string // "statements[0].paths[1]"
	Message string
}

// String answers "field: message".
func (w Warning) String() string { return w.Field + ": " + w.Message }

type statement struct {
	effect     string
	conditions *conditions
	approval   *Approval
	actions    actionSet
	everywhere bool // neither paths nor keys
	paths      []pathRule
	keys       []keyRule
}

// restricts reports whether the statement takes something away: in doubt it
// holds, where one that allows does not.
func (s *statement) restricts() bool { return s.effect != Allow }

// Rules carry the text that a chain shows, made once: a decision makes none.
type pathRule struct {
	pattern names.Pattern
	all     bool // /**
	why     string
}

type keyRule struct {
	ref string // "*": every key
	why string
}

// allPaths is the pattern that matches every path there can be.
const allPaths = "/**"

// CompilePolicy checks a policy and prepares it for decisions. Errors are
// fault.InvalidRequest and name the place, such as statements[0].paths[1].
func CompilePolicy(c *Catalogue, name string, revision uint64, statements []Statement) (*Policy, []Warning, error) {
	if _, err := names.ParseName(name); err != nil {
		return nil, nil, fault.Invalid("name", "%v", err)
	}
	switch n := len(statements); {
	case n == 0:
		return nil, nil, fault.Invalid("statements", "must hold at least one statement")
	case n > maxStatements:
		return nil, nil, fault.Invalid("statements", "has %d entries; at most %d are allowed", n, maxStatements)
	}
	p := &Policy{name: name, revision: revision, statements: make([]statement, len(statements))}
	var warnings []Warning
	for i, in := range statements {
		field := fmt.Sprintf("statements[%d]", i)
		compiled, err := compileStatement(c, field, in)
		if err != nil {
			return nil, nil, err
		}
		p.statements[i] = compiled
		warnings = append(warnings, lint(field, &compiled)...)
	}
	return p, warnings, nil
}

func compileStatement(c *Catalogue, field string, in Statement) (statement, error) {
	var out statement
	if in.Effect != Allow && in.Effect != Deny && in.Effect != RequireApproval {
		return out, fault.Invalid(field+".effect", "must be %q, %q or %q", Allow, Deny, RequireApproval)
	}
	out.effect = in.Effect
	if len(in.Actions)+len(in.Roles) == 0 {
		return out, fault.Invalid(field+".actions", "at least one action or role is needed")
	}
	var err error
	if out.actions, err = c.compileActions(field+".actions", in.Actions); err != nil {
		return out, err
	}
	if err := c.addRoles(&out.actions, field+".roles", in.Roles); err != nil {
		return out, err
	}
	if out.paths, err = compilePaths(field+".paths", in.Paths); err != nil {
		return out, err
	}
	if out.keys, err = compileKeys(field+".keys", in.Keys); err != nil {
		return out, err
	}
	out.everywhere = len(in.Paths) == 0 && len(in.Keys) == 0
	if out.conditions, err = compileConditions(field+".conditions", in.Conditions, !out.everywhere); err != nil {
		return out, err
	}
	if out.approval, err = compileApproval(field+".approval", in.Effect, in.Actions, in.Approval); err != nil {
		return out, err
	}
	return out, checkReach(field, &out)
}

// checkReach refuses statements whose actions and resources do not fit.
func checkReach(field string, s *statement) error {
	secrets, kms := s.actions.about(secretsService), s.actions.about(kmsService)
	everything := s.actions.all != ""
	switch {
	case secrets && len(s.paths) == 0:
		return fault.Invalid(field+".paths", "is missing; actions of secrets are granted on paths, \"/**\" is all of them")
	case kms && len(s.keys) == 0:
		return fault.Invalid(field+".keys", "is missing; actions of kms are granted on keys: ids, alias/NAME, or \"*\" for all of them")
	case len(s.paths) > 0 && !secrets && !everything:
		return fault.Invalid(field+".paths", "no action of this statement is about a path; leave paths out, or name actions of secrets")
	case len(s.keys) > 0 && !kms && !everything:
		return fault.Invalid(field+".keys", "no action of this statement is about a key; leave keys out, or name actions of kms")
	}
	if wide := s.actions.clusterWide(); wide != "" && !s.everywhere {
		return fault.Invalid(field+".actions", "%s is about neither a path nor a key and cannot be limited to some; put it into a statement of its own, without paths and keys", wide)
	}
	return nil
}

func compilePaths(field string, texts []string) ([]pathRule, error) {
	if len(texts) > maxEntries {
		return nil, tooMany(field, len(texts))
	}
	out := make([]pathRule, len(texts))
	for i, text := range texts {
		pattern, err := names.ParsePattern(text)
		if err != nil {
			return nil, fault.Invalid(fmt.Sprintf("%s[%d]", field, i), "%v", err)
		}
		out[i] = pathRule{pattern: pattern, all: text == allPaths, why: "path " + text}
	}
	return out, nil
}

func compileKeys(field string, texts []string) ([]keyRule, error) {
	if len(texts) > maxEntries {
		return nil, tooMany(field, len(texts))
	}
	out := make([]keyRule, len(texts))
	for i, text := range texts {
		if text != "*" {
			if _, err := names.ParseKeyRef(text); err != nil {
				return nil, fault.Invalid(fmt.Sprintf("%s[%d]", field, i), "%v, or * for every key", err)
			}
		}
		out[i] = keyRule{ref: text, why: "key " + text}
	}
	return out, nil
}

// lint names what an allow reaches beyond one service. A wide deny is safe.
func lint(field string, s *statement) []Warning {
	if s.restricts() {
		return nil
	}
	var out []Warning
	if s.everywhere && s.actions.all != "" {
		out = append(out, Warning{field, "allows every action on everything"})
	}
	for i, p := range s.paths {
		if p.pattern.Wide() {
			out = append(out, Warning{
				fmt.Sprintf("%s.paths[%d]", field, i),
				fmt.Sprintf("%s reaches beyond one service; name environment and service, as in /app/prod/web/**", p.pattern),
			})
		}
	}
	for i, k := range s.keys {
		if k.ref == "*" && s.actions.covers("kms:decrypt") != "" {
			out = append(out, Warning{fmt.Sprintf("%s.keys[%d]", field, i), "* allows to decrypt with every key; name the keys"})
		}
	}
	return out
}
