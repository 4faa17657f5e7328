package kms_test

import (
	"context"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/internal/fault"
	"github.com/strongroom/strongroom/internal/secret"
	"github.com/strongroom/strongroom/internal/wrapped"
	"github.com/strongroom/strongroom/kms"
	"github.com/strongroom/strongroom/test/softtoken"
)

// world is a service over a token in memory. What depends on a real device is
// tested in test/hsm.
type world struct {
	*kms.Service
	t         testing.TB
	token     *softtoken.Token
	clusterID string

	fingerprints *wrapped.Key
}

func newWorld(t testing.TB) *world {
	return (&world{t: t, token: softtoken.New()}).elsewhere()
}

// elsewhere is another cluster over the same HSM.
func (w *world) elsewhere() *world {
	clusterID := uuid.NewString()
	s, err := kms.New(w.token, clusterID)
	require.NoError(w.t, err)
	fingerprints, err := s.GenerateFingerprintKey(w.t.Context())
	require.NoError(w.t, err)
	return &world{Service: s, t: w.t, token: w.token, clusterID: clusterID, fingerprints: &fingerprints}
}

// aes makes an active key with the given number of versions.
func (w *world) aes(versions int) *fsm.Key {
	w.t.Helper()
	k := w.key(wrapped.AES256, wrapped.Encrypt)
	for range versions - 1 {
		w.rotate(k)
	}
	return k
}

func (w *world) key(spec, usage string) *fsm.Key {
	w.t.Helper()
	k := &fsm.Key{ID: uuid.NewString(), Spec: spec, Usage: usage, State: fsm.KeyActive, Origin: fsm.OriginHSM}
	w.rotate(k)
	return k
}

func (w *world) rotate(k *fsm.Key) {
	w.t.Helper()
	material, err := w.GenerateKey(context.Background(), k.ID, k.Current+1, k.Spec, k.Usage)
	require.NoError(w.t, err)
	k.Current++
	k.Versions = append(k.Versions, fsm.KeyVersion{Wrapped: material})
}

func (w *world) encrypt(k *fsm.Key, text string, context map[string]string) []byte {
	w.t.Helper()
	blob, version, err := w.Encrypt(w.t.Context(), k, secret.Copy([]byte(text)), context)
	require.NoError(w.t, err)
	require.Equal(w.t, k.Current, version)
	return blob
}

func (w *world) seal(key *fsm.Key, id kms.Identity, value string) kms.Sealed {
	w.t.Helper()
	sealed, err := w.SealValue(w.t.Context(), key, id, secret.Copy([]byte(value)))
	require.NoError(w.t, err)
	return sealed
}

// doesNotOpen is the one refusal of a caller's ciphertext.
const doesNotOpen = "ciphertext: does not open: it is not of this cluster, was altered or cut, or the context is not the one given to encrypt"

// requireDoesNotOpen asserts the one answer, in kind, words and details: any
// difference would be an oracle for which part was wrong.
func requireDoesNotOpen(t testing.TB, err error, what string, args ...any) {
	t.Helper()
	var f *fault.Error
	require.ErrorAs(t, err, &f, append([]any{what}, args...)...)
	require.Equal(t, fault.InvalidRequest, f.Kind, append([]any{what}, args...)...)
	require.Equal(t, doesNotOpen, f.Message, append([]any{what}, args...)...)
	require.Equal(t, map[string]any{"field": "ciphertext"}, f.Details, append([]any{what}, args...)...)
	require.NoError(t, f.Unwrap(), append([]any{what}, args...)...)
}

// requireStoreAltered asserts what a stored value that does not open is: our
// fault, not the caller's.
func requireStoreAltered(t testing.TB, err error, what string) {
	t.Helper()
	require.Equal(t, fault.Internal, fault.KindOf(err), "%s: %v", what, err)
	require.ErrorContains(t, err, "does not open; the store may have been altered", what)
}
