package rotate

import (
	"context"
	"errors"
	"slices"

	"github.com/strongroom/strongroom/api/wire"
	"github.com/strongroom/strongroom/engine"
	"github.com/strongroom/strongroom/internal/fault"
)

// server is one kind of database server.
type server interface {
	// login logs in once and leaves; errLogin if the server refused the login.
	login(ctx context.Context, p place, username, password string) error
	// setPassword gives a user a password, by a log-in of the administrator.
	setPassword(ctx context.Context, p place, admin adminLogin, username, password string) error
}

// errLogin says that a server was there and refused a login.
var errLogin = errors.New("the server refused the login")

// database rotates the password of one user, or of two that take turns.
type database struct {
	guard     guard
	engine    string // in the value
	usualPort string
	server    server
}

// Check implements engine.Rotator. Where adminSecret leads is looked at when
// it is opened: its value may change.
func (d *database) Check(s wire.RotationSettings) error {
	switch {
	case s.URL != "" || s.CA != "" || s.SigningSecret != "":
		return fault.Invalid("url", "and ca and signingSecret are for webhooks; the ca of a database stands in adminSecret")
	case s.AdminSecret == "":
		return fault.Invalid("adminSecret", "is missing; name a JSON secret with host, username and password of the login that sets passwords")
	case len(s.Usernames) < 1 || len(s.Usernames) > 2 || len(s.Usernames) == 2 && s.Usernames[0] == s.Usernames[1]:
		return fault.Invalid("usernames", "must name one user, or two that take turns")
	case !plainName(s.Database) && s.Database != "":
		return fault.Invalid("database", "must be 1 to 63 printable ASCII characters")
	case s.Generate != nil && !slices.Contains([]string{"password", "passphrase", "hex", "base64", "uuid"}, s.Generate.Kind):
		return fault.Invalid("generate.kind", "must be password, passphrase, hex, base64 or uuid: a database wants one line of text")
	}
	for _, name := range s.Usernames {
		if !plainName(name) {
			return fault.Invalid("usernames", "must be 1 to 63 printable ASCII characters each")
		}
	}
	return nil
}

func plainName(name string) bool {
	return len(name) >= 1 && len(name) <= 63 && plainText(name)
}

// plainText: printable ASCII, which no server, escaping or preparation of
// strings reads in another way.
func plainText(text string) bool {
	for i := range len(text) {
		if text[i] < ' ' || text[i] > '~' {
			return false
		}
	}
	return true
}

// Create implements engine.Rotator: a new password for the user whose turn
// it is.
func (d *database) Create(ctx context.Context, t engine.RotationTask) (engine.NewValue, error) {
	p, admin, err := d.reach(ctx, t, "create")
	if err != nil {
		return engine.NewValue{}, err
	}
	raw, err := t.OpenCurrent(ctx)
	if err != nil {
		return engine.NewValue{}, err
	}
	current, _ := decodeLogin(raw)
	user := t.Settings.Usernames[0]
	if len(t.Settings.Usernames) == 2 && current.Username == user {
		user = t.Settings.Usernames[1]
	}
	if user == admin.Username {
		return engine.NewValue{}, engine.TargetError(nil, "create: the user of adminSecret cannot be the one that is rotated: it would lose the right to go on")
	}
	password, err := t.Generate(ctx)
	if err != nil {
		return engine.NewValue{}, err
	}
	value, err := userLogin{
		Engine: d.engine, Host: p.host, Port: p.port, Database: p.database, Username: user, Password: string(password.Value.Expose()),
	}.encode()
	return engine.NewValue{Value: value, ContentType: "application/json"}, err
}

// pending opens the login that is to come into force.
func (d *database) pending(ctx context.Context, t engine.RotationTask, step string) (userLogin, error) {
	raw, err := t.OpenPending(ctx)
	if err != nil {
		return userLogin{}, err
	}
	login, ok := decodeLogin(raw)
	if !ok || !plainName(login.Username) || !plainText(login.Password) {
		return userLogin{}, engine.TargetError(nil, "%s: the pending version is not what this rotation made", step)
	}
	return login, nil
}

// Set implements engine.Rotator. If the administrator's login fails and the
// pending one works, an earlier attempt has arrived: that is as good.
func (d *database) Set(ctx context.Context, t engine.RotationTask) error {
	p, admin, err := d.reach(ctx, t, "set")
	if err != nil {
		return err
	}
	pending, err := d.pending(ctx, t, "set")
	if err != nil {
		return err
	}
	if err := d.server.setPassword(ctx, p, admin, pending.Username, pending.Password); err != nil {
		if d.server.login(ctx, p, pending.Username, pending.Password) == nil {
			return nil
		}
		return d.trouble("set", err, "of adminSecret")
	}
	return nil
}

