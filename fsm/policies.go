package fsm

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"

	"github.com/strongroom/strongroom/internal/names"
)

// Bounds of a policy's lists.
const (
	maxStatements = 1000
	maxListed     = 1000
	maxListedText = 512
)

func putPolicy(t *txn, c PutPolicy) (Result, *Refusal) {
	if r := checkName("name", c.Name); r != nil {
		return Result{}, r
	}
	if c.Name == FullAccess {
		return Result{}, conflict("name: %s is built in and cannot be rewritten; give the policy another name", FullAccess)
	}
	if r := checkStatements(c.Statements); r != nil {
		return Result{}, r
	}
	if r := checkPolicyTexts(c.Description, c.Reason); r != nil {
		return Result{}, r
	}
	if r := t.expectRevision(c.Name, c.Expected); r != nil {
		return Result{}, r
	}
	p := t.addPolicy(Policy{Name: c.Name, Statements: c.Statements, Description: c.Description, Reason: c.Reason, RequestID: c.Meta.RequestID, ReportOnly: c.ReportOnly})
	return Result{Name: p.Name, Revision: p.Revision}, nil
}

const maxDescription = 1024

func checkPolicyTexts(description, reason string) *Refusal {
	switch {
	case len(description) > maxDescription:
		return invalid("description", "has %d bytes; at most %d are allowed", len(description), maxDescription)
	case len(reason) > maxReason:
		return invalid("reason", "has %d bytes; at most %d are allowed", len(reason), maxReason)
	}
	return nil
}

func (t *txn) expectRevision(name string, expected *uint64) *Refusal {
	if expected == nil {
		return nil
	}
	at := uint64(0)
	if p := t.policies.value([]byte(name)); p != nil {
		at = p.Revision
	}
	if at != *expected {
		return conflict("expectedRevision: the policy is at revision %d, not %d; look at it again", at, *expected)
	}
	return nil
}

// pastRevisions is how many revisions before the current one are kept of a
// policy.
const pastRevisions = 100

// addPolicy stores the next revision of a policy, and keeps the one before.
func (t *txn) addPolicy(p Policy) *Policy {
	p.Revision, p.UpdatedAt, p.UpdatedBy = 1, t.now, t.by
	if old := t.policies.value([]byte(p.Name)); old != nil {
		p.Revision = old.Revision + 1
		t.revisions.put(revisionKey(old), old)
		if old.Revision > pastRevisions {
			t.revisions.remove(revisionKey(&Policy{Name: p.Name, Revision: old.Revision - pastRevisions}))
		}
	}
	t.policies.put([]byte(p.Name), &p)
	return &p
}

func revisionKey(p *Policy) []byte {
	return binary.BigEndian.AppendUint64(pair(p.Name, ""), p.Revision)
}

// rollbackPolicy makes a past revision the next one: nothing is ever taken
// out of the history.
func rollbackPolicy(t *txn, c RollbackPolicy) (Result, *Refusal) {
	if r := checkName("name", c.Name); r != nil {
		return Result{}, r
	}
	now := t.policies.value([]byte(c.Name))
	if now == nil {
		return Result{}, noPolicy("name", c.Name)
	}
	if c.Name == FullAccess {
		return Result{}, conflict("name: %s is built in and was never rewritten", FullAccess)
	}
	if r := checkPolicyTexts("", c.Reason); r != nil {
		return Result{}, r
	}
	if r := t.expectRevision(c.Name, c.Expected); r != nil {
		return Result{}, r
	}
	old := t.revisions.value(revisionKey(&Policy{Name: c.Name, Revision: c.Revision}))
	switch {
	case c.Revision == now.Revision:
		return Result{}, conflict("revision: the policy is at revision %d already", c.Revision)
	case old == nil:
		return Result{}, notFound("revision: there is no revision %d of the policy; the latest %d are kept, listPolicyRevisions shows them", c.Revision, pastRevisions)
	}
	p := t.addPolicy(Policy{
		Name: c.Name, Statements: old.Statements, Description: old.Description, ReportOnly: old.ReportOnly,
		Reason: c.Reason, RequestID: c.Meta.RequestID, RolledBackTo: c.Revision,
	})
	return Result{Name: p.Name, Revision: p.Revision}, nil
}

func (t *txn) restoreRevision(p *Policy) (string, error) {
	now := t.policies.value([]byte(p.Name))
	if now == nil || p.Revision == 0 || p.Revision >= now.Revision || checkStatements(p.Statements) != nil {
		return "", errors.New("a past revision is of a policy that is not there, or not past")
	}
	t.revisions.put(revisionKey(p), p)
	return string(revisionKey(p)), nil
}

