package engine

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/strongroom/strongroom/api/wire"
	"github.com/strongroom/strongroom/audit"
	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/internal/fault"
	"github.com/strongroom/strongroom/internal/names"
)

// Reading is what the leader's word lets a node that follows serve one request
// from; see raft.Reading.
type Reading struct {
	State  *fsm.State
	Answer []byte
	Sent   time.Time
}

const (
	// followedWithin is how long a node that follows may take from its question
	// to the end of the request. It is measured by the monotonic clock.
	followedWithin = 10 * time.Second
	// endsEvery is how soon the leader hears of what has ended, when no question
	// takes it along.
	endsEvery = 20 * time.Millisecond
	maxEnds   = 200 // that one question takes along
)

// followResults are what may become of a request on a node that follows.
var followResults = []string{
	"served", "leader", "audit", "approval", "commit", "again", "rateLimit", "unauthenticated", "consent", "hsm", "slow",
}

// toFollow is what a request on a node that follows asks the leader.
type toFollow struct {
	Reads       []toRead            `json:"reads,omitempty"`
	Ended       []ended             `json:"ended,omitempty"`
	Credentials []fsm.CredentialUse `json:"credentials,omitempty"`
	Keys        []fsm.KeyUse        `json:"keys,omitempty"`
}

// toRead is one version that is to be handed out, as far as this node can tell
// before it has heard the leader.
type toRead struct {
	Path      string `json:"path"`
	SecretID  string `json:"secretId"`
	Version   uint64 `json:"version"`
	Principal string `json:"principal"`
	Instance  string `json:"instance,omitempty"`
	// Uses is what the consumer says it uses, 0: nothing, and Session and Stamp
	// are from before it said so.
	Uses    uint64 `json:"uses,omitempty"`
	Session uint64 `json:"session,omitempty"`
	Stamp   int64  `json:"stamp,omitempty"`
}

// ended is the end of what the leader lent.
type ended struct {
	Session uint64 `json:"session"`
	ID      uint64 `json:"id"`
	Done    bool   `json:"done,omitempty"`
}

// followed is the leader's answer.
type followed struct {
	// Now is the leader's clock in microseconds since the Unix epoch, and Off by
	// how many nanoseconds it is off: times are decided by the leader's clock on
	// every node.
	Now int64 `json:"now"`
	Off int64 `json:"off,omitempty"`
	// Session is the open one, and Heard and Said stamps of it from when the
	// question came and when it was answered.
	Session uint64 `json:"session"`
	Heard   int64  `json:"heard"`
	Said    int64  `json:"said"`
	Grants  []lend `json:"grants,omitempty"` // one for each read
}

// lend is the leader's consent to one hand-out, or none if ID is 0. Horizon is
// for how many milliseconds the consumer may keep the value.
type lend struct {
	ID      uint64 `json:"id,omitempty"`
	Until   int64  `json:"until,omitempty"`
	Horizon int64  `json:"horizon,omitempty"`
}

// following is what a request on a node that follows has of the leader.
type following struct {
	followed
	sent   time.Time
	grants []granted
	// reason is why the leader must serve the request after all.
	reason string
}

type granted struct {
	toRead
	lend
	taken bool
}

// follower is this node's side.
type follower struct {
	mu    sync.Mutex
	ended []ended
	// The place of the latest answer in the order of the leader's ledger.
	session uint64
	stamp   int64
	kick    chan struct{}
}

// Follows reports whether this node, which follows, may try to serve the
// request by itself.
func (e *Engine) Follows(o *Operation, from Caller) bool {
	if e.Cluster.AskLeader == nil || !o.Follows || from.Signed != nil {
		return false
	}
	return e.Cluster.Fit == nil || e.Cluster.Fit()
}

// Heard is a place in the order of a leader's ledger. What a consumer says in
// a request, it said before the request came to any node: what it was given
// after that, by whatever node, it may have all the same.
type Heard struct {
	Session uint64
	Stamp   int64
}

// Heard answers the place for a request that has just come to this node, nil
// if this node will not try to serve it as one that follows.
func (e *Engine) Heard(o *Operation, from Caller) *Heard {
	if !e.Follows(o, from) {
		return nil
	}
	m := e.follower.mark()
	return &Heard{m.session, m.stamp}
}

// since moves the place at which a request began back to where it came to the
// first node.
func (h *Heard) since(began mark) mark {
	if h != nil {
		began.session, began.stamp = h.Session, min(began.stamp, h.Stamp)
	}
	return began
}

