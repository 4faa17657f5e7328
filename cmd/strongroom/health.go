package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/strongroom/strongroom/pkcs11"
	"github.com/strongroom/strongroom/raft"
)

const (
	watchInterval = 250 * time.Millisecond
	// A worker that is replaced is back well within this; leadership does not
	// move for that.
	unfitAfter = 3 * time.Second
	// After a hand-over that did not work, or came back, the next one waits.
	handOverEvery = 10 * time.Second
	readyTimeout  = 2 * time.Second
)

// stepDown notes that this node should not lead. It never waits: engine
// calls it while it serves a request.
func (n *node) stepDown(reason string) {
	select {
	case n.unfit <- reason:
	default:
	}
}

// watch tells the others how HSM and audit trail are, and hands leadership on when this
// node cannot do a leader's work and another says that it can.
func (n *node) watch(ctx context.Context) {
	tick := time.NewTicker(watchInterval)
	defer tick.Stop()
	var told string
	var badSince, lastTry time.Time
	for {
		h := n.hsm()
		if h.State != pkcs11.HealthOK {
			n.engine.WipeDataKeys()
		}
		if h.State != told {
			n.log.Info("HSM", "state", h.State, "reason", h.Reason)
			told = h.State
		}
		reason := h.Reason
		switch {
		case h.State == pkcs11.HealthOK:
			badSince, reason = time.Time{}, ""
		case badSince.IsZero():
			badSince = time.Now()
		}
		if time.Since(badSince) < unfitAfter || badSince.IsZero() {
			reason = ""
		}
		trail := raft.TrailOK
		if err := n.trail.Ready(); err != nil {
			trail, reason = raft.TrailDown, "audit trail: "+err.Error()
		}
		if err := n.raft.Room(); err != nil {
			reason = err.Error()
		}
		n.raft.SetHealth(h.State, trail)
		if reason != "" && time.Since(lastTry) >= handOverEvery && n.handOver(ctx, reason) {
			lastTry = time.Now()
		}
		select {
		case <-ctx.Done():
			return
		case reason := <-n.unfit:
			if time.Since(lastTry) >= handOverEvery && n.handOver(ctx, reason) {
				lastTry = time.Now()
			}
		case <-tick.C:
		}
	}
}

// hsm is how the HSM is for this cluster: one that works, and lacks a root
// key that material is under, does no leader's work either.
func (n *node) hsm() pkcs11.Health {
	h := n.device.Health()
	if why := n.root.Load(); why != nil && h.State == pkcs11.HealthOK {
		h.State, h.Reason = pkcs11.HealthDegraded, *why
	}
	return h
}

// handOver moves leadership to a voter that says that its HSM and its audit
// trail work. Without one nothing is gained by moving. It reports whether it
// tried.
func (n *node) handOver(ctx context.Context, reason string) bool {
	if _, self, _ := n.raft.Leader(); !self {
		return false
	}
	for _, m := range n.raft.Members() {
		if m.ID == n.cfg.Node.ID || !m.Fit() {
			continue
		}
		ctx, cancel := context.WithTimeout(ctx, handOverTime)
		defer cancel()
		err := n.raft.TransferLeadership(ctx, m.ID)
		n.log.Warn("handing leadership on", "to", m.ID, "reason", reason, "error", err)
		return true
	}
	return false
}

// ready answers nil when a request to this node would be served: HSM and
// audit trail work, the root key is in use, and reads get through to a
// majority, here or by way of the leader.
func (n *node) ready() error {
	if n.draining.Load() {
		return errors.New("shutting down")
	}
	if err := n.raft.Standing(); err != nil {
		return err
	}
	if why := n.root.Load(); why != nil {
		return errors.New(*why)
	}
	if h := n.device.Health(); h.State != pkcs11.HealthOK {
		return fmt.Errorf("HSM %s: %s", h.State, h.Reason)
	}
	if err := n.trail.Ready(); err != nil {
		return fmt.Errorf("audit trail: %w", err)
	}
	return n.link.check(n.reach)
}

// reach makes one round trip that a request would make.
func (n *node) reach() error {
	ctx, cancel := context.WithTimeout(context.Background(), readyTimeout)
	defer cancel()
	leader, self, known := n.raft.Leader()
	switch {
	case !known:
		return errors.New("no leader is known; a majority of the nodes must run and reach each other")
	case self:
		if _, err := n.raft.ReadState(ctx); err != nil {
			return fmt.Errorf("this node leads and a majority does not confirm it: %w", err)
		}
	case leader == n.cfg.Node.ID:
		return errors.New("this node has been elected and is not done taking office")
	default:
		conn, err := n.raft.DialLink(ctx, leader)
		if err != nil {
			return fmt.Errorf("the leader, %s, cannot be reached: %w", leader, err)
		}
		return conn.Close()
	}
	return nil
}

// probe keeps the answer of a check for a moment: health is asked by anybody,
// without a credential, and must not become a load on the leader.
type probe struct {
	mu   sync.Mutex
	at   time.Time
	last error
}

func (p *probe) check(do func() error) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	keep := time.Second
	if p.last != nil {
		keep = 100 * time.Millisecond
	}
	if p.at.IsZero() || time.Since(p.at) > keep {
		p.last = do()
		p.at = time.Now()
	}
	return p.last
}
