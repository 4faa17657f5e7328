package kms_test

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/internal/fault"
	"github.com/strongroom/strongroom/internal/secret"
	"github.com/strongroom/strongroom/internal/wrapped"
	"github.com/strongroom/strongroom/kms"
	"github.com/strongroom/strongroom/test/softtoken"
)

func TestCiphertextNamesItsKeyAndComesBack(t *testing.T) {
	w := newWorld(t)
	key := w.aes(2)
	context := map[string]string{"app": "web", "env": "prod"}
	for _, plain := range []string{"", "x", strings.Repeat("p", kms.MaxPlaintext)} {
		blob := w.encrypt(key, plain, context)
		header, err := w.ParseHeader(blob)
		require.NoError(t, err)
		require.Equal(t, w.clusterID, header.ClusterID)
		require.Equal(t, key.ID, header.KeyID)
		require.Equal(t, uint32(2), header.KeyVersion)
		got, version, err := w.Decrypt(t.Context(), key, blob, context)
		require.NoError(t, err)
		require.Equal(t, plain, string(got.Expose()))
		require.Equal(t, uint32(2), version)
	}
}

// The layout is a contract: blobs are kept by callers for years.
func TestCiphertextLayout(t *testing.T) {
	w := newWorld(t)
	key := w.aes(1)
	blob := w.encrypt(key, "hunter2", nil)
	clusterID, keyID := uuid.MustParse(w.clusterID), uuid.MustParse(key.ID)
	want := "SR\x01\x01" + string(clusterID[:]) + string(keyID[:]) + "\x00\x00\x00\x01" + "\x01" + "\x0c"
	require.Equal(t, want, string(blob[:42]))
	require.Len(t, blob, 42+12+len("hunter2")+16)
}

func TestAnyVersionOfAKeyOpens(t *testing.T) {
	w := newWorld(t)
	key := w.aes(3)
	old := *key
	old.Current = 2
	blob := w.encrypt(&old, "hunter2", nil)
	got, version, err := w.Decrypt(t.Context(), key, blob, nil)
	require.NoError(t, err)
	require.Equal(t, uint32(2), version)
	require.Equal(t, "hunter2", string(got.Expose()))

	younger := *key
	younger.Versions, younger.Current = key.Versions[:1], 1
	_, _, err = w.Decrypt(t.Context(), &younger, blob, nil)
	requireDoesNotOpen(t, err, "a version that the key does not have")
}

// No oracle: every cut and every flipped byte, in header, IV or box, is
// answered alike by both who read a blob.
func TestEveryChangeIsAnsweredAlike(t *testing.T) {
	w := newWorld(t)
	key := w.aes(2)
	blob := w.encrypt(key, "hunter2", map[string]string{"app": "web"})
	for i, changed := range append(changes(blob), nil, []byte{}, []byte("SR"), make([]byte, len(blob))) {
		_, _, err := w.Decrypt(t.Context(), key, changed, map[string]string{"app": "web"})
		requireDoesNotOpen(t, err, "change %d: %x", i, changed)
		if _, err := w.ParseHeader(changed); err != nil {
			requireDoesNotOpen(t, err, "change %d: %x", i, changed)
		}
	}
	_, _, err := w.Decrypt(t.Context(), w.aes(2), blob, map[string]string{"app": "web"})
	requireDoesNotOpen(t, err, "another key")
	other := w.elsewhere()
	_, _, err = other.Decrypt(t.Context(), key, blob, map[string]string{"app": "web"})
	requireDoesNotOpen(t, err, "another cluster")
	_, err = other.ParseHeader(blob)
	requireDoesNotOpen(t, err, "another cluster")

	swapped := *key
	swapped.Versions = []fsm.KeyVersion{key.Versions[1], key.Versions[0]}
	_, _, err = w.Decrypt(t.Context(), &swapped, blob, map[string]string{"app": "web"})
	requireDoesNotOpen(t, err, "another version of the key")
}

func TestContextIsBound(t *testing.T) {
	w := newWorld(t)
	key := w.aes(1)
	blob := w.encrypt(key, "hunter2", map[string]string{"a": "1", "b": "2"})
	for _, other := range []map[string]string{
		nil, {}, {"a": "1"}, {"a": "1", "b": "3"}, {"A": "1", "b": "2"}, {"a": "1", "b": "2", "c": ""},
		{"a": "2", "b": "1"}, {"a1": "", "b": "2"}, {"ab": "12"}, {"a": "1b2"},
	} {
		_, _, err := w.Decrypt(t.Context(), key, blob, other)
		requireDoesNotOpen(t, err, "%v", other)
	}
	_, _, err := w.Decrypt(t.Context(), key, blob, map[string]string{"b": "2", "a": "1"})
	require.NoError(t, err, "a context has no order")

	none := w.encrypt(key, "hunter2", nil)
	_, _, err = w.Decrypt(t.Context(), key, none, map[string]string{})
	require.NoError(t, err, "no context and an empty one are the same")
}

