package fsm

import (
	"github.com/strongroom/strongroom/internal/names"
	"github.com/strongroom/strongroom/internal/wrapped"
)

// Records are immutable once they are in a State: Apply replaces them, never
// changes them, so readers keep pointers and hold no lock. Times are
// milliseconds since the Unix epoch, UTC; 0 means "not set".
//
// The cbor numbers stand in logs and snapshots: append-only, never reused.
// All are omitempty, so that nil and empty are one thing before and after a
// journey through the encoding, and a new field leaves old bytes as they are.

// Genesis is what init decided once for the life of the cluster.
type Genesis struct {
	ClusterID string `cbor:"1,keyasint,omitempty"` // UUID
	CreatedAt int64  `cbor:"2,keyasint,omitempty"`
	Root      Root   `cbor:"3,keyasint,omitempty"` // the first one; Roots has what became of it
	// FingerprintKey keys the fingerprints of values and the hashes of
	// requests. It outlives the root keys that wrap it.
	FingerprintKey *wrapped.Key `cbor:"4,keyasint,omitempty"`
}

// Roots are the versions of the root key.
type Roots struct {
	Current  Root          `cbor:"1,keyasint,omitempty"` // new key material is wrapped under it
	Next     *Root         `cbor:"2,keyasint,omitempty"` // on its way into every HSM; nothing is under it
	Previous *Root         `cbor:"3,keyasint,omitempty"` // what is under it is being wrapped under Current
	Retired  []RetiredRoot `cbor:"4,keyasint,omitempty"`
	JobID    string        `cbor:"5,keyasint,omitempty"` // of the rotation that is on its way
}

// RetiredRoot is a root that nothing is under any more.
type RetiredRoot struct {
	Root      Root  `cbor:"1,keyasint,omitempty"` // without its copies
	RetiredAt int64 `cbor:"2,keyasint,omitempty"`
	// RemovedAt is set once its objects are to go from every HSM. Until then
	// a snapshot of the time before can still be read.
	RemovedAt int64 `cbor:"3,keyasint,omitempty"`
}

// Root describes one version of the root key: never the key itself, only
// what lets a node recognise it and receive it.
type Root struct {
	Version uint32 `cbor:"1,keyasint,omitempty"`
	// CheckValue is the PKCS#11 CKA_CHECK_VALUE of the root key, and
	// MACCheck an HMAC of a fixed text under the root MAC key.
	CheckValue []byte `cbor:"2,keyasint,omitempty"`
	MACCheck   []byte `cbor:"3,keyasint,omitempty"`
	// Canary is a wrapped key that serves no other purpose, and a text
	// sealed under it: opening it proves that an HSM holds this root.
	Canary    wrapped.Key `cbor:"4,keyasint,omitempty"`
	CanaryIV  []byte      `cbor:"5,keyasint,omitempty"`
	CanaryBox []byte      `cbor:"6,keyasint,omitempty"`
	// Copies holds the root key for each node's HSM, wrapped to that HSM's
	// transport key.
	Copies []RootCopy `cbor:"7,keyasint,omitempty"`
}

// RootCopy is the root key on its way into one HSM.
type RootCopy struct {
	NodeID      string `cbor:"1,keyasint,omitempty"`
	Fingerprint []byte `cbor:"2,keyasint,omitempty"` // SHA-256 over the DER of the transport public key
	Wrap        string `cbor:"3,keyasint,omitempty"` // "rsa-oaep-sha1", …
	RootKey     []byte `cbor:"4,keyasint,omitempty"`
	MACKey      []byte `cbor:"5,keyasint,omitempty"`
}

// SecretState is where a secret is in its life.
type SecretState string

// The states of a secret.
const (
	SecretActive          SecretState = "active"
	SecretPendingDeletion SecretState = "pendingDeletion"
	SecretPurged          SecretState = "purged" // a tombstone: the path stays taken
)

