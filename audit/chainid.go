package audit

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"

	"github.com/strongroom/strongroom/internal/fault"
)

// ChainID tells a chain from any other, also of the same node: the SHA-256 of
// the line of its first event, which holds a random id. A node that lost its
// disk and came back under its name begins a chain with another id.
type ChainID [sha256.Size]byte

// chainIDChars are how much of an id names a folder.
const chainIDChars = 16

// String is id in hex.
func (id ChainID) String() string { return hex.EncodeToString(id[:]) }

// ParseChainID reads what String writes.
func ParseChainID(text string) (ChainID, error) {
	var id ChainID
	if len(text) != hex.EncodedLen(len(id)) {
		return id, fmt.Errorf("must be the id of a chain: a SHA-256 in hex")
	}
	if _, err := hex.Decode(id[:], []byte(text)); err != nil || id.String() != text {
		return id, fmt.Errorf("must be the id of a chain: a SHA-256 in hex")
	}
	return id, nil
}

// ChainID answers the id of the chain. fault.NotFound: it has no event yet.
func (s *Store) ChainID(ctx context.Context) (ChainID, error) {
	s.mu.Lock()
	id := s.id
	if s.pruned.Sequence > 0 {
		id = s.pruned.Chain
	}
	s.mu.Unlock()
	if id != (ChainID{}) {
		return id, nil
	}
	hash, err := s.HashAt(ctx, 1)
	if err != nil {
		return ChainID{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.id = hash
	return s.id, nil
}

// HashAt answers the hash of an event that is on the disk. fault.NotFound: it
// is not there yet, or not kept any more.
func (s *Store) HashAt(ctx context.Context, sequence uint64) ([sha256.Size]byte, error) {
	var hash [sha256.Size]byte
	if sequence == 0 {
		return hash, nil // what the first event carries
	}
	if head := s.Settled(); head.Sequence == sequence {
		return head.Hash, nil
	}
	s.mu.Lock()
	gone := s.pruned
	s.mu.Unlock()
	if gone.Sequence == sequence {
		return gone.Hash, nil
	}
	run, err := s.Lines(ctx, sequence-1, 1)
	if err != nil {
		return hash, err
	}
	if run.Count == 0 {
		return hash, fault.New(fault.NotFound, "the event %d of the trail is not there yet", sequence)
	}
	run.All(func(_ uint64, line []byte) bool {
		hash = sum(line)
		return false
	})
	return hash, nil
}

// Follow reports whether these events come next after a head: the first of
// them carries its hash.
func (l Lines) Follow(head Head) bool {
	follows := false
	l.All(func(_ uint64, line []byte) bool {
		follows = bytes.HasPrefix(line, appendPrefix(nil, head.Node, head.Sequence+1, head.Hash))
		return false
	})
	return follows
}
