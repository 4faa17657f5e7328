package kms_test

import (
	"bytes"
	"encoding/hex"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/internal/fault"
	"github.com/strongroom/strongroom/internal/secret"
	"github.com/strongroom/strongroom/kms"
)

var someID = kms.Identity{Path: "/app/prod/web/key", SecretID: "0198c0de-0000-7000-8000-000000000001", Version: 3}

func TestValuesComeBack(t *testing.T) {
	w := newWorld(t)
	key := w.aes(2)
	for _, value := range []string{"", "x", "hunter2", strings.Repeat("v", 1<<20)} {
		sealed := w.seal(key, someID, value)
		require.Equal(t, uint32(2), sealed.KeyVersion, "new values are sealed under the current version")
		require.NotContains(t, string(sealed.Box)+string(sealed.DataKey), "hunter2")
		got, err := w.OpenValue(t.Context(), key, someID, sealed)
		require.NoError(t, err)
		require.Equal(t, value, string(got.Expose()))
	}
}

// Two seals of one value share nothing: neither the data key nor the nonce is
// ever used twice, and the store does not show that two values are equal.
func TestEachSealHasItsOwnDataKeyAndNonce(t *testing.T) {
	w := newWorld(t)
	key := w.aes(1)
	seen := map[string]bool{}
	for range 16 {
		sealed := w.seal(key, someID, "hunter2")
		for _, part := range []string{
			"nonce " + hex.EncodeToString(sealed.Box[1:13]), "box " + hex.EncodeToString(sealed.Box[13:]),
			"data key " + hex.EncodeToString(sealed.DataKey[42:]),
		} {
			require.False(t, seen[part], part)
			seen[part] = true
		}
	}
}

func TestValueOpensAfterTheKeyWasRotated(t *testing.T) {
	w := newWorld(t)
	key := w.aes(3)
	old := *key
	old.Current = 1
	sealed := w.seal(&old, someID, "hunter2")
	require.Equal(t, uint32(1), sealed.KeyVersion)
	got, err := w.OpenValue(t.Context(), key, someID, sealed)
	require.NoError(t, err)
	require.Equal(t, "hunter2", string(got.Expose()))
}

// Whoever can write to the store must not be able to pass one version's
// ciphertext off as another's.
func TestSealedValueOpensInItsOwnPlaceOnly(t *testing.T) {
	w := newWorld(t)
	key, otherKey := w.aes(2), w.aes(2)
	sealed := w.seal(key, someID, "hunter2")
	for what, other := range map[string]kms.Identity{
		"path":             {Path: "/app/prod/web/other", SecretID: someID.SecretID, Version: 3},
		"secret id":        {Path: someID.Path, SecretID: "0198c0de-0000-7000-8000-000000000002", Version: 3},
		"version":          {Path: someID.Path, SecretID: someID.SecretID, Version: 4},
		"shifted boundary": {Path: someID.Path + "0", SecretID: someID.SecretID[1:], Version: 3},
		"nobody":           {},
	} {
		_, err := w.OpenValue(t.Context(), key, other, sealed)
		requireStoreAltered(t, err, what)
	}
	_, err := w.OpenValue(t.Context(), otherKey, someID, sealed)
	requireStoreAltered(t, err, "another key")

	// Another version of the same key, by a record that was changed: the
	// version in the header is bound, too.
	swapped := *key
	swapped.Versions = []fsm.KeyVersion{key.Versions[1], key.Versions[0]}
	_, err = w.OpenValue(t.Context(), &swapped, someID, sealed)
	requireStoreAltered(t, err, "another version of the key")

	// The same HSM under another cluster, as when a cluster is restored beside
	// the one that it was taken from.
	_, err = w.elsewhere().OpenValue(t.Context(), key, someID, sealed)
	requireStoreAltered(t, err, "another cluster")

	got, err := w.OpenValue(t.Context(), key, someID, sealed)
	require.NoError(t, err)
	require.Equal(t, "hunter2", string(got.Expose()))
}

// A box belongs to its data key and a data key to its version: no mixture of
// two versions opens, under either someID.
func TestPartsOfTwoVersionsDoNotMix(t *testing.T) {
	w := newWorld(t)
	key := w.aes(1)
	next := someID
	next.Version++
	one, two := w.seal(key, someID, "first"), w.seal(key, next, "second")
	for _, id := range []kms.Identity{someID, next} {
		for _, mixed := range []kms.Sealed{
			{Box: one.Box, DataKey: two.DataKey, KeyVersion: 1},
			{Box: two.Box, DataKey: one.DataKey, KeyVersion: 1},
		} {
			_, err := w.OpenValue(t.Context(), key, id, mixed)
			requireStoreAltered(t, err, "mixture")
		}
	}
}

