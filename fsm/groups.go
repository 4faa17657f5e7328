package fsm

import (
	"bytes"
	"slices"

	"github.com/strongroom/strongroom/internal/names"
)

// Everyone is the group that every principal is in. It is there from the
// beginning, has no list of members, and cannot be deleted: what is to hold
// for all, such as a deny or a demand for approval, is attached to it.
const Everyone = "everyone"

// Group holds principals; policies are attached to it as to a principal.
type Group struct {
	Name        string       `cbor:"1,keyasint,omitempty"`
	Description string       `cbor:"2,keyasint,omitempty"`
	Attached    []Attachment `cbor:"3,keyasint,omitempty"` // sorted by policy, then mode
	CreatedAt   int64        `cbor:"4,keyasint,omitempty"`
	CreatedBy   string       `cbor:"5,keyasint,omitempty"`
}

// Membership puts a principal into a group.
type Membership struct {
	Group     string `cbor:"1,keyasint,omitempty"`
	Principal string `cbor:"2,keyasint,omitempty"`
	ExpiresAt int64  `cbor:"3,keyasint,omitempty"` // 0: never
	AddedAt   int64  `cbor:"4,keyasint,omitempty"`
	AddedBy   string `cbor:"5,keyasint,omitempty"`
	Reason    string `cbor:"6,keyasint,omitempty"`
}

// CreateGroup makes an empty group.
type CreateGroup struct {
	Meta  Meta  `cbor:"1,keyasint,omitempty"`
	Group Group `cbor:"2,keyasint,omitempty"` // Name and Description
}

// DeleteGroup removes a group that no policy is attached to, with its
// memberships.
type DeleteGroup struct {
	Meta Meta   `cbor:"1,keyasint,omitempty"`
	Name string `cbor:"2,keyasint,omitempty"`
}

// AddToGroup puts a principal into a group. Done again, it sets ExpiresAt and
// Reason anew.
type AddToGroup struct {
	Meta      Meta   `cbor:"1,keyasint,omitempty"`
	Group     string `cbor:"2,keyasint,omitempty"`
	Principal string `cbor:"3,keyasint,omitempty"`
	ExpiresAt int64  `cbor:"4,keyasint,omitempty"`
	Reason    string `cbor:"5,keyasint,omitempty"`
}

// RemoveFromGroup takes a principal out of a group.
type RemoveFromGroup struct {
	Meta      Meta   `cbor:"1,keyasint,omitempty"`
	Group     string `cbor:"2,keyasint,omitempty"`
	Principal string `cbor:"3,keyasint,omitempty"`
}

// maxGroups bounds the groups of one principal: each of its requests looks at
// all of them.
const maxGroups = 256

func createGroup(t *txn, c CreateGroup) (Result, *Refusal) {
	g := c.Group
	if r := checkName("name", g.Name); r != nil {
		return Result{}, r
	}
	if g.Name == Everyone {
		return Result{}, alreadyExists("name: %s is built in; every principal is in it", Everyone)
	}
	if t.groups.value([]byte(g.Name)) != nil {
		return Result{}, alreadyExists("name: there is a group %s already", g.Name)
	}
	t.putGroup(&Group{Name: g.Name, Description: g.Description, CreatedAt: t.now, CreatedBy: t.by})
	return Result{Name: g.Name}, nil
}

func deleteGroup(t *txn, c DeleteGroup) (Result, *Refusal) {
	if c.Name == Everyone {
		return Result{}, conflict("name: %s is built in and cannot be deleted; detach policies from it instead", Everyone)
	}
	g, r := t.group("name", c.Name)
	if r != nil {
		return Result{}, r
	}
	if len(g.Attached) > 0 {
		return Result{}, conflict("name: the policy %s is attached to the group; detach its policies first", g.Attached[0].Policy).
			with("policy", g.Attached[0].Policy)
	}
	for _, m := range t.members.collect(pair(c.Name, ""), 0) {
		t.removeMembership(m)
	}
	t.groups.remove([]byte(c.Name))
	return Result{Name: c.Name}, nil
}

// group answers the group of this name; that of everyone is always there.
func (t *txn) group(field, name string) (*Group, *Refusal) {
	if r := checkName(field, name); r != nil {
		return nil, r
	}
	g := t.groups.value([]byte(name))
	switch {
	case g == nil && name == Everyone:
		return &Group{Name: Everyone}, nil
	case g == nil:
		return nil, notFound("%s: there is no group %s; createGroup makes one", field, name)
	}
	return g, nil
}

