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

	KindUpdateKey           Kind = 21
	KindCreateAlias         Kind = 22
	KindUpdateAlias         Kind = 23
	KindDeleteAlias         Kind = 24
	KindRotateKey           Kind = 25
	KindSetKeyRotation      Kind = 26
	KindScheduleKeyDeletion Kind = 27
	KindCancelKeyDeletion   Kind = 28
	KindSetImportKey        Kind = 29
	KindImportMaterial      Kind = 30
	KindReserveSeals        Kind = 31
	KindRecordKeyUse        Kind = 32
	KindRetireKey           Kind = 33
	KindCreateJob           Kind = 34
	KindSetJobState         Kind = 35
	KindRewrapVersions      Kind = 36
	KindKeepCurrent         Kind = 37
	KindStartRootRotation   Kind = 38
	KindSwitchRoot          Kind = 39
	KindRewrapKeys          Kind = 40
	KindRemoveRoot          Kind = 41
	KindSetVersionLabel     Kind = 42
	KindRemoveVersionLabel  Kind = 43
	KindSetVersionState     Kind = 44
	KindUpdateSecret        Kind = 45
	KindNoteExpiry          Kind = 46
	KindOpenLedger          Kind = 47
	KindObserve             Kind = 48
	KindSettleLedger        Kind = 49

	KindCopySecret Kind = 50

	KindPutPathRule     Kind = 51
	KindDeletePathRule  Kind = 52
	KindStartRotation   Kind = 55
	KindAdvanceRotation Kind = 56
	KindRetryRotation   Kind = 57
	KindEndRotation     Kind = 58
	KindCancelRotation  Kind = 59

	KindCreateGroup         Kind = 60
	KindDeleteGroup         Kind = 61
	KindAddToGroup          Kind = 62
	KindRemoveFromGroup     Kind = 63
	KindRollbackPolicy      Kind = 64
	KindAnchorHeads         Kind = 65
	KindAddCosignature      Kind = 66
	KindSetNode             Kind = 67
	KindAdmitNode           Kind = 68
	KindSetJoinToken        Kind = 69
	KindPutAutopilot        Kind = 73
	KindStartAnew           Kind = 74
	KindPutRateLimit        Kind = 80
	KindDeleteRateLimit     Kind = 81
	KindCreateAccessKey     Kind = 75
	KindDeleteAccessKey     Kind = 76
	KindRevokeTokens        Kind = 77
	KindRecordCredentialUse Kind = 78
	KindSetVote             Kind = 79
	KindPutTrust            Kind = 70
	KindDeleteTrust         Kind = 71
	KindLogin               Kind = 72

	KindRequestApproval Kind = 85
	KindDecideApproval  Kind = 86
	KindUseApproval     Kind = 87

	KindOpenBreakGlass   Kind = 88
	KindCloseBreakGlass  Kind = 89
	KindNoteGlassRead    Kind = 90
	KindReviewBreakGlass Kind = 91

	KindPutDetectors        Kind = 92
	KindQuarantinePrincipal Kind = 93
	KindReleasePrincipal    Kind = 94
	KindSetCanary           Kind = 95
	KindMarkCompromised     Kind = 96
)

// Meta travels with every command: who, when, by which request. Time is
// stamped by the leader; Apply clamps it so that it never runs backwards.
type Meta struct {
	Time      int64  `cbor:"1,keyasint,omitempty"` // milliseconds since the Unix epoch
	Principal string `cbor:"2,keyasint,omitempty"`
	RequestID string `cbor:"3,keyasint,omitempty"`
	// ClientToken, with Principal and Operation, names the write for
	// retries; RequestHash is SHA-256 over what was asked. Both are empty
	// for a write that did not bring a token.
	ClientToken string `cbor:"4,keyasint,omitempty"`
	Operation   string `cbor:"5,keyasint,omitempty"`
	RequestHash []byte `cbor:"6,keyasint,omitempty"`
	// Approval is what a policy asked for before it allowed the command.
	Approval *ApprovalUse `cbor:"7,keyasint,omitempty"`
}

// Command is one change. Apply decides every precondition again; what the
// engine checked before is courtesy.
type Command interface {
	Kind() Kind
}

// GenesisCommand is the first command of a cluster, written by init alone.
type GenesisCommand struct {
	Meta       Meta      `cbor:"1,keyasint,omitempty"`
	Genesis    Genesis   `cbor:"2,keyasint,omitempty"`
	DefaultKey Key       `cbor:"3,keyasint,omitempty"`
	Admin      Principal `cbor:"4,keyasint,omitempty"`
	AdminToken Token     `cbor:"5,keyasint,omitempty"`
	Policies   []Policy  `cbor:"6,keyasint,omitempty"` // "full-access" and what else init ships
}

