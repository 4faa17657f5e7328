package wire

import "time"

// Doc tags are the one-line help of the CLI and the API reference.

// Write is embedded by requests that change something.
type Write struct {
	ClientToken string `json:"clientToken,omitzero" doc:"makes a retry safe: the same token with the same request within 24 h answers the first result (at most 64 characters)"`
}

// VersionLife is embedded by requests that make a version.
type VersionLife struct {
	ExpiresAt    *Time     `json:"expiresAt,omitzero" doc:"when the version expires: from then on nobody can read it"`
	NotifyBefore *Duration `json:"notifyBefore,omitzero" doc:"so long before expiresAt the event secrets.version_expires_soon tells of it, once (1s to 366d)"`
	Reason       string    `json:"reason,omitzero" doc:"why the version is made; kept in the history, at most 1024 bytes"`
}

// CreateSecretRequest makes a path, with a first value if one is given.
type CreateSecretRequest struct {
	Write
	Path             string            `json:"path" doc:"identity of the secret, such as /app/{env}/{service}/{name}"`
	Description      string            `json:"description,omitzero" doc:"for people, at most 1024 bytes"`
	Tags             map[string]string `json:"tags,omitzero" doc:"at most 50 names with values"`
	KMSKeyID         string            `json:"kmsKeyId,omitzero" doc:"KMS key to bind to: an id or alias/NAME (default that of the path rule, else alias/default)"`
	Value            *Value            `json:"value,omitzero" doc:"first value, base64"`
	ContentType      string            `json:"contentType,omitzero" doc:"media type of the first value"`
	Generate         *GenerateSpec     `json:"generate,omitzero" doc:"have the first value generated"`
	ReuseRetiredPath bool              `json:"reuseRetiredPath,omitzero" doc:"take a path whose secret was purged"`
	VersionLife
}

// CreateSecretResponse names what was made.
type CreateSecretResponse struct {
	Path      string  `json:"path"`
	SecretID  string  `json:"secretId"`
	Version   *uint64 `json:"version,omitzero"`
	VersionID string  `json:"versionId,omitzero"`
	PublicKey string  `json:"publicKey,omitzero"` // of a generated key, PEM
}

// PutSecretValueRequest adds a version.
type PutSecretValueRequest struct {
	Write
	Path            string  `json:"path" doc:"path of the secret"`
	Value           *Value  `json:"value" doc:"the value, base64"`
	ContentType     string  `json:"contentType,omitzero" doc:"media type of the value"`
	Activate        *bool   `json:"activate,omitzero" doc:"make it the current version (default true)"`
	ExpectedVersion *uint64 `json:"expectedVersion,omitzero" doc:"refuse unless this is the current version (0: none yet)"`
	VersionLife
}

// PutSecretValueResponse names the version that now holds the value.
type PutSecretValueResponse struct {
	Path      string   `json:"path"`
	Version   uint64   `json:"version"`
	VersionID string   `json:"versionId"`
	Unchanged bool     `json:"unchanged"`
	Labels    []string `json:"labels"`
}

// GenerateSpec says what to generate.
type GenerateSpec struct {
	Kind    string   `json:"kind" doc:"password, passphrase, bytes, hex, base64, uuid, rsa, ec or ed25519; the last three are private keys, PKCS #8 in PEM"`
	Length  *int     `json:"length,omitzero" doc:"characters of a password, random bytes of bytes, hex and base64 (default 32)"`
	Include []string `json:"include,omitzero" doc:"classes of a password: lower, upper, digits, symbols (default all)"`
	Exclude string   `json:"exclude,omitzero" doc:"characters that a password must not have"`
	Require []string `json:"require,omitzero" doc:"classes of which a password must have at least one (default all included)"`

	Words      *int   `json:"words,omitzero" doc:"words of a passphrase, from the large list of the EFF (default 6, 4 to 64)"`
	Separator  string `json:"separator,omitzero" doc:"character between the words, no letter and no digit (default -)"`
	Capitalize bool   `json:"capitalize,omitzero" doc:"begin each word of a passphrase with a capital"`
	Bits       *int   `json:"bits,omitzero" doc:"length of an rsa key: 2048, 3072 or 4096 (default 3072)"`
	Curve      string `json:"curve,omitzero" doc:"curve of an ec key: p256 or p384 (default p256)"`
}

