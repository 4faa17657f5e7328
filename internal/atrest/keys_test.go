package atrest

import (
	"bytes"
	"encoding/hex"
	"io"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/strongroom/strongroom/internal/secret"
)

func material(b byte) secret.Bytes { return secret.New(bytes.Repeat([]byte{b}, KeyBytes)) }

func testKeys(t testing.TB, cluster, node string, generations ...byte) *Keys {
	t.Helper()
	all := map[uint32]secret.Bytes{}
	for _, g := range generations {
		all[uint32(g)] = material(g)
	}
	k, err := New(cluster, node, all)
	require.NoError(t, err)
	for _, key := range all {
		require.Zero(t, key.Len(), "the storage key is wiped")
	}
	return k
}

// The vectors of C2SP's XAES-256-GCM: one for each of what the top bit of the
// block under zeros may be.
func TestXAESIsThatOfItsSpecification(t *testing.T) {
	for _, v := range []struct {
		key       byte
		aad, want string
	}{
		{1, "", "ce546ef63c9cc60765923609b33a9a1974e96e52daf2fcf7075e2271"},
		{3, "c2sp.org/XAES-256-GCM", "986ec1832593df5443a179437fd083bf3fdb41abd740a21f71eb769d"},
	} {
		x, err := newXAES(bytes.Repeat([]byte{v.key}, 32))
		require.NoError(t, err)
		nonce := []byte("ABCDEFGHIJKLMNOPQRSTUVWX")
		aead, err := x.under(nonce)
		require.NoError(t, err)
		require.Equal(t, v.want, hex.EncodeToString(aead.Seal(nil, nonce[12:], []byte("XAES-256-GCM"), []byte(v.aad))))
	}
}

// A record of the format of today has to open for ever.
func TestGoldenRecord(t *testing.T) {
	const record = "0200000002acd560b00e83188b822ce4daa9e1d871508604e5e8cde1bce677b2660df619a07a6d311d722104bc453017fd10eed5ed3e5ba345c30af467"
	raw, err := hex.DecodeString(record)
	require.NoError(t, err)
	got, err := testKeys(t, "c1", "n1", 1, 2).Open("kind", []byte("about"), raw)
	require.NoError(t, err)
	require.Equal(t, "what was written", string(got))
}

func TestRecordsOpenAtTheirPlaceOnly(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		data, about := rapid.SliceOf(rapid.Byte()).Draw(t, "data"), rapid.SliceOf(rapid.Byte()).Draw(t, "about")
		kind := rapid.String().Draw(t, "kind")
		k, err := New("c1", "n1", map[uint32]secret.Bytes{1: material(1)})
		require.NoError(t, err)
		record, err := k.Seal(kind, about, data)
		require.NoError(t, err)
		require.Len(t, record, len(data)+Overhead)
		got, err := k.Open(kind, about, record)
		require.NoError(t, err)
		require.True(t, bytes.Equal(data, got))

		signed, err := k.Sign(kind, data)
		require.NoError(t, err)
		got, err = k.Verify(kind, signed)
		require.NoError(t, err)
		require.True(t, bytes.Equal(data, got))
		got, err = Unverified(signed)
		require.NoError(t, err)
		require.True(t, bytes.Equal(data, got))

		at, bit := rapid.IntRange(0, len(record)-1).Draw(t, "at"), byte(1)<<rapid.IntRange(0, 7).Draw(t, "bit")
		record[at] ^= bit
		_, err = k.Open(kind, about, record)
		require.Error(t, err)
		signed[at] ^= bit
		_, err = k.Verify(kind, signed)
		require.Error(t, err)
	})
}

