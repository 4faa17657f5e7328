package fsm

import (
	"cmp"
	"iter"
	"slices"

	"github.com/strongroom/strongroom/internal/names"
)

// Bounds of the ledger. Beyond them nothing is forgotten that may still be
// held: it goes to one line for all others of the secret, which only time
// releases.
const (
	maxConsumers = 1000 // instances of one secret
	maxHolds     = 32   // versions of one instance
)

// Others is the principal of the line that stands for consumers that found no
// place of their own. No principal can have this name.
const Others = "*"

// Consumer is one instance of a principal that reads a secret.
type Consumer struct {
	Path      names.Path `cbor:"1,keyasint,omitempty"`
	Principal string     `cbor:"2,keyasint,omitempty"`
	Instance  string     `cbor:"3,keyasint,omitempty"` // empty: it did not say
	Said      Said       `cbor:"4,keyasint,omitempty"`
	Holds     []Hold     `cbor:"5,keyasint,omitempty"` // by rising version
}

// Said is the last word of a consumer: it uses Version, and no other one.
type Said struct {
	Version uint64 `cbor:"1,keyasint,omitempty"`
	Session uint64 `cbor:"2,keyasint,omitempty"`
	Stamp   int64  `cbor:"3,keyasint,omitempty"` // when it was said, in the session's own order
	At      int64  `cbor:"4,keyasint,omitempty"`
}

// Hold is a version that was handed to a consumer.
type Hold struct {
	Version uint64 `cbor:"1,keyasint,omitempty"`
	First   int64  `cbor:"2,keyasint,omitempty"` // milliseconds since the Unix epoch
	Last    int64  `cbor:"3,keyasint,omitempty"`
	Session uint64 `cbor:"4,keyasint,omitempty"` // of the last time, as is Stamp
	Stamp   int64  `cbor:"5,keyasint,omitempty"`
	Until   int64  `cbor:"6,keyasint,omitempty"` // it may be kept for so long
}

// Observation is what a node saw, from First on, of one consumer and one
// version: that it was handed out (Last is set), that the consumer said it
// uses it (Said is set), or both.
type Observation struct {
	Path      string `cbor:"1,keyasint,omitempty"`
	SecretID  string `cbor:"2,keyasint,omitempty"` // empty: read from a trail, which does not tell
	Version   uint64 `cbor:"3,keyasint,omitempty"`
	Principal string `cbor:"4,keyasint,omitempty"`
	Instance  string `cbor:"5,keyasint,omitempty"`
	Session   uint64 `cbor:"6,keyasint,omitempty"`
	First     int64  `cbor:"7,keyasint,omitempty"`
	Last      int64  `cbor:"8,keyasint,omitempty"`
	Stamp     int64  `cbor:"9,keyasint,omitempty"`
	Until     int64  `cbor:"10,keyasint,omitempty"`
	Said      int64  `cbor:"11,keyasint,omitempty"` // stamp
	SaidAt    int64  `cbor:"12,keyasint,omitempty"`
}

// Merge answers o and p, two observations of the same consumer, version and
// session, as one.
func (o Observation) Merge(p Observation) Observation {
	o.First = earliest(o.First, p.First)
	o.Last, o.Stamp, o.Until = max(o.Last, p.Last), max(o.Stamp, p.Stamp), max(o.Until, p.Until)
	o.Said, o.SaidAt = max(o.Said, p.Said), max(o.SaidAt, p.SaidAt)
	return o
}

// earliest is min, where 0 is no time.
func earliest(a, b int64) int64 {
	if a == 0 || b == 0 {
		return max(a, b)
	}
	return min(a, b)
}

func consumerKey(path names.Path, principal, instance string) []byte {
	return pair(string(path), principal+"\x00"+instance)
}

// Consumers answers the consumers of a secret, by principal and instance.
func (s *State) Consumers(path names.Path) iter.Seq[*Consumer] {
	return values(scan(s.consumers.Root(), pair(string(path), ""), nil))
}

// Knows reports whether o tells nothing that a reader of the ledger would miss
// for a while: the consumer is known to have had the version, and to have said
// what it says.
func (s *State) Knows(o Observation) bool {
	c := at(s.consumers, consumerKey(names.Path(o.Path), o.Principal, o.Instance))
	if c == nil {
		return false
	}
	i, found := c.find(o.Version)
	return found && !c.Moved(c.Holds[i]) && (o.Said == 0 || c.Said.Version == o.Version)
}

// Holds reports whether the ledger alone makes a destruction wait for the
// consumer of o for as long as o says.
func (s *State) Holds(o Observation) bool {
	c := at(s.consumers, consumerKey(names.Path(o.Path), o.Principal, o.Instance))
	if c == nil {
		return false
	}
	i, found := c.find(o.Version)
	return found && !c.Moved(c.Holds[i]) && c.Holds[i].Until >= o.Until
}

