package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/strongroom/strongroom/api"
	"github.com/strongroom/strongroom/api/wire"
	"github.com/strongroom/strongroom/audit"
	"github.com/strongroom/strongroom/engine"
	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/internal/config"
	"github.com/strongroom/strongroom/internal/console"
	"github.com/strongroom/strongroom/internal/origin"
	"github.com/strongroom/strongroom/internal/rotate"
	"github.com/strongroom/strongroom/internal/sink"
	"github.com/strongroom/strongroom/internal/tlsfiles"
	"github.com/strongroom/strongroom/internal/trust"
	"github.com/strongroom/strongroom/kms"
	"github.com/strongroom/strongroom/pkcs11"
	"github.com/strongroom/strongroom/raft"
)

// deviceStart is how long a start waits for the HSM before it goes on
// without it.
const deviceStart = 3 * time.Second

// node is one running server: the floors, wired.
type node struct {
	cfg      config.Config
	log      *slog.Logger
	device   *pkcs11.Device
	trail    *audit.Trail
	sinks    *sink.Set
	copies   *audit.Copies
	machine  *fsm.Machine
	raft     *raft.Node
	engine   *engine.Engine
	api      *api.Server
	listener net.Listener
	raw      *net.TCPListener // beneath listener
	registry *prometheus.Registry
	files    *tlsfiles.Set // certificates, authorities, gossip keys
	renewing sync.Mutex    // see renew
	peers    *api.Link

	raftConfig raft.Config
	proxies    origin.Proxies

	draining atomic.Bool
	fatal    chan error  // the first reason why this node must stop
	unfit    chan string // reasons why this node should not lead
	link     probe
	// admissions are what the leader decided about nodes, for the trail.
	admissions chan raft.Admission
	root       atomic.Pointer[string] // why the root key is not in use yet; nil: it is

	background sync.WaitGroup
}

// openNode wires the floors from the lowest up. On an error it answers what
// it has so far, for abandon.
func openNode(ctx context.Context, cfg config.Config, log *slog.Logger) (*node, error) {
	n := &node{cfg: cfg, log: log, fatal: make(chan error, 1), unfit: make(chan string, 1), admissions: make(chan raft.Admission, 64)}
	waiting := "the replicated state is not there yet"
	n.root.Store(&waiting)
	registry := prometheus.NewRegistry()
	n.registry = registry
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), buildInfo())
	var err error
	if n.files, err = readFiles(cfg, log, registry); err != nil {
		return n, err
	}
	// The listener comes first: a second server with the same configuration
	// fails here, before it touches the data.
	if n.listener, err = net.Listen("tcp", cfg.API.Listen); err != nil {
		return n, fmt.Errorf("api.listen: %w", err)
	}
	n.raw = n.listener.(*net.TCPListener)
	if err := n.listenBehindProxies(registry); err != nil {
		return n, err
	}
	n.listener = tls.NewListener(n.listener, &tls.Config{
		MinVersion: tls.VersionTLS12,
		// Whoever has one may show it; who signed it is the engine's to decide.
		ClientAuth:     tls.RequestClientCert,
		NextProtos:     []string{"http/1.1"},
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return n.files.API(), nil },
	})
	starting, cancel := context.WithTimeout(ctx, deviceStart)
	n.device, err = pkcs11.Open(starting, hsmConfig(cfg, log, registry))
	cancel()
	if err != nil {
		return n, err
	}
	if n.trail, err = audit.Open(auditConfig(cfg, log, registry)); err != nil {
		return n, fmt.Errorf("audit trail: %w", err)
	}
	if n.sinks, err = sink.New(sinkConfig(cfg, n.trail, log, registry)); err != nil {
		return n, err
	}
	if n.copies, err = audit.OpenCopies(copiesConfig(cfg, log)); err != nil {
		return n, fmt.Errorf("copies of audit trails: %w", err)
	}
	rc := raftConfig(cfg, n.files, log, registry)
	rc.Fatal = n.mustStop
	rc.Admitted = func(a raft.Admission) {
		select {
		case n.admissions <- a:
		default:
			log.Error("the trail misses an event: too many nodes ask at once", "peer", a.NodeID)
		}
	}
	n.raftConfig = rc
	return n, nil
}

// openLog opens the replicated state, and what is above it. It waits for the
// HSM.
func (n *node) openLog(ctx context.Context) error {
	n.machine = fsm.New()
	r, err := n.openRaft(ctx, n.raftConfig)
	n.raft = r
	if err != nil {
		return err
	}
	return n.openFrontEnd(n.registry)
}

