package raft

import (
	"context"
	"encoding/binary"
	"fmt"
	"log"
	"log/slog"
	"math"
	"net"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
)

// Bounds of gossip.
const (
	metaFormat     = 1
	metaString     = 160 // bytes of the API address and of the version
	stateString    = 32  // of the HSM, and of the audit trail
	gossipRefresh  = time.Second
	gossipRejoin   = 3 * time.Second
	gossipLeave    = 500 * time.Millisecond
	gossipUpdate   = 500 * time.Millisecond
	gossipResolve  = 2 * time.Second
	maxGossipSeeds = 64
)

// What SetHealth gets for an HSM in order, and what members say of a trail.
const (
	HSMHealthy = "ok"
	TrailOK    = "ok"
	TrailDown  = "down"
	diskShort  = "short"
)

// hint is what a node says of itself. Nothing is decided by it that matters
// to safety: every holder of the gossip key can say anything.
//
//	format uint8 = 1 | applied index uvarint | API address | version | HSM | audit trail | disk | feature level uvarint
//
// each text as length uvarint and bytes. A build from before the last two
// stops reading ahead of them, and does not send them.
type hint struct {
	applied uint64
	api     string
	version string
	hsm     string
	audit   string // TrailOK, TrailDown, or "" of an older release
	disk    string // diskShort, or ""
	level   uint32 // for people to read: what counts is what it answers (level.go)
}

func (h hint) encode(limit int) []byte {
	b := []byte{metaFormat}
	b = binary.AppendUvarint(b, h.applied)
	for _, s := range []string{h.api[:min(len(h.api), metaString)], h.version[:min(len(h.version), metaString)], h.hsm[:min(len(h.hsm), stateString)], h.audit[:min(len(h.audit), stateString)], h.disk} {
		b = binary.AppendUvarint(b, uint64(len(s)))
		b = append(b, s...)
	}
	b = binary.AppendUvarint(b, uint64(h.level))
	if len(b) > limit {
		return nil
	}
	return b
}

func decodeHint(b []byte) (hint, bool) {
	var h hint
	if len(b) == 0 || b[0] != metaFormat {
		return h, false
	}
	b = b[1:]
	applied, n := binary.Uvarint(b)
	if n <= 0 {
		return h, false
	}
	h.applied, b = applied, b[n:]
	for _, into := range []*string{&h.api, &h.version, &h.hsm, &h.audit, &h.disk} {
		if len(b) == 0 && (into == &h.audit || into == &h.disk) {
			break
		}
		size, n := binary.Uvarint(b)
		if n <= 0 || size > metaString || uint64(len(b)-n) < size {
			return hint{}, false
		}
		*into, b = string(b[n:n+int(size)]), b[n+int(size):]
	}
	if level, n := binary.Uvarint(b); n > 0 && level <= math.MaxUint32 {
		h.level = uint32(level)
	}
	return h, true
}

// gossip runs memberlist.
type gossip struct {
	list  Gossiper
	ring  *memberlist.Keyring // nil in a simulation
	seeds []string
	more  func() []string // further seeds, or nil
	log   *slog.Logger

	changed chan struct{} // what this node says is not what it said

	mu    sync.Mutex
	hsm   string
	audit string
	disk  string
	known map[string]known // members that are alive, this node included
}

// known is what an event told of a member. memberlist's own answers are
// pointers into what it changes.
type known struct {
	hint    hint
	address string
}

func newGossip(cfg Config) *gossip {
	return &gossip{seeds: cfg.Gossip.Seeds, more: cfg.Gossip.MoreSeeds, log: cfg.Logger, changed: make(chan struct{}, 1), known: map[string]known{}}
}

func openGossip(cfg Config, self func() hint) (*gossip, error) {
	if cfg.Simulation != nil {
		return simulateGossip(cfg, self), nil
	}
	g := newGossip(cfg)
	if len(g.seeds) > maxGossipSeeds {
		return nil, fmt.Errorf("gossip: %d seeds; at most %d", len(g.seeds), maxGossipSeeds)
	}
	ring, err := newKeyring(cfg.Gossip.Keys)
	if err != nil {
		return nil, err
	}
	g.ring = ring
	c := memberlist.DefaultLANConfig()
	c.Name = cfg.NodeID
	c.Label = cfg.ClusterID
	c.Keyring = g.ring
	c.Delegate = delegate{self: func() hint { return g.health(self()) }}
	c.Events = events{g}
	c.Logger = log.New(lineWriter{cfg.Logger}, "", 0)
	if c.BindAddr, c.BindPort, err = splitAddress(cfg.Gossip.BindAddress); err != nil {
		return nil, fmt.Errorf("gossip: bind address: %w", err)
	}
	if c.BindAddr == "" {
		c.BindAddr = "0.0.0.0"
	}
	if cfg.Gossip.AdvertiseAddress != "" {
		if c.AdvertiseAddr, c.AdvertisePort, err = splitAddress(cfg.Gossip.AdvertiseAddress); err != nil {
			return nil, fmt.Errorf("gossip: advertise address: %w", err)
		}
	}
	list, err := memberlist.Create(c)
	if err != nil {
		return nil, fmt.Errorf("gossip: %w", err)
	}
	g.list = list
	return g, nil
}