// GenerateSecretRequest has the server make a value.
type GenerateSecretRequest struct {
	Write
	GenerateSpec
	Path            string            `json:"path" doc:"path of the secret"`
	Create          bool              `json:"create,omitzero" doc:"make the secret if it is not there"`
	Reveal          bool              `json:"reveal,omitzero" doc:"answer the value too; needs the right to read it"`
	KMSKeyID        string            `json:"kmsKeyId,omitzero" doc:"with create: the KMS key to bind to (default that of the path rule, else alias/default)"`
	Tags            map[string]string `json:"tags,omitzero" doc:"with create: tags of the secret, which a path rule may require"`
	ExpectedVersion *uint64           `json:"expectedVersion,omitzero" doc:"refuse unless this is the current version (0: none yet)"`
	VersionLife
}

// GenerateSecretResponse answers the value only to who asked for it and may
// read it.
type GenerateSecretResponse struct {
	Path        string  `json:"path"`
	Version     uint64  `json:"version"`
	VersionID   string  `json:"versionId"`
	Fingerprint string  `json:"fingerprint"`
	EntropyBits float64 `json:"entropyBits"`        // of keys: their security strength
	PublicKey   string  `json:"publicKey,omitzero"` // of a key, PEM
	Value       *Value  `json:"value,omitzero"`
}

// GetSecretValueRequest reads one value.
type GetSecretValueRequest struct {
	Path         string  `json:"path" doc:"path of the secret"`
	Version      *uint64 `json:"version,omitzero" doc:"number of the version (default the current one)"`
	Label        string  `json:"label,omitzero" doc:"label of the version, instead of its number"`
	IfNotVersion *uint64 `json:"ifNotVersion,omitzero" doc:"answer notModified, and open nothing, if this is the version"`
	Instance     string  `json:"instance,omitzero" doc:"which instance of the caller asks"`
}

// GetSecretValueResponse carries a value, or notModified.
type GetSecretValueResponse struct {
	Path        string   `json:"path"`
	Value       *Value   `json:"value,omitzero"`
	Version     uint64   `json:"version"`
	VersionID   string   `json:"versionId"`
	NotModified bool     `json:"notModified,omitzero"`
	Labels      []string `json:"labels"`
	ContentType string   `json:"contentType,omitzero"`
	CreatedAt   *Time    `json:"createdAt"`
	ExpiresAt   *Time    `json:"expiresAt,omitzero"`
	Cache       Cache    `json:"cache"`
	KMS         KeyUse   `json:"kms"`
	// Compromised says that somebody has the value who should not.
	Compromised bool `json:"compromised,omitzero"`
}

// Cache tells how long an application may keep a value.
type Cache struct {
	MaxAge Duration `json:"maxAge"`
}

// KeyUse names the key and key version that a value is sealed under.
type KeyUse struct {
	KeyID      string `json:"keyId"`
	KeyVersion uint32 `json:"keyVersion"`
}

// BatchGetSecretValueRequest reads up to 100 values.
type BatchGetSecretValueRequest struct {
	Items    []BatchItem `json:"items" doc:"what to read: [{\"path\":…, \"version\":…, \"label\":…, \"ifNotVersion\":…}], at most 100"`
	Instance string      `json:"instance,omitzero" doc:"which instance of the caller asks"`
}

// BatchItem is one read of a batch.
type BatchItem struct {
	Path         string  `json:"path"`
	Version      *uint64 `json:"version,omitzero"`
	Label        string  `json:"label,omitzero"`
	IfNotVersion *uint64 `json:"ifNotVersion,omitzero"`
}

// BatchGetSecretValueResponse has one result for each item, in order.
type BatchGetSecretValueResponse struct {
	Results []BatchResult `json:"results"`
}

// BatchResult is a getSecretValue answer, or an error.
type BatchResult struct {
	Path  string     `json:"path"`
	Error *ItemError `json:"error,omitzero"`
	*GetSecretValueResponse
}

// ItemError is a failure of one item.
type ItemError struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

