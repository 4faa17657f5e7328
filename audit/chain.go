package audit

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// chain is a place in the trail: after the event number sequence.
type chain struct {
	node     string
	sequence uint64
	hash     [sha256.Size]byte // of the line of that event; zeros at the start
	id       [sha256.Size]byte // hash of the first event: tells a chain from another one of the same node
}

// step moves c over the next event, whose line has the given hash.
func (c *chain) step(hash [sha256.Size]byte) {
	c.sequence++
	c.hash = hash
	if c.sequence == 1 {
		c.id = hash
	}
}

// Head is the newest event of a trail.
type Head struct {
	Node     string
	Sequence uint64
	Hash     [sha256.Size]byte // SHA-256 of its line, without the newline
}

// String writes h as ParseHead reads it: NODE:SEQUENCE:HASH.
func (h Head) String() string { return fmt.Sprintf("%s:%d:%x", h.Node, h.Sequence, h.Hash) }

// ParseHead reads what String writes.
func ParseHead(text string) (Head, error) {
	parts := strings.Split(text, ":")
	if len(parts) != 3 || parts[0] == "" {
		return Head{}, fmt.Errorf("must be NODE:SEQUENCE:HASH, as verify prints it")
	}
	h := Head{Node: parts[0]}
	var err error
	if h.Sequence, err = strconv.ParseUint(parts[1], 10, 64); err != nil || h.Sequence == 0 {
		return Head{}, fmt.Errorf("must have a sequence number from 1 in its middle, as verify prints it")
	}
	hash, err := hex.DecodeString(parts[2])
	if err != nil || len(hash) != len(h.Hash) {
		return Head{}, fmt.Errorf("must end in a SHA-256 in hex, as verify prints it")
	}
	copy(h.Hash[:], hash)
	return h, nil
}

// BrokenError names the first place where a trail is not what was written.
type BrokenError struct {
	File     string
	Line     int    // in that file, from 1
	Sequence uint64 // of the event that should be there
	Reason   string
}

// Error says where and what.
func (e *BrokenError) Error() string {
	return fmt.Sprintf("audit: the trail is broken in %s, line %d, at the event with sequence %d: %s", e.File, e.Line, e.Sequence, e.Reason)
}

// next checks that line is the event that follows c, and steps over it. It
// answers the event's time. The start of a line holds all that links it, in a
// fixed form: there is no need to parse JSON to check a chain.
func (c *chain) next(line []byte) (time.Time, error) {
	var buf [512]byte
	want := appendPrefix(buf[:0], c.node, c.sequence+1, c.hash)
	if !bytes.HasPrefix(line, want) {
		return time.Time{}, c.explain(line)
	}
	if err := checkCRC(line); err != nil {
		return time.Time{}, err
	}
	at, err := lineTime(line, len(want))
	if err != nil {
		return at, err
	}
	c.step(sha256.Sum256(line))
	return at, nil
}

// lineTime reads the time of a line whose prefix has the given length.
func lineTime(line []byte, prefix int) (time.Time, error) {
	if len(line) < prefix+len(timeLayout) {
		return time.Time{}, fmt.Errorf("is too short for an event")
	}
	at, err := time.Parse(timeLayout, string(line[prefix:prefix+len(timeLayout)]))
	if err != nil {
		return at, fmt.Errorf("time is not in RFC 3339, UTC, milliseconds")
	}
	return at, nil
}

// explain says why line does not follow c.
func (c *chain) explain(line []byte) error {
	e, prev, err := decodeLine(line)
	switch {
	case err != nil:
		return err
	case e.Node != c.node:
		return fmt.Errorf("it is of node %q, and this is the trail of node %q", e.Node, c.node)
	case e.Sequence != c.sequence+1:
		return fmt.Errorf("the event there has sequence %d: events were removed, added or moved", e.Sequence)
	case prev != c.hash:
		return fmt.Errorf("it does not carry the hash of the event before it: one of the two was changed")
	}
	return fmt.Errorf("it is not in the form that the trail writes")
}
