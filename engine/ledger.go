package engine

import (
	"context"
	"hash/maphash"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/strongroom/strongroom/audit"
	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/internal/names"
)

// ledger is what this node knows of consumers and has not committed yet. Its
// promises, from which DESIGN.md argues that no destruction races a read:
//
//   - A value is handed out only in an open session, and is in the ledger
//     before it is opened.
//   - While a version is closed it is not handed out. Whoever looked at the
//     state before it was closed looks again before anything is handed out.
//   - What is in the ledger stays until its commit was acknowledged.
type ledger struct {
	now func() time.Time

	mu      sync.Mutex
	session uint64        // 0: this node hands out nothing
	fenced  uint64        // sessions up to this one were settled, or are about to be
	opened  chan struct{} // closed when a session opens; nil: nobody waits
	stamp   int64         // last one given
	pending map[lineKey]*line
	flight  map[*delivery]struct{}

	// news is signalled when something is noted that the state does not know;
	// nil: nobody listens.
	news chan struct{}

	closed map[fsm.ClosedVersion]*closing
	// closings counts closings; last is the count at the last one, by a hash
	// of the path.
	closings uint64
	highest  uint64 // session that was ever opened
	doubts   uint64 // destructions so far whose outcome nobody waited for
	last     [256]uint64
	seed     maphash.Seed
}

// line is an observation with how often it grew, so that only what a commit
// held is taken off.
type line struct {
	fsm.Observation
	grew uint64
}

type lineKey struct {
	path, secretID      string
	version             uint64
	principal, instance string
	session             uint64
}

func keyOf(o fsm.Observation) lineKey {
	return lineKey{o.Path, o.SecretID, o.Version, o.Principal, o.Instance, o.Session}
}

func (k lineKey) compare(l lineKey) int { return strings.Compare(k.text(), l.text()) }

// text orders keys, and is how a page of them is gone on with.
func (k lineKey) text() string {
	return strings.Join([]string{k.path, k.secretID, numberText(k.version), k.principal, k.instance, numberText(k.session)}, "\x00")
}

// closing is one version that is not handed out for the moment.
type closing struct {
	users int // destructions that are on their way
	done  chan struct{}
	// doubt counts up to the last destruction that may still be committed,
	// though nobody waits for it; 0: there is none.
	doubt uint64
}

// doubted is a version that stays closed, and the doubt that keeps it so.
type doubted struct {
	fsm.ClosedVersion
	doubt uint64
}

// delivery is one version on its way to a consumer.
type delivery struct {
	seen fsm.Observation
	note *audit.Consumer // of its event
	news bool            // the state does not know of it
}

// mark is a place in the order of a ledger.
type mark struct {
	session  uint64
	closings uint64
	stamp    int64
}

func newLedger(now func() time.Time) *ledger {
	return &ledger{
		now: now, pending: map[lineKey]*line{}, flight: map[*delivery]struct{}{},
		closed: map[fsm.ClosedVersion]*closing{}, seed: maphash.MakeSeed(),
	}
}

// open lets values be handed out in a session. Its command was applied after
// every destruction that this node ever proposed, so none is unsure any more.
// It answers false if somebody settled the session already, or if a later one
// was opened: what is closed since then knows nothing of this one.
func (l *ledger) open(session uint64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if session <= l.fenced || session <= l.highest {
		return false
	}
	l.highest = session
	if l.opened != nil {
		close(l.opened)
		l.opened = nil
	}
	l.session = session
	for v, c := range l.closed {
		c.doubt = 0
		l.lift(v, c)
	}
	return true
}

// shut ends the session: nothing is handed out until open.
func (l *ledger) shut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.session = 0
}

// end is shut, if the session is still that one.
func (l *ledger) end(session uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.session == session {
		l.session = 0
	}
}

// fence ends session, and those before it, for good.
func (l *ledger) fence(session uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.fenced = max(l.fenced, session)
	if l.session <= l.fenced {
		l.session = 0
	}
}

// current answers the open session, 0 if there is none.
func (l *ledger) current() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.session
}

// await waits until a session is open.
func (l *ledger) await(ctx context.Context) bool {
	l.mu.Lock()
	if l.session != 0 {
		l.mu.Unlock()
		return true
	}
	if l.opened == nil {
		l.opened = make(chan struct{})
	}
	opened := l.opened
	l.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, openPatience)
	defer cancel()
	select {
	case <-opened:
		return true
	case <-ctx.Done():
		return false
	}
}

// openPatience is for how long a request waits for a new leader to open its
// session. It takes one commit.
const openPatience = 2 * time.Second

// next answers a stamp above all before. The caller holds the lock.
func (l *ledger) next() int64 {
	l.stamp = max(l.stamp+1, l.now().UnixMicro())
	return l.stamp
}

// mark answers the place at which a request begins. It is taken before the
// request looks at the state.
func (l *ledger) mark() mark {
	l.mu.Lock()
	defer l.mu.Unlock()
	return mark{session: l.session, closings: l.closings, stamp: l.next()}
}

// hand notes a version that is about to be handed out. It answers false if
// the request must look at the state again, once wait, if there is one, is
// closed: since its mark, a session ended or a version of the path was closed.
func (l *ledger) hand(at mark, seen fsm.Observation) (d *delivery, wait <-chan struct{}, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch c := l.closed[fsm.ClosedVersion{Path: seen.Path, Version: seen.Version}]; {
	case c != nil:
		return nil, c.done, false
	case l.session == 0 || at.session != l.session || l.last[l.stripe(seen.Path)] > at.closings:
		return nil, nil, false
	}
	seen.Session = l.session
	d = &delivery{seen: seen}
	l.flight[d] = struct{}{}
	return d, nil, true
}