// listenBehindProxies makes the listener read what trusted proxies send before
// TLS.
func (n *node) listenBehindProxies(registry *prometheus.Registry) error {
	var err error
	if n.proxies, err = n.cfg.Proxies(); err != nil {
		return fmt.Errorf("api.trustedProxies: %w", err)
	}
	listener, err := n.proxies.Listen(n.listener, registry, n.log.With("floor", "api"))
	if err != nil {
		return fmt.Errorf("api.listen: %w", err)
	}
	n.listener = listener
	return nil
}

// openFrontEnd wires engine and API.
func (n *node) openFrontEnd(registry *prometheus.Registry) error {
	link := api.NewLink(n.raft.DialLink)
	n.peers = link
	service, err := kms.New(n.device, n.cfg.Cluster.ID)
	if err != nil {
		return err
	}
	if n.cfg.KMS.CachedDataKeys > 0 {
		service.CacheDataKeys(kms.NewDataKeyCache(n.cfg.KMS.CachedDataKeys, n.cfg.KMS.CacheFor.D(), func() bool {
			return n.device.Health().State == pkcs11.HealthOK
		}))
	}
	witnesses, err := n.cfg.Audit.KnownWitnesses()
	if err != nil {
		return fmt.Errorf("audit.witnesses: %w", err)
	}
	backups, err := backupsOf(n.cfg)
	if err != nil {
		return err
	}
	n.engine, err = engine.New(engine.Config{
		Node: n.cfg.Node.ID, ClusterID: n.cfg.Cluster.ID, Log: n.raft,
		KMS: service, Trail: n.trail, Copies: n.copies,
		Retention:       audit.Retention{For: n.cfg.Audit.RetainFor.D(), Bytes: n.cfg.Audit.RetainBytes},
		StillNeeded:     func() uint64 { return n.sinks.OldestNeeded() },
		CheckpointEvery: n.cfg.Audit.CheckpointEvery.D(), CheckpointEvents: uint64(n.cfg.Audit.CheckpointEvents),
		Witnesses: witnesses,
		Cluster: engine.Cluster{
			Members: n.members, Transfer: n.raft.TransferLeadership, PeerEvents: link.Events, PeerKeys: link.Keys,
			PeerChains: link.Chains, PeerChain: link.Chain,
			Roots: rootKeys{device: n.device, admitted: n.cfg.HSM.AdmitTransportKeys}, PeerRoots: link.Roots, PeerLedger: link.Ledger, StepDown: n.stepDown,
			PeerClock: link.Clock,
			TLS:       n.shown, PeerTLS: link.TLS,
			Membership: engine.Membership{Removing: n.raft.Removing, Settle: n.raft.Settle, SettleVote: n.raft.SettleVote, Views: n.memberViews},
			CaughtUp:   n.raft.CaughtUp, AskLeader: n.askLeader(), Fit: func() bool { return n.hsm().State == pkcs11.HealthOK },
		},
		Trusts: trust.New(trust.Config{ReviewerFile: n.cfg.Login.TokenReviewerFile, Logger: n.log.With("floor", "trust")}),
		Rotators: rotate.New(rotate.Config{
			WebhookAllow: n.cfg.Rotation.WebhookAllow, DatabaseAllow: n.cfg.Rotation.DatabaseAllow, ClusterID: n.cfg.Cluster.ID,
		}),
		Backups: backups,
		BootID:  bootID(), DurableTrail: n.cfg.Audit.Durability != "written", AwaitedTrail: n.cfg.Audit.Durability == "quorum",
		MaxValueBytes: n.cfg.API.MaxValueBytes, Logger: n.log.With("floor", "engine"), Registerer: registry,
		HSMRandom: n.cfg.Generate.HSMRandom, MaxClockOffset: n.cfg.Cluster.MaxClockOffset.D(),
	})
	if err != nil {
		return err
	}
	n.raft.AnswerFollowers(n.engine.AnswerFollowers)
	var pages map[string]console.File
	if n.cfg.API.Console {
		if pages, err = console.Files(); err != nil {
			return err
		}
	}
	n.api = api.New(api.Config{
		Engine: n.engine, Cluster: n.raft, NodeID: n.cfg.Node.ID, Standing: n.raft.Standing,
		MaxBodyBytes: n.cfg.API.MaxBodyBytes, Timeout: n.cfg.API.Timeout.D(), AllowedHosts: n.cfg.API.AllowedHosts, Proxies: n.proxies,
		Logger: n.log.With("floor", "api"), Registry: registry, Ready: n.ready, Console: pages,
	}, link)
	return nil
}

