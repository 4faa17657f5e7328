package kms_test

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/internal/fault"
	"github.com/strongroom/strongroom/internal/secret"
	"github.com/strongroom/strongroom/kms"
)

var someID = kms.Identity{Path: "/app/prod/pay/db", SecretID: "5f0c0f4e-9a0e-4f0e-8f0e-0123456789ab", Version: 3}

func (w *world) sealed(key *fsm.Key, text string) kms.Sealed {
	w.t.Helper()
	s, err := w.SealValue(w.t.Context(), key, someID, secret.Copy([]byte(text)))
	require.NoError(w.t, err)
	return s
}

func TestAValueOpensAsWhatItWasSealedAsOnly(t *testing.T) {
	w := newWorld(t)
	key, other := w.key("aes-256", "encrypt"), w.key("aes-256", "encrypt")
	v := w.sealed(key, "password")
	require.NotContains(t, string(v.Box)+string(v.DataKey), "password")
	plain, err := w.OpenValue(t.Context(), key, someID, v)
	require.NoError(t, err)
	require.Equal(t, "password", string(plain.Expose()))

	moved := []kms.Identity{someID, someID, someID}
	moved[0].Path = "/app/prod/pay/db2"
	moved[1].SecretID = "5f0c0f4e-9a0e-4f0e-8f0e-0123456789ac"
	moved[2].Version = 4
	for _, id := range moved {
		_, err := w.OpenValue(t.Context(), key, id, v)
		require.Equal(t, fault.Internal, fault.KindOf(err), "%+v", id)
	}
	_, err = w.OpenValue(t.Context(), other, someID, v)
	require.Equal(t, fault.Internal, fault.KindOf(err))

	// The box of one version beside the data key of another.
	next := v
	next.Box = w.sealed(key, "other").Box
	_, err = w.OpenValue(t.Context(), key, someID, next)
	require.Equal(t, fault.Internal, fault.KindOf(err))
}

func TestAnAlteredStoreIsAFaultOfOursAndOpensNothing(t *testing.T) {
	w := newWorld(t)
	key := w.key("aes-256", "encrypt")
	v := w.sealed(key, "password")
	for i := range v.Box {
		altered := v
		altered.Box = bytes.Clone(v.Box)
		altered.Box[i] ^= 1
		_, err := w.OpenValue(t.Context(), key, someID, altered)
		require.Equal(t, fault.Internal, fault.KindOf(err), "box, byte %d", i)
	}
	for i := range v.DataKey {
		altered := v
		altered.DataKey = bytes.Clone(v.DataKey)
		altered.DataKey[i] ^= 1
		_, err := w.OpenValue(t.Context(), key, someID, altered)
		require.Equal(t, fault.Internal, fault.KindOf(err), "data key, byte %d", i)
	}
	for n := range v.Box {
		cut := v
		cut.Box = v.Box[:n]
		_, err := w.OpenValue(t.Context(), key, someID, cut)
		require.Equal(t, fault.Internal, fault.KindOf(err), "cut at %d", n)
	}
}

// TestDataKeysAndCallersCiphertextsAreOfTwoKinds: else the right to decrypt
// under a key, with a copy of the store, would read what is bound to it.
func TestDataKeysAndCallersCiphertextsAreOfTwoKinds(t *testing.T) {
	w := newWorld(t)
	key := w.key("aes-256", "encrypt")
	v := w.sealed(key, "password")
	_, _, err := w.Decrypt(t.Context(), key, v.DataKey, map[string]string{"path": string(someID.Path), "secretId": someID.SecretID, "version": "3"})
	refused(t, err)
	_, err = w.ParseHeader(v.DataKey)
	refused(t, err)

	asDataKey := w.encrypt(key, string(make([]byte, 32)), map[string]string{"path": string(someID.Path), "secretId": someID.SecretID, "version": "3"})
	v.DataKey = asDataKey
	_, err = w.OpenValue(t.Context(), key, someID, v)
	require.Equal(t, fault.Internal, fault.KindOf(err))
}

func TestRewrapMovesTheDataKeyAndLeavesTheValue(t *testing.T) {
	w := newWorld(t)
	from, to := w.key("aes-256", "encrypt"), w.key("aes-256", "encrypt")
	w.rotate(to)
	v := w.sealed(from, "password")
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

func TestFingerprintsShowNothingAndRecogniseTheirOwn(t *testing.T) {
	w := newWorld(t)
	value := secret.Copy([]byte("password"))
	stored, err := w.Fingerprint(t.Context(), someID, value)
	require.NoError(t, err)
	same, err := w.SameValue(t.Context(), someID, stored, value)
	require.NoError(t, err)
	require.True(t, same)
	next := someID
	next.Version++
	other, err := w.Fingerprint(t.Context(), next, value)
	require.NoError(t, err)
	require.NotEqual(t, stored, other, "equal values of two versions must not look equal in the state")
	same, err = w.SameValue(t.Context(), someID, stored, secret.Copy([]byte("passwore")))
	require.NoError(t, err)
	require.False(t, same)
	same, err = w.SameValue(t.Context(), someID, nil, value)
	require.NoError(t, err)
	require.False(t, same, "nothing stored is equal to nothing")
	elsewhere, err := newWorld(t).Fingerprint(t.Context(), someID, value)
	require.NoError(t, err)
	require.NotEqual(t, stored, elsewhere, "only this cluster's HSMs can compute it")
}
