package backup_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/internal/backup"
	"github.com/strongroom/strongroom/internal/fault"
	"github.com/strongroom/strongroom/test/softtoken"
)

var header = backup.Header{
	ClusterID: "c1", Node: "node1", CreatedAt: time.Date(2026, 3, 4, 5, 6, 7, 890, time.FixedZone("x", 3600)), Index: 42,
	StateHash: []byte("hash"), Root: []byte("root"), RootVersion: 1,
}

func content(b []byte) func(io.Writer) error {
	return func(w io.Writer) error { _, err := w.Write(b); return err }
}

func saved(t testing.TB, hsm backup.HSM, b []byte) []byte {
	t.Helper()
	draft, err := backup.Begin(context.Background(), hsm, header)
	require.NoError(t, err)
	var out bytes.Buffer
	require.NoError(t, draft.Write(&out, content(b)))
	return out.Bytes()
}

func with(hsm backup.HSM) func(backup.Header) (backup.HSM, error) {
	return func(backup.Header) (backup.HSM, error) { return hsm, nil }
}

// opened reads a backup to its end.
func opened(file []byte, hsm backup.HSM) (backup.Header, []byte, error) {
	h, r, err := backup.Open(context.Background(), bytes.NewReader(file), with(hsm))
	if err != nil {
		return h, nil, err
	}
	b, err := io.ReadAll(r)
	return h, b, err
}

func TestABackupComesBack(t *testing.T) {
	token := softtoken.New()
	for _, size := range []int{0, 1, 64 << 10, 64<<10 + 1, 1 << 20} {
		plain := bytes.Repeat([]byte("secret path "), size/12+1)[:size]
		file := saved(t, token, plain)
		h, got, err := opened(file, token)
		require.NoError(t, err)
		require.Equal(t, string(plain), string(got))
		want := header
		want.CreatedAt = time.Date(2026, 3, 4, 4, 6, 7, 0, time.UTC)
		require.Equal(t, want, h)
		require.NotContains(t, string(file), "secret path")

		token.Down.Store(true) // it says of itself what it is without an HSM
		h, err = backup.Inspect(bytes.NewReader(file))
		require.NoError(t, err)
		require.Equal(t, want, h)
		token.Down.Store(false)
	}
}

func TestTwoBackupsOfOneStateShareNoKey(t *testing.T) {
	token := softtoken.New()
	one, two := saved(t, token, make([]byte, 1000)), saved(t, token, make([]byte, 1000))
	require.NotEqual(t, one[len(one)-1000:], two[len(two)-1000:])
}

// Whatever is changed, cut off or added is found.
func TestEveryChangeOfABackupIsFound(t *testing.T) {
	token := softtoken.New()
	file := saved(t, token, []byte("the state"))
	for i := range file {
		changed := bytes.Clone(file)
		changed[i] ^= 1
		_, _, err := opened(changed, token)
		require.Error(t, err, "byte %d", i)
		_, _, err = opened(file[:i], token)
		require.Error(t, err, "cut at %d", i)
	}
	_, _, err := opened(append(bytes.Clone(file), 0), token)
	require.Error(t, err)
}

func TestAnotherHSMOpensNothing(t *testing.T) {
	file := saved(t, softtoken.New(), []byte("the state"))
	_, _, err := opened(file, softtoken.New())
	require.ErrorContains(t, err, "the HSM does not open the backup")
}

func TestWhoUnlocksMayRefuse(t *testing.T) {
	token := softtoken.New()
	file := saved(t, token, []byte("the state"))
	_, _, err := backup.Open(t.Context(), bytes.NewReader(file), func(h backup.Header) (backup.HSM, error) {
		require.Equal(t, "c1", h.ClusterID)
		return nil, errors.New("not this one")
	})
	require.EqualError(t, err, "not this one")
	require.Zero(t, token.Opens.Load())
}

func TestAnHSMThatIsAwayIsSaidSo(t *testing.T) {
	token := softtoken.New()
	file := saved(t, token, []byte("the state"))
	token.Down.Store(true)
	_, err := backup.Begin(t.Context(), token, header)
	require.True(t, fault.Is(err, fault.HsmUnavailable), "%v", err)
	_, _, err = opened(file, token)
	require.True(t, fault.Is(err, fault.HsmUnavailable), "%v", err)
}

// A root key that took the other's place meanwhile is not the one that the
// header describes.
func TestARootThatChangedMeanwhileIsRefused(t *testing.T) {
	token := softtoken.New()
	token.AddRoot(2)
	token.MakeUnder(2)
	_, err := backup.Begin(t.Context(), token, header)
	require.True(t, fault.Is(err, fault.Conflict), "%v", err)
}

func TestAStateThatCannotBeWrittenMakesNoBackup(t *testing.T) {
	token := softtoken.New()
	draft, err := backup.Begin(t.Context(), token, header)
	require.NoError(t, err)
	var out bytes.Buffer
	require.EqualError(t, draft.Write(&out, func(io.Writer) error { return errors.New("disk") }), "disk")
	_, _, err = opened(out.Bytes(), token)
	require.Error(t, err)
}

func TestOtherFilesAreNoBackups(t *testing.T) {
	for _, text := range []string{"", "age-encryption.org/v1\n", "root:x:0:0\n", "age-encryption.org/v1\n-> X25519 AAAA\nAAAA\n--- AAAA\n"} {
		_, err := backup.Inspect(bytes.NewReader([]byte(text)))
		require.ErrorContains(t, err, "this is no backup of Strongroom", "%q", text)
		_, _, err = opened([]byte(text), softtoken.New())
		require.Error(t, err)
	}
}

func FuzzOpen(f *testing.F) {
	token := softtoken.New()
	f.Add(saved(f, token, []byte("the state")))
	f.Fuzz(func(t *testing.T, file []byte) {
		if _, b, err := opened(file, token); err == nil {
			require.Equal(t, "the state", string(b))
		}
		_, _ = backup.Inspect(bytes.NewReader(file))
	})
}
