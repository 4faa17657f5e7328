package wire

// CreateKeyRequest makes a KMS key; its material is born in the HSM.
type CreateKeyRequest struct {
	Write
	Alias       string            `json:"alias,omitzero" doc:"first alias, alias/NAME"`
	Spec        string            `json:"spec,omitzero" doc:"aes-256 (default), hmac-256, rsa-2048, rsa-3072, rsa-4096, ec-p256 or ec-p384"`
	Usage       string            `json:"usage,omitzero" doc:"encrypt, sign or mac; default: encrypt for aes-256, mac for hmac-256, sign for the others"`
	Origin      string            `json:"origin,omitzero" doc:"hsm (default): born in the HSM; imported: the key waits for importKeyMaterial"`
	Description string            `json:"description,omitzero" doc:"for people, at most 1024 bytes"`
	Tags        map[string]string `json:"tags,omitzero" doc:"at most 50 names with values"`
}

// KeyRequest asks about one key.
type KeyRequest struct {
	KeyID       string       `json:"keyId" doc:"id of the key, or alias/NAME"`
	Consistency *Consistency `json:"consistency,omitzero" doc:"relax the read"`
}

// KeyChangeRequest disables or enables a key.
type KeyChangeRequest struct {
	Write
	KeyID string `json:"keyId" doc:"id of the key, or alias/NAME"`
}

// KeyResponse describes a key.
type KeyResponse struct {
	KeyID          string            `json:"keyId"`
	Spec           string            `json:"spec"`
	Usage          string            `json:"usage"`
	State          string            `json:"state"`
	Origin         string            `json:"origin"`
	CurrentVersion uint32            `json:"currentVersion"`
	Aliases        []string          `json:"aliases"`
	BoundSecrets   uint64            `json:"boundSecrets"`
	Description    string            `json:"description"`
	Tags           map[string]string `json:"tags"`
	CreatedAt      *Time             `json:"createdAt"`
	CreatedBy      string            `json:"createdBy"`
	UpdatedAt      *Time             `json:"updatedAt"`
	DeletionAt     *Time             `json:"deletionAt,omitzero"`
	DeletedBy      string            `json:"deletedBy,omitzero"`
	DeleteReason   string            `json:"deleteReason,omitzero"`
	DestroyedAt    *Time             `json:"destroyedAt,omitzero"`
	Rotation       *KeyRotation      `json:"rotation,omitzero"`
	LastUsedAt     *Time             `json:"lastUsedAt,omitzero"`
	EmptyIndex     uint64            `json:"emptyIndex,omitzero"`
	Algorithms     []string          `json:"algorithms,omitzero"`
}

// KeyRotation is a key's schedule.
type KeyRotation struct {
	Period         *Duration `json:"period"`
	NextRotationAt *Time     `json:"nextRotationAt"`
}

// ListKeysRequest lists keys.
type ListKeysRequest struct {
	Page
	Consistency *Consistency `json:"consistency,omitzero" doc:"relax the read"`
}

// ListKeysResponse is ordered by key id.
type ListKeysResponse struct {
	Keys       []KeyResponse `json:"keys"`
	NextCursor string        `json:"nextCursor,omitzero"`
}

// EncryptRequest seals up to 4 KiB under a key; under an RSA key, what
// RSA-OAEP has room for.
type EncryptRequest struct {
	KeyID     string            `json:"keyId" doc:"id of the key, or alias/NAME"`
	Plaintext *Value            `json:"plaintext" doc:"at most 4096 bytes, base64"`
	Context   map[string]string `json:"context,omitzero" doc:"bound as additional authenticated data; decrypt needs the same"`
}

// EncryptResponse carries a self-describing ciphertext.
type EncryptResponse struct {
	Ciphertext Bytes  `json:"ciphertext"`
	KeyID      string `json:"keyId"`
	KeyVersion uint32 `json:"keyVersion"`
}

// DecryptRequest opens what encrypt made.
type DecryptRequest struct {
	Ciphertext Bytes             `json:"ciphertext" doc:"what encrypt or generateDataKey answered, base64; with algorithm, an RSA-OAEP ciphertext that was made with the public key"`
	Context    map[string]string `json:"context,omitzero" doc:"the context that was given to encrypt"`
	KeyID      string            `json:"keyId,omitzero" doc:"refuse unless the ciphertext is of this key; with algorithm it is needed"`
	Algorithm  string            `json:"algorithm,omitzero" doc:"rsa-oaep-sha1 or rsa-oaep-sha256: the ciphertext was made outside Strongroom"`
	KeyVersion uint32            `json:"keyVersion,omitzero" doc:"with algorithm: the version whose public key was used (default the current one)"`
}

// DecryptResponse carries the plaintext.
type DecryptResponse struct {
	Plaintext  *Value `json:"plaintext"`
	KeyID      string `json:"keyId"`
	KeyVersion uint32 `json:"keyVersion"`
}

// ListBoundSecretsRequest asks what needs a key.
type ListBoundSecretsRequest struct {
	Page
	KeyID       string       `json:"keyId" doc:"id of the key, or alias/NAME"`
	Consistency *Consistency `json:"consistency,omitzero" doc:"relax the read"`
}

// ListBoundSecretsResponse lists secrets that the caller may see; total
// counts all.
type ListBoundSecretsResponse struct {
	Secrets    []BoundSecret `json:"secrets"`
	Total      uint64        `json:"total"`
	NextCursor string        `json:"nextCursor,omitzero"`
}

// BoundSecret is a secret with live versions under a key.
type BoundSecret struct {
	Path     string `json:"path"`
	Versions int    `json:"versions"`
}
