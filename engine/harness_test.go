package engine_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/api/wire"
	"github.com/strongroom/strongroom/audit"
	"github.com/strongroom/strongroom/engine"
	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/internal/fault"
	"github.com/strongroom/strongroom/kms"
	"github.com/strongroom/strongroom/test/softtoken"
)

// memoryLog is engine.Log on one machine in this process: the log of a
// cluster of one. The real one is tested in test/cluster and test/e2e.
type memoryLog struct {
	mu      sync.Mutex
	machine *fsm.Machine
	index   uint64
	lost    bool // leadership
}

func (l *memoryLog) Propose(_ context.Context, command []byte) (fsm.Result, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.lost {
		return fsm.Result{}, fault.New(fault.NoLeader, "lost")
	}
	l.index++
	return l.machine.Apply(l.index, command)
}

func (l *memoryLog) ReadState(context.Context) (*fsm.State, error) {
	if l.lost {
		return nil, fault.New(fault.NoLeader, "lost")
	}
	return l.machine.State(), nil
}

// world is an engine with everything below it, an administrator, and a clock
// that tests move.
type world struct {
	t      *testing.T
	log    *memoryLog
	token  *softtoken.Token
	trail  *audit.Trail
	dir    string
	engine *engine.Engine
	admin  string
	now    time.Time
	source netip.Addr
}

func newWorld(t *testing.T) *world {
	ctx := context.Background()
	w := &world{
		t: t, token: softtoken.New(), log: &memoryLog{machine: fsm.New()}, dir: t.TempDir(),
		now: time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC), source: netip.MustParseAddr("192.0.2.7"),
	}
	clusterID := uuid.NewString()
	command, admin, err := engine.Genesis(ctx, engine.GenesisInput{
		ClusterID: clusterID, Now: w.now, Token: w.token, Root: fsm.Root{Version: 1}, AdminName: "admin", AdminTTL: 24 * time.Hour,
	})
	require.NoError(t, err)
	w.admin = string(admin.Expose())
	result, err := w.log.Propose(ctx, command)
	require.NoError(t, err)
	require.Nil(t, result.Refused)

	w.trail, err = audit.Open(audit.Config{Dir: w.dir, Node: "n1", Durability: audit.Written, Logger: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	t.Cleanup(func() { _ = w.trail.Close() })
	service, err := kms.New(w.token, clusterID)
	require.NoError(t, err)
	w.engine, err = engine.New(engine.Config{
		Node: "n1", ClusterID: clusterID, Log: w.log, KMS: service, Trail: w.trail,
		Logger: slog.New(slog.DiscardHandler), Now: func() time.Time { return w.now },
	})
	require.NoError(t, err)
	return w
}

// as sends one request and answers the encoded response.
func (w *world) as(token, operation, body string) (string, error) {
	service, name, _ := bytes.Cut([]byte(operation), []byte("/"))
	o := engine.Find(string(service), string(name))
	require.NotNil(w.t, o, operation)
	answer, err := w.engine.Do(context.Background(), o, engine.Caller{RequestID: uuid.NewString(), Token: token, Source: w.source}, []byte(body))
	defer answer.Wipe()
	if err != nil {
		return "", err
	}
	var out bytes.Buffer
	require.NoError(w.t, wire.Encode(&out, answer.Response))
	return out.String(), nil
}

// ok is as for the administrator, and must succeed.
func (w *world) ok(operation, format string, args ...any) string {
	w.t.Helper()
	out, err := w.as(w.admin, operation, fmt.Sprintf(format, args...))
	require.NoError(w.t, err, operation)
	return out
}

// into decodes what ok answers.
func into[T any](t *testing.T, answer string) T {
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
