package rotation_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/api/wire"
	"github.com/strongroom/strongroom/audit"
	"github.com/strongroom/strongroom/engine"
)

// TestClientsThatConnectAllTheTimeNeverFail, with two users that take turns:
// those that read the value each time, and those that keep one over a whole
// rotation.
func TestClientsThatConnectAllTheTimeNeverFail(t *testing.T) {
	onEach(t, func(t *testing.T, db *server) {
		w := newWorld(t, db)
		w.settings("app_a", "app_b")
		w.lead(w.engine)
		w.rotated() // the second user gets its first password of this kind

		ctx, cancel := context.WithCancel(t.Context())
		var clients sync.WaitGroup
		var logins atomic.Int64
		var round atomic.Int64
		failed := make(chan error, 100)
		for i := range 4 {
			clients.Go(func() {
				var kept login
				last := int64(-1)
				for ctx.Err() == nil {
					if now := round.Load(); i%2 == 0 || now != last {
						var err error
						if kept, err = w.current(); err != nil {
							failed <- err
							return
						}
						last = now
					}
					if err := db.login(kept.Username, kept.Password); err != nil {
						failed <- fmt.Errorf("client %d as %s: %w", i, kept.Username, err)
						return
					}
					logins.Add(1)
				}
			})
		}
		users := map[string]int{}
		for range 4 {
			w.rotated()
			got, err := w.current()
			require.NoError(t, err)
			users[got.Username]++
			// Those who keep a value may keep it until the next rotation begins.
			round.Add(1)
			before := logins.Load()
			require.Eventually(t, func() bool { return logins.Load() > before+20 || len(failed) > 0 }, 60*time.Second, 5*time.Millisecond)
		}
		cancel()
		clients.Wait()
		close(failed)
		for err := range failed {
			t.Error(err)
		}
		require.Equal(t, map[string]int{"app_a": 2, "app_b": 2}, users)
		require.Greater(t, logins.Load(), int64(80))
	})
}

func TestOneUserIsRotated(t *testing.T) {
	onEach(t, func(t *testing.T, db *server) {
		w := newWorld(t, db)
		w.settings("app")
		w.works()
		w.lead(w.engine)
		w.rotated()
		w.works()
		require.Error(t, db.login("app", "first password"))
		got, err := w.current()
		require.NoError(t, err)
		require.Equal(t, login{Engine: db.kind, Host: "127.0.0.1", Port: db.port, Username: "app", Password: got.Password}, got)
		require.Len(t, got.Password, 32)
	})
}

// TestALeaderThatIsLostAnywhereIsFollowed: before and after each command of a
// rotation of one user. The next leader finds out and the login works.
func TestALeaderThatIsLostAnywhereIsFollowed(t *testing.T) {
	onEach(t, func(t *testing.T, db *server) {
		w := newWorld(t, db)
		w.settings("app")
		for n := 1; n <= 4; n++ {
			for _, after := range []bool{false, true} {
				w.rotate()
				commands := 0
				w.log.mu.Lock()
				w.log.cut = func(isAfter bool) bool {
					if !isAfter {
						commands++
					}
					return commands == n && isAfter == after
				}
				w.log.mu.Unlock()
				stop := w.lead(w.engine)
				require.Eventually(t, w.log.lost.Load, 60*time.Second, 5*time.Millisecond)
				stop()
				w.log.mu.Lock()
				w.log.cut = nil
				w.log.mu.Unlock()
				w.log.lost.Store(false)

				stop = w.lead(w.another())
				w.becomes(func(s wire.RotationStatus) bool { return s.State == "idle" && s.RotationID == "" })
				stop()
				w.works()
			}
		}
	})
}

// TestTwoLeadersThatOverlap do every step twice, and at the same time.
func TestTwoLeadersThatOverlap(t *testing.T) {
	onEach(t, func(t *testing.T, db *server) {
		w := newWorld(t, db)
		w.settings("app")
		w.lead(w.engine)
		w.lead(w.another())
		for range 3 {
			w.rotated()
			w.works()
		}
		require.EqualValues(t, 0, w.status().Failures)
	})
}

func TestAFailingTestIsRolledBackAtTheServer(t *testing.T) {
	onEach(t, func(t *testing.T, db *server) {
		w := newWorld(t, db)
		w.settings("app")
		// A password that only quoting brings through.
		awkward := `it's "quoted" \ and -- longer; $$ %s` + "`"
		w.db.addUser(t, "app", "another")
		w.put(dbPath, fmt.Sprintf(`{"username":"app","password":%q}`, awkward))
		w.rotator.test = func() error { return engine.TargetError(nil, "test: the replica has not heard of it") }
		w.lead(w.engine)
		w.rotate()
		for range 4 {
			attempts := w.status().Attempts
			w.becomes(func(s wire.RotationStatus) bool { return s.Attempts > attempts || s.State == "failed" })
			w.later(10 * time.Minute)
		}
		status := w.becomes(func(s wire.RotationStatus) bool { return s.State == "failed" })
		require.Equal(t, "test: the replica has not heard of it", status.LastError)
		require.NoError(t, db.login("app", awkward), "the current version works again")
		w.works()
	})
}

