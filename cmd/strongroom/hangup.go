package main

import (
	"context"
	"os"
	"os/signal"
	"sync"
	"sync/atomic"
	"syscall"
)

// hangups is what SIGHUP does: it ends a command, as it ends any program,
// unless the command has asked for it.
type hangups struct {
	taken  atomic.Bool
	signal chan os.Signal
}

type hangupsKey struct{}

// withHangups answers a context in which a command may take SIGHUP. As long as
// none has, the first one calls end, and the next does what it does to any
// program. stop must be called.
func withHangups(ctx context.Context, end func()) (out context.Context, stop func()) {
	h := &hangups{signal: make(chan os.Signal, 1)}
	arrived := make(chan os.Signal, 1)
	signal.Notify(arrived, syscall.SIGHUP)
	ended := make(chan struct{})
	var owner sync.WaitGroup
	owner.Go(func() {
		defer signal.Stop(arrived)
		for {
			select {
			case s := <-arrived:
				if !h.taken.Load() {
					end()
					return
				}
				select {
				case h.signal <- s:
				default: // one is waiting already, and stands for both
				}
			case <-ended:
				return
			}
		}
	})
	return context.WithValue(ctx, hangupsKey{}, h), func() {
		close(ended)
		owner.Wait()
	}
}

// takeHangups has SIGHUP answered here from now on: by a value in the channel,
// never by the end of the process. Without hangups in ctx, as in tests, nothing
// ever comes.
func takeHangups(ctx context.Context) <-chan os.Signal {
	h, ok := ctx.Value(hangupsKey{}).(*hangups)
	if !ok {
		return nil
	}
	h.taken.Store(true)
	return h.signal
}
