package main

import (
	"context"
	"encoding/base64"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/internal/config"
	"github.com/strongroom/strongroom/internal/wrapped"
	"github.com/strongroom/strongroom/pkcs11"
)

// withFiles makes certificates and keys, no HSM token.
func withFiles(t *testing.T) (*devCluster, config.Config) {
	t.Helper()
	d := localCluster(t, filepath.Join(t.TempDir(), "c"))
	require.NoError(t, d.makeFiles())
	cfg, err := loadConfig(d.nodePath(1, "config.yaml"))
	require.NoError(t, err)
	return d, cfg
}

func TestFilesAreChecked(t *testing.T) {
	d, cfg := withFiles(t)
	quiet := slog.New(slog.DiscardHandler)
	_, err := readFiles(cfg, quiet, nil)
	require.NoError(t, err)

	mixed := cfg
	mixed.Cluster.CertFile, mixed.Cluster.KeyFile = d.nodePath(2, "node.pem"), d.nodePath(2, "node-key.pem")
	_, err = readFiles(mixed, quiet, nil)
	require.ErrorContains(t, err, "cluster.certFile")
	require.ErrorContains(t, err, "/node/node1")

	halves := cfg
	halves.API.KeyFile = d.nodePath(2, "api-key.pem")
	_, err = readFiles(halves, quiet, nil)
	require.ErrorContains(t, err, "api.keyFile")

	for _, key := range []string{"", "short", base64.StdEncoding.EncodeToString(make([]byte, 31))} {
		require.NoError(t, os.WriteFile(cfg.Gossip.KeyFile, []byte(key), 0o600))
		_, err = readFiles(cfg, quiet, nil)
		require.ErrorContains(t, err, "gossip.keyFile")
		require.ErrorContains(t, err, "strongroom tls gossip-key create")
		if key != "" {
			require.NotContains(t, err.Error(), key, "a key is not shown, not even a wrong one")
		}
	}
	require.NoError(t, os.WriteFile(cfg.Cluster.CAFile, []byte("none"), 0o600))
	_, err = readFiles(cfg, quiet, nil)
	require.ErrorContains(t, err, "cluster.caFile")
}

func TestRootSurvivesTheWayThroughTheState(t *testing.T) {
	root := pkcs11.Root{
		Version: 3, CheckValue: []byte{1}, MACCheck: []byte{2}, Canary: wrapped.Key{ID: "canary", Blob: []byte{3}},
		CanaryIV: []byte{4}, CanaryBox: []byte{5},
		Copies: []pkcs11.RootCopy{{NodeID: "node1", Fingerprint: []byte{6}, Wrap: "rsa-oaep-sha1", RootKey: []byte{7}, MACKey: []byte{8}}},
	}
	require.Equal(t, root, rootFromState(rootToState(root)))
	require.NotEqual(t, fsm.Root{}, rootToState(root))
}

// Health is asked by anybody, without a credential: it must not become a load.
func TestHealthAsksTheClusterAtMostOnceAMoment(t *testing.T) {
	var p probe
	asked := 0
	for range 1000 {
		require.NoError(t, p.check(func() error { asked++; return nil }))
	}
	require.Less(t, asked, 50)
	p.at = time.Now().Add(-2 * time.Second)
	require.Error(t, p.check(func() error { return errors.New("away") }), "an old answer is not believed")
}

func TestAnHSMThatIsAwayFailsACeremonyInWords(t *testing.T) {
	_, cfg := withFiles(t)
	err := withDevice(context.Background(), cfg, func(*pkcs11.Device) error { return nil })
	require.ErrorContains(t, err, "the HSM cannot be used")
	err = initCluster(context.Background(), cfg, initOptions{ttl: time.Hour, tokenFile: filepath.Join(t.TempDir(), "token")}, os.Stderr)
	require.ErrorContains(t, err, "--transport-key is missing for node2")
}
