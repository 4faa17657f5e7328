package wire

// UpdateKeyRequest changes what is said about a key.
type UpdateKeyRequest struct {
	Write
	KeyID       string            `json:"keyId" doc:"id of the key, or alias/NAME"`
	Description *string           `json:"description,omitzero" doc:"for people, at most 1024 bytes; absent: as it is"`
	Tags        map[string]string `json:"tags,omitzero" doc:"in place of the tags there are; absent: as they are"`
}

// AliasRequest names an alias and the key that it is to mean.
type AliasRequest struct {
	Write
	Alias string `json:"alias" doc:"alias/NAME"`
	KeyID string `json:"keyId" doc:"id of the key, or another alias/NAME"`
}

// DeleteAliasRequest takes an alias away.
type DeleteAliasRequest struct {
	Write
	Alias string `json:"alias" doc:"alias/NAME"`
}

// AliasResponse is an alias and its key.
type AliasResponse struct {
	Alias string `json:"alias"`
	KeyID string `json:"keyId"`
}

// ListAliasesRequest lists aliases.
type ListAliasesRequest struct {
	Page
	KeyID       string       `json:"keyId,omitzero" doc:"only those of this key"`
	Consistency *Consistency `json:"consistency,omitzero" doc:"relax the read"`
}

// ListAliasesResponse is ordered by alias.
type ListAliasesResponse struct {
	Aliases    []AliasResponse `json:"aliases"`
	NextCursor string          `json:"nextCursor,omitzero"`
}

// SetKeyRotationRequest sets how often a key is rotated.
type SetKeyRotationRequest struct {
	Write
	KeyID  string    `json:"keyId" doc:"id of the key, or alias/NAME"`
	Period *Duration `json:"period" doc:"1h to 3660d; 0s: no more by itself"`
}

// ListKeyVersionsRequest asks for the versions of a key.
type ListKeyVersionsRequest struct {
	Page
	KeyID       string       `json:"keyId" doc:"id of the key, or alias/NAME"`
	Consistency *Consistency `json:"consistency,omitzero" doc:"relax the read"`
}

// ListKeyVersionsResponse lists them, newest first.
type ListKeyVersionsResponse struct {
	KeyID      string       `json:"keyId"`
	Versions   []KeyVersion `json:"versions"`
	NextCursor string       `json:"nextCursor,omitzero"`
}

// KeyVersion is one generation of key material, never the material.
type KeyVersion struct {
	Version   uint32 `json:"version"`
	Current   bool   `json:"current"`
	CreatedAt *Time  `json:"createdAt"`
	CreatedBy string `json:"createdBy"`
	// SealsReserved is how many of the 2^32 seals that one version may make
	// leaders have booked.
	SealsReserved uint64 `json:"sealsReserved,omitzero"`
}

// ScheduleKeyDeletionRequest starts a key's waiting period.
type ScheduleKeyDeletionRequest struct {
	Write
	KeyID         string    `json:"keyId" doc:"id of the key, or alias/NAME"`
	WaitingPeriod *Duration `json:"waitingPeriod,omitzero" doc:"7d to 90d (default 30d); cancelKeyDeletion works until its end"`
	Reason        string    `json:"reason,omitzero" doc:"for people, at most 1024 bytes"`
}

// RetireKeyRequest moves everything that is bound to a key to another one,
// and disables the key when nothing is left.
type RetireKeyRequest struct {
	Write
	KeyID         string  `json:"keyId" doc:"the key to retire: it takes nothing new from now on"`
	ToKeyID       string  `json:"toKeyId,omitzero" doc:"the key that its secrets move to; not needed if there are none"`
	RatePerSecond *uint32 `json:"ratePerSecond,omitzero" doc:"secrets a second at most, 1-10000 (default 100)"`
}

// RetireKeyResponse says how far it is.
type RetireKeyResponse struct {
	KeyID      string `json:"keyId"`
	State      string `json:"state"`
	JobID      string `json:"jobId,omitzero"`
	EmptyIndex uint64 `json:"emptyIndex,omitzero"`
}

// MigrateBoundSecretsRequest starts a job that moves secrets from one key to
// another.
type MigrateBoundSecretsRequest struct {
	Write
	FromKeyID     string  `json:"fromKeyId" doc:"id of the key, or alias/NAME"`
	ToKeyID       string  `json:"toKeyId" doc:"id of the key, or alias/NAME"`
	RatePerSecond *uint32 `json:"ratePerSecond,omitzero" doc:"secrets a second at most, 1-10000 (default 100)"`
}

// MigrateBoundSecretsResponse names the job; describeJob shows its progress.
type MigrateBoundSecretsResponse struct {
	JobID string `json:"jobId"`
}

// BindKeyRequest binds a secret to another KMS key.
type BindKeyRequest struct {
	Write
	Path     string `json:"path" doc:"path of the secret"`
	KMSKeyID string `json:"kmsKeyId" doc:"id of the key, or alias/NAME"`
}

