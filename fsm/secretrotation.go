package fsm

import (
	"encoding/binary"
	"errors"
	"iter"
)

// LabelPending is on the version that a rotation has made and not yet
// activated. While a rotation is on its way the label is the server's; at any
// other time it is one of people's, as it always was.
const LabelPending = "pending"

// RotationStep is where a rotation has come to.
type RotationStep string

// The steps of a rotation, in order. From each of them, and from finish, it
// may have to roll back.
const (
	RotationCreate   RotationStep = "create"   // make the pending version
	RotationSet      RotationStep = "set"      // bring its value into force at the target
	RotationTest     RotationStep = "test"     // use it there
	RotationFinish   RotationStep = "finish"   // activate it
	RotationRollBack RotationStep = "rollBack" // bring the target back to the current version
	RotationTell     RotationStep = "tell"     // it is activated; the target is told so, or gives up hearing it
)

// rotationMoves are the steps that may follow a step. What rolls back may
// turn out to be in force at the target: then it goes forward again.
var rotationMoves = map[RotationStep][]RotationStep{
	RotationCreate:   {RotationSet, RotationFinish, RotationRollBack},
	RotationSet:      {RotationTest, RotationRollBack},
	RotationTest:     {RotationFinish, RotationRollBack},
	RotationFinish:   {RotationRollBack},
	RotationRollBack: {RotationFinish},
	RotationTell:     {},
}

// RotationOutcome is how a rotation ended.
type RotationOutcome string

// The ends of a rotation.
const (
	RotationDone      RotationOutcome = "done"
	RotationFailed    RotationOutcome = "failed"
	RotationCancelled RotationOutcome = "cancelled"
)

// Bounds of rotations.
const (
	// RotationGap is how long after the end of one rotation of a secret the
	// next cannot begin: longer than a step may take, so that what a leader
	// that is gone still has on its way to the target arrives before.
	RotationGap = int64(60 * 1000)

	never = maxTime + 1 // is due what is done on demand

	maxRotationSpec = 32 << 10
	maxRotationName = 128
)

// RotationSettings say when and how a secret is rotated.
type RotationSettings struct {
	Kind string `cbor:"1,keyasint,omitempty"`
	// Interval in milliseconds, or Cron with Timezone; neither: on demand.
	Interval int64  `cbor:"2,keyasint,omitempty"`
	Cron     string `cbor:"3,keyasint,omitempty"`
	Timezone string `cbor:"4,keyasint,omitempty"`
	// Spec is what the kind wants to know, of no meaning here. It names paths
	// of secrets and never holds a value.
	Spec  []byte `cbor:"5,keyasint,omitempty"`
	SetBy string `cbor:"6,keyasint,omitempty"`
	SetAt int64  `cbor:"7,keyasint,omitempty"`
}

// Rotation is how a secret is rotated and what became of it. All that a step
// needs is here: any leader can do the next. Times due travel inside commands,
// because time zones are data of a machine.
type Rotation struct {
	Settings  RotationSettings `cbor:"1,keyasint,omitempty"`
	NextAt    int64            `cbor:"2,keyasint,omitempty"` // due, 0: on demand
	RetryAt   int64            `cbor:"3,keyasint,omitempty"` // after a failure: tried again
	Run       *RotationRun     `cbor:"4,keyasint,omitempty"` // on its way
	DoneAt    int64            `cbor:"5,keyasint,omitempty"` // the last one that was done
	EndedAt   int64            `cbor:"6,keyasint,omitempty"` // the last one, however it ended
	Outcome   RotationOutcome  `cbor:"7,keyasint,omitempty"` // of the last one
	LastError string           `cbor:"8,keyasint,omitempty"` // of the last one; may be shown
	Failures  uint32           `cbor:"9,keyasint,omitempty"` // in a row
}

