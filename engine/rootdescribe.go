package engine

import (
	"context"

	"github.com/strongroom/strongroom/api/wire"
)

// getRootKey describes the current root key. What it answers is no secret,
// but with the PIN of an HSM it is what one would need of the state: so it is
// an action of its own, of administrators.
func getRootKey(_ context.Context, c *call, r *wire.RootKeyRequest) (*wire.RootKeyResponse, error) {
	if err := c.checkConsistency(r.Consistency); err != nil {
		return nil, err
	}
	root := c.state.Roots().Current
	out := &wire.RootKeyResponse{
		ClusterID: c.engine.ClusterID, Version: root.Version, CheckValue: root.CheckValue, MACCheck: root.MACCheck,
		Canary: wire.WrappedKey{
			ID: root.Canary.ID, Version: root.Canary.Version, Spec: root.Canary.Spec, Usage: root.Canary.Usage,
			Wrap: root.Canary.Wrap, Root: root.Canary.Root, Blob: root.Canary.Blob, MAC: root.Canary.MAC,
		},
		CanaryIV: root.CanaryIV, CanaryBox: root.CanaryBox, Copies: []wire.RootKeyCopy{},
	}
	for _, copied := range root.Copies {
		out.Copies = append(out.Copies, wire.RootKeyCopy{
			NodeID: copied.NodeID, Fingerprint: copied.Fingerprint, Wrap: copied.Wrap,
			RootKey: copied.RootKey, MACKey: copied.MACKey,
		})
	}
	return out, nil
}
