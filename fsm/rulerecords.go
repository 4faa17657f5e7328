package fsm

import "github.com/strongroom/strongroom/internal/names"

// PathRule is law for the secrets below a prefix. Zero fields say nothing.
type PathRule struct {
	Prefix   string   `cbor:"1,keyasint,omitempty"` // "/" or "/app/": with the slash
	Revision uint64   `cbor:"2,keyasint,omitempty"` // from 1
	Segments []string `cbor:"3,keyasint,omitempty"` // see names.Grammar
	// KeyRef is an id or an alias, as it was given. It is resolved whenever it
	// is asked for, so a rule follows its alias.
	KeyRef          string        `cbor:"4,keyasint,omitempty"`
	Owner           string        `cbor:"5,keyasint,omitempty"`
	RotationPeriod  int64         `cbor:"6,keyasint,omitempty"` // milliseconds
	ConsumerHorizon int64         `cbor:"7,keyasint,omitempty"` // milliseconds
	RequiredTags    []RequiredTag `cbor:"8,keyasint,omitempty"`
	KeepVersions    uint64        `cbor:"9,keyasint,omitempty"`
	MinRetention    int64         `cbor:"10,keyasint,omitempty"` // milliseconds
	Reason          string        `cbor:"11,keyasint,omitempty"`
	CreatedAt       int64         `cbor:"12,keyasint,omitempty"`
	CreatedBy       string        `cbor:"13,keyasint,omitempty"`
	UpdatedAt       int64         `cbor:"14,keyasint,omitempty"`
	UpdatedBy       string        `cbor:"15,keyasint,omitempty"`
	RequestID       string        `cbor:"16,keyasint,omitempty"`

	// Quotas on what is stored below the prefix; 0: none.
	MaxSecrets  uint64 `cbor:"30,keyasint,omitempty"`
	MaxVersions uint64 `cbor:"31,keyasint,omitempty"`
	MaxBytes    uint64 `cbor:"32,keyasint,omitempty"`

	// HSMEachRead: no data key from memory opens a value below the prefix.
	HSMEachRead bool `cbor:"33,keyasint,omitempty"`

	// WalkAt is set while Sweeps go over the secrets below, because the rule
	// changed; WalkAfter is the path that they have come to.
	WalkAt    int64  `cbor:"20,keyasint,omitempty"`
	WalkAfter string `cbor:"21,keyasint,omitempty"`
}

// RequiredTag is a tag that a secret must have, with one of the values if
// there are any.
type RequiredTag struct {
	Name   string   `cbor:"1,keyasint,omitempty"`
	Values []string `cbor:"2,keyasint,omitempty"`
}

// PutPathRule makes or replaces the rule of a prefix.
type PutPathRule struct {
	Meta Meta     `cbor:"1,keyasint,omitempty"`
	Rule PathRule `cbor:"2,keyasint,omitempty"` // Revision and all that says who and when are set by Apply
	// Expected, if set, must be the revision there is (0: none yet).
	Expected *uint64 `cbor:"3,keyasint,omitempty"`
}

// DeletePathRule removes the rule of a prefix.
type DeletePathRule struct {
	Meta     Meta    `cbor:"1,keyasint,omitempty"`
	Prefix   string  `cbor:"2,keyasint,omitempty"`
	Expected *uint64 `cbor:"3,keyasint,omitempty"`
	Reason   string  `cbor:"4,keyasint,omitempty"`
}

// EffectiveRule is what the rules that cover one path say together. What
// sets something up is said by the longest prefix that says it; what
// restricts adds up: all grammars and all required tags hold, of several
// minimum retentions the longest, and a call to the HSM for each read if any
// rule wants it, so that nobody who may make rules for a part can take away
// what holds for the whole.
//
// Times are milliseconds; zero, or empty, is not set.
type EffectiveRule struct {
	KeyRef          string // the default key, as its rule has it
	KeyID           string // what KeyRef names now; "" also if that is gone
	Owner           string
	RotationPeriod  int64
	ConsumerHorizon int64
	KeepVersions    uint64
	MinRetention    int64
	HSMEachRead     bool
	RequiredTags    []EffectiveTag
	Rules           []*PathRule // all that cover the path, the longest prefix last
	From            RuleSources
}

