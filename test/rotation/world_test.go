// Package rotation_test rotates passwords of real servers: PostgreSQL and
// MariaDB of the distribution, started by the tests, over TLS.
package rotation_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/api/wire"
	"github.com/strongroom/strongroom/audit"
	"github.com/strongroom/strongroom/engine"
	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/internal/fault"
	"github.com/strongroom/strongroom/internal/rotate"
	"github.com/strongroom/strongroom/internal/wrapped"
	"github.com/strongroom/strongroom/kms"
	"github.com/strongroom/strongroom/test/softtoken"
)

// oneLog is the log of a cluster of one. cut, if set, is asked before and
// after each command whether leadership is lost there.
type oneLog struct {
	mu      sync.Mutex
	machine *fsm.Machine
	index   uint64
	lost    atomic.Bool
	cut     func(after bool) bool
}

func (l *oneLog) Propose(_ context.Context, command []byte) (fsm.Result, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.lost.Load() || l.cut != nil && l.cut(false) {
		l.lost.Store(true)
		return fsm.Result{}, fault.New(fault.NoLeader, "lost")
	}
	l.index++
	result, err := l.machine.Apply(l.index, command)
	if err == nil && l.cut != nil && l.cut(true) {
		l.lost.Store(true)
		return fsm.Result{}, fault.New(fault.Uncertain, "lost")
	}
	return result, err
}

func (l *oneLog) ReadState(context.Context) (*fsm.State, error) {
	if l.lost.Load() {
		return nil, fault.New(fault.NoLeader, "lost")
	}
	return l.machine.State(), nil
}

func (l *oneLog) Local() *fsm.State      { return l.machine.State() }
func (l *oneLog) Moved() <-chan struct{} { return nil }

// failing is a real rotator whose steps a test lets fail.
type failing struct {
	engine.Rotator
	set  func() error // after it was done
	test func() error // in its place
}

func (f *failing) Set(ctx context.Context, t engine.RotationTask) error {
	if err := f.Rotator.Set(ctx, t); err != nil || f.set == nil {
		return err
	}
	return f.set()
}

func (f *failing) Test(ctx context.Context, t engine.RotationTask) error {
	if f.test != nil {
		if err := f.test(); err != nil {
			return err
		}
	}
	return f.Rotator.Test(ctx, t)
}

// world is an engine that rotates passwords of one server.
type world struct {
	t       *testing.T
	log     *oneLog
	engine  *engine.Engine
	trail   *audit.Trail
	admin   string
	skew    atomic.Int64 // of the clock, which tests move
	rotator *failing
	db      *server
	cluster string
	token   *softtoken.Token
}

const (
	adminPath = "/infra/admin"
	dbPath    = "/app/prod/db"
)

func newWorld(t *testing.T, db *server) *world {
	w := newWorldWith(t, db, rotate.Config{DatabaseAllow: []string{fmt.Sprintf("127.0.0.1:%d", db.port)}})
	w.put(adminPath, db.adminJSON(adminPassword))
	return w
}

