// Package fsm is the replicated state of Strongroom: a pure function of its
// log. Commands go in, the next immutable State comes out, the same on every
// node. It sees ciphertext only, and asks no clock, no random source, no HSM
// and no environment: ids, times and sealed values travel inside the command.
package fsm

import (
	"crypto/sha256"
	"encoding/binary"
	"sync/atomic"
)

// Machine applies commands to the state. It is safe for one caller of Apply
// or Restore and any number of readers of State and Snapshot.
type Machine struct {
	state atomic.Pointer[State]
	level uint32 // that it knows
}

// New makes a machine with the empty state, before any command. It knows what
// this build knows.
func New() *Machine { return NewAt(Level) }

// NewAt makes a machine that takes states and logs up to a feature level. It
// is for tests of upgrades: a level above Level has it take a state of which
// it cannot read what is new.
func NewAt(level uint32) *Machine {
	m := &Machine{level: level}
	m.state.Store(emptyState())
	return m
}

// State answers the current state. It is never nil and never changes: what
// is looked up in it agrees with itself for as long as it is held.
func (m *Machine) State() *State { return m.state.Load() }

// Apply decides one command and makes the next state. index must be above
// that of every command before.
//
// Every decision about the command, also against it, is in the Result and is
// the same on every node. The error is a *HaltError and means that this
// build cannot read the command: the state is unchanged and the node must
// stop.
func (m *Machine) Apply(index uint64, command []byte) (Result, error) {
	prev := m.state.Load()
	c, halt := decode(command)
	if halt == nil && index <= prev.index {
		halt = &HaltError{Kind: c.command.Kind(), Length: len(command), Reason: haltIndex}
	}
	if halt != nil {
		halt.Index = index
		return Result{}, halt
	}
	if raise, is := c.command.(RaiseLevel); is && raise.Level > m.level {
		return Result{}, &HaltError{Kind: KindRaiseLevel, Index: index, Length: len(command), Reason: haltLevel}
	}
	t := prev.begin(index, c.meta)
	result, changed := t.decide(c)
	encoded, err := codec.enc.Marshal(decision(result))
	if err != nil {
		return Result{}, &HaltError{Kind: c.command.Kind(), Index: index, Length: len(command), Reason: haltResult}
	}
	next := prev
	if changed {
		next = t.commit()
	}
	m.state.Store(next.at(index, t.now, chain(prev.hash, index, command, encoded)))
	return result, nil
}

// chain is the state hash: SHA-256 over the one before, the index, the
// command and its decision. Two replicas with equal hashes have applied the
// same commands and decided them alike.
func chain(prev [sha256.Size]byte, index uint64, command, decision []byte) [sha256.Size]byte {
	h := sha256.New()
	h.Write(prev[:])
	h.Write(binary.BigEndian.AppendUint64(nil, index))
	h.Write(binary.BigEndian.AppendUint64(nil, uint64(len(command))))
	h.Write(command)
	h.Write(decision)
	return [sha256.Size]byte(h.Sum(nil))
}

// decision is what of a result goes into the state hash. The words of a
// refusal stay out: two builds that word it differently have decided alike,
// and a rolling upgrade must not look like replicas that parted.
func decision(r Result) Result {
	if r.Refused != nil {
		r.Refused = &Refusal{Code: r.Refused.Code, Race: r.Refused.Race, Count: r.Refused.Count, Paths: r.Refused.Paths}
	}
	return r
}

// decide answers the result of one command, and whether it changed anything
// but index, time and hash.
func (t *txn) decide(c change) (Result, bool) {
	if r := checkMeta(c.meta); r != nil {
		return Result{Index: t.index, Refused: r}, false
	}
	_, genesis := c.command.(GenesisCommand)
	if t.genesis == nil && !genesis {
		return Result{Index: t.index, Refused: conflict("the cluster has not been initialised; run strongroom init first")}, false
	}
	if level := t.level(); c.level > level {
		return Result{Index: t.index, Refused: conflict("the command needs feature level %d, and the cluster is at %d", c.level, level)}, false
	}
	stored, r := t.prev.Replay(c.meta)
	if r != nil {
		return Result{Index: t.index, Refused: r}, false
	}
	if stored != nil {
		return *stored, false
	}
	if use := c.meta.Approval; use != nil {
		if r := t.approve(use); r != nil {
			return Result{Index: t.index, Refused: r}, false
		}
	}
	result, r := c.apply(t)
	result.Index = t.index
	if r != nil {
		return Result{Index: t.index, Refused: r}, false
	}
	t.remember(c.meta, result)
	return result, true
}
