package fsm

import (
	"encoding/binary"
	"iter"
	"slices"
)

// Bounds of how long a consumer counts as one that holds a version.
const (
	// DefaultMaxAge is for how long an application may keep a value, and with
	// that counts as holding it, where no path rule says otherwise.
	DefaultMaxAge = int64(5 * 60 * 1000)
	// ClockSlack is by how much the clocks of two nodes may differ. What one
	// of them noted is held against the clock of another one with it.
	ClockSlack = int64(5 * 1000)
	// maxHorizon is above every horizon that there can be.
	maxHorizon = int64(366 * 24 * 60 * 60 * 1000)
)

// Session is one time in which one node leads and hands out values. It is
// known before its first value, so a later leader knows of whom it must ask
// what was handed out and not committed yet. Sessions that were settled are
// forgotten.
type Session struct {
	Number uint64 `cbor:"1,keyasint,omitempty"` // the index that opened it
	Node   string `cbor:"2,keyasint,omitempty"`
	// Trail and Boot say which trail the node wrote, and since when its system
	// runs; Durable, that its trail loses nothing when the power goes.
	Trail   string `cbor:"3,keyasint,omitempty"`
	Boot    string `cbor:"4,keyasint,omitempty"`
	Durable bool   `cbor:"5,keyasint,omitempty"`
	// Sequence is the event of the node's trail up to which everything that it
	// handed out is in the ledger.
	Sequence uint64 `cbor:"6,keyasint,omitempty"`
	OpenedAt int64  `cbor:"7,keyasint,omitempty"`
	// EndedAt is when another session took over; 0: the node hands out.
	EndedAt int64 `cbor:"8,keyasint,omitempty"`
	// Lost says that nobody can tell any more what it handed out last.
	Lost bool `cbor:"9,keyasint,omitempty"`
}

func sessionKey(number uint64) []byte { return binary.BigEndian.AppendUint64(nil, number) }

// Sessions answers the sessions that are not settled, oldest first.
func (s *State) Sessions() iter.Seq[*Session] { return values(scan(s.sessions.Root(), nil, nil)) }

// Session answers one, nil if it is settled or never was.
func (s *State) Session(number uint64) *Session { return at(s.sessions, sessionKey(number)) }

// openLedger begins a session; all others end. From this index on only
// destructions are accepted that its node decided.
func openLedger(t *txn, c OpenLedger) (Result, *Refusal) {
	if r := checkName("node", c.Node); r != nil {
		return Result{}, r
	}
	if len(c.Trail) > maxMetaBytes || len(c.Boot) > maxMetaBytes {
		return Result{}, invalid("trail", "must have at most %d bytes, and so must boot", maxMetaBytes)
	}
	for _, s := range t.sessions.collect(nil, 0) {
		switch {
		case s.EndedAt == 0:
			ended := *s
			ended.EndedAt = t.now
			t.sessions.put(sessionKey(s.Number), &ended)
		case s.EndedAt+maxHorizon+ClockSlack < t.now:
			t.sessions.remove(sessionKey(s.Number)) // nobody can hold anything of it
		}
	}
	t.sessions.put(sessionKey(t.index), &Session{
		Number: t.index, Node: c.Node, Trail: c.Trail, Boot: c.Boot, Durable: c.Durable, Sequence: c.Sequence, OpenedAt: t.now,
	})
	return Result{Session: t.index}, nil
}

// observe takes in what a node saw of consumers. Merging is commutative and
// idempotent, so batches may come late, twice and in any order. What cannot
// be about anything that is there is left out: one such line must not keep
// the others from the ledger.
func observe(t *txn, c Observe) (Result, *Refusal) {
	done := t.takeIn(c.Observations)
	if s := t.sessions.value(sessionKey(c.Session)); s != nil && c.Sequence > s.Sequence {
		next := *s
		next.Sequence = c.Sequence
		t.sessions.put(sessionKey(s.Number), &next)
	}
	return Result{Done: done}, nil
}

// settleLedger ends the account of a session: everything that its node ever
// handed out in it has been observed before this index, or cannot be told.
func settleLedger(t *txn, c SettleLedger) (Result, *Refusal) {
	s := t.sessions.value(sessionKey(c.Session))
	switch {
	case s == nil:
		return Result{Unchanged: true}, nil
	case s.EndedAt == 0:
		return Result{}, conflict("session: %d goes on; what it hands out next is not known", c.Session)
	case !c.Lost:
		t.sessions.remove(sessionKey(s.Number))
		return Result{Done: 1}, nil
	}
	next := *s
	next.Lost = true
	t.sessions.put(sessionKey(s.Number), &next)
	return Result{Done: 1}, nil
}

// decides holds a destruction against the ledger. It must come from the node
// whose session goes on, with all that the node has handed out of these paths
// in it: the node stopped handing out what it wants to destroy before it put
// the command together. Before the first session there was no ledger.
func (t *txn) decides(session uint64, observed []Observation) *Refusal {
	any := false
	for range scan(t.sessions.root(), nil, nil) {
		any = true
		break
	}
	if !any && session == 0 {
		return nil
	}
	s := t.sessions.value(sessionKey(session))
	if s == nil || s.EndedAt != 0 {
		return race("version: the leadership changed while the destruction was decided; retry")
	}
	t.takeIn(observed)
	return nil
}

// own answers the time of the node that proposed, which the time of the state
// may be ahead of. What a node noted by its own clock is held against the same
// clock: by an earlier leader's, which was fast, it would be over too soon.
func (t *txn) own(meta Meta) int64 { return min(t.now, meta.Time) }

// Unknown are nodes of which nobody can tell yet what they handed out last.
type Unknown struct {
	Nodes []string
	// Until is when none of it can be held any more.
	Until int64
}

// unknownOf answers which sessions may have handed out v without the ledger
// knowing, as far as that counts at now. A session that ended before v was
// made cannot have: times of the state follow its log. horizon is the longest
// for which a reader of v may have been told to keep it.
func unknownOf(sessions iter.Seq[*Session], v *Version, horizon, now int64) Unknown {
	var out Unknown
	for s := range sessions {
		until := s.EndedAt + horizon + ClockSlack
		if s.EndedAt == 0 || v.CreatedAt > s.EndedAt || until <= now {
			continue
		}
		if !slices.Contains(out.Nodes, s.Node) {
			out.Nodes = append(out.Nodes, s.Node)
		}
		out.Until = max(out.Until, until)
	}
	slices.Sort(out.Nodes)
	return out
}