// BindKeyResponse says how many versions were sealed anew.
type BindKeyResponse struct {
	Path     string `json:"path"`
	KMSKeyID string `json:"kmsKeyId"`
	Versions int    `json:"versions"`
}

// JobRequest asks about a job, or changes its state.
type JobRequest struct {
	JobID       string       `json:"jobId" doc:"id of the job"`
	Consistency *Consistency `json:"consistency,omitzero" doc:"relax the read"`
}

// JobChangeRequest pauses, resumes or cancels a job.
type JobChangeRequest struct {
	Write
	JobID string `json:"jobId" doc:"id of the job"`
}

// ListJobsRequest lists jobs.
type ListJobsRequest struct {
	Page
	State       string       `json:"state,omitzero" doc:"only jobs that are running, paused, failed, done or cancelled"`
	Consistency *Consistency `json:"consistency,omitzero" doc:"relax the read"`
}

// ListJobsResponse is ordered by job id.
type ListJobsResponse struct {
	Jobs       []JobResponse `json:"jobs"`
	NextCursor string        `json:"nextCursor,omitzero"`
}

// JobResponse describes a job.
type JobResponse struct {
	JobID         string `json:"jobId"`
	Kind          string `json:"kind"`
	State         string `json:"state"`
	FromKeyID     string `json:"fromKeyId,omitzero"`
	ToKeyID       string `json:"toKeyId,omitzero"`
	Retire        bool   `json:"retire"`
	RatePerSecond uint32 `json:"ratePerSecond"`
	// Total and Done count secrets, or pieces of key material.
	Total      uint64 `json:"total"`
	Done       uint64 `json:"done"`
	Error      string `json:"error,omitzero"`
	CreatedAt  *Time  `json:"createdAt"`
	CreatedBy  string `json:"createdBy"`
	UpdatedAt  *Time  `json:"updatedAt"`
	FinishedAt *Time  `json:"finishedAt,omitzero"`
	// EmptyIndex is the index at which nothing was bound to fromKeyId, or
	// under the root key before.
	EmptyIndex uint64 `json:"emptyIndex,omitzero"`
	// RootVersion is the root key that a rotation brings.
	RootVersion uint32 `json:"rootVersion,omitzero"`
}

// KeyHealthRequest asks for the health of keys.
type KeyHealthRequest struct {
	Page
	KeyID string `json:"keyId,omitzero" doc:"only this key"`
}

// KeyHealthResponse is ordered by key id. The secrets on keys that are not
// active come with the first page: those that the caller may see.
type KeyHealthResponse struct {
	Keys                  []KeyHealth         `json:"keys"`
	SecretsOnInactiveKeys []SecretInactiveKey `json:"secretsOnInactiveKeys"`
	// SecretsOnInactiveTotal counts all of them.
	SecretsOnInactiveTotal uint64 `json:"secretsOnInactiveTotal"`
	NextCursor             string `json:"nextCursor,omitzero"`
}

// KeyHealth is one key and who can use it now.
type KeyHealth struct {
	KeyID          string      `json:"keyId"`
	Aliases        []string    `json:"aliases"`
	State          string      `json:"state"`
	BoundSecrets   uint64      `json:"boundSecrets"`
	VersionAgeDays float64     `json:"versionAgeDays"`
	NextRotationAt *Time       `json:"nextRotationAt,omitzero"`
	DeletionAt     *Time       `json:"deletionAt,omitzero"`
	LastUsedAt     *Time       `json:"lastUsedAt,omitzero"`
	Nodes          []KeyOnNode `json:"nodes"`
}

// KeyOnNode says whether a node's HSM could use the key just now.
type KeyOnNode struct {
	NodeID string `json:"nodeId"`
	Usable bool   `json:"usable"`
	Reason string `json:"reason,omitzero"`
}

// SecretInactiveKey is a secret whose key is not active.
type SecretInactiveKey struct {
	Path  string `json:"path"`
	KeyID string `json:"keyId"`
	State string `json:"state"`
}

// GetImportParametersRequest asks for the key that material is to be wrapped
// to.
type GetImportParametersRequest struct {
	Write
	KeyID string `json:"keyId" doc:"id of the key, or alias/NAME"`
}

// ImportParametersResponse is what the material of a key is to be wrapped
// with: RSA-OAEP of a fresh AES-256 key to publicKey, followed by the material
// under that key by AES key wrap with padding (RFC 5649).
type ImportParametersResponse struct {
	KeyID      string   `json:"keyId"`
	PublicKey  string   `json:"publicKey"`
	Algorithms []string `json:"algorithms"`
}

// ImportKeyMaterialRequest brings the material of a key.
type ImportKeyMaterialRequest struct {
	Write
	KeyID     string `json:"keyId" doc:"id of the key, or alias/NAME"`
	Material  Bytes  `json:"material" doc:"wrapped as getImportParameters says, base64: 32 bytes of a secret key, PKCS #8 of a private one"`
	Algorithm string `json:"algorithm" doc:"one of the algorithms of getImportParameters"`
	PublicKey string `json:"publicKey,omitzero" doc:"for EC keys: the public half, PEM"`
}
