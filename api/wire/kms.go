package wire

// CreateKeyRequest makes a KMS key; its material is born in the HSM.
type CreateKeyRequest struct {
	Write
	Alias       string            `json:"alias,omitzero" doc:"first alias, alias/NAME"`
	Spec        string            `json:"spec,omitzero" doc:"aes-256 (default)"`
	Usage       string            `json:"usage,omitzero" doc:"encrypt (default)"`
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
	DeletionAt     *Time             `json:"deletionAt,omitzero"`
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

// EncryptRequest seals up to 4 KiB under a key.
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
	Ciphertext Bytes             `json:"ciphertext" doc:"what encrypt answered, base64"`
	Context    map[string]string `json:"context,omitzero" doc:"the context that was given to encrypt"`
	KeyID      string            `json:"keyId,omitzero" doc:"refuse unless the ciphertext is of this key"`
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