// CreateSecret makes a path. First, if set, becomes version 1.
type CreateSecret struct {
	Meta        Meta              `cbor:"1,keyasint,omitempty"`
	Path        string            `cbor:"2,keyasint,omitempty"`
	SecretID    string            `cbor:"3,keyasint,omitempty"`
	Description string            `cbor:"4,keyasint,omitempty"`
	Tags        map[string]string `cbor:"5,keyasint,omitempty"`
	KeyID       string            `cbor:"6,keyasint,omitempty"`
	// ReuseRetired allows to take a path whose secret was purged.
	ReuseRetired bool        `cbor:"7,keyasint,omitempty"`
	First        *NewVersion `cbor:"8,keyasint,omitempty"`
}

// NewVersion is a sealed value on its way into the state.
type NewVersion struct {
	// Number is bound into the seal (AAD), so Apply accepts the command only
	// while it is still the next one: Refused{Conflict, Race: true} tells the
	// engine to seal again.
	Number      uint64 `cbor:"1,keyasint,omitempty"`
	VersionID   string `cbor:"2,keyasint,omitempty"`
	Size        uint32 `cbor:"3,keyasint,omitempty"`
	ContentType string `cbor:"4,keyasint,omitempty"`
	KeyID       string `cbor:"5,keyasint,omitempty"`
	KeyVersion  uint32 `cbor:"6,keyasint,omitempty"`
	Sealed      []byte `cbor:"7,keyasint,omitempty"`
	DataKey     []byte `cbor:"8,keyasint,omitempty"`
	Fingerprint []byte `cbor:"9,keyasint,omitempty"`
	ExpiresAt   int64  `cbor:"10,keyasint,omitempty"`
	// NotifyBefore goes with ExpiresAt; 0: nobody is told.
	NotifyBefore int64  `cbor:"11,keyasint,omitempty"`
	Reason       string `cbor:"12,keyasint,omitempty"`
}

// PutVersion adds a version.
type PutVersion struct {
	Meta     Meta       `cbor:"1,keyasint,omitempty"`
	Path     string     `cbor:"2,keyasint,omitempty"`
	SecretID string     `cbor:"3,keyasint,omitempty"`
	Version  NewVersion `cbor:"4,keyasint,omitempty"`
	Activate bool       `cbor:"5,keyasint,omitempty"`
	// Expected, if set, must be the current version (0: none yet).
	Expected *uint64 `cbor:"6,keyasint,omitempty"`
}

// KeepCurrent is a write that asked for the bytes of the current version. It
// changes nothing, but its client token is remembered: without that, a retry
// that comes after somebody else's write would put the old bytes back.
type KeepCurrent struct {
	Meta     Meta   `cbor:"1,keyasint,omitempty"`
	Path     string `cbor:"2,keyasint,omitempty"`
	SecretID string `cbor:"3,keyasint,omitempty"`
	Version  uint64 `cbor:"4,keyasint,omitempty"`
}

// DestroyVersion erases a version now (DueAt 0) or when DueAt has passed.
type DestroyVersion struct {
	Meta    Meta   `cbor:"1,keyasint,omitempty"`
	Path    string `cbor:"2,keyasint,omitempty"`
	Version uint64 `cbor:"3,keyasint,omitempty"`
	Reason  string `cbor:"4,keyasint,omitempty"`
	DueAt   int64  `cbor:"5,keyasint,omitempty"`
	// Session is that of the node that decided it, and Observed is all that
	// the node saw of the secret's consumers and has not committed yet.
	Session  uint64        `cbor:"6,keyasint,omitempty"`
	Observed []Observation `cbor:"7,keyasint,omitempty"`
	// Force destroys a version that consumers may still hold.
	Force bool `cbor:"8,keyasint,omitempty"`
}

// CancelDestroy takes a delayed destruction back.
type CancelDestroy struct {
	Meta    Meta   `cbor:"1,keyasint,omitempty"`
	Path    string `cbor:"2,keyasint,omitempty"`
	Version uint64 `cbor:"3,keyasint,omitempty"`
	Reason  string `cbor:"4,keyasint,omitempty"`
}

// SetVersionLabel puts a label on a version; the label current activates it.
type SetVersionLabel struct {
	Meta    Meta   `cbor:"1,keyasint,omitempty"`
	Path    string `cbor:"2,keyasint,omitempty"`
	Version uint64 `cbor:"3,keyasint,omitempty"`
	Label   string `cbor:"4,keyasint,omitempty"`
	// Expected, if set, must be the current version (0: none yet).
	Expected *uint64 `cbor:"5,keyasint,omitempty"`
	Reason   string  `cbor:"6,keyasint,omitempty"`
}

