package engine

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/strongroom/strongroom/api/wire"
	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/iam"
	"github.com/strongroom/strongroom/internal/fault"
)

// Severities of a finding.
const (
	severityError  = "error"
	severityNotice = "notice"
)

// lintPaths walks the state that this request is served at. It decides by the
// functions by which Apply refuses, so the two cannot disagree.
func lintPaths(ctx context.Context, c *call, r *wire.LintPathsRequest) (*wire.LintPathsResponse, error) {
	p, err := checkPage(r.Page)
	if err != nil {
		return nil, err
	}
	if err := c.checkConsistency(r.Consistency); err != nil {
		return nil, err
	}
	place, err := parseLintPlace(p.after)
	if err != nil {
		return nil, err
	}
	proposed, err := c.proposedRule(r)
	if err != nil {
		return nil, err
	}
	out := &wire.LintPathsResponse{Findings: []wire.PathFinding{}}
	seen := 0
	for s := range c.state.SecretsFrom(r.Prefix, place.after) {
		if seen++; seen%usageStride == 0 && ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if s.State == fsm.SecretPurged || !c.mayLint(s) {
			continue
		}
		findings := c.lintSecret(s, c.state.Effective(withRule(c.state.RulesAbout(s.Path), proposed)))
		skipped := 0
		if string(s.Path) == place.in {
			skipped = min(place.skip, len(findings))
			findings = findings[skipped:]
		}
		if room := p.limit - len(out.Findings); len(findings) > room {
			out.Findings = append(out.Findings, findings[:room]...)
			place.in, place.skip = string(s.Path), skipped+room
			out.NextCursor = cursor(place.String())
			return out, nil
		}
		out.Findings = append(out.Findings, findings...)
		place = lintPlace{after: string(s.Path)}
	}
	return out, nil
}

func (c *call) mayLint(s *fsm.Secret) bool {
	return c.may(managePathRules, iam.Resource{Path: s.Path}) && c.may("secrets:describeSecret", iam.Resource{Path: s.Path})
}

// proposedRule answers the rule that is only tried out, nil for none.
func (c *call) proposedRule(r *wire.LintPathsRequest) (*fsm.PathRule, error) {
	if r.Rule == nil {
		return nil, nil
	}
	rule, err := ruleRecord(r.Prefix, *r.Rule)
	if err != nil {
		return nil, err
	}
	if refusal := c.state.CheckPathRule(rule); refusal != nil {
		return nil, c.refused(refusal)
	}
	return &rule, nil
}

// withRule answers rules, the longest prefix last, with one more, or with it
// in the place of the one of its prefix.
func withRule(rules []*fsm.PathRule, one *fsm.PathRule) []*fsm.PathRule {
	if one == nil {
		return rules
	}
	at, found := slices.BinarySearchFunc(rules, one, func(a, b *fsm.PathRule) int { return len(a.Prefix) - len(b.Prefix) })
	if found {
		rules[at] = one // RulesAbout made the slice for us
		return rules
	}
	return slices.Insert(rules, at, one)
}

// lintPlace is where a page of findings ended: after all of one secret, and
// after some of the next.
type lintPlace struct {
	after string
	in    string
	skip  int
}

func (p lintPlace) String() string { return p.after + " " + p.in + " " + strconv.Itoa(p.skip) }

func parseLintPlace(text string) (lintPlace, error) {
	if text == "" {
		return lintPlace{}, nil
	}
	parts := strings.Split(text, " ") // no path has a space
	if len(parts) == 3 {
		if skip, err := strconv.ParseUint(parts[2], 10, 31); err == nil {
			return lintPlace{after: parts[0], in: parts[1], skip: int(skip)}, nil
		}
	}
	return lintPlace{}, fault.Invalid("cursor", "is not a nextCursor of this operation; leave it out to start from the beginning")
}

// lintSecret answers where a secret differs from its rules.
func (c *call) lintSecret(s *fsm.Secret, rule fsm.EffectiveRule) []wire.PathFinding {
	var out []wire.PathFinding
	find := func(severity, prefix, field, format string, args ...any) {
		out = append(out, wire.PathFinding{Path: string(s.Path), Rule: prefix, Field: field, Severity: severity, Message: fmt.Sprintf(format, args...)})
	}
	for _, b := range append(rule.PathBreaches(s.Path), rule.TagBreaches(s.Tags)...) {
		find(severityError, b.Prefix, b.Field, "%s", b.Message)
	}
	switch {
	case rule.KeyRef != "" && rule.KeyID == "":
		find(severityNotice, rule.From.Key, "kmsKeyId", "the rule %s names the key %s, which is not there; putPathRule names another", rule.From.Key, rule.KeyRef)
	case rule.KeyRef != "" && rule.KeyID != s.KeyID:
		find(severityNotice, rule.From.Key, "kmsKeyId", "new versions go under the key %s; the rule %s names %s; bindKey moves the secret", s.KeyID, rule.From.Key, rule.KeyRef)
	}
	if beyond := c.state.Surplus(s, rule); len(beyond) > 0 {
		find(severityNotice, rule.From.KeepVersions, "keepVersions",
			"%d versions are stored beyond the %d that the rule %s keeps, the oldest is %d; those that a label is on stay until it is moved, the others are destroyed once they are old enough",
			len(beyond), rule.KeepVersions, rule.From.KeepVersions, beyond[0].Number)
	}
	now := c.now.UnixMilli()
	if v := c.state.Version(s.Path, s.Current); v != nil && rule.RotationPeriod != 0 && v.CreatedAt+rule.RotationPeriod <= now {
		find(severityNotice, rule.From.RotationPeriod, "rotationPeriod", "the current version is of %s, longer ago than the %s of the rule %s; put or generate a new value",
			day(v.CreatedAt), text(rule.RotationPeriod), rule.From.RotationPeriod)
	}
	if rule.MinRetention != 0 {
		c.lintRetention(s, rule, find)
	}
	return out
}

// lintRetention reports destructions that were accepted before the rule, and
// will be done before the age that it wants.
func (c *call) lintRetention(s *fsm.Secret, rule fsm.EffectiveRule, find func(severity, prefix, field, format string, args ...any)) {
	const way = "; %s takes that back"
	for v := range c.state.Versions(s.Path) {
		until := v.CreatedAt + rule.MinRetention
		switch {
		case v.State == fsm.VersionPendingDestroy && v.DestroyAt < until:
			find(severityNotice, rule.From.MinRetention, "minRetention", "version %d will be destroyed at %s, before the age that the rule %s wants"+way,
				v.Number, day(v.DestroyAt), rule.From.MinRetention, "cancelDestroyVersion")
		case v.State != fsm.VersionDestroyed && s.State == fsm.SecretPendingDeletion && s.PurgeAt < until:
			find(severityNotice, rule.From.MinRetention, "minRetention", "the secret will be purged at %s, before its versions have the age that the rule %s wants"+way,
				day(s.PurgeAt), rule.From.MinRetention, "restoreSecret")
			return
		}
	}
}

func day(millis int64) string { return time.UnixMilli(millis).UTC().Format(time.RFC3339) }

func text(millis int64) string {
	out, err := wire.Duration(time.Duration(millis) * time.Millisecond).MarshalText()
	if err != nil {
		return ""
	}
	return string(out)
}
