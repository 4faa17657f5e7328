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
	// Attached is all that is attached to it, in every mode; Policies names
	// what is attached as a grant without end. Groups are those it was put
	// into. Lists of principals leave both out.
	Attached []Attachment `json:"attached,omitzero"`
	Groups   []GroupOf    `json:"groups,omitzero"`
	// Quarantined is there while the principal may do nothing.
	Quarantined *Quarantined `json:"quarantined,omitzero"`
}

// Attachment is a policy with how it is attached.
type Attachment struct {
	Policy     string `json:"policy"`
	Mode       string `json:"mode"`
	ExpiresAt  *Time  `json:"expiresAt,omitzero"`
	AttachedAt *Time  `json:"attachedAt,omitzero"`
	AttachedBy string `json:"attachedBy,omitzero"`
	Reason     string `json:"reason,omitzero"`
}

// GroupOf is a group that a principal is in.
type GroupOf struct {
	Group     string `json:"group"`
	ExpiresAt *Time  `json:"expiresAt,omitzero"`
	AddedAt   *Time  `json:"addedAt"`
	AddedBy   string `json:"addedBy"`
	Reason    string `json:"reason,omitzero"`
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
	Effect     string      `json:"effect"`
	Actions    []string    `json:"actions,omitzero"`
	Roles      []string    `json:"roles,omitzero"`
	Paths      []string    `json:"paths,omitzero"`
	Keys       []string    `json:"keys,omitzero"`
	Conditions *Conditions `json:"conditions,omitzero"`
	Approval   *Approval   `json:"approval,omitzero"`
}

// Conditions narrow a statement: all that are given must hold, each by any
// one of its entries.
type Conditions struct {
	SourceCIDRs []string            `json:"sourceCidrs,omitzero"`
	TimeWindows []TimeWindow        `json:"timeWindows,omitzero"`
	NotBefore   *Time               `json:"notBefore,omitzero"`
	NotAfter    *Time               `json:"notAfter,omitzero"`
	AuthMethods []string            `json:"authMethods,omitzero"`
	Groups      []string            `json:"groups,omitzero"`
	Tags        map[string][]string `json:"tags,omitzero"`
}

// Approval says who must approve a request, of a statement with the effect
// requireApproval. Count is 1 if it is left out.
type Approval struct {
	Principals []string  `json:"principals,omitzero"`
	Groups     []string  `json:"groups,omitzero"`
	Count      *int      `json:"count,omitzero"`
	ValidFor   *Duration `json:"validFor,omitzero"`
}

// PutPolicyRequest makes or replaces a policy.
type PutPolicyRequest struct {
	Write
	Name             string      `json:"name" doc:"name of the policy"`
	Statements       []Statement `json:"statements" doc:"[{\"effect\":\"allow\" or \"deny\" or \"requireApproval\", \"roles\":[…], \"actions\":[…], \"paths\":[…], \"keys\":[…], \"conditions\":{…}}]"`
	Description      string      `json:"description,omitzero" doc:"for people, at most 1024 bytes"`
	Reason           string      `json:"reason,omitzero" doc:"why, kept with this revision, at most 1024 bytes"`
	ReportOnly       bool        `json:"reportOnly,omitzero" doc:"decide nothing, and report in events and metrics what would be decided otherwise"`
	ExpectedRevision *uint64     `json:"expectedRevision,omitzero" doc:"refuse unless the policy is at this revision (0: there is none yet)"`
}

// PutPolicyResponse tells the revision and what a reviewer should look at.
type PutPolicyResponse struct {
	Name     string   `json:"name"`
	Revision uint64   `json:"revision"`
	Warnings []string `json:"warnings"`
}

// GetPolicyRequest asks for a policy, or for a past revision of it.
type GetPolicyRequest struct {
	Name        string       `json:"name" doc:"its name"`
	Revision    *uint64      `json:"revision,omitzero" doc:"a past revision (default the current one)"`
	Consistency *Consistency `json:"consistency,omitzero" doc:"relax the read"`
}