func TestRecordsOpenNowhereElse(t *testing.T) {
	k := testKeys(t, "c1", "n1", 1, 2)
	record, err := k.Seal("kind", []byte("about"), []byte("data"))
	require.NoError(t, err)
	signed, err := k.Sign("kind", []byte("data"))
	require.NoError(t, err)
	for what, open := range map[string]func() ([]byte, error){
		"other kind":       func() ([]byte, error) { return k.Open("kinds", []byte("about"), record) },
		"other place":      func() ([]byte, error) { return k.Open("kind", []byte("abouts"), record) },
		"other cluster":    func() ([]byte, error) { return testKeys(t, "c2", "n1", 2).Open("kind", []byte("about"), record) },
		"other node":       func() ([]byte, error) { return testKeys(t, "c1", "n2", 2).Open("kind", []byte("about"), record) },
		"parts moved":      func() ([]byte, error) { return testKeys(t, "c1n", "1", 2).Open("kind", []byte("about"), record) },
		"other generation": func() ([]byte, error) { return testKeys(t, "c1", "n1", 1, 3).Open("kind", []byte("about"), record) },
		"older keys":       func() ([]byte, error) { return testKeys(t, "c1", "n1", 1).Open("kind", []byte("about"), record) },
		"format 1": func() ([]byte, error) {
			return k.Open("kind", []byte("about"), append([]byte{1}, record[1:]...))
		},
		"short":        func() ([]byte, error) { return k.Open("kind", []byte("about"), record[:Overhead-1]) },
		"empty":        func() ([]byte, error) { return k.Open("kind", []byte("about"), nil) },
		"longer":       func() ([]byte, error) { return k.Open("kind", []byte("about"), append(bytes.Clone(record), 0)) },
		"signed":       func() ([]byte, error) { return k.Open("kind", []byte("data"), signed) },
		"sealed":       func() ([]byte, error) { return k.Verify("kind", record) },
		"signed other": func() ([]byte, error) { return k.Verify("kinds", signed) },
		"signed more":  func() ([]byte, error) { return k.Verify("kind", append(bytes.Clone(signed), 0)) },
	} {
		_, err := open()
		require.Error(t, err, what)
	}
	_, err = testKeys(t, "c1", "n1", 1).Open("kind", []byte("about"), record)
	require.ErrorIs(t, err, ErrUnknown)
	got, err := testKeys(t, "c1", "n1", 1, 2, 3).Open("kind", []byte("about"), record)
	require.NoError(t, err, "older generations open")
	require.Equal(t, "data", string(got))
}

func TestKeysAreChecked(t *testing.T) {
	for what, keys := range map[string]map[uint32]secret.Bytes{
		"none": {}, "generation 0": {0: material(1)}, "short": {1: secret.New(make([]byte, 31))},
	} {
		_, err := New("c1", "n1", keys)
		require.Error(t, err, what)
	}
}

func sealStream(t testing.TB, k *Keys, data []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := k.SealStream(&out, "kind", []byte("about"))
	require.NoError(t, err)
	_, err = io.Copy(w, iotest.HalfReader(bytes.NewReader(data)))
	require.NoError(t, err)
	require.NoError(t, w.Close())
	require.NoError(t, w.Close())
	return out.Bytes()
}

func openStream(k *Keys, kind, about string, sealed []byte) ([]byte, error) {
	r, err := k.OpenStream(bytes.NewReader(sealed), kind, []byte(about))
	if err != nil {
		return nil, err
	}
	return io.ReadAll(r)
}

