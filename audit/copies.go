package audit

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/strongroom/strongroom/internal/durable"
	"github.com/strongroom/strongroom/internal/fault"
	"github.com/strongroom/strongroom/internal/names"
)

// Copies are this node's copies of the chains of other nodes, and of those
// that it wrote itself before it lost its disk:
//
//	<dir>/copies/<node>/<first 16 characters of the chain's id>/audit-….jsonl
//
// It is safe for concurrent use.
type Copies struct {
	cfg    CopiesConfig
	disk   disk
	dir    string
	lock   *os.File
	copied atomic.Uint64

	mu     sync.Mutex
	chains map[place]*Copy
	broken map[place]string // why no more is taken
	closed bool
}

// CopiesConfig describes where copies are kept.
type CopiesConfig struct {
	Dir          string // of the node's own trail
	MinFreeBytes int64  // what the own trail needs; copies leave twice as much
	KeepPlain    bool   // full files are not compressed
	Logger       *slog.Logger
}

// place is where a copy is kept.
type place struct{ node, short string }

func placeOf(node string, id ChainID) place { return place{node, id.String()[:chainIDChars]} }

// BrokenCopy is a copy that takes no more, as it would not be one.
type BrokenCopy struct {
	Node   string
	Chain  string // first 16 characters of its id
	Reason string
}

// MaxChains is how many chains of one node are kept. A node begins another
// when it has lost its disk; a person moves old ones away.
const MaxChains = 16

const copiesName = "copies"

// OpenCopies locks the folder. Load reads what is in it.
func OpenCopies(cfg CopiesConfig) (*Copies, error) { return openCopies(cfg, realDisk()) }

func openCopies(cfg CopiesConfig, d disk) (*Copies, error) {
	if cfg.Dir == "" {
		return nil, errors.New("audit: no folder")
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	dir := filepath.Join(cfg.Dir, copiesName)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("audit: %w", err)
	}
	lock, err := lockDir(dir)
	if err != nil {
		return nil, err
	}
	return &Copies{cfg: cfg, disk: d, dir: dir, lock: lock, chains: map[place]*Copy{}, broken: map[place]string{}}, nil
}

// Load reads and checks every copy, a second per GiB. One that is not what was
// written is kept out and said; it hinders no other.
func (c *Copies) Load(ctx context.Context) error {
	nodes, err := os.ReadDir(c.dir)
	if err != nil {
		return fmt.Errorf("audit: %w", err)
	}
	for _, node := range nodes {
		if _, err := names.ParseName(node.Name()); err != nil || !node.IsDir() {
			continue // the lock, and what a person left here
		}
		chains, err := os.ReadDir(filepath.Join(c.dir, node.Name()))
		if err != nil {
			return fmt.Errorf("audit: %w", err)
		}
		for _, chain := range chains {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if short := chain.Name(); chain.IsDir() && isShort(short) {
				c.load(place{node.Name(), short})
			}
		}
	}
	return nil
}

func isShort(text string) bool {
	return len(text) == chainIDChars && strings.Trim(text, "0123456789abcdef") == ""
}

func (c *Copies) load(at place) {
	loaded, err := openCopy(c.folder(at), at.node, c.disk, c.cfg.MinFreeBytes)
	if err == nil && loaded != nil && placeOf(at.node, loaded.id) != at {
		err = errors.Join(&BrokenError{loaded.segments[0].path, 1, 1, "the folder is not named after this chain"}, loaded.close())
	}
	if err != nil {
		c.breakAt(at, err)
		return
	}
	if loaded == nil {
		return // it begins with the first event
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		_ = loaded.close() // nothing was written to it
		return
	}
	c.chains[at] = loaded
}

func (c *Copies) folder(at place) string { return filepath.Join(c.dir, at.node, at.short) }

// Take adds events to the copy of a chain, and begins one where there is none.
// See Copy.Take: events that do not fit are kept out, and no more is taken of
// that chain until the node is started again.
func (c *Copies) Take(node string, id ChainID, run Lines) error {
	if _, err := names.ParseName(node); err != nil {
		return fault.Invalid("node", "%v", err)
	}
	at := placeOf(node, id)
	to, err := c.writable(at, id)
	if err != nil {
		return err
	}
	err = to.Take(run)
	var fork *ForkError
	switch {
	case err == nil:
		c.copied.Add(uint64(run.Count))
	case errors.As(err, &fork):
		c.breakAt(at, err)
	}
	return err
}

// writable answers the copy at a place, which is made if need be.
func (c *Copies) writable(at place, id ChainID) (*Copy, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, fault.New(fault.AuditUnavailable, "the copies of audit trails are closed")
	}
	if reason, broken := c.broken[at]; broken {
		return nil, &ForkError{at.node, 0, reason}
	}
	if to := c.chains[at]; to != nil {
		if to.id != id {
			return nil, &ForkError{at.node, 1, "another chain has an id that begins alike"}
		}
		return to, nil
	}
	of := 0
	for other := range c.chains {
		if other.node == at.node {
			of++
		}
	}
	if of >= MaxChains {
		return nil, paused(nil, fmt.Sprintf("there are %d chains of node %s; move the folders of old ones away", of, at.node))
	}
	folder := c.folder(at)
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return nil, paused(err, reasonOf(err))
	}
	if err := errors.Join(durable.SyncDir(filepath.Dir(folder)), durable.SyncDir(c.dir)); err != nil {
		return nil, paused(err, reasonOf(err))
	}
	c.chains[at] = newCopy(folder, at.node, id, c.disk, c.cfg.MinFreeBytes)
	return c.chains[at], nil
}

