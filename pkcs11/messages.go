package pkcs11

import (
	"bytes"
	"time"

	"github.com/strongroom/strongroom/internal/dialect"
	"github.com/strongroom/strongroom/internal/wrapped"
)

// The payloads of the requests and answers, each as a pair of put and get.
// Byte slices that outlive the frame are cloned by get.

// loadRequest is all that a worker needs to know before it logs in.
type loadRequest struct {
	module, initArgs, label, serial, pinFile, syncDir string
	sessions, handles                                 uint32
	dialect                                           dialect.Dialect
	patience                                          time.Duration // in which a hot call is begun once more, whole milliseconds
}

func (m loadRequest) put(e *encoder) {
	e.text(m.module)
	e.text(m.initArgs)
	e.text(m.label)
	e.text(m.serial)
	e.text(m.pinFile)
	e.text(m.syncDir)
	e.u32(m.sessions)
	e.u32(m.handles)
	putDialect(e, m.dialect)
	e.u32(uint32(m.patience.Milliseconds()))
}

func getLoadRequest(d *decoder) loadRequest {
	return loadRequest{module: d.text(), initArgs: d.text(), label: d.text(), serial: d.text(), pinFile: d.text(), syncDir: d.text(),
		sessions: d.u32(), handles: d.u32(), dialect: getDialect(d), patience: time.Duration(d.u32()) * time.Millisecond}
}

func (p Profile) put(e *encoder) {
	e.text(p.Module)
	e.text(p.Token)
	e.text(p.Serial)
	e.text(p.IVMode)
	e.u32(p.IVBytes)
	e.u32(p.TokenSessions)
	e.text(p.Wrap)
	e.u32(uint32(p.PadWrap))
	e.flag(p.ValueLen)
	e.flag(p.CheckValue)
	for _, list := range [][]string{p.Specs, p.Sign, p.OAEP, p.Lacks} {
		e.u32(uint32(len(list)))
		for _, item := range list {
			e.text(item)
		}
	}
}

func getProfile(d *decoder) Profile {
	return Profile{Module: d.text(), Token: d.text(), Serial: d.text(), IVMode: d.text(), IVBytes: d.u32(), TokenSessions: d.u32(), Wrap: d.text(),
		PadWrap: uint64(d.u32()), ValueLen: d.flag(), CheckValue: d.flag(),
		Specs: getTexts(d), Sign: getTexts(d), OAEP: getTexts(d), Lacks: getTexts(d)}
}

func getTexts(d *decoder) []string {
	n := d.count(4)
	var out []string
	for range n {
		out = append(out, d.text())
	}
	return out
}

func putKey(e *encoder, k wrapped.Key) {
	e.text(k.ID)
	e.u32(k.Version)
	e.text(k.Spec)
	e.text(k.Usage)
	e.text(k.Wrap)
	e.u32(k.Root)
	e.bytes(k.Blob)
	e.bytes(k.MAC)
	e.bytes(k.Public)
}

func getKey(d *decoder) wrapped.Key {
	k := wrapped.Key{ID: d.text(), Version: d.u32(), Spec: d.text(), Usage: d.text(), Wrap: d.text(), Root: d.u32(),
		Blob: bytes.Clone(d.bytes()), MAC: bytes.Clone(d.bytes())}
	if public := d.bytes(); len(public) != 0 {
		k.Public = bytes.Clone(public)
	}
	return k
}

func keyRoom(k wrapped.Key) int {
	return 64 + len(k.ID) + len(k.Spec) + len(k.Usage) + len(k.Wrap) + len(k.Blob) + len(k.MAC) + len(k.Public)
}

// makeRequest asks for a new key, secret or pair.
type makeRequest struct {
	id          string
	version     uint32
	spec, usage string
}

func (m makeRequest) put(e *encoder) {
	e.text(m.id)
	e.u32(m.version)
	e.text(m.spec)
	e.text(m.usage)
}

func getMakeRequest(d *decoder) makeRequest {
	return makeRequest{id: d.text(), version: d.u32(), spec: d.text(), usage: d.text()}
}

