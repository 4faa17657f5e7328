package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/spf13/cobra"

	"github.com/strongroom/strongroom/internal/atrest"
	"github.com/strongroom/strongroom/internal/config"
	"github.com/strongroom/strongroom/pkcs11"
	"github.com/strongroom/strongroom/raft"
)

// rotateStorageKeyCommand seals the data folder of a node that does not run
// under a new key.
func rotateStorageKeyCommand() *cobra.Command {
	var configFile string
	var lost bool
	cmd := &cobra.Command{
		Use: "rotate-storage-key --config FILE [--lost]", Args: cobra.NoArgs,
		Short: "Seal this node's data folder under a new storage key, while its server does not run",
		Long: `Makes a new storage root inside the HSM and a new storage key under it, seals log
and snapshots anew, and destroys the old storage root: what was copied from the
disk before cannot be opened any more. It may be run again after a failure, and
goes on where it was. Do one node after the other.

With --lost it is for a node that lost its storage key, with its HSM or with the
file storage.keys: log and snapshots go into the folder damaged, and the other
members give them to this node again. Until it holds again what it held before it
does not vote. A majority of the other members must be well.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := required("config", configFile); err != nil {
				return err
			}
			cfg, err := loadConfig(configFile)
			if err != nil {
				return err
			}
			if err := rotateStorageKey(cmd.Context(), cfg, lost); err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s is sealed under a new storage key.\n", cfg.Node.DataDir)
			return err
		},
	}
	cmd.Flags().StringVar(&configFile, "config", "", "configuration file of the node")
	cmd.Flags().BoolVar(&lost, "lost", false, "the storage key cannot be opened any more: have the others give this node its log again")
	return cmd
}

func rotateStorageKey(ctx context.Context, cfg config.Config, lost bool) error {
	done, err := raft.Initialised(cfg.Node.DataDir)
	if err != nil {
		return err
	}
	if !done {
		return fmt.Errorf("node.dataDir: %s belongs to no cluster yet; its storage key is made at the first start", cfg.Node.DataDir)
	}
	begin, seal := atrest.Rotate, raft.Reseal
	if lost {
		begin, seal = atrest.Replace, raft.StartOver
	}
	f, err := readFiles(cfg, slog.New(slog.DiscardHandler), nil)
	if err != nil {
		return err
	}
	return withDevice(ctx, cfg, func(d *pkcs11.Device) error {
		var rotation *atrest.Rotation
		rc := raftConfig(cfg, f, slog.New(slog.DiscardHandler), nil)
		rc.Storage = func(fresh bool) (*atrest.Keys, error) {
			if fresh {
				return nil, errors.New("there is no log here")
			}
			var err error
			if rotation, err = begin(ctx, storagePlace(cfg, d)); err != nil {
				return nil, err
			}
			return rotation.Keys, nil
		}
		return seal(rc, func() error { return rotation.End(ctx) })
	})
}