// EffectiveTag is a required tag with the prefix of its rule. One name may be
// there twice, each with its values: both hold.
type EffectiveTag struct {
	RequiredTag
	Prefix string
}

// RuleSources names the prefix of the rule that each field comes from.
type RuleSources struct {
	Key, Owner, RotationPeriod, ConsumerHorizon, KeepVersions, MinRetention, HSMEachRead string
}

// RuleFor answers what holds for a path, whether there is a secret or not.
func (s *State) RuleFor(path names.Path) EffectiveRule {
	return s.Effective(s.RulesAbout(path))
}

// RulesAbout answers the rules that cover a path, the longest prefix last.
func (s *State) RulesAbout(path names.Path) []*PathRule {
	if s.pathRules.Len() == 0 {
		return nil
	}
	return covering(string(path), func(prefix string) *PathRule { return s.PathRule(prefix) })
}

// Effective answers what rules, the longest prefix last, say together.
func (s *State) Effective(rules []*PathRule) EffectiveRule {
	e := effective(rules)
	if key := s.KeyByRef(e.KeyRef); key != nil {
		e.KeyID = key.ID
	}
	return e
}

// PathRule answers the rule of exactly this prefix, nil if there is none.
func (s *State) PathRule(prefix string) *PathRule { return at(s.pathRules, []byte(prefix)) }

// ruleFor is RuleFor inside a transaction.
func (t *txn) ruleFor(path names.Path) EffectiveRule {
	e := effective(t.rulesAbout(string(path)))
	e.KeyID = t.keyByRef(e.KeyRef)
	return e
}

// rulesAbout answers the rules that cover a path or a prefix.
func (t *txn) rulesAbout(path string) []*PathRule {
	if t.pathRules.tree.Len() == 0 && t.pathRules.txn == nil {
		return nil
	}
	return covering(path, func(prefix string) *PathRule { return t.pathRules.value([]byte(prefix)) })
}

// keyByRef answers the id of the key that ref names, "" for none.
func (t *txn) keyByRef(ref string) string {
	if id, ok := t.aliases.get([]byte(ref)); ok {
		return id
	}
	if t.keys.value([]byte(ref)) != nil {
		return ref
	}
	return ""
}

// covering looks up each prefix of path that ends in a slash.
func covering[T any](path string, rule func(prefix string) *T) []*T {
	var out []*T
	for i := range len(path) {
		if path[i] != '/' {
			continue
		}
		if r := rule(path[:i+1]); r != nil {
			out = append(out, r)
		}
	}
	return out
}

func effective(rules []*PathRule) EffectiveRule {
	e := EffectiveRule{Rules: rules}
	for _, r := range rules {
		if r.KeyRef != "" {
			e.KeyRef, e.From.Key = r.KeyRef, r.Prefix
		}
		if r.Owner != "" {
			e.Owner, e.From.Owner = r.Owner, r.Prefix
		}
		if r.RotationPeriod != 0 {
			e.RotationPeriod, e.From.RotationPeriod = r.RotationPeriod, r.Prefix
		}
		if r.ConsumerHorizon != 0 {
			e.ConsumerHorizon, e.From.ConsumerHorizon = r.ConsumerHorizon, r.Prefix
		}
		if r.KeepVersions != 0 {
			e.KeepVersions, e.From.KeepVersions = r.KeepVersions, r.Prefix
		}
		if r.MinRetention > e.MinRetention {
			e.MinRetention, e.From.MinRetention = r.MinRetention, r.Prefix
		}
		if r.HSMEachRead && !e.HSMEachRead {
			e.HSMEachRead, e.From.HSMEachRead = true, r.Prefix
		}
		for _, tag := range r.RequiredTags {
			e.RequiredTags = append(e.RequiredTags, EffectiveTag{tag, r.Prefix})
		}
	}
	return e
}