// PathRequest asks about one secret.
type PathRequest struct {
	Path        string       `json:"path" doc:"path of the secret"`
	Consistency *Consistency `json:"consistency,omitzero" doc:"relax the read"`
}

// DescribeSecretResponse is metadata, never a value.
type DescribeSecretResponse struct {
	Path           string            `json:"path"`
	SecretID       string            `json:"secretId"`
	State          string            `json:"state"`
	KMSKeyID       string            `json:"kmsKeyId"`
	KMSKeyState    string            `json:"kmsKeyState"`
	CurrentVersion uint64            `json:"currentVersion"`
	LatestVersion  uint64            `json:"latestVersion"`
	Labels         map[string]uint64 `json:"labels"`
	Description    string            `json:"description"`
	Tags           map[string]string `json:"tags"`
	CreatedAt      *Time             `json:"createdAt"`
	CreatedBy      string            `json:"createdBy"`
	UpdatedAt      *Time             `json:"updatedAt"`
	UpdatedBy      string            `json:"updatedBy"`
	DeletedAt      *Time             `json:"deletedAt,omitzero"`
	DeletionAt     *Time             `json:"deletionAt,omitzero"`
	Rule           *SecretRule       `json:"rule,omitzero"` // absent: no path rule covers it
	Rotation       *RotationStatus   `json:"rotation,omitzero"`
}

// ListSecretsRequest browses or lists.
type ListSecretsRequest struct {
	Page
	Prefix      string            `json:"prefix,omitzero" doc:"where in the tree (default /)"`
	Recursive   bool              `json:"recursive,omitzero" doc:"all secrets below, not one level"`
	Tags        map[string]string `json:"tags,omitzero" doc:"only secrets with these tags"`
	Text        string            `json:"text,omitzero" doc:"only secrets whose path or description holds this text, in this case; a page may come back with few entries or none, and a nextCursor to go on from"`
	Consistency *Consistency      `json:"consistency,omitzero" doc:"relax the read"`
}

// ListSecretsResponse shows what the caller may see.
type ListSecretsResponse struct {
	Folders    []string        `json:"folders"`
	Secrets    []SecretSummary `json:"secrets"`
	NextCursor string          `json:"nextCursor,omitzero"`
}

// SecretSummary is one line of a list.
type SecretSummary struct {
	Path           string `json:"path"`
	CurrentVersion uint64 `json:"currentVersion"`
	State          string `json:"state"`
	KMSKeyID       string `json:"kmsKeyId"`
	UpdatedAt      *Time  `json:"updatedAt"`
}

// ListSecretVersionsRequest asks for the history.
type ListSecretVersionsRequest struct {
	Page
	Path        string       `json:"path" doc:"path of the secret"`
	Consistency *Consistency `json:"consistency,omitzero" doc:"relax the read"`
}

// ListSecretVersionsResponse is the whole history, newest first, destroyed
// versions included.
type ListSecretVersionsResponse struct {
	Path       string           `json:"path"`
	Versions   []VersionSummary `json:"versions"`
	NextCursor string           `json:"nextCursor,omitzero"`
}

// VersionSummary is the story of one version.
type VersionSummary struct {
	Version       uint64   `json:"version"`
	VersionID     string   `json:"versionId"`
	State         string   `json:"state"`
	Labels        []string `json:"labels"`
	Size          uint32   `json:"size"`
	ContentType   string   `json:"contentType,omitzero"`
	KMSKeyID      string   `json:"kmsKeyId"`
	KMSKeyVersion uint32   `json:"kmsKeyVersion"`
	CreatedAt     *Time    `json:"createdAt"`
	CreatedBy     string   `json:"createdBy"`
	RequestID     string   `json:"requestId"`
	ExpiresAt     *Time    `json:"expiresAt,omitzero"`
	DestroyAt     *Time    `json:"destroyAt,omitzero"`
	DestroyedAt   *Time    `json:"destroyedAt,omitzero"`
	DestroyedBy   string   `json:"destroyedBy,omitzero"`
	Reason        string   `json:"reason,omitzero"` // why it was, or will be, destroyed
	LastReadAt    *Time    `json:"lastReadAt"`

	NotifyBefore *Duration `json:"notifyBefore,omitzero"`
	NotifiedAt   *Time     `json:"notifiedAt,omitzero"`
	// Changes are its creation and the latest 50 after it, oldest first;
	// ChangesOmitted counts those between, which the trail still has.
	Changes        []VersionChange `json:"changes"`
	ChangesOmitted uint64          `json:"changesOmitted,omitzero"`
	// Compromised is there while the version is marked so.
	Compromised *Compromised `json:"compromised,omitzero"`
}

