package raft

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/strongroom/strongroom/internal/atrest"

	"github.com/strongroom/strongroom/internal/durable"
)

// The data folder:
//
//	lock          held by the one process that uses the folder
//	storage.keys  the storage keys, sealed by the HSM (atrest)
//	raft.db       log, sealed under them, and votes, signed
//	snapshots/    snapshots of the state, sealed
//	damaged/      snapshots that did not open
//	initialised   the marker: "strongroom 1\n<cluster id>\n<node id>\n"
//	folder, admitted  see standing.go
//	parted        the state is not that of the others: see compare.go
//	before-recovery-N/  what was here before a recovery, see recover.go
//
// The marker says, outside of raft.db, that this node has stored entries. A
// database that is empty all the same has been lost, and a node that came up
// on it would have forgotten its votes and acknowledgements.
const (
	lockFile    = "lock"
	storeFile   = "raft.db"
	markerFile  = "initialised"
	markerHead  = "strongroom 1"
	lockTimeout = time.Second
)

// dataDir is the folder of one node, locked.
type dataDir struct {
	path    string
	node    string
	reads   bool // raft.db is opened for reading only
	lock    *os.File
	marker  string
	initial int                     // members that the configuration of this node names
	before  func(name string) error // asked before a file is written

	mu     sync.Mutex
	marked bool

	folder   []byte      // id of the folder
	admitted atomic.Bool // the cluster lets this node take part with it

	logs  *logStore
	snaps *snapshotStore
	birth uint64 // term that the log began with, if it began here
}

// Initialised reports whether the folder belongs to a node that has stored
// entries, be it by Bootstrap or as a follower.
func Initialised(path string) (bool, error) {
	_, err := os.Stat(filepath.Join(path, markerFile))
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

func openDataDir(cfg Config) (*dataDir, error) { return openDataDirAs(cfg, false) }

// openDataDirReadOnly is for a look at the folder of a node that is known to
// have stored entries: no byte of what is stored changes.
func openDataDirReadOnly(cfg Config) (*dataDir, error) { return openDataDirAs(cfg, true) }

func openDataDirAs(cfg Config, reads bool) (*dataDir, error) {
	if err := os.MkdirAll(filepath.Join(cfg.DataDir, "snapshots"), 0o700); err != nil {
		return nil, fmt.Errorf("data folder: %w", err)
	}
	if err := os.Chmod(cfg.DataDir, 0o700); err != nil {
		return nil, fmt.Errorf("data folder: %w", err)
	}
	d := &dataDir{path: cfg.DataDir, node: cfg.NodeID, reads: reads, initial: len(cfg.InitialMembers), before: cfg.beforeFile(), marker: fmt.Sprintf("%s\n%s\n%s\n", markerHead, cfg.ClusterID, cfg.NodeID)}
	if err := d.open(cfg); err != nil {
		return nil, errors.Join(err, d.close())
	}
	return d, nil
}

func (d *dataDir) open(cfg Config) error {
	var err error
	if d.lock, err = lockDataDir(d.path); err != nil {
		return err
	}
	if d.marked, err = d.readMarker(); err != nil {
		return err
	}
	if err := d.openStanding(); err != nil {
		return err
	}
	if err := d.checkParted(); err != nil {
		return err
	}
	path := filepath.Join(d.path, storeFile)
	if d.marked {
		// bbolt would make a new database without a word.
		if info, err := os.Stat(path); err != nil || info.Size() == 0 {
			return d.lostError()
		}
	}
	keys, err := d.openStorage(cfg, path)
	if err != nil {
		return err
	}
	if d.logs, err = d.openLog(cfg, path, keys); err != nil {
		return err
	}
	// A vote must not be lost with the folder entry of the file that holds it.
	if err := durable.SyncDir(d.path); err != nil {
		return fmt.Errorf("data folder: %w", err)
	}
	if d.snaps, err = openSnapshots(filepath.Join(d.path, "snapshots"), cfg.Logger, keys, cfg.level()); err != nil {
		return err
	}
	d.snaps.before = d.before
	return nil
}

// openStorage has the storage keys opened. A folder is fresh when not even a
// database was made in it.
func (d *dataDir) openStorage(cfg Config, path string) (*atrest.Keys, error) {
	_, err := os.Stat(path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("data folder: %w", err)
	}
	keys, err := cfg.Storage(err != nil && !d.marked)
	if err != nil {
		return nil, err
	}
	if cluster, node := keys.Node(); cluster != cfg.ClusterID || node != cfg.NodeID {
		return nil, fmt.Errorf("raft: the storage keys are of node %q of cluster %q", node, cluster)
	}
	return keys, nil
}

func (d *dataDir) openLog(cfg Config, path string, keys *atrest.Keys) (*logStore, error) {
	if cfg.Simulation == nil {
		return openLogStoreSafely(path, keys, d.reads)
	}
	database, err := cfg.Simulation.OpenLog()
	if err != nil {
		return nil, err
	}
	return newLogStore(database, keys), nil
}

// openLogStoreSafely turns bbolt's panics over a damaged file into errors.
func openLogStoreSafely(path string, keys *atrest.Keys, reads bool) (s *logStore, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("open %s: the database file is damaged: %v", path, p)
		}
	}()
	return openLogStore(path, lockTimeout, keys, reads)
}

func lockDataDir(path string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(path, lockFile), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("data folder: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, errors.Join(fmt.Errorf("data folder %s is in use by another process: %w", path, err), f.Close())
	}
	return f, nil
}

func (d *dataDir) readMarker() (bool, error) {
	raw, err := os.ReadFile(filepath.Join(d.path, markerFile))
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("data folder: %w", err)
	}
	if string(raw) == d.marker {
		return true, nil
	}
	lines := strings.Split(string(raw), "\n")
	if len(lines) != 4 || lines[0] != markerHead {
		return false, fmt.Errorf("%s is not a marker that this version can read", filepath.Join(d.path, markerFile))
	}
	return false, fmt.Errorf("data folder %s belongs to node %q of cluster %q", d.path, lines[2], lines[1])
}

func (d *dataDir) lostError() error {
	return fmt.Errorf("data folder %s was initialised, but %s is missing or empty: the log of this node is lost. "+
		"It must not take part under its old identity, for it may have voted; give it a new node id and an empty folder", d.path, storeFile)
}

func (d *dataDir) isMarked() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.marked
}

// mark writes the marker, once, and syncs it.
func (d *dataDir) mark() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.marked {
		return nil
	}
	if err := d.before(markerFile); err != nil {
		return fmt.Errorf("write marker: %w", err)
	}
	if err := durable.Replace(filepath.Join(d.path, markerFile), []byte(d.marker)); err != nil {
		return fmt.Errorf("write marker: %w", err)
	}
	d.marked = true
	return nil
}

// close gives up the folder.
func (d *dataDir) close() error {
	var errs []error
	if d.logs != nil {
		errs = append(errs, d.logs.close())
	}
	if d.lock != nil {
		errs = append(errs, d.lock.Close())
	}
	return errors.Join(errs...)
}
