package engine_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/strongroom/strongroom/api/wire"
	"github.com/strongroom/strongroom/audit"
	"github.com/strongroom/strongroom/engine"
	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/internal/fault"
	"github.com/strongroom/strongroom/internal/secret"
	"github.com/strongroom/strongroom/internal/wrapped"
	"github.com/strongroom/strongroom/kms"
	"github.com/strongroom/strongroom/test/softtoken"
)

// The play is a cluster of three whose every step may be interrupted by any
// others: between the mark and the look at the state of a read, between that
// and the opening, while it waits; before and after a command is applied.
// Leaders change without the old one knowing, processes die in the middle of
// requests, disks burn, members cannot reach each other, commands are
// committed after nobody waits for them any more, clocks differ by two
// seconds. Consumers keep what they were given for five minutes by their own
// clock from when they asked, unless they have said that they use another
// version.
//
// The one thing that must hold: no version is destroyed that a consumer keeps.

// actor is one node, in its present process.
type actor struct {
	*play
	n        int
	life     int // processes so far
	dir      string
	boot     string
	skew     time.Duration
	trail    *audit.Trail
	engine   *engine.Engine
	unlinked bool // the others do not reach it
}

// consumer is one process of an application.
type consumer struct {
	instance string
	keeps    map[uint64]time.Time // version → until when
	uses     uint64
}

type play struct {
	*rapid.T
	machine   *fsm.Machine
	index     uint64
	late      [][]byte
	leader    int
	clock     time.Time
	actors    []*actor
	consumers []*consumer
	admin     string
	destroyed map[uint64]bool
	tried     map[string]int
	values    int // made so far

	tasks   []*task
	begun   int
	running *task // nil: nothing is interrupted, before the play begins
	over    bool
	broken  string   // what was destroyed though it is in use
	drawn   []chosen // so far
	tape    []chosen // what is drawn, if it was before; nil: it is drawn anew
	story   []string
}

// tell writes a line of the story, which is shown when it ends badly.
func (p *play) tell(format string, of ...any) {
	if p.over {
		return
	}
	at := ""
	if p.running != nil {
		at = fmt.Sprintf(" task %d", p.running.number)
	}
	line := fmt.Sprintf("%s n%d leads%s: %s", p.clock.Format("15:04:05.000"), p.leader, at, fmt.Sprintf(format, of...))
	p.story = append(p.story, line)
	p.Log(line)
}

// actorLog is the log as one process sees it.
type actorLog struct {
	*actor
	life int
}

func (l actorLog) dead() bool { return l.actor.life != l.life }

func (l actorLog) leads() bool { return !l.over && !l.dead() && l.play.leader == l.n }

func (l actorLog) Local() *fsm.State { return l.machine.State() }

func (l actorLog) Moved() <-chan struct{} { return nil }

func (l actorLog) ReadState(context.Context) (*fsm.State, error) {
	l.interlude()
	if !l.leads() {
		return nil, fault.New(fault.NoLeader, "does not lead")
	}
	state := l.machine.State()
	l.interlude() // however long it takes until the request goes on
	return state, nil
}

func (l actorLog) Propose(_ context.Context, command []byte) (fsm.Result, error) {
	l.interlude()
	if !l.leads() {
		return fsm.Result{}, fault.New(fault.NoLeader, "does not lead")
	}
	switch l.fate() {
	case 0: // it is in the log, and nobody knows
		l.late = append(l.late, command)
		l.tell("a command of n%d comes late", l.n)
		return fsm.Result{}, fault.New(fault.Uncertain, "who knows")
	case 1: // it is lost with the leadership
		l.elect()
		return fsm.Result{}, fault.New(fault.Uncertain, "who knows")
	}
	result := l.apply(command)
	l.interlude()
	if l.dead() {
		return result, fault.New(fault.Uncertain, "the process died")
	}
	return result, nil
}

// fate draws what becomes of a proposal; before the play, it is done.
func (p *play) fate() int {
	if p.running == nil {
		return -1
	}
	return p.chance("outcome", 12)
}

// apply applies what is late, and command.
func (p *play) apply(command []byte) fsm.Result {
	late := p.late
	p.late = nil
	for _, one := range late {
		p.applyOne(one)
	}
	return p.applyOne(command)
}