// splitAddress answers an IP and a port: memberlist takes no names.
func splitAddress(address string) (string, int, error) {
	host, text, err := net.SplitHostPort(address)
	if err != nil {
		return "", 0, err
	}
	port, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		return "", 0, fmt.Errorf("%s: the port is no number", address)
	}
	if host == "" || net.ParseIP(host) != nil {
		return host, int(port), nil
	}
	ip, err := net.ResolveIPAddr("ip", host)
	if err != nil {
		return "", 0, err
	}
	return ip.String(), int(port), nil
}

// run announces this node and looks for members that it does not hear from,
// until ctx ends.
func (g *gossip) run(ctx context.Context, members func() int) {
	refresh := time.NewTicker(gossipRefresh)
	defer refresh.Stop()
	joined := time.Time{}
	for {
		if g.alive() < members() && time.Since(joined) > gossipRejoin {
			g.join(ctx)
			joined = time.Now()
		}
		g.announce()
		select {
		case <-refresh.C:
		case <-g.changed:
		case <-ctx.Done():
			return
		}
	}
}

func (g *gossip) join(ctx context.Context) {
	var addresses []string
	seeds := g.seeds
	if g.more != nil {
		more := g.more()
		seeds = append(slices.Clip(seeds), more[:min(len(more), maxGossipSeeds)]...)
	}
	for _, seed := range seeds {
		host, port, err := net.SplitHostPort(seed)
		if err != nil {
			g.log.Warn("a gossip seed is no address", "seed", seed, "error", err)
			continue
		}
		// memberlist would ask the name servers in ways of its own.
		resolving, cancel := context.WithTimeout(ctx, gossipResolve)
		ips, err := net.DefaultResolver.LookupHost(resolving, host)
		cancel()
		if err != nil {
			g.log.Debug("a gossip seed has no address", "seed", seed, "error", err)
			continue
		}
		for _, ip := range ips {
			addresses = append(addresses, net.JoinHostPort(ip, port))
		}
	}
	if len(addresses) == 0 || ctx.Err() != nil {
		return
	}
	if _, err := g.list.Join(addresses); err != nil {
		g.log.Debug("not every gossip seed answers", "error", err)
	}
}

// announce spreads the hint of this node.
func (g *gossip) announce() {
	if err := g.list.UpdateNode(gossipUpdate); err != nil {
		g.log.Debug("gossip update", "error", err)
	}
}

// setHealth is told to the others at once if it is news.
func (g *gossip) setHealth(hsm, audit string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.hsm == hsm && g.audit == audit {
		return
	}
	g.hsm, g.audit = hsm, audit
	select {
	case g.changed <- struct{}{}:
	default: // it will be told with what changed before
	}
}

// setDisk is told whether there is room in the data folder.
func (g *gossip) setDisk(noRoom error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.disk = ""; noRoom != nil {
		g.disk = diskShort
	}
	select {
	case g.changed <- struct{}{}:
	default:
	}
}

// health fills in what this node says of its HSM, trail and disk.
func (g *gossip) health(h hint) hint {
	g.mu.Lock()
	defer g.mu.Unlock()
	h.hsm, h.audit, h.disk = g.hsm, g.audit, g.disk
	return h
}

// address answers where the member gossips.
func (g *gossip) address(id string) string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.known[id].address
}

func (g *gossip) alive() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.known)
}

// hints answers what the members that are alive say, by node id.
func (g *gossip) hints() map[string]hint {
	g.mu.Lock()
	defer g.mu.Unlock()
	out := make(map[string]hint, len(g.known))
	for id, k := range g.known {
		out[id] = k.hint
	}
	return out
}

// events keeps what memberlist tells of members.
type events struct{ *gossip }

func (e events) NotifyJoin(m *memberlist.Node) { e.NotifyUpdate(m) }

func (e events) NotifyUpdate(m *memberlist.Node) {
	h, _ := decodeHint(m.Meta)
	e.mu.Lock()
	defer e.mu.Unlock()
	e.known[m.Name] = known{hint: h, address: m.Address()}
}

func (e events) NotifyLeave(m *memberlist.Node) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.known, m.Name)
}

func (g *gossip) close() error {
	// To say goodbye is a courtesy: silence is noticed as well.
	if err := g.list.Leave(gossipLeave); err != nil {
		g.log.Debug("gossip leave", "error", err)
	}
	return g.list.Shutdown()
}

// delegate tells memberlist what to say; messages of others it ignores.
type delegate struct{ self func() hint }

func (d delegate) NodeMeta(limit int) []byte          { return d.self().encode(limit) }
func (delegate) NotifyMsg([]byte)                     {}
func (delegate) GetBroadcasts(int, int) [][]byte      { return nil }
func (delegate) LocalState(bool) []byte               { return nil }
func (delegate) MergeRemoteState(_ []byte, join bool) {}
