package main

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
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
	"github.com/strongroom/strongroom/pkcs11"
	"github.com/strongroom/strongroom/raft"
)

// files is what the files of a configuration hold, apart from the PIN, which
// only the HSM worker reads.
type files struct {
	api, link *pki.Reloader
	cas       *x509.CertPool
	gossipKey []byte
}

func readFiles(cfg config.Config) (files, error) {
	var f files
	var err error
	if f.api, err = pki.NewReloader(cfg.API.CertFile, cfg.API.KeyFile); err != nil {
		return f, fmt.Errorf("api.certFile, api.keyFile: %w", err)
	}
	if f.link, err = pki.NewReloader(cfg.Cluster.CertFile, cfg.Cluster.KeyFile); err != nil {
		return f, fmt.Errorf("cluster.certFile, cluster.keyFile: %w", err)
	}
	cert, err := f.link.Certificate()
	if err != nil {
		return f, err
	}
	if err := namesNode(cert, cfg); err != nil {
		return f, fmt.Errorf("cluster.certFile: %w", err)
	}
	pem, err := os.ReadFile(cfg.Cluster.CAFile)
	if err != nil {
		return f, fmt.Errorf("cluster.caFile: %w", err)
	}
	f.cas = x509.NewCertPool()
	if !f.cas.AppendCertsFromPEM(pem) {
		return f, fmt.Errorf("cluster.caFile: %s holds no certificate", cfg.Cluster.CAFile)
	}
	raw, err := config.ReadSecret(cfg.Gossip.KeyFile, 256)
	if err != nil {
		return f, fmt.Errorf("gossip.keyFile: %w", err)
	}
	f.gossipKey, err = base64.StdEncoding.DecodeString(string(bytes.TrimSpace(raw)))
	if err != nil || len(f.gossipKey) != 32 {
		return f, fmt.Errorf("gossip.keyFile: %s must hold 32 bytes in base64; make it with: head -c 32 /dev/urandom | base64", cfg.Gossip.KeyFile)
	}
	return f, nil
}

// namesNode tells a mixed-up certificate at the start, in words, rather than
// by a link that never comes up.
func namesNode(cert *tls.Certificate, cfg config.Config) error {
	leaf, err := x509.ParseCertificate(cert.Certificate[0])
	if err != nil {
		return err
	}
	want := pki.NodeURI(cfg.Cluster.ID, cfg.Node.ID).String()
	for _, uri := range leaf.URIs {
		if uri.String() == want {
			return nil
		}
	}
	return fmt.Errorf("the certificate is not of %s; issue one with strongroom tls issue-node --config", want)
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

func raftConfig(cfg config.Config, f files, log *slog.Logger, reg prometheus.Registerer) raft.Config {
	out := raft.Config{
		NodeID: cfg.Node.ID, ClusterID: cfg.Cluster.ID, DataDir: cfg.Node.DataDir,
		BindAddress: cfg.Cluster.Listen, AdvertiseAddress: cfg.Cluster.Advertise,
		APIAddress: "https://" + cfg.API.Advertise, Version: version(),
		Certificate: f.link.Certificate, CAs: f.cas,
		Gossip: raft.GossipConfig{
			BindAddress: cfg.Gossip.Listen, AdvertiseAddress: cfg.Gossip.Advertise, Seeds: cfg.Gossip.Seeds, Key: f.gossipKey,
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