func newWorldWith(t *testing.T, db *server, cfg rotate.Config) *world {
	w := &world{t: t, db: db, log: &oneLog{machine: fsm.New()}, token: softtoken.New(), cluster: uuid.NewString()}
	ctx := context.Background()
	command, admin, err := engine.Genesis(ctx, engine.GenesisInput{
		ClusterID: w.cluster, Now: w.now(), Token: w.token, AdminName: "admin", AdminTTL: 24 * time.Hour,
		Root: fsm.Root{
			Version: 1, CheckValue: []byte("kcv"), MACCheck: []byte("check"), CanaryIV: []byte("iv"), CanaryBox: []byte("box"),
			Canary: wrapped.Key{ID: "canary", Version: 1, Spec: "aes-256", Usage: "encrypt", Wrap: "rfc3394", Root: 1, Blob: []byte("blob"), MAC: []byte("mac")},
			Copies: []fsm.RootCopy{{NodeID: "n1", Fingerprint: make([]byte, 32), Wrap: "rsa-oaep-sha1", RootKey: []byte("r"), MACKey: []byte("m")}},
		},
	})
	require.NoError(t, err)
	w.admin = string(admin.Expose())
	result, err := w.log.Propose(ctx, command)
	require.NoError(t, err)
	require.Nil(t, result.Refused)
	w.trail, err = audit.Open(audit.Config{Dir: t.TempDir(), Node: "n1", Durability: audit.Written, Logger: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	t.Cleanup(func() { _ = w.trail.Close() })
	w.rotator = &failing{Rotator: rotate.New(cfg)[db.kind]}
	w.engine = w.another()
	return w
}

// another is an engine on the same state: the next leader, or one that
// overlaps.
func (w *world) another() *engine.Engine {
	service, err := kms.New(w.token, w.cluster)
	require.NoError(w.t, err)
	e, err := engine.New(engine.Config{
		Node: "n1", ClusterID: w.cluster, Log: w.log, KMS: service, Trail: w.trail, Now: w.now,
		Logger: slog.New(slog.DiscardHandler), Rotators: map[string]engine.Rotator{w.db.kind: w.rotator},
	})
	require.NoError(w.t, err)
	return e
}

func (w *world) now() time.Time { return time.Now().Add(time.Duration(w.skew.Load())) }

// later moves the clock on.
func (w *world) later(d time.Duration) { w.skew.Add(int64(d)) }

// lead lets an engine do a leader's work until stop, or the end of the test.
func (w *world) lead(e *engine.Engine) (stop func()) {
	ctx, cancel := context.WithCancel(w.t.Context())
	done := make(chan struct{})
	go func() { defer close(done); e.RunLeader(ctx) }()
	stop = func() { cancel(); <-done }
	w.t.Cleanup(stop)
	return stop
}

// do sends a request to the world's engine, which hands out values also while
// it does no leader's work.
func (w *world) do(operation, format string, args ...any) (string, error) {
	answer, err := w.ask(operation, format, args...)
	if fault.Is(err, fault.NoLeader) && w.engine.OpenLedger(context.Background()) == nil {
		answer, err = w.ask(operation, format, args...)
	}
	return answer, err
}

func (w *world) ask(operation, format string, args ...any) (string, error) {
	service, name, _ := strings.Cut(operation, "/")
	answer, err := w.engine.Do(context.Background(), engine.Find(service, name),
		engine.Caller{RequestID: uuid.NewString(), Token: w.admin, Source: netip.MustParseAddr("192.0.2.7")}, fmt.Appendf(nil, format, args...))
	defer answer.Wipe()
	if err != nil {
		return "", err
	}
	var out bytes.Buffer
	err = wire.Encode(&out, answer.Response)
	return out.String(), err
}

func (w *world) ok(operation, format string, args ...any) string {
	w.t.Helper()
	out, err := w.do(operation, format, args...)
	require.NoError(w.t, err, operation)
	return out
}

// put stores a value, in a secret that is made if need be.
func (w *world) put(path, value string) {
	w.t.Helper()
	value = base64.StdEncoding.EncodeToString([]byte(value))
	if _, err := w.do("secrets/createSecret", `{"path":%q,"value":%q}`, path, value); err != nil {
		w.ok("secrets/putSecretValue", `{"path":%q,"value":%q}`, path, value)
	}
}

// login is the value of the rotated secret.
type login struct {
	Engine, Host, Database, Username, Password string
	Port                                       int
}

func (w *world) current() (login, error) {
	var out login
	answer, err := w.do("secrets/getSecretValue", `{"path":%q}`, dbPath)
	if err != nil {
		return out, err
	}
	var got wire.GetSecretValueResponse
	if err := wire.Decode([]byte(answer), &got); err != nil {
		return out, err
	}
	return out, json.Unmarshal(got.Value.Expose(), &out)
}

// settings makes the secret, with the users on the server, and its rotation.
func (w *world) settings(users ...string) {
	w.t.Helper()
	for _, user := range users {
		w.db.addUser(w.t, user, "first password")
	}
	w.put(dbPath, fmt.Sprintf(`{"username":%q,"password":"first password"}`, users[0]))
	names, err := json.Marshal(users)
	require.NoError(w.t, err)
	w.ok("secrets/updateSecret", `{"path":%q,"rotation":{"kind":%q,"interval":"1d","adminSecret":%q,"usernames":%s}}`, dbPath, w.db.kind, adminPath, names)
}

func (w *world) status() wire.RotationStatus {
	var out wire.DescribeSecretResponse
	answer, err := w.do("secrets/describeSecret", `{"path":%q}`, dbPath)
	require.NoError(w.t, err)
	require.NoError(w.t, wire.Decode([]byte(answer), &out))
	return *out.Rotation
}

// becomes waits for a state of the rotation.
func (w *world) becomes(ok func(wire.RotationStatus) bool) wire.RotationStatus {
	w.t.Helper()
	var got wire.RotationStatus
	require.Eventually(w.t, func() bool { got = w.status(); return ok(got) }, 60*time.Second, 20*time.Millisecond, "%+v", &got)
	return got
}

// rotate asks for a rotation, more than a minute after the last one.
func (w *world) rotate() {
	w.t.Helper()
	w.later(2 * time.Minute)
	w.ok("secrets/rotateSecret", `{"path":%q}`, dbPath)
}

// rotated asks for a rotation and waits until it is done.
func (w *world) rotated() {
	w.t.Helper()
	before := w.status().LastRotatedAt
	w.rotate()
	w.becomes(func(s wire.RotationStatus) bool {
		return s.State == "idle" && s.LastRotatedAt != nil && (before == nil || s.LastRotatedAt.After(before.Time))
	})
}

// works checks that the value that clients get logs in.
func (w *world) works() {
	w.t.Helper()
	got, err := w.current()
	require.NoError(w.t, err)
	require.NoError(w.t, w.db.login(got.Username, got.Password))
}
