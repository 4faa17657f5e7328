package engine

import (
	"context"
	"math"
	"strconv"

	"github.com/strongroom/strongroom/api/wire"
	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/iam"
	"github.com/strongroom/strongroom/internal/fault"
)

func policyOperations() []*Operation {
	return []*Operation{
		operation(row[wire.PutPolicyRequest, wire.PutPolicyResponse]{
			service: "iam", name: "putPolicy", event: "iam.put_policy", write: true,
			summary: "Make or replace a policy.",
			scope:   func(_ *call, r *wire.PutPolicyRequest) (scope, error) { return nameScope("name", r.Name) },
			run:     putPolicy,
		}),
		operation(row[wire.GetPolicyRequest, wire.PolicyResponse]{
			service: "iam", name: "getPolicy", event: "iam.get_policy",
			summary: "Show a policy, or a past revision of it.",
			scope:   func(_ *call, r *wire.GetPolicyRequest) (scope, error) { return nameScope("name", r.Name) },
			run:     getPolicy,
		}),
		operation(row[wire.ListPolicyRevisionsRequest, wire.ListPolicyRevisionsResponse]{
			service: "iam", name: "listPolicyRevisions", event: "iam.list_policy_revisions", action: "iam:getPolicy",
			summary: "Show the history of a policy: who changed it, when and why.",
			scope:   func(_ *call, r *wire.ListPolicyRevisionsRequest) (scope, error) { return nameScope("name", r.Name) },
			run:     listPolicyRevisions,
		}),
		operation(row[wire.RollbackPolicyRequest, wire.PutPolicyResponse]{
			service: "iam", name: "rollbackPolicy", event: "iam.rollback_policy", write: true, action: "iam:putPolicy",
			summary: "Make a past revision of a policy the next one; nothing is lost from the history.",
			scope:   func(_ *call, r *wire.RollbackPolicyRequest) (scope, error) { return nameScope("name", r.Name) },
			run:     rollbackPolicy,
		}),
		operation(row[wire.ListRequest, wire.ListPoliciesResponse]{
			service: "iam", name: "listPolicies", event: "iam.list_policies",
			summary: "List policies.",
			scope:   func(*call, *wire.ListRequest) (scope, error) { return scope{}, nil },
			run:     listPolicies,
		}),
		operation(row[wire.NameChangeRequest, wire.NameResponse]{
			service: "iam", name: "deletePolicy", event: "iam.delete_policy", write: true,
			summary: "Delete a policy that is attached to nobody.",
			scope:   func(_ *call, r *wire.NameChangeRequest) (scope, error) { return nameScope("name", r.Name) },
			run: func(ctx context.Context, c *call, r *wire.NameChangeRequest) (*wire.NameResponse, error) {
				if err := c.notItsBoundary("iam:deletePolicy", r.Name); err != nil {
					return nil, err
				}
				return named(ctx, c, r, func(m fsm.Meta) fsm.Command { return fsm.DeletePolicy{Meta: m, Name: r.Name} })
			},
		}),
		operation(row[wire.PutAccessPolicyRequest, wire.PutAccessPolicyResponse]{
			service: "iam", name: "putAccessPolicy", event: "iam.put_access_policy", write: true,
			summary: "Make or replace an access policy: it restricts by source address and time what IAM allows.",
			scope:   func(_ *call, r *wire.PutAccessPolicyRequest) (scope, error) { return nameScope("name", r.Name) },
			run:     putAccessPolicy,
		}),
		operation(row[wire.NameRequest, wire.AccessPolicyResponse]{
			service: "iam", name: "getAccessPolicy", event: "iam.get_access_policy",
			summary: "Show an access policy.",
			scope:   func(_ *call, r *wire.NameRequest) (scope, error) { return nameScope("name", r.Name) },
			run:     getAccessPolicy,
		}),
		operation(row[wire.ListRequest, wire.ListAccessPoliciesResponse]{
			service: "iam", name: "listAccessPolicies", event: "iam.list_access_policies",
			summary: "List access policies.",
			scope:   func(*call, *wire.ListRequest) (scope, error) { return scope{}, nil },
			run:     listAccessPolicies,
		}),
		operation(row[wire.NameChangeRequest, wire.NameResponse]{
			service: "iam", name: "deleteAccessPolicy", event: "iam.delete_access_policy", write: true,
			summary: "Delete an access policy.",
			scope:   func(_ *call, r *wire.NameChangeRequest) (scope, error) { return nameScope("name", r.Name) },
			run: func(ctx context.Context, c *call, r *wire.NameChangeRequest) (*wire.NameResponse, error) {
				return named(ctx, c, r, func(m fsm.Meta) fsm.Command { return fsm.DeleteAccessPolicy{Meta: m, Name: r.Name} })
			},
		}),
	}
}

