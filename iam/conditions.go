package iam

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/strongroom/strongroom/internal/fault"
	"github.com/strongroom/strongroom/internal/names"
)

// Conditions narrow a statement: it holds only for questions that satisfy
// all kinds of conditions that are given, each by any one of its entries.
type Conditions struct {
	SourceCIDRs []string
	TimeWindows []TimeWindow
	// NotBefore is the first instant and NotAfter the first one past it; zero
	// means unbounded.
	NotBefore, NotAfter time.Time
	// AuthMethods are AuthMethods(): how the caller authenticated.
	AuthMethods []string
	// Groups are groups that the caller is in.
	Groups []string
	// Tags are tags that the secret or the key has, by name, each with
	// patterns of its value, in which '*' stands for any text. A tag that is
	// not there satisfies no pattern.
	Tags map[string][]string
}

// AuthMethods lists what a condition may name: a token that was made for the
// principal, a signed request, a client certificate, and the trusts by which
// login can have made the token.
func AuthMethods() []string {
	return []string{"token", "accessKey", "certificate", "oidc", "jwt", "kubernetes"}
}

// Kinds of conditions, as a chain names the one that is not met.
const (
	conditionSource  = "sourceCidrs"
	conditionWindows = "timeWindows"
	conditionBefore  = "notBefore"
	conditionAfter   = "notAfter"
	conditionMethod  = "authMethods"
	conditionGroups  = "groups"
	conditionTags    = "tags"
)

type conditions struct {
	cidrs               []netip.Prefix
	windows             windows
	notBefore, notAfter time.Time
	methods             []string
	groups              []string
	tags                []tagCondition
}

type tagCondition struct {
	name     string
	patterns []string
}

func compileConditions(field string, in *Conditions, about bool) (*conditions, error) {
	if in == nil {
		return nil, nil
	}
	out := &conditions{notBefore: in.NotBefore, notAfter: in.NotAfter}
	var err error
	if out.cidrs, err = compileCIDRs(field+".sourceCidrs", in.SourceCIDRs); err != nil {
		return nil, err
	}
	if out.windows, err = compileWindows(field+".timeWindows", in.TimeWindows); err != nil {
		return nil, err
	}
	if !in.NotBefore.IsZero() && !in.NotAfter.IsZero() && !in.NotBefore.Before(in.NotAfter) {
		return nil, fault.Invalid(field+".notAfter", "must be later than notBefore")
	}
	if out.methods, err = compileMethods(field+".authMethods", in.AuthMethods); err != nil {
		return nil, err
	}
	if out.groups, err = compileNames(field+".groups", in.Groups); err != nil {
		return nil, err
	}
	if out.tags, err = compileTags(field+".tags", in.Tags, about); err != nil {
		return nil, err
	}
	if len(in.SourceCIDRs)+len(in.TimeWindows)+len(in.AuthMethods)+len(in.Groups)+len(in.Tags) == 0 && in.NotBefore.IsZero() && in.NotAfter.IsZero() {
		return nil, fault.Invalid(field, "holds no condition; leave it out, or give sourceCidrs, timeWindows, notBefore, notAfter, authMethods, groups or tags")
	}
	return out, nil
}

func compileCIDRs(field string, texts []string) ([]netip.Prefix, error) {
	if len(texts) > maxEntries {
		return nil, tooMany(field, len(texts))
	}
	var out []netip.Prefix
	for i, text := range texts {
		prefix, err := ParseCIDR(text)
		if err != nil {
			return nil, fault.Invalid(fmt.Sprintf("%s[%d]", field, i), "%v", err)
		}
		out = append(out, prefix)
	}
	return out, nil
}

func compileMethods(field string, texts []string) ([]string, error) {
	known := AuthMethods()
	for i, text := range texts {
		if !slices.Contains(known, text) {
			return nil, fault.Invalid(fmt.Sprintf("%s[%d]", field, i), "%s is not a way to authenticate; there are %v", quote(text), known)
		}
	}
	if len(texts) > len(known) {
		return nil, tooMany(field, len(texts))
	}
	return slices.Clone(texts), nil
}

func compileNames(field string, texts []string) ([]string, error) {
	if len(texts) > maxEntries {
		return nil, tooMany(field, len(texts))
	}
	for i, text := range texts {
		if _, err := names.ParseName(text); err != nil {
			return nil, fault.Invalid(fmt.Sprintf("%s[%d]", field, i), "%v", err)
		}
	}
	return slices.Clone(texts), nil
}

const maxTagPattern = 256

// compileTags checks conditions on tags; about says whether the statement is
// about something that has tags.
func compileTags(field string, in map[string][]string, about bool) ([]tagCondition, error) {
	switch {
	case len(in) == 0:
		return nil, nil
	case !about:
		return nil, fault.Invalid(field, "only secrets and keys have tags; the statement has neither paths nor keys")
	case len(in) > maxEntries:
		return nil, tooMany(field, len(in))
	}
	var out []tagCondition
	for name, patterns := range in {
		if _, err := names.ParseName(name); err != nil {
			return nil, fault.Invalid(field, "%v", err)
		}
		if len(patterns) == 0 || len(patterns) > maxEntries {
			return nil, fault.Invalid(field+"."+name, "needs 1 to %d values; \"*\" is any", maxEntries)
		}
		for i, p := range patterns {
			if p == "" || len(p) > maxTagPattern {
				return nil, fault.Invalid(fmt.Sprintf("%s.%s[%d]", field, name, i), "must have 1 to %d bytes", maxTagPattern)
			}
		}
		out = append(out, tagCondition{name, slices.Clone(patterns)})
	}
	slices.SortFunc(out, func(a, b tagCondition) int { return cmpText(a.name, b.name) })
	return out, nil
}

func cmpText(a, b string) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// unmet answers the kind of a condition that q does not satisfy, "" if it
// satisfies all. What cannot be known is decided against the caller: for a
// statement that restricts it counts as satisfied, for one that allows not.
func (c *conditions) unmet(q *Question, restricts bool) string {
	if c == nil {
		return ""
	}
	known := q.Source.IsValid() && q.Source.Zone() == ""
	switch {
	case len(c.cidrs) > 0 && !SourceAllowed(c.cidrs, q.Source) && (known || !restricts):
		return conditionSource
	case q.At.Before(c.notBefore):
		return conditionBefore
	case !c.notAfter.IsZero() && !q.At.Before(c.notAfter):
		return conditionAfter
	case len(c.methods) > 0 && !slices.Contains(c.methods, q.AuthMethod):
		return conditionMethod
	case len(c.groups) > 0 && !slices.ContainsFunc(c.groups, func(g string) bool { return slices.Contains(q.Groups, g) }):
		return conditionGroups
	}
	if len(c.windows) > 0 && !c.windows.inside(q.At) {
		return conditionWindows
	}
	return c.unmetTags(q, restricts)
}

// timed reports whether c is on times too.
func (c *conditions) timed() bool {
	return c != nil && (len(c.windows) > 0 || !c.notBefore.IsZero() || !c.notAfter.IsZero())
}

func (c *conditions) unmetTags(q *Question, restricts bool) string {
	if len(c.tags) == 0 {
		return ""
	}
	if q.Resource.Path == "" && q.Resource.KeyID == "" {
		if restricts { // about many things at once: some may have the tag
			return ""
		}
		return conditionTags
	}
	for _, tag := range c.tags {
		value, there := q.Resource.Tags[tag.name]
		if !there || !slices.ContainsFunc(tag.patterns, func(p string) bool { return names.Glob(p, value) }) {
			return conditionTags
		}
	}
	return ""
}
