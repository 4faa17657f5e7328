package atrest

import (
	"bufio"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"io"
)

// A stream on disk:
//
//	format uint8 = 2 | generation uint32 | salt [32] | chunk …
//
// A chunk is up to 64 KiB of data, sealed by AES-256-GCM; all but the last are
// full. Its nonce is its number as 11 bytes, big endian, and a byte that is 1
// in the last chunk and else 0 (the STREAM construction). The key is of this
// one stream: HKDF-SHA-256 of the storage key's part for snapshots, with the
// salt, and as info what is the associated data of a record.
const (
	streamSalt   = 32
	streamHeader = 1 + 4 + streamSalt
	chunkBytes   = 64 << 10
)

var errStreamEnd = errors.New("it ends too early or too late")

// StreamSize answers how much data a stream of so many bytes holds.
func StreamSize(sealed int64) int64 {
	body := sealed - streamHeader
	if body < tagBytes {
		return 0
	}
	chunks := (body + chunkBytes + tagBytes - 1) / (chunkBytes + tagBytes)
	return body - chunks*tagBytes
}

func (k *Keys) streamAEAD(number uint32, salt []byte, kind string, about []byte) (cipher.AEAD, error) {
	g, known := k.generations[number]
	if !known {
		return nil, ErrUnknown
	}
	key, err := hkdf.Key(sha256.New, g.snapshots.Expose(), salt, string(k.bound(number, kind, about)), KeyBytes)
	if err != nil {
		return nil, err
	}
	defer clear(key)
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// chunkNonce counts chunks.
type chunkNonce [12]byte

func (n *chunkNonce) next() {
	binary.BigEndian.PutUint64(n[3:11], binary.BigEndian.Uint64(n[3:11])+1) // 2^64 chunks are not to be had
}

// SealStream answers a writer that seals into w, newest generation. What is
// written is complete only after its Close, which leaves w open.
func (k *Keys) SealStream(w io.Writer, kind string, about []byte) (io.WriteCloser, error) {
	head := make([]byte, streamHeader)
	head[0] = recordFormat
	binary.BigEndian.PutUint32(head[1:], k.newest)
	salt := head[1+4:]
	if _, err := rand.Read(salt); err != nil {
		return nil, err
	}
	aead, err := k.streamAEAD(k.newest, salt, kind, about)
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(head); err != nil {
		return nil, err
	}
	return &sealer{w: w, aead: aead, chunk: make([]byte, 0, chunkBytes+tagBytes)}, nil
}

type sealer struct {
	w     io.Writer
	aead  cipher.AEAD
	nonce chunkNonce
	chunk []byte
	err   error
	done  bool
}

// Write implements io.Writer.
func (s *sealer) Write(p []byte) (int, error) {
	written := 0
	for s.err == nil && len(p) > 0 {
		if len(s.chunk) == chunkBytes {
			s.flush()
			continue
		}
		n := min(len(p), chunkBytes-len(s.chunk))
		s.chunk = append(s.chunk, p[:n]...)
		p, written = p[n:], written+n
	}
	return written, s.err
}

func (s *sealer) flush() {
	sealed := s.aead.Seal(s.chunk[:0], s.nonce[:], s.chunk, nil)
	_, s.err = s.w.Write(sealed)
	s.nonce.next()
	s.chunk = s.chunk[:0]
}

// Close seals the last chunk.
func (s *sealer) Close() error {
	if s.done || s.err != nil {
		return s.err
	}
	s.done = true
	s.nonce[11] = 1
	s.flush()
	return s.err
}

// OpenStream answers a reader of what was sealed with the same kind and about,
// on this node of this cluster. It hands out nothing that it has not checked,
// and io.EOF only behind the last chunk and with nothing after it.
func (k *Keys) OpenStream(r io.Reader, kind string, about []byte) (io.Reader, error) {
	head := make([]byte, streamHeader)
	if _, err := io.ReadFull(r, head); err != nil {
		return nil, short(err)
	}
	number, err := Generation(head)
	if err != nil {
		return nil, err
	}
	aead, err := k.streamAEAD(number, head[1+4:], kind, about)
	if err != nil {
		return nil, err
	}
	return &opener{r: bufio.NewReaderSize(r, chunkBytes+tagBytes+1), aead: aead, sealed: make([]byte, chunkBytes+tagBytes)}, nil
}

// short is what an early end of the file is called; other errors are the
// disk's.
func short(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errStreamEnd
	}
	return err
}

type opener struct {
	r      *bufio.Reader
	aead   cipher.AEAD
	nonce  chunkNonce
	sealed []byte
	open   []byte // of the chunk at hand, not handed out yet
	last   bool
	err    error
}

// Read implements io.Reader.
func (o *opener) Read(p []byte) (int, error) {
	for len(o.open) == 0 {
		if o.err == nil {
			o.next()
		}
		if o.err != nil {
			return 0, o.err
		}
	}
	n := copy(p, o.open)
	o.open = o.open[n:]
	return n, nil
}

func (o *opener) next() {
	if o.last {
		o.err = io.EOF
		return
	}
	n, err := io.ReadFull(o.r, o.sealed)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		o.err = short(err)
		return
	}
	if _, err := o.r.Peek(1); err != nil {
		if !errors.Is(err, io.EOF) {
			o.err = err
			return
		}
		o.last, o.nonce[11] = true, 1
	}
	o.open, err = o.aead.Open(o.sealed[:0], o.nonce[:], o.sealed[:n], nil)
	if err != nil {
		o.err = ErrChanged
		return
	}
	o.nonce.next()
}
