package fsm_test

import (
	"bytes"
	"fmt"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/internal/names"
)

// newGlassPlayer begins where everybody may break glass and there is something
// to read: in the world of all commands sessions are too rare to meet.
func newGlassPlayer(t *rapid.T) player {
	p := player{t, newWorld(t)}
	p.w.ok(fsm.PutPolicy{Meta: p.w.meta(), Name: "reader", Statements: []fsm.Statement{{Effect: "allow", Roles: []string{"secrets-value-access"}, Paths: []string{"/**"}}}})
	p.w.ok(fsm.AttachPolicy{Meta: p.w.meta(), Policy: "reader", Group: fsm.Everyone, Mode: fsm.ModeBreakGlass})
	for _, name := range somePrincipals[1:] {
		p.w.ok(fsm.CreatePrincipal{Meta: p.w.meta(), Principal: fsm.Principal{Name: name, Kind: "user"}})
	}
	for _, path := range somePaths {
		p.w.secret(path, 2)
	}
	return p
}

// TestGlassInvariants is TestInvariants around break-glass sessions.
func TestGlassInvariants(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) { playGlass(t) })
}

// The same over games that never change, so what they reach never changes
// either: sessions with reads, reads that were rotated, sessions that settled.
func TestGlassInvariantsWhereDutiesAreDone(t *testing.T) {
	games := rapid.Custom(playGlass)
	var all glassGame
	for seed := range 100 {
		one := games.Example(seed)
		all.reads, all.rotated, all.settled = all.reads+one.reads, all.rotated+one.rotated, all.settled+one.settled
	}
	require.Greater(t, all.reads, 50)
	require.Greater(t, all.rotated, 20)
	require.Greater(t, all.settled, 5)
}

// glassGame counts the duties of one game, those done, and the sessions that
// had some and are settled.
type glassGame struct{ reads, rotated, settled int }

func playGlass(t *rapid.T) (out glassGame) {
	p := newGlassPlayer(t)
	for range rapid.IntRange(40, 120).Draw(t, "commands") {
		p.w.now += pick(p, 0, 0, 0, 0, 0, 0, 500, 500, 500, 30_000, hour/2, day)
		p.w.do(pick(p, p.glassLife, p.glassLife, p.glassLife, p.glassLife, p.glassLife, p.glassLife, p.putVersion, p.putVersion, p.destroyVersion, p.versionLife, p.sweep, func() fsm.Command {
			return pick[fsm.Command](p, fsm.DeletePrincipal{Meta: p.w.meta(), Name: pick(p, somePrincipals...)},
				fsm.DeleteSecret{Meta: p.w.meta(), Path: p.path(), PurgeAt: p.due()}, fsm.RestoreSecret{Meta: p.w.meta(), Path: p.path()})
		})())
		checkGlass(t, p.w.m.State())
		checkInvariants(t, p.w.m.State())
	}
	s, end := p.w.m.State(), fsm.Dump(p.w.m.State())
	require.Equal(t, end, fsm.Dump(replay(t, p.w.log).State()), "the log again gives the same state")
	restored := fsm.New()
	require.NoError(t, restored.Restore(bytes.NewReader(snapshot(t, p.w.m))))
	require.Equal(t, end, fsm.Dump(restored.State()))
	for one := range s.BreakGlassSessions("", "") {
		count := s.GlassCount(one.ID)
		out.reads += count.Reads
		for r := range s.GlassReads(one.ID) {
			if r.DoneAt != 0 {
				out.rotated++
			}
		}
		if one.SettledAt != 0 && count.Reads > 0 {
			out.settled++
		}
	}
	return out
}

// glassLife draws a command about break-glass sessions.
func (p player) glassLife() fsm.Command {
	m, n, path := p.w.meta(), pick(p, 1, 2, 3), p.path()
	m.Principal = pick(p, somePrincipals...)
	id := glassID(n)
	for s := range p.w.m.State().BreakGlassSessions("", "") {
		if s.EndedAt(p.w.now) == 0 && pick(p, true, true, true, false) {
			id, m.Principal = s.ID, s.Principal
		}
	}
	return pick(p, func() fsm.Command {
		return fsm.AttachPolicy{Meta: m, Policy: pick(p, somePolicies...), Principal: pick(p, somePrincipals...), Mode: fsm.ModeBreakGlass, ExpiresAt: p.due()}
	}, func() fsm.Command {
		policy := pick(p, "reader", "reader", "reader", "writer")
		return fsm.OpenBreakGlass{Meta: m, ID: glassID(int(p.w.index)), Policies: []string{policy}, Reason: "r", Duration: pick(p, 60_000, hour, 12*hour, 12*hour, 12*hour+1)}
	}, func() fsm.Command {
		c := fsm.NoteGlassRead{Meta: m, ID: id, Path: path, Version: p.number(path)}
		if s := p.w.m.State().Secret(names.Path(path)); s != nil {
			c.SecretID = s.ID
		}
		return c
	}, func() fsm.Command {
		return fsm.CloseBreakGlass{Meta: m, ID: id}
	}, func() fsm.Command {
		for s := range p.w.m.State().BreakGlassSessions("", "") {
			if s.ReviewedAt == 0 {
				id = s.ID
			}
		}
		m.Principal = pick(p, somePrincipals...)
		return fsm.ReviewBreakGlass{Meta: m, ID: id, Notes: "seen"}
	})()
}

// checkGlass: of each principal one session is open at most, nobody reviews
// their own, and what is to be rotated is what the records say.
func checkGlass(t tester, s *fsm.State) {
	open, rotate := map[string]bool{}, 0
	for one := range s.BreakGlassSessions("", "") {
		require.Contains(t, slices.Collect(s.BreakGlassSessions(one.Principal, "")), one)
		if one.ClosedAt == 0 {
			require.False(t, open[one.Principal], "two are open")
			open[one.Principal] = true
		}
		require.NotEqual(t, one.Principal, one.ReviewedBy)
		count := fsm.GlassCount{}
		for r := range s.GlassReads(one.ID) {
			count.Reads += len(r.Versions)
			secret, last := s.Secret(r.Path), r.Versions[len(r.Versions)-1].Version
			if r.DoneAt == 0 {
				count.Duties++
				require.Equal(t, secret.ID, r.SecretID, "a duty about what is gone")
				require.LessOrEqual(t, secret.Current, last, "a duty that is done")
				require.True(t, slices.ContainsFunc(r.Versions, func(v fsm.GlassVersion) bool {
					return s.Version(r.Path, v.Version).State != fsm.VersionDestroyed
				}), "a duty about what is destroyed")
			}
		}
		require.Equal(t, count, s.GlassCount(one.ID), fmt.Sprint(one))
		require.Equal(t, one.ReviewedAt != 0 && count.Duties == 0, one.SettledAt != 0)
		rotate += count.Duties
	}
	require.Equal(t, rotate, s.GlassTotals(s.Time()).Rotate)
}
