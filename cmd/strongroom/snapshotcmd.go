package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"text/tabwriter"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/strongroom/strongroom/api/wire"
	"github.com/strongroom/strongroom/engine"
	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/iam"
	"github.com/strongroom/strongroom/internal/backup"
	"github.com/strongroom/strongroom/internal/config"
	"github.com/strongroom/strongroom/internal/secret"
	"github.com/strongroom/strongroom/pkcs11"
	"github.com/strongroom/strongroom/raft"
)

func snapshotCommand() *cobra.Command {
	cmd := group("snapshot", "Backups of the whole state, encrypted: save, look at, verify, restore")
	cmd.AddCommand(snapshotSaveCommand(), snapshotListCommand(), snapshotInspectCommand(), snapshotVerifyCommand(), snapshotRestoreCommand())
	return cmd
}

func snapshotSaveCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "save FILE", Short: "Save the state of the running cluster to a new file", Args: argumentCount([]string{"file"}, 0),
		Long: `Streams the state from the leader into FILE, mode 0600: metadata and sealed
values, encrypted once more under a key that only an HSM with this cluster's
root key opens. It is no plaintext anywhere, and of no use without such an HSM.

FILE appears when it is whole. Verify it on a node: strongroom snapshot verify.`,
		Example: "  strongroom snapshot save /backup/strongroom-monday.age",
		RunE: func(cmd *cobra.Command, args []string) error {
			conn, err := connect(cmd, false)
			if err != nil {
				return err
			}
			defer conn.Close()
			var size int64
			err = backup.WriteFile(args[0], func(w io.Writer) error {
				counted := &countingWriter{to: w}
				err := conn.Stream(cmd.Context(), "cluster", "saveSnapshot", &wire.SaveSnapshotRequest{}, counted)
				size = counted.n
				return err
			})
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "saved %d bytes to %s\n", size, args[0])
			return err
		},
	}
	return cmd
}

type countingWriter struct {
	to io.Writer
	n  int64
}

// Write implements io.Writer.
func (c *countingWriter) Write(b []byte) (int, error) {
	n, err := c.to.Write(b)
	c.n += int64(n)
	return n, err
}

func snapshotInspectCommand() *cobra.Command {
	var configFile string
	cmd := &cobra.Command{
		Use: "inspect FILE", Short: "Show what a backup says of itself, without an HSM and without proof", Args: argumentCount([]string{"file"}, 0),
		Long: `Shows the header of a backup: FILE, or s3://bucket/key with the --config of a
node whose snapshots are in that bucket.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			return withBackup(cmd.Context(), configFile, args[0], func(r io.Reader) error {
				h, err := backup.Inspect(r)
				if err != nil {
					return err
				}
				return showBackup(cmd.OutOrStdout(), h, nil)
			})
		},
	}
	cmd.Flags().StringVar(&configFile, "config", "", "configuration file of a node, for a backup in a bucket")
	return cmd
}

func snapshotVerifyCommand() *cobra.Command {
	var configFile string
	cmd := &cobra.Command{
		Use: "verify FILE --config FILE", Short: "Open a backup with this node's HSM and restore it into memory", Args: argumentCount([]string{"file"}, 0),
		Long: `Opens FILE with the HSM of the node whose configuration is given, restores it
into memory, and holds what came out against what was saved: every byte is
authentic, and the state writes the same snapshot again. Nothing is changed. The
server of the node may run.

FILE may be s3://bucket/key, as snapshot ls shows it.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg, err := loadConfig(configFile)
			if err != nil {
				return err
			}
			h, state, err := openBackup(cmd.Context(), cfg, args[0])
			if err != nil {
				return err
			}
			if err := showBackup(cmd.OutOrStdout(), h, state); err != nil {
				return err
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), "The backup is whole, authentic, and restores.")
			return err
		},
	}
	cmd.Flags().StringVar(&configFile, "config", "", "configuration file of a node of the cluster")
	return cmd
}

// openBackup restores a backup with this node's HSM. A root key that the HSM
// does not hold is not brought in from the file: then who made the file would
// choose the root key.
func openBackup(ctx context.Context, cfg config.Config, path string) (h backup.Header, state *fsm.State, err error) {
	err = withPlace(ctx, cfg, path, func(f io.Reader) error {
		return withDevice(ctx, cfg, func(d *pkcs11.Device) error {
			h, state, err = engine.RestoreBackup(ctx, f, cfg.Cluster.ID, func(h backup.Header) (backup.HSM, error) {
				root, err := fsm.DecodeRoot(h.Root)
				if err != nil {
					return nil, err
				}
				if err := d.UseFoundRoots(ctx, []pkcs11.Root{rootFromState(root)}, root.Version); err != nil {
					return nil, fmt.Errorf("this HSM cannot open the backup: it must hold version %d of the cluster's root key (see docs/backup.md): %w", root.Version, err)
				}
				return d, nil
			})
			return err
		})
	})
	return h, state, err
}

// showBackup prints a header, and the state if it was opened.
func showBackup(out io.Writer, h backup.Header, state *fsm.State) error {
	w := tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)
	fmt.Fprintf(w, "cluster\t%s\nsaved by\t%s\nsaved at\t%s\nindex\t%d\nstate hash\t%x\nroot key\tversion %d\n",
		h.ClusterID, printable(h.Node), h.CreatedAt.Format(time.RFC3339), h.Index, h.StateHash, h.RootVersion)
	if state != nil {
		secrets, versions := engine.Holdings(state)
		fmt.Fprintf(w, "secrets\t%d, with %d stored versions\n", secrets, versions)
	}
	return w.Flush()
}

