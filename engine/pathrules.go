package engine

import (
	"context"
	"strings"
	"time"

	"github.com/strongroom/strongroom/api/wire"
	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/iam"
	"github.com/strongroom/strongroom/internal/fault"
	"github.com/strongroom/strongroom/internal/names"
)

const managePathRules = iam.Action("secrets:managePathRules")

func pathRuleOperations() []*Operation {
	return []*Operation{
		operation(row[wire.PutPathRuleRequest, wire.PathRuleResponse]{
			service: "secrets", name: "putPathRule", event: "secrets.put_path_rule", write: true,
			action: managePathRules, more: []iam.Action{"secrets:destroyVersion"},
			summary: "Make or replace the rule of a prefix: what secrets below it must look like, and what becomes of them.",
			scope: func(_ *call, r *wire.PutPathRuleRequest) (scope, error) {
				return belowScope(&r.Prefix, r.Reason)
			},
			run: putPathRule,
		}),
		operation(row[wire.ListPathRulesRequest, wire.ListPathRulesResponse]{
			service: "secrets", name: "listPathRules", event: "secrets.list_path_rules",
			action: managePathRules, more: []iam.Action{"secrets:describeSecret"},
			summary: "List the path rules about secrets that the caller may describe or make rules for.",
			scope: func(c *call, r *wire.ListPathRulesRequest) (scope, error) {
				s, err := prefixScope(&r.Prefix)
				if !iam.MayAnywhere(c.rules, managePathRules) {
					s.action = "secrets:describeSecret" // whom rules bind may read them
				}
				return s, err
			},
			run: listPathRules,
		}),
		operation(row[wire.DeletePathRuleRequest, wire.PathRuleResponse]{
			service: "secrets", name: "deletePathRule", event: "secrets.delete_path_rule", write: true, action: managePathRules,
			summary: "Delete the rule of a prefix; rules of shorter prefixes go on holding.",
			scope: func(_ *call, r *wire.DeletePathRuleRequest) (scope, error) {
				return belowScope(&r.Prefix, r.Reason)
			},
			run: deletePathRule,
		}),
		operation(row[wire.LintPathsRequest, wire.LintPathsResponse]{
			service: "secrets", name: "lintPaths", event: "secrets.lint_paths",
			action: managePathRules, more: []iam.Action{"secrets:describeSecret"},
			summary: "Report the secrets that differ from their path rules, or would from one that is tried out.",
			scope:   func(_ *call, r *wire.LintPathsRequest) (scope, error) { return prefixScope(&r.Prefix) },
			run:     lintPaths,
		}),
	}
}

// belowScope is the scope of what binds every path below a prefix.
func belowScope(prefix *string, reason string) (scope, error) {
	if *prefix == "" {
		return scope{}, fault.Invalid("prefix", "is missing; / is all secrets")
	}
	if err := checkText("reason", reason); err != nil {
		return scope{}, err
	}
	parsed, err := names.ParsePrefix(*prefix)
	if err != nil {
		return scope{}, fault.Invalid("prefix", "%v", err)
	}
	if parsed != "/" {
		if _, err := checkPath("prefix", strings.TrimSuffix(parsed, "/")); err != nil {
			return scope{}, err
		}
	}
	*prefix = parsed
	return scope{below: parsed, subject: reason}, nil
}

func putPathRule(ctx context.Context, c *call, r *wire.PutPathRuleRequest) (*wire.PathRuleResponse, error) {
	rule, err := ruleRecord(r.Prefix, r.PathRuleFields)
	if err != nil {
		return nil, err
	}
	rule.Reason = r.Reason
	if refusal := fsm.CheckPathRule(rule); refusal != nil {
		return nil, c.refused(refusal)
	}
	if rule.KeepVersions != 0 {
		// The rule destroys in the name of who made it.
		if err := c.require("secrets:destroyVersion", iam.Resource{Below: r.Prefix}); err != nil {
			return nil, err
		}
	}
	meta, err := c.meta(ctx, r.ClientToken, r)
	if err != nil {
		return nil, err
	}
	result, err := c.commit(ctx, fsm.PutPathRule{Meta: meta, Rule: rule, Expected: r.ExpectedRevision})
	if err != nil {
		return nil, err
	}
	return &wire.PathRuleResponse{Prefix: result.Name, Revision: result.Revision}, nil
}

func deletePathRule(ctx context.Context, c *call, r *wire.DeletePathRuleRequest) (*wire.PathRuleResponse, error) {
	meta, err := c.meta(ctx, r.ClientToken, r)
	if err != nil {
		return nil, err
	}
	result, err := c.commit(ctx, fsm.DeletePathRule{Meta: meta, Prefix: r.Prefix, Expected: r.ExpectedRevision, Reason: r.Reason})
	if err != nil {
		return nil, err
	}
	return &wire.PathRuleResponse{Prefix: result.Name, Revision: result.Revision}, nil
}

