package fsm

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// A feature level says what a build can read: every command kind, and every
// field that was added to a command or record, has the level that introduced
// it. The state holds the level of the cluster; a command of a higher level is
// refused by Apply and is not proposed. It is raised when all members know the
// next one, and never lowered: by then the log may hold what older builds
// cannot read.
//
// FirstLevel is that of a cluster that never raised it.
const FirstLevel uint32 = 1

// KindRaiseLevel is the number of RaiseLevel.
const KindRaiseLevel Kind = 97

// FeatureLevel is the level of the cluster, if it was ever raised.
type FeatureLevel struct {
	Level     uint32 `cbor:"1,keyasint,omitempty"`
	RaisedAt  int64  `cbor:"2,keyasint,omitempty"`
	RaisedBy  string `cbor:"3,keyasint,omitempty"` // node that led
	RequestID string `cbor:"4,keyasint,omitempty"`
	Index     uint64 `cbor:"5,keyasint,omitempty"`
}

// RaiseLevel raises the level of the cluster. A build that knows less than
// Level stops at it, with nothing applied: the entry is in the log before all
// that needs the level, so such a build never gets to see that. For the same
// reason the form of this command never changes.
type RaiseLevel struct {
	Meta  Meta   `cbor:"1,keyasint,omitempty"`
	Level uint32 `cbor:"2,keyasint,omitempty"`
	Node  string `cbor:"3,keyasint,omitempty"` // that leads
}

// Kind answers the number of the command.
func (RaiseLevel) Kind() Kind   { return KindRaiseLevel }
func (c RaiseLevel) meta() Meta { return c.Meta }

// LevelError says that a state or a log is of a level that this build does not
// know. There is no way around it but a build that does.
type LevelError struct {
	Needs uint32
	Knows uint32
}

// Error says which build is needed.
func (e *LevelError) Error() string {
	return fmt.Sprintf("the cluster is at feature level %d, and this build knows level %d at most: run the release that the other members run, or a newer one; "+
		"a level that was raised is never lowered", e.Needs, e.Knows)
}

var levelKey = []byte("level")

// Level answers the feature level of the cluster.
func (s *State) Level() uint32 { return levelOf(at(s.levels, levelKey)) }

// FeatureLevel answers when and by whom the level was raised to what it is,
// nil if it never was.
func (s *State) FeatureLevel() *FeatureLevel { return at(s.levels, levelKey) }

func levelOf(l *FeatureLevel) uint32 {
	if l == nil {
		return FirstLevel
	}
	return l.Level
}

func (t *txn) level() uint32 { return levelOf(t.levels.value(levelKey)) }

// raiseLevel is pure like every decision: which members know the level only
// the leader can ask, and it has. What Apply holds is that it never falls.
func raiseLevel(t *txn, c RaiseLevel) (Result, *Refusal) {
	if r := checkName("node", c.Node); r != nil {
		return Result{}, r
	}
	if c.Level <= t.level() {
		return Result{Unchanged: true}, nil
	}
	t.levels.put(levelKey, &FeatureLevel{Level: c.Level, RaisedAt: t.now, RaisedBy: c.Node, RequestID: c.Meta.RequestID, Index: t.index})
	return Result{Done: 1}, nil
}

func (t *txn) restoreLevel(l *FeatureLevel) (string, error) {
	if l.Level <= FirstLevel || l.RaisedAt <= 0 || l.RaisedAt > maxTime || l.Index == 0 || l.Index > t.index {
		return "", errors.New("the feature level is none that a command could have set")
	}
	t.levels.put(levelKey, l)
	return string(levelKey), nil
}

// growth is a field that a later level added to a command: one that has it
// set needs the level.
type growth struct {
	level uint32
	uses  func(Command) bool
}

// from says which level introduced the kind; without it that is FirstLevel.
func (e entry) from(level uint32) entry {
	e.level = level
	return e
}

// grown says that a level added fields to the commands of e, and which
// commands have them.
func grown[C Command](e entry, level uint32, uses func(C) bool) entry {
	e.growths = append(e.growths, growth{level: level, uses: func(c Command) bool {
		command, is := c.(C)
		return is && uses(command)
	}})
	return e
}

// needs answers the level of one command of the kind.
func (e entry) needs(c Command) uint32 {
	level := max(e.level, FirstLevel)
	for _, g := range e.growths {
		if g.level > level && g.uses(c) {
			level = g.level
		}
	}
	return level
}

// CommandLevel answers the feature level that an encoded command needs. It
// costs nothing for kinds that never grew. What this build cannot read is of
// the highest level that there could be.
func CommandLevel(command []byte) uint32 {
	if len(command) < commandHeader {
		return unknownLevel
	}
	e, known := kinds[Kind(binary.BigEndian.Uint16(command))]
	switch {
	case !known:
		return unknownLevel
	case len(e.growths) == 0:
		return max(e.level, FirstLevel)
	}
	c, halt := decode(command)
	if halt != nil {
		return unknownLevel
	}
	return c.level
}

const unknownLevel = ^uint32(0)

// RaisesTo answers the level to which an encoded command raises the cluster,
// 0 if it is no RaiseLevel. One that this build cannot read raises it above
// everything.
func RaisesTo(command []byte) uint32 {
	if len(command) < commandHeader || Kind(binary.BigEndian.Uint16(command)) != KindRaiseLevel {
		return 0
	}
	c, halt := decode(command)
	if halt != nil {
		return unknownLevel
	}
	return c.command.(RaiseLevel).Level
}