func putPolicy(ctx context.Context, c *call, r *wire.PutPolicyRequest) (*wire.PutPolicyResponse, error) {
	if err := c.notItsBoundary("iam:putPolicy", r.Name); err != nil {
		return nil, err
	}
	statements, err := fsmStatements(r.Statements)
	if err != nil {
		return nil, err
	}
	_, warnings, err := iam.CompilePolicy(c.engine.catalogue, r.Name, 0, iamStatements(statements))
	if err != nil {
		return nil, err
	}
	if err := checkText("description", r.Description); err != nil {
		return nil, err
	}
	if err := checkText("reason", r.Reason); err != nil {
		return nil, err
	}
	meta, err := c.meta(ctx, r.ClientToken, r)
	if err != nil {
		return nil, err
	}
	result, err := c.commit(ctx, fsm.PutPolicy{
		Meta: meta, Name: r.Name, Statements: statements, Description: r.Description, Reason: r.Reason,
		ReportOnly: r.ReportOnly, Expected: r.ExpectedRevision,
	})
	if err != nil {
		return nil, err
	}
	return putPolicyAnswer(r.Name, result.Revision, append(warnings, c.tooFew(statements)...)), nil
}

func putPolicyAnswer(name string, revision uint64, warnings []iam.Warning) *wire.PutPolicyResponse {
	out := &wire.PutPolicyResponse{Name: name, Revision: revision, Warnings: []string{}}
	for _, w := range warnings {
		out.Warnings = append(out.Warnings, w.String())
	}
	return out
}

// rollbackPolicy compiles the old revision first: it may name what this
// release does not know.
func rollbackPolicy(ctx context.Context, c *call, r *wire.RollbackPolicyRequest) (*wire.PutPolicyResponse, error) {
	if err := c.notItsBoundary("iam:putPolicy", r.Name); err != nil {
		return nil, err
	}
	revision, err := checkVersion("revision", r.Revision, true)
	if err != nil {
		return nil, err
	}
	if err := checkText("reason", r.Reason); err != nil {
		return nil, err
	}
	var warnings []iam.Warning
	if old := c.state.PolicyRevision(r.Name, revision); old != nil {
		if _, warnings, err = iam.CompilePolicy(c.engine.catalogue, r.Name, 0, iamStatements(old.Statements)); err != nil {
			return nil, err
		}
	}
	meta, err := c.meta(ctx, r.ClientToken, r)
	if err != nil {
		return nil, err
	}
	result, err := c.commit(ctx, fsm.RollbackPolicy{Meta: meta, Name: r.Name, Revision: revision, Reason: r.Reason, Expected: r.ExpectedRevision})
	if err != nil {
		return nil, err
	}
	return putPolicyAnswer(r.Name, result.Revision, warnings), nil
}

func getPolicy(_ context.Context, c *call, r *wire.GetPolicyRequest) (*wire.PolicyResponse, error) {
	p := c.state.Policy(r.Name)
	if p == nil {
		return nil, errNoPolicy(r.Name)
	}
	if err := c.checkConsistency(r.Consistency); err != nil {
		return nil, err
	}
	if r.Revision != nil && *r.Revision != p.Revision {
		if p = c.state.PolicyRevision(r.Name, *r.Revision); p == nil {
			return nil, fault.New(fault.NotFound, "revision: there is no revision %d of the policy; listPolicyRevisions shows those that are kept", *r.Revision)
		}
		out := policyResponse(p)
		return &out, nil
	}
	out := policyResponse(p)
	for h := range c.state.Holders(r.Name) {
		if len(out.Holders) == maxLimit {
			break
		}
		out.Holders = append(out.Holders, wire.PolicyHolder{Principal: h.Principal, Group: h.Group, Mode: wireMode(h.Mode)})
	}
	return &out, nil
}

func errNoPolicy(name string) error {
	return fault.New(fault.NotFound, "name: there is no policy %s", name)
}

func policyResponse(p *fsm.Policy) wire.PolicyResponse {
	return wire.PolicyResponse{
		Name: p.Name, Revision: p.Revision, Statements: wireStatements(p.Statements), Description: p.Description, ReportOnly: p.ReportOnly,
		Reason: p.Reason, RolledBackTo: p.RolledBackTo, UpdatedAt: wire.Millis(p.UpdatedAt), UpdatedBy: p.UpdatedBy, RequestID: p.RequestID,
	}
}

