package fsm

import (
	"errors"
	"slices"
)

// DetectorNames are the detectors that there are settings of, sorted.
var DetectorNames = []string{"canary", "denials", "first_read", "many_paths", "read_volume"}

// Detectors are the settings of what notices unusual behaviour. A detector
// without a rule is as the release has it.
type Detectors struct {
	Revision  uint64         `cbor:"1,keyasint,omitempty"`
	Rules     []DetectorRule `cbor:"2,keyasint,omitempty"` // sorted by name
	Learning  int64          `cbor:"3,keyasint,omitempty"` // milliseconds, 0: as the release has it
	Exempt    []string       `cbor:"4,keyasint,omitempty"` // principals
	Groups    []string       `cbor:"5,keyasint,omitempty"` // exempt
	Reason    string         `cbor:"6,keyasint,omitempty"`
	UpdatedAt int64          `cbor:"7,keyasint,omitempty"`
	UpdatedBy string         `cbor:"8,keyasint,omitempty"`
	RequestID string         `cbor:"9,keyasint,omitempty"`
}

// DetectorRule is how one detector decides.
type DetectorRule struct {
	Detector   string `cbor:"1,keyasint,omitempty"`
	Off        bool   `cbor:"2,keyasint,omitempty"`
	Floor      uint64 `cbor:"3,keyasint,omitempty"` // 0: as the release has it
	Factor     uint64 `cbor:"4,keyasint,omitempty"` // 0: as the release has it
	Quarantine bool   `cbor:"5,keyasint,omitempty"`
}

// PutDetectors replaces the settings as a whole.
type PutDetectors struct {
	Meta      Meta      `cbor:"1,keyasint,omitempty"`
	Detectors Detectors `cbor:"2,keyasint,omitempty"` // Revision and all that says who and when are set by Apply
	// Expected, if set, must be the revision there is (0: none yet).
	Expected *uint64 `cbor:"3,keyasint,omitempty"`
}

// Bounds of the settings.
const (
	maxDetectorFloor  = 1_000_000_000
	maxDetectorFactor = 1000
	minLearning       = hour
	maxLearning       = 90 * 24 * hour
	maxDetectorExempt = 256
)

// Detectors answers the settings, nil if nobody has made any.
func (s *State) Detectors() *Detectors { return at(s.detectors, detectorsKey) }

// Rule answers the rule for a detector; the zero one, named, if there is none.
func (d *Detectors) Rule(detector string) DetectorRule {
	if d != nil {
		for _, r := range d.Rules {
			if r.Detector == detector {
				return r
			}
		}
	}
	return DetectorRule{Detector: detector}
}

var detectorsKey = []byte("detectors")

func putDetectors(t *txn, c PutDetectors) (Result, *Refusal) {
	d := c.Detectors
	if r := checkDetectors(&d); r != nil {
		return Result{}, r
	}
	at := uint64(0)
	if old := t.detectors.value(detectorsKey); old != nil {
		at = old.Revision
	}
	if c.Expected != nil && *c.Expected != at {
		return Result{}, conflict("expectedRevision: the settings are at revision %d, not %d; look at them again", at, *c.Expected)
	}
	d.Revision, d.UpdatedAt, d.UpdatedBy, d.RequestID = at+1, t.now, t.by, c.Meta.RequestID
	t.detectors.put(detectorsKey, &d)
	return Result{Revision: d.Revision}, nil
}

func checkDetectors(d *Detectors) *Refusal {
	for i, rule := range d.Rules {
		switch {
		case !slices.Contains(DetectorNames, rule.Detector):
			return invalid("rules", "%.64q is no detector; there are %v", rule.Detector, DetectorNames)
		case i > 0 && rule.Detector <= d.Rules[i-1].Detector:
			return invalid("rules", "has two entries for %s, or is not sorted", rule.Detector)
		case rule.Floor > maxDetectorFloor:
			return invalid("rules", "floor of %s must be at most %d", rule.Detector, maxDetectorFloor)
		case rule.Factor > maxDetectorFactor:
			return invalid("rules", "factor of %s must be at most %d", rule.Detector, maxDetectorFactor)
		}
	}
	switch {
	case d.Learning != 0 && (d.Learning < minLearning || d.Learning > maxLearning):
		return invalid("learning", "must be 1h to 90d")
	case len(d.Exempt) > maxDetectorExempt || len(d.Groups) > maxDetectorExempt:
		return invalid("exemptPrincipals", "has more than %d entries, or exemptGroups has; put principals into a group", maxDetectorExempt)
	}
	if r := checkReason(d.Reason); r != nil {
		return r
	}
	if r := checkNames("exemptPrincipals", d.Exempt); r != nil {
		return r
	}
	return checkNames("exemptGroups", d.Groups)
}

func (t *txn) restoreDetectors(d *Detectors) (string, error) {
	if checkDetectors(d) != nil || d.Revision == 0 {
		return "", errors.New("the settings of detectors say nothing that one could say")
	}
	t.detectors.put(detectorsKey, d)
	return string(detectorsKey), nil
}
