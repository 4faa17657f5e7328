package pkcs11

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"syscall"
	"time"
)

// Pauses before a worker is started again.
const (
	crashPause    = 100 * time.Millisecond // second crash in a row; doubles
	crashPauseMax = time.Second
	startPause    = 200 * time.Millisecond // start that failed; doubles
	startPauseMax = 5 * time.Second
	calm          = 10 * time.Second // a worker that lived so long starts the count anew
	reapTimeout   = 2 * time.Second
)

// maxSilentLogins: a worker that dies during C_Login may have cost a try of
// the PIN. After so many in a row a person has to look, unless this very PIN
// file has logged in before: an HSM that hangs comes back by itself.
const maxSilentLogins = 3

// supervise starts workers, watches them, and starts the next. It is the one
// goroutine that does, on one thread for all its life: the worker's
// parent-death signal hangs on that thread.
func (d *Device) supervise(ctx context.Context) {
	runtime.LockOSThread()
	defer close(d.done)
	defer d.change(func(s *deviceState) { s.closed = true })
	s := &supervision{d: d}
	for ctx.Err() == nil {
		d.change(func(s *deviceState) { s.started++ })
		born := time.Now()
		c, err := s.start(ctx)
		s.report(c, err)
		switch {
		case err == nil:
			s.watch(ctx, c)
			s.failedStarts = 0
			if s.heldBy(c.reason()) {
				s.waitForPerson(ctx)
				continue
			}
			if time.Since(born) > calm {
				s.crashes = 0
			}
			s.crashes++
			if s.crashes > 1 {
				// Counted from the birth of the last one: a worker that
				// hung for a while has cost its pause already.
				d.pause(ctx, min(crashPause<<min(s.crashes-2, 10), crashPauseMax)-time.Since(born))
			}
		case s.held:
			s.waitForPerson(ctx)
		default:
			s.failedStarts++
			d.pause(ctx, min(startPause<<min(s.failedStarts-1, 10), startPauseMax))
		}
	}
}

// supervision is what the supervisor remembers from worker to worker.
type supervision struct {
	d            *Device
	crashes      int
	failedStarts int
	silentLogins int
	held         bool      // the PIN was refused
	pin          fileState // of the PIN file, before it was last tried
	proven       fileState // of the PIN file that last logged in
	personActed  bool      // the PIN file changed since a refusal
}

// pause waits before the next start; a wanted restart ends it.
func (d *Device) pause(ctx context.Context, pause time.Duration) {
	if pause <= 0 {
		return
	}
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	case <-d.kick:
	}
}

// start brings one worker into service: process, module, log-in and probe,
// root key. An import of the root is followed by a second, fresh worker, and
// only what that one finds in the token counts.
func (s *supervision) start(ctx context.Context) (*workerConn, error) {
	for range 2 {
		c, imported, err := s.startOnce(ctx)
		if err != nil || !imported {
			return c, err
		}
		s.d.log.Info("hsm root key imported; checking it in a fresh worker")
		s.d.reap(c, errors.New("replaced after an import"))
		s.d.change(func(s *deviceState) { s.allowImport = false })
	}
	return nil, fail(statusRefused, nil, "the HSM did not keep the root key that it imported")
}

func (s *supervision) startOnce(ctx context.Context) (c *workerConn, imported bool, err error) {
	c, err = s.d.spawnLoaded(ctx)
	if err != nil {
		return nil, false, err
	}
	imported, err = s.prepare(ctx, c)
	if err != nil {
		s.held = s.held || refusedPIN(err)
		s.d.reap(c, err)
		return nil, false, err
	}
	return c, imported, nil
}

// thisProgram is the file that this process was started from, also when another
// one has been put at its path: between the installation of a release and the
// restart of the server. The two ends of the socket must be of one build, and
// what lies at the path now may not even be meant for this node yet.
const thisProgram = "/proc/self/exe"

