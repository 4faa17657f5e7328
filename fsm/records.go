package fsm

import (
	"github.com/strongroom/strongroom/internal/names"
	"github.com/strongroom/strongroom/internal/wrapped"
)

// Records are immutable once they are in a State: Apply replaces them, never
// changes them, so readers keep pointers and hold no lock. Times are
// milliseconds since the Unix epoch, UTC; 0 means "not set".

// Genesis is what init decided once for the life of the cluster.
type Genesis struct {
	ClusterID string // UUID
	CreatedAt int64
	Root      Root
}

// Root describes one version of the root key: never the key itself, only
// what lets a node recognise it and receive it.
type Root struct {
	Version uint32
	// CheckValue is the PKCS#11 CKA_CHECK_VALUE of the root key, and
	// MACCheck an HMAC of a fixed text under the root MAC key.
	CheckValue []byte
	MACCheck   []byte
	// Canary is a wrapped key that serves no other purpose, and a text
	// sealed under it: opening it proves that an HSM holds this root.
	Canary    wrapped.Key
	CanaryIV  []byte
	CanaryBox []byte
	// Copies holds the root key for each node's HSM, wrapped to that HSM's
	// transport key.
	Copies []RootCopy
}

// RootCopy is the root key on its way into one HSM.
type RootCopy struct {
	NodeID      string
	Fingerprint []byte // SHA-256 over the DER of the transport public key
	Wrap        string // "rsa-oaep-sha1", …
	RootKey     []byte
	MACKey      []byte
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
	Path        names.Path
	ID          string // UUID; a reused path gets a new one
	State       SecretState
	Description string
	Tags        map[string]string
	KeyID       string // the KMS key that new versions are bound to
	Current     uint64 // number of the current version, 0: none
	Latest      uint64 // highest number ever given, 0: none
	Labels      map[string]uint64
	CreatedAt   int64
	CreatedBy   string
	UpdatedAt   int64
	UpdatedBy   string
	DeletedAt   int64
	DeletedBy   string
	PurgeAt     int64
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
	Number      uint64
	ID          string
	State       VersionState
	Size        uint32 // bytes of the plaintext
	ContentType string
	KeyID       string
	KeyVersion  uint32
	Sealed      []byte // the value under its data key; nil once destroyed
	DataKey     []byte // the data key under the KMS key; nil once destroyed
	Fingerprint []byte // keyed, salted by secret and number; nil once destroyed
	CreatedAt   int64
	CreatedBy   string
	RequestID   string
	ExpiresAt   int64
	DestroyAt   int64 // due, while pendingDestroy
	DestroyedAt int64
	DestroyedBy string
	Reason      string
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
	ID          string
	Spec        string
	Usage       string
	Origin      string // "hsm"
	State       KeyState
	Description string
	Tags        map[string]string
	Current     uint32
	Versions    []KeyVersion // index i holds version i+1
	Aliases     []string     // sorted, each with its "alias/" prefix
	CreatedAt   int64
	CreatedBy   string
	UpdatedAt   int64
}

// KeyVersion is one generation of key material.
type KeyVersion struct {
	Wrapped   wrapped.Key
	CreatedAt int64
}

// Principal is a user or a service.
type Principal struct {
	Name        string
	Kind        string // "user" or "service"
	Description string
	Policies    []string // attached, sorted
	CreatedAt   int64
	CreatedBy   string
}

// Token is a credential of a principal. Only the hash of its text is kept.
type Token struct {
	ID          string // UUID, may be shown
	Hash        []byte // SHA-256 of the token text
	Principal   string
	Description string
	BoundCIDRs  []string
	CreatedAt   int64
	CreatedBy   string
	ExpiresAt   int64
	RevokedAt   int64
}

// Statement is one line of a policy.
type Statement struct {
	Effect  string // "allow" or "deny"
	Actions []string
	Roles   []string
	Paths   []string
	Keys    []string
}

// Policy is a named list of statements.
type Policy struct {
	Name       string
	Revision   uint64 // from 1
	Statements []Statement
	UpdatedAt  int64
	UpdatedBy  string
}

// AccessPolicy restricts what IAM has granted.
type AccessPolicy struct {
	Name        string
	Revision    uint64
	Paths       []string
	Actions     []string
	Principals  []string
	SourceCIDRs []string
	NotBefore   int64
	NotAfter    int64
	UpdatedAt   int64
	UpdatedBy   string
}