// checkStatements checks the shape, so that whoever compiles the stored
// policy later cannot meet one that does not parse. Which actions and roles
// there are is not known here.
func checkStatements(statements []Statement) *Refusal {
	if len(statements) == 0 || len(statements) > maxStatements {
		return invalid("statements", "must have 1 to %d entries", maxStatements)
	}
	for i, s := range statements {
		field := fmt.Sprintf("statements[%d].", i)
		if s.Effect != "allow" && s.Effect != "deny" && s.Effect != effectApproval {
			return invalid(field+"effect", "must be allow, deny or %s", effectApproval)
		}
		if len(s.Actions)+len(s.Roles) == 0 {
			return invalid(field+"actions", "give actions or roles; a statement without any says nothing")
		}
		for _, list := range []struct {
			name  string
			items []string
		}{{"actions", s.Actions}, {"roles", s.Roles}, {"paths", s.Paths}, {"keys", s.Keys}} {
			if r := checkList(field+list.name, list.items); r != nil {
				return r
			}
		}
		if r := checkPatterns(field+"paths", s.Paths); r != nil {
			return r
		}
		for j, ref := range s.Keys {
			if _, err := names.ParseKeyRef(ref); err != nil && ref != "*" {
				return invalid(fmt.Sprintf("%skeys[%d]", field, j), "%v, or *", err)
			}
		}
		if r := checkConditions(field+"conditions.", s.Conditions); r != nil {
			return r
		}
		if r := checkApproval(field+"approval", s.Effect, s.Approval); r != nil {
			return r
		}
	}
	return nil
}

func checkPatterns(field string, patterns []string) *Refusal {
	for i, pattern := range patterns {
		if _, err := names.ParsePattern(pattern); err != nil {
			return invalid(fmt.Sprintf("%s[%d]", field, i), "%v", err)
		}
	}
	return nil
}

func checkList(field string, items []string) *Refusal {
	if len(items) > maxListed {
		return invalid(field, "has %d entries; at most %d are allowed", len(items), maxListed)
	}
	for i, item := range items {
		if item == "" || len(item) > maxListedText {
			return invalid(fmt.Sprintf("%s[%d]", field, i), "must have 1 to %d bytes", maxListedText)
		}
	}
	return nil
}

func deletePolicy(t *txn, c DeletePolicy) (Result, *Refusal) {
	if r := checkName("name", c.Name); r != nil {
		return Result{}, r
	}
	switch {
	case t.policies.value([]byte(c.Name)) == nil:
		return Result{}, noPolicy("name", c.Name)
	case c.Name == FullAccess:
		return Result{}, conflict("name: %s is built in and cannot be deleted; detach it from those who should not have it", FullAccess)
	}
	for key := range scan(t.attached.root(), pair(c.Name, ""), nil) {
		return Result{}, conflict("name: the policy is attached to %s; detach it from every principal first", key[len(c.Name)+1:]).
			with("principal", string(key[len(c.Name)+1:]))
	}
	for key := range scan(t.holders.root(), pair(c.Name, ""), nil) {
		holder, _ := splitPair(string(key[len(c.Name)+1:]))
		kind := "principal"
		if strings.HasPrefix(holder, groupHolder) {
			kind = "group"
		}
		name := holder[len(principalHolder):]
		return Result{}, conflict("name: the policy is attached to the %s %s; detach it everywhere first", kind, name).with(kind, name)
	}
	for _, old := range t.revisions.collect(pair(c.Name, ""), 0) {
		t.revisions.remove(revisionKey(old))
	}
	t.policies.remove([]byte(c.Name))
	return Result{Name: c.Name}, nil
}

func noPolicy(field, name string) *Refusal {
	return notFound("%s: there is no policy %.128s", field, name)
}

func putAccessPolicy(t *txn, c PutAccessPolicy) (Result, *Refusal) {
	p := c.Policy
	if r := checkAccess(p); r != nil {
		return Result{}, r
	}
	at := uint64(0)
	if old := t.access.value([]byte(p.Name)); old != nil {
		at = old.Revision
	}
	if c.Expected != nil && *c.Expected != at {
		return Result{}, conflict("expectedRevision: the access policy is at revision %d, not %d; look at it again", at, *c.Expected)
	}
	p.Revision, p.UpdatedAt, p.UpdatedBy, p.RequestID = at+1, t.now, t.by, c.Meta.RequestID
	t.access.put([]byte(p.Name), &p)
	return Result{Name: p.Name, Revision: p.Revision}, nil
}

func checkAccess(p AccessPolicy) *Refusal {
	if r := checkName("name", p.Name); r != nil {
		return r
	}
	for _, list := range []struct {
		name  string
		items []string
	}{{"paths", p.Paths}, {"actions", p.Actions}, {"principals", p.Principals}, {"groups", p.Groups}, {"sourceCidrs", p.SourceCIDRs}} {
		if r := checkList(list.name, list.items); r != nil {
			return r
		}
	}
	if r := checkPatterns("paths", p.Paths); r != nil {
		return r
	}
	if p.NotBefore < 0 || p.NotBefore > maxTime || p.NotAfter < 0 || p.NotAfter > maxTime {
		return invalid("notBefore", "and notAfter must lie in the years 1970 to 9999")
	}
	if p.NotAfter != 0 && p.NotAfter <= p.NotBefore {
		return invalid("notAfter", "must lie after notBefore")
	}
	if r := checkPolicyTexts(p.Description, p.Reason); r != nil {
		return r
	}
	return checkWindows("timeWindows", p.TimeWindows)
}

func deleteAccessPolicy(t *txn, c DeleteAccessPolicy) (Result, *Refusal) {
	if r := checkName("name", c.Name); r != nil {
		return Result{}, r
	}
	if t.access.value([]byte(c.Name)) == nil {
		return Result{}, notFound("name: there is no access policy %s", c.Name)
	}
	t.access.remove([]byte(c.Name))
	return Result{Name: c.Name}, nil
}
