package audit

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// evidence is a trail as somebody could find it who may write to the folder:
// its files, each as its lines with their newlines.
type evidence struct {
	names []string
	lines [][][]byte
}

// collect reads a closed trail.
func collect(t testing.TB, dir string) evidence {
	t.Helper()
	var e evidence
	for _, path := range files(t, dir) {
		e.names = append(e.names, filepath.Base(path))
		data, err := os.ReadFile(path)
		require.NoError(t, err)
		e.lines = append(e.lines, slices.DeleteFunc(bytes.SplitAfter(data, []byte("\n")), func(line []byte) bool { return len(line) == 0 }))
	}
	return e
}

func (e evidence) clone() evidence {
	out := evidence{names: slices.Clone(e.names)}
	for _, file := range e.lines {
		out.lines = append(out.lines, slices.Clone(file))
	}
	return out
}

func (e evidence) write(t testing.TB) (dir string) {
	t.Helper()
	dir, err := os.MkdirTemp(t.TempDir(), "")
	require.NoError(t, err)
	for i, name := range e.names {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), bytes.Join(e.lines[i], nil), 0o600))
	}
	return dir
}

// at is where the event with a sequence stands.
func (e evidence) at(sequence uint64) (file, line int) {
	for file, line = 0, int(sequence)-1; line >= len(e.lines[file]); file++ {
		line -= len(e.lines[file])
	}
	return file, line
}

func (e evidence) events() (n int) {
	for _, file := range e.lines {
		n += len(file)
	}
	return n
}

// wrong is what a forgery must be found out by.
type wrong struct {
	sequence uint64 // of the first event that is not what was written
	file     string // "": the one that should hold it
	torn     bool   // only the newest file's end is gone: Open repairs that
}

