package engine

import (
	"context"

	"github.com/strongroom/strongroom/api/wire"
	"github.com/strongroom/strongroom/internal/fault"
)

// rootKeyOperations are about the root key. What getRootKey answers is no
// secret, but with the PIN of an HSM it is what one would need of the state:
// so it is an action of its own, of administrators.
func rootKeyOperations() []*Operation {
	return []*Operation{
		operation(row[wire.RootKeyRequest, wire.RootKeyResponse]{
			service: "cluster", name: "getRootKey", event: "cluster.get_root_key",
			summary: "Describe the root key, for passing it on to another HSM.",
			scope:   func(*call, *wire.RootKeyRequest) (scope, error) { return scope{}, nil },
			run:     getRootKey,
		}),
	}
}

func getRootKey(_ context.Context, c *call, r *wire.RootKeyRequest) (*wire.RootKeyResponse, error) {
	if err := c.checkConsistency(r.Consistency); err != nil {
		return nil, err
	}
	genesis := c.state.Genesis()
	if genesis == nil {
		return nil, fault.New(fault.Internal, "the state has no root key")
	}
	root := genesis.Root
	out := &wire.RootKeyResponse{
		ClusterID: genesis.ClusterID, Version: root.Version, CheckValue: root.CheckValue, MACCheck: root.MACCheck,
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
