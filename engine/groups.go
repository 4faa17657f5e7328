package engine

import (
	"context"

	"github.com/strongroom/strongroom/api/wire"
	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/internal/fault"
)

func groupOperations() []*Operation {
	return []*Operation{
		operation(row[wire.CreateGroupRequest, wire.GroupResponse]{
			service: "iam", name: "createGroup", event: "iam.create_group", write: true,
			summary: "Make an empty group.",
			scope:   func(_ *call, r *wire.CreateGroupRequest) (scope, error) { return nameScope("name", r.Name) },
			run:     createGroup,
		}),
		operation(row[wire.NameRequest, wire.GroupResponse]{
			service: "iam", name: "describeGroup", event: "iam.describe_group", action: "iam:listGroups",
			summary: "Show a group and its policies.",
			scope:   func(_ *call, r *wire.NameRequest) (scope, error) { return nameScope("name", r.Name) },
			run:     describeGroup,
		}),
		operation(row[wire.ListGroupMembersRequest, wire.ListGroupMembersResponse]{
			service: "iam", name: "listGroupMembers", event: "iam.list_group_members", action: "iam:listGroups",
			summary: "List the principals that were put into a group.",
			scope:   func(_ *call, r *wire.ListGroupMembersRequest) (scope, error) { return nameScope("group", r.Group) },
			run:     listGroupMembers,
		}),
		operation(row[wire.ListRequest, wire.ListGroupsResponse]{
			service: "iam", name: "listGroups", event: "iam.list_groups",
			summary: "List groups.",
			scope:   func(*call, *wire.ListRequest) (scope, error) { return scope{}, nil },
			run:     listGroups,
		}),
		operation(row[wire.NameChangeRequest, wire.NameResponse]{
			service: "iam", name: "deleteGroup", event: "iam.delete_group", write: true,
			summary: "Delete a group that has no policies.",
			scope:   func(_ *call, r *wire.NameChangeRequest) (scope, error) { return nameScope("name", r.Name) },
			run: func(ctx context.Context, c *call, r *wire.NameChangeRequest) (*wire.NameResponse, error) {
				return named(ctx, c, r, func(m fsm.Meta) fsm.Command { return fsm.DeleteGroup{Meta: m, Name: r.Name} })
			},
		}),
		operation(row[wire.AddToGroupRequest, wire.GroupMemberResponse]{
			service: "iam", name: "addToGroup", event: "iam.add_to_group", write: true,
			summary: "Put a principal into a group, for good or for some time.",
			scope:   func(_ *call, r *wire.AddToGroupRequest) (scope, error) { return memberScope(r.Group, r.Principal) },
			run:     addToGroup,
		}),
		operation(row[wire.RemoveFromGroupRequest, wire.GroupMemberResponse]{
			service: "iam", name: "removeFromGroup", event: "iam.remove_from_group", write: true,
			summary: "Take a principal out of a group.",
			scope:   func(_ *call, r *wire.RemoveFromGroupRequest) (scope, error) { return memberScope(r.Group, r.Principal) },
			run:     removeFromGroup,
		}),
	}
}

func memberScope(group, principal string) (scope, error) {
	if err := checkName("group", group); err != nil {
		return scope{}, err
	}
	s, err := nameScope("principal", principal)
	s.subject += " " + group
	return s, err
}

func createGroup(ctx context.Context, c *call, r *wire.CreateGroupRequest) (*wire.GroupResponse, error) {
	if err := checkText("description", r.Description); err != nil {
		return nil, err
	}
	meta, err := c.meta(ctx, r.ClientToken, r)
	if err != nil {
		return nil, err
	}
	g := fsm.Group{Name: r.Name, Description: r.Description, CreatedAt: c.now.UnixMilli(), CreatedBy: c.who.name}
	if _, err := c.commit(ctx, fsm.CreateGroup{Meta: meta, Group: g}); err != nil {
		return nil, err
	}
	// The record as it is kept: a retry must answer when it was made first.
	if err := c.afterCommit(ctx); err != nil {
		return nil, uncertain(err, meta)
	}
	kept := c.state.Group(r.Name)
	if kept == nil {
		kept = &g // deleted a moment later
	}
	out := c.groupResponse(kept)
	return &out, nil
}

func (c *call) groupResponse(g *fsm.Group) wire.GroupResponse {
	out := wire.GroupResponse{
		Name: g.Name, Description: g.Description, Attached: c.wireAttached(g.Attached),
		CreatedAt: wire.Millis(g.CreatedAt), CreatedBy: g.CreatedBy,
	}
	if g.Name == fsm.Everyone {
		out.Description = "every principal; built in"
	}
	return out
}

