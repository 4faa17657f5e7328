package iam

import (
	"fmt"
	"strings"

	"github.com/strongroom/strongroom/internal/fault"
)

// actionSet is a compiled list of actions and roles. Each entry maps to the
// text by which it got in, for the chain of a decision.
type actionSet struct {
	all      string            // "*" or the role that means all, "" if not all
	services map[string]string // "secrets:" → "secrets:*"
	exact    map[Action]string // "secrets:getSecretValue" → "role secrets-value-access"
}

// covers answers how a got into the set, "" if it did not.
func (s *actionSet) covers(a Action) string {
	if why, ok := s.exact[a]; ok {
		return why
	}
	if why, ok := s.services[a.service()]; ok {
		return why
	}
	return s.all
}

// about reports whether the set names an action of service, other than by
// "everything".
func (s *actionSet) about(service string) bool {
	if _, ok := s.services[service]; ok {
		return true
	}
	for a := range s.exact {
		if a.service() == service {
			return true
		}
	}
	return false
}

// clusterWide answers a named action that is about neither a path nor a key.
func (s *actionSet) clusterWide() string {
	for service, why := range s.services {
		if service != secretsService && service != kmsService {
			return why
		}
	}
	first := ""
	for a := range s.exact {
		if sv := a.service(); sv != secretsService && sv != kmsService && (first == "" || string(a) < first) {
			first = string(a)
		}
	}
	return first
}

// compileActions turns texts into a set. An action is exact, or "service:*",
// or "*": there are no other wildcards, so that a new operation never falls
// under a policy that was written before it, except under those two, which
// say so.
func (c *Catalogue) compileActions(field string, texts []string) (actionSet, error) {
	set := actionSet{services: map[string]string{}, exact: map[Action]string{}}
	if len(texts) > maxEntries {
		return set, tooMany(field, len(texts))
	}
	for i, text := range texts {
		if err := c.addAction(&set, text); err != nil {
			return set, fault.Invalid(fmt.Sprintf("%s[%d]", field, i), "%v", err)
		}
	}
	return set, nil
}

func (c *Catalogue) addAction(set *actionSet, text string) error {
	if Action(text) == Everything {
		set.all = text
		return nil
	}
	service := Action(text).service()
	operations, known := c.services[service]
	switch {
	case service == "":
		return fmt.Errorf("%s is not an action; write service:operation, service:* or *", quote(text))
	case !known:
		return fmt.Errorf("%s is of no service that there is; services are %s", quote(text), c.serviceNames())
	case text == service+"*":
		set.services[service] = text
		return nil
	case !c.actions[Action(text)]:
		return fmt.Errorf("%s is not an action; those of %s are %s, and %s* means all of them",
			quote(text), strings.TrimSuffix(service, ":"), strings.Join(operations, ", "), service)
	}
	set.exact[Action(text)] = text
	return nil
}

func (c *Catalogue) addRoles(set *actionSet, field string, roles []string) error {
	if len(roles) > maxEntries {
		return tooMany(field, len(roles))
	}
	for i, role := range roles {
		expanded, ok := c.roles[role]
		if !ok {
			return fault.Invalid(fmt.Sprintf("%s[%d]", field, i), "%s is not a role; roles are %s", quote(role), c.roleNames())
		}
		why := "role " + role
		for _, a := range expanded {
			if a == Everything {
				set.all = why
			} else if set.exact[a] == "" {
				set.exact[a] = why
			}
		}
	}
	return nil
}

// quote shows a caller's own text back, cut and escaped.
func quote(s string) string {
	if len(s) > 64 {
		return fmt.Sprintf("%q…", s[:64])
	}
	return fmt.Sprintf("%q", s)
}

func tooMany(field string, n int) error {
	return fault.Invalid(field, "has %d entries; at most %d are allowed", n, maxEntries)
}