// spawnLoaded starts a process and loads the module there.
func (d *Device) spawnLoaded(ctx context.Context) (*workerConn, error) {
	command := d.cfg.Worker
	var program string
	if len(command) == 0 {
		self, err := os.Executable()
		if err != nil {
			return nil, fmt.Errorf("the HSM worker cannot be started: %w", err)
		}
		program, command = thisProgram, []string{self, workerArgument}
	} else {
		program = command[0]
	}
	c, err := spawn(program, command, d.cfg.Env, 4*d.cfg.Sessions)
	if err != nil {
		return nil, err
	}
	e := newEncoder(1024)
	loadRequest{module: d.cfg.Module, initArgs: d.cfg.InitArgs, label: d.cfg.TokenLabel, serial: d.cfg.TokenSerial, pinFile: d.cfg.PINFile,
		syncDir: d.cfg.SyncDir, sessions: uint32(d.cfg.Sessions), handles: uint32(d.cfg.Handles),
		dialect: d.cfg.Dialect, patience: d.cfg.OperationTimeout / patience}.put(e)
	err = d.ask(ctx, c, opLoad, e.b, loadTimeout, func(*decoder) {})
	// From here on the process answers pings whatever the module does.
	go func() {
		defer close(c.quiet)
		d.keepAlive(c)
	}()
	if err != nil {
		d.reap(c, err)
		return nil, err
	}
	return c, nil
}

// ask is one request to a worker that is not in service yet.
func (d *Device) ask(ctx context.Context, c *workerConn, o op, payload []byte, deadline time.Duration, get func(*decoder)) error {
	start := time.Now()
	answer, err := c.roundTrip(ctx, o, payload, deadline)
	if err == nil {
		err = read(answer, get)
	}
	d.metrics.observe(o, time.Since(start), err)
	return err
}

func (s *supervision) prepare(ctx context.Context, c *workerConn) (imported bool, err error) {
	d := s.d
	s.pin = stateOf(d.cfg.PINFile)
	e := newEncoder(1)
	e.flag(s.personActed)
	if err := d.ask(ctx, c, opLogin, e.b, loginTimeout, func(*decoder) {}); err != nil {
		s.judgeLogin(ctx, err)
		return false, err
	}
	s.silentLogins, s.personActed, s.proven = 0, false, s.pin
	var profile Profile
	if err := d.ask(ctx, c, opProbe, nil, loginTimeout, func(in *decoder) { profile = getProfile(in) }); err != nil {
		return false, err
	}
	now := d.snapshot()
	d.change(func(s *deviceState) { s.profile = profile })
	if len(now.roots) == 0 {
		return false, nil
	}
	e = newEncoder(8192 * len(now.roots))
	e.flag(now.allowImport)
	e.u32(now.making)
	putRoots(e, now.roots)
	c.roots = now.roots
	err = d.ask(ctx, c, opUseRoot, e.b, loginTimeout, func(in *decoder) { imported = in.flag() })
	return imported, err
}

// judgeLogin decides whether a person is needed before the next try.
func (s *supervision) judgeLogin(ctx context.Context, err error) {
	var failure *opError
	switch {
	case errors.As(err, &failure):
		s.silentLogins = 0
		s.held = failure.status == statusCredential
	case ctx.Err() == nil && s.pin != s.proven:
		s.silentLogins++
		s.held = s.silentLogins >= maxSilentLogins
	}
}

// report tells everybody how an attempt ended.
func (s *supervision) report(c *workerConn, err error) {
	d := s.d
	reason := err
	if s.held {
		reason = s.untilAPersonActs(err)
	}
	verdict := saysWhy(err) || s.held || s.failedStarts > 0
	d.change(func(state *deviceState) {
		state.finished++
		state.held = s.held
		state.conn = c
		state.down = nil
		if err == nil {
			state.generation++
			state.lastOK = time.Now()
		} else if verdict {
			// Those who wait go on waiting for the next.
			state.down = reason
		}
	})
	d.metrics.up(err == nil)
	d.metrics.waitsForAPerson(s.held)
	if err != nil {
		d.log.Error("hsm worker did not start", "error", reason)
		return
	}
	d.metrics.answered()
	d.log.Info("hsm worker started", "pid", c.pid())
}

// saysWhy reports whether a start that failed is a verdict, the first time. A
// worker that only died while starting is none, and neither is a token that
// is away or ill: one of SoftHSM's that other processes share is, for as long
// as another one writes down its log-in (a start in sixteen, where three start
// at once).
func saysWhy(err error) bool {
	var failure *opError
	return errors.As(err, &failure) && failure.status != statusAway && failure.status != statusSick && failure.status != statusBusy
}