// keyRequest asks for one use of a key: to sign a digest, to open a
// ciphertext of RSA, to answer the MAC of a message (no algorithm). input is
// a view into the frame.
type keyRequest struct {
	key       wrapped.Key
	algorithm string
	input     []byte
}

func (m keyRequest) room() int { return keyRoom(m.key) + len(m.algorithm) + len(m.input) }

func (m keyRequest) put(e *encoder) {
	putKey(e, m.key)
	e.text(m.algorithm)
	e.bytes(m.input)
}

func getKeyRequest(d *decoder) keyRequest {
	return keyRequest{key: getKey(d), algorithm: d.text(), input: d.bytes()}
}

// importRequest asks to take in key material: into has all that is known of
// the key, but for blob and MAC.
type importRequest struct {
	with      wrapped.Key
	algorithm string
	blob      []byte
	into      wrapped.Key
}

func (m importRequest) put(e *encoder) {
	putKey(e, m.with)
	e.text(m.algorithm)
	e.bytes(m.blob)
	putKey(e, m.into)
}

func getImportRequest(d *decoder) importRequest {
	return importRequest{with: getKey(d), algorithm: d.text(), blob: d.bytes(), into: getKey(d)}
}

func (r Root) put(e *encoder) {
	e.u32(r.Version)
	e.bytes(r.CheckValue)
	e.bytes(r.MACCheck)
	putKey(e, r.Canary)
	e.bytes(r.CanaryIV)
	e.bytes(r.CanaryBox)
	e.u32(uint32(len(r.Copies)))
	for _, c := range r.Copies {
		e.text(c.NodeID)
		e.bytes(c.Fingerprint)
		e.text(c.Wrap)
		e.bytes(c.RootKey)
		e.bytes(c.MACKey)
	}
}

func getRoot(d *decoder) Root {
	r := Root{Version: d.u32(), CheckValue: bytes.Clone(d.bytes()), MACCheck: bytes.Clone(d.bytes()), Canary: getKey(d),
		CanaryIV: bytes.Clone(d.bytes()), CanaryBox: bytes.Clone(d.bytes())}
	n := d.count(20)
	for range n {
		r.Copies = append(r.Copies, RootCopy{NodeID: d.text(), Fingerprint: bytes.Clone(d.bytes()), Wrap: d.text(),
			RootKey: bytes.Clone(d.bytes()), MACKey: bytes.Clone(d.bytes())})
	}
	return r
}

func putRoots(e *encoder, roots []Root) {
	e.u32(uint32(len(roots)))
	for _, r := range roots {
		r.put(e)
	}
}

func getRoots(d *decoder) []Root {
	n := d.count(20)
	var out []Root
	for range n {
		out = append(out, getRoot(d))
	}
	return out
}

func putKeys(e *encoder, keys []wrapped.Key) {
	e.u32(uint32(len(keys)))
	for _, k := range keys {
		putKey(e, k)
	}
}

func getKeys(d *decoder) []wrapped.Key {
	n := d.count(32)
	var out []wrapped.Key
	for range n {
		out = append(out, getKey(d))
	}
	return out
}

func putRecipients(e *encoder, to []Recipient) {
	e.u32(uint32(len(to)))
	for _, r := range to {
		e.text(r.NodeID)
		e.bytes(r.PublicDER)
		e.text(r.Wrap)
	}
}

func getRecipients(d *decoder) []Recipient {
	n := d.count(12)
	var out []Recipient
	for range n {
		out = append(out, Recipient{NodeID: d.text(), PublicDER: bytes.Clone(d.bytes()), Wrap: d.text()})
	}
	return out
}

func (t TransportKey) put(e *encoder) {
	e.bytes(t.PublicDER)
	e.bytes(t.Fingerprint)
	e.text(t.Wrap)
	e.text(t.Profile)
}

func getTransportKey(d *decoder) TransportKey {
	return TransportKey{PublicDER: bytes.Clone(d.bytes()), Fingerprint: bytes.Clone(d.bytes()), Wrap: d.text(), Profile: d.text()}
}
