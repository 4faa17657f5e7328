package backup_test

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/internal/backup"
)

func TestAFolderListsTheNewestFirst(t *testing.T) {
	f := backup.Folder{Dir: filepath.Join(t.TempDir(), "a", "b")}
	all, err := f.List()
	require.NoError(t, err, "a folder that is not there holds none")
	require.Empty(t, all)
	at := time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)
	var paths []string
	for i := range 4 {
		path, err := f.Save(at.Add(time.Duration(i)*time.Hour), uint64(9+i), content([]byte("x")))
		require.NoError(t, err)
		paths = append(paths, path)
	}
	other := filepath.Join(f.Dir, "strongroom-notes.age")
	require.NoError(t, os.WriteFile(other, nil, 0o600))
	require.Equal(t, "strongroom-20260304T050607Z-i9.age", filepath.Base(paths[0]))
	all, err = f.List()
	require.NoError(t, err)
	require.Len(t, all, 4, "and nothing of another name")
	require.Equal(t, []backup.Saved{{Path: paths[3], At: at.Add(3 * time.Hour), Size: 1}, {Path: paths[2], At: at.Add(2 * time.Hour), Size: 1}}, all[:2])
	info, err := os.Stat(paths[3])
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
	info, err = os.Stat(f.Dir)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o700), info.Mode().Perm())
}

func TestAFileIsWholeOrNotThere(t *testing.T) {
	f := backup.Folder{Dir: t.TempDir()}
	path, err := f.Save(time.Unix(1, 0), 1, func(w io.Writer) error {
		_, err := w.Write([]byte("half"))
		return errors.Join(err, errors.New("disk full"))
	})
	require.EqualError(t, err, "disk full")
	require.NoFileExists(t, path)
	entries, err := os.ReadDir(f.Dir)
	require.NoError(t, err)
	require.Empty(t, entries)

	// What a process left that was killed goes with the next one.
	left := filepath.Join(f.Dir, "strongroom-20260304T050607Z-i9.age.partial")
	require.NoError(t, os.WriteFile(left, []byte("half"), 0o600))
	all, err := f.List()
	require.NoError(t, err)
	require.Empty(t, all)
	path, err = f.Save(time.Unix(1, 0), 1, content([]byte("whole")))
	require.NoError(t, err)
	require.NoFileExists(t, left)

	_, err = f.Save(time.Unix(1, 0), 1, content([]byte("other")))
	require.ErrorContains(t, err, "is there already")
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, "whole", string(b))
}

func TestAFolderThatIsNoneIsSaidSo(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	_, err := backup.Folder{Dir: file}.Save(time.Unix(1, 0), 1, content(nil))
	require.ErrorContains(t, err, "snapshots.dir")
	_, err = backup.Folder{Dir: file}.List()
	require.ErrorContains(t, err, "snapshots.dir")
}
