package engine_test

import (
	"bytes"
	"context"
	"encoding/base64"
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
	"github.com/strongroom/strongroom/internal/trust"
	"github.com/strongroom/strongroom/kms"
	"github.com/strongroom/strongroom/test/softtoken"
)

// memoryLog is engine.Log on one machine in this process: the log of a
// cluster of one. The real one is tested in test/cluster and test/e2e.
type memoryLog struct {
	mu       sync.Mutex
	moved    chan struct{} // closed when something is applied, nil: nobody asked
	machine  *fsm.Machine
	index    uint64
	lost     bool       // leadership
	tooLarge bool       // every command
	late     [][]byte   // commands that are in the log, and applied before the next one
	delay    bool       // the next command is answered Uncertain, and is late
	stale    *fsm.State // answered by the next look, instead of the latest
	proposed int        // calls of Propose, whatever came of them
	// These, where set, run before a look at the state, and before and after a
	// command is applied: what happens between two steps of a request.
	onRead    func()
	proposing func() // before a command is applied
	committed func() error
}

func (l *memoryLog) Propose(_ context.Context, command []byte) (fsm.Result, error) {
	if l.proposing != nil {
		l.proposing()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.proposed++
	if l.lost {
		return fsm.Result{}, fault.New(fault.NoLeader, "lost")
	}
	if l.tooLarge {
		return fsm.Result{}, fault.New(fault.TooLarge, "the command is too large")
	}
	if l.delay {
		l.delay, l.late = false, append(l.late, command)
		return fsm.Result{}, fault.New(fault.Uncertain, "who knows")
	}
	for _, one := range l.late {
		l.index++
		if _, err := l.machine.Apply(l.index, one); err != nil {
			return fsm.Result{}, err
		}
	}
	l.late = nil
	l.index++
	result, err := l.machine.Apply(l.index, command)
	l.broadcast()
	if err == nil && l.committed != nil {
		err = l.committed()
	}
	return result, err
}

func (l *memoryLog) Local() *fsm.State { return l.machine.State() }

// Moved implements engine.Log.
func (l *memoryLog) Moved() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.moved == nil {
		l.moved = make(chan struct{})
	}
	return l.moved
}

// broadcast says that something was applied; l is locked.
func (l *memoryLog) broadcast() {
	if l.moved != nil {
		close(l.moved)
		l.moved = nil
	}
}

func (l *memoryLog) ReadState(context.Context) (*fsm.State, error) {
	if l.onRead != nil {
		l.onRead()
	}
	if l.lost {
		return nil, fault.New(fault.NoLeader, "lost")
	}
	if stale := l.stale; stale != nil {
		l.stale = nil
		return stale, nil
	}
	return l.machine.State(), nil
}

// world is an engine with everything below it, an administrator, and a clock
// that tests move, also while a leader's jobs read it.
type world struct {
	t      testing.TB
	log    *memoryLog
	token  *softtoken.Token
	trail  *audit.Trail
	dir    string
	engine *engine.Engine
	admin  string
	at     atomic.Pointer[time.Time]
	source netip.Addr
	// certificates are those of the connection of the next requests.
	certificates [][]byte
	// steppedDown holds the reasons for which the engine gave up leadership.
	steppedDown []string
}

func (w *world) now() time.Time { return *w.at.Load() }

func (w *world) setNow(at time.Time) { w.at.Store(&at) }

func newWorld(t testing.TB) *world {
	ctx := context.Background()
	w := &world{
		t: t, token: softtoken.New(), log: &memoryLog{machine: fsm.New()}, dir: t.TempDir(),
		source: netip.MustParseAddr("192.0.2.7"),
	}
	w.setNow(time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC))
	clusterID := uuid.NewString()
	command, admin, err := engine.Genesis(ctx, engine.GenesisInput{
		ClusterID: clusterID, Now: w.now(), Token: w.token, Root: firstRoot(), AdminName: "admin", AdminTTL: 24 * time.Hour,
	})
	require.NoError(t, err)
	w.admin = string(admin.Expose())
	result, err := w.log.Propose(ctx, command)
	require.NoError(t, err)
	require.Nil(t, result.Refused)

	w.openTrail()
	t.Cleanup(func() { _ = w.trail.Close() })
	service, err := kms.New(w.token, clusterID)
	require.NoError(t, err)
	w.engine, err = engine.New(engine.Config{
		Node: "n1", ClusterID: clusterID, Log: w.log, KMS: service, Trail: w.trail, BootID: "boot",
		Logger: slog.New(slog.DiscardHandler), Now: w.now, Trusts: trust.New(trust.Config{}),
		Cluster: engine.Cluster{StepDown: func(reason string) { w.steppedDown = append(w.steppedDown, reason) }},
	})
	require.NoError(t, err)
	require.NoError(t, w.engine.OpenLedger(ctx))
	return w
}