// ruleRecord turns the fields of a request into a record, whose bounds are
// for fsm to check.
func ruleRecord(prefix string, f wire.PathRuleFields) (fsm.PathRule, error) {
	rule := fsm.PathRule{Prefix: prefix, Segments: f.Segments, KeyRef: f.KMSKeyID, Owner: f.Owner, HSMEachRead: f.HSMEachRead}
	if err := checkText("owner", f.Owner); err != nil {
		return rule, err
	}
	for _, entry := range f.Segments {
		if err := checkNoToken("segments", entry); err != nil {
			return rule, err
		}
	}
	for _, period := range []struct {
		field string
		from  *wire.Duration
		to    *int64
	}{
		{"rotationPeriod", f.RotationPeriod, &rule.RotationPeriod}, {"consumerHorizon", f.ConsumerHorizon, &rule.ConsumerHorizon},
		{"minRetention", f.MinRetention, &rule.MinRetention},
	} {
		if period.from == nil {
			continue
		}
		if *period.to = time.Duration(*period.from).Milliseconds(); *period.to == 0 {
			return rule, fault.Invalid(period.field, "must be 1s to 3660d; leave it out to set none")
		}
	}
	if f.KeepVersions != nil {
		if rule.KeepVersions = *f.KeepVersions; rule.KeepVersions == 0 {
			return rule, fault.Invalid("keepVersions", "must be 1 to 10000; leave it out to keep all")
		}
	}
	for _, quota := range []struct {
		field string
		from  *uint64
		to    *uint64
	}{{"maxSecrets", f.MaxSecrets, &rule.MaxSecrets}, {"maxVersions", f.MaxVersions, &rule.MaxVersions}, {"maxBytes", f.MaxBytes, &rule.MaxBytes}} {
		if quota.from == nil {
			continue
		}
		if *quota.to = *quota.from; *quota.to == 0 {
			return rule, fault.Invalid(quota.field, "must be at least 1; leave it out to set none")
		}
	}
	for _, text := range f.RequiredTags {
		tag, err := requiredTag(text)
		if err != nil {
			return rule, err
		}
		rule.RequiredTags = append(rule.RequiredTags, tag)
	}
	return rule, nil
}

// requiredTag reads "owner", or with the values that are allowed "tier=1|2".
func requiredTag(text string) (fsm.RequiredTag, error) {
	name, values, limited := strings.Cut(text, "=")
	tag := fsm.RequiredTag{Name: name}
	if err := checkName("requiredTags", name); err != nil {
		return tag, err
	}
	if err := checkPrintable("requiredTags", values); err != nil {
		return tag, err
	}
	if limited {
		tag.Values = strings.Split(values, "|")
	}
	return tag, nil
}

func requiredTagText(tag fsm.RequiredTag) string {
	if len(tag.Values) == 0 {
		return tag.Name
	}
	return tag.Name + "=" + strings.Join(tag.Values, "|")
}

func listPathRules(_ context.Context, c *call, r *wire.ListPathRulesRequest) (*wire.ListPathRulesResponse, error) {
	p, err := checkPage(r.Page)
	if err != nil {
		return nil, err
	}
	out := &wire.ListPathRulesResponse{PathRules: []wire.PathRule{}}
	for rule := range c.state.PathRules(p.after) {
		if !strings.HasPrefix(rule.Prefix, r.Prefix) || !c.maySeeRule(rule.Prefix) {
			continue
		}
		if len(out.PathRules) == p.limit {
			out.NextCursor = cursor(out.PathRules[p.limit-1].Prefix)
			break
		}
		out.PathRules = append(out.PathRules, c.pathRule(rule))
	}
	return out, c.checkConsistency(r.Consistency)
}

// maySeeRule: a rule is shown to who may make rules for, or describe,
// something that it binds, whether that is there or not.
func (c *call) maySeeRule(prefix string) bool {
	return iam.MayBelow(c.rules, managePathRules, prefix) || iam.MayBelow(c.rules, "secrets:describeSecret", prefix)
}