// TestAnAdministratorThatIsLostInBetween: the server has the new password, the
// answer was lost, and the old one cannot be set back. The way is forward.
func TestAnAdministratorThatIsLostInBetween(t *testing.T) {
	onEach(t, func(t *testing.T, db *server) {
		w := newWorld(t, db)
		w.settings("app")
		w.rotator.set = func() error { return errors.New("the answer was lost") }
		w.lead(w.engine)
		w.rotate()
		w.becomes(func(s wire.RotationStatus) bool { return s.Step == "set" && s.Attempts == 1 })
		w.put(adminPath, db.adminJSON("no longer the password"))
		w.ok("secrets/updateSecret", `{"path":%q,"description":"the clock goes on"}`, dbPath)
		for range 4 {
			attempts := w.status().Attempts
			w.later(10 * time.Minute)
			w.becomes(func(s wire.RotationStatus) bool { return s.Attempts > attempts || s.State == "idle" })
		}
		w.becomes(func(s wire.RotationStatus) bool { return s.State == "idle" })
		w.works()
		require.Error(t, db.login("app", "first password"))
	})
}

func TestAWrongAdministratorChangesNothing(t *testing.T) {
	onEach(t, func(t *testing.T, db *server) {
		w := newWorld(t, db)
		w.settings("app")
		w.put(adminPath, db.adminJSON("wrong"))
		w.lead(w.engine)
		w.rotate()
		status := w.becomes(func(s wire.RotationStatus) bool { return s.Attempts == 1 })
		require.Equal(t, "set", status.Step)
		require.Equal(t, "set: the server refused the login of adminSecret", status.LastError)
		w.works()
		w.put(adminPath, db.adminJSON(adminPassword))
		w.later(time.Minute)
		w.becomes(func(s wire.RotationStatus) bool { return s.State == "idle" })
		w.works()
	})
}

func TestAServerThatIsAwayIsWaitedFor(t *testing.T) {
	onEach(t, func(t *testing.T, db *server) {
		w := newWorld(t, db)
		w.settings("app")
		db.stop()
		started := false
		t.Cleanup(func() {
			if !started {
				require.NoError(t, db.start())
			}
		})
		w.lead(w.engine)
		w.rotate()
		status := w.becomes(func(s wire.RotationStatus) bool { return s.Attempts == 1 })
		require.Contains(t, status.LastError, "set: the server could not be reached")
		require.Equal(t, "running", status.State)
		require.NoError(t, db.start())
		started = true
		w.later(time.Minute)
		w.becomes(func(s wire.RotationStatus) bool { return s.State == "idle" })
		w.works()
	})
}

// TestAServerIsKnownByItsCertificate: another authority, another name and an
// address that is not listed get no login.
func TestAServerIsKnownByItsCertificate(t *testing.T) {
	onEach(t, func(t *testing.T, db *server) {
		other, err := newServer(db.kind)
		require.NoError(t, err)
		t.Cleanup(other.close)
		for says, admin := range map[string]string{
			"not signed by an authority":             fmt.Sprintf(`{"host":"127.0.0.1","port":%d,"username":"rotator","password":"p","ca":%q}`, db.port, other.ca),
			"is for another name":                    fmt.Sprintf(`{"host":"127.0.0.1","port":%d,"username":"rotator","password":"p","ca":%q,"serverName":"db.example"}`, db.port, db.ca),
			"rotation.databaseAllow must list it":    `{"host":"169.254.169.254","port":80,"username":"rotator","password":"p"}`,
			"must be JSON with host":                 `{"host":"127.0.0.1"}`,
			"the port in adminSecret must be 1 to 6": `{"host":"127.0.0.1","port":0,"username":"rotator","password":"p"}`,
		} {
			w := newWorld(t, db)
			w.settings("app")
			w.put(adminPath, admin)
			stop := w.lead(w.engine)
			w.rotate()
			status := w.becomes(func(s wire.RotationStatus) bool { return s.Attempts == 1 })
			require.Contains(t, status.LastError, says)
			require.NotContains(t, status.LastError, adminPassword)
			stop()
			w.works()
		}
	})
}

// TestNoPasswordIsInALogOfTheServer, which writes down every statement, nor in
// the trail. Awkward names are names.
func TestNoPasswordIsInALogOfTheServer(t *testing.T) {
	onEach(t, func(t *testing.T, db *server) {
		w := newWorld(t, db)
		name := `o-app; DROP ROLE x --`
		w.settings(name)
		w.lead(w.engine)
		w.rotated()
		w.works()
		got, err := w.current()
		require.NoError(t, err)
		var raw []byte
		require.Eventually(t, func() bool {
			raw, err = os.ReadFile(db.logs)
			return err == nil && strings.Contains(string(raw), "ALTER")
		}, 30*time.Second, 20*time.Millisecond)
		require.NotContains(t, string(raw), got.Password)
		events, _, err := w.trail.Query(t.Context(), audit.Filter{Limit: 1000})
		require.NoError(t, err)
		require.NotContains(t, fmt.Sprintf("%+v", events), got.Password)
	})
}