// askLeader is how this node, while it follows, serves reads by itself; nil: it
// does not.
func (n *node) askLeader() func(ctx context.Context, item []byte) (engine.Reading, error) {
	if !n.cfg.Cluster.FollowerReads {
		return nil
	}
	return func(ctx context.Context, item []byte) (engine.Reading, error) {
		got, err := n.raft.AskLeader(ctx, item)
		return engine.Reading(got), err
	}
}

// bootID answers the kernel's id of this start of the system, "" where there
// is none to be had: there, every start of the process counts as one after a
// loss of power, unless audit.durability is synced or quorum.
func bootID() string {
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(id))
}

// start begins all work. It ends with ctx, except the listeners, which end
// with the API.
func (n *node) start(ctx context.Context) {
	serve := func(name string, do func() error) {
		n.background.Go(func() {
			if err := do(); err != nil {
				n.mustStop(fmt.Errorf("%s: %w", name, err))
			}
		})
	}
	serve("API listener", func() error { return n.api.Serve(n.listener) })
	serve("node link listener", func() error { return n.api.ServeLink(n.raft.LinkListener()) })
	n.raft.OnLeadership(n.engine.RunLeader)
	n.background.Go(func() { n.engine.RunWatch(ctx) })
	n.background.Go(func() { n.engine.RunDataKeys(ctx) })
	n.background.Go(func() { n.engine.RunBackups(ctx) })
	n.background.Go(func() { n.engine.RunFollower(ctx) })
	n.background.Go(func() { n.engine.RunCheckpoints(ctx) })
	n.background.Go(func() { n.sinks.Run(ctx) })
	n.background.Go(func() { n.engine.RunNotice(ctx) })
	n.background.Go(func() { n.engine.RunCopies(ctx) })
	n.background.Go(func() { n.recordAdmissions(ctx) })
	n.background.Go(func() { n.files.Run(ctx, n.renew) })
	n.background.Go(func() { n.keepRoots(ctx) })
	n.background.Go(func() { n.watch(ctx) })
}

// mustStop keeps the first reason.
func (n *node) mustStop(err error) {
	select {
	case n.fatal <- err:
	default:
	}
}

// abandon closes what a failed start has opened.
func (n *node) abandon() error {
	var errs []error
	if n.listener != nil {
		errs = append(errs, n.listener.Close())
	}
	if n.raft != nil {
		ctx, cancel := context.WithTimeout(context.Background(), closeTime)
		defer cancel()
		errs = append(errs, n.raft.Close(ctx))
	}
	if n.copies != nil {
		errs = append(errs, n.copies.Close())
	}
	if n.trail != nil {
		errs = append(errs, n.trail.Close())
	}
	if n.device != nil {
		errs = append(errs, n.device.Close())
	}
	return errors.Join(errs...)
}

// recordAdmissions writes into the trail what consensus decided about nodes.
func (n *node) recordAdmissions(ctx context.Context) {
	for {
		select {
		case a := <-n.admissions:
			out := engine.Admission{NodeID: a.NodeID, Address: a.Address, TokenID: a.TokenID, Index: a.Index, Removed: a.Removed, Level: a.Level, Err: a.Err}
			if a.Remote.IsValid() {
				out.Source = a.Remote.String()
			}
			n.engine.RecordAdmission(ctx, out)
		case <-ctx.Done():
			return
		}
	}
}

// memberViews is how the leader sees each member.
func (n *node) memberViews() map[string]engine.MemberView {
	out := map[string]engine.MemberView{}
	for _, m := range n.raft.Members() {
		out[m.ID] = engine.MemberView{Address: m.Address, InStepSince: m.InStepSince, Waiting: m.Waiting}
	}
	return out
}

// members is the cluster as this node sees it, on the wire.
func (n *node) members() []wire.NodeStatus {
	members := n.raft.Members()
	out := make([]wire.NodeStatus, 0, len(members))
	for _, m := range members {
		out = append(out, wire.NodeStatus{
			NodeID: m.ID, APIAddress: m.APIAddress, Role: m.Role, Alive: m.Alive,
			AppliedIndex: m.AppliedIndex, HSM: m.HSM, Audit: m.Audit, Version: m.Version, Level: m.Level,
		})
	}
	return out
}
