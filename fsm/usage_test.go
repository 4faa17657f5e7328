package fsm_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/internal/names"
)

// stay is one version as a person with a notebook would keep it: when it was
// made, when it went, and how large it is. The notebook outlives the records.
type stay struct {
	path       string
	size       uint64
	born, died int64
}

// notebook follows a machine from outside, from one state to the next.
type notebook struct {
	lives []*stay
	alive map[string]map[uint64]*stay
}

// follow notes what a command made and what it destroyed.
func (n *notebook) follow(t tester, s *fsm.State, paths []string) {
	for _, path := range paths {
		live := map[uint64]*fsm.Version{}
		for v := range s.Versions(names.Path(path)) {
			if v.State != fsm.VersionDestroyed {
				live[v.Number] = v
			}
		}
		for number, one := range n.alive[path] {
			if live[number] == nil {
				one.died = s.Time()
				delete(n.alive[path], number)
			}
		}
		for number, v := range live {
			if n.alive[path][number] != nil {
				continue
			}
			one := &stay{path: path, size: uint64(v.Size), born: s.Time()}
			if n.alive[path] == nil {
				n.alive[path] = map[uint64]*stay{}
			}
			n.lives, n.alive[path][number] = append(n.lives, one), one
		}
	}
}

// count adds up by hand, with the calendar of the standard library.
func (n *notebook) count(prefix string, now int64) (u fsm.Usage) {
	at := time.UnixMilli(now).UTC()
	month := time.Date(at.Year(), at.Month(), 1, 0, 0, 0, 0, time.UTC).UnixMilli()
	for _, one := range n.lives {
		if !strings.HasPrefix(one.path, prefix) {
			continue
		}
		end := one.died
		if end == 0 {
			u.Versions++
			u.Bytes += one.size
			end = now
		}
		if from := max(one.born, month); end > from {
			u.Millis += end - from
		}
	}
	return u
}

func sum(s *fsm.State, prefix string, now int64) (secrets int, u fsm.Usage) {
	for secret, one := range s.Usages(prefix, now) {
		if secret.State != fsm.SecretPurged {
			secrets++
		}
		u.Versions += one.Versions
		u.Bytes += one.Bytes
		u.Millis += one.Millis
	}
	return secrets, u
}

// TestUsageIsWhatAPersonWouldCount plays 10,000 random commands over some
// twenty months, and compares with the notebook at many points on the way,
// and with a machine that was restored from a snapshot.
func TestUsageIsWhatAPersonWouldCount(t *testing.T) {
	for _, seed := range []uint64{1, 2, 3} {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, seed))
			var paths []string
			for i := range 30 {
				paths = append(paths, []string{"/app/dev/web/s%d", "/app/dev/s%d", "/app/de/s%d", "/app/dev-2/s%d", "/s%d"}[i%5])
				paths[i] = fmt.Sprintf(paths[i], i)
			}
			w, n, done := newWorld(t), &notebook{alive: map[string]map[uint64]*stay{}}, 0
			for done < 10_000 {
				if w.do(w.random(r, paths)).Refused == nil {
					done++
				}
				n.follow(t, w.m.State(), paths)
				if r.IntN(4) == 0 {
					w.now += r.Int64N(day)
				}
				if done%50 == 0 {
					requireCounted(t, n, w.m.State(), w.m.State().Time()+r.Int64N(3*day))
				}
			}
			restored := fsm.New()
			require.NoError(t, restored.Restore(w.reader()))
			requireCounted(t, n, restored.State(), w.now+day)
		})
	}
}

func requireCounted(t *testing.T, n *notebook, s *fsm.State, now int64) {
	t.Helper()
	for _, prefix := range []string{"/", "/app/", "/app/dev/", "/app/dev/web/", "/app/none/"} {
		secrets, got := sum(s, prefix, now)
		require.Equal(t, n.count(prefix, now), got, prefix)
		want := 0
		for secret := range s.Secrets(prefix) {
			if secret.State != fsm.SecretPurged {
				want++
			}
		}
		require.Equal(t, want, secrets)
	}
}

