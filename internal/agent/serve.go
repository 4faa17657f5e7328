package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/strongroom/strongroom/client"
	"github.com/strongroom/strongroom/internal/config"
	"github.com/strongroom/strongroom/internal/secret"
)

// Options are what the command line says.
type Options struct {
	ConfigFile string
	Once       bool
	UserAgent  string
	Log        io.Writer
	// Reload has the configuration read again.
	Reload <-chan struct{}
}

// server is a running agent.
type server struct {
	o        Options
	log      *slog.Logger
	instance *Instance
	cfg      Config
	mem      *memory
	agent    *Agent
	stop     func() // of agent
}

// Serve runs the agent until ctx ends; the files stay. With Once it does all
// there is to do now, and fails if a part of it failed.
func Serve(ctx context.Context, o Options) (err error) {
	cfg, err := LoadConfig(o.ConfigFile)
	if err != nil {
		return err
	}
	instance, err := TakeInstance("connection.instance", cfg.Connection.Instance, "agent", o.ConfigFile)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, instance.Release()) }()
	log, err := newLogger(cfg.Log, o.Log)
	if err != nil {
		return err
	}
	s := &server{o: o, log: log, instance: instance, mem: &memory{uses: NewUses(log), done: map[string][32]byte{}, status: map[string]FileStatus{}}}
	next, err := s.build(cfg)
	if err != nil {
		return err
	}
	s.take(ctx, cfg, next)
	defer func() { s.stop() }()
	log.Info("the agent runs", "instance", instance.Name, "files", len(cfg.Files))
	if o.Once {
		return s.once(ctx)
	}
	closing, err := listen(cfg.Status.Listen, s.mem, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closing()) }()
	s.loop(ctx)
	log.Info("the agent ends; the files stay")
	return nil
}

func newLogger(c config.Log, out io.Writer) (*slog.Logger, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(c.Level)); err != nil {
		return nil, fmt.Errorf("log.level: %w", err)
	}
	options := &slog.HandlerOptions{Level: level}
	if c.Format == "json" {
		return slog.New(slog.NewJSONHandler(out, options)), nil
	}
	return slog.New(slog.NewTextHandler(out, options)), nil
}

// build makes an Agent without connecting.
func (s *server) build(cfg Config) (*Agent, error) {
	to := client.Config{
		Addresses: cfg.Connection.Addresses, CAFile: cfg.Connection.CAFile, UserAgent: s.o.UserAgent,
		RetryFor: 10 * time.Second, RetryConnect: 3 * time.Second,
	}
	setting, read := cfg.Connection.credential(&to)
	c, err := client.New(to)
	if err != nil {
		return nil, fmt.Errorf("connection: %w", err)
	}
	first, err := read()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", setting, err)
	}
	first.Wipe()
	source, err := NewSource(c, client.CacheConfig{Instance: s.instance.Name, MaxAge: cfg.Connection.MaxAge.D()})
	if err != nil {
		return nil, fmt.Errorf("connection: %w", err)
	}
	a, err := newAgent(cfg, source, s.mem, s.log)
	if err != nil {
		source.Close()
		return nil, err
	}
	return a, nil
}

// credential puts the token, or the access key, into to. It answers the setting
// that names the file, and what reads it: for each request, so that a file that
// was renewed is picked up, and one that others may read is refused.
func (c *Connection) credential(to *client.Config) (setting string, read func() (secret.Bytes, error)) {
	setting, file := "connection.tokenFile", c.TokenFile
	if c.AccessKeyID != "" {
		setting, file = "connection.secretAccessKeyFile", c.SecretAccessKeyFile
	}
	read = client.TokenFunc(func() ([]byte, error) { return config.ReadSecret(file, 4096) })
	if c.AccessKeyID != "" {
		to.AccessKeyID, to.AccessKeySecret = c.AccessKeyID, read
	} else {
		to.Token = read
	}
	return setting, read
}

// take has an Agent work, in place of the one before.
func (s *server) take(ctx context.Context, cfg Config, a *Agent) {
	if s.stop != nil {
		s.stop()
	}
	s.cfg, s.agent = cfg, a
	a.takeOver()
	ctx, cancel := context.WithCancel(ctx)
	told := make(chan struct{})
	go func() {
		defer close(told)
		if !s.o.Once {
			s.mem.uses.Run(ctx, a.source)
		}
	}()
	s.stop = func() {
		cancel()
		<-told
		a.source.Close()
	}
}

// reload takes a new configuration, or goes on with the old one.
func (s *server) reload(ctx context.Context) {
	cfg, err := LoadConfig(s.o.ConfigFile)
	if err == nil && (cfg.Connection.Instance != s.cfg.Connection.Instance || cfg.Status != s.cfg.Status || cfg.Log != s.cfg.Log) {
		err = errors.New("connection.instance, status and log cannot change while the agent runs; restart it")
	}
	var next *Agent
	if err == nil {
		next, err = s.build(cfg)
	}
	if err != nil {
		s.log.Error("the configuration was not taken; the agent goes on with the one before", "error", err)
		return
	}
	s.take(ctx, cfg, next)
	s.log.Info("the configuration was read again", "files", len(cfg.Files))
}

func (s *server) loop(ctx context.Context) {
	timer := time.NewTimer(s.agent.pass(ctx))
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.o.Reload:
			s.reload(ctx)
			timer.Reset(0)
		case <-s.agent.source.Changed():
			s.mem.uses.Look()
			s.agent.hurry()
			timer.Reset(splay(s.cfg.Connection.Splay.D()))
		case <-timer.C:
			timer.Reset(s.agent.pass(ctx))
		}
	}
}

// once does everything one time. The cluster is told too; that it was not is a
// failure, because nobody tells it later.
func (s *server) once(ctx context.Context) error {
	s.agent.pass(ctx)
	var failed []error
	for _, f := range s.agent.files {
		if one := s.mem.status[f.file.Destination]; one.State != stateCurrent {
			failed = append(failed, fmt.Errorf("%s: %s: %s", one.Destination, one.State, one.Error))
		}
	}
	if len(failed) > 0 {
		return errors.Join(failed...)
	}
	if !s.mem.uses.Settle(ctx, s.agent.source) {
		return errors.New("the files are written, and the cluster could not be told which versions they have; run this again")
	}
	return nil
}