// Secret is the metadata of one path.
type Secret struct {
	Path         names.Path        `cbor:"1,keyasint,omitempty"`
	ID           string            `cbor:"2,keyasint,omitempty"` // UUID; a reused path gets a new one
	State        SecretState       `cbor:"3,keyasint,omitempty"`
	Description  string            `cbor:"4,keyasint,omitempty"`
	Tags         map[string]string `cbor:"5,keyasint,omitempty"`
	KeyID        string            `cbor:"6,keyasint,omitempty"` // the KMS key that new versions are bound to
	Current      uint64            `cbor:"7,keyasint,omitempty"` // number of the current version, 0: none
	Latest       uint64            `cbor:"8,keyasint,omitempty"` // highest number ever given, 0: none
	Labels       map[string]uint64 `cbor:"9,keyasint,omitempty"`
	CreatedAt    int64             `cbor:"10,keyasint,omitempty"`
	CreatedBy    string            `cbor:"11,keyasint,omitempty"`
	UpdatedAt    int64             `cbor:"12,keyasint,omitempty"`
	UpdatedBy    string            `cbor:"13,keyasint,omitempty"`
	DeletedAt    int64             `cbor:"14,keyasint,omitempty"`
	DeletedBy    string            `cbor:"15,keyasint,omitempty"`
	PurgeAt      int64             `cbor:"16,keyasint,omitempty"`
	DeleteReason string            `cbor:"17,keyasint,omitempty"`
	// DeleteRequest is the request that deleted it: a purge at the end of the
	// recovery window has no other one to tell.
	DeleteRequest string `cbor:"18,keyasint,omitempty"`

	// Changed is the index of the last command that changed what readers of
	// the secret may notice. No decision may depend on it: a snapshot of a
	// build that did not keep it is restored with the index of the snapshot.
	Changed uint64 `cbor:"40,keyasint,omitempty"`
	// PastMillis is how long, in the month that begins at PastMonth, versions
	// lived that a retired secret of this path had: their records are gone.
	PastMonth  int64 `cbor:"41,keyasint,omitempty"`
	PastMillis int64 `cbor:"42,keyasint,omitempty"`
	// KeepAt is when a Sweep is to look for versions that the secret's rule
	// does not keep, 0: not until something changes. No version below KeptFrom
	// is stored, which spares the look what was destroyed long ago.
	KeepAt   int64  `cbor:"50,keyasint,omitempty"`
	KeptFrom uint64 `cbor:"51,keyasint,omitempty"`

	Rotation *Rotation `cbor:"55,keyasint,omitempty"` // nil: nobody rotates it
}

// VersionState is where a version is in its life.
type VersionState string

// The states of a version. "expired" is not stored: it follows from
// ExpiresAt and the time of the question.
const (
	VersionActive         VersionState = "active"
	VersionDisabled       VersionState = "disabled"
	VersionPendingDestroy VersionState = "pendingDestroy"
	VersionDestroyed      VersionState = "destroyed"
	VersionExpired        VersionState = "expired"
)

// Version is one value of a secret: ciphertext and history, never plaintext.
type Version struct {
	Number      uint64       `cbor:"1,keyasint,omitempty"`
	ID          string       `cbor:"2,keyasint,omitempty"`
	State       VersionState `cbor:"3,keyasint,omitempty"`
	Size        uint32       `cbor:"4,keyasint,omitempty"` // bytes of the plaintext
	ContentType string       `cbor:"5,keyasint,omitempty"`
	KeyID       string       `cbor:"6,keyasint,omitempty"`
	KeyVersion  uint32       `cbor:"7,keyasint,omitempty"`
	Sealed      []byte       `cbor:"8,keyasint,omitempty"`  // the value under its data key; nil once destroyed
	DataKey     []byte       `cbor:"9,keyasint,omitempty"`  // the data key under the KMS key; nil once destroyed
	Fingerprint []byte       `cbor:"10,keyasint,omitempty"` // keyed, salted by secret and number; nil once destroyed
	CreatedAt   int64        `cbor:"11,keyasint,omitempty"`
	CreatedBy   string       `cbor:"12,keyasint,omitempty"`
	RequestID   string       `cbor:"13,keyasint,omitempty"`
	ExpiresAt   int64        `cbor:"14,keyasint,omitempty"`
	DestroyAt   int64        `cbor:"15,keyasint,omitempty"` // due, while pendingDestroy
	DestroyedAt int64        `cbor:"16,keyasint,omitempty"`
	DestroyedBy string       `cbor:"17,keyasint,omitempty"`
	Reason      string       `cbor:"18,keyasint,omitempty"`
	// Disabled remembers, while pendingDestroy, that it was disabled before.
	Disabled bool            `cbor:"19,keyasint,omitempty"`
	Changes  []VersionChange `cbor:"20,keyasint,omitempty"` // the latest, oldest first

	// NotifyBefore is how many milliseconds before ExpiresAt it is told, once,
	// that the version expires; NotifiedAt is when that was done.
	NotifyBefore int64 `cbor:"21,keyasint,omitempty"`
	NotifiedAt   int64 `cbor:"22,keyasint,omitempty"`

	CreateReason   string `cbor:"23,keyasint,omitempty"`
	DestroyRequest string `cbor:"24,keyasint,omitempty"` // that asked for the destruction
	Omitted        uint64 `cbor:"25,keyasint,omitempty"` // changes that gave way to later ones

	// Forced: its delayed destruction asks for nobody's leave. HeldUpAt is
	// since when the destruction, which was due, waits for consumers.
	Forced   bool  `cbor:"26,keyasint,omitempty"`
	HeldUpAt int64 `cbor:"27,keyasint,omitempty"`

	Compromised *Compromise `cbor:"92,keyasint,omitempty"` // nil: as far as is known it is not
}