// RotationRun is one rotation on its way.
type RotationRun struct {
	ID            string       `cbor:"1,keyasint,omitempty"` // UUID
	Step          RotationStep `cbor:"2,keyasint,omitempty"`
	Version       uint64       `cbor:"3,keyasint,omitempty"` // the pending one, 0 until it was made
	From          uint64       `cbor:"4,keyasint,omitempty"` // current when it was made
	Attempts      uint32       `cbor:"5,keyasint,omitempty"` // of this step, that failed
	NextAttemptAt int64        `cbor:"6,keyasint,omitempty"` // 0: at once
	StartedAt     int64        `cbor:"7,keyasint,omitempty"`
	By            string       `cbor:"8,keyasint,omitempty"` // who asked for it
	Reason        string       `cbor:"9,keyasint,omitempty"`
	LastError     string       `cbor:"10,keyasint,omitempty"` // may be shown
	Cancelled     bool         `cbor:"11,keyasint,omitempty"` // by a person: it rolls back
	Scheduled     bool         `cbor:"12,keyasint,omitempty"`
	Cause         string       `cbor:"13,keyasint,omitempty"` // why it rolls back; may be shown
}

// StartRotation begins a rotation. One that is Scheduled must be due.
type StartRotation struct {
	Meta      Meta   `cbor:"1,keyasint,omitempty"`
	Path      string `cbor:"2,keyasint,omitempty"`
	SecretID  string `cbor:"3,keyasint,omitempty"`
	ID        string `cbor:"4,keyasint,omitempty"`
	Scheduled bool   `cbor:"5,keyasint,omitempty"`
	Reason    string `cbor:"6,keyasint,omitempty"`
}

// AdvanceRotation takes a rotation from Step to To. Version goes with the
// step create, Error with the way back.
type AdvanceRotation struct {
	Meta     Meta         `cbor:"1,keyasint,omitempty"`
	Path     string       `cbor:"2,keyasint,omitempty"`
	SecretID string       `cbor:"3,keyasint,omitempty"`
	ID       string       `cbor:"4,keyasint,omitempty"`
	Step     RotationStep `cbor:"5,keyasint,omitempty"`
	To       RotationStep `cbor:"6,keyasint,omitempty"`
	Version  *NewVersion  `cbor:"7,keyasint,omitempty"`
	// From is the current version that Version was made from.
	From  uint64 `cbor:"8,keyasint,omitempty"`
	Error string `cbor:"9,keyasint,omitempty"`
}

// RetryRotation notes a failed attempt of a step, the one after Attempts.
type RetryRotation struct {
	Meta     Meta         `cbor:"1,keyasint,omitempty"`
	Path     string       `cbor:"2,keyasint,omitempty"`
	SecretID string       `cbor:"3,keyasint,omitempty"`
	ID       string       `cbor:"4,keyasint,omitempty"`
	Step     RotationStep `cbor:"5,keyasint,omitempty"`
	Attempts uint32       `cbor:"6,keyasint,omitempty"`
	NextAt   int64        `cbor:"7,keyasint,omitempty"`
	Error    string       `cbor:"8,keyasint,omitempty"`
}

// EndRotation ends a rotation: from finish the pending version becomes the
// current one, from rollBack it goes, from tell nothing changes any more. Keep holds it back, disabled: the
// target may have its value, which would be lost otherwise.
type EndRotation struct {
	Meta     Meta         `cbor:"1,keyasint,omitempty"`
	Path     string       `cbor:"2,keyasint,omitempty"`
	SecretID string       `cbor:"3,keyasint,omitempty"`
	ID       string       `cbor:"4,keyasint,omitempty"`
	Step     RotationStep `cbor:"5,keyasint,omitempty"`
	Keep     bool         `cbor:"6,keyasint,omitempty"`
	NextAt   int64        `cbor:"7,keyasint,omitempty"` // due next, by the schedule
	RetryAt  int64        `cbor:"8,keyasint,omitempty"` // of a failure
	// Tell, from finish, activates and leaves it at the step tell.
	Tell bool `cbor:"9,keyasint,omitempty"`
	// Error, from tell, is why the target could not be told.
	Error string `cbor:"10,keyasint,omitempty"`
}

