package fsm

import (
	"github.com/strongroom/strongroom/internal/names"
)

// PastHorizon is a consumer horizon that readers below a prefix were promised
// before a rule made it shorter. What the ledger knows carries its own times;
// what a lost node handed out is waited out by the longest promise that may
// still be in force.
type PastHorizon struct {
	Prefix  string `cbor:"1,keyasint,omitempty"`
	Horizon int64  `cbor:"2,keyasint,omitempty"` // milliseconds
	Until   int64  `cbor:"3,keyasint,omitempty"` // then nothing is held any more that was promised it
}

// horizonOf answers for how long a reader may keep a value, in milliseconds.
func horizonOf(rule EffectiveRule) int64 {
	if rule.ConsumerHorizon != 0 {
		return rule.ConsumerHorizon
	}
	return DefaultMaxAge
}

// Horizon answers for how long a reader of path may keep a value in a cache,
// and for how long it then counts as holding it, in milliseconds. A cache never
// keeps it for longer than it counts.
func (s *State) Horizon(path names.Path) (maxAge, horizon int64) {
	horizon = horizonOf(s.RuleFor(path))
	return min(DefaultMaxAge, horizon), horizon
}

// longest answers the longest horizon by which a reader of path may hold a
// value at now.
func longest(path names.Path, horizon, now int64, past func(prefix string) *PastHorizon) int64 {
	for _, p := range covering(string(path), past) {
		if p.Until > now {
			horizon = max(horizon, p.Horizon)
		}
	}
	return horizon
}

func (s *State) longestHorizon(path names.Path, now int64) int64 {
	return longest(path, horizonOf(s.RuleFor(path)), now, func(prefix string) *PastHorizon { return at(s.horizons, []byte(prefix)) })
}

func (t *txn) longestHorizon(path names.Path, now int64) int64 {
	return longest(path, horizonOf(t.ruleFor(path)), now, func(prefix string) *PastHorizon { return t.horizons.value([]byte(prefix)) })
}

// changeRule makes a change of the rule at prefix, and remembers the horizon
// before it if it is shorter now.
func (t *txn) changeRule(prefix string, change func()) {
	before := horizonOf(effective(t.rulesAbout(prefix)))
	change()
	if before <= horizonOf(effective(t.rulesAbout(prefix))) {
		return
	}
	for _, p := range t.horizons.collect(nil, 0) {
		if p.Until <= t.now {
			t.horizons.remove([]byte(p.Prefix))
		}
	}
	past := PastHorizon{Prefix: prefix, Horizon: before, Until: t.now + before + ClockSlack}
	if old := t.horizons.value([]byte(prefix)); old != nil {
		past.Horizon, past.Until = max(past.Horizon, old.Horizon), max(past.Until, old.Until)
	}
	t.horizons.put([]byte(prefix), &past)
}
