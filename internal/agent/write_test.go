package agent

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// private is a folder whose way others cannot change.
func private(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, os.Chmod(dir, 0o700))
	return dir
}

var nobody = Owner{-1, -1}

func TestWritingIsARenameAndKeepsTheMode(t *testing.T) {
	dir := private(t)
	file := filepath.Join(dir, "f")
	old := unix.Umask(0o077)
	defer unix.Umask(old)
	require.NoError(t, WriteFile(file, []byte("one"), 0o640, nobody))
	reader, err := os.Open(file)
	require.NoError(t, err)
	defer reader.Close()
	require.NoError(t, os.WriteFile(filepath.Join(dir, ".f.strongroom-cutoff"), []byte("x"), 0o600))
	require.NoError(t, WriteFile(file, []byte("two"), 0o440, nobody))
	info, err := os.Stat(file)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o440), info.Mode())
	was := make([]byte, 8)
	n, err := reader.Read(was)
	require.NoError(t, err)
	require.Equal(t, "one", string(was[:n]), "who has the old one open reads it whole")
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, entries, 1, "nothing else is left")
}

func TestWritingRefusesWhatOthersCouldSteer(t *testing.T) {
	dir := private(t)
	in := func(name string) string { return filepath.Join(dir, name) }
	require.NoError(t, os.WriteFile(in("victim"), []byte("mine"), 0o600))
	require.NoError(t, os.Symlink(in("victim"), in("link")))
	require.NoError(t, os.Symlink(in("nowhere"), in("dangling")))
	require.NoError(t, os.Mkdir(in("sub"), 0o700))
	require.NoError(t, os.Symlink(in("sub"), in("linked")))
	require.NoError(t, unix.Mkfifo(in("fifo"), 0o600))
	for _, mode := range []uint32{0o777, 0o720, 0o1777} {
		open := in("open")
		require.NoError(t, os.MkdirAll(open, 0o700))
		require.NoError(t, unix.Chmod(open, mode))
		require.ErrorContains(t, WriteFile(filepath.Join(open, "x"), nil, 0o600, nobody), "by others")
	}
	require.NoError(t, unix.Chmod(in("open"), 0o777))
	require.NoError(t, os.Mkdir(in("open/below"), 0o700))
	for name, want := range map[string]string{
		"link": "symbolic link", "dangling": "symbolic link", "linked/x": "symbolic link", "sub": "regular file", "fifo": "regular file",
		"open/below/x": "by others", "none/x": "no such file",
	} {
		err := WriteFile(in(name), []byte("new"), 0o600, nobody)
		require.ErrorContains(t, err, want, name)
		require.Error(t, removeFile(in(name), nobody), name)
	}
	raw, err := os.ReadFile(in("victim"))
	require.NoError(t, err)
	require.Equal(t, "mine", string(raw))
	require.NoFileExists(t, in("nowhere"))
	require.NoError(t, removeFile(in("victim"), nobody))
	require.NoError(t, removeFile(in("victim"), nobody), "what is gone is gone")
}

func TestPrivateFiles(t *testing.T) {
	p, err := newPrivateDir("/nowhere", "/dev/shm")
	require.NoError(t, err)
	require.NoError(t, p.write("K", []byte("one")))
	require.NoError(t, p.write("K", []byte("two")))
	raw, err := os.ReadFile(p.file("K"))
	require.NoError(t, err)
	require.Equal(t, "two", string(raw))
	info, err := os.Stat(p.path)
	require.NoError(t, err)
	require.Equal(t, os.ModeDir|0o700, info.Mode())
	require.NoError(t, p.remove())
	require.NoDirExists(t, p.path)
}