// openTrail opens the trail of the world's folder, again after a Close.
func (w *world) openTrail() {
	w.t.Helper()
	var err error
	w.trail, err = audit.Open(audit.Config{Dir: w.dir, Node: "n1", Durability: audit.Written, Logger: slog.New(slog.DiscardHandler)})
	require.NoError(w.t, err)
	if w.engine != nil {
		w.engine.Trail = w.trail
	}
}

// request sends one request and answers its id and the encoded response.
func (w *world) request(token, operation, body string) (id, response string, err error) {
	service, name, _ := strings.Cut(operation, "/")
	o := engine.Find(service, name)
	require.NotNil(w.t, o, operation)
	id = uuid.NewString()
	answer, err := w.engine.Do(context.Background(), o, engine.Caller{RequestID: id, Token: token, Source: w.source, Certificates: w.certificates}, []byte(body))
	defer answer.Wipe()
	if err != nil {
		return id, "", err
	}
	var out bytes.Buffer
	if answer.Stream != nil {
		require.NoError(w.t, answer.Stream(context.Background(), &out))
		return id, out.String(), nil
	}
	require.NoError(w.t, wire.Encode(&out, answer.Response))
	return id, out.String(), nil
}

// as is request for who does not need the id.
func (w *world) as(token, operation, body string) (string, error) {
	_, response, err := w.request(token, operation, body)
	return response, err
}

// ok is as for the administrator, and must succeed.
func (w *world) ok(operation, format string, args ...any) string {
	w.t.Helper()
	out, err := w.as(w.admin, operation, fmt.Sprintf(format, args...))
	require.NoError(w.t, err, operation)
	return out
}

// into decodes what ok answers.
func into[T any](t testing.TB, answer string) T {
	t.Helper()
	var out T
	require.NoError(t, wire.Decode([]byte(answer), &out))
	return out
}

// principal makes a service with one policy and answers its token.
func (w *world) principal(name, statements string) string {
	w.t.Helper()
	w.ok("iam/createPrincipal", `{"name":%q,"kind":"service"}`, name)
	w.ok("iam/putPolicy", `{"name":%q,"statements":%s}`, name, statements)
	w.ok("iam/attachPolicy", `{"policy":%q,"principal":%q}`, name, name)
	return w.tokenOf(name)
}

func (w *world) tokenOf(name string) string {
	w.t.Helper()
	made := into[wire.CreateTokenResponse](w.t, w.ok("iam/createToken", `{"principal":%q}`, name))
	return string(made.Token.Expose())
}

func (w *world) put(path, value string) wire.PutSecretValueResponse {
	w.t.Helper()
	return into[wire.PutSecretValueResponse](w.t, w.ok("secrets/putSecretValue", `{"path":%q,"value":%q}`, path, b64(value)))
}

func (w *world) value(path string) string {
	w.t.Helper()
	return string(into[wire.GetSecretValueResponse](w.t, w.ok("secrets/getSecretValue", `{"path":%q}`, path)).Value.Expose())
}

func (w *world) refused(kind fault.Kind, says string, err error) {
	w.t.Helper()
	require.Error(w.t, err)
	require.Equal(w.t, kind, fault.KindOf(err), "%v", err)
	require.ErrorContains(w.t, err, says)
}

func (w *world) events(filter audit.Filter) []audit.Event {
	w.t.Helper()
	filter.Limit = 1000
	events, _, err := w.trail.Query(context.Background(), filter)
	require.NoError(w.t, err)
	return events
}

func b64(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }
