package wire

// SaveSnapshotRequest asks for the whole state. The answer is a file, not an
// object.
type SaveSnapshotRequest struct{}

// SaveSnapshotResponse is empty: what is answered is the file.
type SaveSnapshotResponse struct{}

// VerifySnapshotRequest asks whether the newest saved snapshot is good.
type VerifySnapshotRequest struct{}

// VerifySnapshotResponse describes a snapshot that was opened and restored.
type VerifySnapshotResponse struct {
	NodeID      string `json:"nodeId"` // whose snapshot it is
	File        string `json:"file"`
	Size        int64  `json:"size"` // bytes
	CreatedAt   *Time  `json:"createdAt"`
	Index       uint64 `json:"index"` // of the last command in it
	StateHash   string `json:"stateHash"`
	RootVersion uint32 `json:"rootVersion"` // of the root key that an HSM needs to open it
	Secrets     uint64 `json:"secrets"`
	Versions    uint64 `json:"versions"` // stored ones
}
