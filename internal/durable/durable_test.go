package durable

import (
	"errors"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// names answers what is in a folder.
func names(t *testing.T, dir string) (out []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	for _, e := range entries {
		out = append(out, e.Name())
	}
	return out
}

func read(t *testing.T, path string) string {
	t.Helper()
	raw, err := os.ReadFile(path)
	require.NoError(t, err)
	return string(raw)
}

func TestReplaceLeavesOneWholeFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	for _, content := range []string{"first", "", "a longer one than before"} {
		require.NoError(t, Replace(path, []byte(content)))
		require.Equal(t, content, read(t, path))
		require.Equal(t, []string{"file"}, names(t, filepath.Dir(path)))
		info, err := os.Stat(path)
		require.NoError(t, err)
		require.Equal(t, fs.FileMode(0o600), info.Mode())
	}
}

// The content is synced before it has its name, and the name after that.
func TestWhatIsSyncedAndWhen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	require.NoError(t, Replace(path, []byte("old")))
	var synced []string
	require.NoError(t, replace(path, []byte("new"), func(f *os.File) error {
		synced = append(synced, filepath.Base(f.Name())+" while there is "+read(t, path))
		return nil
	}))
	require.Equal(t, []string{"file.tmp while there is old", filepath.Base(filepath.Dir(path)) + " while there is new"}, synced)
}

// What a crash left of an earlier try is neither kept nor followed.
func TestWhatACrashLeftIsNotFollowed(t *testing.T) {
	dir := t.TempDir()
	path, other := filepath.Join(dir, "file"), filepath.Join(dir, "other")
	require.NoError(t, os.WriteFile(other, []byte("not to be written"), 0o600))
	require.NoError(t, os.Symlink(other, path+temporary))
	require.NoError(t, Replace(path, []byte("new")))
	require.Equal(t, "not to be written", read(t, other))
	require.NoError(t, os.WriteFile(path+temporary, []byte("half of a long, long"), 0o644))
	require.NoError(t, Replace(path, []byte("newer")))
	require.Equal(t, "newer", read(t, path))
	info, err := os.Stat(path)
	require.NoError(t, err)
	require.Equal(t, fs.FileMode(0o600), info.Mode())
	require.Equal(t, []string{"file", "other"}, names(t, dir))
}

func TestAFailureLeavesTheOldFile(t *testing.T) {
	broken := errors.New("the disk is gone")
	failing := func(at int) syncs {
		calls := 0
		return func(*os.File) error {
			if calls++; calls == at {
				return broken
			}
			return nil
		}
	}
	dir := t.TempDir()
	path := filepath.Join(dir, "file")
	require.NoError(t, Replace(path, []byte("old")))

	require.ErrorIs(t, replace(path, []byte("new"), failing(1)), broken)
	require.Equal(t, "old", read(t, path), "what is not on the disk does not take the place of what is")
	require.Equal(t, []string{"file"}, names(t, dir))

	limit(t, 3)
	require.ErrorIs(t, Replace(path, []byte("new, and too long")), syscall.EFBIG)
	unlimit(t)
	require.Equal(t, "old", read(t, path), "half a file does not take its place")
	require.Equal(t, []string{"file"}, names(t, dir))

	require.ErrorIs(t, replace(path, []byte("new"), failing(2)), broken, "a name that may not last is told")
	require.Contains(t, []string{"old", "new"}, read(t, path))
	require.Equal(t, []string{"file"}, names(t, dir))

	// The name is taken by what cannot be replaced, or nothing can be made there.
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "folder", "full"), 0o700))
	require.Error(t, Replace(filepath.Join(dir, "folder"), []byte("new")))
	require.NoError(t, os.Mkdir(path+temporary, 0o700))
	require.Error(t, Replace(path, []byte("new")))
	require.NoError(t, os.Remove(path+temporary))
	require.ErrorIs(t, Replace(filepath.Join(dir, "nowhere", "file"), []byte("new")), fs.ErrNotExist)
	require.Equal(t, []string{"file", "folder"}, names(t, dir))
}

func TestCreateMakesAFileOrNone(t *testing.T) {
	broken := errors.New("the disk is gone")
	dir := t.TempDir()
	path := filepath.Join(dir, "file")
	for at := range 2 {
		calls := -1
		err := create(path, []byte("new"), func(*os.File) error {
			if calls++; calls == at {
				return broken
			}
			return nil
		})
		require.ErrorIs(t, err, broken)
		require.Empty(t, names(t, dir))
	}
	limit(t, 3)
	require.ErrorIs(t, Create(path, []byte("too long")), syscall.EFBIG)
	unlimit(t)
	require.Empty(t, names(t, dir))

	require.NoError(t, Create(path, []byte("new")))
	require.ErrorIs(t, Create(path, []byte("another")), fs.ErrExist)
	require.Equal(t, "new", read(t, path))
	require.NoError(t, os.Symlink("nowhere", filepath.Join(dir, "link")))
	require.ErrorIs(t, Create(filepath.Join(dir, "link"), []byte("x")), fs.ErrExist)
	require.False(t, slices.Contains(names(t, dir), "nowhere"))
	require.Error(t, SyncDir(filepath.Join(dir, "nowhere")))
}

// limit has writes beyond so many bytes of a file fail, as on a disk that is
// full.
func limit(t *testing.T, bytes uint64) {
	t.Helper()
	signal.Ignore(syscall.SIGXFSZ)
	var was syscall.Rlimit
	require.NoError(t, syscall.Getrlimit(syscall.RLIMIT_FSIZE, &was))
	require.NoError(t, syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: bytes, Max: was.Max}))
	t.Cleanup(func() { unlimit(t) })
}

func unlimit(t *testing.T) {
	t.Helper()
	var now syscall.Rlimit
	require.NoError(t, syscall.Getrlimit(syscall.RLIMIT_FSIZE, &now))
	require.NoError(t, syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: now.Max, Max: now.Max}))
	signal.Reset(syscall.SIGXFSZ)
}
