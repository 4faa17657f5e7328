package audit

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"io"
	"os"
)

// Marks tell which blocks of a sealed file cannot hold an event with a given
// request id, principal or path, so that a search for one of these over a long
// time reads little: for each block a Bloom filter over these fields of its
// events. They are in a frame of their own before the index, which every zstd
// tool skips, and which releases that know nothing of it skip as well:
//
//	5d 2a 4d 18 length  the head of a skippable frame, RFC 8878
//	format uint8 = 1
//	for each block: length uvarint | bits
//	checksum            eight bytes of the SHA-256 of format and blocks
//	length "SRMK"       of format, blocks and checksum, four bytes, little end first
//
// They only ever save work: a file without them, or whose marks are damaged, is
// read whole. Marks that fit their checksum and are not those of the events
// hide events from a search, as a forged time in the index would; both are
// found by who reads the whole file.
type marks [][]byte

const (
	marksMagic    = 0x184d2a5d
	marksEnd      = "SRMK"
	marksFormat   = 1
	marksChecksum = 8
	markBytes     = 2 // in the filter, for each field that is marked
	markBits      = 8 // set for each: one search in 1,700 reads a block in vain
)

// markedFields are looked for in the text of a line. Quotes in values are
// escaped, so nothing but a field can look like one. The event's own come
// before those of what is in it.
var markedFields = [...]string{`,"requestId":"`, `,"principal":"`, `,"path":"`}

// mark is the hash of a field as it stands in a line: name and value.
type mark [2]uint64

func markOf(field []byte) mark {
	sum := sha256.Sum256(field)
	return mark{binary.LittleEndian.Uint64(sum[:]), binary.LittleEndian.Uint64(sum[8:])}
}

// each calls do with the places of m among so many bits, until do answers
// false.
func (m mark) each(bits uint64, do func(at uint64) bool) bool {
	at := m[0]
	for range markBits {
		if !do(at % bits) {
			return false
		}
		at += m[1] | 1
	}
	return true
}

// marker makes marks as lines come.
type marker struct {
	made  marks
	block map[mark]struct{} // nil: no block has begun
}

// line takes the next line. begins: it is the first of a block.
func (m *marker) line(line []byte, begins bool) {
	if begins {
		m.flush()
		m.block = map[mark]struct{}{}
	}
	for _, name := range markedFields {
		if i := bytes.Index(line, []byte(name)); i >= 0 {
			m.block[markOf(line[i:i+len(name)+textEnd(line[i+len(name):])])] = struct{}{}
		}
	}
}

// textEnd is where the text ends that b begins with, its closing quote
// included.
func textEnd(b []byte) int {
	for i := 0; i < len(b); i++ {
		switch b[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
	return len(b) // who reads the event finds it malformed
}

func (m *marker) flush() {
	if m.block == nil {
		return
	}
	bits := make([]byte, markBytes*max(1, len(m.block)))
	for one := range m.block {
		one.each(8*uint64(len(bits)), func(at uint64) bool { bits[at/8] |= 1 << (at % 8); return true })
	}
	m.made, m.block = append(m.made, bits), nil
}

// finish answers the marks of all lines.
func (m *marker) finish() marks {
	m.flush()
	return m.made
}

// may reports whether the block with the number i can hold an event with all
// of the fields.
func (m marks) may(i int, fields []mark) bool {
	bits := m[i]
	for _, one := range fields {
		if !one.each(8*uint64(len(bits)), func(at uint64) bool { return bits[at/8]&(1<<(at%8)) != 0 }) {
			return false
		}
	}
	return true
}

// frame is the form on the disk.
func (m marks) frame() []byte {
	body := []byte{marksFormat}
	for _, bits := range m {
		body = append(binary.AppendUvarint(body, uint64(len(bits))), bits...)
	}
	sum := sha256.Sum256(body)
	body = append(body, sum[:marksChecksum]...)
	out := binary.LittleEndian.AppendUint32(nil, marksMagic)
	out = binary.LittleEndian.AppendUint32(out, uint32(len(body)+sealTail))
	out = binary.LittleEndian.AppendUint32(append(out, body...), uint32(len(body)))
	return append(out, marksEnd...)
}

// readMarks reads the marks of so many blocks that end at end of f. nil: there
// are none that can be believed.
func readMarks(f io.ReaderAt, end int64, blocks int) (marks, error) {
	var tail [sealTail]byte
	if end < sealTail+8 {
		return nil, nil
	}
	if _, err := f.ReadAt(tail[:], end-sealTail); err != nil {
		return nil, err
	}
	length := int64(binary.LittleEndian.Uint32(tail[:]))
	at := end - sealTail - length - 8
	if string(tail[4:]) != marksEnd || length < 1+marksChecksum || length > maxSealIndex || at < 0 {
		return nil, nil
	}
	frame := make([]byte, 8+length)
	if _, err := f.ReadAt(frame, at); err != nil {
		return nil, err
	}
	if binary.LittleEndian.Uint32(frame) != marksMagic || int64(binary.LittleEndian.Uint32(frame[4:])) != length+sealTail {
		return nil, nil
	}
	return decodeMarks(frame[8:], blocks), nil
}

func decodeMarks(body []byte, blocks int) marks {
	rest, checksum := body[1:len(body)-marksChecksum], body[len(body)-marksChecksum:]
	sum := sha256.Sum256(body[:len(body)-marksChecksum])
	if body[0] != marksFormat || !bytes.Equal(sum[:marksChecksum], checksum) {
		return nil
	}
	var out marks
	for len(rest) > 0 && len(out) < blocks {
		size, n := binary.Uvarint(rest)
		if n <= 0 || size == 0 || size > uint64(len(rest)-n) {
			return nil
		}
		out, rest = append(out, rest[n:n+int(size):n+int(size)]), rest[n+int(size):]
	}
	if len(rest) > 0 || len(out) != blocks {
		return nil
	}
	return out
}

// marks reads those of a sealed file.
func (i *seal) marks(path string) (marks, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	out, err := readMarks(f, i.at, len(i.blocks))
	return out, errors.Join(err, f.Close())
}
