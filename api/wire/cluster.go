package wire

// QueryEventsRequest searches the audit trail.
type QueryEventsRequest struct {
	Page
	From      *Time  `json:"from,omitzero" doc:"not before"`
	To        *Time  `json:"to,omitzero" doc:"before"`
	Event     string `json:"event,omitzero" doc:"name of the event, such as secrets.get_value"`
	Principal string `json:"principal,omitzero" doc:"who did it"`
	Path      string `json:"path,omitzero" doc:"path of the secret"`
	KeyID     string `json:"keyId,omitzero" doc:"id of the key"`
	RequestID string `json:"requestId,omitzero" doc:"id of the request"`
	Outcome   string `json:"outcome,omitzero" doc:"ok, denied or failed"`
	// DecisionID is what a denied caller was told.
	DecisionID string `json:"decisionId,omitzero" doc:"id of a decision, as a denied caller was told"`
	// BreakGlassID finds what was done in a session.
	BreakGlassID string `json:"breakGlassId,omitzero" doc:"id of a break-glass session: what was done because of it"`
	ApprovalID   string `json:"approvalId,omitzero" doc:"id of a request for approval: how it came about, and what was done by it"`
}

// QueryEventsResponse is ordered oldest first. Unreachable names members of
// whose trail neither they nor a copy could be asked: their events are missing
// from the answer. FromCopies says which chains a copy answered for.
type QueryEventsResponse struct {
	Events      []AuditEvent     `json:"events"`
	NextCursor  string           `json:"nextCursor,omitzero"`
	Unreachable []string         `json:"unreachable,omitzero"`
	FromCopies  []AnsweredByCopy `json:"fromCopies,omitzero"`
}

// AnsweredByCopy is a chain of a node that could not be asked for it: the
// answer has its events up to the one that the copy holds.
type AnsweredByCopy struct {
	Node    string `json:"node"`
	Chain   string `json:"chain"` // first 16 characters of its id
	Through uint64 `json:"through"`
	// Missing is how many later events there are at least, as far as this node
	// was told.
	Missing uint64 `json:"missing,omitzero"`
}

// ListChainsRequest asks for all chains of the audit trail.
type ListChainsRequest struct{}

// ListChainsResponse is ordered by node and chain. Unreachable names members
// that could not be asked what they hold.
type ListChainsResponse struct {
	Chains      []AuditChain `json:"chains"`
	Unreachable []string     `json:"unreachable,omitzero"`
}

// AuditChain is the trail of one node. One that lost its disk writes another.
type AuditChain struct {
	Node     string `json:"node"`
	Chain    string `json:"chain"` // SHA-256 of its first event, in hex
	Current  bool   `json:"current"`
	Sequence uint64 `json:"sequence"` // newest event that any member has on its disk
	Hash     string `json:"hash"`
	// Holders are who has it, and how far.
	Holders []ChainHolder `json:"holders"`
	// Anchored is the event up to which the replicated state knows it.
	Anchored   uint64 `json:"anchored,omitzero"`
	AnchoredAt *Time  `json:"anchoredAt,omitzero"`
	// Trouble says what is wrong with it, as far as the asked node knows.
	Trouble string `json:"trouble,omitzero"`
}

// ChainHolder is a member that has a chain.
type ChainHolder struct {
	NodeID   string `json:"nodeId"`
	Sequence uint64 `json:"sequence"`
	Lag      uint64 `json:"lag,omitzero"` // events that it lacks
	// Broken says why its copy takes no more.
	Broken string `json:"broken,omitzero"`
}

// AuditEvent is one line of a trail. It has no field that could hold a value.
type AuditEvent struct {
	Node           string       `json:"node"`
	Sequence       uint64       `json:"sequence"`
	Time           *Time        `json:"time"`
	RequestID      string       `json:"requestId"`
	Event          string       `json:"event"`
	Outcome        string       `json:"outcome"`
	Code           string       `json:"code,omitzero"`
	Principal      string       `json:"principal,omitzero"`
	CredentialID   string       `json:"credentialId,omitzero"`
	SourceAddress  string       `json:"sourceAddress,omitzero"`
	Via            string       `json:"via,omitzero"` // member that the request came to, where it handed it on
	Path           string       `json:"path,omitzero"`
	KeyID          string       `json:"keyId,omitzero"`
	Version        uint64       `json:"version,omitzero"`
	DecisionID     string       `json:"decisionId,omitzero"`
	ApprovalID     string       `json:"approvalId,omitzero"`
	Reason         string       `json:"reason,omitzero"`
	Index          uint64       `json:"index,omitzero"`
	Cached         bool         `json:"cached,omitzero"`
	KMS            []AuditKMSOp `json:"kms,omitzero"`
	DurationMicros int64        `json:"durationMicros,omitzero"`
	Instance       string       `json:"instance,omitzero"` // of a consumer that was given a version
	// Report is what policies that only report would have decided otherwise.
	Report *PolicyReport `json:"report,omitzero"`
	// BreakGlassID is the break-glass session without which the request would
	// not have been allowed, or that it is about.
	BreakGlassID string `json:"breakGlassId,omitzero"`
	// Decision is shown to who may iam:explain.
	Decision *AuditDecision `json:"decision,omitzero"`
}

