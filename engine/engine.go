package engine

import (
	"context"
	"crypto/x509"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"sync/atomic"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/strongroom/strongroom/api/wire"
	"github.com/strongroom/strongroom/audit"
	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/iam"
	"github.com/strongroom/strongroom/internal/checkpoint"
	"github.com/strongroom/strongroom/internal/sigv4"
	"github.com/strongroom/strongroom/kms"
)

// Log is what engine needs of the cluster. *raft.Node satisfies it.
type Log interface {
	// Propose commits an encoded command and answers what Apply answered.
	// fault.NoLeader: surely not written. fault.Uncertain: unknown.
	Propose(ctx context.Context, command []byte) (fsm.Result, error)
	// ReadState answers a state that holds every write acknowledged, on any
	// node, before the call; fault.NoLeader if this node cannot know.
	ReadState(ctx context.Context) (*fsm.State, error)
	// Local answers what this node has applied, however old: for
	// metrics and health, never for a decision about a request.
	Local() *fsm.State
	// Moved answers a channel that is closed when something was applied after
	// this call.
	Moved() <-chan struct{}
}

// Cluster is what operations tell and ask about the cluster; the command
// that wires the floors fills it in.
type Cluster struct {
	// Members answers what this node knows of every member.
	Members func() []wire.NodeStatus
	// Transfer hands leadership to a node, or to the most up to date one.
	Transfer func(ctx context.Context, to string) error
	// PeerEvents asks another member for events of its own trail.
	PeerEvents func(ctx context.Context, node string, q TrailQuery) (TrailPage, error)
	// PeerChains asks another member which chains of trails it has, and
	// PeerChain for events of one of them.
	PeerChains func(ctx context.Context, node string, q ChainsQuery) (ChainList, error)
	PeerChain  func(ctx context.Context, node string, q ChainQuery) (ChainRun, error)
	// PeerKeys asks another member whether its HSM can use keys.
	PeerKeys func(ctx context.Context, node string, keyIDs []string) ([]KeyUsable, error)
	// Roots is this node's HSM as far as root keys go.
	Roots RootKeys
	// PeerRoots asks another member about its HSM's root keys.
	PeerRoots func(ctx context.Context, node string, q RootQuery) (RootStatus, error)
	// PeerLedger asks another member for what it handed out in a session.
	PeerLedger func(ctx context.Context, node string, q LedgerQuery) (LedgerPage, error)
	// PeerClock asks another member what time it is.
	PeerClock func(ctx context.Context, node string, q ClockQuery) (ClockReading, error)
	// TLS is what this node shows and trusts on its connections, and PeerTLS asks
	// another member for the same.
	TLS     func() TLSView
	PeerTLS func(ctx context.Context, node string, q TLSQuery) (TLSView, error)
	// Membership changes who is a member.
	Membership Membership
	// AskLeader asks the leader for its word, by which this node, which follows,
	// serves a read by itself: see raft.Node. nil: it never does.
	AskLeader func(ctx context.Context, item []byte) (Reading, error)
	// CaughtUp reports whether this node has applied what it had when it
	// started; nil: only a leader knows.
	CaughtUp func() bool
	// Fit reports whether this node's HSM works; nil: it does.
	Fit func() bool
	// StepDown is called when this node should not lead, with the reason.
	StepDown func(reason string)
}

