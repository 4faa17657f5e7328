package audit

import (
	"fmt"
	"strconv"
)

// Decision is what was asked and how it was decided, kept with the event so
// that somebody can look it up later and ask it again. It names policies,
// paths and keys, and like the event has no place for a value.
type Decision struct {
	Action  string
	Allowed bool
	Reason  string // of a denial
	// OpensAt is when a denial for the time ends, in milliseconds since the
	// Unix epoch, 0 if never.
	OpensAt int64
	// What the question was about: one of Path, Below and KeyID; or Anywhere,
	// whether there is anything at all; or Guard, which is no question to
	// policies but a rule of the operation itself. None of them: about all.
	Path, Below, KeyID string
	Anywhere, Guard    bool
	// AuthMethod and Groups are what the caller's credential brought along.
	AuthMethod string
	Groups     []string
	Steps      []Step
	More       int // steps that were left out
	// Report is what the policies that only report would have changed.
	Report *Outcome
}

// Outcome is a decision without its grounds.
type Outcome struct {
	Allowed bool
	Reason  string
}

// Step is one rule that had a say, or would have had but for a condition.
type Step struct {
	Policy    string
	Revision  uint64
	Statement int
	Effect    string
	Action    string
	Matched   string
	Via       string
	Unmet     string
	Access    bool // of an access policy
	Boundary  bool
	Report    bool
	// BreakGlass is the session by which the policy held, Missing how many
	// approvals were missing.
	BreakGlass string
	Missing    int
}

// Bounds of a Decision: an event must fit its line, whoever asks.
const (
	MaxSteps  = 50
	MaxGroups = 50
)

// check refuses what would not fit, or reads back as something else.
func (d *Decision) check() error {
	if d == nil {
		return nil
	}
	if len(d.Steps) > MaxSteps || len(d.Groups) > MaxGroups {
		return fmt.Errorf("audit: a decision has %d steps and %d groups; at most %d and %d are allowed", len(d.Steps), len(d.Groups), MaxSteps, MaxGroups)
	}
	if d.More < 0 || d.OpensAt < 0 {
		return fmt.Errorf("audit: a decision has a number below zero")
	}
	for i := range d.Steps {
		if d.Steps[i].Statement < 0 || d.Steps[i].Missing < 0 {
			return fmt.Errorf("audit: step %d of a decision has a number below zero", i)
		}
	}
	return nil
}

func appendDecision(b []byte, d *Decision) []byte {
	if d == nil {
		return b
	}
	b = append(b, `,"decision":{"action":`...)
	b = appendString(b, d.Action)
	b = appendFlag(b, "allowed", d.Allowed)
	b = appendField(b, "reason", d.Reason)
	b = appendNumber(b, "opensAt", uint64(d.OpensAt))
	b = appendField(b, "path", d.Path)
	b = appendField(b, "below", d.Below)
	b = appendField(b, "keyId", d.KeyID)
	b = appendFlag(b, "anywhere", d.Anywhere)
	b = appendFlag(b, "guard", d.Guard)
	b = appendField(b, "authMethod", d.AuthMethod)
	b = appendTexts(b, "groups", d.Groups)
	b = appendSteps(b, d.Steps)
	b = appendNumber(b, "more", uint64(d.More))
	if d.Report != nil {
		b = append(b, `,"report":{"allowed":`...)
		b = strconv.AppendBool(b, d.Report.Allowed)
		b = appendField(b, "reason", d.Report.Reason)
		b = append(b, '}')
	}
	return append(b, '}')
}

func appendSteps(b []byte, steps []Step) []byte {
	if len(steps) == 0 {
		return b
	}
	b = append(b, `,"steps":[`...)
	for i := range steps {
		s := &steps[i]
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, `{"policy":`...)
		b = appendString(b, s.Policy)
		b = appendNumber(b, "revision", s.Revision)
		b = appendNumber(b, "statement", uint64(s.Statement))
		b = appendField(b, "effect", s.Effect)
		b = appendField(b, "action", s.Action)
		b = appendField(b, "matched", s.Matched)
		b = appendField(b, "via", s.Via)
		b = appendField(b, "unmet", s.Unmet)
		b = appendFlag(b, "access", s.Access)
		b = appendFlag(b, "boundary", s.Boundary)
		b = appendFlag(b, "report", s.Report)
		b = appendField(b, "breakGlass", s.BreakGlass)
		b = appendNumber(b, "missing", uint64(s.Missing))
		b = append(b, '}')
	}
	return append(b, ']')
}

func appendFlag(b []byte, name string, set bool) []byte {
	if !set {
		return b
	}
	b = append(b, ',', '"')
	b = append(b, name...)
	return append(b, `":true`...)
}

func appendTexts(b []byte, name string, texts []string) []byte {
	if len(texts) == 0 {
		return b
	}
	b = append(b, ',', '"')
	b = append(b, name...)
	b = append(b, `":[`...)
	for i, text := range texts {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendString(b, text)
	}
	return append(b, ']')
}

// decisionRecord is a Decision as encoding/json reads it.
type decisionRecord struct {
	Action     string         `json:"action"`
	Allowed    bool           `json:"allowed"`
	Reason     string         `json:"reason"`
	OpensAt    int64          `json:"opensAt"`
	Path       string         `json:"path"`
	Below      string         `json:"below"`
	KeyID      string         `json:"keyId"`
	Anywhere   bool           `json:"anywhere"`
	Guard      bool           `json:"guard"`
	AuthMethod string         `json:"authMethod"`
	Groups     []string       `json:"groups"`
	Steps      []stepRecord   `json:"steps"`
	More       int            `json:"more"`
	Report     *outcomeRecord `json:"report"`
}

type outcomeRecord struct {
	Allowed bool   `json:"allowed"`
	Reason  string `json:"reason"`
}

type stepRecord struct {
	Policy     string `json:"policy"`
	Revision   uint64 `json:"revision"`
	Statement  int    `json:"statement"`
	Effect     string `json:"effect"`
	Action     string `json:"action"`
	Matched    string `json:"matched"`
	Via        string `json:"via"`
	Unmet      string `json:"unmet"`
	Access     bool   `json:"access"`
	Boundary   bool   `json:"boundary"`
	Report     bool   `json:"report"`
	BreakGlass string `json:"breakGlass"`
	Missing    int    `json:"missing"`
}

func (r *decisionRecord) decision() *Decision {
	if r == nil {
		return nil
	}
	d := &Decision{
		Action: r.Action, Allowed: r.Allowed, Reason: r.Reason, OpensAt: r.OpensAt, Path: r.Path, Below: r.Below, KeyID: r.KeyID,
		Anywhere: r.Anywhere, Guard: r.Guard, AuthMethod: r.AuthMethod, Groups: r.Groups, More: r.More,
	}
	for _, s := range r.Steps {
		d.Steps = append(d.Steps, Step(s))
	}
	if r.Report != nil {
		d.Report = &Outcome{r.Report.Allowed, r.Report.Reason}
	}
	return d
}