// RemoveVersionLabel takes a label of people away.
type RemoveVersionLabel struct {
	Meta   Meta   `cbor:"1,keyasint,omitempty"`
	Path   string `cbor:"2,keyasint,omitempty"`
	Label  string `cbor:"3,keyasint,omitempty"`
	Reason string `cbor:"4,keyasint,omitempty"`
	// Expected, if set, must be the current version (0: none yet).
	Expected *uint64 `cbor:"5,keyasint,omitempty"`
	// Version, if set, must be the one that has the label.
	Version uint64 `cbor:"6,keyasint,omitempty"`
}

// SetVersionState disables or enables a version.
type SetVersionState struct {
	Meta    Meta   `cbor:"1,keyasint,omitempty"`
	Path    string `cbor:"2,keyasint,omitempty"`
	Version uint64 `cbor:"3,keyasint,omitempty"`
	Disable bool   `cbor:"4,keyasint,omitempty"`
	Reason  string `cbor:"5,keyasint,omitempty"`
}

// UpdateSecret changes what is said about a secret. A nil Description, an
// unset SetTags and a nil Rotation leave theirs as they are.
type UpdateSecret struct {
	Meta        Meta              `cbor:"1,keyasint,omitempty"`
	Path        string            `cbor:"2,keyasint,omitempty"`
	Description *string           `cbor:"3,keyasint,omitempty"`
	SetTags     bool              `cbor:"4,keyasint,omitempty"`
	Tags        map[string]string `cbor:"5,keyasint,omitempty"`
	// Rotation replaces the settings of the rotation; one of no kind removes
	// them. NextRotationAt is when the first is due, 0: on demand.
	Rotation       *RotationSettings `cbor:"55,keyasint,omitempty"`
	NextRotationAt int64             `cbor:"56,keyasint,omitempty"`
}

// NoteExpiry marks that it is told, now, that a version expires soon. It is
// accepted once: whose command it was tells it.
type NoteExpiry struct {
	Meta     Meta   `cbor:"1,keyasint,omitempty"`
	Path     string `cbor:"2,keyasint,omitempty"`
	SecretID string `cbor:"3,keyasint,omitempty"`
	Version  uint64 `cbor:"4,keyasint,omitempty"`
}

// DeleteSecret starts the recovery window, or purges at once (PurgeAt 0).
type DeleteSecret struct {
	Meta    Meta   `cbor:"1,keyasint,omitempty"`
	Path    string `cbor:"2,keyasint,omitempty"`
	Reason  string `cbor:"3,keyasint,omitempty"`
	PurgeAt int64  `cbor:"4,keyasint,omitempty"`
}

// RestoreSecret ends a recovery window.
type RestoreSecret struct {
	Meta Meta   `cbor:"1,keyasint,omitempty"`
	Path string `cbor:"2,keyasint,omitempty"`
}

// CreateKey adds a key with its first version, and its aliases.
type CreateKey struct {
	Meta Meta `cbor:"1,keyasint,omitempty"`
	Key  Key  `cbor:"2,keyasint,omitempty"`
}

// SetKeyState disables or enables a key.
type SetKeyState struct {
	Meta  Meta     `cbor:"1,keyasint,omitempty"`
	KeyID string   `cbor:"2,keyasint,omitempty"`
	State KeyState `cbor:"3,keyasint,omitempty"`
}

// CreatePrincipal adds a principal.
type CreatePrincipal struct {
	Meta      Meta      `cbor:"1,keyasint,omitempty"`
	Principal Principal `cbor:"2,keyasint,omitempty"`
}

// DeletePrincipal removes a principal, its tokens and its access keys.
type DeletePrincipal struct {
	Meta Meta   `cbor:"1,keyasint,omitempty"`
	Name string `cbor:"2,keyasint,omitempty"`
}

// CreateToken adds a credential.
type CreateToken struct {
	Meta  Meta  `cbor:"1,keyasint,omitempty"`
	Token Token `cbor:"2,keyasint,omitempty"`
}

// RevokeToken ends a credential.
type RevokeToken struct {
	Meta    Meta   `cbor:"1,keyasint,omitempty"`
	TokenID string `cbor:"2,keyasint,omitempty"`
}

