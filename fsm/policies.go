package fsm

import (
	"fmt"

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
	p := t.addPolicy(c.Name, c.Statements)
	return Result{Name: p.Name, Revision: p.Revision}, nil
}

// addPolicy stores the next revision of a policy.
func (t *txn) addPolicy(name string, statements []Statement) *Policy {
	p := &Policy{Name: name, Revision: 1, Statements: statements, UpdatedAt: t.now, UpdatedBy: t.by}
	if old := t.policies.value([]byte(name)); old != nil {
		p.Revision = old.Revision + 1
	}
	t.policies.put([]byte(name), p)
	return p
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
		if s.Effect != "allow" && s.Effect != "deny" {
			return invalid(field+"effect", "must be allow or deny")
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
	p.Revision, p.UpdatedAt, p.UpdatedBy = 1, t.now, t.by
	if old := t.access.value([]byte(p.Name)); old != nil {
		p.Revision = old.Revision + 1
	}
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
	}{{"paths", p.Paths}, {"actions", p.Actions}, {"principals", p.Principals}, {"sourceCidrs", p.SourceCIDRs}} {
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
	return nil
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
