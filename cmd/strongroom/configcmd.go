package main

import (
	"fmt"
	"log/slog"

	"github.com/spf13/cobra"

	"github.com/strongroom/strongroom/internal/config"
)

func configCommand() *cobra.Command {
	cmd := group("config", "Check a server's configuration, or show the defaults")
	var path string
	check := &cobra.Command{
		Use: "check --config FILE", Short: "Check a configuration and the files that it names; lists every fault", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := loadConfig(path)
			if err != nil {
				return err
			}
			if _, err := readFiles(cfg, slog.New(slog.DiscardHandler), nil); err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s: ok (node %s of cluster %s)\n", path, cfg.Node.ID, cfg.Cluster.ID)
			return err
		},
	}
	check.Flags().StringVar(&path, "config", "", "configuration file")
	defaults := &cobra.Command{
		Use: "defaults", Aliases: []string{"show-defaults"}, Short: "Print every setting with its default and meaning, as a file to start from", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := fmt.Fprint(cmd.OutOrStdout(), config.DefaultsYAML())
			return err
		},
	}
	reference := &cobra.Command{
		Use: "reference", Short: "Print the reference of docs/configuration.md", Args: cobra.NoArgs, Hidden: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := fmt.Fprint(cmd.OutOrStdout(), config.Reference())
			return err
		},
	}
	cmd.AddCommand(check, defaults, reference)
	return cmd
}
