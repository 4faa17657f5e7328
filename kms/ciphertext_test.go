package kms_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/strongroom/strongroom/internal/fault"
	"github.com/strongroom/strongroom/internal/secret"
	"github.com/strongroom/strongroom/kms"
)

func TestWhatEncryptMadeOpensUnderItsKeyAndContextOnly(t *testing.T) {
	w := newWorld(t)
	key, other := w.key("aes-256", "encrypt"), w.key("aes-256", "encrypt")
	context := map[string]string{"a": "1", "b": "2"}
	blob := w.encrypt(key, "hello", context)
	plain, version, err := w.Decrypt(t.Context(), key, blob, map[string]string{"b": "2", "a": "1"})
	require.NoError(t, err)
	require.EqualValues(t, 1, version)
	require.Equal(t, "hello", string(plain.Expose()))

	for name, wrong := range map[string]map[string]string{
		"none": nil, "less": {"a": "1"}, "more": {"a": "1", "b": "2", "c": "3"}, "swapped": {"a": "2", "b": "1"},
		"joined": {"a": "1b2"}, "shifted": {"a1": "", "b": "2"},
	} {
		_, _, err := w.Decrypt(t.Context(), key, blob, wrong)
		refused(t, err, name)
	}
	_, _, err = w.Decrypt(t.Context(), other, blob, context)
	refused(t, err, "another key")
	_, _, err = w.serviceOf(uuid.NewString()).Decrypt(t.Context(), key, blob, context)
	refused(t, err, "another cluster, with the same HSM and the same key")
}

// TestEveryAlteredBlobIsRefusedAlike: no byte of it may tell which part of it
// was looked at first.
func TestEveryAlteredBlobIsRefusedAlike(t *testing.T) {
	w := newWorld(t)
	for _, spec := range []string{"aes-256", "rsa-2048"} {
		key := w.key(spec, "encrypt")
		w.rotate(key)
		blob := w.encrypt(key, "hello", nil)
		for i := range blob {
			for _, flip := range []byte{1, 0x80, 0xff} {
				altered := bytes.Clone(blob)
				altered[i] ^= flip
				_, _, err := w.Decrypt(t.Context(), key, altered, nil)
				refused(t, err, "%s, byte %d", spec, i)
			}
		}
		for n := range blob {
			_, _, err := w.Decrypt(t.Context(), key, blob[:n], nil)
			refused(t, err, "%s, cut at %d", spec, n)
		}
		_, _, err := w.Decrypt(t.Context(), key, append(bytes.Clone(blob), 0), nil)
		refused(t, err, "%s, extended", spec)
		_, _, err = w.Decrypt(t.Context(), key, nil, nil)
		refused(t, err, spec)
	}
}

func TestOldVersionsOpenAndTheNewestSeals(t *testing.T) {
	w := newWorld(t)
	for _, spec := range []string{"aes-256", "rsa-2048"} {
		key := w.key(spec, "encrypt")
		old := w.encrypt(key, "old", nil)
		w.rotate(key)
		header, err := w.ParseHeader(w.encrypt(key, "new", nil))
		require.NoError(t, err)
		require.EqualValues(t, 2, header.KeyVersion)
		require.Equal(t, key.ID, header.KeyID)
		plain, version, err := w.Decrypt(t.Context(), key, old, nil)
		require.NoError(t, err)
		require.EqualValues(t, 1, version)
		require.Equal(t, "old", string(plain.Expose()))
	}
}

// TestCiphertextsDoNotRepeat: the same text twice must not look alike.
func TestCiphertextsDoNotRepeat(t *testing.T) {
	w := newWorld(t)
	key := w.key("aes-256", "encrypt")
	require.NotEqual(t, w.encrypt(key, "hello", nil), w.encrypt(key, "hello", nil))
}

// TestContextsHaveOneEncodingEach: two contexts that differ never bind alike,
// however their names and values run into each other.
func TestContextsHaveOneEncodingEach(t *testing.T) {
	w := newWorld(t)
	key := w.key("aes-256", "encrypt")
	part := rapid.StringOfN(rapid.RuneFrom([]rune("ab\x00\x01")), 1, 3, -1)
	rapid.Check(t, func(r *rapid.T) {
		one := rapid.MapOfN(part, part, 0, 3).Draw(r, "one")
		two := rapid.MapOfN(part, part, 0, 3).Draw(r, "two")
		_, _, err := w.Decrypt(t.Context(), key, w.encrypt(key, "x", one), two)
		require.Equal(r, fmt.Sprint(one) == fmt.Sprint(two), err == nil, "%q %q", one, two)
	})
}

func TestContextsAreBounded(t *testing.T) {
	many := map[string]string{}
	for i := range 33 {
		many[fmt.Sprint(i)] = "x"
	}
	for name, bad := range map[string]map[string]string{
		"unnamed": {"": "x"}, "many": many, "long": {"a": strings.Repeat("x", 8192)},
	} {
		err := kms.CheckContext(bad)
		require.Equal(t, fault.InvalidRequest, fault.KindOf(err), name)
		require.ErrorContains(t, err, "context: ")
	}
	require.NoError(t, kms.CheckContext(map[string]string{"a": strings.Repeat("x", 8191)}))
}

// TestAnHSMThatIsAwayIsNotABadCiphertext: a caller who is told that its
// ciphertext is bad may throw it away.
func TestAnHSMThatIsAwayIsNotABadCiphertext(t *testing.T) {
	w := newWorld(t)
	key := w.key("aes-256", "encrypt")
	blob := w.encrypt(key, "hello", nil)
	w.token.Down.Store(true)
	_, _, err := w.Decrypt(t.Context(), key, blob, nil)
	require.Equal(t, fault.HsmUnavailable, fault.KindOf(err))
	_, _, err = w.Encrypt(t.Context(), key, secret.Copy([]byte("x")), nil)
	require.Equal(t, fault.HsmUnavailable, fault.KindOf(err))
}

func FuzzParseHeader(f *testing.F) {
	token := newFuzzService(f)
	f.Add([]byte{})
	f.Add([]byte("SR\x01\x01"))
	f.Add(append([]byte("SR\x01\x01"), make([]byte, 100)...))
	f.Fuzz(func(t *testing.T, blob []byte) {
		before := bytes.Clone(blob)
		header, err := token.ParseHeader(blob)
		require.Equal(t, before, blob, "the blob is the caller's")
		if err != nil {
			refused(t, err)
			return
		}
		require.Equal(t, token.cluster, header.ClusterID)
		_, err = uuid.Parse(header.KeyID)
		require.NoError(t, err)
	})
}

type fuzzService struct {
	*kms.Service
	cluster string
}

func newFuzzService(f *testing.F) fuzzService {
	cluster := uuid.NewString()
	s, err := kms.New(nil, cluster)
	require.NoError(f, err)
	return fuzzService{s, cluster}
}
