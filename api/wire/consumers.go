package wire

// ConfirmVersionRequest says which version an instance of the caller uses
// now, and that it holds no other one of the secret.
type ConfirmVersionRequest struct {
	Path     string  `json:"path" doc:"path of the secret"`
	Version  *uint64 `json:"version" doc:"number of the version that is in use now, and no other"`
	Instance string  `json:"instance,omitzero" doc:"which instance of the caller says so (default: the caller without instances)"`
}

// ConfirmVersionResponse repeats what was noted.
type ConfirmVersionResponse struct {
	Path     string `json:"path"`
	Version  uint64 `json:"version"`
	Instance string `json:"instance,omitzero"`
}

// ListConsumersRequest asks who has read a secret and may still hold it.
type ListConsumersRequest struct {
	Page
	Path    string  `json:"path" doc:"path of the secret"`
	Version *uint64 `json:"version,omitzero" doc:"only consumers of this version"`
	Holding bool    `json:"holding,omitzero" doc:"only those that may still hold what they were given"`
}

// ListConsumersResponse has one line for each version and instance, ordered
// by version, newest first, then by principal and instance.
type ListConsumersResponse struct {
	Path       string     `json:"path"`
	Consumers  []Consumer `json:"consumers"`
	NextCursor string     `json:"nextCursor,omitzero"`
	// Unknown is there while the list may not be whole: a node that led before
	// has not told yet what it handed out last.
	Unknown *UnknownConsumers `json:"unknown,omitzero"`
}

// UnknownConsumers names the nodes of which it is not known to whom they gave
// a version last, and when nobody can hold that any more.
type UnknownConsumers struct {
	Nodes []string `json:"nodes"`
	Until *Time    `json:"until"`
}

// Consumer is what is known of one instance and one version.
type Consumer struct {
	Version     uint64 `json:"version"`
	Principal   string `json:"principal"`
	Instance    string `json:"instance"`
	FirstReadAt *Time  `json:"firstReadAt"`
	LastReadAt  *Time  `json:"lastReadAt"`
	// Confirmed: the instance said itself that it uses this version.
	Confirmed   bool  `json:"confirmed"`
	ConfirmedAt *Time `json:"confirmedAt,omitzero"`
	// MayHoldUntil is from when on the value is surely out of use there: the
	// end of its horizon, or when the instance said that it has moved.
	MayHoldUntil *Time  `json:"mayHoldUntil"`
	MovedTo      uint64 `json:"movedTo,omitzero"` // the version that it said it uses instead
}
