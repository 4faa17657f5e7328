package main

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/api/wire"
	"github.com/strongroom/strongroom/internal/config"
	"github.com/strongroom/strongroom/internal/durable"
	"github.com/strongroom/strongroom/internal/wrapped"
	"github.com/strongroom/strongroom/pkcs11"
)

func someRoot() pkcs11.Root {
	return pkcs11.Root{
		Version: 3, CheckValue: []byte{1}, MACCheck: []byte{2},
		Canary:   wrapped.Key{ID: "canary", Version: 4, Spec: "aes-256", Usage: "encrypt", Wrap: "rfc3394", Root: 3, Blob: []byte{5}, MAC: []byte{6}},
		CanaryIV: []byte{7}, CanaryBox: []byte{8},
		Copies: []pkcs11.RootCopy{{NodeID: "node1", Fingerprint: []byte{9}, Wrap: "rsa-oaep-sha1", RootKey: []byte{10}, MACKey: []byte{11}}},
	}
}

func TestRootSurvivesTheWayThroughAFile(t *testing.T) {
	text, err := formatRootExport(rootToWire("c1", someRoot()))
	require.NoError(t, err)
	key, err := parseRootExport(text)
	require.NoError(t, err)
	require.Equal(t, "c1", key.ClusterID)
	require.Equal(t, someRoot(), rootFromWire(key))
}

// No bit of an export can be another one, and no part be missing.
func TestChangedRootExportIsRefused(t *testing.T) {
	text, err := formatRootExport(rootToWire("c1", someRoot()))
	require.NoError(t, err)
	for i := range len(text) * 8 {
		bad := bytes.Clone(text)
		bad[i/8] ^= 1 << (i % 8)
		_, err := parseRootExport(bad)
		require.Error(t, err, "bit %d of %q", i%8, text[max(0, i/8-10):i/8+1])
	}
	for i := range len(text) - 1 { // the last byte is the end of the line
		_, err := parseRootExport(text[:i])
		require.Error(t, err, "cut after %d bytes", i)
	}
	_, err = parseRootExport(append(bytes.Clone(text), text...))
	require.Error(t, err)
	_, err = parseRootExport(bytes.Replace(text, []byte("export/1"), []byte("export/2"), 1))
	require.ErrorContains(t, err, `"strongroom-root-export/2"`)
}

func TestRootKeyIsReadInBothForms(t *testing.T) {
	dir := t.TempDir()
	var answered bytes.Buffer
	require.NoError(t, wire.Encode(&answered, rootToWire("c1", someRoot())))
	exported, err := formatRootExport(rootToWire("c1", someRoot()))
	require.NoError(t, err)
	one, two := filepath.Join(dir, "answered"), filepath.Join(dir, "exported")
	require.NoError(t, durable.Create(one, answered.Bytes()))
	require.NoError(t, durable.Create(two, exported))
	require.ErrorIs(t, durable.Create(two, exported), os.ErrExist)
	for _, path := range []string{one, two} {
		key, err := readRootKey(path, false)
		require.NoError(t, err)
		require.Equal(t, someRoot(), rootFromWire(key))
	}
	_, err = readRootKey(one, true)
	require.ErrorContains(t, err, "not a whole root export")
	large := filepath.Join(dir, "large")
	require.NoError(t, durable.Create(large, make([]byte, maxRootFile+1)))
	_, err = readRootKey(large, false)
	require.ErrorContains(t, err, "more than")

	cfg := config.Config{}
	cfg.Cluster.ID = "c2"
	require.ErrorContains(t, ofThisCluster(cfg, wire.RootKeyResponse{ClusterID: "c1"}, one), "is of cluster c1")
}

// Who can swap the file on its way cannot have the root key.
func TestSwappedTransportKeyIsRefused(t *testing.T) {
	dir := t.TempDir()
	var files, fingerprints []string
	for _, name := range []string{"right", "swapped"} {
		key, err := rsa.GenerateKey(rand.Reader, 3072)
		require.NoError(t, err)
		der, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
		require.NoError(t, err)
		path := filepath.Join(dir, name)
		// What the file says about itself does not count.
		require.NoError(t, durable.Create(path, formatTransportKey("node3", pkcs11.TransportKey{PublicDER: der, Fingerprint: fingerprintOf(der), Wrap: "rsa-oaep-sha1"})))
		files, fingerprints = append(files, path), append(fingerprints, fmt.Sprintf("%x", fingerprintOf(der)))
	}
	r, err := readReceiver(files[0], fingerprints[0])
	require.NoError(t, err)
	require.Equal(t, "node3", r.NodeID)
	require.Equal(t, "rsa-oaep-sha1", r.Wrap)
	_, err = readReceiver(files[0], strings.ToUpper(fingerprints[0][:32])+": "+fingerprints[0][32:])
	require.NoError(t, err, "as people write it")
	_, err = readReceiver(files[1], fingerprints[0])
	require.ErrorContains(t, err, "swapped on its way")
	require.ErrorContains(t, err, fingerprints[1])
	for _, wrong := range []string{"", "ab", fingerprints[0][:62], fingerprints[0] + "00", strings.Repeat("zz", 32)} {
		_, err = readReceiver(files[0], wrong)
		require.ErrorContains(t, err, "--fingerprint", wrong)
	}
}