// Config wires an Engine.
type Config struct {
	Node      string
	ClusterID string
	Log       Log
	KMS       *kms.Service
	Trail     *audit.Trail
	// Retention says what is let go of the chains; the zero one keeps all.
	// StillNeeded answers the oldest of the node's own events that somebody, a
	// sink for instance, has not taken yet; nil: nobody does.
	Retention   audit.Retention
	StillNeeded func() uint64
	// CheckpointEvery and CheckpointEvents say when chains are signed; default
	// DefaultCheckpointEvery and DefaultCheckpointEvents.
	CheckpointEvery  time.Duration
	CheckpointEvents uint64
	// Witnesses are those whose cosignatures are taken in and shown.
	Witnesses []checkpoint.Witness
	// Copies are of the chains of other members; nil: this node keeps none.
	Copies  *audit.Copies
	Cluster Cluster
	// Backups says where and when this node saves its state.
	Backups Backups
	// Trusts verifies the JWTs of trusts.
	Trusts TrustVerifier
	// Rotators bring rotated values into force, by kind of rotation; generate
	// needs none.
	Rotators map[string]Rotator
	// BootID is another one each time the system of this node was started, and
	// DurableTrail says that Trail loses nothing then.
	BootID       string
	DurableTrail bool
	// AwaitedTrail says that requests are answered once others hold their
	// events.
	AwaitedTrail  bool
	MaxValueBytes int // default 64 KiB, at most 1 MiB
	// MaxClockOffset is how far this node's clock may be off before it refuses
	// what times restrict; default DefaultMaxClockOffset.
	MaxClockOffset time.Duration
	Logger         *slog.Logger
	Registerer     prometheus.Registerer
	HSMRandom      bool             // generated values come from the HSM too
	Now            func() time.Time // default time.Now
}

// Bounds of values.
const (
	DefaultMaxValue = 64 << 10
	LimitMaxValue   = 1 << 20
)

// Engine serves the operations on one node. It is safe for concurrent use.
type Engine struct {
	Config
	catalogue   *iam.Catalogue
	policies    *lru.Cache[*fsm.Policy, *iam.Policy]
	kept        *lru.Cache[string, *rights]
	access      accessCache
	credentials credentialUses
	nonces      nonces
	dateKeys    dateKeys
	// authorities are those of trusts in client certificates, by record.
	authorities *lru.Cache[*fsm.Trust, *x509.CertPool]
	locks       *pathLocks
	limiter     *authLimiter
	limits      *limits
	metrics     *metrics
	uses        keyUses
	seals       *sealBook
	health      keyHealthCache
	watch       *watch
	cursors     cursorKey
	backups     backupState
	slow        slowTurn
	ledger      *ledger
	follower    *follower
	// known are the actions of this release, byEvent its operations by the
	// names of their events, and byPath by their places.
	known   []iam.Action
	byEvent map[string]*Operation
	byPath  map[string]*Operation
	// replaying holds one place: one replay of the trails runs at a time, so
	// that reviews take one processor at most from everybody else.
	replaying chan struct{}
	clock     *clock
	chains    chains
	// auditKeyID is which key signs, once it is known.
	auditKeyID atomic.Pointer[string]
	noticer    *noticer
	copier     *copier
}