// PolicyResponse is a policy.
type PolicyResponse struct {
	Name         string      `json:"name"`
	Revision     uint64      `json:"revision"`
	Statements   []Statement `json:"statements"`
	Description  string      `json:"description,omitzero"`
	ReportOnly   bool        `json:"reportOnly,omitzero"`
	Reason       string      `json:"reason,omitzero"`
	RolledBackTo uint64      `json:"rolledBackTo,omitzero"`
	UpdatedAt    *Time       `json:"updatedAt"`
	UpdatedBy    string      `json:"updatedBy"`
	RequestID    string      `json:"requestId,omitzero"`
	// Holders are who it is attached to; only getPolicy of the current
	// revision answers them.
	Holders []PolicyHolder `json:"holders,omitzero"`
}

// PolicyHolder is a principal or a group that a policy is attached to.
type PolicyHolder struct {
	Principal string `json:"principal,omitzero"`
	Group     string `json:"group,omitzero"`
	Mode      string `json:"mode"`
}

// ListPoliciesResponse is ordered by name.
type ListPoliciesResponse struct {
	Policies   []PolicyResponse `json:"policies"`
	NextCursor string           `json:"nextCursor,omitzero"`
}

// ListPolicyRevisionsRequest asks for the history of a policy.
type ListPolicyRevisionsRequest struct {
	Page
	Name        string       `json:"name" doc:"its name"`
	Consistency *Consistency `json:"consistency,omitzero" doc:"relax the read"`
}

// ListPolicyRevisionsResponse is the history, newest first, the current
// revision included.
type ListPolicyRevisionsResponse struct {
	Revisions  []PolicyResponse `json:"revisions"`
	NextCursor string           `json:"nextCursor,omitzero"`
}

// RollbackPolicyRequest makes a past revision the next one.
type RollbackPolicyRequest struct {
	Write
	Name             string  `json:"name" doc:"its name"`
	Revision         *uint64 `json:"revision" doc:"the revision whose statements are to hold again"`
	Reason           string  `json:"reason,omitzero" doc:"why, kept with the new revision, at most 1024 bytes"`
	ExpectedRevision *uint64 `json:"expectedRevision,omitzero" doc:"refuse unless the policy is at this revision"`
}

// AttachPolicyRequest gives a policy to a principal or a group.
type AttachPolicyRequest struct {
	Write
	Policy    string    `json:"policy" doc:"name of the policy"`
	Principal string    `json:"principal,omitzero" doc:"name of the principal"`
	Group     string    `json:"group,omitzero" doc:"or of the group; everyone is the group that all are in"`
	Mode      string    `json:"mode,omitzero" doc:"grant (default); boundary: caps what the holder can ever get; breakGlass: holds while a break-glass session of the holder is open"`
	TTL       *Duration `json:"ttl,omitzero" doc:"end by itself after this time, such as 2h (1s to 366d; default never)"`
	Reason    string    `json:"reason,omitzero" doc:"why, kept with the attachment, at most 1024 bytes"`
}

// DetachPolicyRequest takes a policy from a principal or a group.
type DetachPolicyRequest struct {
	Write
	Policy    string `json:"policy" doc:"name of the policy"`
	Principal string `json:"principal,omitzero" doc:"name of the principal"`
	Group     string `json:"group,omitzero" doc:"or of the group"`
	Mode      string `json:"mode,omitzero" doc:"grant (default), boundary or breakGlass"`
}

// AttachPolicyResponse lists what is attached now.
type AttachPolicyResponse struct {
	Principal string       `json:"principal,omitzero"`
	Group     string       `json:"group,omitzero"`
	Policies  []string     `json:"policies"`
	Attached  []Attachment `json:"attached"`
}

// CreateGroupRequest makes an empty group.
type CreateGroupRequest struct {
	Write
	Name        string `json:"name" doc:"name of the group"`
	Description string `json:"description,omitzero" doc:"for people, at most 1024 bytes"`
}

// GroupResponse describes a group.
type GroupResponse struct {
	Name        string       `json:"name"`
	Description string       `json:"description"`
	Attached    []Attachment `json:"attached"`
	CreatedAt   *Time        `json:"createdAt,omitzero"`
	CreatedBy   string       `json:"createdBy,omitzero"`
	// MemberCount counts those that were put into it, listGroupMembers shows
	// them; lists of groups leave it out.
	MemberCount *int `json:"memberCount,omitzero"`
}

// GroupMember is a principal in a group.
type GroupMember struct {
	Principal string `json:"principal"`
	ExpiresAt *Time  `json:"expiresAt,omitzero"`
	AddedAt   *Time  `json:"addedAt"`
	AddedBy   string `json:"addedBy"`
	Reason    string `json:"reason,omitzero"`
}

