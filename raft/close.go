package raft

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Close hands leadership over if this node has it, and stops everything. It
// returns when every goroutine of the node has ended, or with an error when
// ctx ends before that, which a hanging disk can cause; stopping then goes on.
func (n *Node) Close(ctx context.Context) error {
	n.mu.Lock()
	first := !n.closing
	n.closing = true
	n.mu.Unlock()
	if first {
		go func() {
			n.closeErr = n.shutDown(ctx)
			close(n.closed)
		}()
	}
	select {
	case <-n.closed:
		return n.closeErr
	case <-ctx.Done():
		return fmt.Errorf("raft: the node has not stopped in time: %w", ctx.Err())
	}
}

func (n *Node) shutDown(ctx context.Context) error {
	n.handOver(ctx)
	// The proposals under way are decided while the library runs: it does not
	// answer all of them once it is shut down.
	n.drain(ctx)
	n.stop()
	errs := []error{n.links.Close()}
	stopped := n.raft.Shutdown()
	// Requests in flight end with their connections, not with their timeouts.
	errs = append(errs, n.link.close())
	errs = append(errs, stopped.Error())
	n.guard.CloseStreams()
	errs = append(errs, n.gossip.close())
	n.work.Wait()
	n.metrics.close()
	return errors.Join(append(errs, n.data.close())...)
}

// handOver spares the cluster the wait for an election.
func (n *Node) handOver(ctx context.Context) {
	if _, lead := n.leading(); !lead || n.memberCount() < 2 || n.silent() {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, 4*n.cfg.Timing.Election)
	defer cancel()
	if err := n.TransferLeadership(ctx, ""); err != nil {
		n.cfg.Logger.Warn("closing without having handed leadership over", "error", err)
	}
}

func (n *Node) drain(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	_ = n.await(ctx, func() error { n.proposals.Wait(); return nil })
}

// abandon closes what a failed Open has opened.
func (n *Node) abandon() error {
	var errs []error
	if n.raft != nil {
		stopped := n.raft.Shutdown()
		errs = append(errs, n.link.close(), stopped.Error())
	} else if n.link != nil {
		errs = append(errs, n.link.close())
	}
	if n.guard != nil {
		errs = append(errs, n.guard.NetworkTransport.Close())
		n.guard.CloseStreams()
	}
	if n.gossip != nil {
		errs = append(errs, n.gossip.close())
	}
	if n.data != nil {
		errs = append(errs, n.data.close())
	}
	return errors.Join(errs...)
}
