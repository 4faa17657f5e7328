package fsm_test

import (
	"bytes"
	"fmt"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/fsm"
)

const glassSnapshotGolden = "testdata/snapshots/v1/breakglass.snapshot"

func glassID(n int) string { return fmt.Sprintf("00000000-0000-7000-8000-0000000b%04d", n) }

// glassStory holds the life of break-glass sessions. It is a promise to logs
// like story: append to a new one for what is new.
func glassStory() []fsm.Command {
	at := start
	meta := func(who string) fsm.Meta {
		at += 1000
		return fsm.Meta{Time: at, Principal: who, RequestID: fmt.Sprintf("request-%d", at)}
	}
	reader := []fsm.Statement{{Effect: "allow", Actions: []string{"secrets:getSecretValue"}, Paths: []string{"/app/**"}}}
	open := func(n int, who, policy string) fsm.Command {
		return fsm.OpenBreakGlass{Meta: meta(who), ID: glassID(n), Policies: []string{policy}, Reason: "incident 7", Duration: fsm.MinGlassTime}
	}
	read := func(n int, who, path string, version uint64) fsm.Command {
		return fsm.NoteGlassRead{Meta: meta(who), ID: glassID(n), Path: path, SecretID: path[5:], Version: version}
	}
	put := func(path string, n uint64) fsm.Command {
		return fsm.PutVersion{Meta: meta("admin"), Path: path, SecretID: path[5:], Version: newVersion(n, defaultKey), Activate: true}
	}
	first := newVersion(1, defaultKey)
	commands := []fsm.Command{genesis(start)}
	for _, path := range []string{"/app/a", "/app/b", "/app/c"} {
		commands = append(commands, fsm.CreateSecret{Meta: meta("admin"), Path: path, SecretID: path[5:], KeyID: defaultKey, First: &first})
	}
	for _, who := range []string{"ann", "bob", "leaver"} {
		commands = append(commands, fsm.CreatePrincipal{Meta: meta("admin"), Principal: fsm.Principal{Name: who, Kind: "user"}})
	}
	return append(commands,
		fsm.PutPolicy{Meta: meta("admin"), Name: "emergency", Statements: reader},
		fsm.CreateGroup{Meta: meta("admin"), Group: fsm.Group{Name: "oncall"}},
		fsm.AddToGroup{Meta: meta("admin"), Group: "oncall", Principal: "ann"},
		fsm.AddToGroup{Meta: meta("admin"), Group: "oncall", Principal: "leaver"},
		fsm.AttachPolicy{Meta: meta("admin"), Policy: "emergency", Group: "oncall", Mode: fsm.ModeBreakGlass},
		open(1, "bob", "emergency"), // refused
		open(2, "ann", "emergency"),
		open(3, "ann", "emergency"), // refused
		read(2, "ann", "/app/a", 1),
		read(2, "ann", "/app/a", 1), // unchanged
		read(2, "ann", "/app/b", 1),
		read(2, "bob", "/app/b", 1), // refused
		put("/app/a", 2),
		read(2, "ann", "/app/a", 2),
		fsm.CloseBreakGlass{Meta: meta("bob"), ID: glassID(2), Reason: "all is well"},
		fsm.ReviewBreakGlass{Meta: meta("ann"), ID: glassID(2), Notes: "me"}, // refused
		fsm.ReviewBreakGlass{Meta: meta("bob"), ID: glassID(2), Notes: "as ticket 7 says"},
		put("/app/a", 3),
		open(4, "leaver", "emergency"),
		read(4, "leaver", "/app/c", 1),
		fsm.DeletePrincipal{Meta: meta("admin"), Name: "leaver"},
		open(5, "ann", "emergency"),
		fsm.Sweep{Meta: fsm.Meta{Time: start + 10*60_000}, Limit: 100},
		fsm.ReviewBreakGlass{Meta: meta("bob"), ID: glassID(5), Notes: "nothing was read"},
		fsm.OpenBreakGlass{Meta: meta("ann"), ID: glassID(6), Policies: []string{"emergency"}, Reason: "incident 8", Duration: fsm.MaxGlassTime},
	)
}

func TestGoldenGlassSnapshot(t *testing.T) {
	w := emptyWorld(t)
	for _, c := range glassStory() {
		w.do(c)
	}
	old := golden(t, glassSnapshotGolden, snapshot(t, w.m))
	m := fsm.New()
	require.NoError(t, m.Restore(bytes.NewReader(old)))
	require.Equal(t, fsm.Dump(w.m.State()), fsm.Dump(m.State()))
	s := m.State()
	var ids []string
	for one := range s.BreakGlassSessions("", "") {
		ids = append(ids, one.ID)
	}
	require.Equal(t, []string{glassID(2), glassID(4), glassID(5), glassID(6)}, ids)
	require.Equal(t, fsm.GlassCount{Reads: 3, Duties: 1}, s.GlassCount(glassID(2)))
	require.Equal(t, "the principal was deleted", s.BreakGlass(glassID(4)).CloseReason)
	require.Equal(t, s.BreakGlass(glassID(5)).ExpiresAt, s.BreakGlass(glassID(5)).ClosedAt)
	require.NotZero(t, s.BreakGlass(glassID(5)).SettledAt)
	require.Equal(t, glassID(6), s.OpenGlass("ann", s.Time()).ID)
	require.Equal(t, fsm.GlassTotals{Open: 1, Rotate: 2, Review: 1}, s.GlassTotals(s.Time()))
	require.Len(t, slices.Collect(s.BreakGlassSessions("ann", glassID(2))), 2)
}