// New makes an Engine.
func New(cfg Config) (*Engine, error) {
	if cfg.MaxValueBytes == 0 {
		cfg.MaxValueBytes = DefaultMaxValue
	}
	if cfg.MaxValueBytes < 1 || cfg.MaxValueBytes > LimitMaxValue {
		return nil, fmt.Errorf("engine: maximum value of %d bytes; must be 1 to %d", cfg.MaxValueBytes, LimitMaxValue)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.CheckpointEvery == 0 {
		cfg.CheckpointEvery = DefaultCheckpointEvery
	}
	if cfg.CheckpointEvents == 0 {
		cfg.CheckpointEvents = DefaultCheckpointEvents
	}
	if cfg.MaxClockOffset == 0 {
		cfg.MaxClockOffset = DefaultMaxClockOffset
	}
	policies, err := lru.New[*fsm.Policy, *iam.Policy](keptPolicies)
	if err != nil {
		return nil, fmt.Errorf("engine: %w", err)
	}
	kept, err := lru.New[string, *rights](keptRights)
	if err != nil {
		return nil, fmt.Errorf("engine: %w", err)
	}
	authorities, err := lru.New[*fsm.Trust, *x509.CertPool](64)
	if err != nil {
		return nil, fmt.Errorf("engine: %w", err)
	}
	noticer, err := newNoticer()
	if err != nil {
		return nil, fmt.Errorf("engine: %w", err)
	}
	e := &Engine{
		Config:      cfg,
		catalogue:   iam.NewCatalogue(Actions()),
		policies:    policies,
		kept:        kept,
		authorities: authorities,
		locks:       newPathLocks(),
		limiter:     newAuthLimiter(),
		limits:      newLimits(),
		metrics:     newMetrics(cfg.Registerer),
		seals:       newSealBook(),
		watch:       newWatch(cfg.Log.Local()),
		slow:        newSlowTurn(),
		ledger:      newLedger(cfg.Now),
		follower:    &follower{kick: make(chan struct{}, 1)},
		known:       Actions(),
		byEvent:     operationsByEvent(),
		byPath:      byPath,
		replaying:   make(chan struct{}, 1),
		clock:       newClock(cfg.MaxClockOffset),
		chains:      chains{held: map[*audit.Store]*heldChain{}},
		noticer:     noticer,
		copier:      newCopier(),
	}
	e.backupMetrics(cfg.Registerer)
	if cfg.Registerer != nil {
		if err := cfg.Registerer.Register(newKeyCollector(e)); err != nil {
			return nil, fmt.Errorf("engine: metrics: %w", err)
		}
		if err := cfg.Registerer.Register(newGlassCollector(e)); err != nil {
			return nil, fmt.Errorf("engine: metrics: %w", err)
		}
		if err := cfg.Registerer.Register(newRotationCollector(e)); err != nil {
			return nil, fmt.Errorf("engine: metrics: %w", err)
		}
		if err := cfg.Registerer.Register(newStockCollector(e)); err != nil {
			return nil, fmt.Errorf("engine: metrics: %w", err)
		}
		if err := cfg.Registerer.Register(newNoticeCollector(e)); err != nil {
			return nil, fmt.Errorf("engine: metrics: %w", err)
		}
		if err := cfg.Registerer.Register(newClockCollector(e)); err != nil {
			return nil, fmt.Errorf("engine: metrics: %w", err)
		}
		if err := cfg.Registerer.Register(newCopyCollector(e)); err != nil {
			return nil, fmt.Errorf("engine: metrics: %w", err)
		}
	}
	return e, nil
}

// Caller is what the front end knows of who asks, before authentication.
type Caller struct {
	RequestID string
	Token     string // of the Authorization header, "" if there was none
	Source    netip.Addr
	// Peer is the other end of the TCP connection, and Via how Source was found
	// from it. They are shown to the caller, and decide nothing.
	Peer netip.Addr
	Via  string
	// Member is the one that handed the request on, "" if it came here. It is
	// who the other end of the node link proved to be, never what a header says.
	Member string
	// Heard is the place in the order of the leader's ledger that the node which
	// the client reached had heard of when the request came; nil: the request
	// was handed on at once, or came here.
	Heard *Heard
	// Signed is what the request brought instead of a token, nil if it is not
	// signed.
	Signed *sigv4.Request
	// Certificates are those that the client showed in the handshake of its
	// connection, in DER, its own first. It has the private key of that one;
	// nobody has looked yet who signed it.
	Certificates [][]byte
	// Patient callers are answered NotYet by an operation that waits, and ask
	// again.
	Patient bool
}

// Answer is what an operation answers. Wipe must be called once Response has
// been encoded, or thrown away.
type Answer struct {
	Response any
	// Stream writes the answer of an operation that Streams, Response being
	// empty. What it writes are lines of JSON; one that fails ends in the middle.
	Stream func(ctx context.Context, w io.Writer) error
	// Index is the applied index that the answer reflects.
	Index uint64
	wipe  []func()
}

// Wipe overwrites every plaintext of the answer.
func (a Answer) Wipe() {
	for _, f := range a.wipe {
		f()
	}
}
