package raft

import (
	"errors"
	"fmt"
	"time"

	"github.com/strongroom/strongroom/fsm"

	hraft "github.com/hashicorp/raft"
)

// Revive starts a cluster anew from a saved state, on the data folder of one
// of its servers, which is not running: a snapshot of state, the configuration
// of servers, then commands as the first entries of the log, then the marker.
// Like Bootstrap it refuses a folder in which anything was ever stored.
//
// The term is that of now, in seconds since the Unix epoch: no cluster has had
// as many elections, so a node of the old cluster that comes back with its log
// can neither outvote this one nor bring its entries in.
func Revive(cfg Config, servers []Server, state *fsm.State, commands [][]byte, now time.Time) (err error) {
	cfg = cfg.withDefaults()
	if err := cfg.checkStore(); err != nil {
		return err
	}
	configuration, err := initialConfiguration(cfg.NodeID, servers)
	if err != nil {
		return err
	}
	if state.Genesis() == nil || state.Index() == 0 {
		return errors.New("the state is empty: there is nothing to start from")
	}
	anew, err := startAnew(servers, now)
	if err != nil {
		return err
	}
	commands = append([][]byte{anew}, commands...)
	if err := stateAccepts(state, commands); err != nil {
		return err
	}
	if done, err := Initialised(cfg.DataDir); err != nil || done {
		return errors.Join(err, alreadyThere(cfg.DataDir))
	}
	d, err := openDataDir(cfg)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.close()) }()
	existing, err := hraft.HasExistingState(d.logs, d.logs, d.snaps)
	if err != nil {
		return fmt.Errorf("look for an existing cluster: %w", err)
	}
	if existing {
		return alreadyThere(cfg.DataDir)
	}
	term := uint64(now.Unix())
	if err := d.logs.SetUint64([]byte(keyCurrentTerm), term); err != nil {
		return fmt.Errorf("write the first term: %w", err)
	}
	if err := d.logs.SetUint64([]byte(keyBirthTerm), term); err != nil {
		return fmt.Errorf("write the first term: %w", err)
	}
	if err := d.seed(state, term, configuration); err != nil {
		return err
	}
	var entries []*hraft.Log
	for i, command := range commands {
		entries = append(entries, &hraft.Log{Index: state.Index() + 1 + uint64(i), Term: term, Type: hraft.LogCommand, Data: command, AppendedAt: now})
	}
	if len(entries) > 0 {
		if err := d.logs.StoreLogs(entries); err != nil {
			return err
		}
	}
	return d.mark()
}

// startAnew makes the first command of the cluster: the data folders that the
// state knows are those that were lost.
func startAnew(servers []Server, now time.Time) ([]byte, error) {
	command := fsm.StartAnew{Meta: fsm.Meta{Time: now.UnixMilli(), Principal: "restore", RequestID: "restore"}, Doubt: true}
	for _, s := range servers {
		command.Members = append(command.Members, fsm.NodeAddress{ID: s.ID, Address: s.Address})
	}
	return fsm.Encode(command)
}

// seed writes state as the one snapshot of the folder.
func (d *dataDir) seed(state *fsm.State, term uint64, configuration hraft.Configuration) error {
	// The library writes addresses in the form of a transport.
	_, trans := hraft.NewInmemTransport("")
	sink, err := d.snaps.Create(hraft.SnapshotVersionMax, state.Index(), term, configuration, state.Index(), trans)
	if err != nil {
		return err
	}
	return snapshot{state.Snapshot()}.Persist(sink)
}

// stateAccepts applies the commands to a copy of state.
func stateAccepts(state *fsm.State, commands [][]byte) error {
	m, err := machineAt(state, max(state.Level(), fsm.Level))
	if err != nil {
		return err
	}
	for i, command := range commands {
		result, err := m.Apply(state.Index()+1+uint64(i), command)
		if err != nil {
			return fmt.Errorf("command %d: %w", i+1, err)
		}
		if result.Refused != nil {
			return fmt.Errorf("%s", result.Refused.Message)
		}
	}
	return nil
}
