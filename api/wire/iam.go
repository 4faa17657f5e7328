package wire

// CreatePrincipalRequest makes a user or a service.
type CreatePrincipalRequest struct {
	Write
	Name        string `json:"name" doc:"name, never reused for another meaning"`
	Kind        string `json:"kind" doc:"user or service"`
	Description string `json:"description,omitzero" doc:"for people, at most 1024 bytes"`
}

// PrincipalResponse describes a principal.
type PrincipalResponse struct {
	Name        string   `json:"name"`
	Kind        string   `json:"kind"`
	Description string   `json:"description"`
	Policies    []string `json:"policies"`
	CreatedAt   *Time    `json:"createdAt"`
	CreatedBy   string   `json:"createdBy"`
}

// NameRequest names a principal, policy or access policy to read.
type NameRequest struct {
	Name        string       `json:"name" doc:"its name"`
	Consistency *Consistency `json:"consistency,omitzero" doc:"relax the read"`
}

// NameChangeRequest names a principal, policy or access policy to delete.
type NameChangeRequest struct {
	Write
	Name string `json:"name" doc:"its name"`
}

// NameResponse confirms a change of what is named.
type NameResponse struct {
	Name string `json:"name"`
}

// ListRequest is a plain list.
type ListRequest struct {
	Page
	Consistency *Consistency `json:"consistency,omitzero" doc:"relax the read"`
}

// ListPrincipalsResponse is ordered by name.
type ListPrincipalsResponse struct {
	Principals []PrincipalResponse `json:"principals"`
	NextCursor string              `json:"nextCursor,omitzero"`
}

// CreateTokenRequest makes a credential.
type CreateTokenRequest struct {
	Write
	Principal   string    `json:"principal" doc:"whose credential"`
	TTL         *Duration `json:"ttl,omitzero" doc:"how long it is valid (default 24h, at most 366d)"`
	BoundCIDRs  []string  `json:"boundCidrs,omitzero" doc:"source addresses it works from (default any)"`
	Description string    `json:"description,omitzero" doc:"for people, at most 1024 bytes"`
}

// CreateTokenResponse shows the token once. Token is a Text: a credential
// that is plain JSON text, not base64.
type CreateTokenResponse struct {
	Token     *Text  `json:"token"`
	TokenID   string `json:"tokenId"`
	ExpiresAt *Time  `json:"expiresAt"`
}

// ListTokensRequest lists the tokens of one principal, or all.
type ListTokensRequest struct {
	Page
	Principal   string       `json:"principal,omitzero" doc:"only tokens of this principal"`
	State       string       `json:"state,omitzero" doc:"only tokens in this state: active, expired or revoked (default all)"`
	Consistency *Consistency `json:"consistency,omitzero" doc:"relax the read"`
}

// ListTokensResponse never shows a token's text.
type ListTokensResponse struct {
	Tokens     []TokenSummary `json:"tokens"`
	NextCursor string         `json:"nextCursor,omitzero"`
}

// TokenSummary describes a token.
type TokenSummary struct {
	TokenID     string   `json:"tokenId"`
	Principal   string   `json:"principal"`
	Description string   `json:"description"`
	BoundCIDRs  []string `json:"boundCidrs"`
	CreatedAt   *Time    `json:"createdAt"`
	CreatedBy   string   `json:"createdBy"`
	ExpiresAt   *Time    `json:"expiresAt"`
	RevokedAt   *Time    `json:"revokedAt,omitzero"`
	State       string   `json:"state"`
	// When it was used last, about to the minute, and from where; absent if it
	// never was.
	LastUsedAt   *Time  `json:"lastUsedAt,omitzero"`
	LastUsedFrom string `json:"lastUsedFrom,omitzero"`
}

// RevokeTokenRequest ends a credential.
type RevokeTokenRequest struct {
	Write
	TokenID string `json:"tokenId" doc:"id of the token, not its text"`
}

// RevokeTokenResponse confirms.
type RevokeTokenResponse struct {
	TokenID string `json:"tokenId"`
	State   string `json:"state"`
}

// Statement is one line of a policy.
type Statement struct {
	Effect  string   `json:"effect"`
	Actions []string `json:"actions,omitzero"`
	Roles   []string `json:"roles,omitzero"`
	Paths   []string `json:"paths,omitzero"`
	Keys    []string `json:"keys,omitzero"`
	// Conditions come with a later release; a policy that has any is refused,
	// never half obeyed.
	Conditions map[string]any `json:"conditions,omitzero"`
}

