package wire

// CreateAccessKeyRequest makes a credential for signed requests.
type CreateAccessKeyRequest struct {
	Write
	Principal   string    `json:"principal" doc:"whose credential"`
	TTL         *Duration `json:"ttl,omitzero" doc:"how long it is valid (default 90d, at most 366d)"`
	BoundCIDRs  []string  `json:"boundCidrs,omitzero" doc:"source addresses it works from (default any)"`
	Description string    `json:"description,omitzero" doc:"for people, at most 1024 bytes"`
}

// CreateAccessKeyResponse shows the secret once.
type CreateAccessKeyResponse struct {
	AccessKeyID     string `json:"accessKeyId"`
	SecretAccessKey *Text  `json:"secretAccessKey"`
	ExpiresAt       *Time  `json:"expiresAt"`
}

// ListAccessKeysRequest lists the access keys of one principal, or all.
type ListAccessKeysRequest struct {
	Page
	Principal   string       `json:"principal,omitzero" doc:"only access keys of this principal"`
	Consistency *Consistency `json:"consistency,omitzero" doc:"relax the read"`
}

// ListAccessKeysResponse never shows a secret.
type ListAccessKeysResponse struct {
	AccessKeys []AccessKeySummary `json:"accessKeys"`
	NextCursor string             `json:"nextCursor,omitzero"`
}

// AccessKeySummary describes an access key. State is active or expired: one
// that was deleted is gone.
type AccessKeySummary struct {
	AccessKeyID string   `json:"accessKeyId"`
	Principal   string   `json:"principal"`
	Description string   `json:"description"`
	BoundCIDRs  []string `json:"boundCidrs"`
	CreatedAt   *Time    `json:"createdAt"`
	CreatedBy   string   `json:"createdBy"`
	ExpiresAt   *Time    `json:"expiresAt"`
	State       string   `json:"state"`
	// When it was used last, about to the minute, and from where; absent if it
	// never was.
	LastUsedAt   *Time  `json:"lastUsedAt,omitzero"`
	LastUsedFrom string `json:"lastUsedFrom,omitzero"`
}

// DeleteAccessKeyRequest ends an access key.
type DeleteAccessKeyRequest struct {
	Write
	AccessKeyID string `json:"accessKeyId" doc:"id of the access key, not its secret"`
}

// DeleteAccessKeyResponse confirms.
type DeleteAccessKeyResponse struct {
	AccessKeyID string `json:"accessKeyId"`
	State       string `json:"state"`
}

// RevokeTokensRequest ends the credentials of a principal.
type RevokeTokensRequest struct {
	Write
	Principal  string `json:"principal" doc:"whose tokens"`
	AccessKeys bool   `json:"accessKeys,omitzero" doc:"delete the access keys of the principal as well"`
}

// RevokeTokensResponse counts what was ended by this request.
type RevokeTokensResponse struct {
	Principal         string `json:"principal"`
	RevokedTokens     int    `json:"revokedTokens"`
	DeletedAccessKeys int    `json:"deletedAccessKeys"`
}

// LogoutRequest ends the token that it is made with.
type LogoutRequest struct {
	Write
}
