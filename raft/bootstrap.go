package raft

import (
	"errors"
	"fmt"
	"time"

	"github.com/strongroom/strongroom/fsm"

	hraft "github.com/hashicorp/raft"
)

// keyCurrentTerm is where hashicorp/raft keeps its term in the stable store.
const keyCurrentTerm = "CurrentTerm"

// keyBirthTerm is where the term is that a log began with on this node, if that
// is not 1.
const keyBirthTerm = "BirthTerm"

// Bootstrap starts a new cluster on the data folder of one of its servers,
// which is not running: the configuration as entry 1, the genesis command as
// entry 2, both of term 1, in one write, then the marker. It refuses a folder
// in which anything was ever stored. Nothing else makes a cluster: a node
// without entries waits until it hears from one.
func Bootstrap(cfg Config, servers []Server, genesis []byte) (err error) {
	cfg = cfg.withDefaults()
	if err := cfg.checkStore(); err != nil {
		return err
	}
	configuration, err := initialConfiguration(cfg.NodeID, servers)
	if err != nil {
		return err
	}
	if err := fsmAccepts(genesis); err != nil {
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
	if err := d.logs.SetUint64([]byte(keyCurrentTerm), 1); err != nil {
		return fmt.Errorf("write the first term: %w", err)
	}
	if err := d.admit(); err != nil {
		return err
	}
	now := time.Now()
	err = d.logs.StoreLogs([]*hraft.Log{
		{Index: 1, Term: 1, Type: hraft.LogConfiguration, Data: hraft.EncodeConfiguration(configuration), AppendedAt: now},
		{Index: 2, Term: 1, Type: hraft.LogCommand, Data: genesis, AppendedAt: now},
	})
	if err != nil {
		return err
	}
	return d.mark()
}

func alreadyThere(dir string) error {
	return fmt.Errorf("the data folder %s belongs to a cluster already; a new one needs an empty folder", dir)
}

func initialConfiguration(self string, servers []Server) (hraft.Configuration, error) {
	var out hraft.Configuration
	ids, addresses := map[string]bool{}, map[string]bool{}
	for _, s := range servers {
		switch {
		case s.ID == "" || s.Address == "":
			return out, fmt.Errorf("the initial member %q at %q needs both id and address", s.ID, s.Address)
		case ids[s.ID] || addresses[s.Address]:
			return out, fmt.Errorf("the initial member %q at %q is there twice", s.ID, s.Address)
		}
		ids[s.ID], addresses[s.Address] = true, true
		out.Servers = append(out.Servers, hraft.Server{Suffrage: hraft.Voter, ID: hraft.ServerID(s.ID), Address: hraft.ServerAddress(s.Address)})
	}
	if !ids[self] {
		return out, fmt.Errorf("the initial members do not name this node, %q", self)
	}
	return out, nil
}

// fsmAccepts applies the genesis to a machine of its own: a log that begins
// with a refused or unreadable command makes a cluster that is of no use.
func fsmAccepts(genesis []byte) error {
	result, err := fsm.New().Apply(2, genesis)
	if err != nil {
		return fmt.Errorf("genesis: %w", err)
	}
	if result.Refused != nil {
		return fmt.Errorf("genesis: %s", result.Refused.Message)
	}
	return nil
}