type restoreOptions struct {
	bootstrap bool
	admin     string
	tokenFile string
	ttl       time.Duration
}

func snapshotRestoreCommand() *cobra.Command {
	var configFile string
	var o restoreOptions
	cmd := &cobra.Command{
		Use: "restore FILE --bootstrap --config FILE", Short: "Start the cluster anew from a backup, on an empty node", Args: argumentCount([]string{"file"}, 0),
		Long: `Verifies FILE as snapshot verify does, and starts the cluster anew from it: on
the first node, with an empty data folder, while no server runs. No init is
needed. Start this node's server afterwards, and those of the other
cluster.initialMembers with empty data folders: they get the state from it.

Servers of the old cluster must be stopped and their data folders moved away
first. What was written, destroyed or revoked after the backup was saved is as
it was then: look at docs/backup.md for what to do about that.

--admin-token-file makes a new token for an administrator whose own have
expired.

FILE may be s3://bucket/key, as snapshot ls shows it: it is read from the bucket
that the configuration names, and never lies on this node's disk.`,
		Example: "  strongroom snapshot restore /backup/strongroom-monday.age --bootstrap --config /etc/strongroom/config.yaml --admin-token-file /root/admin.token",
		RunE: func(cmd *cobra.Command, args []string) error {
			if !o.bootstrap {
				return usagef("--bootstrap is missing: a backup is restored by starting the cluster anew from it, on an empty node")
			}
			if o.ttl < time.Minute || o.ttl > 10*365*24*time.Hour {
				return usagef("--admin-ttl must be between 1m and ten years; it is %v", o.ttl)
			}
			cfg, err := loadConfig(configFile)
			if err != nil {
				return err
			}
			return restoreCluster(cmd.Context(), cfg, args[0], o, cmd.OutOrStdout())
		},
	}
	cmd.Flags().StringVar(&configFile, "config", "", "configuration file of this node")
	cmd.Flags().BoolVar(&o.bootstrap, "bootstrap", false, "start the cluster anew")
	cmd.Flags().StringVar(&o.admin, "admin", "admin", "principal that --admin-token-file is for")
	cmd.Flags().StringVar(&o.tokenFile, "admin-token-file", "", "write a new token of that principal to this new file, mode 0600")
	cmd.Flags().DurationVar(&o.ttl, "admin-ttl", 24*time.Hour, "how long that token is valid")
	return cmd
}

func restoreCluster(ctx context.Context, cfg config.Config, path string, o restoreOptions, out io.Writer) error {
	if done, err := raft.Initialised(cfg.Node.DataDir); err != nil {
		return err
	} else if done {
		return fmt.Errorf("%s belongs to a cluster already; move it away, if you mean to start anew", cfg.Node.DataDir)
	}
	f, err := readFiles(cfg, slog.New(slog.DiscardHandler), nil)
	if err != nil {
		return err
	}
	h, state, err := openBackup(ctx, cfg, path)
	if err != nil {
		return err
	}
	if err := showBackup(out, h, state); err != nil {
		return err
	}
	var commands [][]byte
	if o.tokenFile != "" {
		command, token, err := restoredToken(state, o)
		if err != nil {
			return err
		}
		defer token.Wipe()
		if err := writeToken(o.tokenFile, token); err != nil {
			return err
		}
		commands = append(commands, command)
	}
	rc := raftConfig(cfg, f, slog.New(slog.DiscardHandler), nil)
	err = withDevice(ctx, cfg, func(d *pkcs11.Device) error {
		rc.Storage = openStorage(ctx, cfg, d)
		return raft.Revive(rc, rc.InitialMembers, state, commands, time.Now())
	})
	if err != nil {
		if o.tokenFile != "" {
			err = errors.Join(err, os.Remove(o.tokenFile))
		}
		return err
	}
	_, err = fmt.Fprintf(out, "Cluster %s is restored, with %d members. Now start strongroom server on this node, and on the others with empty data folders.\n",
		cfg.Cluster.ID, len(rc.InitialMembers))
	return err
}

// restoredToken makes the command of a token, after the time of the state.
func restoredToken(state *fsm.State, o restoreOptions) (command []byte, token secret.Bytes, err error) {
	if state.Principal(o.admin) == nil {
		return nil, secret.Bytes{}, fmt.Errorf("--admin: the backup has no principal %s", o.admin)
	}
	text, hash, err := iam.NewToken(rand.Reader)
	if err != nil {
		return nil, secret.Bytes{}, err
	}
	now := time.Now()
	const by = "restore"
	command, err = fsm.Encode(fsm.CreateToken{
		Meta: fsm.Meta{Time: now.UnixMilli(), Principal: by, RequestID: uuid.NewString()},
		Token: fsm.Token{
			ID: uuid.NewString(), Hash: hash[:], Principal: o.admin, Description: "made when the cluster was restored from a backup",
			CreatedAt: now.UnixMilli(), CreatedBy: by, ExpiresAt: now.Add(o.ttl).UnixMilli(),
		},
	})
	if err != nil {
		text.Wipe()
		return nil, secret.Bytes{}, err
	}
	return command, text, nil
}
