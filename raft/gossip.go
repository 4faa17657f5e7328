package raft

import (
	"context"
	"encoding/binary"
	"fmt"
	"log"
	"log/slog"
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
)

// Bounds of gossip.
const (
	metaFormat     = 1
	metaString     = 160 // bytes of the API address and of the version
	hsmString      = 32
	gossipRefresh  = time.Second
	gossipRejoin   = 3 * time.Second
	gossipLeave    = 500 * time.Millisecond
	gossipUpdate   = 500 * time.Millisecond
	gossipResolve  = 2 * time.Second
	maxGossipSeeds = 64
)

// HSMHealthy is the word that SetHSM gets for an HSM in order.
const HSMHealthy = "ok"

// hint is what a node says of itself. Nothing is decided by it that matters
// to safety: every holder of the gossip key can say anything.
//
//	format uint8 = 1 | applied index uvarint | API address | version | HSM
//
// each text as length uvarint and bytes.
type hint struct {
	applied uint64
	api     string
	version string
	hsm     string
}

func (h hint) encode(limit int) []byte {
	b := []byte{metaFormat}
	b = binary.AppendUvarint(b, h.applied)
	for _, s := range []string{h.api[:min(len(h.api), metaString)], h.version[:min(len(h.version), metaString)], h.hsm[:min(len(h.hsm), hsmString)]} {
		b = binary.AppendUvarint(b, uint64(len(s)))
		b = append(b, s...)
	}
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
	for _, into := range []*string{&h.api, &h.version, &h.hsm} {
		size, n := binary.Uvarint(b)
		if n <= 0 || size > metaString || uint64(len(b)-n) < size {
			return hint{}, false
		}
		*into, b = string(b[n:n+int(size)]), b[n+int(size):]
	}
	return h, true
}

// gossip runs memberlist.
type gossip struct {
	list  *memberlist.Memberlist
	seeds []string
	log   *slog.Logger

	mu    sync.Mutex
	hsm   string
	known map[string]known // members that are alive, this node included
}

// known is what an event told of a member. memberlist's own answers are
// pointers into what it changes.
type known struct {
	hint    hint
	address string
}

func openGossip(cfg Config, self func() hint) (*gossip, error) {
	g := &gossip{seeds: cfg.Gossip.Seeds, log: cfg.Logger, known: map[string]known{}}
	if len(g.seeds) > maxGossipSeeds {
		return nil, fmt.Errorf("gossip: %d seeds; at most %d", len(g.seeds), maxGossipSeeds)
	}
	c := memberlist.DefaultLANConfig()
	c.Name = cfg.NodeID
	c.Label = cfg.ClusterID
	c.SecretKey = cfg.Gossip.Key
	c.Delegate = delegate{self: func() hint {
		h := self()
		h.hsm = g.hsmState()
		return h
	}}
	c.Events = events{g}
	c.Logger = log.New(lineWriter{cfg.Logger}, "", 0)
	var err error
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
	if g.list, err = memberlist.Create(c); err != nil {
		return nil, fmt.Errorf("gossip: %w", err)
	}
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
		case <-ctx.Done():
			return
		}
	}
}

func (g *gossip) join(ctx context.Context) {
	var addresses []string
	for _, seed := range g.seeds {
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

func (g *gossip) setHSM(state string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.hsm = state
}

func (g *gossip) hsmState() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.hsm
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
