package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"time"

	"github.com/strongroom/strongroom/api"
	"github.com/strongroom/strongroom/internal/atrest"
	"github.com/strongroom/strongroom/internal/config"
	"github.com/strongroom/strongroom/internal/fault"
	"github.com/strongroom/strongroom/pkcs11"
	"github.com/strongroom/strongroom/raft"
)

const (
	// storageTime is how long one attempt to have the storage keys opened may
	// take.
	storageTime = 10 * time.Second
	// waitEvery is how long a node without its HSM waits before the next.
	waitEvery = 250 * time.Millisecond
	// leaveTime is what requests to a node that waits get to end.
	leaveTime = time.Second
)

// storagePlace is where this node's storage keys are, and what opens them.
func storagePlace(cfg config.Config, d *pkcs11.Device) atrest.Place {
	return atrest.Place{DataDir: cfg.Node.DataDir, Cluster: cfg.Cluster.ID, Node: cfg.Node.ID, Root: d}
}

// openStorage answers what raft has the storage keys opened by.
func openStorage(ctx context.Context, cfg config.Config, d *pkcs11.Device) func(fresh bool) (*atrest.Keys, error) {
	return func(fresh bool) (*atrest.Keys, error) {
		ctx, cancel := context.WithTimeout(ctx, storageTime)
		defer cancel()
		return atrest.Open(ctx, storagePlace(cfg, d), fresh)
	}
}

// openRaft opens the log, which only the HSM can. While that is away this
// waits, and says so to everybody who asks.
func (n *node) openRaft(ctx context.Context, rc raft.Config) (*raft.Node, error) {
	rc.Storage = openStorage(ctx, n.cfg, n.device)
	var room *waitingRoom
	for {
		r, err := raft.Open(ctx, rc, n.machine)
		if !fault.Is(err, fault.HsmUnavailable) || ctx.Err() != nil {
			return r, errors.Join(err, room.leave())
		}
		if room == nil {
			n.log.Warn("waiting for the HSM: the log of this node opens by it only", "reason", n.device.Health().Reason)
			room = n.enterWaitingRoom()
		}
		select {
		case <-ctx.Done():
			return nil, errors.Join(ctx.Err(), room.leave())
		case <-time.After(waitEvery):
		}
	}
}

// waitingRoom is the API of a node that cannot open its log yet. It borrows
// the listener.
type waitingRoom struct {
	server *api.Server
	raw    *net.TCPListener
	failed atomic.Pointer[error]
	done   chan struct{}
}

func (n *node) enterWaitingRoom() *waitingRoom {
	w := &waitingRoom{raw: n.raw, done: make(chan struct{})}
	w.server = api.NewWaiting(api.Config{
		NodeID: n.cfg.Node.ID, AllowedHosts: n.cfg.API.AllowedHosts, Logger: n.log.With("floor", "api"), Registry: n.registry,
		Ready: func() error {
			h := n.device.Health()
			return fmt.Errorf("waiting for the HSM, which opens the log of this node: HSM %s: %s", h.State, h.Reason)
		},
	})
	go func() {
		defer close(w.done)
		if err := w.server.Serve(borrowed{n.listener, n.raw}); err != nil {
			w.failed.Store(&err)
		}
	}()
	return w
}

// leave gives the listener back, with nobody accepting on it.
func (w *waitingRoom) leave() error {
	if w == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), leaveTime)
	defer cancel()
	_ = w.server.Close(ctx) // who is cut off asks again
	<-w.done
	if err := w.failed.Load(); err != nil {
		return fmt.Errorf("API listener: %w", *err)
	}
	return w.raw.SetDeadline(time.Time{})
}

// borrowed is a listener whose Close ends Accept and leaves the socket open.
type borrowed struct {
	net.Listener
	raw *net.TCPListener
}

func (b borrowed) Close() error { return b.raw.SetDeadline(time.Unix(1, 0)) }
