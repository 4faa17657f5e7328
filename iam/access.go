package iam

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/strongroom/strongroom/internal/fault"
	"github.com/strongroom/strongroom/internal/names"
)

// AccessDocument is an access policy as it is written. It restricts what
// policies allow and never grants. All that match path, action and principal
// of a question must be satisfied.
type AccessDocument struct {
	Name       string
	Revision   uint64
	Paths      []string // patterns, at least one
	Actions    []string // of secrets; default those that reveal or change a value
	Principals []string // default all
	// SourceCIDRs is satisfied by an address in any of them. 0.0.0.0/0 is
	// every IPv4 address and no IPv6 address, ::/0 the reverse.
	SourceCIDRs []string
	// NotBefore is the first instant of access and NotAfter the first instant
	// without; zero means unbounded.
	NotBefore, NotAfter time.Time
}

// AccessPolicy is a compiled AccessDocument, immutable and safe for
// concurrent use.
type AccessPolicy struct {
	name                string
	paths               []pathRule
	actions             actionSet
	principals          map[string]bool // nil: all
	cidrs               []netip.Prefix
	notBefore, notAfter time.Time
}

// Name answers the name of the access policy.
func (p *AccessPolicy) Name() string { return p.name }

// CompileAccessPolicy checks an access policy and prepares it for decisions.
// Errors are fault.InvalidRequest and name the place. A policy that would
// restrict nothing is refused.
func CompileAccessPolicy(c *Catalogue, d AccessDocument) (*AccessPolicy, error) {
	if _, err := names.ParseName(d.Name); err != nil {
		return nil, fault.Invalid("name", "%v", err)
	}
	if len(d.Paths) == 0 {
		return nil, fault.Invalid("paths", "at least one is needed; \"/**\" is every path")
	}
	out := &AccessPolicy{name: d.Name, notBefore: d.NotBefore, notAfter: d.NotAfter}
	var err error
	if out.paths, err = compilePaths("paths", d.Paths); err != nil {
		return nil, err
	}
	if out.actions, err = compileAccessActions(c, d.Actions); err != nil {
		return nil, err
	}
	if out.principals, err = compilePrincipals(d.Principals); err != nil {
		return nil, err
	}
	if len(d.SourceCIDRs) > maxEntries {
		return nil, tooMany("sourceCidrs", len(d.SourceCIDRs))
	}
	for i, text := range d.SourceCIDRs {
		prefix, err := ParseCIDR(text)
		if err != nil {
			return nil, fault.Invalid(fmt.Sprintf("sourceCidrs[%d]", i), "%v", err)
		}
		out.cidrs = append(out.cidrs, prefix)
	}
	if !d.NotBefore.IsZero() && !d.NotAfter.IsZero() && !d.NotBefore.Before(d.NotAfter) {
		return nil, fault.Invalid("notAfter", "must be later than notBefore")
	}
	if len(out.cidrs) == 0 && d.NotBefore.IsZero() && d.NotAfter.IsZero() {
		return nil, fault.Invalid("sourceCidrs", "nothing would be restricted; give at least one of sourceCidrs, notBefore and notAfter")
	}
	return out, nil
}

func compileAccessActions(c *Catalogue, texts []string) (actionSet, error) {
	set, err := c.compileActions("actions", texts)
	if err != nil {
		return set, err
	}
	if len(texts) == 0 {
		for _, a := range valueActions() {
			set.exact[a] = "default actions"
		}
		return set, nil
	}
	for i, text := range texts {
		if a := Action(text); a != Everything && a.service() != secretsService {
			return set, fault.Invalid(fmt.Sprintf("actions[%d]", i), "%s is not about a path; access policies restrict actions of secrets", quote(text))
		}
	}
	return set, nil
}

func compilePrincipals(texts []string) (map[string]bool, error) {
	if len(texts) == 0 {
		return nil, nil
	}
	if len(texts) > maxEntries {
		return nil, tooMany("principals", len(texts))
	}
	out := make(map[string]bool, len(texts))
	for i, text := range texts {
		if _, err := names.ParseName(text); err != nil {
			return nil, fault.Invalid(fmt.Sprintf("principals[%d]", i), "%v", err)
		}
		out[text] = true
	}
	return out, nil
}

// applies answers the pattern by which p is about q, "" if it is not.
func (p *AccessPolicy) applies(q *Question) string {
	about := q.Resource
	if about.Path == "" && about.Below == "" || p.actions.covers(q.Action) == "" {
		return ""
	}
	if p.principals != nil && !p.principals[q.Principal] {
		return ""
	}
	if about.Path == "" {
		return matchBelow(p.paths, about.Below, true)
	}
	return matchPath(p.paths, about.Path)
}

// ParseCIDR reads a source range such as 10.0.0.0/8 or 2001:db8::/32.
// Addresses without a length, host bits, zones and IPv4-mapped ranges wider
// than IPv4 are refused; an IPv4-mapped range is answered as the IPv4 range
// that it is, so that one address has one form.
func ParseCIDR(s string) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(s)
	if err != nil {
		if a, e := netip.ParseAddr(s); e == nil && a.Zone() == "" {
			return netip.Prefix{}, fmt.Errorf("%s has no length; write %s/%d for this one address", quote(s), a, a.BitLen())
		}
		return netip.Prefix{}, fmt.Errorf("%s is not a CIDR range without a zone, such as 10.0.0.0/8 or 2001:db8::/32", quote(s))
	}
	if p.Addr().Is4In6() {
		if p.Bits() < 96 {
			return netip.Prefix{}, fmt.Errorf("%s is wider than all IPv4-mapped addresses; write the IPv4 range itself", quote(s))
		}
		p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
	}
	if p != p.Masked() {
		return netip.Prefix{}, fmt.Errorf("%s has bits set beyond its length; write %s", quote(s), p.Masked())
	}
	return p, nil
}

// SourceAllowed reports whether a is in any of cidrs, which came from
// ParseCIDR. An IPv4-mapped address is the IPv4 address; an address with a
// zone, and none at all, is in no range.
func SourceAllowed(cidrs []netip.Prefix, a netip.Addr) bool {
	// The zone comes first: Unmap would take it from an IPv4-mapped address.
	if !a.IsValid() || a.Zone() != "" {
		return false
	}
	a = a.Unmap()
	for _, p := range cidrs {
		if p.Contains(a) {
			return true
		}
	}
	return false
}
