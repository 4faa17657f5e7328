package fsm

import (
	"fmt"
	"slices"
)

// effectApproval is the effect of a statement that holds back what is allowed
// until others have approved it.
const effectApproval = "requireApproval"

// Conditions narrow a statement.
type Conditions struct {
	SourceCIDRs []string            `cbor:"1,keyasint,omitempty"`
	TimeWindows []TimeWindow        `cbor:"2,keyasint,omitempty"`
	NotBefore   int64               `cbor:"3,keyasint,omitempty"`
	NotAfter    int64               `cbor:"4,keyasint,omitempty"`
	AuthMethods []string            `cbor:"5,keyasint,omitempty"`
	Groups      []string            `cbor:"6,keyasint,omitempty"`
	Tags        map[string][]string `cbor:"7,keyasint,omitempty"`
}

// Approval says who approves, and how many of them.
type Approval struct {
	Principals []string `cbor:"1,keyasint,omitempty"`
	Groups     []string `cbor:"2,keyasint,omitempty"`
	Count      int      `cbor:"3,keyasint,omitempty"` // at least 1
	ValidFor   int64    `cbor:"4,keyasint,omitempty"` // milliseconds
}

// Bounds of conditions and approvals.
const (
	maxApprovals    = 10
	minApprovalTime = 60 * 1000
	maxApprovalTime = 7 * dayMillis
)

func checkConditions(field string, c *Conditions) *Refusal {
	if c == nil {
		return nil
	}
	for _, list := range []struct {
		name  string
		items []string
	}{{"sourceCidrs", c.SourceCIDRs}, {"authMethods", c.AuthMethods}, {"groups", c.Groups}} {
		if r := checkList(field+list.name, list.items); r != nil {
			return r
		}
	}
	if c.NotBefore < 0 || c.NotBefore > maxTime || c.NotAfter < 0 || c.NotAfter > maxTime {
		return invalid(field+"notBefore", "and notAfter must lie in the years 1970 to 9999")
	}
	if c.NotAfter != 0 && c.NotAfter <= c.NotBefore {
		return invalid(field+"notAfter", "must lie after notBefore")
	}
	if len(c.Tags) > maxListed {
		return invalid(field+"tags", "has %d entries; at most %d are allowed", len(c.Tags), maxListed)
	}
	for _, name := range sorted(c.Tags) {
		if r := checkName(field+"tags", name); r != nil {
			return r
		}
		if len(c.Tags[name]) == 0 {
			return invalid(field+"tags."+name, "needs at least one value")
		}
		if r := checkList(field+"tags."+name, c.Tags[name]); r != nil {
			return r
		}
	}
	return checkWindows(field+"timeWindows", c.TimeWindows)
}

// checkApproval refuses a demand that anybody could meet alone: a threshold
// below one would be none.
func checkApproval(field, effect string, a *Approval) *Refusal {
	if effect != effectApproval {
		if a != nil {
			return invalid(field, "goes only with the effect %s", effectApproval)
		}
		return nil
	}
	switch {
	case a == nil:
		return invalid(field, "is missing")
	case a.Count < 1 || a.Count > maxApprovals:
		return invalid(field+".count", "must be 1 to %d", maxApprovals)
	case a.ValidFor < minApprovalTime || a.ValidFor > maxApprovalTime:
		return invalid(field+".validFor", "must be a minute to seven days")
	}
	if r := checkList(field+".principals", a.Principals); r != nil {
		return r
	}
	if r := checkList(field+".groups", a.Groups); r != nil {
		return r
	}
	if !validNames(slices.Concat(a.Principals, a.Groups)) {
		return invalid(field, "names somebody whose name could not be")
	}
	return nil
}

// checkNames checks a list of names.
func checkNames(field string, list []string) *Refusal {
	for i, name := range list {
		if r := checkName(fmt.Sprintf("%s[%d]", field, i), name); r != nil {
			return r
		}
	}
	return nil
}