// PutPolicyRequest makes or replaces a policy.
type PutPolicyRequest struct {
	Write
	Name       string      `json:"name" doc:"name of the policy"`
	Statements []Statement `json:"statements" doc:"[{\"effect\":\"allow\", \"roles\":[…], \"actions\":[…], \"paths\":[…], \"keys\":[…]}]"`
}

// PutPolicyResponse tells the revision and what a reviewer should look at.
type PutPolicyResponse struct {
	Name     string   `json:"name"`
	Revision uint64   `json:"revision"`
	Warnings []string `json:"warnings"`
}

// PolicyResponse is a policy.
type PolicyResponse struct {
	Name       string      `json:"name"`
	Revision   uint64      `json:"revision"`
	Statements []Statement `json:"statements"`
	UpdatedAt  *Time       `json:"updatedAt"`
	UpdatedBy  string      `json:"updatedBy"`
}

// ListPoliciesResponse is ordered by name.
type ListPoliciesResponse struct {
	Policies   []PolicyResponse `json:"policies"`
	NextCursor string           `json:"nextCursor,omitzero"`
}

// AttachPolicyRequest gives a policy to a principal, or takes it away.
type AttachPolicyRequest struct {
	Write
	Policy    string `json:"policy" doc:"name of the policy"`
	Principal string `json:"principal" doc:"name of the principal"`
}

// AttachPolicyResponse lists what is attached now.
type AttachPolicyResponse struct {
	Principal string   `json:"principal"`
	Policies  []string `json:"policies"`
}

// PutAccessPolicyRequest makes or replaces an access policy.
type PutAccessPolicyRequest struct {
	Write
	Name        string       `json:"name" doc:"name of the access policy"`
	Paths       []string     `json:"paths" doc:"path patterns it restricts"`
	Actions     []string     `json:"actions,omitzero" doc:"actions it restricts (default those that reveal or change a value)"`
	Principals  []string     `json:"principals,omitzero" doc:"principals it restricts (default all)"`
	SourceCIDRs []string     `json:"sourceCidrs,omitzero" doc:"addresses that may"`
	TimeWindows []TimeWindow `json:"timeWindows,omitzero" doc:"not in this release: refused"`
	NotBefore   *Time        `json:"notBefore,omitzero" doc:"refuse before"`
	NotAfter    *Time        `json:"notAfter,omitzero" doc:"refuse after"`
}

// TimeWindow is a recurring window.
type TimeWindow struct {
	Days     []string `json:"days"`
	From     string   `json:"from"`
	To       string   `json:"to"`
	Timezone string   `json:"timezone"`
}

// PutAccessPolicyResponse tells the revision.
type PutAccessPolicyResponse struct {
	Name     string `json:"name"`
	Revision uint64 `json:"revision"`
}

// AccessPolicyResponse is an access policy.
type AccessPolicyResponse struct {
	Name        string   `json:"name"`
	Revision    uint64   `json:"revision"`
	Paths       []string `json:"paths"`
	Actions     []string `json:"actions"`
	Principals  []string `json:"principals"`
	SourceCIDRs []string `json:"sourceCidrs"`
	NotBefore   *Time    `json:"notBefore,omitzero"`
	NotAfter    *Time    `json:"notAfter,omitzero"`
	UpdatedAt   *Time    `json:"updatedAt"`
	UpdatedBy   string   `json:"updatedBy"`
}

// ListAccessPoliciesResponse is ordered by name.
type ListAccessPoliciesResponse struct {
	AccessPolicies []AccessPolicyResponse `json:"accessPolicies"`
	NextCursor     string                 `json:"nextCursor,omitzero"`
}

// EmptyRequest has no fields.
type EmptyRequest struct{}

// WhoAmIResponse tells the caller how the server sees it.
type WhoAmIResponse struct {
	Principal     string   `json:"principal"`
	Kind          string   `json:"kind"`
	Groups        []string `json:"groups"`
	Policies      []string `json:"policies"`
	SourceAddress string   `json:"sourceAddress"`
	CredentialID  string   `json:"credentialId"`
	ExpiresAt     *Time    `json:"expiresAt"`
}