// random answers a command that makes or destroys versions, mostly one that
// is accepted.
func (w *world) random(r *rand.Rand, paths []string) fsm.Command {
	path := paths[r.IntN(len(paths))]
	s, m := w.m.State().Secret(names.Path(path)), w.meta()
	if s == nil || s.State == fsm.SecretPurged {
		v := newVersion(1, defaultKey)
		v.Size = r.Uint32N(5000)
		from := paths[r.IntN(len(paths))]
		if source := w.m.State().Secret(names.Path(from)); source != nil && source.State == fsm.SecretActive && r.IntN(3) == 0 {
			return fsm.CopySecret{
				Meta: m, Path: path, SecretID: fmt.Sprint("id", w.index), KeyID: defaultKey, ReuseRetired: true,
				From: from, FromID: source.ID, Versions: w.copies(from),
			}
		}
		return fsm.CreateSecret{Meta: m, Path: path, SecretID: fmt.Sprint("id", w.index), KeyID: defaultKey, ReuseRetired: true, First: &v}
	}
	number := s.Latest - min(s.Latest-1, r.Uint64N(6))
	switch r.IntN(20) {
	case 0:
		return fsm.DeleteSecret{Meta: m, Path: path} // purged at once
	case 1:
		return fsm.DeleteSecret{Meta: m, Path: path, PurgeAt: m.Time + 7*day + r.Int64N(20*day)}
	case 2, 3:
		return fsm.RestoreSecret{Meta: m, Path: path}
	case 4, 5, 6, 7:
		return fsm.DestroyVersion{Meta: m, Path: path, Version: number}
	case 8, 9:
		return fsm.DestroyVersion{Meta: m, Path: path, Version: number, DueAt: m.Time + r.Int64N(20*day)}
	case 10:
		return fsm.CancelDestroy{Meta: m, Path: path, Version: number}
	case 11, 12:
		return fsm.Sweep{Meta: m, Limit: 1 + r.IntN(20)}
	}
	c := w.put(path)
	c.Version.Size, c.Activate = r.Uint32N(5000), r.IntN(3) > 0
	return c
}

func TestADestroyedVersionStopsCountingAtItsIndex(t *testing.T) {
	w := newWorld(t)
	w.secret("/app/a", 2)
	born := w.version("/app/a", 1).CreatedAt
	w.now = born + 3600_000
	w.ok(w.destroy("/app/a", 1))
	_, u := sum(w.m.State(), "/app/", w.now)
	require.Equal(t, fsm.Usage{Versions: 1, Bytes: 9, Millis: 3600_000 + w.now - w.version("/app/a", 2).CreatedAt}, u)
	_, later := sum(w.m.State(), "/app/", w.now+day)
	require.Equal(t, u.Millis+day, later.Millis, "only the one that is left")
}

// TestAReusedPathForgetsNoHours: the records of the retired secret are gone,
// what they took this month was taken.
func TestAReusedPathForgetsNoHours(t *testing.T) {
	w := newWorld(t)
	for round := range int64(3) {
		c := fsm.CreateSecret{Meta: w.meta(), Path: "/a", SecretID: fmt.Sprint("id", w.index), KeyID: defaultKey, ReuseRetired: true}
		first := newVersion(1, defaultKey)
		c.First = &first
		w.ok(c)
		w.now = w.m.State().Time() + 1000
		w.ok(fsm.DeleteSecret{Meta: w.meta(), Path: "/a"})
		_, u := sum(w.m.State(), "/", w.now)
		require.Equal(t, fsm.Usage{Millis: (round + 1) * 1000}, u)
	}
	_, u := sum(w.m.State(), "/", w.now+40*day)
	require.Zero(t, u, "another month")
}

