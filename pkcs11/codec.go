package pkcs11

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"time"
)

// The protocol between the two halves. Both are the same binary, so there is
// one version and a mismatch (a binary replaced under a running server) ends
// the worker.
//
//	frame    = length u32 | version u8 | kind u8 | id u64 | payload
//	request  : kind is an op, id is chosen by the parent
//	answer   : kind is a status, id is the request's; the payload of a
//	           status other than OK is one text field
//	payload  = fields of a fixed order; bytes and text carry a u32 length
//
// All integers are big-endian; length counts what follows it.
const (
	protocolVersion = 2
	headerBytes     = 14
	maxFrame        = 1 << 20
)

// op is what a request asks for. The numbers are part of the protocol.
type op uint8

const (
	opLoad            op = 1 // load the module
	opLogin           op = 2 // find the token and log in: the one call that may cost a try of the PIN
	opUseRoot         op = 3 // find or import the root key, check it
	opPing            op = 4 // is the worker's own code alive?
	opCanary          op = 5 // is the HSM alive?
	opGenerateKey     op = 6
	opSeal            op = 7
	opOpen            op = 8
	opMAC             op = 9
	opRandom          op = 10
	opCreateTransport op = 11
	opTransport       op = 12
	opCreateRoot      op = 13
	opInitToken       op = 14
	opProbe           op = 15 // probe the module, open the sessions
	opGeneratePair    op = 16
	opSign            op = 17
	opKeyMAC          op = 18
	opDecryptRSA      op = 19
	opImportKey       op = 20
	opCheckKey        op = 21
	opImportRoot      op = 22 // take in a root beside those in use; a fresh worker checks it
	opMakeUnder       op = 23 // which root in use new keys are wrapped under
	opRewrap          op = 24
	opRemoveRoot      op = 25
	opCreateStorage   op = 26 // make a storage root
	opSealStorage     op = 27
	opOpenStorage     op = 28
	opRemoveStorage   op = 29
	opTrust           op = 30 // the security officer's part of an export; only without opLogin
	opExportRoot      op = 31
)

// names of operations, as metrics and logs show them.
func (o op) String() string {
	names := [...]string{opLoad: "load", opLogin: "login", opUseRoot: "useRoot", opPing: "ping", opCanary: "canary",
		opGenerateKey: "generateKey", opSeal: "seal", opOpen: "open", opMAC: "mac", opRandom: "random",
		opCreateTransport: "createTransportKey", opTransport: "transportKey", opCreateRoot: "createRoot",
		opInitToken: "initToken", opProbe: "probe", opGeneratePair: "generateKeyPair", opSign: "sign",
		opKeyMAC: "keyMac", opDecryptRSA: "decryptRsa", opImportKey: "importKey", opCheckKey: "checkKey",
		opImportRoot: "importRoot", opMakeUnder: "makeUnder", opRewrap: "rewrap", opRemoveRoot: "removeRoot",
		opCreateStorage: "createStorageRoot", opSealStorage: "sealStorage", opOpenStorage: "openStorage", opRemoveStorage: "removeStorageRoot",
		opTrust: "trust", opExportRoot: "exportRoot"}
	if int(o) < len(names) && names[o] != "" {
		return names[o]
	}
	return fmt.Sprintf("op(%d)", uint8(o))
}

// frame is one message. Its payload may hold plaintext: whoever is done with
// it calls wipe.
type frame struct {
	kind     uint8
	id       uint64
	payload  []byte
	received time.Time // by the worker; not on the wire
}

func (f frame) wipe() { clear(f.payload[:cap(f.payload)]) }

var (
	errFrameSize    = errors.New("frame of an impossible size")
	errFrameVersion = errors.New("frame of another protocol version")
)

// writeFrame sends one frame in one Write and wipes the buffer that it
// needed for that. It does not wipe the payload, which may be sent again.
func writeFrame(w io.Writer, f frame) error {
	if len(f.payload) > maxFrame-headerBytes {
		return errFrameSize
	}
	b := make([]byte, 0, headerBytes+len(f.payload))
	b = binary.BigEndian.AppendUint32(b, uint32(headerBytes-4+len(f.payload)))
	b = append(b, protocolVersion, f.kind)
	b = binary.BigEndian.AppendUint64(b, f.id)
	b = append(b, f.payload...)
	defer clear(b)
	_, err := w.Write(b)
	return err
}

// readFrame reads one frame. The payload is a buffer of its own.
func readFrame(r io.Reader) (frame, error) {
	var header [headerBytes]byte
	if _, err := io.ReadFull(r, header[:4]); err != nil {
		return frame{}, err
	}
	size := binary.BigEndian.Uint32(header[:4])
	if size < headerBytes-4 || size > maxFrame-4 {
		return frame{}, errFrameSize
	}
	if _, err := io.ReadFull(r, header[4:]); err != nil {
		return frame{}, noEOF(err)
	}
	if header[4] != protocolVersion {
		return frame{}, errFrameVersion
	}
	f := frame{kind: header[5], id: binary.BigEndian.Uint64(header[6:]), payload: make([]byte, size-(headerBytes-4))}
	if _, err := io.ReadFull(r, f.payload); err != nil {
		f.wipe()
		return frame{}, noEOF(err)
	}
	return f, nil
}

func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// encoder builds a payload. It is sized beforehand, so that growing leaves no
// copies of plaintext behind.
type encoder struct{ b []byte }

func newEncoder(room int) *encoder { return &encoder{b: make([]byte, 0, room+128)} }

func (e *encoder) u32(v uint32) { e.b = binary.BigEndian.AppendUint32(e.b, v) }

func (e *encoder) flag(v bool) {
	if v {
		e.b = append(e.b, 1)
	} else {
		e.b = append(e.b, 0)
	}
}

func (e *encoder) bytes(p []byte) {
	e.u32(uint32(len(p)))
	e.b = append(e.b, p...)
}

func (e *encoder) text(s string) {
	e.u32(uint32(len(s)))
	e.b = append(e.b, s...)
}

var errPayload = errors.New("malformed payload")

// decoder reads a payload. The first fault sticks, and every later read
// answers zero values; done tells.
type decoder struct {
	b      []byte
	failed bool
}

func (d *decoder) take(n int) []byte {
	if d.failed || n < 0 || n > len(d.b) {
		d.failed = true
		return nil
	}
	out := d.b[:n:n]
	d.b = d.b[n:]
	return out
}

func (d *decoder) u32() uint32 {
	if p := d.take(4); p != nil {
		return binary.BigEndian.Uint32(p)
	}
	return 0
}

func (d *decoder) flag() bool {
	p := d.take(1)
	if p == nil || p[0] > 1 {
		d.failed = true
		return false
	}
	return p[0] == 1
}

// bytes answers a view into the payload: it lives as long as the frame.
func (d *decoder) bytes() []byte {
	n := d.u32()
	if uint64(n) > math.MaxInt32 {
		d.failed = true
		return nil
	}
	return d.take(int(n))
}

func (d *decoder) text() string { return string(d.bytes()) }

// count reads the length of a list whose items have at least min bytes each,
// so that a short payload cannot ask for a long list.
func (d *decoder) count(min int) int {
	n := d.u32()
	if uint64(n)*uint64(min) > uint64(len(d.b)) {
		d.failed = true
		return 0
	}
	return int(n)
}

// done fails unless everything was read and nothing is left.
func (d *decoder) done() error {
	if d.failed || len(d.b) != 0 {
		return errPayload
	}
	return nil
}
