package audit

import "crypto/sha256"

// Decode reads a line of a trail, without its newline, and the hash that it
// carries of the line before it. It refuses what the trail would not have
// written: a changed byte, another order, a field that this release does not
// know.
func Decode(line []byte) (e Event, prev [sha256.Size]byte, err error) { return decodeLine(line) }

// Oldest answers the sequence of the oldest event that is kept, or the one
// that the first event will have.
func (t *Trail) Oldest() uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.segments) == 0 {
		return t.settled.sequence + 1
	}
	return t.segments[0].first
}
