package engine

import (
	"context"
	"time"

	"github.com/strongroom/strongroom/api/wire"
	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/internal/fault"
)

func attachmentOperations() []*Operation {
	return []*Operation{
		operation(row[wire.AttachPolicyRequest, wire.AttachPolicyResponse]{
			service: "iam", name: "attachPolicy", event: "iam.attach_policy", write: true,
			summary: "Give a policy to a principal or a group, for good or for some time.",
			scope: func(_ *call, r *wire.AttachPolicyRequest) (scope, error) {
				return holderScope(r.Policy, r.Principal, r.Group)
			},
			run: attachPolicy,
		}),
		operation(row[wire.DetachPolicyRequest, wire.AttachPolicyResponse]{
			service: "iam", name: "detachPolicy", event: "iam.detach_policy", write: true,
			summary: "Take a policy from a principal or a group.",
			scope: func(_ *call, r *wire.DetachPolicyRequest) (scope, error) {
				return holderScope(r.Policy, r.Principal, r.Group)
			},
			run: detachPolicy,
		}),
	}
}

// holderScope is that of a request about a policy and its holder.
func holderScope(policy, principal, group string) (scope, error) {
	if err := checkName("policy", policy); err != nil {
		return scope{}, err
	}
	if principal != "" && group != "" {
		return scope{}, fault.Invalid("principal", "or group is to be given, not both")
	}
	field, name := "principal", principal
	if group != "" {
		field, name = "group", group
	}
	s, err := nameScope(field, name)
	if group != "" {
		s.subject = "group " + name
	}
	s.subject += " " + policy
	return s, err
}

// expiry answers when a grant with this time to live ends, 0 for one without.
func (c *call) expiry(ttl *wire.Duration) (int64, error) {
	if ttl == nil {
		return 0, nil
	}
	d := time.Duration(*ttl)
	if d < minTTL || d > maxTTL {
		return 0, fault.Invalid("ttl", "must be 1s to 366d; leave it out for a grant without end")
	}
	return c.now.Add(d).UnixMilli(), nil
}

func attachPolicy(ctx context.Context, c *call, r *wire.AttachPolicyRequest) (*wire.AttachPolicyResponse, error) {
	mode, err := modeOf(r.Mode)
	if err != nil {
		return nil, err
	}
	if err := checkText("reason", r.Reason); err != nil {
		return nil, err
	}
	expiresAt, err := c.expiry(r.TTL)
	if err != nil {
		return nil, err
	}
	if err := c.withinBoundaries("iam:attachPolicy", r.Principal); err != nil {
		return nil, err
	}
	meta, err := c.meta(ctx, r.ClientToken, r)
	if err != nil {
		return nil, err
	}
	command := fsm.AttachPolicy{Meta: meta, Policy: r.Policy, Principal: r.Principal, Group: r.Group, Mode: mode, ExpiresAt: expiresAt, Reason: r.Reason}
	return c.attached(ctx, meta, command, r.Principal, r.Group)
}

func detachPolicy(ctx context.Context, c *call, r *wire.DetachPolicyRequest) (*wire.AttachPolicyResponse, error) {
	mode, err := modeOf(r.Mode)
	if err != nil {
		return nil, err
	}
	if mode == fsm.ModeBoundary {
		if err := c.unbounded("iam:detachPolicy"); err != nil {
			return nil, err
		}
	}
	meta, err := c.meta(ctx, r.ClientToken, r)
	if err != nil {
		return nil, err
	}
	command := fsm.DetachPolicy{Meta: meta, Policy: r.Policy, Principal: r.Principal, Group: r.Group, Mode: mode}
	return c.attached(ctx, meta, command, r.Principal, r.Group)
}

// attached commits command and answers what its holder has then.
func (c *call) attached(ctx context.Context, meta fsm.Meta, command fsm.Command, principal, group string) (*wire.AttachPolicyResponse, error) {
	if _, err := c.commit(ctx, command); err != nil {
		return nil, err
	}
	if err := c.afterCommit(ctx); err != nil {
		return nil, uncertain(err, meta)
	}
	out := &wire.AttachPolicyResponse{Principal: principal, Group: group, Policies: []string{}}
	var all []fsm.Attachment
	if g := c.state.Group(group); group != "" && g != nil {
		all = g.Attached
	} else if p := c.state.Principal(principal); p != nil {
		all = p.Attachments()
	}
	out.Attached = c.wireAttached(all)
	for _, a := range all {
		if a.Mode == fsm.ModeGrant && a.ExpiresAt == 0 {
			out.Policies = append(out.Policies, a.Policy)
		}
	}
	return out, nil
}

// wireAttached answers those that hold now.
func (c *call) wireAttached(all []fsm.Attachment) []wire.Attachment {
	out := []wire.Attachment{}
	for _, a := range all {
		if a.Holds(c.now.UnixMilli()) {
			out = append(out, wire.Attachment{
				Policy: a.Policy, Mode: wireMode(a.Mode), ExpiresAt: wire.Millis(a.ExpiresAt),
				AttachedAt: wire.Millis(a.AttachedAt), AttachedBy: a.AttachedBy, Reason: a.Reason,
			})
		}
	}
	return out
}