func TestEveryChangedByteOfAStoredValueIsFound(t *testing.T) {
	w := newWorld(t)
	key := w.aes(1)
	sealed := w.seal(key, someID, "hunter2")
	parts := map[string]func(changed []byte) kms.Sealed{
		"box":      func(c []byte) kms.Sealed { return kms.Sealed{Box: c, DataKey: sealed.DataKey, KeyVersion: 1} },
		"data key": func(c []byte) kms.Sealed { return kms.Sealed{Box: sealed.Box, DataKey: c, KeyVersion: 1} },
	}
	for name, with := range parts {
		whole := sealed.Box
		if name == "data key" {
			whole = sealed.DataKey
		}
		for _, changed := range changes(whole) {
			_, err := w.OpenValue(t.Context(), key, someID, with(changed))
			requireStoreAltered(t, err, name)
		}
	}
}

// changes answers whole cut at every byte, with each byte changed, with bytes
// added, and with one missing.
func changes(whole []byte) [][]byte {
	out := [][]byte{append(bytes.Clone(whole), 0), append([]byte{0}, whole...)}
	for i := range whole {
		out = append(out, whole[:i:i])
		for _, mask := range []byte{0x01, 0x80, 0xff} {
			flipped := bytes.Clone(whole)
			flipped[i] ^= mask
			out = append(out, flipped)
		}
		out = append(out, append(bytes.Clone(whole[:i]), whole[i+1:]...))
	}
	return out
}

func TestDownHSMIsNotMistakenForAnAlteredStore(t *testing.T) {
	w := newWorld(t)
	key := w.aes(1)
	sealed := w.seal(key, someID, "hunter2")
	w.token.Down.Store(true)
	_, err := w.OpenValue(t.Context(), key, someID, sealed)
	require.Equal(t, fault.HsmUnavailable, fault.KindOf(err))
	_, err = w.SealValue(t.Context(), key, someID, secret.Copy([]byte("x")))
	require.Equal(t, fault.HsmUnavailable, fault.KindOf(err))
	_, err = w.Fingerprint(t.Context(), w.fingerprints, someID, secret.Copy([]byte("x")))
	require.Equal(t, fault.HsmUnavailable, fault.KindOf(err))
	_, err = w.SameValue(t.Context(), w.fingerprints, someID, []byte("f"), secret.Copy([]byte("x")))
	require.Equal(t, fault.HsmUnavailable, fault.KindOf(err), "not known is not different")
	w.token.Down.Store(false)
	_, err = w.OpenValue(t.Context(), key, someID, sealed)
	require.NoError(t, err)
}

// A fingerprint tells that two writes of one version number are equal, and
// nothing else to anybody: not across versions, secrets, paths or HSMs.
func TestFingerprints(t *testing.T) {
	w := newWorld(t)
	value := secret.Copy([]byte("hunter2"))
	stored, err := w.Fingerprint(t.Context(), w.fingerprints, someID, value)
	require.NoError(t, err)
	require.Len(t, stored, 32)
	same := func(s *world, id kms.Identity, value string) bool {
		t.Helper()
		ok, err := s.SameValue(t.Context(), s.fingerprints, id, stored, secret.Copy([]byte(value)))
		require.NoError(t, err)
		return ok
	}
	require.True(t, same(w, someID, "hunter2"))
	require.False(t, same(w, someID, "hunter3"))
	require.False(t, same(w, someID, ""))
	for _, other := range []kms.Identity{
		{Path: "/other", SecretID: someID.SecretID, Version: 3}, {Path: someID.Path, SecretID: uuid.NewString(), Version: 3},
		{Path: someID.Path, SecretID: someID.SecretID, Version: 4},
	} {
		require.False(t, same(w, other, "hunter2"))
	}
	require.False(t, same(newWorld(t), someID, "hunter2"), "another key")

	// A cluster that an early build made has no key of its own for it yet.
	early, err := w.Fingerprint(t.Context(), nil, someID, value)
	require.NoError(t, err)
	require.NotEqual(t, stored, early)
	ok, err := w.SameValue(t.Context(), nil, someID, early, value)
	require.NoError(t, err)
	require.True(t, ok)

	ok, err = w.SameValue(t.Context(), w.fingerprints, someID, nil, value)
	require.NoError(t, err)
	require.False(t, ok, "a version without a fingerprint equals nothing")

	hash, err := w.RequestHash(t.Context(), w.fingerprints, []byte("hunter2"))
	require.NoError(t, err)
	require.NotEqual(t, stored, hash)
	again, err := w.RequestHash(t.Context(), w.fingerprints, []byte("hunter2"))
	require.NoError(t, err)
	require.Equal(t, hash, again)
}

func TestRewrapMovesTheDataKeyAndLeavesTheValue(t *testing.T) {
	w := newWorld(t)
	from, to := w.key("aes-256", "encrypt"), w.key("aes-256", "encrypt")
	w.rotate(to)
	v := w.seal(from, someID, "password")
	blob, version, err := w.Rewrap(t.Context(), from, to, someID, v.DataKey)
	require.NoError(t, err)
	require.EqualValues(t, 2, version)
	v.DataKey, v.KeyVersion = blob, version
	plain, err := w.OpenValue(t.Context(), to, someID, v)
	require.NoError(t, err)
	require.Equal(t, "password", string(plain.Expose()))
	_, _, err = w.Rewrap(t.Context(), from, to, someID, v.DataKey)
	require.Equal(t, fault.Internal, fault.KindOf(err), "it is not under that key any more")
}
