package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/strongroom/strongroom/api/wire"
	"github.com/strongroom/strongroom/internal/wrapped"
	"github.com/strongroom/strongroom/pkcs11"
)

// rootExport is the file by which a root key goes from one HSM to another:
//
//	{"format": "strongroom-root-export/1",
//	 "rootKey": {…},       as getRootKey answers it, with the one copy for the receiver
//	 "sha256": "…"}        over rootKey without white space
//
// Nothing in it is secret: the copy opens in the receiver's HSM only. The sum
// is against accidents. Against people there is the HSM: it takes in what
// opens the canary, and a server uses the root key that the replicated state
// names, whatever else is in its token.
type rootExport struct {
	Format  string               `json:"format"`
	RootKey wire.RootKeyResponse `json:"rootKey"`
	SHA256  string               `json:"sha256"`
}

const (
	rootExportFormat = "strongroom-root-export/1"
	maxRootFile      = 1 << 20
)

func formatRootExport(key wire.RootKeyResponse) ([]byte, error) {
	sum, err := sumOfRootKey(key)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	if err := wire.Encode(&b, rootExport{Format: rootExportFormat, RootKey: key, SHA256: sum}); err != nil {
		return nil, err
	}
	text := jsontext.Value(b.Bytes())
	if err := text.Indent(jsontext.WithIndent("  ")); err != nil {
		return nil, err
	}
	return append(text, '\n'), nil
}

func sumOfRootKey(key wire.RootKeyResponse) (string, error) {
	var b bytes.Buffer
	if err := wire.Encode(&b, key); err != nil {
		return "", err
	}
	return fmt.Sprintf("%x", sha256.Sum256(b.Bytes())), nil
}

// parseRootExport reads what formatRootExport wrote, whole and unchanged.
func parseRootExport(text []byte) (wire.RootKeyResponse, error) {
	var in rootExport
	if err := wire.Decode(text, &in); err != nil {
		return wire.RootKeyResponse{}, fmt.Errorf("it is not a whole root export: %w", err)
	}
	if in.Format != rootExportFormat {
		return wire.RootKeyResponse{}, fmt.Errorf("it has the format %q; this version reads %q", in.Format, rootExportFormat)
	}
	sum, err := sumOfRootKey(in.RootKey)
	if err != nil {
		return wire.RootKeyResponse{}, err
	}
	if in.SHA256 != sum {
		return wire.RootKeyResponse{}, errors.New("it was changed since it was written; bring it over again")
	}
	return in.RootKey, nil
}

// readRootKey reads a description of the root key: what getRootKey answered,
// or a root export, which a node that was fed by one can pass on.
func readRootKey(path string, onlyExport bool) (wire.RootKeyResponse, error) {
	text, err := readBounded(path, maxRootFile)
	if err != nil {
		return wire.RootKeyResponse{}, err
	}
	var head struct{ Format string }
	if onlyExport || json.Unmarshal(text, &head) == nil && head.Format != "" {
		key, err := parseRootExport(text)
		if err != nil {
			return key, fmt.Errorf("%s: %w", path, err)
		}
		return key, nil
	}
	var key wire.RootKeyResponse
	if err := wire.Decode(text, &key); err != nil {
		return key, fmt.Errorf("%s: it is not what strongroom cluster get-root-key -o json answers: %w", path, err)
	}
	return key, nil
}

func readBounded(path string, max int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, max+1))
	if err == nil && int64(len(text)) > max {
		err = fmt.Errorf("%s has more than %d bytes", path, max)
	}
	return text, err
}

// rootFromWire and rootToWire carry a root key between the API's form, which
// files have, and the HSM floor.
func rootFromWire(r wire.RootKeyResponse) pkcs11.Root {
	out := pkcs11.Root{
		Version: r.Version, CheckValue: r.CheckValue, MACCheck: r.MACCheck,
		Canary: wrapped.Key{
			ID: r.Canary.ID, Version: r.Canary.Version, Spec: r.Canary.Spec, Usage: r.Canary.Usage,
			Wrap: r.Canary.Wrap, Root: r.Canary.Root, Blob: r.Canary.Blob, MAC: r.Canary.MAC,
		},
		CanaryIV: r.CanaryIV, CanaryBox: r.CanaryBox,
	}
	for _, c := range r.Copies {
		out.Copies = append(out.Copies, pkcs11.RootCopy{
			NodeID: c.NodeID, Fingerprint: c.Fingerprint, Wrap: c.Wrap, RootKey: c.RootKey, MACKey: c.MACKey,
		})
	}
	return out
}

func rootToWire(clusterID string, r pkcs11.Root) wire.RootKeyResponse {
	out := wire.RootKeyResponse{
		ClusterID: clusterID, Version: r.Version, CheckValue: r.CheckValue, MACCheck: r.MACCheck,
		Canary: wire.WrappedKey{
			ID: r.Canary.ID, Version: r.Canary.Version, Spec: r.Canary.Spec, Usage: r.Canary.Usage,
			Wrap: r.Canary.Wrap, Root: r.Canary.Root, Blob: r.Canary.Blob, MAC: r.Canary.MAC,
		},
		CanaryIV: r.CanaryIV, CanaryBox: r.CanaryBox, Copies: []wire.RootKeyCopy{},
	}
	for _, c := range r.Copies {
		out.Copies = append(out.Copies, wire.RootKeyCopy{
			NodeID: c.NodeID, Fingerprint: c.Fingerprint, Wrap: c.Wrap, RootKey: c.RootKey, MACKey: c.MACKey,
		})
	}
	return out
}
