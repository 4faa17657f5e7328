package wire

// RootKeyRequest asks for the description of the root key.
type RootKeyRequest struct {
	Consistency *Consistency `json:"consistency,omitzero" doc:"relax the read"`
}

// RootKeyResponse describes the root key: never the key itself, only what an
// HSM recognises it by, and copies that are wrapped to one HSM each. It holds
// nothing secret. strongroom hsm export-root-to reads it from a file.
type RootKeyResponse struct {
	ClusterID  string `json:"clusterId"`
	Version    uint32 `json:"version"`
	CheckValue Bytes  `json:"checkValue,omitzero"`
	// MACCheck is the HMAC of a fixed text under the root MAC key.
	MACCheck Bytes `json:"macCheck"`
	// Canary is a key under the root key that serves no other purpose, and
	// CanaryBox a text that is sealed under it: whoever opens it has the root.
	Canary    WrappedKey    `json:"canary"`
	CanaryIV  Bytes         `json:"canaryIv"`
	CanaryBox Bytes         `json:"canaryBox"`
	Copies    []RootKeyCopy `json:"copies"`
}

// WrappedKey is a key as it is outside the HSM, wrapped under the root key.
type WrappedKey struct {
	ID      string `json:"id"`
	Version uint32 `json:"version"`
	Spec    string `json:"spec"`
	Usage   string `json:"usage"`
	Wrap    string `json:"wrap"`
	Root    uint32 `json:"root"`
	Blob    Bytes  `json:"blob"`
	MAC     Bytes  `json:"mac"`
}

// RootKeyCopy is the root key on its way into one HSM.
type RootKeyCopy struct {
	NodeID      string `json:"nodeId"`
	Fingerprint Bytes  `json:"fingerprint"` // of the HSM's transport key
	Wrap        string `json:"wrap"`
	RootKey     Bytes  `json:"rootKey"`
	MACKey      Bytes  `json:"macKey"`
}
