package audit

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/strongroom/strongroom/internal/durable"
)

// pruned is what stands for the oldest events of a chain once they are not kept
// any more: where the chain goes on, and the edge of the tree there. The zero// one stands for nothing. It is written before the events are removed, and
// any checkpoint over more events vouches for it: the root comes out right
// only with the right edge.
type pruned struct {
	Chain    [sha256.Size]byte // of the first event's line
	Sequence uint64            // of the newest event that is not kept
	Hash     [sha256.Size]byte
	Time     time.Time // until when those events were
	Edge     frontier
}

const prunedName = "pruned.json"

// prunedFile is pruned on the disk: one line of JSON.
type prunedFile struct {
	V        int      `json:"v"`
	Node     string   `json:"node"`
	Chain    string   `json:"chain"`
	Sequence uint64   `json:"sequence"`
	Hash     string   `json:"hash"`
	Time     string   `json:"time"`
	Edge     []string `json:"edge"` // base64, from left to right
}

// node answers the hash of a subtree at the edge.
func (b *pruned) node(level int, n uint64) (tlog.Hash, bool) {
	for _, s := range b.Edge {
		if s.level == level && s.n == n {
			return s.hash, true
		}
	}
	return tlog.Hash{}, false
}

// start is where the chain of node goes on after b.
func (b *pruned) start(node string) chain { return chain{node, b.Sequence, b.Hash, b.Chain} }

func (b *pruned) encode(node string) ([]byte, error) {
	file := prunedFile{V: 1, Node: node, Chain: hex.EncodeToString(b.Chain[:]), Sequence: b.Sequence, Hash: hex.EncodeToString(b.Hash[:]), Time: b.Time.UTC().Format(timeLayout)}
	for _, s := range b.Edge {
		file.Edge = append(file.Edge, base64.StdEncoding.EncodeToString(s.hash[:]))
	}
	text, err := json.Marshal(file)
	return append(text, '\n'), err
}

// readPruned answers the pruned part of dir and whose it is, and a zero one if there
// is none.
func readPruned(dir string) (b pruned, node string, err error) {
	path := filepath.Join(dir, prunedName)
	text, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return pruned{}, "", nil
	}
	if err != nil {
		return pruned{}, "", fmt.Errorf("audit: %w", err)
	}
	b, node, err = decodePruned(text)
	if err != nil {
		return pruned{}, "", fmt.Errorf("audit: %s stands for the events that are not kept any more, and %w; bring back the file as it was, from a copy on another node for instance", path, err)
	}
	return b, node, nil
}

func decodePruned(text []byte) (pruned, string, error) {
	var file prunedFile
	if err := json.Unmarshal(text, &file); err != nil {
		return pruned{}, "", fmt.Errorf("cannot be read: %w", err)
	}
	b := pruned{Sequence: file.Sequence}
	hash, err := hex.DecodeString(file.Hash)
	if err != nil || len(hash) != len(b.Hash) || file.V != 1 || file.Sequence == 0 {
		return pruned{}, "", errors.New("is not of this release")
	}
	copy(b.Hash[:], hash)
	id, err := hex.DecodeString(file.Chain)
	if err != nil || len(id) != len(b.Chain) {
		return pruned{}, "", errors.New("names no chain")
	}
	copy(b.Chain[:], id)
	if b.Time, err = time.Parse(timeLayout, file.Time); err != nil {
		return pruned{}, "", errors.New("has no time")
	}
	needed := levels(0, b.Sequence)
	if len(needed) != len(file.Edge) {
		return pruned{}, "", errors.New("has an edge of another size")
	}
	for i, level := range needed {
		raw, err := base64.StdEncoding.DecodeString(file.Edge[i])
		if err != nil || len(raw) != hashSize {
			return pruned{}, "", errors.New("has a hash that is none")
		}
		b.Edge.add(level, tlog.Hash(raw))
	}
	again, err := b.encode(file.Node)
	if err != nil || string(again) != string(text) {
		return pruned{}, "", errors.New("is not in the form that the trail writes")
	}
	return b, file.Node, nil
}

// write puts b in the place of an earlier one, durably.
func (b *pruned) write(dir, node string) error {
	text, err := b.encode(node)
	if err != nil {
		return err
	}
	return durable.Replace(filepath.Join(dir, prunedName), text)
}
