// Package sink hands on the events of this node's audit trail: to files,
// syslog receivers, webhooks and standard output. Each sink follows the trail
// by itself with a cursor that is on the disk, so one that does not work
// delays neither requests nor other sinks, and gets later what it missed.
package sink

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/strongroom/strongroom/audit"
)

// Settings describe one sink, as the configuration does (audit.sinks, whose
// checks they have passed). What is for another type is not looked at.
type Settings struct {
	Name, Type, Format            string
	Events, Outcomes              []string
	Newest                        bool // without a cursor, begin with what happens from now on
	BatchEvents, BatchBytes       int
	BatchTime                     time.Duration
	Path                          string
	MaxBytes                      int64
	Keep                          int
	Address, Facility, AppName    string
	EnterpriseNumber              int
	URL                           string
	SigningKeyFile                string
	AuthorizationFile             string
	CAFile                        string
	ClientCertFile, ClientKeyFile string
	Timeout                       time.Duration
}

// Config is what the sinks of a node work with.
type Config struct {
	Sinks  []Settings
	Trail  *audit.Trail
	Dir    string // of the cursors; made with mode 0700
	Logger *slog.Logger
	// Registerer gets the metrics; nil: none.
	Registerer prometheus.Registerer
	// Secret reads a file that nobody else may read.
	Secret func(path string) ([]byte, error)
	Stdout io.Writer

	// Times that tests squeeze; zero: as the constants say.
	backoffMin, backoffMax, saveEvery time.Duration
}

// Bounds of what a sink waits.
const (
	backoffMin = 500 * time.Millisecond
	backoffMax = time.Minute
	// saveEvery is how long a cursor that moves may be ahead of its file: after
	// a crash, so many seconds of events are handed over once more.
	saveEvery = time.Second
	// logEvery is between two lines of the log about the same trouble.
	logEvery = time.Minute
	// closeTime is how long the end of a sink may take.
	closeTime = 5 * time.Second
)

// Set is the sinks of a node. It is safe for concurrent use.
type Set struct {
	followers []*follower
	log       *slog.Logger
}

// New makes the sinks and registers their metrics. Nothing is connected or
// opened before Run.
func New(cfg Config) (*Set, error) {
	if cfg.backoffMin == 0 {
		cfg.backoffMin, cfg.backoffMax = backoffMin, backoffMax
	}
	if cfg.saveEvery == 0 {
		cfg.saveEvery = saveEvery
	}
	s := &Set{log: cfg.Logger}
	if len(cfg.Sinks) > 0 {
		if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
			return nil, fmt.Errorf("folder of the cursors of audit sinks: %w", err)
		}
	}
	m := newMetrics(s)
	for _, one := range cfg.Sinks {
		if one.MaxBytes > 0 { // a batch goes into one file
			one.BatchBytes = int(min(int64(one.BatchBytes), one.MaxBytes))
		}
		t, err := newTarget(one, cfg)
		if err != nil {
			return nil, fmt.Errorf("audit sink %s: %w", one.Name, err)
		}
		format, err := formatOf(one.Format)
		if err != nil {
			return nil, fmt.Errorf("audit sink %s: %w", one.Name, err)
		}
		s.followers = append(s.followers, &follower{
			Settings: one, cfg: cfg, trail: cfg.Trail, target: t, format: format, log: cfg.Logger.With("sink", one.Name),
			metrics: m.of(one.Name), store: cursorFile(filepath.Join(cfg.Dir, one.Name+".cursor")), kick: make(chan struct{}, 1),
		})
	}
	return s, m.register(cfg.Registerer)
}

// target takes records in their order. It answers how many it has taken for
// good, from the first on; after an error the rest comes again.
type target interface {
	deliver(ctx context.Context, records []record) (taken int, err error)
	// reload lets go of what is open, so that the next delivery opens it anew.
	// It is called by the goroutine that delivers.
	reload()
	// close is called once, after the last delivery.
	close() error
}

func newTarget(s Settings, cfg Config) (target, error) {
	switch s.Type {
	case "file":
		return &fileTarget{path: s.Path, maxBytes: s.MaxBytes, keep: s.Keep}, nil
	case "stdout":
		return &stdoutTarget{out: cfg.Stdout}, nil
	case "syslog":
		return newSyslog(s)
	case "webhook":
		return newWebhook(s, cfg.Secret)
	}
	return nil, fmt.Errorf("its type %q is not known", s.Type)
}

// Run follows the trail until ctx ends, and returns when every sink has let
// go of what it held and its cursor is on the disk. A sink whose disk hangs is
// not waited for longer than closeTime: no signal ends such a write, and the
// process ends next.
func (s *Set) Run(ctx context.Context) {
	var wg sync.WaitGroup
	for _, f := range s.followers {
		wg.Go(func() { f.run(ctx) })
	}
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()
	select {
	case <-done:
		return
	case <-ctx.Done():
	}
	late := time.NewTimer(closeTime)
	defer late.Stop()
	select {
	case <-done:
	case <-late.C:
		s.log.Error("an audit sink hangs and is left behind; it gets events again after the next start")
	}
}

// Reload has every sink open its file or connection anew, and try again now
// if it was waiting to.
func (s *Set) Reload() {
	for _, f := range s.followers {
		f.reload.Store(true)
		if wake := f.wake.Load(); wake != nil {
			(*wake)()
		}
		select {
		case f.kick <- struct{}{}:
		default: // it knows already
		}
	}
}

// OldestNeeded answers the sequence of the oldest event that a sink has not
// taken for good: what is older may be removed from the trail without a loss
// to any sink. Without sinks it is math.MaxUint64. Before Run has read the
// cursors it is 0.
func (s *Set) OldestNeeded() uint64 {
	oldest := uint64(math.MaxUint64)
	for _, f := range s.followers {
		oldest = min(oldest, f.needed.Load())
	}
	return oldest
}
