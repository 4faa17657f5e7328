package pkcs11

import (
	"bytes"
	"io"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/strongroom/strongroom/internal/wrapped"
)

func TestFramesComeBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := frame{kind: rapid.Byte().Draw(t, "kind"), id: rapid.Uint64().Draw(t, "id"),
			payload: rapid.SliceOf(rapid.Byte()).Draw(t, "payload")}
		var wire bytes.Buffer
		require.NoError(t, writeFrame(&wire, in))
		whole := bytes.Clone(wire.Bytes())
		out, err := readFrame(&wire)
		require.NoError(t, err)
		require.Equal(t, in.kind, out.kind)
		require.Equal(t, in.id, out.id)
		require.True(t, bytes.Equal(in.payload, out.payload))
		cut := rapid.IntRange(0, len(whole)-1).Draw(t, "cut")
		_, err = readFrame(bytes.NewReader(whole[:cut]))
		require.Error(t, err, "a cut frame is none")
	})
}

func TestImpossibleFramesAreRefused(t *testing.T) {
	require.ErrorIs(t, writeFrame(io.Discard, frame{payload: make([]byte, maxFrame)}), errFrameSize)
	for name, c := range map[string]struct {
		wire string
		want error
	}{
		"nothing":         {"", io.EOF},
		"too short":       {"\x00\x00\x00\x09\x01\x01", errFrameSize},
		"too long":        {"\x7f\xff\xff\xff\x01\x01", errFrameSize},
		"another version": {"\x00\x00\x00\x0a\x01\x01\x00\x00\x00\x00\x00\x00\x00\x01", errFrameVersion},
		"cut header":      {"\x00\x00\x00\x0a\x01", io.ErrUnexpectedEOF},
		"cut payload":     {"\x00\x00\x00\x0c\x02\x01\x00\x00\x00\x00\x00\x00\x00\x01x", io.ErrUnexpectedEOF},
	} {
		_, err := readFrame(bytes.NewReader([]byte(c.wire)))
		require.ErrorIs(t, err, c.want, name)
	}
}

func TestRootsComeBack(t *testing.T) {
	raw := rapid.SliceOfN(rapid.Byte(), 1, 40)
	rapid.Check(t, func(t *rapid.T) {
		in := Root{Version: rapid.Uint32().Draw(t, "version"), CheckValue: raw.Draw(t, "kcv"), MACCheck: raw.Draw(t, "mac"),
			Canary: wrapped.Key{ID: rapid.String().Draw(t, "id"), Version: 1, Spec: "s", Usage: "u", Wrap: "w", Root: 3,
				Blob: raw.Draw(t, "blob"), MAC: raw.Draw(t, "keymac")},
			CanaryIV: raw.Draw(t, "iv"), CanaryBox: raw.Draw(t, "box")}
		for range rapid.IntRange(0, 4).Draw(t, "copies") {
			in.Copies = append(in.Copies, RootCopy{NodeID: rapid.String().Draw(t, "node"), Fingerprint: raw.Draw(t, "f"),
				Wrap: "x", RootKey: raw.Draw(t, "r"), MACKey: raw.Draw(t, "m")})
		}
		e := newEncoder(16)
		in.put(e)
		d := &decoder{b: e.b}
		require.Equal(t, in, getRoot(d))
		require.NoError(t, d.done())
	})
}

// What a broken worker or parent may send is refused; it neither panics nor
// makes the reader allocate more than a frame holds.
func FuzzReadFrame(f *testing.F) {
	f.Add([]byte("\x00\x00\x00\x0a\x02\x01\x00\x00\x00\x00\x00\x00\x00\x01"))
	f.Add([]byte("\xff\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, wire []byte) {
		got, err := readFrame(bytes.NewReader(wire))
		if err != nil {
			return
		}
		var back bytes.Buffer
		require.NoError(t, writeFrame(&back, got))
		require.True(t, bytes.HasPrefix(wire, back.Bytes()), "a frame has one encoding")
	})
}

func FuzzDecodePayload(f *testing.F) {
	e := newEncoder(16)
	Root{Version: 1, Copies: []RootCopy{{NodeID: "n"}}}.put(e)
	f.Add(e.b)
	pair := wrapped.Key{ID: "k", Spec: wrapped.ECP256, Usage: wrapped.Sign, Public: []byte("p")}
	for _, m := range []interface{ put(*encoder) }{
		Profile{Module: "m", PadWrap: ckmAESKeyWrapPad, OAEP: []string{wrapped.RSAOAEPSHA1}},
		makeRequest{id: "k", version: 1, spec: wrapped.RSA2048, usage: wrapped.Sign},
		keyRequest{key: pair, algorithm: wrapped.ECDSASHA256, input: make([]byte, 32)},
		importRequest{with: pair, algorithm: wrapped.RSAOAEPSHA1, blob: make([]byte, 40), into: pair},
	} {
		e := newEncoder(16)
		m.put(e)
		f.Add(e.b)
	}
	f.Add([]byte("\xff\xff\xff\xff\xff\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, payload []byte) {
		for _, get := range []func(*decoder, *encoder){
			func(d *decoder, e *encoder) { getRoot(d).put(e) },
			func(d *decoder, e *encoder) { putKey(e, getKey(d)) },
			func(d *decoder, e *encoder) { putRecipients(e, getRecipients(d)) },
			func(d *decoder, e *encoder) { getTransportKey(d).put(e) },
			func(d *decoder, e *encoder) { getProfile(d).put(e) },
			func(d *decoder, e *encoder) { getLoadRequest(d).put(e) },
			func(d *decoder, e *encoder) { getMakeRequest(d).put(e) },
			func(d *decoder, e *encoder) { getKeyRequest(d).put(e) },
			func(d *decoder, e *encoder) { getImportRequest(d).put(e) },
		} {
			d, again := &decoder{b: payload}, newEncoder(16)
			get(d, again)
			if d.done() == nil {
				require.True(t, bytes.Equal(payload, again.b), "a payload has one encoding")
			}
		}
	})
}
