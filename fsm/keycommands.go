package fsm

import "github.com/strongroom/strongroom/internal/wrapped"

// The commands of the life of keys, and of the jobs that move secrets
// between them.

// UpdateKey changes what is said about a key. A nil Description and an unset
// SetTags leave theirs as they are.
type UpdateKey struct {
	Meta        Meta              `cbor:"1,keyasint,omitempty"`
	KeyID       string            `cbor:"2,keyasint,omitempty"`
	Description *string           `cbor:"3,keyasint,omitempty"`
	SetTags     bool              `cbor:"4,keyasint,omitempty"`
	Tags        map[string]string `cbor:"5,keyasint,omitempty"`
}

// CreateAlias gives a key a name that is free.
type CreateAlias struct {
	Meta  Meta   `cbor:"1,keyasint,omitempty"`
	Alias string `cbor:"2,keyasint,omitempty"`
	KeyID string `cbor:"3,keyasint,omitempty"`
}

// UpdateAlias moves a name to another key.
type UpdateAlias struct {
	Meta  Meta   `cbor:"1,keyasint,omitempty"`
	Alias string `cbor:"2,keyasint,omitempty"`
	KeyID string `cbor:"3,keyasint,omitempty"`
}

// DeleteAlias takes a name from its key.
type DeleteAlias struct {
	Meta  Meta   `cbor:"1,keyasint,omitempty"`
	Alias string `cbor:"2,keyasint,omitempty"`
}

// RotateKey adds a version. Its number is bound into the wrapped material:
// Refused{Conflict, Race: true} tells that another rotation was first.
type RotateKey struct {
	Meta    Meta       `cbor:"1,keyasint,omitempty"`
	KeyID   string     `cbor:"2,keyasint,omitempty"`
	Version KeyVersion `cbor:"3,keyasint,omitempty"`
}

// SetKeyRotation says how often a key is rotated; 0: only on demand.
type SetKeyRotation struct {
	Meta   Meta   `cbor:"1,keyasint,omitempty"`
	KeyID  string `cbor:"2,keyasint,omitempty"`
	Period int64  `cbor:"3,keyasint,omitempty"` // milliseconds
}

// ScheduleKeyDeletion starts a key's waiting period.
type ScheduleKeyDeletion struct {
	Meta   Meta   `cbor:"1,keyasint,omitempty"`
	KeyID  string `cbor:"2,keyasint,omitempty"`
	DueAt  int64  `cbor:"3,keyasint,omitempty"`
	Reason string `cbor:"4,keyasint,omitempty"`
}

// CancelKeyDeletion ends it; the key is disabled then.
type CancelKeyDeletion struct {
	Meta  Meta   `cbor:"1,keyasint,omitempty"`
	KeyID string `cbor:"2,keyasint,omitempty"`
}

// SetImportKey keeps the one-time key that material must be wrapped to.
type SetImportKey struct {
	Meta      Meta        `cbor:"1,keyasint,omitempty"`
	KeyID     string      `cbor:"2,keyasint,omitempty"`
	ImportKey wrapped.Key `cbor:"3,keyasint,omitempty"`
}

// ImportMaterial gives a key its first version.
type ImportMaterial struct {
	Meta    Meta       `cbor:"1,keyasint,omitempty"`
	KeyID   string     `cbor:"2,keyasint,omitempty"`
	Version KeyVersion `cbor:"3,keyasint,omitempty"`
}

// ReserveSeals books Count seals of one key version.
type ReserveSeals struct {
	Meta    Meta   `cbor:"1,keyasint,omitempty"`
	KeyID   string `cbor:"2,keyasint,omitempty"`
	Version uint32 `cbor:"3,keyasint,omitempty"`
	Count   uint64 `cbor:"4,keyasint,omitempty"`
}

// RecordKeyUse says when keys were used last.
type RecordKeyUse struct {
	Meta Meta     `cbor:"1,keyasint,omitempty"`
	Uses []KeyUse `cbor:"2,keyasint,omitempty"`
}

// KeyUse is one of its lines.
type KeyUse struct {
	KeyID string `cbor:"1,keyasint,omitempty"`
	At    int64  `cbor:"2,keyasint,omitempty"`
}

// RetireKey ends new bindings to KeyID and starts the job that moves what is
// bound to it to Job.To; without anything bound it disables the key at once
// and needs no job.
type RetireKey struct {
	Meta  Meta   `cbor:"1,keyasint,omitempty"`
	KeyID string `cbor:"2,keyasint,omitempty"`
	Job   Job    `cbor:"3,keyasint,omitempty"` // ID, To, Rate
}

// CreateJob starts a job.
type CreateJob struct {
	Meta Meta `cbor:"1,keyasint,omitempty"`
	Job  Job  `cbor:"2,keyasint,omitempty"` // ID, Kind, From, To, Rate
}

// SetJobState pauses, resumes, cancels or fails a job.
type SetJobState struct {
	Meta  Meta     `cbor:"1,keyasint,omitempty"`
	JobID string   `cbor:"2,keyasint,omitempty"`
	State JobState `cbor:"3,keyasint,omitempty"`
	Error string   `cbor:"4,keyasint,omitempty"`
}

// RewrapVersions puts data keys that were opened under From and sealed again
// under To in place of the old ones, and binds the secrets in Paths to To. It
// is a step of a job, or, without a JobID, the change of one secret's key.
type RewrapVersions struct {
	Meta  Meta        `cbor:"1,keyasint,omitempty"`
	JobID string      `cbor:"2,keyasint,omitempty"`
	From  string      `cbor:"3,keyasint,omitempty"`
	To    string      `cbor:"4,keyasint,omitempty"`
	Items []Rewrapped `cbor:"5,keyasint,omitempty"`
	Paths []string    `cbor:"6,keyasint,omitempty"`
}

// Rewrapped is one version's data key under the new key. Old is the SHA-256
// of the sealed data key that it replaces: if another one is there by now,
// the item is left out.
type Rewrapped struct {
	Path       string `cbor:"1,keyasint,omitempty"`
	Version    uint64 `cbor:"2,keyasint,omitempty"`
	Old        []byte `cbor:"3,keyasint,omitempty"`
	DataKey    []byte `cbor:"4,keyasint,omitempty"`
	KeyVersion uint32 `cbor:"5,keyasint,omitempty"`
}
