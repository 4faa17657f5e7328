package sink

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

func fileSink(t *testing.T, change func(*Settings)) (*world, string) {
	s := Settings{Type: "file", Name: "one", Path: filepath.Join(t.TempDir(), "audit.jsonl"), BatchEvents: 10, Keep: 3}
	if change != nil {
		change(&s)
	}
	return newWorld(t, s), s.Path
}

func linesOf(t *testing.T, path string) []string {
	t.Helper()
	raw, err := os.ReadFile(path)
	require.NoError(t, err)
	if len(raw) == 0 {
		return nil
	}
	require.True(t, strings.HasSuffix(string(raw), "\n"), "no half of a line")
	return strings.Split(strings.TrimSuffix(string(raw), "\n"), "\n")
}

func TestTheFileIsTheTrail(t *testing.T) {
	w, path := fileSink(t, nil)
	w.start()
	w.done(w.happen(35))
	require.Equal(t, w.native(0), linesOf(t, path), "byte for byte: it can be verified")
	info, err := os.Stat(path)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
}

// logrotate and others move the file, remove it, or copy and cut it, with and
// without a signal. Each event is in one of the files, once.
func TestAFileThatIsTakenAwayIsBegunAnew(t *testing.T) {
	w, path := fileSink(t, nil)
	w.start()
	w.done(w.happen(5))
	require.NoError(t, os.Rename(path, path+".moved"))
	w.done(w.happen(5))
	moved := linesOf(t, path+".moved")
	require.Equal(t, w.native(0), append(moved, linesOf(t, path)...))

	first := linesOf(t, path)
	require.NoError(t, os.Remove(path))
	after := w.trail.Settled().Sequence
	w.done(w.happen(5))
	require.Equal(t, w.native(after), linesOf(t, path))
	require.NotEqual(t, first, linesOf(t, path))

	require.NoError(t, os.Truncate(path, 0)) // copytruncate
	after = w.trail.Settled().Sequence
	w.done(w.happen(5))
	require.Equal(t, w.native(after), linesOf(t, path))

	require.NoError(t, os.Rename(path, path+".2"))
	w.set.Reload()
	w.eventually("the new file, before there is an event", func() bool { _, err := os.Stat(path); return err == nil })
	require.Empty(t, linesOf(t, path))
	after = w.trail.Settled().Sequence
	w.done(w.happen(1))
	require.Equal(t, w.native(after), linesOf(t, path))
}

func TestTheFileRotatesAtItsSize(t *testing.T) {
	w, path := fileSink(t, func(s *Settings) { s.MaxBytes, s.Keep, s.BatchEvents = 4000, 3, 500 })
	require.NoError(t, os.WriteFile(path+".3", []byte("older\n"), 0o600))
	require.NoError(t, os.WriteFile(path+".4", []byte("not ours\n"), 0o600))
	w.start()
	w.done(w.happen(120))
	all := w.native(0)
	var kept []string
	for i := 3; i >= 0; i-- {
		name := path
		if i > 0 {
			name += "." + strconv.Itoa(i)
		}
		info, err := os.Stat(name)
		require.NoError(t, err)
		require.LessOrEqual(t, info.Size(), int64(4000))
		kept = append(kept, linesOf(t, name)...)
	}
	require.Equal(t, all[len(all)-len(kept):], kept, "what is kept is whole and in order")
	require.Less(t, len(kept), len(all))
	require.Equal(t, []string{"not ours"}, linesOf(t, path+".4"))
}

// A rotation that broke off after its first steps goes on, and costs no file.
func TestARotationThatBrokeOffGoesOn(t *testing.T) {
	w, path := fileSink(t, func(s *Settings) { s.MaxBytes, s.BatchEvents = 10, 1 })
	for _, i := range []string{"", ".2", ".3"} { // .1 has become .2 already
		require.NoError(t, os.WriteFile(path+i, []byte("was"+i+"\n"), 0o600))
	}
	w.start()
	w.done(w.trail.Settled().Sequence)
	require.Equal(t, w.native(0), linesOf(t, path))
	for i, want := range map[string]string{".1": "was", ".2": "was.2", ".3": "was.3"} {
		require.Equal(t, []string{want}, linesOf(t, path+i))
	}
}

func TestTwoNodesDoNotShareAFile(t *testing.T) {
	w, path := fileSink(t, nil)
	w.start()
	w.done(w.happen(2))
	other := &fileTarget{path: path}
	_, err := other.deliver(t.Context(), recordsOf(t, event("iam.login", "ok")))
	require.ErrorContains(t, err, "is written by another process; give each node a file of its own")
	require.Equal(t, w.native(0), linesOf(t, path))
}

