package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// What Exec does when a value has changed.
const (
	OnChangeRestart = "restart"
	OnChangeSignal  = "signal"
	OnChangeNone    = "none"
	OnChangeExit    = "exit"
)

// holderCommand is the command's name among the holders of Uses.
const holderCommand = "command"

// Exec runs one command with values in its environment and in private files.
type Exec struct {
	Source   *Source
	Uses     *Uses
	Log      *slog.Logger
	Bindings []Binding
	Prefixes []string
	// Environ is what the command inherits.
	Environ []string
	Command []string
	// OnChange is one of the constants; Signal is for OnChangeSignal.
	OnChange string
	Signal   syscall.Signal
	// StopTimeout is how long the command has after SIGTERM.
	StopTimeout time.Duration
	// Splay bounds the random pause before a change is acted upon, so that not
	// all instances restart at once.
	Splay time.Duration
	// Terminal: the command stays in our process group, to which the terminal
	// sends its signals by itself.
	Terminal bool
	// Signals is what we are sent, SIGCHLD included.
	Signals <-chan os.Signal
	// FileBases are folders for private files, tried in turn.
	FileBases []string

	dir      *privateDir
	running  *child
	bindings []Binding          // what the running command was given
	given    map[string]Version // which versions of it
	next     *collected         // what the next one will be given
	stopping bool
	ending   bool // no other one is started
	fails    int
	due      *time.Timer // looks for a change
	kill     *time.Timer
	answers  chan collected // of the look that is under way
	looking  bool
}

// collected is an answer of the cluster, or of the cache within its ceiling.
type collected struct {
	bindings []Binding
	snap     Snapshot
	err      error
}

// Run starts the command and stays until it has ended for good. The error is
// an *ExitError once the command was started.
func (e *Exec) Run(ctx context.Context, startTimeout time.Duration) error {
	if _, err := exec.LookPath(e.Command[0]); err != nil {
		return cannotRun(err)
	}
	if err := adoptOrphans(); err != nil {
		return fmt.Errorf("processes that the command leaves behind could not be adopted: %w", err)
	}
	e.answers, e.due, e.kill = make(chan collected, 1), time.NewTimer(idle), time.NewTimer(idle)
	e.due.Stop()
	e.kill.Stop()
	got := e.first(ctx, startTimeout)
	if got.err != nil {
		return fmt.Errorf("the command was not started:\n%w", got.err)
	}
	background, stop := context.WithCancel(ctx)
	told := make(chan struct{})
	go func() {
		defer close(told)
		e.Uses.Run(background, e.Source)
	}()
	err := e.start(got)
	if err == nil {
		err = e.loop(background)
	}
	stop()
	<-told
	if e.looking {
		late := <-e.answers
		late.snap.Wipe()
	}
	e.Uses.Drop(holderCommand)
	if cleaning := e.dir.remove(); cleaning != nil {
		e.Log.Error("the private files could not be removed", "folder", e.dir.path, "error", cleaning)
	}
	return err
}

// first collects before there is a command that signals could be passed to:
// those that would end it end the wait.
func (e *Exec) first(ctx context.Context, patience time.Duration) collected {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	go func() { e.answers <- e.collect(ctx) }()
	for {
		select {
		case got := <-e.answers:
			return got
		case s := <-e.Signals:
			if n, ok := s.(syscall.Signal); ok && (n == unix.SIGTERM || n == unix.SIGINT || n == unix.SIGHUP || n == unix.SIGQUIT) {
				cancel()
				late := <-e.answers
				late.snap.Wipe()
				return collected{err: &ExitError{128 + int(n), fmt.Errorf("ended by the signal %s", n)}}
			}
		}
	}
}