// Follow serves one request on a node that follows, in the order of Do, where
// the consistent look at the state is one that the leader's word made so.
// fault.NoLeader: nothing was given to the caller; the leader must serve it.
func (e *Engine) Follow(ctx context.Context, o *Operation, from Caller, body []byte) (Answer, error) {
	started := e.Now()
	if err := wire.Check(body); err != nil {
		e.metrics.observe(o, err, e.Now().Sub(started))
		return Answer{}, err
	}
	f := &following{reason: "leader"}
	answer, err := e.serveFollowing(ctx, o, from, body, started, f)
	if fault.Is(err, fault.NoLeader) {
		e.metrics.followed.WithLabelValues(f.reason).Inc()
		return answer, err // it has not ended
	}
	e.metrics.followed.WithLabelValues("served").Inc()
	e.follower.wake() // a credential was used
	e.metrics.observe(o, err, e.Now().Sub(started))
	return answer, err
}

func (e *Engine) serveFollowing(ctx context.Context, o *Operation, from Caller, body []byte, started time.Time, f *following) (Answer, error) {
	if err := e.Trail.Ready(); err != nil {
		f.reason = "audit"
		return Answer{}, fault.Wrap(fault.NoLeader, err, "this node's audit trail takes no events; the leader's may")
	}
	began := from.Heard.since(e.follower.mark())
	ask := toFollow{Reads: e.guess(ctx, o, from, body, began)}
	state, err := e.askLeader(ctx, f, ask)
	if err != nil {
		return Answer{}, err
	}
	defer func() { e.follower.giveBack(f) }()
	c := &call{engine: e, op: o, from: from, state: state, index: state.Index(), now: time.UnixMicro(f.Now), started: started, follow: f, began: began, mark: began}
	c.mark.session = f.Session
	return e.serve(ctx, c, body)
}

// askLeader asks, and takes along what has ended.
func (e *Engine) askLeader(ctx context.Context, f *following, ask toFollow) (*fsm.State, error) {
	ask.Ended = append(ask.Ended, e.follower.takeEnded()...)
	var item []byte
	if len(ask.Reads)+len(ask.Ended)+len(ask.Credentials)+len(ask.Keys) > 0 {
		var err error
		if item, err = json.Marshal(ask); err != nil {
			return nil, err
		}
	}
	got, err := e.Cluster.AskLeader(ctx, item)
	if err == nil {
		err = json.Unmarshal(got.Answer, &f.followed)
	}
	if err == nil && len(f.Grants) != len(ask.Reads) {
		err = errors.New("the leader answered to other reads than were asked for")
	}
	if err != nil {
		// What ended may have been heard: telling it again does no harm.
		e.follower.tell(ask.Ended...)
		return nil, fault.Wrap(fault.NoLeader, err, "the leader has not said how far this node must be")
	}
	f.sent = got.Sent
	for i, read := range ask.Reads {
		f.grants = append(f.grants, granted{toRead: read, lend: f.Grants[i]})
	}
	e.follower.heard(f.followed)
	return got.State, nil
}

// guess finds out what a read of values will hand out, from what this node has
// applied, however old: it is what the leader is asked about, and decides
// nothing. A guess that turns out wrong is served by the leader.
func (e *Engine) guess(ctx context.Context, o *Operation, from Caller, body []byte, began mark) []toRead {
	reads := wantedReads(o, body)
	if len(reads) == 0 {
		return nil
	}
	c := &call{engine: e, op: o, from: from, state: e.Log.Local(), now: e.Now()}
	who, err := c.identify(ctx, body)
	if err != nil {
		return nil
	}
	out := make([]toRead, 0, len(reads))
	for _, r := range reads {
		s, v, err := c.readable(names.Path(r.item.Path), r.item.Version, r.item.Label)
		if err != nil {
			continue
		}
		one := toRead{Path: r.item.Path, SecretID: s.ID, Version: v.Number, Principal: who.name, Instance: r.instance}
		if uses := r.item.IfNotVersion; uses != nil && began.session != 0 {
			one.Uses, one.Session, one.Stamp = *uses, began.session, began.stamp
		}
		out = append(out, one)
	}
	return out
}

type wantedRead struct {
	item     wire.BatchItem
	instance string
}

// wantedReads answers what a request asks to be handed.
func wantedReads(o *Operation, body []byte) []wantedRead {
	var out []wantedRead
	switch o.Path() {
	case "secrets/getSecretValue":
		var r wire.GetSecretValueRequest
		if wire.Decode(body, &r) == nil {
			out = append(out, wantedRead{wire.BatchItem{Path: r.Path, Version: r.Version, Label: r.Label, IfNotVersion: r.IfNotVersion}, r.Instance})
		}
	case batchRead:
		var r wire.BatchGetSecretValueRequest
		if wire.Decode(body, &r) == nil && len(r.Items) <= maxBatch {
			for _, item := range r.Items {
				out = append(out, wantedRead{item, r.Instance})
			}
		}
	}
	return out
}

// toLeader ends a request on a node that follows. Nothing of it was given to
// anybody, and the leader serves it.
func (c *call) toLeader(reason string, cause error) error {
	c.follow.reason = reason
	return fault.Wrap(fault.NoLeader, cause, "the leader serves this request")
}

