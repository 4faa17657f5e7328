package main

import (
	"context"
	"os"
	"os/signal"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/strongroom/strongroom/internal/agent"
)

const agentHelp = `Keep files up to date with values of secrets, and run a command or send a
signal when one has changed.

A version is confirmed to the cluster once the file has it, and the command has
succeeded, so that the old one can be destroyed safely. While the cluster is
away the files stay as they are. SIGHUP reads the configuration again; SIGTERM
ends the agent, and leaves the files. docs/agent.md describes the configuration.`

func agentCommand() *cobra.Command {
	o := agent.Options{UserAgent: "strongroom/" + version()}
	cmd := &cobra.Command{
		Use: "agent --config FILE", Short: "Keep files up to date with values of secrets", Long: agentHelp, Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := required("config", o.ConfigFile); err != nil {
				return err
			}
			if err := harden(); err != nil {
				return err
			}
			o.Log = cmd.ErrOrStderr()
			return runAgent(cmd.Context(), o)
		},
	}
	cmd.Flags().StringVar(&o.ConfigFile, "config", "", "configuration (YAML; required)")
	cmd.Flags().BoolVar(&o.Once, "once", false, "write the files, run the commands, and end; 1 if a part of it failed")
	return cmd
}

// runAgent passes SIGHUP on as a wish to reload, and ends at the others.
func runAgent(parent context.Context, o agent.Options) error {
	ctx, cancel := context.WithCancel(context.WithoutCancel(parent))
	defer cancel()
	signals, reload := make(chan os.Signal, 8), make(chan struct{}, 1)
	signal.Notify(signals, unix.SIGTERM, unix.SIGINT, unix.SIGHUP)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for s := range signals {
			if s != unix.SIGHUP {
				cancel()
				continue
			}
			select {
			case reload <- struct{}{}:
			default:
			}
		}
	}()
	o.Reload = reload
	err := agent.Serve(ctx, o)
	signal.Stop(signals)
	close(signals)
	<-ended
	return err
}
