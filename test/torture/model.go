package torture

import (
	"sync/atomic"
	"time"

	"github.com/anishathalye/porcupine"
)

// The models of porcupine: what a secret and a key would answer if they did
// one thing at a time. A history is right if some order of its operations,
// which keeps those apart that did not overlap, is one that the model allows.

// secretState is a secret. The states of versions are one letter each: Active,
// disableD, destroyeX.
type secretState struct {
	current int
	states  string
}

func (s secretState) latest() int { return len(s.states) }

func (s secretState) of(version int) byte {
	if version < 1 || version > len(s.states) {
		return 0
	}
	return s.states[version-1]
}

func (s secretState) with(version int, state byte) secretState {
	b := []byte(s.states)
	b[version-1] = state
	s.states = string(b)
	return s
}

// stepSecret decides whether a secret in this state may answer so. Values are
// left out: that a version has the value it was put with is checked for all
// versions at once (registers.go).
func stepSecret(s secretState, o op) (bool, secretState) {
	switch o.Kind {
	case put:
		if o.Version == s.latest()+1 {
			return true, secretState{current: o.Version, states: s.states + "A"}
		}
		return false, s
	case get:
		if o.ok() {
			return s.current == o.Version && s.of(s.current) == 'A', s
		}
		return o.Code != "VersionNotActive" || s.of(s.current) != 'A', s
	case getOne:
		if o.ok() {
			return s.of(o.Version) == 'A', s
		}
		return o.Code != "VersionNotActive" || s.of(o.Version) != 'A', s
	case describe:
		return !o.ok() || s.current == o.Version && s.latest() == o.Latest, s
	}
	// What is left changes a version. If nobody knows whether it was done, it
	// was done if it could be, and any answer is right.
	may, next := changeVersion(s, o)
	switch {
	case o.ok():
		return may, next
	case o.Code == unknown && may:
		return true, next
	}
	return true, s
}

func changeVersion(s secretState, o op) (may bool, next secretState) {
	state := s.of(o.Version)
	if state == 0 {
		return false, s
	}
	switch o.Kind {
	case activate:
		if state != 'A' {
			return false, s
		}
		s.current = o.Version
		return true, s
	case destroy:
		if o.Version == s.current && state != 'X' {
			return false, s
		}
		return true, s.with(o.Version, 'X')
	case disable, enable:
		if state == 'X' {
			return false, s
		}
		if o.Kind == disable {
			return true, s.with(o.Version, 'D')
		}
		return true, s.with(o.Version, 'A')
	}
	return false, s
}

// stepKey decides for a key, which is active or not.
func stepKey(active bool, o op) (bool, bool) {
	switch o.Kind {
	case use:
		return o.ok() && active || o.Code == "KeyNotActive" && !active || !o.ok() && o.Code != "KeyNotActive", active
	case disable, enable:
		if o.ok() || o.Code == unknown {
			return true, o.Kind == enable
		}
	}
	return true, active
}

// verdict is what porcupine says of a history.
type verdict int

const (
	right verdict = iota
	wrong
	undecided // the bound on its work was reached
)

// steps bounds porcupine's work on one history, and with it its memory: each
// step may be kept. Time alone would not, and the machine has other things to
// do.
const steps = 500_000

// linearizable asks porcupine. Operations that are refused or unknown, and
// would change nothing, are left out.
func linearizable[S comparable](ops []op, initial S, step func(S, op) (bool, S)) verdict {
	history := make([]porcupine.Operation, 0, len(ops))
	for _, o := range ops {
		reads := o.Kind == get || o.Kind == getOne || o.Kind == describe || o.Kind == use
		if o.Code == unknown && reads || !o.ok() && o.Code != unknown && !reads {
			continue
		}
		history = append(history, porcupine.Operation{ClientId: o.Client, Input: o, Call: o.Call, Return: o.Return})
	}
	var taken atomic.Int64
	model := porcupine.Model{
		Init: func() any { return initial },
		Step: func(state, input, _ any) (bool, any) {
			if taken.Add(1) > steps {
				return false, state
			}
			ok, next := step(state.(S), input.(op))
			return ok, next
		},
	}
	result := porcupine.CheckOperationsTimeout(model, history, time.Minute)
	switch {
	case result == porcupine.Ok:
		return right
	case result == porcupine.Unknown || taken.Load() > steps:
		return undecided
	}
	return wrong
}

// resolve settles the puts that nobody was answered about, by what the secret
// tells of itself in the end: the version of one that happened is known, and
// one that is not there has never been seen by anybody.
func resolve(ops []op, told []version) []op {
	made := map[string]int{}
	for _, v := range told {
		made[v.VersionID] = v.Version
	}
	var out []op
	for _, o := range ops {
		if o.Kind == put && !o.ok() {
			number, there := made[o.Token]
			if !there {
				continue
			}
			o.Version, o.Code = number, ""
		}
		out = append(out, o)
	}
	return out
}