// Begin begins the copy of a chain whose first events are not kept any more
// by who has it: base stands for them. A copy that ends before is kept beside,
// in a folder with another name; it verifies alone.
func (c *Copies) Begin(node string, id ChainID, base []byte) error {
	b, of, err := decodePruned(base)
	if err != nil {
		return fmt.Errorf("audit: what should stand for events that are not kept any more %w", err)
	}
	if of != node || b.Chain != id {
		return errors.New("audit: what should stand for events that are not kept any more is of another chain")
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	at := placeOf(node, id)
	if _, broken := c.broken[at]; broken || c.closed {
		return fault.New(fault.AuditUnavailable, "the copy takes no more")
	}
	folder := c.folder(at)
	if old := c.chains[at]; old != nil {
		end := old.Settled().Sequence
		if end >= b.Sequence {
			return errHeld
		}
		if err := old.close(); err != nil {
			return err
		}
		delete(c.chains, at)
		if err := os.Rename(folder, fmt.Sprintf("%s-to-%d", folder, end)); err != nil {
			return paused(err, reasonOf(err))
		}
	}
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return paused(err, reasonOf(err))
	}
	if err := errors.Join(durable.SyncDir(filepath.Dir(folder)), durable.SyncDir(c.dir), b.write(folder, node)); err != nil {
		return paused(err, reasonOf(err))
	}
	to := newCopy(folder, node, id, c.disk, c.cfg.MinFreeBytes)
	to.pruned, to.settled = b, b.start(node)
	c.chains[at] = to
	return nil
}

// Refuse notes that the copy of a chain and the chain have parted: no more is
// taken of it.
func (c *Copies) Refuse(node string, id ChainID, reason error) { c.breakAt(placeOf(node, id), reason) }

// breakAt notes that no more is taken of a chain.
func (c *Copies) breakAt(at place, reason error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, said := c.broken[at]; said {
		return
	}
	c.broken[at] = reason.Error()
	c.cfg.Logger.Error("a copy of an audit trail is broken or was offered what does not fit; no more is taken of it", "member", at.node, "chain", at.short, "error", reason)
}

// Find answers the copy of a chain, nil if there is none.
func (c *Copies) Find(node string, id ChainID) *Copy {
	c.mu.Lock()
	defer c.mu.Unlock()
	if of := c.chains[placeOf(node, id)]; of != nil && of.id == id && of.Settled().Sequence > 0 {
		return of
	}
	return nil
}

// All answers every copy that has an event, in order of node and id.
func (c *Copies) All() []*Copy {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := make([]*Copy, 0, len(c.chains))
	for _, of := range c.chains {
		if of.Settled().Sequence > 0 {
			out = append(out, of)
		}
	}
	slices.SortFunc(out, func(a, b *Copy) int {
		return cmp.Or(strings.Compare(a.node, b.node), bytes.Compare(a.id[:], b.id[:]))
	})
	return out
}

// Broken answers which copies take no more, in order.
func (c *Copies) Broken() []BrokenCopy {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := make([]BrokenCopy, 0, len(c.broken))
	for at, reason := range c.broken {
		out = append(out, BrokenCopy{at.node, at.short, reason})
	}
	slices.SortFunc(out, func(a, b BrokenCopy) int {
		return cmp.Or(strings.Compare(a.Node, b.Node), strings.Compare(a.Chain, b.Chain))
	})
	return out
}

// Takes reports whether more may be taken of a chain.
func (c *Copies) Takes(node string, id ChainID) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, broken := c.broken[placeOf(node, id)]
	return !broken
}

// Seal compresses the full files of all copies, until ctx ends. What cannot be
// sealed stays as it is.
func (c *Copies) Seal(ctx context.Context) {
	if c.cfg.KeepPlain {
		return
	}
	for _, one := range c.All() {
		if err := one.sealFull(ctx.Done()); err != nil && ctx.Err() == nil {
			c.cfg.Logger.Warn("a full file of a copy of an audit trail could not be compressed; it is tried again", "member", one.node, "error", err)
		}
	}
}

// Copied answers how many events were copied since the start.
func (c *Copies) Copied() uint64 { return c.copied.Load() }

// Node answers whose chain it is.
func (c *Copy) Node() string { return c.node }

// ID answers which chain it is.
func (c *Copy) ID() ChainID { return c.id }

// Close lets go of all copies. Nothing is lost: all is on the disk.
func (c *Copies) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil
	}
	c.closed = true
	var errs []error
	for _, of := range c.chains {
		errs = append(errs, of.close())
	}
	return errors.Join(append(errs, c.lock.Close())...)
}