// Contexts are the same exactly when they are equal: lengths are part of what
// is bound, so nothing can be moved between a name and a value.
func TestContextsAreNeverTakenForEachOther(t *testing.T) {
	w := newWorld(t)
	key := w.aes(1)
	word := rapid.SampledFrom([]string{"", "a", "b", "ab", "\x00", "a\x00", "\x00\x00\x00\x01a"})
	draw := rapid.MapOfN(word.Filter(func(s string) bool { return s != "" }), word, 0, 3)
	rapid.Check(t, func(t *rapid.T) {
		one, other := draw.Draw(t, "one"), draw.Draw(t, "other")
		blob := w.encrypt(key, "hunter2", one)
		_, _, err := w.Decrypt(w.t.Context(), key, blob, other)
		if fmt.Sprint(one) != fmt.Sprint(other) {
			requireDoesNotOpen(w.t, err, "%q for %q", other, one)
			return
		}
		require.NoError(t, err)
	})
}

// The right to decrypt under a key plus a copy of the store must not add up
// to the values of the secrets that are bound to the key, nor the reverse.
func TestDataKeysAndCallersCiphertextsDoNotMix(t *testing.T) {
	w := newWorld(t)
	key := w.aes(1)
	sealed := w.seal(key, someID, "hunter2")
	context := map[string]string{"path": string(someID.Path), "secretId": someID.SecretID, "version": "3"}

	for what, blob := range map[string][]byte{"as it is": sealed.DataKey, "with the kind changed": withKind(sealed.DataKey, 1)} {
		_, _, err := w.Decrypt(t.Context(), key, blob, context)
		requireDoesNotOpen(t, err, what)
	}
	_, err := w.ParseHeader(sealed.DataKey)
	requireDoesNotOpen(t, err, "a data key has no header for callers")

	// A caller who encrypts 32 bytes of its own under the very context of a
	// version has not made that version's data key.
	own := w.encrypt(key, strings.Repeat("k", 32), context)
	for what, blob := range map[string][]byte{"as it is": own, "with the kind changed": withKind(own, 2)} {
		_, err := w.OpenValue(t.Context(), key, someID, kms.Sealed{Box: sealed.Box, DataKey: blob, KeyVersion: 1})
		requireStoreAltered(t, err, what)
	}
}

func withKind(blob []byte, kind byte) []byte {
	out := append([]byte{}, blob...)
	out[3] = kind
	return out
}

func TestContextBounds(t *testing.T) {
	many := map[string]string{}
	for i := range 32 {
		many[fmt.Sprintf("n%d", i)] = "v"
	}
	require.NoError(t, kms.CheckContext(nil))
	require.NoError(t, kms.CheckContext(many))
	require.NoError(t, kms.CheckContext(map[string]string{"n": strings.Repeat("v", 8191)}))
	many["one more"] = ""
	for want, context := range map[string]map[string]string{
		"context: has an entry without a name":                                                {"": "v"},
		"context: has 33 entries of 126 bytes; at most 32 entries and 8192 bytes are allowed": many,
		"context: has 1 entries of 8193 bytes; at most 32 entries and 8192 bytes are allowed": {"n": strings.Repeat("v", 8192)},
	} {
		err := kms.CheckContext(context)
		require.Equal(t, fault.InvalidRequest, fault.KindOf(err))
		require.ErrorContains(t, err, want)
	}
}

// FuzzParseHeader: a blob that this cluster can have made names a key in its
// one spelling; all else is the one refusal; and none of it opens.
func FuzzParseHeader(f *testing.F) {
	w := newWorld(f)
	key := w.aes(1)
	blob := w.encrypt(key, "hunter2", nil)
	f.Add([]byte(nil))
	for _, changed := range changes(blob) {
		f.Add(changed)
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		header, err := w.ParseHeader(in)
		if err != nil {
			requireDoesNotOpen(t, err, "header")
			require.Zero(t, header)
		} else {
			require.Equal(t, w.clusterID, header.ClusterID)
			require.Equal(t, uuid.MustParse(header.KeyID).String(), header.KeyID)
			require.GreaterOrEqual(t, len(in), 42+1+16)
		}
		if string(in) != string(blob) {
			_, _, err = w.Decrypt(t.Context(), key, in, nil)
			requireDoesNotOpen(t, err, "decrypt")
		}
		_, _, err = w.Decrypt(t.Context(), key, blob, nil)
		require.NoError(t, err, "what a stranger sends must not spoil what is whole")
	})
}