// handed is called before the event of a delivery is written, with which it
// is out. Its stamp is that of its end: what the consumer said meanwhile, it
// said without this version.
func (l *ledger) handed(d *delivery) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, there := l.flight[d]; !there {
		return
	}
	delete(l.flight, d)
	d.seen.Stamp = l.next()
	l.add(d.seen)
	if d.news {
		l.tell()
	}
	if d.note != nil {
		d.note.Stamp = d.seen.Stamp
	}
}

// drop forgets a delivery that failed.
func (l *ledger) drop(d *delivery) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.flight, d)
}

// say notes what a consumer said about a version that it is not handed now.
func (l *ledger) say(o fsm.Observation) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if o.Session == l.session && o.Session != 0 {
		l.add(o)
	}
}

// listen answers a channel of news, until done is called.
func (l *ledger) listen() (news <-chan struct{}, done func()) {
	mine := make(chan struct{}, 1)
	set := func(to chan struct{}) {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.news = to
	}
	set(mine)
	return mine, func() { set(nil) }
}

// heard is tell for who does not hold the lock.
func (l *ledger) heard() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.tell()
}

// tell has what is pending committed soon. The caller holds the lock.
func (l *ledger) tell() {
	select {
	case l.news <- struct{}{}:
	default:
	}
}

func (l *ledger) add(o fsm.Observation) {
	key := keyOf(o)
	if old := l.pending[key]; old != nil {
		old.Observation = old.Merge(o)
		old.grew++
		return
	}
	l.pending[key] = &line{Observation: o}
}

// close stops handing out versions, and answers the session and all that was
// handed out or said of their paths and is not committed yet. release opens
// them again: known says that the outcome of the destruction is.
func (l *ledger) close(versions ...fsm.ClosedVersion) (session uint64, observed []fsm.Observation, release func(known bool)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closings++
	paths := map[string]bool{}
	for _, v := range versions {
		c := l.closed[v]
		if c == nil {
			c = &closing{done: make(chan struct{})}
			l.closed[v] = c
		}
		c.users++
		l.last[l.stripe(v.Path)] = l.closings
		paths[v.Path] = true
	}
	return l.session, l.of(paths), func(known bool) {
		l.mu.Lock()
		defer l.mu.Unlock()
		for _, v := range versions {
			c := l.closed[v]
			c.users--
			if !known {
				l.doubts++
				c.doubt = l.doubts
			}
			l.lift(v, c)
		}
	}
}

// lift lets a version be handed out again, if nothing keeps it closed. Whoever
// looked at the state while it was closed may not have seen what became of it,
// and must look again.
func (l *ledger) lift(v fsm.ClosedVersion, c *closing) {
	if c.users == 0 && c.doubt == 0 {
		delete(l.closed, v)
		l.closings++
		l.last[l.stripe(v.Path)] = l.closings
		close(c.done)
	}
}

// unsure answers the versions that stay closed until it is known what became
// of their destruction.
func (l *ledger) unsure() []doubted {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []doubted
	for v, c := range l.closed {
		if c.doubt != 0 {
			out = append(out, doubted{v, c.doubt})
		}
	}
	return out
}

// sure opens versions of which the outcome is known by now. A version that
// was doubted again since stays closed: what became known is about the
// destructions before, and the new one may still be committed.
func (l *ledger) sure(versions []doubted) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, v := range versions {
		if c := l.closed[v.ClosedVersion]; c != nil && c.doubt == v.doubt {
			c.doubt = 0
			l.lift(v.ClosedVersion, c)
		}
	}
}

// of answers what is not committed yet of some paths, deliveries on their way
// included: those are held, whatever their consumers have said so far. nil
// stands for all paths. The caller holds the lock.
func (l *ledger) of(paths map[string]bool) []fsm.Observation {
	var out []fsm.Observation
	for _, one := range l.pending {
		if paths == nil || paths[one.Path] {
			out = append(out, one.Observation)
		}
	}
	for d := range l.flight {
		if paths == nil || paths[d.seen.Path] {
			seen := d.seen
			seen.Stamp = l.next()
			out = append(out, seen)
		}
	}
	slices.SortFunc(out, func(a, b fsm.Observation) int { return keyOf(a).compare(keyOf(b)) })
	return out
}

// observed answers what is not committed yet of one path.
func (l *ledger) observed(path names.Path) []fsm.Observation {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.of(map[string]bool{string(path): true})
}

// all is observed for every path.
func (l *ledger) all() []fsm.Observation {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.of(nil)
}

// batch answers a copy of the lines that wait for their commit.
func (l *ledger) batch() []line {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := make([]line, 0, len(l.pending))
	for _, one := range l.pending {
		out = append(out, *one)
	}
	return out
}

// committed takes lines off that have not grown since.
func (l *ledger) committed(lines []line) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, one := range lines {
		key := keyOf(one.Observation)
		if now := l.pending[key]; now != nil && now.grew == one.grew {
			delete(l.pending, key)
		}
	}
}

// settled takes off what belongs to sessions that are in the state for good.
func (l *ledger) settled(state *fsm.State) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for key := range l.pending {
		if key.session != l.session && state.Session(key.session) == nil {
			delete(l.pending, key)
		}
	}
}

func (l *ledger) stripe(path string) int {
	return int(maphash.String(l.seed, path) % uint64(len(l.last)))
}