// VersionChange is one line of a version's history.
type VersionChange struct {
	At        int64  `cbor:"1,keyasint,omitempty"`
	By        string `cbor:"2,keyasint,omitempty"`
	RequestID string `cbor:"3,keyasint,omitempty"`
	What      string `cbor:"4,keyasint,omitempty"`
	Label     string `cbor:"5,keyasint,omitempty"`
	Reason    string `cbor:"6,keyasint,omitempty"`
}

// KeyState is the replicated state of a KMS key.
type KeyState string

// The states of a key. "unavailable" is what one node's HSM says now and is
// not stored.
const (
	KeyActive          KeyState = "active"
	KeyRetiring        KeyState = "retiring"
	KeyDisabled        KeyState = "disabled"
	KeyPendingDeletion KeyState = "pendingDeletion"
	KeyPendingImport   KeyState = "pendingImport"
	KeyDestroyed       KeyState = "destroyed"
)

// Key is a KMS key with all its versions.
type Key struct {
	ID          string            `cbor:"1,keyasint,omitempty"`
	Spec        string            `cbor:"2,keyasint,omitempty"`
	Usage       string            `cbor:"3,keyasint,omitempty"`
	Origin      string            `cbor:"4,keyasint,omitempty"` // "hsm"
	State       KeyState          `cbor:"5,keyasint,omitempty"`
	Description string            `cbor:"6,keyasint,omitempty"`
	Tags        map[string]string `cbor:"7,keyasint,omitempty"`
	Current     uint32            `cbor:"8,keyasint,omitempty"`
	Versions    []KeyVersion      `cbor:"9,keyasint,omitempty"`  // index i holds version i+1
	Aliases     []string          `cbor:"10,keyasint,omitempty"` // sorted, each with its "alias/" prefix
	CreatedAt   int64             `cbor:"11,keyasint,omitempty"`
	CreatedBy   string            `cbor:"12,keyasint,omitempty"`
	UpdatedAt   int64             `cbor:"13,keyasint,omitempty"`
	UpdatedBy   string            `cbor:"14,keyasint,omitempty"`

	DeletionAt   int64  `cbor:"15,keyasint,omitempty"` // due, while pendingDeletion
	DeletedBy    string `cbor:"16,keyasint,omitempty"`
	DeleteReason string `cbor:"17,keyasint,omitempty"`
	DestroyedAt  int64  `cbor:"18,keyasint,omitempty"`

	RotationPeriod int64 `cbor:"19,keyasint,omitempty"` // milliseconds, 0: only on demand
	NextRotationAt int64 `cbor:"20,keyasint,omitempty"`
	LastUsedAt     int64 `cbor:"21,keyasint,omitempty"` // to the minute, about

	// EmptyIndex is the index at which retireKey found nothing bound to the
	// key any more; nothing can have been bound since, or it would be 0.
	EmptyIndex uint64 `cbor:"22,keyasint,omitempty"`
	// ImportKey is the one-time key that material must be wrapped to, while
	// pendingImport.
	ImportKey *wrapped.Key `cbor:"23,keyasint,omitempty"`
	// Purpose is what the cluster itself uses the key for; empty for the keys
	// of its users. It serves nothing else, and stays active.
	Purpose string `cbor:"24,keyasint,omitempty"`
}