// PutPolicy makes or replaces a policy.
type PutPolicy struct {
	Meta       Meta        `cbor:"1,keyasint,omitempty"`
	Name       string      `cbor:"2,keyasint,omitempty"`
	Statements []Statement `cbor:"3,keyasint,omitempty"`

	Description string `cbor:"4,keyasint,omitempty"`
	Reason      string `cbor:"5,keyasint,omitempty"`
	ReportOnly  bool   `cbor:"6,keyasint,omitempty"`
	// Expected, if set, must be the revision there is (0: none yet).
	Expected *uint64 `cbor:"7,keyasint,omitempty"`
}

// RollbackPolicy makes the content of a past revision the next one.
type RollbackPolicy struct {
	Meta     Meta    `cbor:"1,keyasint,omitempty"`
	Name     string  `cbor:"2,keyasint,omitempty"`
	Revision uint64  `cbor:"3,keyasint,omitempty"`
	Reason   string  `cbor:"4,keyasint,omitempty"`
	Expected *uint64 `cbor:"5,keyasint,omitempty"`
}

// DeletePolicy removes a policy that is attached to nobody.
type DeletePolicy struct {
	Meta Meta   `cbor:"1,keyasint,omitempty"`
	Name string `cbor:"2,keyasint,omitempty"`
}

// AttachPolicy gives a policy to a principal or to a group, see Attachment.
// Done again, it sets ExpiresAt and Reason anew.
type AttachPolicy struct {
	Meta      Meta   `cbor:"1,keyasint,omitempty"`
	Policy    string `cbor:"2,keyasint,omitempty"`
	Principal string `cbor:"3,keyasint,omitempty"`
	Group     string `cbor:"4,keyasint,omitempty"`
	Mode      string `cbor:"5,keyasint,omitempty"`
	ExpiresAt int64  `cbor:"6,keyasint,omitempty"`
	Reason    string `cbor:"7,keyasint,omitempty"`
}

// DetachPolicy takes a policy from a principal or a group.
type DetachPolicy struct {
	Meta      Meta   `cbor:"1,keyasint,omitempty"`
	Policy    string `cbor:"2,keyasint,omitempty"`
	Principal string `cbor:"3,keyasint,omitempty"`
	Group     string `cbor:"4,keyasint,omitempty"`
	Mode      string `cbor:"5,keyasint,omitempty"`
}

// PutAccessPolicy makes or replaces an access policy.
type PutAccessPolicy struct {
	Meta   Meta         `cbor:"1,keyasint,omitempty"`
	Policy AccessPolicy `cbor:"2,keyasint,omitempty"` // Revision, UpdatedAt, UpdatedBy and RequestID are set by Apply
	// Expected, if set, must be the revision there is (0: none yet).
	Expected *uint64 `cbor:"3,keyasint,omitempty"`
}

// DeleteAccessPolicy removes an access policy.
type DeleteAccessPolicy struct {
	Meta Meta   `cbor:"1,keyasint,omitempty"`
	Name string `cbor:"2,keyasint,omitempty"`
}

// Sweep does what is due at Meta.Time: destructions, purges, tokens and
// idempotency records past their time. At most Limit items are done, so that
// one entry stays small; Result.More says that there is more.
type Sweep struct {
	Meta  Meta `cbor:"1,keyasint,omitempty"`
	Limit int  `cbor:"2,keyasint,omitempty"`
	// Closed are the versions that the node of Session does not hand out any
	// more while this is decided; no other one is destroyed. Observed is what
	// it saw of their consumers and has not committed yet.
	Session  uint64          `cbor:"3,keyasint,omitempty"`
	Closed   []ClosedVersion `cbor:"4,keyasint,omitempty"`
	Observed []Observation   `cbor:"5,keyasint,omitempty"`
}

// ClosedVersion names a version.
type ClosedVersion struct {
	Path    string `cbor:"1,keyasint,omitempty"`
	Version uint64 `cbor:"2,keyasint,omitempty"`
}

// OpenLedger begins a session: from now on Node hands out values.
type OpenLedger struct {
	Meta     Meta   `cbor:"1,keyasint,omitempty"`
	Node     string `cbor:"2,keyasint,omitempty"`
	Trail    string `cbor:"3,keyasint,omitempty"`
	Boot     string `cbor:"4,keyasint,omitempty"`
	Durable  bool   `cbor:"5,keyasint,omitempty"`
	Sequence uint64 `cbor:"6,keyasint,omitempty"` // last event of its trail before
}