// collect finds out what the command is to be given.
func (e *Exec) collect(ctx context.Context) collected {
	all := slices.Clone(e.Bindings)
	var inherited []string
	for _, one := range e.Environ {
		name, _, _ := strings.Cut(one, "=")
		inherited = append(inherited, name)
	}
	for _, prefix := range e.Prefixes {
		found, err := fromPrefix(ctx, e.Source, prefix, inherited)
		if err != nil {
			return collected{err: err}
		}
		all = append(all, found...)
	}
	if err := collisions(all); err != nil {
		return collected{err: err}
	}
	snap, err := e.Source.Collect(ctx, pathsOf(all))
	return collected{all, snap, err}
}

// start runs the command with what was collected. Only when the new process is
// there, and the one before it is gone with all that it started, are the new
// versions the only ones in use.
func (e *Exec) start(got collected) error {
	defer got.snap.Wipe()
	if err := e.files(got.bindings, got.snap); err != nil {
		return err
	}
	env, err := environment(e.Environ, got.bindings, got.snap, e.dir)
	if err != nil {
		return err
	}
	cmd := exec.Command(e.Command[0], e.Command[1:]...)
	cmd.Env, cmd.Stdin, cmd.Stdout, cmd.Stderr = env, os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: !e.Terminal, Pdeathsig: syscall.SIGKILL}
	versions := got.snap.Versions()
	e.Uses.Also(holderCommand, versions)
	if e.running, err = startChild(cmd); err != nil {
		return cannotRun(err)
	}
	e.bindings, e.given, e.stopping = got.bindings, versions, false
	e.Uses.Replace(holderCommand, versions)
	e.Log.Info("the command runs", "pid", e.running.cmd.Process.Pid, "instance", e.Source.Instance(), "secrets", len(versions))
	return nil
}

// files writes the private files.
func (e *Exec) files(all []Binding, snap Snapshot) error {
	for _, b := range all {
		if !b.File {
			continue
		}
		if e.dir == nil {
			dir, err := newPrivateDir(e.FileBases...)
			if err != nil {
				return err
			}
			if e.dir = dir; !dir.inMemory {
				e.Log.Warn("there is no file system in memory that can be used; the files are on a disk", "folder", dir.path)
			}
		}
		value, err := b.Ref.of(snap[b.Ref.Path])
		if err != nil {
			return fmt.Errorf("--file %s: %w", b.Name, err)
		}
		err = e.dir.write(b.Name, value)
		clear(value)
		if err != nil {
			return fmt.Errorf("--file %s: %w", b.Name, err)
		}
	}
	return nil
}

func (e *Exec) loop(ctx context.Context) error {
	for {
		select {
		case s := <-e.Signals:
			e.pass(s)
		case <-e.Source.Changed():
			e.Uses.Look()
			if !e.ending && !e.stopping {
				e.due.Reset(splay(e.Splay))
			}
		case <-e.due.C:
			e.look(ctx)
		case got := <-e.answers:
			e.looking = false
			e.changed(got)
		case <-e.kill.C:
			e.Log.Warn("the command did not end in time, and is killed", "after", e.StopTimeout)
			if err := e.running.signal(unix.SIGKILL); err != nil {
				e.Log.Error("the command could not be killed", "error", err)
			}
		case <-e.running.ended:
			if err := e.afterEnd(); err != nil {
				return err
			}
		}
	}
}

func splay(most time.Duration) time.Duration {
	if most <= 0 {
		return 0
	}
	return rand.N(most)
}

// pass hands a signal on. From SIGTERM on no other command is started.
func (e *Exec) pass(s os.Signal) {
	switch s {
	case unix.SIGCHLD:
		reap(e.running.cmd.Process.Pid)
		return
	case unix.SIGTERM:
		e.ending = true
	case unix.SIGINT, unix.SIGQUIT, unix.SIGWINCH:
		e.ending = e.ending || e.stopping && s != unix.SIGWINCH
		if e.Terminal {
			return // the terminal has sent it to the command itself
		}
	}
	if err := e.running.signal(s); err != nil {
		e.Log.Error("a signal could not be passed on", "signal", s.String(), "error", err)
	}
}

