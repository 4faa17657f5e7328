package kms_test

import (
	"context"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/internal/fault"
	"github.com/strongroom/strongroom/internal/secret"
	"github.com/strongroom/strongroom/kms"
	"github.com/strongroom/strongroom/test/softtoken"
)

// world is a service over a token in memory. What depends on a real device is
// tested in test/hsm.
type world struct {
	*kms.Service
	t     *testing.T
	token *softtoken.Token
}

func newWorld(t *testing.T) *world {
	w := &world{t: t, token: softtoken.New()}
	w.Service = w.serviceOf(uuid.NewString())
	return w
}

// serviceOf is another cluster over the same HSM.
func (w *world) serviceOf(cluster string) *kms.Service {
	s, err := kms.New(w.token, cluster)
	require.NoError(w.t, err)
	return s
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

// refused requires the one answer to whatever does not open.
func refused(t *testing.T, err error, about ...any) {
	t.Helper()
	require.Error(t, err, about...)
	require.Equal(t, kms.ErrOpen().Error(), err.Error(), about...)
	require.Equal(t, fault.InvalidRequest, fault.KindOf(err))
}
