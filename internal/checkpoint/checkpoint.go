// Package checkpoint is what an audit trail says of itself under a signature:
// so many events, in a Merkle tree with this root. The form is the checkpoint
// of C2SP tlog-checkpoint, a signed note, over a tree with the hashes of RFC
// 6962, so that tools which are not ours can read and verify it.
//
//	strongroom/<cluster>/<node>/<chain>
//	<number of events>
//	<root, base64>
//	head <SHA-256 of the newest event's line, hex>
//	time <RFC 3339, UTC, milliseconds>
//
//	— strongroom/<cluster> <base64 of key id and signature>
package checkpoint

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/tlog"
)

// Checkpoint is one statement about one chain.
type Checkpoint struct {
	Cluster string
	Node    string
	Chain   string // hex SHA-256 of the first event's line: tells a chain from another one of the same node
	Size    uint64 // events, so also the sequence of the newest; at least 1
	Root    tlog.Hash
	Head    [sha256.Size]byte // of the newest event's line, as the next one links to it
	Time    time.Time         // of the signature, UTC to the millisecond
}

const (
	scheme     = "strongroom"
	timeLayout = "2006-01-02T15:04:05.000Z"
	maxText    = 2048
)

// Origin names the chain: the first line.
func (c *Checkpoint) Origin() string {
	return strings.Join([]string{scheme, c.Cluster, c.Node, c.Chain}, "/")
}

// KeyName is the name under which the cluster signs.
func KeyName(cluster string) string { return scheme + "/" + cluster }

// Text writes what is signed.
func (c *Checkpoint) Text() string {
	return fmt.Sprintf("%s\n%d\n%s\nhead %x\ntime %s\n", c.Origin(), c.Size, base64.StdEncoding.EncodeToString(c.Root[:]), c.Head, c.Time.UTC().Format(timeLayout))
}

// Parse reads what Text writes, and nothing else: a checkpoint has one
// spelling.
func Parse(text string) (Checkpoint, error) {
	var c Checkpoint
	lines := strings.Split(text, "\n")
	if len(text) > maxText || len(lines) != 6 || lines[5] != "" {
		return c, fmt.Errorf("must have five lines: origin, size, root, head and time")
	}
	parts := strings.Split(lines[0], "/")
	if len(parts) != 4 || parts[0] != scheme || parts[1] == "" || parts[2] == "" || !isHex(parts[3]) {
		return c, fmt.Errorf("origin must be %s/CLUSTER/NODE/CHAIN", scheme)
	}
	c.Cluster, c.Node, c.Chain = parts[1], parts[2], parts[3]
	var err error
	if c.Size, err = strconv.ParseUint(lines[1], 10, 63); err != nil || c.Size == 0 {
		return c, fmt.Errorf("size must be the number of events, from 1")
	}
	root, err := base64.StdEncoding.DecodeString(lines[2])
	if err != nil || len(root) != tlog.HashSize {
		return c, fmt.Errorf("root must be a SHA-256 in base64")
	}
	copy(c.Root[:], root)
	head, err := hex.DecodeString(strings.TrimPrefix(lines[3], "head "))
	if err != nil || len(head) != sha256.Size {
		return c, fmt.Errorf("head must be a SHA-256 in hex")
	}
	copy(c.Head[:], head)
	if c.Time, err = time.Parse(timeLayout, strings.TrimPrefix(lines[4], "time ")); err != nil {
		return c, fmt.Errorf("time must be in RFC 3339, UTC, milliseconds")
	}
	if c.Text() != text {
		return c, fmt.Errorf("is not in the form that this release writes")
	}
	return c, nil
}

func isHex(text string) bool {
	raw, err := hex.DecodeString(text)
	return err == nil && len(raw) == sha256.Size
}
