package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/strongroom/strongroom/internal/config"

	"github.com/strongroom/strongroom/internal/durable"
)

// Bounds of stopping. Requests in flight may finish; what is still there
// after that is cut.
const (
	handOverTime = 3 * time.Second
	drainTime    = 20 * time.Second
	closeTime    = 3 * time.Second
)

func serverCommand() *cobra.Command {
	var configFile string
	cmd := &cobra.Command{
		Use: "server --config FILE", Args: cobra.NoArgs,
		Short: "Run a node of a cluster",
		Long: `Runs a node until SIGTERM or SIGINT, then hands over leadership, lets requests in
flight finish, and ends. An HSM that is away is waited for: the node says in
its health and log that it is not ready, and why. SIGHUP has it read certificates,
authorities and gossip keys again, and the audit sinks open their files and
connections anew; the configuration is not read again.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			reload := takeHangups(cmd.Context())
			if err := harden(); err != nil {
				return err
			}
			cfg, err := loadConfig(configFile)
			if err != nil {
				return err
			}
			log, err := newLogger(cfg.Log)
			if err != nil {
				return err
			}
			return serve(cmd.Context(), cfg, log.With("node", cfg.Node.ID), reload)
		},
	}
	cmd.Flags().StringVar(&configFile, "config", "", "configuration file (strongroom config defaults prints one)")
	// Only seen in the list of processes: it tells servers of strongroom dev
	// from those that somebody started by hand.
	cmd.Flags().Bool(supervisedFlag, false, "started by strongroom dev")
	if err := cmd.Flags().MarkHidden(supervisedFlag); err != nil {
		panic(err) // the flag was added one line above
	}
	return cmd
}

const supervisedFlag = "supervised"

// removePIDFile removes a pid file if it still names pid.
func removePIDFile(path string, pid int) {
	raw, err := os.ReadFile(path)
	if err == nil && strings.TrimSpace(string(raw)) == strconv.Itoa(pid) {
		_ = os.Remove(path) // a stale file harms nobody
	}
}

// serve runs a node until ctx ends or it can no longer run. What comes from
// reload has it open again what others may have moved or renewed.
func serve(ctx context.Context, cfg config.Config, log *slog.Logger, reload <-chan os.Signal) error {
	if err := os.MkdirAll(cfg.Node.DataDir, 0o700); err != nil {
		return fmt.Errorf("node.dataDir: %w", err)
	}
	log.Info("starting", "version", version(), "cluster", cfg.Cluster.ID, "api", cfg.API.Listen)
	n, err := openNode(ctx, cfg, log)
	if err != nil {
		return errors.Join(err, n.abandon())
	}
	if cfg.Node.PIDFile != "" {
		if err := durable.Replace(cfg.Node.PIDFile, []byte(strconv.Itoa(os.Getpid())+"\n")); err != nil {
			return errors.Join(fmt.Errorf("node.pidFile: %w", err), n.abandon())
		}
		defer removePIDFile(cfg.Node.PIDFile, os.Getpid())
	}
	if err := n.openLog(ctx); err != nil {
		if ctx.Err() != nil {
			log.Info("stopped before the log was open")
			return n.abandon()
		}
		return errors.Join(err, n.abandon())
	}
	work, stopWork := context.WithCancel(context.WithoutCancel(ctx))
	defer stopWork()
	n.start(work)
	for {
		select {
		case <-reload:
			n.reload()
		case <-ctx.Done():
			log.Info("stopping")
			return n.stop(stopWork)
		case err := <-n.fatal:
			// The disk, the log or the state cannot be trusted any more, or a
			// listener is gone. Closing in good order would wait for just those.
			log.Error("this node must stop", "error", err)
			return err
		}
	}
}

// reload is what SIGHUP does. Nothing here may fail: who is reloaded tells by
// itself what it finds.
func (n *node) reload() {
	n.log.Info("reloading certificates, authorities and gossip keys; audit sinks open their files and connections anew")
	n.renew(n.files.Reload())
	n.sinks.Reload()
}

// stop is the orderly end: red first, so that load balancers look elsewhere;
// then leadership to somebody else, so that requests in flight are served by
// handing them on; then the requests, and what they need last.
func (n *node) stop(stopWork func()) error {
	n.draining.Store(true)
	n.api.Drain() // what only waits is answered while this node can
	ctx, cancel := context.WithTimeout(context.Background(), handOverTime)
	if _, self, _ := n.raft.Leader(); self {
		if err := n.raft.TransferLeadership(ctx, ""); err != nil {
			n.log.Warn("leadership was not handed over; the others will elect a leader", "error", err)
		}
	}
	cancel()
	ctx, cancel = context.WithTimeout(context.Background(), drainTime)
	err := n.api.Close(ctx)
	cancel()
	if err != nil {
		n.log.Warn("requests were cut off", "error", err)
	}
	stopWork()
	n.background.Wait()
	ctx, cancel = context.WithTimeout(context.Background(), closeTime)
	defer cancel()
	err = errors.Join(n.raft.Close(ctx), n.copies.Close(), n.trail.Close(), n.device.Close())
	n.log.Info("stopped")
	return err
}
