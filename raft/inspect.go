package raft

import (
	"errors"
	"fmt"
	"io"

	hraft "github.com/hashicorp/raft"
)

// Inspect hands all that is sealed in the data folder of a node, which is not
// running, to each, open: entries of the log, then snapshots. It changes
// nothing, and ends with the first error.
func Inspect(cfg Config, each func(what string, data []byte) error) (err error) {
	cfg = cfg.withDefaults()
	if err := cfg.checkStore(); err != nil {
		return err
	}
	d, err := openDataDir(cfg)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.close()) }()
	first, err := d.logs.FirstIndex()
	if err != nil {
		return err
	}
	last, err := d.logs.LastIndex()
	if err != nil {
		return err
	}
	var e hraft.Log
	for index := max(first, 1); index <= last; index++ {
		err := d.logs.read(index, &e)
		if errors.Is(err, hraft.ErrLogNotFound) {
			continue // covered by a snapshot that was installed
		}
		if err == nil {
			err = each(fmt.Sprintf("entry %d", index), e.Data)
		}
		if err != nil {
			return err
		}
	}
	snapshots, err := d.snaps.List()
	if err != nil {
		return err
	}
	for _, meta := range snapshots {
		_, r, err := d.snaps.Open(meta.ID)
		if err != nil {
			return err
		}
		state, err := io.ReadAll(r)
		if err := errors.Join(err, r.Close()); err != nil {
			return err
		}
		if err := each("snapshot "+meta.ID, state); err != nil {
			return err
		}
	}
	return nil
}
