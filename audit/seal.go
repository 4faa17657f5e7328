package audit

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"slices"
	"time"

	"github.com/klauspost/compress/zstd"
)

// A sealed segment is the lines of a segment that is full, compressed: one
// zstd frame for each block, so that a reader can begin at any, and at the end
// a frame that every tool skips, with the index. `zstdcat FILE` prints the
// lines.
//
//	frame … frame        of about 256 KiB of lines each, with checksums
//	5d 2a 4d 18 …        marks, in files that were sealed since there are any
//	5e 2a 4d 18 length   the head of a skippable frame, RFC 8878
//	{"v":1,…}\n          sealIndex
//	length "SRIX"        of the line before, four bytes, little end first
type seal struct {
	sealIndex
	blocks []block
	at     int64 // where the frames end, and the index begins
}

type sealIndex struct {
	V      int         `json:"v"`
	Node   string      `json:"node"`
	Chain  string      `json:"chain"` // hash of the chain's first event, hex, as all hashes here
	First  uint64      `json:"first"`
	Count  uint64      `json:"count"`
	Size   int64       `json:"size"`   // of the lines
	Prev   string      `json:"prev"`   // hash of the event before the first
	Last   string      `json:"last"`   // of the last event
	Packed string      `json:"packed"` // of all frames before the index
	Blocks []sealBlock `json:"blocks"`
}

type sealBlock struct {
	Sequence uint64 `json:"sequence"`
	Offset   int64  `json:"offset"`
	Packed   int64  `json:"packed"`
	Min      string `json:"min"`
	Max      string `json:"max"`
}

const (
	skippableMagic = 0x184d2a5e
	sealMagic      = "SRIX"
	sealTail       = 8
	maxSealIndex   = 64 << 20
)

// sealError is damage to a sealed file that its reader met.
type sealError struct{ reason string }

func (e *sealError) Error() string { return e.reason }

func damaged(format string, args ...any) error { return &sealError{fmt.Sprintf(format, args...)} }

// readSeal reads the index of a sealed segment. That the index is of the
// lines in it shows who reads them.
func readSeal(path string) (out *seal, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	var tail [sealTail]byte
	if st.Size() < sealTail {
		return nil, damaged("the file is too short for a sealed one")
	}
	if _, err := f.ReadAt(tail[:], st.Size()-sealTail); err != nil {
		return nil, err
	}
	length := int64(binary.LittleEndian.Uint32(tail[:]))
	at := st.Size() - sealTail - length - 8
	if string(tail[4:]) != sealMagic || length > maxSealIndex || at < 0 {
		return nil, damaged("the end of the sealed file is not its index: it was cut, or changed")
	}
	text := make([]byte, 8+length)
	if _, err := f.ReadAt(text, at); err != nil {
		return nil, err
	}
	s := &seal{at: at}
	if binary.LittleEndian.Uint32(text) != skippableMagic || int64(binary.LittleEndian.Uint32(text[4:])) != length+sealTail {
		return nil, damaged("the index of the sealed file does not begin where it should")
	}
	if err := s.decode(text[8:]); err != nil {
		return nil, err
	}
	return s, nil
}

func (s *seal) decode(text []byte) error {
	if err := json.Unmarshal(text, &s.sealIndex); err != nil || s.V != 1 {
		return damaged("the index of the sealed file cannot be read")
	}
	again, err := json.Marshal(s.sealIndex)
	if err != nil || !bytes.Equal(append(again, '\n'), text) {
		return damaged("the index of the sealed file is not in the form that the trail writes")
	}
	if s.Count == 0 || len(s.Blocks) == 0 || s.Blocks[0].Sequence != s.First || s.Blocks[0].Packed != 0 {
		return damaged("the index of the sealed file tells of nothing")
	}
	for i, b := range s.Blocks {
		min, errMin := time.Parse(timeLayout, b.Min)
		max, errMax := time.Parse(timeLayout, b.Max)
		if errMin != nil || errMax != nil || b.Packed >= s.at || i > 0 && (b.Sequence <= s.Blocks[i-1].Sequence || b.Packed <= s.Blocks[i-1].Packed || b.Offset <= s.Blocks[i-1].Offset) {
			return damaged("the index of the sealed file has blocks that are none")
		}
		s.blocks = append(s.blocks, block{b.Sequence, b.Offset, b.Packed, min, max})
	}
	return nil
}

