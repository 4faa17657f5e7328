package raft

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/internal/durable"

	hraft "github.com/hashicorp/raft"
)

// keyRecovering is where the term is of the snapshot by which a recovery is
// decided, from before that is written until all is done; 0: none is going on.
const keyRecovering = "StrongroomRecovering"

// recoveryTerms and recoveryEntries are by how much a recovered cluster is
// ahead of what its node knew: DESIGN.md has why.
const (
	recoveryTerms   = 1 << 20
	recoveryEntries = 1 << 20
)

// Recovery is an order to go on with one node.
type Recovery struct {
	Seen     Remains // what whoever decided was shown; it must be so still
	Operator string  // who, on this machine
	Reason   string
	Now      time.Time
}

// Recovered is what became of it.
type Recovered struct {
	Record *fsm.Recovery
	Aside  string // folder with what was here before; "" if the recovery was decided in an earlier call
}

// Recover makes the node of cfg, which is not running, the only member of its
// cluster, with all that its folder holds. It is for a majority of the voters
// that is lost for good, and cannot be taken back: all other members are
// removed for ever.
//
// One rename decides. Before it the folder is that of a member as it was,
// after it that of the recovered cluster, wherever this is interrupted. Called
// again it finishes what was decided; so does a start of the node.
func Recover(cfg Config, order Recovery) (out Recovered, err error) {
	d, err := openRemains(&cfg, openDataDir)
	if err != nil {
		return out, err
	}
	defer func() { err = errors.Join(err, d.close()) }()
	if err := d.dropUnread(cfg.Logger); err != nil {
		return out, err
	}
	found, err := d.remains(cfg.Logger)
	if err != nil {
		return out, err
	}
	step := cfg.Faults.recovering
	if found.Decided != nil {
		out.Record = found.Decided
		return out, d.finishRecovery(cfg.Logger, step)
	}
	if seen := order.Seen; seen.LastIndex != found.LastIndex || seen.LastTerm != found.LastTerm {
		return out, errors.New("the data folder has changed since it was looked at; look again")
	}
	if len(found.Others) == 0 && found.Missing == 0 {
		return out, errors.New("this node is the only member of its cluster, and its data folder is whole: there is nothing to recover; start its server")
	}
	index := found.above + recoveryEntries
	state, err := d.recovered(cfg, found, index, order)
	if err != nil {
		return out, err
	}
	for r := range state.Recoveries() {
		out.Record = r
	}
	if out.Aside, err = d.keepBefore(index, step); err != nil {
		return out, err
	}
	return out, d.decideRecovery(cfg, state, order.Now, step)
}

// recovered answers the state of the recovered cluster.
func (d *dataDir) recovered(cfg Config, found Remains, index uint64, order Recovery) (*fsm.State, error) {
	if cfg.AdvertiseAddress == "" {
		return nil, errors.New("raft: AdvertiseAddress is empty; it is where the recovered cluster has its node")
	}
	command := fsm.RecoverCluster{
		Meta:     fsm.Meta{Time: order.Now.UnixMilli(), Principal: "recover", RequestID: fmt.Sprintf("recover-%d", index)},
		Survivor: fsm.NodeAddress{ID: cfg.NodeID, Address: cfg.AdvertiseAddress}, Folder: d.folder,
		Operator: order.Operator, Reason: order.Reason,
		LastIndex: found.LastIndex, LastTerm: found.LastTerm, LastAt: found.LastCommand.UnixMilli(), Committed: found.Committed, Missing: found.Missing,
	}
	for _, s := range found.Others {
		command.CutOff = append(command.CutOff, fsm.NodeAddress{ID: s.ID, Address: s.Address})
	}
	encoded, err := fsm.Encode(command)
	if err != nil {
		return nil, err
	}
	m, err := machineAt(found.State, d.snaps.level)
	if err != nil {
		return nil, err
	}
	result, err := m.Apply(index, encoded)
	if err != nil {
		return nil, err
	}
	if result.Refused != nil {
		return nil, errors.New(result.Refused.Message)
	}
	return m.State(), nil
}

// machineAt answers a machine with a copy of state.
func machineAt(state *fsm.State, level uint32) (*fsm.Machine, error) {
	m := fsm.NewAt(level)
	r, w := io.Pipe()
	go func() {
		_, err := state.Snapshot().WriteTo(w)
		w.CloseWithError(err)
	}()
	return m, errors.Join(m.Restore(r), r.Close())
}

// keepBefore keeps what is here: a copy of the log, and the snapshots by links,
// as their files are never written again.
func (d *dataDir) keepBefore(index uint64, step func(string) error) (string, error) {
	aside := filepath.Join(d.path, fmt.Sprintf("before-recovery-%d", index))
	if err := os.MkdirAll(filepath.Join(aside, "snapshots"), 0o700); err != nil {
		return "", fmt.Errorf("keep what was before: %w", err)
	}
	if err := d.copyLog(aside); err != nil {
		return "", err
	}
	if err := step("copied"); err != nil {
		return "", err
	}
	list, err := d.snaps.List()
	if err != nil {
		return "", fmt.Errorf("snapshots: %w", err)
	}
	for _, meta := range list {
		from, to := filepath.Join(d.snaps.path, meta.ID), filepath.Join(aside, "snapshots", meta.ID)
		if err := os.MkdirAll(to, 0o700); err != nil {
			return "", fmt.Errorf("keep what was before: %w", err)
		}
		for _, name := range []string{"meta.json", "state.bin"} {
			if err := os.Link(filepath.Join(from, name), filepath.Join(to, name)); err != nil && !errors.Is(err, os.ErrExist) {
				return "", fmt.Errorf("keep what was before: %w", err)
			}
		}
		if err := durable.SyncDir(to); err != nil {
			return "", fmt.Errorf("keep what was before: %w", err)
		}
	}
	if err := errors.Join(durable.SyncDir(filepath.Join(aside, "snapshots")), durable.SyncDir(aside), durable.SyncDir(d.path)); err != nil {
		return "", fmt.Errorf("keep what was before: %w", err)
	}
	return aside, step("kept")
}