func TestMonthsBeginWhereTheCalendarSays(t *testing.T) {
	for at := time.Date(1970, 1, 1, 0, 0, 0, 0, time.UTC); at.Year() < 2500; at = at.Add(23*time.Hour + 17*time.Minute) {
		want := time.Date(at.Year(), at.Month(), 1, 0, 0, 0, 0, time.UTC).UnixMilli()
		require.Equal(t, want, fsm.MonthStart(at.UnixMilli()), at)
	}
	last := time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)
	require.Equal(t, time.Date(9999, 12, 1, 0, 0, 0, 0, time.UTC).UnixMilli(), fsm.MonthStart(last.UnixMilli()))
}

func TestChangesAreInTheOrderOfTheirCommands(t *testing.T) {
	w := newWorld(t)
	after := func(index uint64) (out []string) {
		for s := range w.m.State().ChangesAfter(index) {
			out = append(out, string(s.Path))
		}
		return out
	}
	w.secret("/b", 1)
	w.secret("/a", 2)
	w.secret("/c", 0)
	require.Equal(t, []string{"/b", "/a", "/c"}, after(0))
	w.ok(w.put("/b"))
	require.Equal(t, []string{"/a", "/c", "/b"}, after(0))
	index := w.index
	require.Empty(t, after(index))
	require.Equal(t, []string{"/b"}, after(index-1))
	require.Empty(t, after(^uint64(0)))

	w.ok(w.destroy("/a", 1))
	w.ok(fsm.DeleteSecret{Meta: w.meta(), Path: "/c", PurgeAt: w.now + 8*day})
	require.Equal(t, []string{"/a", "/c"}, after(index))
	w.now += 9 * day
	w.sweep()
	require.Equal(t, []string{"/c"}, after(w.index-1), "what the leader does by itself counts too")
	w.ok(fsm.CreateKey{Meta: w.meta(), Key: key(keyID(2))})
	require.Empty(t, after(w.index-1))
}

// TestAJobChangesNothingThatReadersNotice: a migration of a million secrets
// must not wake everybody.
func TestAJobChangesNothingThatReadersNotice(t *testing.T) {
	w := newWorld(t)
	w.secret("/a", 1)
	w.ok(fsm.CreateKey{Meta: w.meta(), Key: key(keyID(2))})
	w.ok(fsm.CreateJob{Meta: w.meta(), Job: fsm.Job{ID: "job-1", Kind: fsm.JobMigrate, From: defaultKey, To: keyID(2), Rate: 1}})
	before := w.index
	w.ok(fsm.RewrapVersions{Meta: w.meta(), JobID: "job-1", From: defaultKey, To: keyID(2), Paths: []string{"/a"}, Items: []fsm.Rewrapped{
		{Path: "/a", Version: 1, Old: hashOf("wrapped data key"), KeyVersion: 1, DataKey: []byte("anew")},
	}})
	require.Equal(t, keyID(2), w.get("/a").KeyID)
	require.Empty(t, slices.Collect(w.m.State().ChangesAfter(before)))
}

// TestRightsAreComparedByWhatTheyAre: only what a decision depends on counts.
func TestRightsAreComparedByWhatTheyAre(t *testing.T) {
	w := newWorld(t)
	before := w.m.State()
	w.secret("/a", 2)
	require.True(t, w.m.State().SameRights(before))
	for _, c := range []fsm.Command{
		fsm.CreatePrincipal{Meta: w.meta(), Principal: fsm.Principal{Name: "svc", Kind: "service"}},
		fsm.CreateToken{Meta: w.meta(), Token: token("t1", "svc", w.now+day)},
		fsm.RevokeToken{Meta: w.meta(), TokenID: "t1"},
		fsm.PutPolicy{Meta: w.meta(), Name: "p", Statements: []fsm.Statement{{Effect: "deny", Actions: []string{"*"}}}},
		fsm.PutAccessPolicy{Meta: w.meta(), Policy: fsm.AccessPolicy{Name: "office", Paths: []string{"/a"}}},
	} {
		before = w.m.State()
		w.ok(c)
		require.False(t, w.m.State().SameRights(before), "%T", c)
	}
}