// take fills s in from its index, and steps c over it, without reading the
// lines.
func (s *segment) take(c *chain) error {
	if err := s.follows(c); err != nil {
		return err
	}
	i := s.sealed
	last, err := hex.DecodeString(i.Last)
	if err != nil || len(last) != sha256.Size || i.First != s.first {
		return &BrokenError{s.path, 1, s.first, "the index of the sealed file is of another"}
	}
	if i.Node != c.node || i.Prev != hex.EncodeToString(c.hash[:]) {
		return &BrokenError{s.path, 1, s.first, "the sealed file does not carry the hash of the event before it: one of the two was changed"}
	}
	s.count, s.size, s.prev = i.Count, i.Size, c.hash
	n := len(i.blocks) - 1
	s.blocks, s.last = i.blocks[:n:n], i.blocks[n]
	s.min, s.max = s.last.min, s.last.max
	for _, b := range s.blocks {
		if b.min.Before(s.min) {
			s.min = b.min
		}
		if b.max.After(s.max) {
			s.max = b.max
		}
	}
	if c.sequence == 0 {
		id, err := hex.DecodeString(i.Chain)
		if err != nil || len(id) != sha256.Size {
			return &BrokenError{s.path, 1, s.first, "the index of the sealed file names no chain"}
		}
		copy(c.id[:], id)
	}
	c.sequence = s.end() - 1
	copy(c.hash[:], last)
	return nil
}

// holds compares index and marks with what was found in the lines: s as it was
// read, c after it.
func (i *seal) holds(s *segment, c *chain, torn int, found marks) error {
	kept, err := i.marks(s.path)
	if err != nil {
		return err
	}
	if kept != nil && !slices.EqualFunc(kept, found, bytes.Equal) {
		return damaged("the marks of the sealed file are not those of the events in it")
	}
	return i.holdsIndex(s, c, torn)
}

func (i *seal) holdsIndex(s *segment, c *chain, torn int) error {
	found := s.index(c)
	found.Packed = i.Packed // unpack has compared it
	for n := range found.Blocks {
		if n < len(i.Blocks) {
			found.Blocks[n].Packed = i.Blocks[n].Packed
		}
	}
	want, err := json.Marshal(i.sealIndex)
	if err != nil {
		return err
	}
	got, err := json.Marshal(found)
	if err != nil {
		return err
	}
	if torn > 0 || !bytes.Equal(want, got) {
		return damaged("the index of the sealed file is not that of the events in it")
	}
	s.adopt(i)
	return nil
}

// adopt gives s, which was read, the places of its blocks in the file.
func (s *segment) adopt(i *seal) {
	n := len(i.blocks) - 1
	s.blocks, s.last = i.blocks[:n:n], i.blocks[n]
}

// index is what s, read to its end at c, has to say of itself.
func (s *segment) index(c *chain) sealIndex {
	out := sealIndex{
		V: 1, Node: c.node, Chain: hex.EncodeToString(c.id[:]), First: s.first, Count: s.count, Size: s.size,
		Prev: hex.EncodeToString(s.prev[:]), Last: hex.EncodeToString(c.hash[:]),
	}
	for _, b := range append(s.blocks[:len(s.blocks):len(s.blocks)], s.last) {
		out.Blocks = append(out.Blocks, sealBlock{b.sequence, b.offset, b.packed, b.min.Format(timeLayout), b.max.Format(timeLayout)})
	}
	return out
}

// unpack answers the lines of f from the frame at packed. It closes f. whole:
// it is read to its end, and what was packed must be what was sealed.
func (i *seal) unpack(f *os.File, packed int64, whole bool) (io.ReadCloser, error) {
	var frames io.Reader = io.NewSectionReader(f, packed, i.at-packed)
	u := &unpacked{file: f}
	if whole {
		u.sum, u.want = sha256.New(), i.Packed
		frames = io.TeeReader(frames, u.sum)
	}
	d, err := zstd.NewReader(frames, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(8<<20))
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	u.lines = d
	return u, nil
}

type unpacked struct {
	lines *zstd.Decoder
	file  *os.File
	sum   hash.Hash
	want  string
}

// Read implements io.Reader. What cannot be unpacked is a *sealError.
func (u *unpacked) Read(p []byte) (int, error) {
	n, err := u.lines.Read(p)
	switch {
	case err == io.EOF && u.sum != nil && hex.EncodeToString(u.sum.Sum(nil)) != u.want:
		return n, damaged("the sealed file was changed")
	case err != nil && err != io.EOF:
		return n, damaged("the sealed file cannot be unpacked from here on: %v", err)
	}
	return n, err
}

