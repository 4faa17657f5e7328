package fsm_test

import (
	"bytes"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/internal/names"
)

// newNoticePlayer begins where several administer the cluster and there is
// something to mark.
func newNoticePlayer(t *rapid.T) player {
	p := player{t, newWorld(t)}
	for _, name := range somePrincipals[1:] {
		p.w.ok(fsm.CreatePrincipal{Meta: p.w.meta(), Principal: fsm.Principal{Name: name, Kind: "user", Policies: []string{fsm.FullAccess}}})
	}
	for _, path := range somePaths {
		p.w.secret(path, 2)
	}
	return p
}

// TestNoticeInvariants: whatever is done about principals and versions that are
// not trusted, somebody can still administer the cluster, and nobody in
// quarantine has anything left.
func TestNoticeInvariants(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) { playNotice(t) })
}

// The same over games that never change, so what they reach never changes.
func TestNoticeInvariantsReachWhatTheyAreAbout(t *testing.T) {
	games := rapid.Custom(playNotice)
	var all noticeGame
	for seed := range 50 {
		one := games.Example(seed)
		all.quarantined, all.refused, all.compromised, all.canaries = all.quarantined+one.quarantined, all.refused+one.refused, all.compromised+one.compromised, all.canaries+one.canaries
	}
	require.Greater(t, all.quarantined, 20)
	require.Greater(t, all.refused, 10, "the last one who administers is never taken")
	require.Greater(t, all.compromised, 20)
	require.Greater(t, all.canaries, 20)
}

type noticeGame struct{ quarantined, refused, compromised, canaries int }

func playNotice(t *rapid.T) (out noticeGame) {
	p := newNoticePlayer(t)
	for range rapid.IntRange(20, 80).Draw(t, "commands") {
		p.w.now += pick(p, 0, 0, 500, hour, day)
		c := pick(p, p.noticeLife, p.noticeLife, p.noticeLife, p.noticeLife, p.putVersion, p.destroyVersion, p.versionLife, p.sweep, p.credential, func() fsm.Command {
			return pick[fsm.Command](p, fsm.DeletePrincipal{Meta: p.w.meta(), Name: pick(p, somePrincipals...)},
				fsm.DetachPolicy{Meta: p.w.meta(), Policy: fsm.FullAccess, Principal: pick(p, somePrincipals...)},
				fsm.AttachPolicy{Meta: p.w.meta(), Policy: fsm.FullAccess, Principal: pick(p, somePrincipals...)},
				fsm.CreateToken{Meta: p.w.meta(), Token: token(pick(p, someTokens...), pick(p, somePrincipals...), p.w.now+day)},
				fsm.DeleteSecret{Meta: p.w.meta(), Path: p.path(), PurgeAt: p.due()}, fsm.RestoreSecret{Meta: p.w.meta(), Path: p.path()})
		})()
		result := p.w.do(c)
		if _, is := c.(fsm.QuarantinePrincipal); is && result.Refused != nil {
			out.refused++
		}
		checkNotice(t, p.w.m.State())
		checkInvariants(t, p.w.m.State())
	}
	s, end := p.w.m.State(), fsm.Dump(p.w.m.State())
	require.Equal(t, end, fsm.Dump(replay(t, p.w.log).State()), "the log again gives the same state")
	restored := fsm.New()
	require.NoError(t, restored.Restore(bytes.NewReader(snapshot(t, p.w.m))))
	require.Equal(t, end, fsm.Dump(restored.State()))
	out.quarantined, out.compromised = len(slices.Collect(s.Quarantined())), s.CompromisedCount()
	for range s.Canaries("") {
		out.canaries++
	}
	return out
}

// noticeLife draws a command about what is not trusted.
func (p player) noticeLife() fsm.Command {
	m, path, who := p.w.meta(), p.path(), pick(p, somePrincipals...)
	m.Principal = pick(p, somePrincipals...)
	return pick[fsm.Command](p,
		fsm.QuarantinePrincipal{Meta: m, Principal: who, Reason: pick(p, "alert", "alert", "")},
		fsm.QuarantinePrincipal{Meta: m, Principal: who, Reason: "alert"},
		fsm.ReleasePrincipal{Meta: m, Principal: who, Reason: "a drill"},
		fsm.SetCanary{Meta: m, Path: path, Canary: pick(p, true, true, false)},
		fsm.MarkCompromised{Meta: m, Path: path, Versions: []uint64{p.number(path)}, Reason: "r", Clear: pick(p, false, false, true)},
		fsm.PutDetectors{Meta: m, Detectors: fsm.Detectors{Learning: pick(p, 0, day, 1)}},
	)
}

func checkNotice(t *rapid.T, s *fsm.State) {
	administered := false
	for p := range s.Principals("") {
		if p.Quarantine == nil {
			administered = administered || slices.Contains(p.Policies, fsm.FullAccess)
			continue
		}
		for k := range s.Tokens(p.Name, "") {
			require.NotZero(t, k.RevokedAt, "a token of a principal in quarantine")
		}
		require.Nil(t, s.OpenGlass(p.Name, s.Time()))
	}
	require.True(t, administered, "somebody free has full access")
	for path := range s.Canaries("") {
		require.NotEqual(t, fsm.SecretPurged, s.Secret(path).State)
	}
	count := 0
	for _, path := range somePaths {
		for v := range s.Versions(names.Path(path)) {
			if v.Compromised != nil && v.State != fsm.VersionDestroyed {
				count++
			}
		}
	}
	require.Equal(t, count, s.CompromisedCount())
}