// Test implements engine.Rotator: the login that clients will get.
func (d *database) Test(ctx context.Context, t engine.RotationTask) error {
	p, _, err := d.reach(ctx, t, "test")
	if err != nil {
		return err
	}
	pending, err := d.pending(ctx, t, "test")
	if err != nil {
		return err
	}
	if err := d.server.login(ctx, p, pending.Username, pending.Password); err != nil {
		return d.trouble("test", err, "of the pending version")
	}
	return nil
}

// Tells implements engine.Rotator: a database does not care.
func (d *database) Tells() bool { return false }

// Tell implements engine.Rotator.
func (d *database) Tell(context.Context, engine.RotationTask) error { return nil }

// RollBack implements engine.Rotator. The log-in decides, not a guess about
// which statement has arrived. Where two users take turns, the one whose
// password may have been set is not the current one: nobody was told to use
// it, so there is nothing to bring back.
func (d *database) RollBack(ctx context.Context, t engine.RotationTask) (engine.RolledBack, error) {
	if t.Version == 0 {
		return engine.RolledBack{}, nil
	}
	pending, err := d.pending(ctx, t, "rollBack")
	if err != nil {
		// It was destroyed by hand: what it was cannot be known any more, and the
		// current login is what counts.
		pending = userLogin{}
	}
	raw, err := t.OpenCurrent(ctx)
	if err != nil {
		return engine.RolledBack{}, err
	}
	current, ok := decodeLogin(raw)
	if !ok {
		return engine.RolledBack{Keep: true}, nil // there is nothing to go back to
	}
	if pending.Username != "" && current.Username != pending.Username {
		return engine.RolledBack{}, nil
	}
	p, admin, err := d.reach(ctx, t, "rollBack")
	if err != nil {
		return engine.RolledBack{}, err
	}
	return d.restore(ctx, p, admin, current, pending)
}

func (d *database) restore(ctx context.Context, p place, admin adminLogin, current, pending userLogin) (engine.RolledBack, error) {
	err := d.server.login(ctx, p, current.Username, current.Password)
	if err == nil {
		return engine.RolledBack{}, nil
	}
	if !errors.Is(err, errLogin) {
		return engine.RolledBack{}, d.trouble("rollBack", err, "of the current version")
	}
	if !plainName(current.Username) || !plainText(current.Password) || current.Username == admin.Username {
		return engine.RolledBack{}, engine.TargetError(nil, "rollBack: the current version does not log in, and its login cannot be set from here; set it by hand, or put a version that works")
	}
	err = d.server.setPassword(ctx, p, admin, current.Username, current.Password)
	if err == nil {
		err = d.server.login(ctx, p, current.Username, current.Password)
	}
	if err == nil {
		return engine.RolledBack{}, nil
	}
	if pending.Username != "" && d.server.login(ctx, p, pending.Username, pending.Password) == nil {
		return engine.RolledBack{Forward: true}, nil
	}
	return engine.RolledBack{}, d.trouble("rollBack", err, "of adminSecret")
}

// trouble puts a driver's error into our words. What a server says may quote
// the statement, so only its code is shown; the log has no more of it either.
func (d *database) trouble(step string, err error, whose string) error {
	var said serverError
	switch {
	case errors.Is(err, errLogin):
		return engine.TargetError(nil, "%s: the server refused the login %s", step, whose)
	case errors.As(err, &said):
		return engine.TargetError(nil, "%s: the server answered the error %s%s", step, said.code, said.hint())
	}
	return engine.TargetError(err, "%s: the server could not be reached: %s", step, reason(err))
}

// serverError is an error that a server sent, without its text.
type serverError struct{ code string }

func (e serverError) Error() string { return "the server answered the error " + e.code }

func (e serverError) hint() string {
	if why := hints[e.code]; why != "" {
		return ": " + why
	}
	return ""
}

// hints are for the codes that people meet.
var hints = map[string]string{
	"42501":  "the login of adminSecret may not set this password",
	"42704":  "there is no such user",
	"3D000":  "there is no such database",
	"53300":  "too many connections",
	"25006":  "it is read-only; adminSecret must name the primary",
	"1045":   "the login was refused",
	"1049":   "there is no such database",
	"1142":   "the login of adminSecret may not read mysql.user",
	"1227":   "the login of adminSecret may not set passwords",
	"1290":   "it is read-only; adminSecret must name the primary",
	"1396":   "there is no such user",
	"1819":   "its policy refuses the password; change generate",
	"nouser": "there is no such user",
}