// VersionChange is one line of a version's history.
type VersionChange struct {
	At        *Time  `json:"at"`
	By        string `json:"by"`
	RequestID string `json:"requestId"`
	What      string `json:"what"` // created, activated, replaced, labelled, unlabelled, disabled, enabled, destroyScheduled, destroyCancelled, destroyed, compromised, compromisedCleared
	Label     string `json:"label,omitzero"`
	Reason    string `json:"reason,omitzero"`
}

// SetVersionLabelRequest puts a label on a version.
type SetVersionLabelRequest struct {
	Write
	Path            string  `json:"path" doc:"path of the secret"`
	Version         *uint64 `json:"version" doc:"number of the version"`
	Label           string  `json:"label" doc:"name of the label; current activates the version; previous is kept by the server"`
	ExpectedVersion *uint64 `json:"expectedVersion,omitzero" doc:"refuse unless this is the current version"`
	Reason          string  `json:"reason,omitzero" doc:"kept in the history, at most 1024 bytes"`
}

// RemoveVersionLabelRequest takes a label away.
type RemoveVersionLabelRequest struct {
	Write
	Path            string  `json:"path" doc:"path of the secret"`
	Label           string  `json:"label" doc:"name of the label"`
	Version         *uint64 `json:"version,omitzero" doc:"refuse unless this version has the label"`
	ExpectedVersion *uint64 `json:"expectedVersion,omitzero" doc:"refuse unless this is the current version"`
	Reason          string  `json:"reason,omitzero" doc:"kept in the history, at most 1024 bytes"`
}

// VersionLabelResponse tells all labels of the secret after the change.
type VersionLabelResponse struct {
	Path           string            `json:"path"`
	Version        uint64            `json:"version"`
	Label          string            `json:"label"`
	CurrentVersion uint64            `json:"currentVersion"`
	Labels         map[string]uint64 `json:"labels"`
}

// VersionChangeRequest disables or enables a version.
type VersionChangeRequest struct {
	Write
	Path    string  `json:"path" doc:"path of the secret"`
	Version *uint64 `json:"version" doc:"number of the version"`
	Reason  string  `json:"reason,omitzero" doc:"kept in the history, at most 1024 bytes"`
}

// UpdateSecretRequest changes what is said about a secret.
type UpdateSecretRequest struct {
	Write
	Path        string            `json:"path" doc:"path of the secret"`
	Description *string           `json:"description,omitzero" doc:"for people, at most 1024 bytes; absent: as it is"`
	Tags        map[string]string `json:"tags,omitzero" doc:"in place of the tags there are; absent: as they are"`
	Rotation    *RotationSettings `json:"rotation,omitzero" doc:"when and how the secret is rotated, in place of the settings there are; absent: as they are"`
}

// DestroyVersionRequest erases a version for good.
type DestroyVersionRequest struct {
	Write
	Path    string    `json:"path" doc:"path of the secret"`
	Version *uint64   `json:"version" doc:"number of the version; never the current one"`
	Reason  string    `json:"reason,omitzero" doc:"kept in the history, at most 1024 bytes"`
	Delay   *Duration `json:"delay,omitzero" doc:"destroy later, cancellable until then"`
	Force   bool      `json:"force,omitzero" doc:"destroy it though consumers may hold it; needs secrets:forceDestroyVersion and a reason"`
}

// VersionStateResponse tells the state of a version after a change.
type VersionStateResponse struct {
	Path      string `json:"path"`
	Version   uint64 `json:"version"`
	State     string `json:"state"`
	DestroyAt *Time  `json:"destroyAt,omitzero"`
}

// CancelDestroyVersionRequest takes a delayed destruction back.
type CancelDestroyVersionRequest struct {
	Write
	Path    string  `json:"path" doc:"path of the secret"`
	Version *uint64 `json:"version" doc:"number of the version"`
	Reason  string  `json:"reason,omitzero" doc:"kept in the history, at most 1024 bytes"`
}