func TestStreamsComeBackWholeOrNotAtAll(t *testing.T) {
	k := testKeys(t, "c1", "n1", 1)
	for _, n := range []int{0, 1, chunkBytes - 1, chunkBytes, chunkBytes + 1, 2 * chunkBytes, 3*chunkBytes + 17} {
		data := bytes.Repeat([]byte("strongroom"), n/10+1)[:n]
		sealed := sealStream(t, k, data)
		require.Equal(t, int64(n), StreamSize(int64(len(sealed))), "%d bytes", n)
		got, err := openStream(k, "kind", "about", sealed)
		require.NoError(t, err)
		require.True(t, bytes.Equal(data, got))
		for _, cut := range []int{1, tagBytes, tagBytes + 1, chunkBytes, chunkBytes + tagBytes} {
			if cut <= len(sealed) {
				_, err = openStream(k, "kind", "about", sealed[:len(sealed)-cut])
				require.Error(t, err, "%d bytes cut from %d", cut, n)
			}
		}
		_, err = openStream(k, "kind", "about", append(bytes.Clone(sealed), 0))
		require.Error(t, err)
		for _, at := range []int{0, 1, 5, streamHeader - 1, streamHeader, len(sealed) / 2, len(sealed) - 1} {
			flipped := bytes.Clone(sealed)
			flipped[min(at, len(sealed)-1)] ^= 4
			_, err = openStream(k, "kind", "about", flipped)
			require.Error(t, err, "byte %d of %d", at, n)
		}
	}
	data := bytes.Repeat([]byte{5}, 3*chunkBytes)
	sealed := sealStream(t, k, data)
	const chunk = chunkBytes + tagBytes
	one, two := sealed[streamHeader:streamHeader+chunk], sealed[streamHeader+chunk:streamHeader+2*chunk]
	swapped := append(append(append(bytes.Clone(sealed[:streamHeader]), two...), one...), sealed[streamHeader+2*chunk:]...)
	_, err := openStream(k, "kind", "about", swapped)
	require.ErrorIs(t, err, ErrChanged)
	for what, other := range map[string]func() ([]byte, error){
		"kind":       func() ([]byte, error) { return openStream(k, "kinds", "about", sealed) },
		"about":      func() ([]byte, error) { return openStream(k, "kind", "abouts", sealed) },
		"cluster":    func() ([]byte, error) { return openStream(testKeys(t, "c2", "n1", 1), "kind", "about", sealed) },
		"node":       func() ([]byte, error) { return openStream(testKeys(t, "c1", "n2", 1), "kind", "about", sealed) },
		"generation": func() ([]byte, error) { return openStream(testKeys(t, "c1", "n1", 2), "kind", "about", sealed) },
		"empty":      func() ([]byte, error) { return openStream(k, "kind", "about", nil) },
	} {
		_, err := other()
		require.Error(t, err, what)
	}
}

// Whatever lies on the disk, reading it ends in an error and never in a panic
// or in data.
func FuzzOpen(f *testing.F) {
	k := testKeys(f, "c1", "n1", 1)
	record, err := k.Seal("kind", []byte("about"), []byte("data"))
	require.NoError(f, err)
	f.Add(record)
	f.Add(sealStream(f, k, []byte("data")))
	f.Add([]byte{})
	f.Add([]byte{recordFormat, 0, 0, 0, 1})
	strangers := testKeys(f, "c1", "n1", 9) // nothing that is added was made under these
	f.Fuzz(func(t *testing.T, raw []byte) {
		if _, err := strangers.Open("kind", []byte("about"), raw); err == nil {
			t.Fatal("it opened")
		}
		if _, err := strangers.Verify("kind", raw); err == nil {
			t.Fatal("it was believed")
		}
		if _, err := openStream(strangers, "kind", "about", raw); err == nil {
			t.Fatal("it opened as a stream")
		}
		_, _ = Unverified(raw)
		_, _ = Generation(raw)
		if n := StreamSize(int64(len(raw))); n < 0 || n > int64(len(raw)) {
			t.Fatalf("a stream of %d bytes holds %d", len(raw), n)
		}
	})
}

// What sealing adds to one entry of a put of 1 KiB, beside its fsync.
func BenchmarkSealAndOpen(b *testing.B) {
	k := testKeys(b, "c1", "n1", 1)
	data, about := make([]byte, 2048), make([]byte, 17)
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		record, err := k.Seal("strongroom log entry", about, data)
		if err == nil {
			_, err = k.Open("strongroom log entry", about, record)
		}
		if err != nil {
			b.Fatal(err)
		}
	}
}