// forgeries are the ways to change e. Each draws what it needs and answers
// what is to be found. None is at the whole end of the trail: see
// TestCutEndIsFoundByTheHeadAlone.
var forgeries = map[string]func(t *rapid.T, e *evidence) wrong{
	"flip a byte": func(t *rapid.T, e *evidence) wrong {
		sequence := rapid.IntRange(1, e.events()).Draw(t, "sequence")
		file, line := e.at(uint64(sequence))
		changed := bytes.Clone(e.lines[file][line])
		at := rapid.IntRange(0, len(changed)-1).Draw(t, "byte")
		changed[at] ^= byte(rapid.IntRange(1, 255).Draw(t, "mask"))
		e.lines[file][line] = changed
		return wrong{sequence: uint64(sequence), torn: sequence == e.events() && at == len(changed)-1}
	},
	"remove events": func(t *rapid.T, e *evidence) wrong {
		from := rapid.IntRange(1, e.events()-1).Draw(t, "from")
		file, line := e.at(uint64(from))
		last := len(e.lines[file])
		if file == len(e.lines)-1 {
			last-- // what is behind them stays, or nobody could tell
		}
		to := rapid.IntRange(line+1, last).Draw(t, "to")
		e.lines[file] = slices.Delete(e.lines[file], line, to)
		if line < len(e.lines[file]) {
			return wrong{sequence: uint64(from)}
		}
		return wrong{sequence: uint64(from), file: e.names[file+1]}
	},
	"exchange two events": func(t *rapid.T, e *evidence) wrong {
		first := rapid.IntRange(1, e.events()-1).Draw(t, "first")
		second := rapid.IntRange(first+1, e.events()).Draw(t, "second")
		f, l := e.at(uint64(first))
		g, m := e.at(uint64(second))
		e.lines[f][l], e.lines[g][m] = e.lines[g][m], e.lines[f][l]
		return wrong{sequence: uint64(first)}
	},
	"repeat an event": func(t *rapid.T, e *evidence) wrong {
		sequence := rapid.IntRange(1, e.events()).Draw(t, "sequence")
		file, line := e.at(uint64(sequence))
		e.lines[file] = slices.Insert(e.lines[file], line, e.lines[file][line])
		return wrong{sequence: uint64(sequence) + 1, file: e.names[file]}
	},
	"insert what is no event": func(t *rapid.T, e *evidence) wrong {
		sequence := rapid.IntRange(1, e.events()).Draw(t, "sequence")
		file, line := e.at(uint64(sequence))
		junk := rapid.SampledFrom([]string{"\n", "{}\n", "\x00\x00\n", "# a comment\n"}).Draw(t, "junk")
		e.lines[file] = slices.Insert(e.lines[file], line, []byte(junk))
		return wrong{sequence: uint64(sequence)}
	},
	// With its number, hash and checksum right: the event behind it tells.
	"insert a well-made event": func(t *rapid.T, e *evidence) wrong {
		sequence := rapid.IntRange(1, e.events()).Draw(t, "sequence")
		file, line := e.at(uint64(sequence))
		e.lines[file] = slices.Insert(e.lines[file], line, forge(t, *e, uint64(sequence)))
		return wrong{sequence: uint64(sequence) + 1, file: e.names[file]}
	},
	// The same, in the place of the one that was there.
	"rewrite an event": func(t *rapid.T, e *evidence) wrong {
		sequence := rapid.IntRange(1, e.events()-1).Draw(t, "sequence")
		file, line := e.at(uint64(sequence))
		e.lines[file][line] = forge(t, *e, uint64(sequence))
		return wrong{sequence: uint64(sequence) + 1}
	},
	"cut an older file": func(t *rapid.T, e *evidence) wrong {
		sequence := rapid.IntRange(1, e.events()-len(e.lines[len(e.lines)-1])).Draw(t, "sequence")
		file, line := e.at(uint64(sequence))
		cut := rapid.IntRange(0, len(e.lines[file][line])-1).Draw(t, "left")
		e.lines[file] = append(e.lines[file][:line], e.lines[file][line][:cut])
		if cut == 0 {
			return wrong{sequence: uint64(sequence), file: e.names[file+1]}
		}
		return wrong{sequence: uint64(sequence)}
	},
	"cut the newest file": func(t *rapid.T, e *evidence) wrong {
		file := len(e.lines) - 1
		line := rapid.IntRange(0, len(e.lines[file])-1).Draw(t, "line")
		sequence := e.events() - len(e.lines[file]) + line + 1
		cut := rapid.IntRange(1, len(e.lines[file][line])-1).Draw(t, "left")
		e.lines[file] = append(e.lines[file][:line], e.lines[file][line][:cut])
		return wrong{sequence: uint64(sequence), torn: true}
	},
	"exchange two files": func(t *rapid.T, e *evidence) wrong {
		first := rapid.IntRange(0, len(e.lines)-2).Draw(t, "first")
		second := rapid.IntRange(first+1, len(e.lines)-1).Draw(t, "second")
		e.lines[first], e.lines[second] = e.lines[second], e.lines[first]
		return wrong{sequence: firstOf(e.names[first]), file: e.names[first]}
	},
	"remove a file": func(t *rapid.T, e *evidence) wrong {
		file := rapid.IntRange(0, len(e.lines)-2).Draw(t, "file")
		sequence := firstOf(e.names[file])
		e.names, e.lines = slices.Delete(e.names, file, file+1), slices.Delete(e.lines, file, file+1)
		return wrong{sequence: sequence, file: e.names[file]}
	},
	"repeat a file": func(t *rapid.T, e *evidence) wrong {
		file := rapid.IntRange(0, len(e.lines)-1).Draw(t, "file")
		e.names = append(e.names, filepath.Base(segmentPath("", uint64(e.events())+1)))
		e.lines = append(e.lines, e.lines[file])
		return wrong{sequence: firstOf(e.names[len(e.names)-1]), file: e.names[len(e.names)-1]}
	},
	"rename a file": func(t *rapid.T, e *evidence) wrong {
		file := rapid.IntRange(0, len(e.lines)-1).Draw(t, "file")
		sequence := firstOf(e.names[file])
		e.names[file] = filepath.Base(segmentPath("", sequence+1))
		return wrong{sequence: sequence, file: e.names[file]}
	},
}

