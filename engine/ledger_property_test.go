package engine_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"testing"
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
// other: between the mark and the look at the state of a read, between that
// and the opening, before the answer; before and after a command is applied.
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
	depth     int
	destroyed map[uint64]bool
	tried     map[string]int
}

// setting is a depth at which nothing is interrupted: of what is there before
// the play begins.
const setting = 9

// actorLog is the log as one process sees it.
type actorLog struct {
	*actor
	life int
}

func (l actorLog) dead() bool { return l.actor.life != l.life }

func (l actorLog) leads() bool { return !l.dead() && l.play.leader == l.n }

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
	switch l.outcome() {
	case 0: // it is in the log, and nobody knows
		l.late = append(l.late, command)
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

// outcome draws what becomes of a proposal; before the play, it is done.
func (p *play) outcome() int {
	if p.depth == setting {
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
	for v := range p.machine.State().Versions(held) {
		if v.State == fsm.VersionDestroyed && !p.destroyed[v.Number] {
			p.destroyed[v.Number] = true
			p.tried["destroyed"]++
			for _, c := range p.consumers {
				p.mustNotKeep(c, v.Number)
			}
		}
	}
	return result
}

func (p *play) mustNotKeep(c *consumer, number uint64) {
	if until, keeps := c.keeps[number]; keeps && p.destroyed[number] && p.clock.Before(until) {
		require.Failf(p, "a version was destroyed that is in use", "%s keeps version %d until %s; it is %s", c.instance, number, until, p.clock)
	}
}

// chance draws evenly; rapid's own generators prefer small numbers.
func (p *play) chance(what string, n int) int {
	return rapid.Custom(func(t *rapid.T) int {
		drawn := 0
		for range 8 {
			drawn *= 2
			if rapid.Bool().Draw(t, "bit") {
				drawn++
			}
		}
		return drawn % n
	}).Draw(p.T, what)
}

// interlude lets something else happen in the middle of something.
func (p *play) interlude() {
	if p.depth < 3 && p.chance("interlude", 5) == 0 {
		p.depth++
		p.act()
		p.depth--
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

func newPlay(t *rapid.T) *play {
	ctx := context.Background()
	p := &play{
		T: t, machine: fsm.New(), clock: time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC), destroyed: map[uint64]bool{}, tried: map[string]int{}, depth: setting,
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
	for i := range 3 {
		p.consumers = append(p.consumers, &consumer{instance: fmt.Sprint("i", i), keeps: map[uint64]time.Time{}})
	}
	p.lead()
	p.ask(p.actors[p.leader], "createSecret", `{"path":"`+held+`","value":"b25l"}`)
	require.NotNil(t, p.machine.State().Version(held, 1))
	p.depth = 0
	return p
}

func (p *play) end() {
	for _, a := range p.actors {
		_ = a.trail.Close()
		_ = os.RemoveAll(a.dir)
	}
}

// start begins a process of the node.
func (a *actor) start(service *kms.Service, id string) {
	var err error
	a.trail, err = audit.Open(audit.Config{Dir: a.dir, Node: fmt.Sprint("n", a.n), Durability: audit.Written, Logger: slog.New(slog.DiscardHandler)})
	require.NoError(a, err)
	a.engine, err = engine.New(engine.Config{
		Node: fmt.Sprint("n", a.n), ClusterID: id, Log: actorLog{a, a.life}, KMS: service, Trail: a.trail, BootID: a.boot,
		Logger: slog.New(slog.DiscardHandler), Now: a.now,
		Cluster: engine.Cluster{PeerLedger: a.askPeer},
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

// ask sends a request to a node. It waits for nobody.
func (p *play) ask(a *actor, operation, body string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Millisecond)
	defer cancel()
	if p.depth == setting {
		ctx = context.Background()
	}
	began := a.life
	answer, err := a.engine.Do(ctx, engine.Find("secrets", operation), engine.Caller{
		RequestID: uuid.NewString(), Token: p.admin, Source: netip.MustParseAddr("192.0.2.7"),
	}, []byte(body))
	defer answer.Wipe()
	if err == nil && a.life != began {
		err = fault.New(fault.NoLeader, "the process is gone")
	}
	if err != nil {
		return "", err
	}
	var out []byte
	w := (*appender)(&out)
	require.NoError(p, wire.Encode(w, answer.Response))
	return string(out), nil
}

type appender []byte

func (a *appender) Write(b []byte) (int, error) { *a = append(*a, b...); return len(b), nil }

// node is the one that leads, most of the time.
func (p *play) node() *actor {
	if p.chance("any", 6) == 0 {
		return p.actors[p.chance("node", 3)]
	}
	return p.actors[p.leader]
}

func (p *play) latest() uint64 { return p.machine.State().Secret(held).Latest }

func (p *play) number() uint64 {
	latest := p.latest()
	return latest - min(latest-1, uint64(p.chance("back", 3)))
}

// read is a consumer that asks for a version, and may say what it uses.
func (p *play) read() {
	c := p.consumers[p.chance("consumer", 3)]
	body := `{"path":"` + held + `","instance":"` + c.instance + `"`
	if p.chance("which", 2) == 0 {
		body += fmt.Sprintf(`,"version":%d`, p.number())
	}
	if c.uses != 0 && p.chance("says", 3) == 0 {
		body += fmt.Sprintf(`,"ifNotVersion":%d`, c.uses)
		p.only(c, c.uses)
	}
	asked := p.clock
	out, err := p.ask(p.node(), "getSecretValue", body+"}")
	if err != nil {
		return
	}
	got := decodeValue(p, out)
	p.tried["read"]++
	c.keeps[got.Version] = asked.Add(time.Duration(got.Cache.MaxAge))
	p.mustNotKeep(c, got.Version)
	if !got.NotModified && p.chance("takes", 2) == 0 {
		c.uses = got.Version
	}
}

func decodeValue(t require.TestingT, text string) (out wire.GetSecretValueResponse) {
	require.NoError(t, wire.Decode([]byte(text), &out))
	return out
}

// confirm is a consumer that has moved to what it uses, and says so.
func (p *play) confirm() {
	c := p.consumers[p.chance("consumer", 3)]
	if c.uses == 0 {
		return
	}
	p.only(c, c.uses)
	body := fmt.Sprintf(`{"path":%q,"version":%d,"instance":%q}`, held, c.uses, c.instance)
	if _, err := p.ask(p.node(), "confirmVersion", body); err == nil {
		p.tried["confirmed"]++
	}
}

// only is that a consumer lets go of all other versions.
func (p *play) only(c *consumer, version uint64) {
	for number := range c.keeps {
		if number != version {
			delete(c.keeps, number)
		}
	}
}

// old is a version that may be destroyed, if there is one.
func (p *play) old() uint64 {
	latest := p.latest()
	return max(1, latest-min(latest, uint64(1+p.chance("old", 3))))
}

func (p *play) act() {
	acts := []struct {
		weight int
		do     func()
	}{
		{8, p.read},
		{5, p.confirm},
		{4, func() {
			_, _ = p.ask(p.node(), "putSecretValue", fmt.Sprintf(`{"path":%q,"value":%q}`, held, b64(uuid.NewString())))
		}},
		{7, func() {
			p.tried["asked"]++
			_, _ = p.ask(p.node(), "destroyVersion", fmt.Sprintf(`{"path":%q,"version":%d}`, held, p.old()))
		}},
		{1, func() {
			_, _ = p.ask(p.node(), "destroyVersion", fmt.Sprintf(`{"path":%q,"version":%d,"delay":"%dm"}`, held, p.old(), 1+p.chance("delay", 7)))
		}},
		{1, func() { p.node().engine.Reap(context.Background()) }},
		{2, func() { p.node().engine.FlushLedger(context.Background()) }},
		{3, func() { p.node().engine.SettleSessions(context.Background()) }},
		{1, func() { p.elect(); p.lead() }},
		{1, p.lead},
		{1, func() { p.actors[p.chance("node", 3)].die(); p.lead() }},
		{1, func() { a := p.actors[p.chance("node", 3)]; a.unlinked = !a.unlinked }},
		{3, func() {
			p.clock = p.clock.Add([]time.Duration{time.Millisecond, time.Second, 4 * time.Second, 2 * time.Minute, 6 * time.Minute}[p.chance("time", 5)])
		}},
	}
	total := 0
	for _, a := range acts {
		total += a.weight
	}
	at := p.chance("act", total)
	for _, a := range acts {
		if at -= a.weight; at < 0 {
			a.do()
			return
		}
	}
}

func TestNoScheduleDestroysWhatAConsumerKeeps(t *testing.T) {
	total := map[string]int{}
	rapid.Check(t, func(t *rapid.T) {
		p := newPlay(t)
		defer p.end()
		for range rapid.IntRange(30, 100).Draw(t, "acts") {
			p.act()
		}
		for what, n := range p.tried {
			total[what] += n
		}
	})
	for _, what := range []string{"read", "confirmed", "asked", "destroyed"} {
		require.Positive(t, total[what], "%s: %v", what, total)
	}
	t.Log(total)
}
