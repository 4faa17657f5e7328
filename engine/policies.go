package engine

import (
	"context"
	"fmt"

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
		operation(row[wire.NameRequest, wire.PolicyResponse]{
			service: "iam", name: "getPolicy", event: "iam.get_policy",
			summary: "Show a policy.",
			scope:   func(_ *call, r *wire.NameRequest) (scope, error) { return nameScope("name", r.Name) },
			run:     getPolicy,
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
				return named(ctx, c, r, func(m fsm.Meta) fsm.Command { return fsm.DeletePolicy{Meta: m, Name: r.Name} })
			},
		}),
		operation(row[wire.AttachPolicyRequest, wire.AttachPolicyResponse]{
			service: "iam", name: "attachPolicy", event: "iam.attach_policy", write: true,
			summary: "Give a policy to a principal.",
			scope:   attachScope,
			run: func(ctx context.Context, c *call, r *wire.AttachPolicyRequest) (*wire.AttachPolicyResponse, error) {
				return attach(ctx, c, r, func(m fsm.Meta) fsm.Command {
					return fsm.AttachPolicy{Meta: m, Policy: r.Policy, Principal: r.Principal}
				})
			},
		}),
		operation(row[wire.AttachPolicyRequest, wire.AttachPolicyResponse]{
			service: "iam", name: "detachPolicy", event: "iam.detach_policy", write: true,
			summary: "Take a policy from a principal.",
			scope:   attachScope,
			run: func(ctx context.Context, c *call, r *wire.AttachPolicyRequest) (*wire.AttachPolicyResponse, error) {
				return attach(ctx, c, r, func(m fsm.Meta) fsm.Command {
					return fsm.DetachPolicy{Meta: m, Policy: r.Policy, Principal: r.Principal}
				})
			},
		}),
		operation(row[wire.PutAccessPolicyRequest, wire.PutAccessPolicyResponse]{
			service: "iam", name: "putAccessPolicy", event: "iam.put_access_policy", write: true,
			summary: "Make or replace an access policy: it restricts by source address what IAM allows.",
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

func attachScope(_ *call, r *wire.AttachPolicyRequest) (scope, error) {
	if err := checkName("policy", r.Policy); err != nil {
		return scope{}, err
	}
	s, err := nameScope("principal", r.Principal)
	s.subject += " " + r.Policy
	return s, err
}

func putPolicy(ctx context.Context, c *call, r *wire.PutPolicyRequest) (*wire.PutPolicyResponse, error) {
	statements := make([]fsm.Statement, len(r.Statements))
	for i, s := range r.Statements {
		if s.Conditions != nil {
			return nil, fault.Invalid(fmt.Sprintf("statements[%d].conditions", i), "are not in this release; leave them out")
		}
		statements[i] = fsm.Statement{Effect: s.Effect, Actions: s.Actions, Roles: s.Roles, Paths: s.Paths, Keys: s.Keys}
	}
	_, warnings, err := iam.CompilePolicy(c.engine.catalogue, r.Name, 0, iamStatements(statements))
	if err != nil {
		return nil, err
	}
	meta, err := c.meta(ctx, r.ClientToken, r)
	if err != nil {
		return nil, err
	}
	result, err := c.commit(ctx, fsm.PutPolicy{Meta: meta, Name: r.Name, Statements: statements})
	if err != nil {
		return nil, err
	}
	out := &wire.PutPolicyResponse{Name: r.Name, Revision: result.Revision, Warnings: []string{}}
	for _, w := range warnings {
		out.Warnings = append(out.Warnings, w.String())
	}
	return out, nil
}

func getPolicy(_ context.Context, c *call, r *wire.NameRequest) (*wire.PolicyResponse, error) {
	p := c.state.Policy(r.Name)
	if p == nil {
		return nil, fault.New(fault.NotFound, "name: there is no policy %s", r.Name)
	}
	out := policyResponse(p)
	return &out, c.checkConsistency(r.Consistency)
}

func policyResponse(p *fsm.Policy) wire.PolicyResponse {
	out := wire.PolicyResponse{Name: p.Name, Revision: p.Revision, Statements: make([]wire.Statement, len(p.Statements)), UpdatedAt: wire.Millis(p.UpdatedAt), UpdatedBy: p.UpdatedBy}
	for i, s := range p.Statements {
		out.Statements[i] = wire.Statement{Effect: s.Effect, Actions: s.Actions, Roles: s.Roles, Paths: s.Paths, Keys: s.Keys}
	}
	return out
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

func attach(ctx context.Context, c *call, r *wire.AttachPolicyRequest, command func(fsm.Meta) fsm.Command) (*wire.AttachPolicyResponse, error) {
	meta, err := c.meta(ctx, r.ClientToken, r)
	if err != nil {
		return nil, err
	}
	if _, err := c.commit(ctx, command(meta)); err != nil {
		return nil, err
	}
	if err := c.refresh(ctx); err != nil {
		return nil, uncertain(err, meta)
	}
	out := &wire.AttachPolicyResponse{Principal: r.Principal, Policies: []string{}}
	if p := c.state.Principal(r.Principal); p != nil {
		out.Policies = p.Policies
	}
	return out, nil
}

func putAccessPolicy(ctx context.Context, c *call, r *wire.PutAccessPolicyRequest) (*wire.PutAccessPolicyResponse, error) {
	if r.TimeWindows != nil {
		return nil, fault.Invalid("timeWindows", "are not in this release; a policy with windows is refused rather than half obeyed")
	}
	record := fsm.AccessPolicy{
		Name: r.Name, Paths: r.Paths, Actions: r.Actions, Principals: r.Principals, SourceCIDRs: r.SourceCIDRs,
		NotBefore: r.NotBefore.Milli(), NotAfter: r.NotAfter.Milli(),
	}
	if _, err := iam.CompileAccessPolicy(c.engine.catalogue, accessDocument(&record)); err != nil {
		return nil, err
	}
	meta, err := c.meta(ctx, r.ClientToken, r)
	if err != nil {
		return nil, err
	}
	result, err := c.commit(ctx, fsm.PutAccessPolicy{Meta: meta, Policy: record})
	if err != nil {
		return nil, err
	}
	return &wire.PutAccessPolicyResponse{Name: r.Name, Revision: result.Revision}, nil
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
		UpdatedAt: wire.Millis(p.UpdatedAt), UpdatedBy: p.UpdatedBy,
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