// PurposeAudit is the key that signs the checkpoints of the audit trails:
// ECDSA on P-256. A cluster has one.
const PurposeAudit = "audit"

// Origins of key material.
const (
	OriginHSM      = "hsm"      // born in an HSM
	OriginImported = "imported" // brought by somebody, who may have a copy
)

// KeyVersion is one generation of key material.
type KeyVersion struct {
	Wrapped   wrapped.Key `cbor:"1,keyasint,omitempty"` // empty once the key was destroyed
	CreatedAt int64       `cbor:"2,keyasint,omitempty"`
	CreatedBy string      `cbor:"3,keyasint,omitempty"`
	// Reserved is how many seals leaders have booked so far, see MaxSeals.
	Reserved uint64 `cbor:"4,keyasint,omitempty"`
}

// JobState is where a job is in its life.
type JobState string

// The states of a job. Done and cancelled ones never change again.
const (
	JobRunning   JobState = "running"
	JobPaused    JobState = "paused"
	JobFailed    JobState = "failed" // resumeJob goes on once the cause is gone
	JobDone      JobState = "done"
	JobCancelled JobState = "cancelled"
)

// JobMigrate is the kind of job that moves what is bound to one key to
// another.
const JobMigrate = "migrateBoundSecrets"

// JobRotateRoot is the kind of job that brings all key material under a new
// root key.
const JobRotateRoot = "rotateRootKey"

// Job is long work that the leader does in small steps, each one command.
// All that a step needs is here: any leader can do the next.
type Job struct {
	ID    string   `cbor:"1,keyasint,omitempty"` // UUID
	Kind  string   `cbor:"2,keyasint,omitempty"`
	State JobState `cbor:"3,keyasint,omitempty"`
	From  string   `cbor:"4,keyasint,omitempty"` // key ids
	To    string   `cbor:"5,keyasint,omitempty"`
	Rate  uint32   `cbor:"6,keyasint,omitempty"` // secrets a second, at most
	// Retire disables From at the index at which nothing is bound to it.
	Retire bool `cbor:"7,keyasint,omitempty"`
	// Total and Done count secrets. What is bound to From while the job runs
	// adds to Total.
	Total      uint64 `cbor:"8,keyasint,omitempty"`
	Done       uint64 `cbor:"9,keyasint,omitempty"`
	Error      string `cbor:"10,keyasint,omitempty"` // why it failed; may be shown
	CreatedAt  int64  `cbor:"11,keyasint,omitempty"`
	CreatedBy  string `cbor:"12,keyasint,omitempty"`
	RequestID  string `cbor:"13,keyasint,omitempty"`
	UpdatedAt  int64  `cbor:"14,keyasint,omitempty"`
	FinishedAt int64  `cbor:"15,keyasint,omitempty"` // done or cancelled
	// EmptyIndex is the index at which nothing was bound to From.
	EmptyIndex uint64 `cbor:"16,keyasint,omitempty"`
	// RootVersion is the root key that a JobRotateRoot brings; its Total and
	// Done count pieces of key material, its EmptyIndex is the one at which
	// nothing was under the root before.
	RootVersion uint32 `cbor:"17,keyasint,omitempty"`
}

// Principal is a user or a service.
type Principal struct {
	Name        string   `cbor:"1,keyasint,omitempty"`
	Kind        string   `cbor:"2,keyasint,omitempty"` // "user" or "service"
	Description string   `cbor:"3,keyasint,omitempty"`
	Policies    []string `cbor:"4,keyasint,omitempty"` // attached, sorted
	CreatedAt   int64    `cbor:"5,keyasint,omitempty"`
	CreatedBy   string   `cbor:"6,keyasint,omitempty"`

	// Attached is what is attached in another way than for good: for some
	// time, as a boundary, or for break-glass. Sorted by policy, then mode.
	Attached []Attachment `cbor:"7,keyasint,omitempty"`

	Quarantine *Quarantine `cbor:"92,keyasint,omitempty"` // nil: it is free
}