// watch stays until the worker in service ends or shall end.
func (s *supervision) watch(ctx context.Context, c *workerConn) {
	d := s.d
	d.canaries(ctx, c)
	d.leave(c)
	d.metrics.up(false)
	reason := c.reason()
	if reason == nil {
		reason = errors.New("replaced on purpose")
	}
	s.d.reap(c, reason)
}

// keepAlive asks the process itself for a sign of life, twice in each
// interval and with seven tenths of one to answer: a process that is stopped
// is found out in 1.2 intervals, which leaves time to start another within
// two.
func (d *Device) keepAlive(c *workerConn) {
	ticker := time.NewTicker(d.cfg.ProbeInterval / 2)
	defer ticker.Stop()
	for {
		select {
		case <-c.dead:
			return
		case <-ticker.C:
			answer, err := c.roundTrip(context.Background(), opPing, nil, d.cfg.ProbeInterval*7/10)
			if err == nil {
				err = read(answer, func(in *decoder) { c.loaded.Store(in.u32()) })
			}
			if err != nil {
				c.fail(err)
				return
			}
			d.metrics.handlesLoaded(c.loaded.Load())
		}
	}
}

// canaries asks the HSM for a sign of life, and returns when the worker has
// to go.
func (d *Device) canaries(ctx context.Context, c *workerConn) {
	ticker := time.NewTicker(d.cfg.ProbeInterval)
	defer ticker.Stop()
	for {
		if s := d.snapshot(); s.wanted > s.finished {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-c.dead:
			return
		case <-d.kick:
		case <-ticker.C:
			if err := d.canary(ctx, c); err != nil {
				c.fail(err)
				return
			}
		}
	}
}

// canary runs one, unless there is no root to run it with, or the sessions
// are busy making keys and it would wait behind them. It fails when the
// worker has to go.
func (d *Device) canary(ctx context.Context, c *workerConn) error {
	if len(d.snapshot().roots) == 0 || c.long.Load() > 0 {
		return nil
	}
	err := d.ask(ctx, c, opCanary, nil, d.cfg.OperationTimeout, func(in *decoder) { c.loaded.Store(in.u32()) })
	var failure *opError
	switch {
	case err == nil:
		c.ill.Store(nil)
		d.change(func(s *deviceState) { s.lastOK = time.Now() })
		d.metrics.answered()
	case ctx.Err() != nil:
	case errors.As(err, &failure) && failure.status == statusBusy:
		text := failure.Error()
		c.ill.Store(&text)
		d.log.Warn("hsm canary not answered", "error", err)
	default:
		return err
	}
	return nil
}

// reap kills the worker and waits until it is gone.
func (d *Device) reap(c *workerConn, reason error) {
	c.fail(reason)
	timer := time.NewTimer(reapTimeout)
	defer timer.Stop()
	select {
	case <-c.exited:
	case <-timer.C: // a thread in an uninterruptible sleep in the kernel
		d.log.Error("hsm worker does not end", "pid", c.pid())
	}
	<-c.quiet
	d.metrics.restarted()
	d.log.Warn("hsm worker ended", "pid", c.pid(), "reason", reason, "stderr", c.stderr.String())
}

// fileState tells one content of a file from another without reading it.
type fileState struct {
	device, inode uint64
	size          int64
	modified      int64
}

func stateOf(path string) fileState {
	info, err := os.Stat(path)
	if err != nil {
		return fileState{}
	}
	return stateIn(info)
}

func stateIn(info os.FileInfo) fileState {
	out := fileState{size: info.Size(), modified: info.ModTime().UnixNano()}
	if sys, ok := info.Sys().(*syscall.Stat_t); ok {
		out.device, out.inode = sys.Dev, sys.Ino
	}
	return out
}

// waitForPerson waits until the PIN file is another one: HSMs lock or erase
// themselves after a few wrong PINs, so a retry by a machine is an attack.
func (s *supervision) waitForPerson(ctx context.Context) {
	ticker := time.NewTicker(s.d.cfg.ProbeInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			if now := stateOf(s.d.cfg.PINFile); now != (fileState{}) && now != s.pin {
				s.held, s.personActed, s.silentLogins = false, true, 0
				return
			}
		}
	}
}