func (c *call) pathRule(rule *fsm.PathRule) wire.PathRule {
	out := wire.PathRule{
		Prefix: rule.Prefix, Revision: rule.Revision, Reason: rule.Reason, CreatedAt: wire.Millis(rule.CreatedAt), CreatedBy: rule.CreatedBy,
		UpdatedAt: wire.Millis(rule.UpdatedAt), UpdatedBy: rule.UpdatedBy, RequestID: rule.RequestID,
		PathRuleFields: wire.PathRuleFields{
			Segments: rule.Segments, KMSKeyID: rule.KeyRef, Owner: rule.Owner, RotationPeriod: period(rule.RotationPeriod),
			ConsumerHorizon: period(rule.ConsumerHorizon), MinRetention: period(rule.MinRetention), HSMEachRead: rule.HSMEachRead,
		},
	}
	if rule.KeepVersions != 0 {
		out.KeepVersions = &rule.KeepVersions
	}
	for _, quota := range []struct {
		from uint64
		to   **uint64
	}{{rule.MaxSecrets, &out.MaxSecrets}, {rule.MaxVersions, &out.MaxVersions}, {rule.MaxBytes, &out.MaxBytes}} {
		if quota.from != 0 {
			*quota.to = &quota.from
		}
	}
	if c.may(managePathRules, iam.Resource{Below: rule.Prefix}) {
		out.Quotas = c.quotas(rule)
	}
	for _, tag := range rule.RequiredTags {
		out.RequiredTags = append(out.RequiredTags, requiredTagText(tag))
	}
	if rule.KeyRef != "" {
		out.KMSKeyState = "missing"
		if key := c.state.KeyByRef(rule.KeyRef); key != nil {
			out.KMSKeyState = string(key.State)
		}
	}
	return out
}

func (c *call) quotas(rule *fsm.PathRule) []wire.Quota {
	var out []wire.Quota
	for _, q := range c.state.Quotas(rule) {
		out = append(out, wire.Quota{Prefix: q.Prefix, Quota: q.Name, Limit: q.Limit, Used: q.Used})
	}
	return out
}

// period answers milliseconds as a duration, nil for none.
func period(millis int64) *wire.Duration {
	if millis == 0 {
		return nil
	}
	d := wire.Duration(time.Duration(millis) * time.Millisecond)
	return &d
}

// secretRule is what describeSecret shows of the rules about a secret.
func secretRule(e fsm.EffectiveRule) *wire.SecretRule {
	if len(e.Rules) == 0 {
		return nil
	}
	out := &wire.SecretRule{
		KMSKeyID: e.KeyRef, Owner: e.Owner, RotationPeriod: period(e.RotationPeriod), ConsumerHorizon: period(e.ConsumerHorizon),
		KeepVersions: e.KeepVersions, MinRetention: period(e.MinRetention), HSMEachRead: e.HSMEachRead, Prefixes: []string{}, From: map[string]string{},
	}
	for _, rule := range e.Rules {
		out.Prefixes = append(out.Prefixes, rule.Prefix)
		if len(rule.Segments) > 0 {
			out.Grammars = append(out.Grammars, rule.Prefix+strings.Join(rule.Segments, "/"))
		}
	}
	for _, tag := range e.RequiredTags {
		out.RequiredTags = append(out.RequiredTags, requiredTagText(tag.RequiredTag))
	}
	for field, prefix := range map[string]string{
		"kmsKeyId": e.From.Key, "owner": e.From.Owner, "rotationPeriod": e.From.RotationPeriod,
		"consumerHorizon": e.From.ConsumerHorizon, "keepVersions": e.From.KeepVersions, "minRetention": e.From.MinRetention, "hsmEachRead": e.From.HSMEachRead,
	} {
		if prefix != "" {
			out.From[field] = prefix
		}
	}
	return out
}

// keyForNew answers the key of a secret that is to be made at path: the one
// that the request names, else that of the path rule as its alias points now,
// else the default. A rule whose key is gone is an error: falling back to
// another key would put values where nobody expects them. What the rules
// refuse is refused here before anything is sealed; Apply decides it again.
func (c *call) keyForNew(path names.Path, ref string, tags map[string]string) (*fsm.Key, error) {
	if c.state.Secret(path) == nil {
		if r := c.state.CheckNewPath(path, tags); r != nil {
			return nil, c.refused(r)
		}
	}
	if rule := c.state.RuleFor(path); ref == "" && rule.KeyRef != "" {
		return c.keyOfRule(rule)
	}
	return c.bindable(ref)
}

func (c *call) keyOfRule(rule fsm.EffectiveRule) (*fsm.Key, error) {
	const way = "give kmsKeyId, or change the rule with putPathRule"
	key := c.state.Key(rule.KeyID)
	if key == nil {
		return nil, fault.New(fault.NotFound, "kmsKeyId: the rule %s names the key %s, which is not there; %s", rule.From.Key, rule.KeyRef, way).
			With("rule", rule.From.Key).With("ruleField", "kmsKeyId")
	}
	if refused := fsm.RuleFor(key.State, fsm.KeyProtect).Refused; refused != "" {
		return nil, fault.New(refused, "kmsKeyId: the rule %s names the key %s, which is %s; %s", rule.From.Key, rule.KeyRef, key.State, way).
			With("rule", rule.From.Key).With("ruleField", "kmsKeyId").With("keyId", key.ID).With("state", string(key.State))
	}
	return key, nil
}