// LastRead answers when the version was last handed out, in milliseconds
// since the Unix epoch, 0: never, as far as the ledger knows.
func (s *State) LastRead(path names.Path, number uint64) int64 {
	return at(s.reads, versionKey(path, number))
}

// Unknown answers who may have handed out v without the ledger knowing.
func (s *State) Unknown(path names.Path, v *Version, now int64) Unknown {
	return unknownOf(s.Sessions(), v, s.longestHorizon(path, now), now)
}

// With answers c, which may be nil, with o merged into it. c is not changed.
func (c *Consumer) With(o Observation) *Consumer {
	next := Consumer{Path: names.Path(o.Path), Principal: o.Principal, Instance: o.Instance}
	if c != nil {
		next = *c
		next.Holds = slices.Clone(c.Holds)
	}
	i, found := next.find(o.Version)
	if !found {
		next.Holds = slices.Insert(next.Holds, i, Hold{Version: o.Version})
	}
	h := &next.Holds[i]
	h.First, h.Last = earliest(h.First, o.First), max(h.Last, o.Last, o.SaidAt)
	h.Until = max(h.Until, o.Until)
	if o.Stamp != 0 && later(o.Session, o.Stamp, h.Session, h.Stamp) {
		h.Session, h.Stamp = o.Session, o.Stamp
	}
	if said := (Said{o.Version, o.Session, o.Said, o.SaidAt}); o.Said != 0 && said.after(next.Said) {
		next.Said = said
	}
	return &next
}

func (c *Consumer) find(version uint64) (int, bool) {
	return slices.BinarySearchFunc(c.Holds, version, func(h Hold, v uint64) int { return cmp.Compare(h.Version, v) })
}

// later orders what nodes saw: sessions follow each other, stamps follow each
// other in a session.
func later(session uint64, stamp int64, thanSession uint64, thanStamp int64) bool {
	return session > thanSession || session == thanSession && stamp > thanStamp
}

func (s Said) after(t Said) bool {
	if s.Session == t.Session && s.Stamp == t.Stamp {
		return s.Version > t.Version // the order must be total for merging to commute
	}
	return later(s.Session, s.Stamp, t.Session, t.Stamp)
}

// Moved reports whether the consumer said, after it was last handed h, that it
// uses another version.
func (c *Consumer) Moved(h Hold) bool {
	return c.Principal != Others && c.Said.Version != 0 && c.Said.Version != h.Version &&
		later(c.Said.Session, c.Said.Stamp, h.Session, h.Stamp)
}

// HeldUntil answers until when the consumer may hold h, 0 if it has moved.
// session is the one that goes on: what others noted, they noted by another
// clock.
func (c *Consumer) HeldUntil(h Hold, session uint64) int64 {
	switch {
	case c.Moved(h):
		return 0
	case h.Session != session:
		return h.Until + ClockSlack
	}
	return h.Until
}

// Holding answers until when the consumer may hold the version, 0: it does
// not, whatever the time is.
func (c *Consumer) Holding(version, session uint64) int64 {
	if i, found := c.find(version); found {
		return c.HeldUntil(c.Holds[i], session)
	}
	return 0
}

// takeIn merges observations into the ledger and answers how many were about
// something that is there.
func (t *txn) takeIn(all []Observation) int {
	done := 0
	for _, o := range all {
		if t.takes(o) {
			t.merge(o)
			done++
		}
	}
	return done
}

// takes checks what a node of ours would never send, and leaves out what is
// about a version that is gone: nobody has to be waited for on its account.
func (t *txn) takes(o Observation) bool {
	s := t.secrets.value([]byte(o.Path))
	if s == nil || s.State == SecretPurged || o.SecretID != "" && o.SecretID != s.ID {
		return false
	}
	if v := t.versions.value(versionKey(s.Path, o.Version)); v == nil || v.State == VersionDestroyed && o.Last == 0 {
		return false
	}
	if checkName("principal", o.Principal) != nil || o.Instance != "" && checkName("instance", o.Instance) != nil {
		return false
	}
	for _, at := range []int64{o.First, o.Last, o.Until, o.SaidAt, o.Stamp, o.Said} {
		if at < 0 || at > maxTime*1000 {
			return false
		}
	}
	return o.Last != 0 || o.Said != 0
}