// ListGroupMembersRequest asks for the members of a group.
type ListGroupMembersRequest struct {
	Page
	Group       string       `json:"group" doc:"name of the group"`
	Consistency *Consistency `json:"consistency,omitzero" doc:"relax the read"`
}

// ListGroupMembersResponse is ordered by principal.
type ListGroupMembersResponse struct {
	Members    []GroupMember `json:"members"`
	NextCursor string        `json:"nextCursor,omitzero"`
}

// ListGroupsResponse is ordered by name.
type ListGroupsResponse struct {
	Groups     []GroupResponse `json:"groups"`
	NextCursor string          `json:"nextCursor,omitzero"`
}

// AddToGroupRequest puts a principal into a group.
type AddToGroupRequest struct {
	Write
	Group     string    `json:"group" doc:"name of the group"`
	Principal string    `json:"principal" doc:"name of the principal"`
	TTL       *Duration `json:"ttl,omitzero" doc:"end by itself after this time, such as 2h (1s to 366d; default never)"`
	Reason    string    `json:"reason,omitzero" doc:"why, kept with the membership, at most 1024 bytes"`
}

// RemoveFromGroupRequest takes a principal out of a group.
type RemoveFromGroupRequest struct {
	Write
	Group     string `json:"group" doc:"name of the group"`
	Principal string `json:"principal" doc:"name of the principal"`
}

// GroupMemberResponse confirms.
type GroupMemberResponse struct {
	Group     string `json:"group"`
	Principal string `json:"principal"`
	ExpiresAt *Time  `json:"expiresAt,omitzero"`
}

// PutAccessPolicyRequest makes or replaces an access policy.
type PutAccessPolicyRequest struct {
	Write
	Name        string       `json:"name" doc:"name of the access policy"`
	Paths       []string     `json:"paths" doc:"path patterns it restricts"`
	Actions     []string     `json:"actions,omitzero" doc:"actions it restricts (default those that reveal or change a value)"`
	Principals  []string     `json:"principals,omitzero" doc:"principals it restricts (default all)"`
	SourceCIDRs []string     `json:"sourceCidrs,omitzero" doc:"addresses that may"`
	Groups      []string     `json:"groups,omitzero" doc:"groups whose members it restricts, besides principals"`
	TimeWindows []TimeWindow `json:"timeWindows,omitzero" doc:"when they may: [{\"days\":[\"mon\"], \"from\":\"09:00\", \"to\":\"17:30\", \"timezone\":\"Europe/Madrid\"}], any of them"`
	NotBefore   *Time        `json:"notBefore,omitzero" doc:"refuse before"`
	NotAfter    *Time        `json:"notAfter,omitzero" doc:"refuse from then on"`

	Description      string  `json:"description,omitzero" doc:"for people, at most 1024 bytes"`
	Reason           string  `json:"reason,omitzero" doc:"why, kept with this revision, at most 1024 bytes"`
	ReportOnly       bool    `json:"reportOnly,omitzero" doc:"decide nothing, and report what would be decided otherwise"`
	ExpectedRevision *uint64 `json:"expectedRevision,omitzero" doc:"refuse unless the access policy is at this revision (0: there is none yet)"`
}

// TimeWindow is a recurring window: open from From until before To by the
// wall clocks of Timezone, on the days on which it begins (none given: all).
type TimeWindow struct {
	Days     []string `json:"days,omitzero"`
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

	Groups      []string     `json:"groups,omitzero"`
	TimeWindows []TimeWindow `json:"timeWindows,omitzero"`
	Description string       `json:"description,omitzero"`
	Reason      string       `json:"reason,omitzero"`
	ReportOnly  bool         `json:"reportOnly,omitzero"`
	RequestID   string       `json:"requestId,omitzero"`
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
	// AuthMethod is how the caller authenticated, as conditions of policies
	// name it. Boundaries are the policies that cap what it can get.
	AuthMethod string   `json:"authMethod"`
	Boundaries []string `json:"boundaries,omitzero"`
	// PeerAddress is the other end of the TCP connection, and Via how
	// SourceAddress was found from it: direct, proxyProtocol or xForwardedFor.
	PeerAddress string `json:"peerAddress,omitzero"`
	Via         string `json:"via,omitzero"`
}
