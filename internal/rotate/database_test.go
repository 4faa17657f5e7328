package rotate

import (
	"context"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/api/wire"
	"github.com/strongroom/strongroom/engine"
	"github.com/strongroom/strongroom/internal/fault"
	"github.com/strongroom/strongroom/internal/secret"
)

func TestSettingsOfDatabases(t *testing.T) {
	d := New(Config{})["postgresql"]
	good := wire.RotationSettings{AdminSecret: "/admin", Usernames: []string{"a", "b"}, Database: "pay"}
	require.NoError(t, d.Check(good))
	for says, change := range map[string]func(s *wire.RotationSettings){
		"url: ":                    func(s *wire.RotationSettings) { s.URL = "https://a.example" },
		"adminSecret: is missing":  func(s *wire.RotationSettings) { s.AdminSecret = "" },
		"usernames: must name":     func(s *wire.RotationSettings) { s.Usernames = nil },
		"usernames: must name one": func(s *wire.RotationSettings) { s.Usernames = []string{"a", "a"} },
		"usernames: must be 1":     func(s *wire.RotationSettings) { s.Usernames = []string{"a\x00"} },
		"database: must be":        func(s *wire.RotationSettings) { s.Database = "ä" },
		"generate.kind: must be p": func(s *wire.RotationSettings) { s.Generate = &wire.GenerateSpec{Kind: "bytes"} },
	} {
		s := good
		change(&s)
		err := d.Check(s)
		require.Equal(t, fault.InvalidRequest, fault.KindOf(err))
		require.ErrorContains(t, err, says)
	}
}

// table is a server that knows logins, and may refuse to set them.
type table struct {
	logins map[string]string
	away   bool
	refuse bool
}

func (s *table) login(_ context.Context, _ place, username, password string) error {
	switch {
	case s.away:
		return errors.New("no route")
	case s.logins[username] != password:
		return errLogin
	}
	return nil
}

func (s *table) setPassword(_ context.Context, _ place, _ adminLogin, username, password string) error {
	switch {
	case s.away:
		return errors.New("no route")
	case s.refuse:
		return serverError{"42501"}
	}
	s.logins[username] = password
	return nil
}

func values(text string) func(context.Context) (secret.Bytes, error) {
	return func(context.Context) (secret.Bytes, error) { return secret.Copy([]byte(text)), nil }
}

func tableTask(current, pending string) engine.RotationTask {
	return engine.RotationTask{
		Version: 2, Current: 1, Settings: wire.RotationSettings{Usernames: []string{"a"}},
		OpenAdmin:   values(`{"host":"db.example","username":"admin","password":"x"}`),
		OpenCurrent: values(current), OpenPending: values(pending),
		Generate: func(context.Context) (engine.NewValue, error) {
			return engine.NewValue{Value: secret.Copy([]byte("new"))}, nil
		},
	}
}

// TestTheLoginDecidesHowARotationIsRolledBack: each state that a server may
// be found in.
func TestTheLoginDecidesHowARotationIsRolledBack(t *testing.T) {
	const old, next = `{"username":"a","password":"old"}`, `{"username":"a","password":"new"}`
	for what, c := range map[string]struct {
		server  table
		current string
		want    engine.RolledBack
		says    string
		then    string // password of a
	}{
		"nothing has arrived":      {table{logins: map[string]string{"a": "old"}}, old, engine.RolledBack{}, "", "old"},
		"it was set":               {table{logins: map[string]string{"a": "new"}}, old, engine.RolledBack{}, "", "old"},
		"somebody set another one": {table{logins: map[string]string{"a": "other"}}, old, engine.RolledBack{}, "", "old"},
		"the admin is lost":        {table{logins: map[string]string{"a": "new"}, refuse: true}, old, engine.RolledBack{Forward: true}, "", "new"},
		"neither works":            {table{logins: map[string]string{"a": "other"}, refuse: true}, old, engine.RolledBack{}, "42501: the login of adminSecret may not set", "other"},
		"the server is away":       {table{logins: map[string]string{"a": "new"}, away: true}, old, engine.RolledBack{}, "could not be reached", "new"},
		"there was no login":       {table{logins: map[string]string{"a": "new"}}, "", engine.RolledBack{Keep: true}, "", "new"},
		"another user is current":  {table{logins: map[string]string{"a": "new"}}, `{"username":"b","password":"old"}`, engine.RolledBack{}, "", "new"},
	} {
		d := &database{guard: guard{allow: []string{"db.example"}}, usualPort: "5432", server: &c.server}
		got, err := d.RollBack(t.Context(), tableTask(c.current, next))
		if c.says != "" {
			require.ErrorContains(t, err, c.says, what)
		} else {
			require.NoError(t, err, what)
		}
		require.Equal(t, c.want, got, what)
		require.Equal(t, c.then, c.server.logins["a"], what)
	}
	d := &database{server: &table{away: true}}
	task := tableTask(old, next)
	task.Version = 0
	got, err := d.RollBack(t.Context(), task)
	require.NoError(t, err)
	require.Equal(t, engine.RolledBack{}, got, "nothing was set")
}

func TestUsersTakeTurns(t *testing.T) {
	d := &database{guard: guard{allow: []string{"db.example"}}, engine: "postgresql", usualPort: "5432", server: &table{}}
	for current, want := range map[string]string{
		"": "a", "no JSON": "a", `{"username":"a","password":"x"}`: "b", `{"username":"b","password":"x"}`: "a", `{"username":"c","password":"x"}`: "a",
	} {
		task := tableTask(current, "")
		task.Settings.Usernames = []string{"a", "b"}
		made, err := d.Create(t.Context(), task)
		require.NoError(t, err)
		require.JSONEq(t, `{"engine":"postgresql","host":"db.example","port":5432,"username":"`+want+`","password":"new"}`, string(made.Value.Expose()))
	}
	task := tableTask("", "")
	task.Settings.Usernames = []string{"admin"}
	_, err := d.Create(t.Context(), task)
	require.ErrorContains(t, err, "cannot be the one that is rotated")
}
