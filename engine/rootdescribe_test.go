package engine_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/api/wire"
	"github.com/strongroom/strongroom/engine"
	"github.com/strongroom/strongroom/internal/fault"
)

// The answer has the root key of the state, whole: what is left out here is
// missing where another HSM wants to take the root key in.
func TestRootKeyIsDescribedWhole(t *testing.T) {
	w := newWorld(t)
	got := into[wire.RootKeyResponse](t, w.ok("cluster/getRootKey", `{}`))
	require.Equal(t, wire.RootKeyResponse{
		ClusterID: w.engine.ClusterID, Version: 1, CheckValue: wire.Bytes("kcv"), MACCheck: checkOf(1),
		Canary: wire.WrappedKey{ID: "canary", Version: 2, Spec: "aes-256", Usage: "encrypt", Wrap: "rfc3394", Root: 3,
			Blob: wire.Bytes("blob"), MAC: wire.Bytes("mac")},
		CanaryIV: wire.Bytes("iv"), CanaryBox: wire.Bytes("box"),
		Copies: []wire.RootKeyCopy{{NodeID: "n1", Fingerprint: transport("n1"), Wrap: "rsa-oaep-sha1", RootKey: wire.Bytes("r"), MACKey: wire.Bytes("m")}},
	}, got)
}

// It is of administrators: who may look at the cluster may not have it.
func TestRootKeyIsNotForWhoMayLook(t *testing.T) {
	w := newWorld(t)
	for role, may := range map[string]bool{"cluster-read-access": false, "cluster-admin-access": true} {
		token := w.principal(role, `[{"effect":"allow","roles":["`+role+`"]}]`)
		_, err := w.as(token, "cluster/getRootKey", `{}`)
		if may {
			require.NoError(t, err)
			continue
		}
		w.refused(fault.AccessDenied, "", err)
	}
	require.False(t, engine.Find("cluster", "getRootKey").Reveals())
}
