package fsm

// Kind numbers a command. Numbers are given by hand, append-only and never
// reused: they stand in logs that later builds must read.
type Kind uint16

// The kinds.
const (
	KindGenesis            Kind = 1
	KindCreateSecret       Kind = 2
	KindPutVersion         Kind = 3
	KindDestroyVersion     Kind = 4
	KindCancelDestroy      Kind = 5
	KindDeleteSecret       Kind = 6
	KindRestoreSecret      Kind = 7
	KindCreateKey          Kind = 8
	KindSetKeyState        Kind = 9
	KindCreatePrincipal    Kind = 10
	KindDeletePrincipal    Kind = 11
	KindCreateToken        Kind = 12
	KindRevokeToken        Kind = 13
	KindPutPolicy          Kind = 14
	KindDeletePolicy       Kind = 15
	KindAttachPolicy       Kind = 16
	KindDetachPolicy       Kind = 17
	KindPutAccessPolicy    Kind = 18
	KindDeleteAccessPolicy Kind = 19
	KindSweep              Kind = 20
)

// Meta travels with every command: who, when, by which request. Time is
// stamped by the leader; Apply clamps it so that it never runs backwards.
type Meta struct {
	Time      int64 // milliseconds since the Unix epoch
	Principal string
	RequestID string
	// ClientToken, with Principal and Operation, names the write for
	// retries; RequestHash is SHA-256 over what was asked. Both are empty
	// for a write that did not bring a token.
	ClientToken string
	Operation   string
	RequestHash []byte
}

// Command is one change. Apply decides every precondition again; what the
// engine checked before is courtesy.
type Command interface {
	Kind() Kind
}

// GenesisCommand is the first command of a cluster, written by init alone.
type GenesisCommand struct {
	Meta       Meta
	Genesis    Genesis
	DefaultKey Key
	Admin      Principal
	AdminToken Token
	Policies   []Policy // "full-access" and what else init ships
}

// CreateSecret makes a path. First, if set, becomes version 1.
type CreateSecret struct {
	Meta        Meta
	Path        string
	SecretID    string
	Description string
	Tags        map[string]string
	KeyID       string
	// ReuseRetired allows to take a path whose secret was purged.
	ReuseRetired bool
	First        *NewVersion
}

// NewVersion is a sealed value on its way into the state.
type NewVersion struct {
	// Number is bound into the seal (AAD), so Apply accepts the command only
	// while it is still the next one: Refused{Conflict, Race: true} tells the
	// engine to seal again.
	Number      uint64
	VersionID   string
	Size        uint32
	ContentType string
	KeyID       string
	KeyVersion  uint32
	Sealed      []byte
	DataKey     []byte
	Fingerprint []byte
	ExpiresAt   int64
}

// PutVersion adds a version.
type PutVersion struct {
	Meta     Meta
	Path     string
	SecretID string
	Version  NewVersion
	Activate bool
	// Expected, if set, must be the current version (0: none yet).
	Expected *uint64
}

// DestroyVersion erases a version now (DueAt 0) or when DueAt has passed.
type DestroyVersion struct {
	Meta    Meta
	Path    string
	Version uint64
	Reason  string
	DueAt   int64
}

// CancelDestroy takes a delayed destruction back.
type CancelDestroy struct {
	Meta    Meta
	Path    string
	Version uint64
}

// DeleteSecret starts the recovery window, or purges at once (PurgeAt 0).
type DeleteSecret struct {
	Meta    Meta
	Path    string
	Reason  string
	PurgeAt int64
}

// RestoreSecret ends a recovery window.
type RestoreSecret struct {
	Meta Meta
	Path string
}

// CreateKey adds a key with its first version, and its aliases.
type CreateKey struct {
	Meta Meta
	Key  Key
}

// SetKeyState disables or enables a key.
type SetKeyState struct {
	Meta  Meta
	KeyID string
	State KeyState
}

// CreatePrincipal adds a principal.
type CreatePrincipal struct {
	Meta      Meta
	Principal Principal
}

// DeletePrincipal removes a principal and its tokens.
type DeletePrincipal struct {
	Meta Meta
	Name string
}

// CreateToken adds a credential.
type CreateToken struct {
	Meta  Meta
	Token Token
}

// RevokeToken ends a credential.
type RevokeToken struct {
	Meta    Meta
	TokenID string
}

// PutPolicy makes or replaces a policy.
type PutPolicy struct {
	Meta       Meta
	Name       string
	Statements []Statement
}

// DeletePolicy removes a policy that is attached to nobody.
type DeletePolicy struct {
	Meta Meta
	Name string
}

// AttachPolicy gives a policy to a principal.
type AttachPolicy struct {
	Meta      Meta
	Policy    string
	Principal string
}

// DetachPolicy takes a policy from a principal.
type DetachPolicy struct {
	Meta      Meta
	Policy    string
	Principal string
}

// PutAccessPolicy makes or replaces an access policy.
type PutAccessPolicy struct {
	Meta   Meta
	Policy AccessPolicy // Revision, UpdatedAt and UpdatedBy are set by Apply
}

// DeleteAccessPolicy removes an access policy.
type DeleteAccessPolicy struct {
	Meta Meta
	Name string
}

// Sweep does what is due at Meta.Time: destructions, purges, tokens and
// idempotency records past their time. At most Limit items are done, so that
// one entry stays small; Result.More says that there is more.
type Sweep struct {
	Meta  Meta
	Limit int
}

// Refusal is a decision of Apply against a command, the same on every node.
type Refusal struct {
	Code    string            // a fault.Kind
	Message string            // public
	Details map[string]string // public
	Paths   []string          // KeyInUse: up to 20 bound paths, the engine filters what the caller may see
	Count   uint64            // KeyInUse: all bound secrets
	Race    bool              // the engine's assumption is stale: look again and retry
}

// Result is what Apply answers, one shape for all commands. A retry with the
// same client token gets the stored Result again, Replayed set.
type Result struct {
	Index     uint64
	Refused   *Refusal
	Replayed  bool
	Path      string
	SecretID  string
	Version   uint64
	VersionID string
	State     string
	DueAt     int64 // destroyAt, deletionAt
	KeyID     string
	Name      string
	Revision  uint64
	TokenID   string
	More      bool
	Done      int
}