func firstOf(name string) uint64 {
	segments := segment{}
	for _, c := range name[len(segmentPrefix) : len(segmentPrefix)+segmentDigits] {
		segments.first = segments.first*10 + uint64(c-'0')
	}
	return segments.first
}

// forge makes the line that could stand in the place of sequence.
func forge(t *rapid.T, e evidence, sequence uint64) []byte {
	var prev [32]byte
	if sequence > 1 {
		file, line := e.at(sequence - 1)
		prev = sum(bytes.TrimSuffix(e.lines[file][line], []byte("\n")))
	}
	forged := read("mallory" + rapid.StringN(0, 5, -1).Draw(t, "principal"))
	out := appendPrefix(nil, "n1", sequence, prev)
	return append(appendCRC(appendBody(out, &forged), 0), '\n')
}

// Whatever somebody does to the files, short of making the whole rest anew,
// the first event that it touches is named, and the node does not go on
// behind it as if nothing had been.
func TestAnyForgeryIsNamedAndRefused(t *testing.T) {
	origin := collect(t, closedTrail(t, 20, 1500).Dir)
	require.Greater(t, len(origin.lines), 3)
	require.Equal(t, 21, origin.events())
	for name, forgery := range forgeries {
		t.Run(name, func(t *testing.T) {
			rapid.Check(t, func(r *rapid.T) {
				forged := origin.clone()
				want := forgery(r, &forged)
				if want.file == "" {
					file, _ := origin.at(want.sequence)
					want.file = origin.names[file]
				}
				dir := forged.write(t)
				defer func() { _ = os.RemoveAll(dir) }()
				path := filepath.Join(dir, want.file)

				report, err := Verify(dir)
				requireBroken(r, err, path, want.sequence)
				require.Equal(r, want.sequence-1, report.Events, "what came before is vouched for")
				trail, err := open(Config{Dir: dir, Node: "n1"}, unsynced())
				if want.torn {
					require.NoError(r, err)
					require.Equal(r, want.sequence+1, trail.Head().Sequence, "the start and the repair come after what was whole")
					require.NoError(r, trail.Close())
					return
				}
				requireBroken(r, err, path, want.sequence)
				require.Equal(r, bytes.Join(slices.Concat(forged.lines...), nil), bytes.Join(slices.Concat(collect(t, dir).lines...), nil), "nothing is repaired")
			})
		})
	}
}

// What a hash chain cannot tell: that its end is missing, or was made anew.
// The head that was kept elsewhere tells.
func TestCutEndIsFoundByTheHeadAlone(t *testing.T) {
	origin := collect(t, closedTrail(t, 20, 1500).Dir)
	kept, err := Verify(origin.write(t))
	require.NoError(t, err)
	last := len(origin.lines) - 1
	rapid.Check(t, func(r *rapid.T) {
		forged := origin.clone()
		switch rapid.SampledFrom([]string{"events", "file", "anew"}).Draw(r, "forgery") {
		case "events":
			forged.lines[last] = forged.lines[last][:rapid.IntRange(0, len(forged.lines[last])-1).Draw(r, "left")]
		case "file":
			left := rapid.IntRange(1, last).Draw(r, "files")
			forged.names, forged.lines = forged.names[:left], forged.lines[:left]
		case "anew":
			from := rapid.IntRange(1, forged.events()).Draw(r, "from")
			for sequence := from; sequence <= forged.events(); sequence++ {
				file, line := forged.at(uint64(sequence))
				forged.lines[file][line] = forge(r, forged, uint64(sequence))
			}
		}
		dir := forged.write(t)
		defer func() { _ = os.RemoveAll(dir) }()
		report, err := Verify(dir)
		require.NoError(r, err)
		require.NotEqual(r, kept.Head, report.Head)
	})
}
