package pkcs11

import (
	"bytes"

	"github.com/strongroom/strongroom/internal/wrapped"
)

// The payloads of the requests and answers, each as a pair of put and get.
// Byte slices that outlive the frame are cloned by get.

// loadRequest is all that a worker needs to know before it logs in.
type loadRequest struct {
	module, label, serial, pinFile, syncDir string
	sessions, handles                       uint32
}

func (m loadRequest) put(e *encoder) {
	e.text(m.module)
	e.text(m.label)
	e.text(m.serial)
	e.text(m.pinFile)
	e.text(m.syncDir)
	e.u32(m.sessions)
	e.u32(m.handles)
}

func getLoadRequest(d *decoder) loadRequest {
	return loadRequest{module: d.text(), label: d.text(), serial: d.text(), pinFile: d.text(), syncDir: d.text(),
		sessions: d.u32(), handles: d.u32()}
}

func (p Profile) put(e *encoder) {
	e.text(p.Module)
	e.text(p.Token)
	e.text(p.Serial)
	e.text(p.IVMode)
	e.text(p.Wrap)
	e.flag(p.ValueLen)
	e.flag(p.CheckValue)
}

func getProfile(d *decoder) Profile {
	return Profile{Module: d.text(), Token: d.text(), Serial: d.text(), IVMode: d.text(), Wrap: d.text(),
		ValueLen: d.flag(), CheckValue: d.flag()}
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
}

func getKey(d *decoder) wrapped.Key {
	return wrapped.Key{ID: d.text(), Version: d.u32(), Spec: d.text(), Usage: d.text(), Wrap: d.text(), Root: d.u32(),
		Blob: bytes.Clone(d.bytes()), MAC: bytes.Clone(d.bytes())}
}

func keyRoom(k wrapped.Key) int {
	return 64 + len(k.ID) + len(k.Spec) + len(k.Usage) + len(k.Wrap) + len(k.Blob) + len(k.MAC)
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
}

func getTransportKey(d *decoder) TransportKey {
	return TransportKey{PublicDER: bytes.Clone(d.bytes()), Fingerprint: bytes.Clone(d.bytes()), Wrap: d.text()}
}
