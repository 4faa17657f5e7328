package hsm

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/internal/atrest"
	"github.com/strongroom/strongroom/internal/fault"
	"github.com/strongroom/strongroom/internal/secret"
	"github.com/strongroom/strongroom/pkcs11"
)

func place(t *testing.T, d *pkcs11.Device) atrest.Place {
	t.Helper()
	return atrest.Place{DataDir: t.TempDir(), Cluster: "c1", Node: "n1", Root: d}
}

func TestStorageKeysAreMadeOnceAndOpenAfterwards(t *testing.T) {
	p, ctx := place(t, open(t, newBox(t))), context.Background()
	file := filepath.Join(p.DataDir, atrest.FileName)
	_, err := atrest.Open(ctx, p, false)
	require.ErrorContains(t, err, "the file is lost")
	require.NoFileExists(t, file, "where something was stored nothing is made")

	first, err := atrest.Open(ctx, p, true)
	require.NoError(t, err)
	info, err := os.Stat(file)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
	record, err := first.Seal("kind", nil, []byte("data"))
	require.NoError(t, err)
	for _, fresh := range []bool{true, false} {
		again, err := atrest.Open(ctx, p, fresh)
		require.NoError(t, err)
		got, err := again.Open("kind", nil, record)
		require.NoError(t, err)
		require.Equal(t, "data", string(got))
	}

	other := p
	other.Node = "n2"
	_, err = atrest.Open(ctx, other, false)
	require.ErrorContains(t, err, `belongs to node "n1"`)
	raw, err := os.ReadFile(file)
	require.NoError(t, err)
	for what, content := range map[string]string{
		"not a file of storage keys that this version can read": `{"format":"strongroom storage keys 9"}`,
		"not in order":                         `{"format":"strongroom storage keys 1","cluster":"c1","node":"n1","keys":[{"generation":2},{"generation":1}]}`,
		"has no storage root for generation 7": `{"format":"strongroom storage keys 1","cluster":"c1","node":"n1","keys":[{"generation":7,"iv":"AAAAAAAAAAAAAAAA","box":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"}]}`,
		"does not open generation 1":           `{"format":"strongroom storage keys 1","cluster":"c1","node":"n1","keys":[{"generation":1,"iv":"AAAAAAAAAAAAAAAA","box":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"}]}`,
	} {
		require.NoError(t, os.WriteFile(file, []byte(content), 0o600))
		_, err = atrest.Open(ctx, p, false)
		require.ErrorContains(t, err, what)
	}
	require.NoError(t, os.WriteFile(file, raw, 0o600))
	_, err = atrest.Open(ctx, p, false)
	require.NoError(t, err)
}

// An HSM that is away is told apart from everything that a person has to see.
func TestStorageKeysOfAnHSMThatIsAwayAreWaitedFor(t *testing.T) {
	b := newBox(t)
	d := open(t, b)
	p, ctx := place(t, d), context.Background()
	_, err := atrest.Open(ctx, p, true)
	require.NoError(t, err)
	require.NoError(t, os.Rename(b.tokens(), b.tokens()+".away"))
	require.NoError(t, os.Mkdir(b.tokens(), 0o700))
	away := open(t, b)
	p.Root = away
	_, err = atrest.Open(ctx, p, false)
	require.True(t, fault.Is(err, fault.HsmUnavailable), "%v", err)
	require.NoError(t, os.Remove(b.tokens()))
	require.NoError(t, os.Rename(b.tokens()+".away", b.tokens()))
	require.Eventually(t, func() bool { _, err := atrest.Open(ctx, p, false); return err == nil }, patient, patient/1000)
}

// stumbles is an HSM to which the way breaks at one step of a ceremony.
type stumbles struct {
	*pkcs11.Device
	left int // calls until then
}

var errStumbled = errors.New("stumbled")

func (s *stumbles) step() error {
	if s.left--; s.left < 0 {
		return errStumbled
	}
	return nil
}

func (s *stumbles) CreateStorageRoot(ctx context.Context, id []byte) error {
	if err := s.step(); err != nil {
		return err
	}
	return s.Device.CreateStorageRoot(ctx, id)
}

func (s *stumbles) SealStorage(ctx context.Context, id []byte, key secret.Bytes, aad []byte) (iv, box []byte, err error) {
	if err := s.step(); err != nil {
		return nil, nil, err
	}
	return s.Device.SealStorage(ctx, id, key, aad)
}

func (s *stumbles) OpenStorage(ctx context.Context, id, iv, box, aad []byte) (secret.Bytes, error) {
	if err := s.step(); err != nil {
		return secret.Bytes{}, err
	}
	return s.Device.OpenStorage(ctx, id, iv, box, aad)
}

func (s *stumbles) RemoveStorageRoot(ctx context.Context, id []byte) error {
	if err := s.step(); err != nil {
		return err
	}
	return s.Device.RemoveStorageRoot(ctx, id)
}

// Whatever step it stops at, making the first key and a rotation can be begun
// again, and what was sealed before opens until it is done.
func TestRotationOfTheStorageKeyGoesOnWhereItWas(t *testing.T) {
	d := open(t, newBox(t))
	p, ctx := place(t, d), context.Background()
	old := p.DataDir + "/old"
	for left := 0; ; left++ {
		broken := p
		broken.Root = &stumbles{Device: d, left: left}
		if _, err := atrest.Open(ctx, broken, true); err == nil {
			break
		} else {
			require.ErrorIs(t, err, errStumbled)
		}
	}
	keys, err := atrest.Open(ctx, p, false)
	require.NoError(t, err)
	require.Equal(t, []uint32{1}, keys.Generations())
	record, err := keys.Seal("kind", nil, []byte("data"))
	require.NoError(t, err)
	raw, err := os.ReadFile(filepath.Join(p.DataDir, atrest.FileName))
	require.NoError(t, err)

	rotate := func(p atrest.Place) error {
		r, err := atrest.Rotate(ctx, p)
		if err != nil {
			return err
		}
		require.Equal(t, uint32(2), r.Keys.Newest())
		_, err = r.Keys.Open("kind", nil, record)
		require.NoError(t, err)
		anew, err := r.Keys.Seal("kind", nil, []byte("data"))
		require.NoError(t, err)
		err = r.End(ctx)
		if err == nil {
			record = anew
		}
		return err
	}
	for left := 0; ; left++ {
		broken := p
		broken.Root = &stumbles{Device: d, left: left}
		err := rotate(broken)
		if err == nil {
			break
		}
		require.ErrorIs(t, err, errStumbled)
		now, err := atrest.Open(ctx, p, false)
		require.NoError(t, err)
		if len(now.Generations()) == 1 && now.Newest() == 2 {
			break // only the old root was left in the HSM
		}
		_, err = now.Open("kind", nil, record)
		require.NoError(t, err)
	}
	third, err := atrest.Rotate(ctx, p)
	require.NoError(t, err)
	require.NoError(t, third.End(ctx), "it removes the roots that the one before left")
	require.Equal(t, uint32(3), third.Keys.Newest())

	// The file of the time before opens nowhere any more.
	require.NoError(t, os.Mkdir(old, 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(old, atrest.FileName), raw, 0o600))
	before := p
	before.DataDir = old
	_, err = atrest.Open(ctx, before, false)
	require.ErrorContains(t, err, "has no storage root for generation 1")

	r, err := atrest.Replace(ctx, before)
	require.NoError(t, err)
	require.Equal(t, uint32(2), r.Keys.Newest(), "a lost key is never used again")
	require.NoError(t, r.End(ctx))
	_, err = atrest.Open(ctx, before, false)
	require.NoError(t, err)
}
