package sink

import (
	"crypto/sha256"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestCursorsAreReadAsTheyWereSaved(t *testing.T) {
	file := cursorFile(filepath.Join(t.TempDir(), "a.cursor"))
	_, there, err := file.load()
	require.NoError(t, err)
	require.False(t, there)
	rapid.Check(t, func(t *rapid.T) {
		at := cursor{sequence: rapid.Uint64().Draw(t, "sequence")}
		if at.sequence != 0 {
			at.hash = sha256.Sum256(rapid.SliceOf(rapid.Byte()).Draw(t, "line"))
		}
		require.NoError(t, file.save(at))
		got, there, err := file.load()
		require.NoError(t, err)
		require.True(t, there)
		require.Equal(t, at, got)
	})
	info, err := os.Stat(string(file))
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
}

// A cursor that is not one holds the sink, and nothing else; removing it is
// the way out, and the node need not be started again.
func TestACursorThatIsNoneIsNamed(t *testing.T) {
	good := cursor{7, sha256.Sum256([]byte("line"))}.String()
	for _, bad := range []string{
		"", "7", good[:len(good)-1], good + "\n", strings.Replace(good, "cursor 1", "cursor 2", 1), strings.Replace(good, "\n7 ", "\n07 ", 1),
		strings.Replace(good, "\n7 ", "\n-7 ", 1), strings.Replace(good, "\n7 ", "\n99999999999999999999 ", 1), strings.Replace(good, "\n7 ", "\n0 ", 1),
		strings.ToUpper(good),
	} {
		_, ok := parseCursor(bad)
		require.False(t, ok, "%q", bad)
	}
	w := newWorld(t, Settings{Type: "stdout", Name: "one", BatchEvents: 10})
	require.NoError(t, os.MkdirAll(w.cfg.Dir, 0o700))
	path := filepath.Join(w.cfg.Dir, "one.cursor")
	require.NoError(t, os.WriteFile(path, []byte("garbage"), 0o600))
	last := w.happen(3)
	w.start()
	w.eventually("an error", func() bool { return w.metric("strongroom_audit_sink_errors_total", "one") > 0 })
	require.Contains(t, w.log.String(), "the cursor "+path+" is not what this release writes; remove it")
	require.Zero(t, w.set.OldestNeeded(), "what the sink needs is not known: everything")
	require.NoError(t, os.Remove(path))
	w.set.Reload()
	w.done(last)
	require.Equal(t, w.native(0), w.cfg.Stdout.(*logBuffer).lines())
}

func FuzzCursor(f *testing.F) {
	f.Add(cursor{7, sha256.Sum256(nil)}.String())
	f.Add(cursor{}.String())
	f.Fuzz(func(t *testing.T, text string) {
		if at, ok := parseCursor(text); ok {
			require.Equal(t, text, at.String(), "one spelling")
		}
	})
}

func TestACursorThatCannotBeSavedIsTold(t *testing.T) {
	w := newWorld(t, Settings{Type: "stdout", Name: "one", BatchEvents: 10})
	w.start()
	w.done(w.happen(1))
	// The file that is to take its place cannot be made.
	fresh := filepath.Join(w.cfg.Dir, "one.cursor.tmp")
	require.NoError(t, os.Mkdir(fresh, 0o700))
	last := w.happen(1)
	w.eventually("an error", func() bool { return w.metric("strongroom_audit_sink_errors_total", "one") > 0 })
	require.Contains(t, w.log.String(), "the cursor cannot be saved")
	require.LessOrEqual(t, w.set.OldestNeeded(), last)
	require.NoError(t, os.Remove(fresh))
	w.done(last)
}