func TestNonsenseIsRefusedBeforeTheHSM(t *testing.T) {
	w := newWorld(t)
	w.token.Down.Store(true)
	for _, test := range [][3]string{{"aes-128", "encrypt", "spec: "}, {"aes-256", "sign", "usage: "}, {"", "", "spec: "}} {
		_, err := w.GenerateKey(t.Context(), uuid.NewString(), 1, test[0], test[1])
		require.Equal(t, fault.InvalidRequest, fault.KindOf(err))
		require.ErrorContains(t, err, test[2])
	}
	_, err := kms.New(w.token, "not a uuid")
	require.ErrorContains(t, err, "cluster id")
	_, _, err = w.Encrypt(t.Context(), &fsm.Key{ID: "x", Spec: wrapped.AES256, Usage: wrapped.Encrypt, State: fsm.KeyActive, Current: 1}, secret.Copy(nil), nil)
	require.ErrorContains(t, err, "key id")
}

// oddIV is a token whose module answers an IV of its own making.
type oddIV struct {
	*softtoken.Token
	iv []byte
}

func (o oddIV) Seal(context.Context, wrapped.Key, secret.Bytes, []byte) (iv, box []byte, err error) {
	return o.iv, make([]byte, 32), nil
}

// Some modules take an empty IV and silently use zeros: such a seal must not
// be stored, for the next one would use the same IV.
func TestSealWithoutAnIVIsNotKept(t *testing.T) {
	w := newWorld(t)
	key := w.aes(1)
	for _, iv := range [][]byte{nil, {}, make([]byte, 17)} {
		service, err := kms.New(oddIV{w.token, iv}, w.clusterID)
		require.NoError(t, err)
		blob, _, err := service.Encrypt(t.Context(), key, secret.Copy([]byte("x")), nil)
		require.Equal(t, fault.Internal, fault.KindOf(err))
		require.Nil(t, blob)
		_, err = service.SealValue(t.Context(), key, someID, secret.Copy([]byte("x")))
		require.Equal(t, fault.Internal, fault.KindOf(err))
	}
}

// longIV is a token whose HSM makes IVs of 16 bytes.
type longIV struct{ *softtoken.Token }

var longPart = []byte("\x01\x02\x03\x04")

func (l longIV) Seal(ctx context.Context, k wrapped.Key, plaintext secret.Bytes, aad []byte) (iv, box []byte, err error) {
	iv, box, err = l.Token.Seal(ctx, k, plaintext, aad)
	return append(iv, longPart...), box, err
}

func (l longIV) Open(ctx context.Context, k wrapped.Key, iv, box, aad []byte) (secret.Bytes, error) {
	rest, ok := bytes.CutSuffix(iv, longPart)
	if !ok {
		return secret.Bytes{}, fault.Invalid("ciphertext", "does not open")
	}
	return l.Token.Open(ctx, k, rest, box, aad)
}

// The blob says how long its IV is, so one that an HSM made in its own length
// is stored and opened like any other, and no byte of it may change.
func TestIVsOfSixteenBytesAreStored(t *testing.T) {
	w := newWorld(t)
	key := w.aes(1)
	service, err := kms.New(longIV{w.token}, w.clusterID)
	require.NoError(t, err)
	blob, _, err := service.Encrypt(t.Context(), key, secret.Copy([]byte("hunter2")), nil)
	require.NoError(t, err)
	out, _, err := service.Decrypt(t.Context(), key, blob, nil)
	require.NoError(t, err)
	require.Equal(t, "hunter2", string(out.Expose()))
	for i := range blob {
		bad := bytes.Clone(blob)
		bad[i] ^= 1
		_, _, err := service.Decrypt(t.Context(), key, bad, nil)
		require.Equal(t, fault.InvalidRequest, fault.KindOf(err), "byte %d", i)
	}
	sealed, err := service.SealValue(t.Context(), key, someID, secret.Copy([]byte("value")))
	require.NoError(t, err)
	value, err := service.OpenValue(t.Context(), key, someID, sealed)
	require.NoError(t, err)
	require.Equal(t, "value", string(value.Expose()))
}

// RSA keys have their own way into the HSM, and the same one answer.
func TestEveryChangedRSABlobIsRefusedAlike(t *testing.T) {
	w := newWorld(t)
	key := w.key("rsa-2048", "encrypt")
	w.rotate(key)
	blob := w.encrypt(key, "hello", nil)
	for i, changed := range append(changes(blob), nil) {
		_, _, err := w.Decrypt(t.Context(), key, changed, nil)
		requireDoesNotOpen(t, err, "change %d", i)
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