func TestAnEventLargerThanTheFileIsWritten(t *testing.T) {
	w, path := fileSink(t, func(s *Settings) { s.MaxBytes, s.BatchEvents = 10, 1 })
	w.start()
	w.done(w.happen(2))
	require.Equal(t, w.native(w.trail.Settled().Sequence-1), linesOf(t, path))
}

// A crash has left half a line: it is ended, not cut, since it may be somebody
// else's, and the event comes whole on the next line.
func TestATornLineDoesNotSpoilTheNext(t *testing.T) {
	w, path := fileSink(t, nil)
	require.NoError(t, os.WriteFile(path, []byte(`{"v":1,"no`), 0o600))
	w.start()
	w.done(w.happen(2))
	require.Equal(t, append([]string{`{"v":1,"no`}, w.native(0)...), linesOf(t, path))
}

func TestWhatIsNoFileIsRefusedAndNamed(t *testing.T) {
	for _, c := range []struct {
		make func(path string) error
		want string
	}{
		{func(p string) error { return os.Symlink("/dev/null", p) }, "is a symbolic link, which is not followed"},
		{func(p string) error { return os.Symlink(p+".nowhere", p) }, "is a symbolic link, which is not followed"},
		{func(p string) error { return os.Mkdir(p, 0o700) }, "is a directory"},
		{func(p string) error { return syscall.Mkfifo(p, 0o600) }, "is not a regular file"},
	} {
		w, path := fileSink(t, nil)
		require.NoError(t, c.make(path))
		w.start()
		last := w.happen(3)
		w.eventually("an error", func() bool { return w.metric("strongroom_audit_sink_errors_total", "one") > 0 })
		require.Contains(t, w.log.String(), c.want)
		require.Equal(t, 0.0, w.metric("strongroom_audit_sink_sent_total", "one"))
		require.NoError(t, os.Remove(path))
		w.done(last)
		require.Equal(t, w.native(0), linesOf(t, path))
		_, err := os.Stat(path + ".nowhere")
		require.ErrorIs(t, err, os.ErrNotExist)
	}
}

// A disk that is full in the middle of a batch: nothing of it stays, and
// nothing is missing when there is room again. The limit of the size of files
// plays the disk.
func TestADiskThatFillsLeavesNoHalfLine(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a")
	target := &fileTarget{path: path}
	records := recordsOf(t, event("iam.login", "ok"), event("iam.login", "denied"), event("iam.logout", "ok"))
	taken, err := target.deliver(t.Context(), records[:1])
	require.NoError(t, err)
	require.Equal(t, 1, taken)

	full := uint64(len(records[0].body) + 1 + len(records[1].body)/2)
	limit(t, full)
	taken, err = target.deliver(t.Context(), records[1:])
	require.ErrorContains(t, err, "the file cannot be written")
	require.Zero(t, taken)
	require.Equal(t, []string{string(records[0].body)}, linesOf(t, path))

	limit(t, 1<<40)
	taken, err = target.deliver(t.Context(), records[1:])
	require.NoError(t, err)
	require.Equal(t, 2, taken)
	require.Equal(t, strings.Split(strings.TrimSuffix(string(lines(records)), "\n"), "\n"), linesOf(t, path))
	require.NoError(t, target.close())
}

// limit sets how large files of this process may get, until the test ends.
func limit(t *testing.T, size uint64) {
	t.Helper()
	var before syscall.Rlimit
	require.NoError(t, syscall.Getrlimit(syscall.RLIMIT_FSIZE, &before))
	t.Cleanup(func() { require.NoError(t, syscall.Setrlimit(syscall.RLIMIT_FSIZE, &before)) })
	require.NoError(t, syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: min(size, before.Max), Max: before.Max}))
}

func TestStdoutGetsTheLines(t *testing.T) {
	w := newWorld(t, Settings{Type: "stdout", Name: "one", BatchEvents: 10})
	w.start()
	w.done(w.happen(12))
	require.Equal(t, w.native(0), w.cfg.Stdout.(*logBuffer).lines())
}

// A pipe that nobody reads holds neither the trail nor the end of the node.
func TestStdoutThatNobodyReadsHoldsNobody(t *testing.T) {
	w := newWorld(t, Settings{Type: "stdout", Name: "one", BatchEvents: 1000})
	r, pipe, err := os.Pipe()
	require.NoError(t, err)
	w.cfg.Stdout = pipe
	w.start()
	w.happen(500) // more than a pipe holds
	w.eventually("the pipe to be full", func() bool { return w.metric("strongroom_audit_sink_lag_events", "one") > 0 })
	w.stop()
	require.NoError(t, r.Close())
	require.NoError(t, pipe.Close())
}