// decideRecovery writes the state as a snapshot that is newer than everything
// in the folder, and with that decides.
func (d *dataDir) decideRecovery(cfg Config, state *fsm.State, now time.Time, step func(string) error) error {
	term, err := d.logs.number(keyCurrentTerm)
	if err != nil {
		return err
	}
	term = max(term+recoveryTerms, uint64(max(0, now.Unix())))
	for _, w := range []struct {
		key  string
		done string
	}{{keyCurrentTerm, "term"}, {keyRecovering, "announced"}} {
		if err := d.logs.SetUint64([]byte(w.key), term); err != nil {
			return fmt.Errorf("write %s: %w", w.key, err)
		}
		if err := step(w.done); err != nil {
			return err
		}
	}
	configuration := hraft.Configuration{Servers: []hraft.Server{
		{Suffrage: hraft.Voter, ID: hraft.ServerID(cfg.NodeID), Address: hraft.ServerAddress(cfg.AdvertiseAddress)},
	}}
	if err := d.seed(state, term, configuration); err != nil {
		return fmt.Errorf("write the snapshot of the recovered cluster: %w", err)
	}
	if err := step("decided"); err != nil {
		return err
	}
	return d.finishRecovery(cfg.Logger, step)
}

// finishRecovery takes away what the decision has made void. Nothing of it is
// read any more while the snapshot of the recovery is there: its index is above
// all of the log. But that snapshot must not be all that stands between this
// node and a configuration in which others are members.
func (d *dataDir) finishRecovery(log *slog.Logger, step func(string) error) error {
	f, err := d.look(log)
	if err != nil {
		return err
	}
	// Nothing is deleted but behind the snapshot that holds all of it.
	term, err := d.logs.number(keyRecovering)
	if err != nil {
		return err
	}
	if term == 0 || f.base == nil || f.base.Term != term || f.last > f.base.Index {
		return errors.New("the snapshot of the recovery is not the newest in the folder; nothing was deleted")
	}
	if f.last > 0 {
		if err := d.logs.DeleteRange(f.first, f.last); err != nil {
			return fmt.Errorf("log: %w", err)
		}
	}
	if err := step("emptied"); err != nil {
		return err
	}
	list, err := d.snaps.List()
	if err != nil {
		return fmt.Errorf("snapshots: %w", err)
	}
	for _, meta := range list {
		if meta.ID == f.base.ID {
			continue
		}
		if err := os.RemoveAll(filepath.Join(d.snaps.path, meta.ID)); err != nil {
			return fmt.Errorf("snapshots: %w", err)
		}
	}
	if err := errors.Join(durable.SyncDir(d.snaps.path), step("alone")); err != nil {
		return err
	}
	// Entries that this node once acknowledged do not bind it any more: they
	// were given up, by a person, on record.
	if err := d.logs.SetUint64([]byte(keyMending), 0); err != nil {
		return fmt.Errorf("log: %w", err)
	}
	if err := step("whole"); err != nil {
		return err
	}
	if err := d.logs.SetUint64([]byte(keyRecovering), 0); err != nil {
		return fmt.Errorf("log: %w", err)
	}
	log.Warn("the cluster is recovered on this node alone", "index", f.baseIndex(), "term", f.base.Term)
	return step("finished")
}

// resumeRecovery is for a start after an interrupted recovery: it finishes one
// that was decided, and forgets one that was not.
func (d *dataDir) resumeRecovery(f *findings, log *slog.Logger) (resumed bool, err error) {
	term, err := d.logs.number(keyRecovering)
	if err != nil || term == 0 {
		return false, err
	}
	if f.base != nil && f.base.Term == term {
		return true, d.finishRecovery(log, func(string) error { return nil })
	}
	for _, id := range f.unreadable {
		if strings.HasPrefix(id, fmt.Sprintf("%d-", term)) {
			return false, fmt.Errorf("data folder %s: the snapshot %s, by which the cluster was recovered on this node, is unreadable; run strongroom cluster recover again", d.path, id)
		}
	}
	log.Warn("a recovery of the cluster on this node was begun and not decided; nothing came of it")
	return false, d.logs.SetUint64([]byte(keyRecovering), 0)
}

// dropUnread removes what an interrupted recovery left: snapshots that were not
// written to their end, and its own, if it does not open. That one was read
// back before anybody was told that the cluster is recovered, so nothing was
// promised by it.
func (d *dataDir) dropUnread(log *slog.Logger) error {
	unfinished, err := filepath.Glob(filepath.Join(d.snaps.path, "*.tmp"))
	if err != nil {
		return err
	}
	term, err := d.logs.number(keyRecovering)
	if err != nil {
		return err
	}
	if term != 0 {
		_, unreadable, err := d.snaps.usable(log)
		if err != nil {
			return err
		}
		for _, id := range unreadable {
			if strings.HasPrefix(id, fmt.Sprintf("%d-", term)) {
				unfinished = append(unfinished, filepath.Join(d.snaps.path, id))
			}
		}
	}
	for _, path := range unfinished {
		if err := os.RemoveAll(path); err != nil {
			return fmt.Errorf("snapshots: %w", err)
		}
	}
	return durable.SyncDir(d.snaps.path)
}
