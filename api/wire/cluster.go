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
}

// QueryEventsResponse is ordered oldest first. Unreachable names members
// whose trail could not be asked: their events are missing from the answer.
type QueryEventsResponse struct {
	Events      []AuditEvent `json:"events"`
	NextCursor  string       `json:"nextCursor,omitzero"`
	Unreachable []string     `json:"unreachable,omitzero"`
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
	Path           string       `json:"path,omitzero"`
	KeyID          string       `json:"keyId,omitzero"`
	Version        uint64       `json:"version,omitzero"`
	DecisionID     string       `json:"decisionId,omitzero"`
	Reason         string       `json:"reason,omitzero"`
	Index          uint64       `json:"index,omitzero"`
	Cached         bool         `json:"cached,omitzero"`
	KMS            []AuditKMSOp `json:"kms,omitzero"`
	DurationMicros int64        `json:"durationMicros,omitzero"`
	Instance       string       `json:"instance,omitzero"` // of a consumer that was given a version
	// Report is what policies that only report would have decided otherwise.
	Report *PolicyReport `json:"report,omitzero"`
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
	Version      string `json:"version"`
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