func (t *txn) merge(o Observation) {
	path := names.Path(o.Path)
	if key := versionKey(path, o.Version); o.Last > t.reads.value(key) {
		t.reads.put(key, o.Last)
	}
	key := consumerKey(path, o.Principal, o.Instance)
	old := t.consumers.value(key)
	if old == nil && t.consumerCounts.value([]byte(path)) >= maxConsumers && !t.makeRoom(path) {
		t.mergeOthers(o)
		return
	}
	next := old.With(o)
	for len(next.Holds) > maxHolds {
		t.dropHold(next)
	}
	t.putConsumer(next)
}

// mergeOthers keeps an observation on the line of all others, which keeps the
// latest time for each version, and nothing that anybody said.
func (t *txn) mergeOthers(o Observation) {
	o.Principal, o.Instance, o.Said, o.SaidAt = Others, "", 0, 0
	if o.Last == 0 {
		return // it said that it uses a version that it had before
	}
	next := t.consumers.value(consumerKey(names.Path(o.Path), Others, "")).With(o)
	for len(next.Holds) > maxHolds {
		// The two oldest become one, on the older version: that version is held
		// for longer than need be, and the other one too.
		a, b := next.Holds[0], next.Holds[1]
		if a.Until <= t.now-ClockSlack {
			next.Holds = slices.Delete(next.Holds, 0, 1)
			continue
		}
		if b.Until <= t.now-ClockSlack {
			next.Holds = slices.Delete(next.Holds, 1, 2)
			continue
		}
		break // all may be held: the line grows for as long as that is so
	}
	t.putConsumer(next)
}

// dropHold makes room on the line of a consumer that was handed very many
// versions: one that it surely does not hold any more goes, else the oldest
// moves to the line of all others.
func (t *txn) dropHold(c *Consumer) {
	for i, h := range c.Holds {
		if h.Version != c.Said.Version && t.free(c, h) {
			c.Holds = slices.Delete(c.Holds, i, i+1)
			return
		}
	}
	i := 0
	if c.Holds[0].Version == c.Said.Version {
		i = 1
	}
	h := c.Holds[i]
	c.Holds = slices.Delete(c.Holds, i, i+1)
	t.mergeOthers(Observation{
		Path: string(c.Path), Version: h.Version, Session: h.Session, First: h.First, Last: h.Last, Stamp: h.Stamp, Until: h.Until,
	})
}

// free reports whether nobody has to wait for c on account of h.
func (t *txn) free(c *Consumer, h Hold) bool {
	if v := t.versions.value(versionKey(c.Path, h.Version)); v == nil || v.State == VersionDestroyed {
		return true
	}
	return c.Moved(h) || h.Until+ClockSlack < t.now
}

// makeRoom forgets the consumer of a secret that was idle for longest, of
// those that hold nothing any more.
func (t *txn) makeRoom(path names.Path) bool {
	var idle *Consumer
	var since int64
	for _, c := range t.consumers.collect(pair(string(path), ""), 0) {
		last, free := c.Said.At, c.Principal != Others
		for _, h := range c.Holds {
			last, free = max(last, h.Last), free && t.free(c, h)
		}
		if free && (idle == nil || last < since) {
			idle, since = c, last
		}
	}
	if idle == nil {
		return false
	}
	t.removeConsumer(idle)
	return true
}

func (t *txn) putConsumer(c *Consumer) {
	key := consumerKey(c.Path, c.Principal, c.Instance)
	if t.consumers.value(key) == nil {
		t.consumerCounts.put([]byte(c.Path), t.consumerCounts.value([]byte(c.Path))+1)
	}
	t.consumers.put(key, c)
}

func (t *txn) removeConsumer(c *Consumer) {
	t.consumers.remove(consumerKey(c.Path, c.Principal, c.Instance))
	if rest := t.consumerCounts.value([]byte(c.Path)) - 1; rest > 0 {
		t.consumerCounts.put([]byte(c.Path), rest)
	} else {
		t.consumerCounts.remove([]byte(c.Path))
	}
}

// forgetConsumers drops the ledger of a secret that is gone for good.
func (t *txn) forgetConsumers(path names.Path) {
	for _, c := range t.consumers.collect(pair(string(path), ""), 0) {
		t.removeConsumer(c)
	}
}

// heldUntil answers until when anybody may hold v after at, and how many do;
// who handed out v unbeknown to the ledger counts.
func (t *txn) heldUntil(path names.Path, v *Version, session uint64, at int64) (until int64, count uint64) {
	for _, c := range scan(t.consumers.root(), pair(string(path), ""), nil) {
		if held := c.Holding(v.Number, session); held > at {
			until, count = max(until, held), count+1
		}
	}
	unknown := unknownOf(values(scan(t.sessions.root(), nil, nil)), v, t.longestHorizon(path, at), at)
	return max(until, unknown.Until), count + uint64(len(unknown.Nodes))
}