// Token is a credential of a principal. Only the hash of its text is kept.
type Token struct {
	ID          string   `cbor:"1,keyasint,omitempty"` // UUID, may be shown
	Hash        []byte   `cbor:"2,keyasint,omitempty"` // SHA-256 of the token text
	Principal   string   `cbor:"3,keyasint,omitempty"`
	Description string   `cbor:"4,keyasint,omitempty"`
	BoundCIDRs  []string `cbor:"5,keyasint,omitempty"`
	CreatedAt   int64    `cbor:"6,keyasint,omitempty"`
	CreatedBy   string   `cbor:"7,keyasint,omitempty"`
	ExpiresAt   int64    `cbor:"8,keyasint,omitempty"`
	RevokedAt   int64    `cbor:"9,keyasint,omitempty"`

	// Method is how its holder had authenticated when login made the token,
	// empty for one that createToken made. Groups are those that a trust took
	// from the claims: they hold as long as the token does.
	Method string   `cbor:"10,keyasint,omitempty"`
	Groups []string `cbor:"11,keyasint,omitempty"`

	// Trust is the one by which login made it, and TrustEpoch the trust's at
	// that time: see State.Stands.
	Trust      string `cbor:"20,keyasint,omitempty"`
	TrustEpoch uint64 `cbor:"21,keyasint,omitempty"`
}

// Statement is one line of a policy.
type Statement struct {
	Effect  string   `cbor:"1,keyasint,omitempty"` // "allow", "deny" or "requireApproval"
	Actions []string `cbor:"2,keyasint,omitempty"`
	Roles   []string `cbor:"3,keyasint,omitempty"`
	Paths   []string `cbor:"4,keyasint,omitempty"`
	Keys    []string `cbor:"5,keyasint,omitempty"`

	Conditions *Conditions `cbor:"6,keyasint,omitempty"`
	Approval   *Approval   `cbor:"7,keyasint,omitempty"` // of requireApproval
}

// Policy is a named list of statements.
type Policy struct {
	Name       string      `cbor:"1,keyasint,omitempty"`
	Revision   uint64      `cbor:"2,keyasint,omitempty"` // from 1
	Statements []Statement `cbor:"3,keyasint,omitempty"`
	UpdatedAt  int64       `cbor:"4,keyasint,omitempty"`
	UpdatedBy  string      `cbor:"5,keyasint,omitempty"`

	Description string `cbor:"6,keyasint,omitempty"`
	Reason      string `cbor:"7,keyasint,omitempty"` // of this revision
	RequestID   string `cbor:"8,keyasint,omitempty"`
	ReportOnly  bool   `cbor:"9,keyasint,omitempty"` // decides nothing
	// RolledBackTo is the revision whose statements this one has again.
	RolledBackTo uint64 `cbor:"10,keyasint,omitempty"`
}

// AccessPolicy restricts what IAM has granted.
type AccessPolicy struct {
	Name        string   `cbor:"1,keyasint,omitempty"`
	Revision    uint64   `cbor:"2,keyasint,omitempty"`
	Paths       []string `cbor:"3,keyasint,omitempty"`
	Actions     []string `cbor:"4,keyasint,omitempty"`
	Principals  []string `cbor:"5,keyasint,omitempty"`
	SourceCIDRs []string `cbor:"6,keyasint,omitempty"`
	NotBefore   int64    `cbor:"7,keyasint,omitempty"`
	NotAfter    int64    `cbor:"8,keyasint,omitempty"`
	UpdatedAt   int64    `cbor:"9,keyasint,omitempty"`
	UpdatedBy   string   `cbor:"10,keyasint,omitempty"`

	TimeWindows []TimeWindow `cbor:"11,keyasint,omitempty"`
	Groups      []string     `cbor:"12,keyasint,omitempty"`
	Description string       `cbor:"13,keyasint,omitempty"`
	Reason      string       `cbor:"14,keyasint,omitempty"` // of this revision
	RequestID   string       `cbor:"15,keyasint,omitempty"`
	ReportOnly  bool         `cbor:"16,keyasint,omitempty"` // decides nothing
}