// stillFollowing hands on to the leader what this node's HSM could not do, and
// what took so long that the leader does not wait for its end any more.
func (c *call) stillFollowing(err error) error {
	switch {
	case fault.Is(err, fault.HsmUnavailable):
		return c.toLeader("hsm", err)
	case err == nil && c.engine.Now().Sub(c.follow.sent) > followedWithin:
		return c.toLeader("slow", nil)
	}
	return err
}

// handOutLent is handOut on a node that follows: with the leader's consent to
// exactly this, and no longer than that was for.
func (c *call) handOutLent(path names.Path, to reader, pick func() (*fsm.Secret, *fsm.Version, error)) (*fsm.Secret, *fsm.Version, error) {
	s, v, err := pick()
	if err != nil {
		return nil, nil, err
	}
	var uses uint64
	if to.uses != nil && c.began.session != 0 {
		uses = *to.uses
	}
	_, horizon := c.state.Horizon(path)
	want := toRead{Path: string(path), SecretID: s.ID, Version: v.Number, Principal: c.who.name, Instance: to.instance, Uses: uses}
	for i := range c.follow.grants {
		g := &c.follow.grants[i]
		asked := g.toRead
		asked.Session, asked.Stamp = 0, 0
		if g.taken || g.ID == 0 || asked != want || horizon > g.Horizon {
			continue
		}
		g.taken = true
		note := &audit.Consumer{Instance: to.instance, Session: c.follow.Session, HoldUntil: g.Until, Stamp: c.follow.Heard}
		if c.says(to) {
			note.Uses, note.UsesStamp = *to.uses, c.began.stamp
		}
		c.event.Consumer = note
		c.deliveries = append(c.deliveries, &delivery{note: note, lent: &lent{id: g.ID}})
		return s, v, nil
	}
	return nil, nil, c.toLeader("consent", nil)
}

// settleLent ends what was on its way by the leader's consent.
func (c *call) settleLent(d *delivery, failed bool) {
	c.engine.follower.tell(ended{Session: c.follow.Session, ID: d.lent.id, Done: !failed})
}

// giveBack ends what the leader consented to and nothing came of.
func (f *follower) giveBack(of *following) {
	var back []ended
	for _, g := range of.grants {
		if g.ID != 0 && !g.taken {
			back = append(back, ended{Session: of.Session, ID: g.ID})
		}
	}
	f.tell(back...)
}

// tell queues what has ended for the leader.
func (f *follower) tell(all ...ended) {
	if len(all) == 0 {
		return
	}
	f.mu.Lock()
	f.ended = append(f.ended, all...)
	f.mu.Unlock()
	f.wake()
}

func (f *follower) wake() {
	select {
	case f.kick <- struct{}{}:
	default:
	}
}

func (f *follower) takeEnded() []ended {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := min(len(f.ended), maxEnds)
	out := slices.Clone(f.ended[:n])
	f.ended = append(f.ended[:0], f.ended[n:]...)
	return out
}

// heard keeps the place in the order of the leader's ledger.
func (f *follower) heard(a followed) {
	f.mu.Lock()
	defer f.mu.Unlock()
	// What ended in a session that is over is over with it.
	f.ended = slices.DeleteFunc(f.ended, func(e ended) bool { return e.Session < a.Session })
	if a.Session > f.session || a.Session == f.session && a.Said > f.stamp {
		f.session, f.stamp = a.Session, a.Said
	}
}

// mark answers a place in the order of the leader's ledger that is no later
// than now: the latest that this node has heard of. No clock is asked, as those
// of two nodes do not run as one.
func (f *follower) mark() mark {
	f.mu.Lock()
	defer f.mu.Unlock()
	return mark{session: f.session, stamp: f.stamp}
}

// RunFollower tells the leader what has ended here, and which credentials and
// keys were used, until ctx ends. Every node runs it; one that leads has
// nothing to tell.
func (e *Engine) RunFollower(ctx context.Context) {
	pause := time.NewTimer(endsEvery)
	defer pause.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-e.follower.kick:
		}
		pause.Reset(endsEvery)
		select {
		case <-ctx.Done():
			return
		case <-pause.C:
		}
		e.tellLeader(ctx)
	}
}

// tellLeader tells once. What cannot be told is told with the next request, or
// forgotten with the session that it was of.
func (e *Engine) tellLeader(ctx context.Context) {
	credentials, keys := e.credentials.drain(maxEnds), e.uses.drain(maxEnds)
	if e.follower.idle() && len(credentials)+len(keys) == 0 {
		return
	}
	if _, err := e.askLeader(ctx, &following{}, toFollow{Credentials: credentials, Keys: keys}); err != nil {
		e.credentials.putBack(credentials)
		e.uses.putBack(keys)
	}
}

func (f *follower) idle() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.ended) == 0
}