// Observe takes in what a node saw of consumers.
type Observe struct {
	Meta         Meta          `cbor:"1,keyasint,omitempty"`
	Observations []Observation `cbor:"2,keyasint,omitempty"`
	// Session and Sequence, if set, say that everything is in the ledger by
	// now that the session's trail tells up to that event.
	Session  uint64 `cbor:"3,keyasint,omitempty"`
	Sequence uint64 `cbor:"4,keyasint,omitempty"`
}

// SettleLedger says that all of a session has been observed, or, with Lost,
// that its end cannot be told.
type SettleLedger struct {
	Meta    Meta   `cbor:"1,keyasint,omitempty"`
	Session uint64 `cbor:"2,keyasint,omitempty"`
	Lost    bool   `cbor:"3,keyasint,omitempty"`
}

// Refusal is a decision of Apply against a command, the same on every node.
type Refusal struct {
	Code    string            `cbor:"1,keyasint,omitempty"` // a fault.Kind
	Message string            `cbor:"2,keyasint,omitempty"` // public
	Details map[string]string `cbor:"3,keyasint,omitempty"` // public
	Paths   []string          `cbor:"4,keyasint,omitempty"` // KeyInUse: up to 20 bound paths, the engine filters what the caller may see
	Count   uint64            `cbor:"5,keyasint,omitempty"` // KeyInUse: all bound secrets; VersionInUse: consumers
	Race    bool              `cbor:"6,keyasint,omitempty"` // the engine's assumption is stale: look again and retry
}

// CopySecret makes a secret at Path of the live versions of another one.
type CopySecret struct {
	Meta         Meta   `cbor:"1,keyasint,omitempty"`
	Path         string `cbor:"2,keyasint,omitempty"`
	SecretID     string `cbor:"3,keyasint,omitempty"`
	KeyID        string `cbor:"4,keyasint,omitempty"`
	ReuseRetired bool   `cbor:"5,keyasint,omitempty"`
	From         string `cbor:"6,keyasint,omitempty"` // path of the source
	FromID       string `cbor:"7,keyasint,omitempty"`
	// Versions are all live versions of the source, oldest first. They become
	// versions 1, 2, … of the copy, which is what their seals name.
	Versions []CopiedVersion `cbor:"8,keyasint,omitempty"`
}

// CopiedVersion is one version of the source, sealed anew for the copy.
type CopiedVersion struct {
	Source      uint64 `cbor:"1,keyasint,omitempty"` // its number there
	Old         []byte `cbor:"2,keyasint,omitempty"` // SHA-256 of its sealed data key there
	VersionID   string `cbor:"3,keyasint,omitempty"`
	KeyVersion  uint32 `cbor:"4,keyasint,omitempty"`
	Sealed      []byte `cbor:"5,keyasint,omitempty"`
	DataKey     []byte `cbor:"6,keyasint,omitempty"`
	Fingerprint []byte `cbor:"7,keyasint,omitempty"`
}

// Result is what Apply answers, one shape for all commands. A retry with the
// same client token gets the stored Result again, Replayed set and Index
// still that of the first time.
type Result struct {
	Index     uint64   `cbor:"1,keyasint,omitempty"`
	Refused   *Refusal `cbor:"2,keyasint,omitempty"`
	Replayed  bool     `cbor:"3,keyasint,omitempty"`
	Path      string   `cbor:"4,keyasint,omitempty"`
	SecretID  string   `cbor:"5,keyasint,omitempty"`
	Version   uint64   `cbor:"6,keyasint,omitempty"`
	VersionID string   `cbor:"7,keyasint,omitempty"`
	State     string   `cbor:"8,keyasint,omitempty"`
	DueAt     int64    `cbor:"9,keyasint,omitempty"` // destroyAt, deletionAt
	KeyID     string   `cbor:"10,keyasint,omitempty"`
	Name      string   `cbor:"11,keyasint,omitempty"`
	Revision  uint64   `cbor:"12,keyasint,omitempty"`
	TokenID   string   `cbor:"13,keyasint,omitempty"`
	More      bool     `cbor:"14,keyasint,omitempty"`
	Done      int      `cbor:"15,keyasint,omitempty"`

	JobID      string `cbor:"16,keyasint,omitempty"`
	KeyVersion uint32 `cbor:"17,keyasint,omitempty"`
	Unchanged  bool   `cbor:"18,keyasint,omitempty"` // the write asked for what is there

	RootVersion uint32 `cbor:"19,keyasint,omitempty"`
	Session     uint64 `cbor:"20,keyasint,omitempty"`

	AccessKeys int `cbor:"75,keyasint,omitempty"` // RevokeTokens: how many were deleted

	Kept []Kept `cbor:"24,keyasint,omitempty"` // Sweep: what rules had destroyed
}
