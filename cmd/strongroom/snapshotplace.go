package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/strongroom/strongroom/engine"
	"github.com/strongroom/strongroom/internal/backup"
	"github.com/strongroom/strongroom/internal/config"
	"github.com/strongroom/strongroom/internal/objectstore"
)

// backupsOf is where, and how often, a node saves its state.
func backupsOf(cfg config.Config) (engine.Backups, error) {
	out := engine.Backups{Dir: cfg.Snapshots.Dir, Every: cfg.Snapshots.Every.D(), Keep: cfg.Snapshots.Keep}
	if cfg.Snapshots.S3Bucket == "" {
		return out, nil
	}
	bucket, err := bucketOf(cfg)
	if err != nil {
		return out, err
	}
	out.Store = bucket
	return out, nil
}

func bucketOf(cfg config.Config) (*objectstore.Bucket, error) {
	s := cfg.Snapshots
	if s.S3Bucket == "" {
		return nil, errors.New("snapshots.s3Bucket: the configuration names no bucket")
	}
	return objectstore.New(objectstore.Config{
		Endpoint: s.S3Endpoint, Region: s.S3Region, Bucket: s.S3Bucket, Prefix: s.S3Prefix, PathStyle: s.S3PathStyle, CAFile: s.S3CAFile,
		Credentials: s.S3Credentials, CredentialsFile: s.S3CredentialsFile, ClusterID: cfg.Cluster.ID, Node: cfg.Node.ID,
	})
}

// withBackup is withPlace for what needs no configuration unless the backup is
// in a bucket.
func withBackup(ctx context.Context, configFile, place string, do func(io.Reader) error) error {
	var cfg config.Config
	if objectstore.Is(place) {
		var err error
		if cfg, err = loadConfig(configFile); err != nil {
			return err
		}
	}
	return withPlace(ctx, cfg, place, do)
}

// withPlace reads a backup from a file or, as s3://bucket/key, from the store
// that cfg names.
func withPlace(ctx context.Context, cfg config.Config, place string, do func(io.Reader) error) error {
	var in io.ReadCloser
	var err error
	if objectstore.Is(place) {
		var bucket *objectstore.Bucket
		if bucket, err = bucketOf(cfg); err == nil {
			in, err = bucket.Open(ctx, place)
		}
	} else {
		in, err = os.Open(place)
	}
	if err != nil {
		return err
	}
	return errors.Join(do(in), in.Close())
}

func snapshotListCommand() *cobra.Command {
	var configFile string
	cmd := &cobra.Command{
		Use: "ls --config FILE", Short: "List the backups where a node saves its own, the newest first", Args: argumentCount(nil, 0),
		Long: `Lists what is in snapshots.dir, or in the bucket of snapshots.s3Bucket: there
those of all nodes of the cluster. No server and no HSM is needed, and nothing
is proven: strongroom snapshot verify proves one.`,
		Example: "  strongroom snapshot ls --config /etc/strongroom/config.yaml",
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := loadConfig(configFile)
			if err != nil {
				return err
			}
			all, err := savedBackups(cmd.Context(), cfg)
			if err != nil {
				return err
			}
			w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 4, 2, ' ', 0)
			fmt.Fprintln(w, "SAVED AT\tBYTES\tWHERE")
			for _, one := range all {
				fmt.Fprintf(w, "%s\t%d\t%s\n", one.At.Format(time.RFC3339), one.Size, printable(one.Path))
			}
			return w.Flush()
		},
	}
	cmd.Flags().StringVar(&configFile, "config", "", "configuration file of a node of the cluster")
	return cmd
}

func savedBackups(ctx context.Context, cfg config.Config) ([]backup.Saved, error) {
	if cfg.Snapshots.Dir != "" {
		return backup.Folder{Dir: cfg.Snapshots.Dir}.List()
	}
	bucket, err := bucketOf(cfg)
	if err != nil {
		return nil, fmt.Errorf("this node saves no snapshots: neither snapshots.dir nor snapshots.s3Bucket is set")
	}
	return bucket.ListCluster(ctx)
}
