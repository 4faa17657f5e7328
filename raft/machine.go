package raft

import (
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"

	"github.com/strongroom/strongroom/fsm"

	hraft "github.com/hashicorp/raft"
)

var errHalted = errors.New("the state machine has stopped")

// machine is *fsm.Machine as hashicorp/raft wants it.
type machine struct {
	*fsm.Machine
	mustStop func(error)
	marker   *marker
	faults   *Faults
	halted   atomic.Bool

	mu      sync.Mutex
	applied uint64        // index up to which every command is in the state
	moved   chan struct{} // closed and replaced when applied moves and somebody waits
	waiting bool
}

func newMachine(m *fsm.Machine, mustStop func(error), faults *Faults) *machine {
	return &machine{Machine: m, mustStop: mustStop, marker: newMarker(faults.MarkEvery), faults: faults, moved: make(chan struct{})}
}

// outcome is what Apply answers to the library.
type outcome struct {
	result fsm.Result
	err    error
}

// Apply implements hraft.FSM. After a command that this build cannot read
// nothing is applied any more: to pass over it would let replicas part.
func (m *machine) Apply(entry *hraft.Log) any {
	if m.halted.Load() {
		return outcome{err: errHalted}
	}
	command := entry.Data
	if change := m.faults.Applied; change != nil {
		command = change(command)
	}
	before := m.State()
	result, err := m.Machine.Apply(entry.Index, command)
	if err != nil {
		m.halted.Store(true)
		m.mustStop(fmt.Errorf("apply entry %d: %w", entry.Index, err))
		return outcome{err: err}
	}
	m.marker.applied(before, m.State())
	m.advance(entry.Index)
	if m.faults.Witness != nil {
		m.faults.Witness(entry.Index, entry.Term, entry.Data, m.State().Hash())
	}
	return outcome{result: result}
}

func (m *machine) advance(index uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.applied = index
	if m.waiting {
		close(m.moved)
		m.moved = make(chan struct{})
		m.waiting = false
	}
}

// progress answers how far commands are applied, and a channel that is closed
// when that has moved.
func (m *machine) progress() (uint64, <-chan struct{}) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.waiting = true
	return m.applied, m.moved
}

func (m *machine) appliedIndex() uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.applied
}

// Restore implements hraft.FSM. The library closes r.
func (m *machine) Restore(r io.ReadCloser) error {
	err := m.Machine.Restore(r)
	var level *fsm.LevelError
	if errors.As(err, &level) {
		m.halted.Store(true)
		m.mustStop(err)
	}
	if err != nil {
		return err
	}
	m.advance(m.State().Index())
	return nil
}

// Snapshot implements hraft.FSM. A machine that has halted is behind the
// index that the library would write on its snapshot.
func (m *machine) Snapshot() (hraft.FSMSnapshot, error) {
	if m.halted.Load() {
		return nil, errHalted
	}
	return snapshot{m.Machine.Snapshot()}, nil
}

type snapshot struct{ *fsm.Snapshot }

// Persist implements hraft.FSMSnapshot. The sink reads back what it wrote.
func (s snapshot) Persist(sink hraft.SnapshotSink) error {
	if _, err := s.WriteTo(sink); err != nil {
		return errors.Join(err, sink.Cancel())
	}
	return sink.Close()
}

// Release implements hraft.FSMSnapshot.
func (snapshot) Release() {}