func describeGroup(_ context.Context, c *call, r *wire.NameRequest) (*wire.GroupResponse, error) {
	g := c.state.Group(r.Name)
	if g == nil {
		return nil, errNoGroup("name", r.Name)
	}
	out, count := c.groupResponse(g), 0
	for m := range c.state.Members(r.Name, "") {
		if m.Holds(c.now.UnixMilli()) {
			count++
		}
	}
	out.MemberCount = &count
	return &out, c.checkConsistency(r.Consistency)
}

func errNoGroup(field, name string) error {
	return fault.New(fault.NotFound, "%s: there is no group %s; listGroups shows them", field, name)
}

func listGroupMembers(_ context.Context, c *call, r *wire.ListGroupMembersRequest) (*wire.ListGroupMembersResponse, error) {
	p, err := checkPage(r.Page)
	if err != nil {
		return nil, err
	}
	if c.state.Group(r.Group) == nil {
		return nil, errNoGroup("group", r.Group)
	}
	out := &wire.ListGroupMembersResponse{Members: []wire.GroupMember{}}
	for m := range c.state.Members(r.Group, p.after) {
		if !m.Holds(c.now.UnixMilli()) {
			continue
		}
		if n := len(out.Members); n == p.limit {
			out.NextCursor = cursor(out.Members[n-1].Principal)
			break
		}
		out.Members = append(out.Members, wire.GroupMember{
			Principal: m.Principal, ExpiresAt: wire.Millis(m.ExpiresAt), AddedAt: wire.Millis(m.AddedAt), AddedBy: m.AddedBy, Reason: m.Reason,
		})
	}
	return out, c.checkConsistency(r.Consistency)
}

// listGroups shows the group of everyone too, in its place.
func listGroups(_ context.Context, c *call, r *wire.ListRequest) (*wire.ListGroupsResponse, error) {
	p, err := checkPage(r.Page)
	if err != nil {
		return nil, err
	}
	out := &wire.ListGroupsResponse{Groups: []wire.GroupResponse{}}
	add := func(g *fsm.Group) bool {
		if n := len(out.Groups); n == p.limit {
			out.NextCursor = cursor(out.Groups[n-1].Name)
			return false
		}
		out.Groups = append(out.Groups, c.groupResponse(g))
		return true
	}
	everyone := p.after < fsm.Everyone
	for g := range c.state.Groups(p.after) {
		if everyone && g.Name >= fsm.Everyone {
			everyone = false
			if g.Name != fsm.Everyone && !add(c.state.Group(fsm.Everyone)) {
				return out, c.checkConsistency(r.Consistency)
			}
		}
		if !add(g) {
			return out, c.checkConsistency(r.Consistency)
		}
	}
	if everyone {
		add(c.state.Group(fsm.Everyone))
	}
	return out, c.checkConsistency(r.Consistency)
}

func addToGroup(ctx context.Context, c *call, r *wire.AddToGroupRequest) (*wire.GroupMemberResponse, error) {
	if err := checkText("reason", r.Reason); err != nil {
		return nil, err
	}
	expiresAt, err := c.expiry(r.TTL)
	if err != nil {
		return nil, err
	}
	if err := c.withinBoundaries("iam:addToGroup", r.Principal); err != nil {
		return nil, err
	}
	meta, err := c.meta(ctx, r.ClientToken, r)
	if err != nil {
		return nil, err
	}
	result, err := c.commit(ctx, fsm.AddToGroup{Meta: meta, Group: r.Group, Principal: r.Principal, ExpiresAt: expiresAt, Reason: r.Reason})
	if err != nil {
		return nil, err
	}
	return &wire.GroupMemberResponse{Group: r.Group, Principal: r.Principal, ExpiresAt: wire.Millis(result.DueAt)}, nil
}

func removeFromGroup(ctx context.Context, c *call, r *wire.RemoveFromGroupRequest) (*wire.GroupMemberResponse, error) {
	if g := c.state.Group(r.Group); g != nil {
		for _, a := range g.Attached {
			if a.Mode == fsm.ModeBoundary {
				// It would take the boundary from whoever leaves.
				if err := c.unbounded("iam:removeFromGroup"); err != nil {
					return nil, err
				}
			}
		}
	}
	meta, err := c.meta(ctx, r.ClientToken, r)
	if err != nil {
		return nil, err
	}
	if _, err := c.commit(ctx, fsm.RemoveFromGroup{Meta: meta, Group: r.Group, Principal: r.Principal}); err != nil {
		return nil, err
	}
	return &wire.GroupMemberResponse{Group: r.Group, Principal: r.Principal}, nil
}