func addToGroup(t *txn, c AddToGroup) (Result, *Refusal) {
	if _, r := t.group("group", c.Group); r != nil {
		return Result{}, r
	}
	if c.Group == Everyone {
		return Result{}, conflict("group: every principal is in %s already", Everyone)
	}
	p, r := t.principal("principal", c.Principal)
	if r != nil {
		return Result{}, r
	}
	if r := t.checkGrantTime(c.ExpiresAt, c.Reason); r != nil {
		return Result{}, r
	}
	old := t.members.value(pair(c.Group, p.Name))
	if old == nil && len(t.memberships.collect(pair(p.Name, ""), maxGroups)) >= maxGroups {
		return Result{}, invalid("principal", "is in %d groups, which is the most allowed; remove it from one first", maxGroups)
	}
	if old != nil {
		t.removeMembership(old)
	}
	t.putMembership(&Membership{Group: c.Group, Principal: p.Name, ExpiresAt: c.ExpiresAt, AddedAt: t.now, AddedBy: t.by, Reason: c.Reason})
	return Result{Name: c.Group, DueAt: c.ExpiresAt}, nil
}

// checkGrantTime checks when a grant ends, and why it was made.
func (t *txn) checkGrantTime(expiresAt int64, reason string) *Refusal {
	if len(reason) > maxReason {
		return invalid("reason", "has %d bytes; at most %d are allowed", len(reason), maxReason)
	}
	if expiresAt == 0 {
		return nil
	}
	return t.checkLater("expiresAt", expiresAt)
}

func removeFromGroup(t *txn, c RemoveFromGroup) (Result, *Refusal) {
	if _, r := t.group("group", c.Group); r != nil {
		return Result{}, r
	}
	if c.Group == Everyone {
		return Result{}, conflict("group: every principal is in %s; it cannot be left", Everyone)
	}
	if _, r := t.principal("principal", c.Principal); r != nil {
		return Result{}, r
	}
	if m := t.members.value(pair(c.Group, c.Principal)); m != nil {
		t.removeMembership(m)
	}
	return Result{Name: c.Group}, nil
}

func (t *txn) putMembership(m *Membership) {
	t.members.put(pair(m.Group, m.Principal), m)
	t.memberships.put(pair(m.Principal, m.Group), m)
	if m.ExpiresAt != 0 {
		t.schedule(dueItem{at: m.ExpiresAt, kind: dueMembership, id: string(pair(m.Group, m.Principal))})
	}
}

func (t *txn) removeMembership(m *Membership) {
	t.members.remove(pair(m.Group, m.Principal))
	t.memberships.remove(pair(m.Principal, m.Group))
	if m.ExpiresAt != 0 {
		t.unschedule(dueItem{at: m.ExpiresAt, kind: dueMembership, id: string(pair(m.Group, m.Principal))})
	}
}

// putGroup stores g in place of the record of the same name, if there is one,
// and keeps what follows from its attachments in step.
func (t *txn) putGroup(g *Group) {
	var old []Attachment
	if before := t.groups.value([]byte(g.Name)); before != nil {
		old = before.Attached
	}
	t.indexAttached(groupHolder+g.Name, old, g.Attached)
	t.groups.put([]byte(g.Name), g)
}

func restoreGroupRecord(t *txn, g *Group) (string, error) {
	if err := t.checkRestoredAttached(g.Name, g.Attached); err != nil {
		return "", err
	}
	t.putGroup(g)
	return g.Name, nil
}

func restoreMembership(t *txn, m *Membership) (string, error) {
	if t.groups.value([]byte(m.Group)) == nil || t.principals.value([]byte(m.Principal)) == nil || m.ExpiresAt < 0 || m.ExpiresAt > maxTime {
		return "", errBadMembership
	}
	t.putMembership(m)
	return string(pair(m.Group, m.Principal)), nil
}

// splitPair is the way back from pair.
func splitPair(key string) (a, b string) {
	i := bytes.IndexByte([]byte(key), 0)
	return key[:i], key[i+1:]
}

// validNames reports whether all of them are names.
func validNames(list []string) bool {
	return !slices.ContainsFunc(list, func(s string) bool {
		_, err := names.ParseName(s)
		return err != nil
	})
}
