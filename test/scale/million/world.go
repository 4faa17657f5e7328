package main

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/strongroom/strongroom/api/wire"
	"github.com/strongroom/strongroom/audit"
	"github.com/strongroom/strongroom/engine"
	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/internal/fault"
	"github.com/strongroom/strongroom/internal/wrapped"
	"github.com/strongroom/strongroom/kms"
	"github.com/strongroom/strongroom/test/softtoken"
)

// alone is engine.Log without a cluster: what consensus and network cost is
// measured by make bench.
type alone struct{ machine *fsm.Machine }

func (l *alone) Propose(_ context.Context, command []byte) (fsm.Result, error) {
	return l.machine.Apply(l.machine.State().Index()+1, command)
}
func (l *alone) ReadState(context.Context) (*fsm.State, error) { return l.machine.State(), nil }
func (l *alone) Local() *fsm.State                             { return l.machine.State() }
func (l *alone) Moved() <-chan struct{}                        { return nil }

// world is an engine over one machine, its trail included.
type world struct {
	log    *alone
	engine *engine.Engine
	trail  *audit.Trail
	admin  string
}

func newWorld(ctx context.Context, dir string) (*world, error) {
	w := &world{log: &alone{fsm.New()}}
	token, clusterID := softtoken.New(), uuid.NewString()
	root := fsm.Root{
		Version: 1, CheckValue: []byte("k"), MACCheck: []byte("m"),
		Canary:   wrapped.Key{ID: "canary", Version: 1, Spec: wrapped.AES256, Usage: wrapped.Encrypt, Wrap: wrapped.RFC3394, Root: 1, Blob: []byte("b"), MAC: []byte("m")},
		CanaryIV: []byte("i"), CanaryBox: []byte("b"),
	}
	command, admin, err := engine.Genesis(ctx, engine.GenesisInput{
		ClusterID: clusterID, Now: time.Now(), Token: token, Root: root, AdminName: "admin", AdminTTL: 24 * time.Hour,
	})
	if err != nil {
		return nil, err
	}
	w.admin = string(admin.Expose())
	result, err := w.log.Propose(ctx, command)
	if err != nil {
		return nil, err
	}
	if result.Refused != nil {
		return nil, fmt.Errorf("genesis: %s", result.Refused.Message)
	}
	logger := slog.New(slog.DiscardHandler)
	if w.trail, err = audit.Open(audit.Config{Dir: filepath.Join(dir, "audit"), Node: "n1", Durability: audit.Written, Logger: logger}); err != nil {
		return nil, err
	}
	service, err := kms.New(token, clusterID)
	if err != nil {
		return nil, err
	}
	w.engine, err = engine.New(engine.Config{Node: "n1", ClusterID: clusterID, Log: w.log, KMS: service, Trail: w.trail, Logger: logger})
	return w, err
}

func (w *world) close() { _ = w.trail.Close() }

// ask sends one request through the gate and answers the encoded response.
func (w *world) ask(ctx context.Context, token, operation, body string) ([]byte, error) {
	service, name, _ := strings.Cut(operation, "/")
	from := engine.Caller{RequestID: uuid.NewString(), Token: token, Source: netip.MustParseAddr("192.0.2.7")}
	answer, err := w.engine.Do(ctx, engine.Find(service, name), from, []byte(body))
	defer answer.Wipe()
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", operation, body, err)
	}
	var out bytes.Buffer
	err = wire.Encode(&out, answer.Response)
	return out.Bytes(), err
}

// principal makes a service that may what the statements say, and answers its
// token; one that may nothing here if the name is taken.
func (w *world) principal(ctx context.Context, name, statements string) (string, error) {
	for _, r := range [][2]string{
		{"iam/createPrincipal", fmt.Sprintf(`{"name":%q,"kind":"service"}`, name)},
		{"iam/putPolicy", fmt.Sprintf(`{"name":%q,"statements":%s}`, name, statements)},
		{"iam/attachPolicy", fmt.Sprintf(`{"policy":%q,"principal":%q}`, name, name)},
	} {
		if _, err := w.ask(ctx, w.admin, r[0], r[1]); err != nil && !fault.Is(err, fault.AlreadyExists) {
			return "", err
		}
	}
	raw, err := w.ask(ctx, w.admin, "iam/createToken", fmt.Sprintf(`{"principal":%q}`, name))
	if err != nil {
		return "", err
	}
	var made wire.CreateTokenResponse
	if err := wire.Decode(raw, &made); err != nil {
		return "", err
	}
	return string(made.Token.Expose()), nil
}
