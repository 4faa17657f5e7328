package atrest

import (
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/strongroom/strongroom/internal/secret"
)

// A record on disk:
//
//	format uint8 = 2 | generation uint32 | nonce [24] | XAES-256-GCM box
//
// The associated data of the box is
//
//	format | generation | kind | cluster | node | about
//
// with each of the last four after its length as uint32; numbers are big
// endian. kind and about say what the record is and where it belongs, so that
// it opens nowhere else. Format 1 was a checksum over data in the clear, of
// builds before the first release.
const (
	recordFormat = 2
	recordHeader = 1 + 4 + xaesNonce
	tagBytes     = 16

	// Overhead is by how much a record is longer than what is in it.
	Overhead = recordHeader + tagBytes

	// KeyBytes is the length of a storage key.
	KeyBytes = 32
)

// Why a record does not open. None says what is in it.
var (
	ErrShort   = errors.New("it is too short")
	ErrFormat  = errors.New("its format is not one that this version reads")
	ErrUnknown = errors.New("it is sealed under a storage key that this node does not have")
	ErrChanged = errors.New("it does not open: it was changed, or belongs elsewhere")
)

// Keys are the storage keys of one node, open. The newest generation seals,
// all of them open. Keys never change and are safe for concurrent use.
//
// A storage key itself is wiped by New. What is derived from it stays in the
// memory of this process as long as the node runs, like the state that it
// protects.
type Keys struct {
	cluster, node string
	newest        uint32
	generations   map[uint32]*generation
}

type generation struct {
	records   *xaes
	snapshots secret.Bytes
}

// New takes the storage keys of a node by their generation, 1 or more, and
// wipes them.
func New(cluster, node string, keys map[uint32]secret.Bytes) (*Keys, error) {
	k := &Keys{cluster: cluster, node: node, generations: map[uint32]*generation{}}
	for number, key := range keys {
		defer key.Wipe()
		if number == 0 || key.Len() != KeyBytes {
			return nil, fmt.Errorf("the storage key of generation %d has %d bytes; it must have %d", number, key.Len(), KeyBytes)
		}
		g, err := derive(key)
		if err != nil {
			return nil, err
		}
		k.generations[number] = g
		k.newest = max(k.newest, number)
	}
	if k.newest == 0 {
		return nil, errors.New("there is no storage key")
	}
	return k, nil
}

func derive(key secret.Bytes) (*generation, error) {
	records, err := hkdf.Expand(sha256.New, key.Expose(), "strongroom records at rest v1", KeyBytes)
	if err != nil {
		return nil, err
	}
	defer clear(records)
	snapshots, err := hkdf.Expand(sha256.New, key.Expose(), "strongroom snapshots at rest v1", KeyBytes)
	if err != nil {
		return nil, err
	}
	x, err := newXAES(records)
	if err != nil {
		return nil, err
	}
	return &generation{records: x, snapshots: secret.New(snapshots)}, nil
}

// Newest answers the generation that seals.
func (k *Keys) Newest() uint32 { return k.newest }

// Generations answers all generations, in order.
func (k *Keys) Generations() []uint32 {
	var out []uint32
	for number := range k.generations {
		out = append(out, number)
	}
	slices.Sort(out)
	return out
}

// Node answers whose keys they are.
func (k *Keys) Node() (cluster, node string) { return k.cluster, k.node }

// Seal answers data as a record of this kind and place.
func (k *Keys) Seal(kind string, about, data []byte) ([]byte, error) {
	out, aead, nonce, err := k.begin(len(data))
	if err != nil {
		return nil, err
	}
	return aead.Seal(out, nonce, data, k.bound(k.newest, kind, about)), nil
}

// Sign answers data, in the clear, with a tag before it: what needs to be
// believed, and read by others too.
func (k *Keys) Sign(kind string, data []byte) ([]byte, error) {
	out, aead, nonce, err := k.begin(len(data))
	if err != nil {
		return nil, err
	}
	return append(aead.Seal(out, nonce, nil, k.bound(k.newest, kind, data)), data...), nil
}

func (k *Keys) begin(room int) (out []byte, aead cipher.AEAD, nonce []byte, err error) {
	out = make([]byte, recordHeader, Overhead+room)
	out[0] = recordFormat
	binary.BigEndian.PutUint32(out[1:], k.newest)
	nonce = out[1+4 : recordHeader]
	if _, err := rand.Read(nonce); err != nil {
		return nil, nil, nil, err
	}
	aead, err = k.generations[k.newest].records.under(nonce)
	return out, aead, nonce[12:], err
}

// Open answers what was sealed with the same kind and about, on this node of
// this cluster; else one of the errors above.
func (k *Keys) Open(kind string, about, record []byte) ([]byte, error) {
	return k.open(kind, about, record)
}

// Verify answers what was signed with the same kind.
func (k *Keys) Verify(kind string, record []byte) ([]byte, error) {
	if len(record) < Overhead {
		return nil, ErrShort
	}
	data := record[Overhead:]
	if _, err := k.open(kind, data, record[:Overhead]); err != nil {
		return nil, err
	}
	return data, nil
}

// Unverified answers what was signed, without a look at its tag: for a node
// whose storage key is lost.
func Unverified(record []byte) ([]byte, error) {
	switch {
	case len(record) < Overhead:
		return nil, ErrShort
	case record[0] != recordFormat:
		return nil, ErrFormat
	}
	return record[Overhead:], nil
}

func (k *Keys) open(kind string, about, record []byte) ([]byte, error) {
	number, err := Generation(record)
	if err != nil {
		return nil, err
	}
	if len(record) < Overhead {
		return nil, ErrShort
	}
	g, known := k.generations[number]
	if !known {
		return nil, ErrUnknown
	}
	nonce := record[1+4 : recordHeader]
	aead, err := g.records.under(nonce)
	if err != nil {
		return nil, err
	}
	data, err := aead.Open(nil, nonce[12:], record[recordHeader:], k.bound(number, kind, about))
	if err != nil {
		return nil, ErrChanged
	}
	return data, nil
}

// Generation answers which storage key a record, or the beginning of a
// snapshot, says that it is sealed under.
func Generation(record []byte) (uint32, error) {
	switch {
	case len(record) == 0:
		return 0, ErrShort
	case record[0] != recordFormat:
		return 0, fmt.Errorf("%w: it is %d, and %d is read", ErrFormat, record[0], recordFormat)
	case len(record) < 1+4:
		return 0, ErrShort
	}
	return binary.BigEndian.Uint32(record[1:]), nil
}

// bound is the associated data.
func (k *Keys) bound(number uint32, kind string, about []byte) []byte {
	out := make([]byte, 0, 5+16+len(kind)+len(k.cluster)+len(k.node)+len(about))
	out = append(out, recordFormat)
	out = binary.BigEndian.AppendUint32(out, number)
	for _, part := range []string{kind, k.cluster, k.node} {
		out = binary.BigEndian.AppendUint32(out, uint32(len(part)))
		out = append(out, part...)
	}
	out = binary.BigEndian.AppendUint32(out, uint32(len(about)))
	return append(out, about...)
}
