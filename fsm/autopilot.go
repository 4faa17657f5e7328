package fsm

import "errors"

// Autopilot is how the leader promotes members to voters, and whether it
// removes those that are dead. Zero fields mean that the release decides.
type Autopilot struct {
	Revision        uint64 `cbor:"1,keyasint,omitempty"`
	Stabilization   int64  `cbor:"2,keyasint,omitempty"` // milliseconds that a member must be in step before it votes
	MaxTrailing     uint64 `cbor:"3,keyasint,omitempty"` // entries that it may be behind in that time
	RemoveDeadAfter int64  `cbor:"4,keyasint,omitempty"` // milliseconds of silence; 0: never
	MinVoters       uint64 `cbor:"5,keyasint,omitempty"` // that the removal of dead ones leaves
	UpdatedAt       int64  `cbor:"6,keyasint,omitempty"`
	UpdatedBy       string `cbor:"7,keyasint,omitempty"`
	RequestID       string `cbor:"8,keyasint,omitempty"`
}

// PutAutopilot replaces the settings as a whole.
type PutAutopilot struct {
	Meta      Meta      `cbor:"1,keyasint,omitempty"`
	Autopilot Autopilot `cbor:"2,keyasint,omitempty"` // Revision and all that says who and when are set by Apply
	// Expected, if set, must be the revision there is (0: none yet).
	Expected *uint64 `cbor:"3,keyasint,omitempty"`
}

// What an Autopilot means by a zero, and its bounds.
const (
	DefaultStabilization = 10_000
	DefaultMaxTrailing   = 250
	DefaultMinVoters     = 3

	minStabilization   = 1000
	maxStabilization   = hour
	maxMaxTrailing     = 100_000
	minRemoveDeadAfter = 60_000
	maxRemoveDeadAfter = 30 * 24 * hour
	maxMinVoters       = 99
)

var autopilotKey = []byte("autopilot")

// Autopilot answers the settings with what the release decides filled in.
func (s *State) Autopilot() Autopilot {
	var out Autopilot
	if set := at(s.autopilot, autopilotKey); set != nil {
		out = *set
	}
	if out.Stabilization == 0 {
		out.Stabilization = DefaultStabilization
	}
	if out.MaxTrailing == 0 {
		out.MaxTrailing = DefaultMaxTrailing
	}
	if out.MinVoters == 0 {
		out.MinVoters = DefaultMinVoters
	}
	return out
}

func putAutopilot(t *txn, c PutAutopilot) (Result, *Refusal) {
	a := c.Autopilot
	if r := checkAutopilot(&a); r != nil {
		return Result{}, r
	}
	at := uint64(0)
	if old := t.autopilot.value(autopilotKey); old != nil {
		at = old.Revision
	}
	if c.Expected != nil && *c.Expected != at {
		return Result{}, conflict("expectedRevision: the settings are at revision %d, not %d; look at them again", at, *c.Expected)
	}
	a.Revision, a.UpdatedAt, a.UpdatedBy, a.RequestID = at+1, t.now, t.by, c.Meta.RequestID
	t.autopilot.put(autopilotKey, &a)
	return Result{Revision: a.Revision}, nil
}

func checkAutopilot(a *Autopilot) *Refusal {
	switch {
	case a.Stabilization != 0 && (a.Stabilization < minStabilization || a.Stabilization > maxStabilization):
		return invalid("stabilization", "must be 1s to 1h")
	case a.MaxTrailing > maxMaxTrailing:
		return invalid("maxTrailing", "must be at most %d", maxMaxTrailing)
	case a.RemoveDeadAfter != 0 && (a.RemoveDeadAfter < minRemoveDeadAfter || a.RemoveDeadAfter > maxRemoveDeadAfter):
		return invalid("removeDeadAfter", "must be 1m to 30d, or 0s for never")
	case a.MinVoters > maxMinVoters:
		return invalid("minVoters", "must be at most %d", maxMinVoters)
	}
	return nil
}

func (t *txn) restoreAutopilot(a *Autopilot) (string, error) {
	if checkAutopilot(a) != nil || a.Revision == 0 {
		return "", errors.New("the settings of the autopilot say nothing that one could say")
	}
	t.autopilot.put(autopilotKey, a)
	return string(autopilotKey), nil
}
