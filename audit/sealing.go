package audit

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/strongroom/strongroom/internal/durable"
)

// sealRetry is how long after a failure, of room for instance, sealing is
// tried again.
const sealRetry = time.Minute

// load finds the files of the chain, and clears away what a killed process
// left: halves of files, events that are pruned, lines that are sealed too.
func (s *Store) load() error {
	if err := removeHalves(s.dir); err != nil {
		return err
	}
	b, node, err := readPruned(s.dir)
	if err != nil {
		return err
	}
	if b.Sequence > 0 && node != s.node {
		return fmt.Errorf("audit: %s is of node %q, and this is the trail of node %q", filepath.Join(s.dir, prunedName), node, s.node)
	}
	found, err := listSegments(s.dir)
	if err != nil {
		return err
	}
	s.pruned, s.settled = b, b.start(s.node)
	for i, one := range found {
		switch {
		case one.first <= b.Sequence: // pruning goes by whole files, and had begun
			err = os.Remove(one.path)
		case i+1 < len(found) && found[i+1].first == one.first:
			err = sameLines(one, found[i+1], s.node)
			if err == nil {
				err = os.Remove(one.path)
			}
		default:
			s.segments = append(s.segments, one)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func removeHalves(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("audit: %w", err)
	}
	for _, entry := range entries {
		if strings.HasSuffix(entry.Name(), ".tmp") {
			if err := os.Remove(filepath.Join(dir, entry.Name())); err != nil {
				return fmt.Errorf("audit: %w", err)
			}
		}
	}
	return nil
}

// sameLines holds a sealed segment against the plain one that it was made
// from.
func sameLines(plain, sealed segment, node string) error {
	before := chain{node: node}
	if err := sealed.sealed.before(&before); err != nil {
		return &BrokenError{sealed.path, 1, sealed.first, err.Error()}
	}
	a, b := before, before
	torn, err := plain.walk(&a, nil)
	if err != nil {
		return err
	}
	if _, err := sealed.walk(&b, nil); err != nil {
		return err
	}
	if a != b || torn != 0 {
		return &BrokenError{sealed.path, 1, sealed.first, "the sealed file holds other events than the plain one beside it"}
	}
	return nil
}

// keepSealed is the goroutine that compresses full segments. It fails nobody:
// what cannot be sealed stays as it is.
func (t *Trail) keepSealed() {
	defer t.wg.Done()
	retry := time.NewTicker(sealRetry)
	defer retry.Stop()
	for {
		if t.cfg.KeepPlain {
			return
		}
		if err := t.sealFull(t.quit); err != nil {
			t.cfg.Logger.Warn("a full file of the audit trail could not be compressed; it is tried again", "error", err)
		}
		select {
		case <-t.full:
		case <-retry.C:
		case <-t.quit:
			return
		}
	}
}

// sealFull seals all segments but the newest.
func (s *Store) sealFull(stop <-chan struct{}) error {
	for {
		s.mu.Lock()
		var next *segment
		for i := range s.segments[:max(0, len(s.segments)-1)] {
			if one := s.segments[i]; one.sealed == nil && one.count > 0 {
				next = &one
				break
			}
		}
		id := s.settled.id
		s.mu.Unlock()
		select {
		case <-stop:
			return nil
		default:
		}
		if next == nil {
			return nil
		}
		if err := s.seal(next, chain{s.node, next.first - 1, next.prev, id}, stop); err != nil {
			return err
		}
	}
}

// seal puts the sealed form of s, which begins after c, in its place.
func (s *Store) seal(plain *segment, c chain, stop <-chan struct{}) error {
	if plain.first == 1 {
		c.id = chain{}.id // it is not known before the first event
	}
	sealed, err := plain.sealTo(plain.path+sealedSuffix+".tmp", c, stop)
	if err != nil {
		return err
	}
	from := sealed.path
	sealed.path = strings.TrimSuffix(from, ".tmp")
	if err := os.Rename(from, sealed.path); err != nil {
		return err
	}
	if err := durable.SyncDir(s.dir); err != nil {
		return err
	}
	s.mu.Lock()
	for i := range s.segments {
		if s.segments[i].first == plain.first {
			s.segments[i] = sealed
		}
	}
	s.mu.Unlock()
	if err := os.Remove(plain.path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}
