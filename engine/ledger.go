package engine

import (
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
	grown   uint64 // times that any line grew
	flight  map[*delivery]struct{}
	// lentOut are those of flight that nodes that follow deliver, by number, and
	// landing is closed when one of them has ended; nil: nobody waits.
	lentOut map[uint64]*delivery
	lents   uint64
	landing chan struct{}
	// said are the stamps of the latest words of consumers that are pending.
	said map[consumer]int64

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

// line is an observation with a number of its own for each time it grew, so
// that only what a commit held is taken off: never a line of the same key that
// was begun after another commit had taken that one off.
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

// delivery is one version on its way to a consumer.
type delivery struct {
	seen fsm.Observation
	note *audit.Consumer // of its event
	news bool            // the state does not know of it
	lent *lent           // nil: a request of this node's
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
		lentOut: map[uint64]*delivery{}, said: map[consumer]int64{},
		closed: map[fsm.ClosedVersion]*closing{}, seed: maphash.MakeSeed(),
	}
}

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
	l.grown++
	if who := consumerOf(o); o.Said != 0 {
		o.Said = l.heardAt(o.Path, o.Said)
		l.said[who] = max(l.said[who], o.Said)
	}
	if old := l.pending[key]; old != nil {
		old.Observation = old.Merge(o)
		old.grew = l.grown
		return
	}
	l.pending[key] = &line{Observation: o, grew: l.grown}
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
			if d.lent != nil && seen.Last == 0 {
				// It is told that it may keep what it uses. What it said does not
				// count yet; that it keeps it does.
				seen.Last = seen.First
			}
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
		if who := consumerOf(one.Observation); l.said[who] <= one.Said {
			delete(l.said, who)
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
			delete(l.said, consumer{key.path, key.secretID, key.principal, key.instance})
		}
	}
}

func (l *ledger) stripe(path string) int {
	return int(maphash.String(l.seed, path) % uint64(len(l.last)))
}