// CancelRotation abandons the rotation that is on its way: it rolls back, or
// with Force ends here and now, whatever the target has.
type CancelRotation struct {
	Meta   Meta   `cbor:"1,keyasint,omitempty"`
	Path   string `cbor:"2,keyasint,omitempty"`
	Force  bool   `cbor:"3,keyasint,omitempty"`
	Reason string `cbor:"4,keyasint,omitempty"`
	NextAt int64  `cbor:"5,keyasint,omitempty"` // due next, by the schedule
}

// rotating reports whether a rotation of s is on its way.
func (s *Secret) rotating() bool { return s.Rotation != nil && s.Rotation.Run != nil }

// DueAt answers when the leader has something to do, and whether it ever has.
func (r *Rotation) DueAt() (int64, bool) {
	switch {
	case r == nil:
		return 0, false
	case r.Run != nil:
		return r.Run.NextAttemptAt, true
	case r.RetryAt != 0:
		return r.RetryAt, true
	}
	return r.NextAt, r.NextAt != 0
}

// secretRotationKey orders secrets by when the leader has to do something
// about their rotation; those on demand come last. nil is for a secret that
// nobody rotates.
//
//	time | path
func secretRotationKey(s *Secret) []byte {
	if s.Rotation == nil || s.State == SecretPurged {
		return nil
	}
	at, ok := s.Rotation.DueAt()
	if !ok {
		at = never
	}
	return append(binary.BigEndian.AppendUint64(nil, uint64(at)), s.Path...)
}

func (t *txn) indexRotation(old, s *Secret) {
	if old != nil {
		if key := secretRotationKey(old); key != nil {
			t.secretRotations.remove(key)
		}
	}
	if key := secretRotationKey(s); key != nil {
		t.secretRotations.put(key, s.Path)
	}
}

// SecretRotationsDue answers the secrets whose rotation wants something done
// at now, in milliseconds since the Unix epoch, the longest due first. Those
// in their recovery window wait until they are restored.
func (s *State) SecretRotationsDue(now int64) iter.Seq[*Secret] {
	return func(yield func(*Secret) bool) {
		for _, path := range scan(s.secretRotations.Root(), nil, nil) {
			secret := s.Secret(path)
			if at, ok := secret.Rotation.DueAt(); !ok || at > now {
				return
			}
			if secret.State == SecretActive && !yield(secret) {
				return
			}
		}
	}
}

// SecretRotations answers all secrets with settings for rotations, ordered by
// when something is due.
func (s *State) SecretRotations() iter.Seq[*Secret] {
	return func(yield func(*Secret) bool) {
		for _, path := range scan(s.secretRotations.Root(), nil, nil) {
			if secret := s.Secret(path); secret.State == SecretActive && !yield(secret) {
				return
			}
		}
	}
}

// sound checks what a snapshot says about the rotation of s: the index by
// time stands on it.
func (r *Rotation) sound(s *Secret) error {
	if r == nil {
		return nil
	}
	at, _ := r.DueAt()
	if s.State == SecretPurged || r.Settings.Kind == "" || at < 0 || at > maxTime || r.NextAt < 0 || r.RetryAt < 0 || r.EndedAt < 0 || r.EndedAt > maxTime {
		return errors.New("a secret is to be rotated in no way, or at a time out of range")
	}
	if r.Run != nil && (r.Run.Version > s.Latest || rotationMoves[r.Run.Step] == nil) {
		return errors.New("a rotation is at no step, or of no version")
	}
	return nil
}

func keptByRotation() *Refusal {
	return conflict("label: %s is kept by the server while a rotation is on its way; cancelRotation ends it", LabelPending)
}

// checkSettings bounds what a record of a secret holds.
func (r *RotationSettings) check() *Refusal {
	switch {
	case len(r.Kind) > maxRotationName || len(r.Cron) > maxRotationName || len(r.Timezone) > maxRotationName:
		return invalid("rotation", "has a name of more than %d bytes", maxRotationName)
	case len(r.Spec) > maxRotationSpec:
		return invalid("rotation", "has %d bytes of settings; at most %d are allowed", len(r.Spec), maxRotationSpec)
	case r.Interval < 0 || r.Interval != 0 && r.Cron != "":
		return invalid("rotation", "takes an interval or a cron expression, not both")
	}
	return nil
}
