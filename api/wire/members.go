package wire

// AddMemberRequest announces a node that shall become a member.
type AddMemberRequest struct {
	Write
	NodeID  string `json:"nodeId" doc:"id of the node (node.id); one that was removed never comes back"`
	Address string `json:"address" doc:"host:port of its node link (cluster.advertise of that node)"`
	Voter   *bool  `json:"voter,omitzero" doc:"false: it keeps a copy and never votes (default true: it gets a vote when it is in step)"`
}

// MemberResponse names a node.
type MemberResponse struct {
	NodeID string `json:"nodeId"`
}

// RemoveMemberRequest removes a member, or a node that was announced, for ever.
type RemoveMemberRequest struct {
	Write
	NodeID string `json:"nodeId" doc:"id of the node"`
	Reason string `json:"reason" doc:"why, kept for ever, at most 1024 bytes"`
}

// RemoveMemberResponse: Left is false while the leader still brings the
// configuration in step with the removal, which it does by itself.
type RemoveMemberResponse struct {
	NodeID string `json:"nodeId"`
	Left   bool   `json:"left"`
}

// SetVoterRequest gives a member a vote, or takes the vote of one away.
type SetVoterRequest struct {
	Write
	NodeID string `json:"nodeId" doc:"id of the node"`
	Voter  *bool  `json:"voter" doc:"true: it gets a vote when it is in step; false: it keeps a copy and has none"`
}

// SetVoterResponse: Done is false while the leader still brings the
// configuration in step, which it does by itself: a vote is given when the node
// has been in step for some time, and taken while a majority of the others
// answers. What it waits for is shown by members.
type SetVoterResponse struct {
	NodeID string `json:"nodeId"`
	Voter  bool   `json:"voter"`
	Done   bool   `json:"done"`
}

// MembersRequest asks who is a member.
type MembersRequest struct{}

// MembersResponse is ordered as in the configuration, nodes that were announced
// and have not come yet last.
type MembersResponse struct {
	Members []Member `json:"members"`
}

// Member is one member, or a node that was announced, as the leader sees it.
type Member struct {
	NodeID  string `json:"nodeId"`
	Address string `json:"address"`
	// Role is leader, follower, nonVoter, or joining: announced, and not heard
	// from yet.
	Role string `json:"role"`
	// Voter says whether it shall have a vote, which it may not have yet, or still.
	Voter        bool   `json:"voter"`
	Alive        bool   `json:"alive"`
	AppliedIndex uint64 `json:"appliedIndex"`
	// InStepSince is since when it has answered, been in step, and, before it
	// has a vote, had a working HSM.
	InStepSince *Time `json:"inStepSince,omitzero"`
	// Waiting says what keeps it from being in step, from its vote, or from giving
	// it up.
	Waiting string `json:"waiting,omitzero"`
	HSM     string `json:"hsm"`
	// RootKey is ok, missing, or unknown when it does not answer.
	RootKey     string `json:"rootKey"`
	Version     string `json:"version"`
	AnnouncedAt *Time  `json:"announcedAt,omitzero"`
	AnnouncedBy string `json:"announcedBy,omitzero"`
	JoinTokenID string `json:"joinTokenId,omitzero"` // that it came with
}

// AutopilotRequest asks for the settings.
type AutopilotRequest struct {
	Consistency *Consistency `json:"consistency,omitzero" doc:"relax the read"`
}

// AutopilotResponse is how the leader gives votes and removes the dead.
type AutopilotResponse struct {
	Revision        uint64   `json:"revision"`
	Stabilization   Duration `json:"stabilization"`
	MaxTrailing     uint64   `json:"maxTrailing"`
	RemoveDeadAfter Duration `json:"removeDeadAfter"` // 0s: never
	MinVoters       uint64   `json:"minVoters"`
	UpdatedAt       *Time    `json:"updatedAt,omitzero"`
	UpdatedBy       string   `json:"updatedBy,omitzero"`
	RequestID       string   `json:"requestId,omitzero"`
}

// SetAutopilotRequest replaces all settings.
type SetAutopilotRequest struct {
	Write
	Stabilization    *Duration `json:"stabilization,omitzero" doc:"how long a member must be in step before it gets its vote, 1s to 1h (default 10s)"`
	MaxTrailing      *uint64   `json:"maxTrailing,omitzero" doc:"entries that it may be behind in that time, 1 to 100000 (default 250)"`
	RemoveDeadAfter  *Duration `json:"removeDeadAfter,omitzero" doc:"remove members that have been silent for so long, 1m to 30d (default 0s: never)"`
	MinVoters        *uint64   `json:"minVoters,omitzero" doc:"voters that must stay when a silent one is removed, 1 to 99 (default 3)"`
	ExpectedRevision *uint64   `json:"expectedRevision,omitzero" doc:"refuse unless the settings are at this revision (0: there are none yet)"`
}

// SetAutopilotResponse names the revision.
type SetAutopilotResponse struct {
	Revision uint64 `json:"revision"`
}

// CreateJoinTokenRequest makes a token that lets one node become a member, once.
type CreateJoinTokenRequest struct {
	Write
	NodeID     string    `json:"nodeId,omitzero" doc:"only this node may use it (default any that has a certificate of the cluster)"`
	Voter      *bool     `json:"voter,omitzero" doc:"false: the node keeps a copy and never votes (default true: it gets a vote when it is in step)"`
	TTL        *Duration `json:"ttl,omitzero" doc:"how long it can be used (default 1h, at most 30d)"`
	BoundCIDRs []string  `json:"boundCidrs,omitzero" doc:"addresses that the node must come from (default any)"`
}

// CreateJoinTokenResponse shows the token once.
type CreateJoinTokenResponse struct {
	Token     *Text  `json:"token"`
	TokenID   string `json:"tokenId"`
	ExpiresAt *Time  `json:"expiresAt"`
}

// ListJoinTokensRequest asks for a page of join tokens.
type ListJoinTokensRequest struct {
	Page
	Consistency *Consistency `json:"consistency,omitzero" doc:"relax the read"`
}

// ListJoinTokensResponse is ordered by id. Tokens that are spent are forgotten
// when room is needed.
type ListJoinTokensResponse struct {
	Tokens     []JoinToken `json:"tokens"`
	NextCursor string      `json:"nextCursor,omitzero"`
}

// JoinToken is a token without its text.
type JoinToken struct {
	TokenID    string   `json:"tokenId"`
	State      string   `json:"state"` // good, used, revoked or expired
	NodeID     string   `json:"nodeId,omitzero"`
	Voter      bool     `json:"voter"`
	BoundCIDRs []string `json:"boundCidrs,omitzero"`
	ExpiresAt  *Time    `json:"expiresAt"`
	CreatedAt  *Time    `json:"createdAt"`
	CreatedBy  string   `json:"createdBy"`
	UsedAt     *Time    `json:"usedAt,omitzero"`
	UsedBy     string   `json:"usedBy,omitzero"` // the node
	RevokedAt  *Time    `json:"revokedAt,omitzero"`
}

// RevokeJoinTokenRequest names a token.
type RevokeJoinTokenRequest struct {
	Write
	TokenID string `json:"tokenId" doc:"id of the join token"`
}

// RevokeJoinTokenResponse names the token.
type RevokeJoinTokenResponse struct {
	TokenID string `json:"tokenId"`
}