// DeleteSecretRequest starts the recovery window.
type DeleteSecretRequest struct {
	Write
	Path           string    `json:"path" doc:"path of the secret"`
	RecoveryWindow *Duration `json:"recoveryWindow,omitzero" doc:"7d to 90d (default 30d)"`
	Force          bool      `json:"force,omitzero" doc:"purge at once; needs secrets:purgeSecret"`
	Reason         string    `json:"reason,omitzero" doc:"for the audit trail, at most 1024 bytes"`
}

// SecretStateResponse tells the state of a secret after a change.
type SecretStateResponse struct {
	Path       string `json:"path"`
	SecretID   string `json:"secretId"`
	State      string `json:"state"`
	DeletionAt *Time  `json:"deletionAt,omitzero"`
}

// RestoreSecretRequest ends a recovery window.
type RestoreSecretRequest struct {
	Write
	Path string `json:"path" doc:"path of the secret"`
}

// GetUsageRequest asks what the secrets below a prefix take.
type GetUsageRequest struct {
	Prefix      string       `json:"prefix,omitzero" doc:"where in the tree (default /)"`
	Consistency *Consistency `json:"consistency,omitzero" doc:"relax the read"`
}

// GetUsageResponse counts the secrets that the caller may ask about.
type GetUsageResponse struct {
	Prefix         string  `json:"prefix"`
	Secrets        uint64  `json:"secrets"`        // those in their recovery window included
	StoredVersions uint64  `json:"storedVersions"` // not destroyed
	StoredBytes    uint64  `json:"storedBytes"`    // of their values
	VersionHours   float64 `json:"versionHours"`   // this month, UTC, destroyed versions until they were
	CountedAt      *Time   `json:"countedAt"`      // the end of what is counted; its month is the one
	// Quotas are those of the rules of this prefix and of shorter ones, as far
	// as the caller may know the usage of all that they are about.
	Quotas []Quota `json:"quotas,omitzero"`
}

// WaitForChangeRequest waits for news about secrets, never for values.
type WaitForChangeRequest struct {
	Paths      []string  `json:"paths,omitzero" doc:"the secrets to watch, at most 100; one that is not there yet may come"`
	Prefix     string    `json:"prefix,omitzero" doc:"watch all secrets below that the caller may see, instead of paths"`
	AfterIndex uint64    `json:"afterIndex,omitzero" doc:"index of the answer before (default 0: what is there is news)"`
	Timeout    *Duration `json:"timeout,omitzero" doc:"how long to wait, at most 60s (default 30s; 0s: do not wait)"`
}

// MayWait answers for how long the request may keep its answer waiting
// besides what every request takes.
func (*WaitForChangeRequest) MayWait() time.Duration { return 60 * time.Second }

// WaitForChangeResponse has no changes if none came in time.
type WaitForChangeResponse struct {
	Changes []SecretChange `json:"changes"` // in the order of their index
	Index   uint64         `json:"index"`   // afterIndex of the next request
}

// SecretChange says that a secret is not what it was. Version 0: it has no
// current one, or is gone.
type SecretChange struct {
	Path           string `json:"path"`
	CurrentVersion uint64 `json:"currentVersion"`
	Index          uint64 `json:"index"` // of its last change
}

// CopySecretRequest makes a secret of the live versions of another one.
type CopySecretRequest struct {
	Write
	Path             string `json:"path" doc:"path of the secret to copy"`
	ToPath           string `json:"toPath" doc:"path of the copy"`
	KMSKeyID         string `json:"kmsKeyId,omitzero" doc:"KMS key to bind the copy to: an id or alias/NAME (default the key of the secret)"`
	ReuseRetiredPath bool   `json:"reuseRetiredPath,omitzero" doc:"take a path whose secret was purged"`
}

// CopySecretResponse names the copy. No value is shown.
type CopySecretResponse struct {
	Path           string `json:"path"`
	SecretID       string `json:"secretId"`
	KMSKeyID       string `json:"kmsKeyId"`
	Versions       int    `json:"versions"` // how many were copied; they are numbered from 1
	CurrentVersion uint64 `json:"currentVersion"`
}