func (p *play) applyOne(command []byte) fsm.Result {
	p.index++
	result, err := p.machine.Apply(p.index, command)
	require.NoError(p, err)
	if !p.over {
		applied, err := fsm.Decode(command)
		require.NoError(p, err)
		p.tell("%d is applied, %T; refused: %v", p.index, applied, result.Refused)
	}
	for v := range p.machine.State().Versions(held) {
		if v.State == fsm.VersionDestroyed && !p.destroyed[v.Number] {
			p.destroyed[v.Number] = true
			p.tried["destroyed"]++
			p.tell("version %d is destroyed", v.Number)
			for _, c := range p.consumers {
				p.mustNotKeep(c, v.Number)
			}
		}
	}
	return result
}

// mustNotKeep notes what must never be. The play ends with it at the next
// interruption.
func (p *play) mustNotKeep(c *consumer, number uint64) {
	if until, keeps := c.keeps[number]; keeps && p.destroyed[number] && p.clock.Before(until) && p.broken == "" {
		p.broken = fmt.Sprintf("%s keeps version %d until %s; it is %s", c.instance, number, until, p.clock)
	}
}

// actorToken is where a value is opened: a place to be interrupted at.
type actorToken struct {
	*softtoken.Token
	*play
}

func (a actorToken) Open(ctx context.Context, k wrapped.Key, iv, box, aad []byte) (secret.Bytes, error) {
	a.interlude()
	return a.Token.Open(ctx, k, iv, box, aad)
}

func newPlay(t *rapid.T, tape []chosen) *play {
	ctx := context.Background()
	p := &play{
		T: t, tape: tape, machine: fsm.New(), clock: time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC), destroyed: map[uint64]bool{}, tried: map[string]int{},
	}
	token, id := softtoken.New(), uuid.NewString()
	command, admin, err := engine.Genesis(ctx, engine.GenesisInput{
		ClusterID: id, Now: p.clock, Token: token, Root: firstRoot(), AdminName: "admin", AdminTTL: 1000 * time.Hour,
	})
	require.NoError(t, err)
	p.admin = string(admin.Expose())
	p.applyOne(command)
	service, err := kms.New(actorToken{token, p}, id)
	require.NoError(t, err)
	for n := range 3 {
		dir, err := os.MkdirTemp("", "ledger")
		require.NoError(t, err)
		a := &actor{play: p, n: n, dir: dir, boot: "boot", skew: time.Duration(p.chance("skew", 5)-2) * time.Second}
		p.actors = append(p.actors, a)
		a.start(service, id)
	}
	for i := range 2 {
		p.consumers = append(p.consumers, &consumer{instance: fmt.Sprint("i", i), keeps: map[uint64]time.Time{}})
	}
	p.lead()
	p.ask(p.actors[p.leader], "createSecret", `{"path":"`+held+`","value":"b25l"}`)
	require.NotNil(t, p.machine.State().Version(held, 1))
	return p
}

func (p *play) end() {
	p.abandon()
	for _, a := range p.actors {
		_ = a.trail.Close()
		_ = os.RemoveAll(a.dir)
	}
}

// start begins a process of the node.
func (a *actor) start(service *kms.Service, id string) {
	var err error
	a.trail, err = audit.Open(audit.Config{Dir: a.dir, Node: fmt.Sprint("n", a.n), Durability: audit.Written, SyncInterval: time.Hour, Logger: slog.New(slog.DiscardHandler)})
	require.NoError(a, err)
	a.engine, err = engine.New(engine.Config{
		Node: fmt.Sprint("n", a.n), ClusterID: id, Log: actorLog{a, a.life}, KMS: service, Trail: a.trail, BootID: a.boot,
		Logger: slog.New(slog.DiscardHandler), Now: a.now,
		Cluster: engine.Cluster{PeerLedger: a.askPeer, AskLeader: a.askLeader},
	})
	require.NoError(a, err)
}

func (a *actor) now() time.Time { return a.clock.Add(a.skew) }

func (a *actor) askPeer(ctx context.Context, node string, q engine.LedgerQuery) (engine.LedgerPage, error) {
	a.interlude()
	peer := a.actors[node[1]-'0']
	if peer.unlinked || a.unlinked {
		return engine.LedgerPage{}, fault.New(fault.NoLeader, "cannot be reached")
	}
	page, err := peer.engine.LocalLedger(ctx, q)
	a.interlude()
	return page, err
}