// look asks what is current, without letting signals wait.
func (e *Exec) look(ctx context.Context) {
	if e.looking || e.stopping || e.ending {
		return
	}
	e.looking = true
	go func() {
		ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
		defer cancel()
		e.answers <- e.collect(ctx)
	}()
}

// changed acts upon what was found. The command that runs is stopped only when
// there is all that the next one needs: while the cluster is away, or a value
// is refused, it goes on with what it has.
func (e *Exec) changed(got collected) {
	if got.err != nil {
		e.fails++
		pause := min(time.Second<<min(e.fails, 6), time.Minute)
		e.Log.Warn("the command goes on with what it was given: the values that are current could not be had", "again", pause, "error", got.err)
		e.due.Reset(pause/2 + rand.N(pause/2))
		return
	}
	e.fails = 0
	if e.stopping || e.ending || !e.differs(got) {
		got.snap.Wipe()
		return
	}
	switch e.OnChange {
	case OnChangeRestart, OnChangeExit:
		e.Log.Info("secrets have changed; the command is stopped", "onChange", e.OnChange)
		e.stopping, e.ending = true, e.OnChange == OnChangeExit
		if e.next = &got; e.ending {
			got.snap.Wipe()
			e.next = nil
		}
		e.kill.Reset(e.StopTimeout)
		if err := e.running.signal(unix.SIGTERM); err != nil {
			e.Log.Error("the command could not be stopped", "error", err)
		}
	default:
		e.renew(got)
		got.snap.Wipe()
	}
}

func (e *Exec) differs(got collected) bool {
	versions := got.snap.Versions()
	for path, v := range versions {
		if e.given[path] != v {
			return true
		}
	}
	return len(versions) != len(e.given) || !slices.Equal(got.bindings, e.bindings)
}

// renew brings new values to a command that goes on: into files, then by a
// signal. What is in its environment it keeps until it ends; so the version of
// a secret that is there too stays in use, besides the new one.
func (e *Exec) renew(got collected) {
	versions, moved := got.snap.Versions(), map[string]Version{}
	var fixed []string
	for _, b := range e.bindings {
		if !b.File {
			fixed = append(fixed, b.Ref.Path)
		}
	}
	changed := map[string]Version{}
	for path, v := range versions {
		if e.given[path] != v {
			changed[path] = v
			if !slices.Contains(fixed, path) {
				moved[path] = v
			} else {
				e.Log.Warn("a secret has changed that is in the environment of the command, which keeps the old version until it is started anew", "path", path)
			}
		}
	}
	e.Uses.Also(holderCommand, changed)
	err := e.files(e.bindings, got.snap)
	if err == nil && e.OnChange == OnChangeSignal {
		err = e.running.cmd.Process.Signal(e.Signal)
	}
	if err != nil {
		e.Log.Error("the command could not be given the new versions; this is tried again", "error", err)
		e.due.Reset(idle)
		return
	}
	for path, v := range changed {
		e.given[path] = v // acted upon, as far as can be
	}
	e.Uses.Only(holderCommand, moved)
	e.Log.Info("secrets have changed", "onChange", e.OnChange, "renewed", len(moved), "keptUntilRestart", len(changed)-len(moved))
}

// afterEnd starts the next command, or answers how the last one ended.
// Processes that it left behind were given the old versions too: they end
// before anything is said of the new ones.
func (e *Exec) afterEnd() error {
	e.kill.Stop()
	code := e.running.code()
	if !killRest(e.StopTimeout + time.Second) {
		return errors.New("processes that the command left behind could not be ended; nothing new is started while they hold the old values")
	}
	next := e.next
	e.next = nil
	if next == nil || e.ending {
		if next != nil {
			next.snap.Wipe()
		}
		return &ExitError{Code: code}
	}
	e.Log.Info("the command has stopped, and is started with the new versions", "code", code)
	if err := e.start(*next); err != nil {
		return fmt.Errorf("the command has stopped, and could not be started with the new versions: %w", err)
	}
	return nil
}