// AuditKMSOp points at the kms event of a data key that the request used.
type AuditKMSOp struct {
	Event      string `json:"event"`
	KeyID      string `json:"keyId"`
	KeyVersion uint32 `json:"keyVersion"`
	Sequence   uint64 `json:"sequence"`
	Cached     bool   `json:"cached"`
}

// StatusResponse is the cluster as this node sees it.
type StatusResponse struct {
	ClusterID string       `json:"clusterId"`
	Index     uint64       `json:"index"`
	Leader    *Leader      `json:"leader,omitzero"`
	Nodes     []NodeStatus `json:"nodes"`
	// MaxClockOffset is how far the leader's clock may be off.
	MaxClockOffset Duration `json:"maxClockOffset"`
	// AuditTrouble says which chains of the audit trail have parted from their
	// anchors or copies, as far as the leader knows.
	AuditTrouble []string `json:"auditTrouble,omitzero"`
	// Level is the feature level of the cluster. HeldBack says which members
	// keep it from being raised to what others know, and how.
	Level    uint32   `json:"level"`
	HeldBack []string `json:"heldBack,omitzero"`
	// Recoveries are the times that the cluster was started anew on one node,
	// because the majority was lost; the newest first.
	Recoveries []Recovery `json:"recoveries,omitzero"`
}

// Recovery is one time that the cluster was started anew on the node that was
// left. What the others acknowledged behind LastIndex is lost.
type Recovery struct {
	NodeID   string `json:"nodeId"`
	At       *Time  `json:"at"`
	Operator string `json:"operator"` // login name on the node
	Reason   string `json:"reason"`
	Index    uint64 `json:"index"` // at which the recovered cluster begins
	// LastIndex and LastTerm are of the last entry that the node had.
	LastIndex     uint64 `json:"lastIndex"`
	LastTerm      uint64 `json:"lastTerm"`
	LastCommandAt *Time  `json:"lastCommandAt"`
	// MissingUpTo is up to where the node had entries that were damaged, and
	// are lost too.
	MissingUpTo uint64   `json:"missingUpTo,omitzero"`
	CutOff      []string `json:"cutOff"` // ids of the nodes that never come back
}

// Leader says where writes go.
type Leader struct {
	NodeID     string `json:"nodeId"`
	APIAddress string `json:"apiAddress"`
}

// NodeStatus is one member.
type NodeStatus struct {
	NodeID       string `json:"nodeId"`
	APIAddress   string `json:"apiAddress"`
	Role         string `json:"role"`
	Alive        bool   `json:"alive"`
	AppliedIndex uint64 `json:"appliedIndex"`
	HSM          string `json:"hsm"`
	// Audit is "ok" or "down": whether its audit trail takes events. It is not
	// there of a member that does not say.
	Audit   string `json:"audit,omitzero"`
	Version string `json:"version"`
	// Level is the feature level that its build knows. It is not there of a
	// member that does not say.
	Level uint32 `json:"level,omitzero"`
	// ClockOffset is how far its clock is ahead of the members' clocks, in their
	// middle, by what the leader saw of them last; negative if it is behind. It
	// is not there if nothing was seen for a minute.
	ClockOffset *Offset `json:"clockOffset,omitzero"`
	// RefusesTimed: it leads, its clock is off by more than maxClockOffset, and
	// it refuses what is restricted to times.
	RefusesTimed bool `json:"refusesTimed,omitzero"`
}

// TransferLeadershipRequest hands leadership over.
type TransferLeadershipRequest struct {
	To string `json:"to,omitzero" doc:"id of the node (default the most up to date)"`
}

// TransferLeadershipResponse names the leader afterwards, if it is known.
type TransferLeadershipResponse struct {
	Leader *Leader `json:"leader,omitzero"`
}

// RotateRootKeyRequest starts a rotation of the root key.
type RotateRootKeyRequest struct {
	Write
	RatePerSecond *uint32 `json:"ratePerSecond,omitzero" doc:"pieces of key material a second at most, 1-10000 (default 100)"`
}

// RotateRootKeyResponse names the job; describeJob shows its progress.
type RotateRootKeyResponse struct {
	JobID   string `json:"jobId"`
	Version uint32 `json:"version"` // of the new root key
}

// RemoveRootKeyRequest removes a root key that was replaced.
type RemoveRootKeyRequest struct {
	Write
	Version uint32 `json:"version" doc:"version of a root key that was replaced"`
}

// RemoveRootKeyResponse says which root key goes from every HSM.
type RemoveRootKeyResponse struct {
	Version uint32 `json:"version"`
}