// listPolicyRevisions goes from the newest down; its cursor is the revision
// that the last page ended with.
func listPolicyRevisions(_ context.Context, c *call, r *wire.ListPolicyRevisionsRequest) (*wire.ListPolicyRevisionsResponse, error) {
	p, err := checkPage(r.Page)
	if err != nil {
		return nil, err
	}
	before := uint64(math.MaxUint64)
	if p.after != "" {
		if before, err = strconv.ParseUint(p.after, 10, 64); err != nil {
			return nil, errCursor()
		}
	}
	now := c.state.Policy(r.Name)
	if now == nil {
		return nil, errNoPolicy(r.Name)
	}
	out := &wire.ListPolicyRevisionsResponse{Revisions: []wire.PolicyResponse{}}
	add := func(policy *fsm.Policy) bool {
		if policy.Revision >= before {
			return true
		}
		if n := len(out.Revisions); n == p.limit {
			out.NextCursor = cursor(strconv.FormatUint(out.Revisions[n-1].Revision, 10))
			return false
		}
		out.Revisions = append(out.Revisions, policyResponse(policy))
		return true
	}
	if add(now) {
		for old := range c.state.PolicyRevisions(r.Name) {
			if !add(old) {
				break
			}
		}
	}
	return out, c.checkConsistency(r.Consistency)
}

func listPolicies(_ context.Context, c *call, r *wire.ListRequest) (*wire.ListPoliciesResponse, error) {
	p, err := checkPage(r.Page)
	if err != nil {
		return nil, err
	}
	out := &wire.ListPoliciesResponse{Policies: []wire.PolicyResponse{}}
	for policy := range c.state.Policies(p.after) {
		if len(out.Policies) == p.limit {
			out.NextCursor = cursor(out.Policies[p.limit-1].Name)
			break
		}
		out.Policies = append(out.Policies, policyResponse(policy))
	}
	return out, c.checkConsistency(r.Consistency)
}

func putAccessPolicy(ctx context.Context, c *call, r *wire.PutAccessPolicyRequest) (*wire.PutAccessPolicyResponse, error) {
	record, err := c.accessRecord(r)
	if err != nil {
		return nil, err
	}
	meta, err := c.meta(ctx, r.ClientToken, r)
	if err != nil {
		return nil, err
	}
	result, err := c.commit(ctx, fsm.PutAccessPolicy{Meta: meta, Policy: record, Expected: r.ExpectedRevision})
	if err != nil {
		return nil, err
	}
	return &wire.PutAccessPolicyResponse{Name: r.Name, Revision: result.Revision}, nil
}

// accessRecord checks an access policy and answers it as it is kept.
func (c *call) accessRecord(r *wire.PutAccessPolicyRequest) (fsm.AccessPolicy, error) {
	record := fsm.AccessPolicy{
		Name: r.Name, Paths: r.Paths, Actions: r.Actions, Principals: r.Principals, SourceCIDRs: r.SourceCIDRs, Groups: r.Groups,
		NotBefore: r.NotBefore.Milli(), NotAfter: r.NotAfter.Milli(), TimeWindows: fsmWindows(r.TimeWindows),
		Description: r.Description, Reason: r.Reason, ReportOnly: r.ReportOnly,
	}
	if err := checkText("description", r.Description); err != nil {
		return record, err
	}
	if err := checkText("reason", r.Reason); err != nil {
		return record, err
	}
	_, err := iam.CompileAccessPolicy(c.engine.catalogue, accessDocument(&record))
	return record, err
}

func getAccessPolicy(_ context.Context, c *call, r *wire.NameRequest) (*wire.AccessPolicyResponse, error) {
	p := c.state.AccessPolicy(r.Name)
	if p == nil {
		return nil, fault.New(fault.NotFound, "name: there is no access policy %s", r.Name)
	}
	out := accessResponse(p)
	return &out, c.checkConsistency(r.Consistency)
}

func accessResponse(p *fsm.AccessPolicy) wire.AccessPolicyResponse {
	return wire.AccessPolicyResponse{
		Name: p.Name, Revision: p.Revision, Paths: p.Paths, Actions: p.Actions, Principals: p.Principals,
		SourceCIDRs: p.SourceCIDRs, NotBefore: wire.Millis(p.NotBefore), NotAfter: wire.Millis(p.NotAfter),
		UpdatedAt: wire.Millis(p.UpdatedAt), UpdatedBy: p.UpdatedBy, Groups: p.Groups, TimeWindows: wireWindows(p.TimeWindows),
		Description: p.Description, Reason: p.Reason, ReportOnly: p.ReportOnly, RequestID: p.RequestID,
	}
}

func listAccessPolicies(_ context.Context, c *call, r *wire.ListRequest) (*wire.ListAccessPoliciesResponse, error) {
	p, err := checkPage(r.Page)
	if err != nil {
		return nil, err
	}
	out := &wire.ListAccessPoliciesResponse{AccessPolicies: []wire.AccessPolicyResponse{}}
	for policy := range c.state.AccessPolicies(p.after) {
		if len(out.AccessPolicies) == p.limit {
			out.NextCursor = cursor(out.AccessPolicies[p.limit-1].Name)
			break
		}
		out.AccessPolicies = append(out.AccessPolicies, accessResponse(policy))
	}
	return out, c.checkConsistency(r.Consistency)
}
