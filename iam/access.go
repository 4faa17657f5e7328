package iam

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/strongroom/strongroom/internal/fault"
	"github.com/strongroom/strongroom/internal/names"
)

// AccessDocument is an access policy as it is written. It restricts what
// policies allow and never grants. All that match path, action and principal
// of a question must be satisfied.
type AccessDocument struct {
	Name     string
	Revision uint64
	Paths    []string // patterns, at least one
	Actions  []string // of secrets; default those that reveal or change a value
	// Principals and Groups are whom it restricts: who is among the principals
	// or in one of the groups; default all.
	Principals []string
	Groups     []string
	// SourceCIDRs is satisfied by an address in any of them. 0.0.0.0/0 is
	// every IPv4 address and no IPv6 address, ::/0 the reverse.
	SourceCIDRs []string
	// TimeWindows is satisfied inside any of them.
	TimeWindows []TimeWindow
	// NotBefore is the first instant of access and NotAfter the first instant
	// without; zero means unbounded.
	NotBefore, NotAfter time.Time
	// ReportOnly: it decides nothing; decisions say what would be different.
	ReportOnly bool
}

// AccessPolicy is a compiled AccessDocument, immutable and safe for
// concurrent use.
type AccessPolicy struct {
	name                string
	revision            uint64
	rule                statement // actions and paths; it is indexed like one
	principals          []string
	groups              []string
	cidrs               []netip.Prefix
	windows             windows
	notBefore, notAfter time.Time
	report              bool
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
	out := &AccessPolicy{name: d.Name, revision: d.Revision, notBefore: d.NotBefore, notAfter: d.NotAfter, report: d.ReportOnly}
	var err error
	if out.rule.paths, err = compilePaths("paths", d.Paths); err != nil {
		return nil, err
	}
	if out.rule.actions, err = compileAccessActions(c, d.Actions); err != nil {
		return nil, err
	}
	if out.principals, err = compileNames("principals", d.Principals); err != nil {
		return nil, err
	}
	if out.groups, err = compileNames("groups", d.Groups); err != nil {
		return nil, err
	}
	if out.cidrs, err = compileCIDRs("sourceCidrs", d.SourceCIDRs); err != nil {
		return nil, err
	}
	if out.windows, err = compileWindows("timeWindows", d.TimeWindows); err != nil {
		return nil, err
	}
	if !d.NotBefore.IsZero() && !d.NotAfter.IsZero() && !d.NotBefore.Before(d.NotAfter) {
		return nil, fault.Invalid("notAfter", "must be later than notBefore")
	}
	if len(out.cidrs)+len(out.windows) == 0 && d.NotBefore.IsZero() && d.NotAfter.IsZero() {
		return nil, fault.Invalid("sourceCidrs", "nothing would be restricted; give at least one of sourceCidrs, timeWindows, notBefore and notAfter")
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

// applies answers the pattern by which p is about q, "" if it is not.
func (p *AccessPolicy) applies(q *Question) string {
	about := q.Resource
	if about.Path == "" && about.Below == "" || p.rule.actions.covers(q.Action) == "" || !p.restricts(q) {
		return ""
	}
	if about.Path == "" {
		return matchBelow(p.rule.paths, about.Below, true)
	}
	return matchPath(p.rule.paths, about.Path)
}

// restricts reports whether p is about whoever asks q.
func (p *AccessPolicy) restricts(q *Question) bool {
	return len(p.principals)+len(p.groups) == 0 || slices.Contains(p.principals, q.Principal) ||
		slices.ContainsFunc(p.groups, func(g string) bool { return slices.Contains(q.Groups, g) })
}

// early and late report whether at lies before, or past, the bounds of p.
func (p *AccessPolicy) early(at time.Time) bool { return at.Before(p.notBefore) }
func (p *AccessPolicy) late(at time.Time) bool {
	return !p.notAfter.IsZero() && !at.Before(p.notAfter)
}

// open reports whether the times of p allow at.
func (p *AccessPolicy) open(at time.Time) bool {
	return !p.early(at) && !p.late(at) && (len(p.windows) == 0 || p.windows.inside(at))
}

// timed reports whether p says anything about times.
func (p *AccessPolicy) timed() bool {
	return len(p.windows) > 0 || !p.notBefore.IsZero() || !p.notAfter.IsZero()
}

// opens answers the first instant, at or after at, at which the times of p
// allow it; zero if there is none, or none within the horizon.
func (p *AccessPolicy) opens(at time.Time) time.Time {
	if p.early(at) {
		at = p.notBefore
	}
	if len(p.windows) > 0 {
		at = p.windows.opens(at)
	}
	if at.IsZero() || p.late(at) {
		return time.Time{}
	}
	return at
}

// closes answers the first instant after at, at which p is open, at which it
// is not; zero if that is not soon.
func (p *AccessPolicy) closes(at time.Time) time.Time {
	var end time.Time
	if len(p.windows) > 0 {
		end = p.windows.closes(at)
	}
	if !p.notAfter.IsZero() && (end.IsZero() || p.notAfter.Before(end)) {
		end = p.notAfter
	}
	return end
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
