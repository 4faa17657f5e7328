package main

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/strongroom/strongroom/audit"
	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/internal/config"
	"github.com/strongroom/strongroom/internal/pki"
	"github.com/strongroom/strongroom/internal/secret"
	"github.com/strongroom/strongroom/internal/tlsfiles"
	"github.com/strongroom/strongroom/pkcs11"
	"github.com/strongroom/strongroom/raft"
)

// readFiles reads what this node shows and trusts on its connections.
func readFiles(cfg config.Config, log *slog.Logger, reg prometheus.Registerer) (*tlsfiles.Set, error) {
	return tlsfiles.Open(tlsfiles.Config{
		APICert: cfg.API.CertFile, APIKey: cfg.API.KeyFile, LinkCert: cfg.Cluster.CertFile, LinkKey: cfg.Cluster.KeyFile,
		Authorities: cfg.Cluster.CAFile, GossipKeys: cfg.Gossip.KeyFile, NodeURI: pki.NodeURI(cfg.Cluster.ID, cfg.Node.ID).String(),
		Logger: log.With("floor", "tls"), Registerer: reg,
	})
}

func hsmConfig(cfg config.Config, log *slog.Logger, reg prometheus.Registerer) pkcs11.Config {
	out := pkcs11.Config{
		Module: cfg.HSM.Module, InitArgs: cfg.HSM.InitArgs, TokenLabel: cfg.HSM.TokenLabel, TokenSerial: cfg.HSM.TokenSerial, PINFile: cfg.HSM.PINFile,
		SyncDir: cfg.HSM.SyncDir, Sessions: cfg.HSM.Sessions, Dialect: cfg.HSM.Dialect(),
		OperationTimeout: cfg.HSM.OperationTimeout.D(), ProbeInterval: cfg.HSM.ProbeInterval.D(),
		Logger: log.With("floor", "hsm"), Registerer: reg,
	}
	for name, value := range cfg.HSM.Env {
		out.Env = append(out.Env, name+"="+value)
	}
	slices.Sort(out.Env)
	return out
}

func raftConfig(cfg config.Config, f *tlsfiles.Set, log *slog.Logger, reg prometheus.Registerer) raft.Config {
	out := raft.Config{
		NodeID: cfg.Node.ID, ClusterID: cfg.Cluster.ID, DataDir: cfg.Node.DataDir,
		BindAddress: cfg.Cluster.Listen, AdvertiseAddress: cfg.Cluster.Advertise,
		APIAddress: "https://" + cfg.API.Advertise, Version: version(),
		Certificate: func() (*tls.Certificate, error) { return f.Link(), nil }, Authorities: f.Pool,
		Gossip: raft.GossipConfig{
			BindAddress: cfg.Gossip.Listen, AdvertiseAddress: cfg.Gossip.Advertise, Seeds: cfg.Gossip.Seeds, Keys: f.GossipKeys(),
		},
		Timing: raft.Timing{
			Heartbeat: cfg.Raft.Heartbeat.D(), Election: cfg.Raft.Election.D(), Lease: cfg.Raft.Lease.D(),
			Commit: cfg.Raft.Commit.D(), StallMax: cfg.Raft.StallMax.D(), StallFatal: cfg.Raft.StallFatal.D(),
		},
		MinFreeBytes: cfg.Raft.MinFreeBytes,
		Snapshot:     raft.SnapshotConfig{Threshold: cfg.Raft.SnapshotThreshold, Interval: cfg.Raft.SnapshotInterval.D()},
		Logger:       log.With("floor", "raft"), Registerer: reg,
	}
	out.Gossip.MoreSeeds = func() []string { return addressesIn(cfg.Gossip.SeedsFile, log) }
	if len(cfg.Cluster.Join) > 0 || cfg.Cluster.JoinFile != "" {
		out.Join = func() []string { return append(addressesIn(cfg.Cluster.JoinFile, log), cfg.Cluster.Join...) }
	}
	if file := cfg.Cluster.JoinTokenFile; file != "" {
		out.JoinToken = func() (secret.Bytes, error) { return joinToken(file) }
	}
	for _, m := range cfg.Cluster.InitialMembers {
		out.InitialMembers = append(out.InitialMembers, raft.Server{ID: m.ID, Address: m.Address})
	}
	return out
}

// addressesIn answers the addresses in a file, one a line, none if there is no
// file: it is read again when it is needed.
func addressesIn(path string, log *slog.Logger) []string {
	if path == "" {
		return nil
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		log.Warn("a file of addresses cannot be read", "file", path, "error", err)
		return nil
	}
	var out []string
	for line := range strings.Lines(string(raw)) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			out = append(out, line)
		}
	}
	return out
}

// joinToken reads the token that lets this node join.
func joinToken(path string) (secret.Bytes, error) {
	raw, err := config.ReadSecret(path, 256)
	if err != nil {
		return secret.Bytes{}, fmt.Errorf("cluster.joinTokenFile: %w", err)
	}
	token := secret.Copy(bytes.TrimSpace(raw))
	clear(raw)
	return token, nil
}

func auditConfig(cfg config.Config, log *slog.Logger, reg prometheus.Registerer) audit.Config {
	durability := audit.Written
	switch cfg.Audit.Durability {
	case "synced":
		durability = audit.Synced
	case "quorum":
		durability = audit.Quorum
	}
	return audit.Config{
		Dir: cfg.Audit.Dir, Node: cfg.Node.ID, Durability: durability,
		SegmentBytes: cfg.Audit.SegmentBytes, MinFreeBytes: cfg.Audit.MinFreeBytes, KeepPlain: !cfg.Audit.Compress,
		Logger: log.With("floor", "audit"), Registerer: reg,
	}
}

func copiesConfig(cfg config.Config, log *slog.Logger) audit.CopiesConfig {
	return audit.CopiesConfig{Dir: cfg.Audit.Dir, MinFreeBytes: cfg.Audit.MinFreeBytes, KeepPlain: !cfg.Audit.Compress, Logger: log.With("floor", "audit")}
}

// rootToState and rootFromState carry the description of the root key between
// the HSM floor and the replicated state, which know nothing of each other.
func rootToState(r pkcs11.Root) fsm.Root {
	out := fsm.Root{
		Version: r.Version, CheckValue: r.CheckValue, MACCheck: r.MACCheck,
		Canary: r.Canary, CanaryIV: r.CanaryIV, CanaryBox: r.CanaryBox,
	}
	for _, c := range r.Copies {
		out.Copies = append(out.Copies, fsm.RootCopy(c))
	}
	return out
}

func rootFromState(r fsm.Root) pkcs11.Root {
	out := pkcs11.Root{
		Version: r.Version, CheckValue: r.CheckValue, MACCheck: r.MACCheck,
		Canary: r.Canary, CanaryIV: r.CanaryIV, CanaryBox: r.CanaryBox,
	}
	for _, c := range r.Copies {
		out.Copies = append(out.Copies, pkcs11.RootCopy(c))
	}
	return out
}