// Close implements io.Closer.
func (u *unpacked) Close() error {
	u.lines.Close()
	return u.file.Close()
}

// sealTo writes a sealed copy of the plain segment s, which begins after c, to
// path, and reads it back. On an error there is no file. stop ends it early.
func (s *segment) sealTo(path string, c chain, stop <-chan struct{}) (out segment, err error) {
	to, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_RDWR, 0o600)
	if err != nil {
		return out, err
	}
	defer func() {
		if err = errors.Join(err, to.Close()); err != nil {
			err = errors.Join(err, os.Remove(path))
		}
	}()
	end, copied := c, segment{path: s.path, first: s.first}
	p := &packer{to: bufio.NewWriter(to), sum: sha256.New(), stop: stop}
	if p.enc, err = zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderCRC(true), zstd.WithLowerEncoderMem(true)); err != nil {
		return out, err
	}
	torn, err := copied.walk(&end, func(line []byte) error { return p.line(&copied, line) })
	if err == nil && (torn != 0 || copied.size != s.size || copied.count != s.count) {
		err = fmt.Errorf("it has %d bytes, and %d were written", copied.size+torn, s.size)
	}
	if err == nil {
		err = p.finish(copied.index(&end))
	}
	if err = errors.Join(err, to.Sync()); err != nil {
		return out, err
	}
	sealed, err := readSeal(path)
	if err != nil {
		return out, err
	}
	out = segment{path: path, first: s.first, sealed: sealed}
	_, err = out.walk(&c, nil)
	if err == nil && c != end {
		err = errors.New("what was sealed reads otherwise")
	}
	return out, err
}

// packer writes frames as lines come.
type packer struct {
	enc    *zstd.Encoder
	to     *bufio.Writer
	sum    hash.Hash
	at     int64
	block  []byte
	starts []int64
	marks  marker
	stop   <-chan struct{}
}

// line takes the next line of s, which s does not count yet.
func (p *packer) line(s *segment, line []byte) error {
	begins := s.begins()
	p.marks.line(line, begins)
	if begins {
		if err := p.flush(); err != nil {
			return err
		}
		p.starts = append(p.starts, p.at)
	}
	p.block = append(append(p.block, line...), '\n')
	return nil
}

func (p *packer) flush() error {
	select {
	case <-p.stop:
		return errors.New("the trail is being closed")
	default:
	}
	if len(p.block) == 0 {
		return nil
	}
	frame := p.enc.EncodeAll(p.block, nil)
	p.block = p.block[:0]
	return p.write(frame)
}

func (p *packer) write(frame []byte) error {
	p.sum.Write(frame)
	p.at += int64(len(frame))
	_, err := p.to.Write(frame)
	return err
}

func (p *packer) finish(i sealIndex) error {
	if err := errors.Join(p.flush(), p.enc.Close()); err != nil {
		return err
	}
	if err := p.write(p.marks.finish().frame()); err != nil {
		return err
	}
	i.Packed = hex.EncodeToString(p.sum.Sum(nil))
	for n := range i.Blocks {
		i.Blocks[n].Packed = p.starts[n]
	}
	text, err := json.Marshal(i)
	if err != nil {
		return err
	}
	text = append(text, '\n')
	out := binary.LittleEndian.AppendUint32(nil, skippableMagic)
	out = binary.LittleEndian.AppendUint32(out, uint32(len(text)+sealTail))
	out = binary.LittleEndian.AppendUint32(append(out, text...), uint32(len(text)))
	_, err = p.to.Write(append(out, sealMagic...))
	return errors.Join(err, p.to.Flush())
}

// before sets c to where the sealed segment begins, as its index says.
func (i *seal) before(c *chain) error {
	prev, errPrev := hex.DecodeString(i.Prev)
	id, errID := hex.DecodeString(i.Chain)
	if errPrev != nil || errID != nil || len(prev) != sha256.Size || len(id) != sha256.Size || i.First == 0 {
		return damaged("the index of the sealed file has hashes that are none")
	}
	c.sequence = i.First - 1
	copy(c.hash[:], prev)
	if c.sequence > 0 {
		copy(c.id[:], id)
	}
	return nil
}