// askLeader is the question of a node that follows to the leader, and what may
// happen on its way. What the node has applied by then is at least what the
// leader's answer is about.
func (a *actor) askLeader(ctx context.Context, item []byte) (engine.Reading, error) {
	sent, life := a.now(), a.life
	a.interlude()
	leader := a.actors[a.leader]
	if a.over || leader == a || leader.unlinked || a.unlinked {
		return engine.Reading{}, fault.New(fault.NoLeader, "cannot be reached")
	}
	process, handler := leader.life, leader.engine.AnswerFollowers()
	state, err := leader.engine.Log.ReadState(ctx)
	if err != nil || leader.life != process {
		return engine.Reading{}, fault.New(fault.NoLeader, "does not lead")
	}
	answer := handler(state, fmt.Sprint("n", a.n), [][]byte{item})[0]
	a.interlude()
	if a.life != life {
		return engine.Reading{}, fault.New(fault.NoLeader, "the process is gone")
	}
	if a.chance("caught up", 2) == 0 {
		state = a.machine.State()
	}
	return engine.Reading{State: state, Answer: answer, Sent: sent}, nil
}

// die ends the process of a node and begins another one.
func (a *actor) die() {
	a.life++
	require.NoError(a, a.trail.Close())
	switch a.chance("how", 8) {
	case 0:
		a.boot = uuid.NewString() // the power went
	case 1: // the disk burnt
		require.NoError(a, os.RemoveAll(a.dir))
		require.NoError(a, os.Mkdir(a.dir, 0o700))
	}
	if a.leader == a.n {
		a.leader = (a.n + 1 + a.chance("next", 2)) % 3
	}
	a.start(a.engine.KMS, a.engine.ClusterID)
}

// elect makes another node lead, or the same one again. What the old one
// thinks of it is its own affair.
func (p *play) elect() { p.leader = p.chance("leader", 3) }

// lead is the first work of the leader.
func (p *play) lead() {
	_ = p.actors[p.leader].engine.OpenLedger(context.Background())
}

// ask sends a request to a node.
func (p *play) ask(a *actor, operation, body string) (string, error) {
	waits := a.engine.Waits
	if operation == "putSecretValue" {
		waits = noWaits // but for its turn, which one that is paused may have
	}
	ctx := p.patience(waits)
	defer ctx.cancel()
	began := a.life
	p.tell("n%d is asked for %s %s", a.n, operation, body)
	answer, err := p.serve(ctx, a, engine.Find("secrets", operation), body)
	defer answer.Wipe()
	if err == nil && a.life != began {
		err = fault.New(fault.NoLeader, "the process is gone")
	}
	p.tell("n%d answers %s: %v", a.n, operation, err)
	if err != nil {
		return "", err
	}
	var out []byte
	w := (*appender)(&out)
	require.NoError(p, wire.Encode(w, answer.Response))
	return string(out), nil
}

// serve is what the front end of a node does: it serves by itself what it can,
// and hands the rest to the leader. A node that takes itself for the leader,
// rightly or not, is asked as one now and then.
func (p *play) serve(ctx context.Context, a *actor, o *engine.Operation, body string) (engine.Answer, error) {
	from := engine.Caller{RequestID: uuid.NewString(), Token: p.admin, Source: netip.MustParseAddr("192.0.2.7")}
	if p.running == nil || a.n == p.leader || p.chance("takes itself for the leader", 4) == 0 {
		return a.engine.Do(ctx, o, from, []byte(body))
	}
	from.Heard = a.engine.Heard(o, from)
	if a.engine.Follows(o, from) {
		answer, err := a.engine.Follow(ctx, o, from, []byte(body))
		if !fault.Is(err, fault.NoLeader) {
			p.tried["followed"]++
			return answer, err
		}
		answer.Wipe()
	}
	from.Member = fmt.Sprint("n", a.n)
	leader := p.actors[p.leader].engine
	there := p.patience(leader.Waits) // it is the leader's waits that it may be in
	defer there.cancel()
	return leader.Do(there, o, from, []byte(body))
}
