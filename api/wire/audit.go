package wire

// GetCheckpointRequest asks what was signed over the audit chains.
type GetCheckpointRequest struct {
	Node  string `json:"node,omitzero" doc:"member whose chain it is; default: all chains"`
	Chain string `json:"chain,omitzero" doc:"id of the chain, or how it begins; only if the member has had several"`
	Size  uint64 `json:"size,omitzero" doc:"the first checkpoint over at least so many events; default: the newest"`
}

// GetCheckpointResponse has one checkpoint for each chain that has any.
type GetCheckpointResponse struct {
	Checkpoints []Checkpoint `json:"checkpoints"`
	// PublicKeys are those of the cluster, all versions, in PEM: what a verifier
	// needs, and should have from elsewhere.
	PublicKeys string `json:"publicKeys"`
}

// Checkpoint is a signed statement about one chain.
type Checkpoint struct {
	Node     string `json:"node"`
	Chain    string `json:"chain"` // hex SHA-256 of its first event
	Size     uint64 `json:"size"`  // events that it is over
	RootHash string `json:"rootHash"`
	Head     string `json:"head"` // hex SHA-256 of the newest of them
	Time     *Time  `json:"time"`
	Note     string `json:"note"` // with its signatures, in the form of C2SP tlog-checkpoint
	// Problem is why the chain is not signed any more.
	Problem string `json:"problem,omitzero"`
	// Cosigned has the newest checkpoint of each witness of audit.witnesses,
	// which may be an older one of this chain. Only getCheckpoint answers it.
	Cosigned []Cosignature `json:"cosigned,omitzero"`
}

// Cosignature is a checkpoint that a witness has cosigned and handed in.
type Cosignature struct {
	Witness string `json:"witness"`
	Size    uint64 `json:"size"` // events that it is over
	Time    *Time  `json:"time"` // when the cluster signed it
	Note    string `json:"note"` // with both signatures: what audit verify takes as --checkpoint
}

// AddCosignatureRequest hands in a checkpoint that a witness has cosigned.
type AddCosignatureRequest struct {
	Write
	Note string `json:"note" doc:"a checkpoint of getCheckpoint with the cosignature of one witness of audit.witnesses under it (C2SP tlog-cosignature), at most 4096 bytes"`
}

// AddCosignatureResponse says what it was.
type AddCosignatureResponse struct {
	Node    string `json:"node"`
	Chain   string `json:"chain"`
	Size    uint64 `json:"size"`
	Witness string `json:"witness"`
	// Unchanged: one of this witness over as many events or more is here.
	Unchanged bool `json:"unchanged,omitzero"`
}

// GetProofRequest asks for proofs of RFC 6962 against a checkpoint.
type GetProofRequest struct {
	Node     string `json:"node" doc:"member whose chain it is"`
	Chain    string `json:"chain,omitzero" doc:"id of the chain, or how it begins; only if the member has had several"`
	Sequence uint64 `json:"sequence,omitzero" doc:"event whose inclusion to prove"`
	FromSize uint64 `json:"fromSize,omitzero" doc:"size of an earlier checkpoint, whose continuation to prove"`
	Size     uint64 `json:"size,omitzero" doc:"size of the checkpoint; default: the newest"`
}

// GetProofResponse has hashes in base64, in the order of RFC 6962.
type GetProofResponse struct {
	Checkpoint  Checkpoint `json:"checkpoint"`
	LeafHash    string     `json:"leafHash,omitzero"`    // of the event's line
	Inclusion   []string   `json:"inclusion,omitzero"`   // section 2.1.1
	Consistency []string   `json:"consistency,omitzero"` // section 2.1.2
}

// ExportEventsRequest asks for events as they are written, with what it takes
// to verify them. The answer is a stream of lines, not an object.
type ExportEventsRequest struct {
	Node         string `json:"node,omitzero" doc:"member whose chain to export; default: all chains, one after the other"`
	Chain        string `json:"chain,omitzero" doc:"id of the chain, or how it begins; only if the member has had several"`
	From         *Time  `json:"from,omitzero" doc:"not before; events between others are exported, too, whatever their time"`
	To           *Time  `json:"to,omitzero" doc:"before"`
	FromSequence uint64 `json:"fromSequence,omitzero" doc:"sequence of the first event; only with node"`
	ToSequence   uint64 `json:"toSequence,omitzero" doc:"sequence of the last event; only with node"`
}

// ExportEventsResponse is empty: what is answered are lines.
type ExportEventsResponse struct{}
