package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/strongroom/strongroom/engine"
	"github.com/strongroom/strongroom/internal/config"
	"github.com/strongroom/strongroom/internal/durable"
	"github.com/strongroom/strongroom/internal/secret"
	"github.com/strongroom/strongroom/pkcs11"
	"github.com/strongroom/strongroom/raft"
)

type initOptions struct {
	transportKeys []string // NODE=FILE
	tokenFile     string   // "": the token is printed
	ttl           time.Duration
}

func initCommand() *cobra.Command {
	var configFile string
	var o initOptions
	cmd := &cobra.Command{
		Use: "init --config FILE --transport-key NODE=FILE… [--admin-token-file FILE]", Args: cobra.NoArgs,
		Short: "Start a new cluster: once, on its first node, while no server runs",
		Long: `Makes the root key inside this node's HSM, wraps it to the transport keys of all
first members, and writes the first entry of the replicated log: root key,
default KMS key, an administrator and a token for them.

Every member but this one needs a --transport-key (strongroom hsm
create-transport-key on that member). The token is shown once and kept nowhere.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := loadConfig(configFile)
			if err != nil {
				return err
			}
			return initCluster(cmd.Context(), cfg, o, cmd.OutOrStdout())
		},
	}
	cmd.Flags().StringVar(&configFile, "config", "", "configuration file of the first node")
	cmd.Flags().StringArrayVar(&o.transportKeys, "transport-key", nil, "NODE=FILE, the public transport key of a member; once for each")
	cmd.Flags().StringVar(&o.tokenFile, "admin-token-file", "", "write the administrator's token to this new file, mode 0600 (default: print it)")
	cmd.Flags().DurationVar(&o.ttl, "admin-ttl", 24*time.Hour, "how long that token is valid")
	return cmd
}

// initCluster is the ceremony. The token is in its file before the cluster
// exists, and the file goes again if the cluster does not come into being:
// there is no cluster that nobody can log in to.
func initCluster(ctx context.Context, cfg config.Config, o initOptions, out io.Writer) error {
	if done, err := raft.Initialised(cfg.Node.DataDir); err != nil {
		return err
	} else if done {
		return fmt.Errorf("%s already belongs to a cluster; init runs once in the life of a cluster", cfg.Node.DataDir)
	}
	if o.ttl < time.Minute || o.ttl > 10*365*24*time.Hour {
		return usagef("--admin-ttl must be between 1m and ten years; it is %v", o.ttl)
	}
	if len(cfg.Cluster.InitialMembers) == 0 {
		return errors.New("cluster.initialMembers: is empty; name all first members, this one included")
	}
	recipients, err := readRecipients(cfg, o.transportKeys)
	if err != nil {
		return err
	}
	f, err := readFiles(cfg, slog.New(slog.DiscardHandler), nil)
	if err != nil {
		return err
	}
	command, token, err := makeGenesis(ctx, cfg, recipients, o.ttl)
	if err != nil {
		return err
	}
	defer token.Wipe()
	rc := raftConfig(cfg, f, slog.New(slog.DiscardHandler), nil)
	if o.tokenFile != "" {
		if err := writeToken(o.tokenFile, token); err != nil {
			return err
		}
	}
	err = withDevice(ctx, cfg, func(d *pkcs11.Device) error {
		rc.Storage = openStorage(ctx, cfg, d)
		return raft.Bootstrap(rc, rc.InitialMembers, command)
	})
	if err != nil {
		if o.tokenFile != "" {
			err = errors.Join(err, os.Remove(o.tokenFile))
		}
		return err
	}
	if o.tokenFile == "" {
		_, err = fmt.Fprintf(out, "The administrator's token, valid %v, shown this once:\n%s\n", o.ttl, token.Expose())
	} else {
		_, err = fmt.Fprintf(out, "The administrator's token is in %s, valid %v.\n", o.tokenFile, o.ttl)
	}
	if err != nil {
		return fmt.Errorf("the cluster was made, but this could not be shown: %w", err)
	}
	_, err = fmt.Fprintf(out, "Cluster %s with %d members is made. Now start strongroom server on each of them.\n", cfg.Cluster.ID, len(rc.InitialMembers))
	return err
}

// makeGenesis does everything that needs the HSM.
func makeGenesis(ctx context.Context, cfg config.Config, to []pkcs11.Recipient, ttl time.Duration) (command []byte, token secret.Bytes, err error) {
	err = withDevice(ctx, cfg, func(d *pkcs11.Device) error {
		own, err := d.TransportKey(ctx)
		if err != nil {
			return fmt.Errorf("this node's transport key: %w (strongroom hsm create-transport-key makes it)", err)
		}
		to = append(to, pkcs11.Recipient{NodeID: cfg.Node.ID, PublicDER: own.PublicDER, Wrap: own.Wrap})
		root, err := d.CreateRoot(ctx, 1, to)
		if err != nil {
			return fmt.Errorf("root key: %w", err)
		}
		command, token, err = engine.Genesis(ctx, engine.GenesisInput{
			ClusterID: cfg.Cluster.ID, Now: time.Now(), Token: d, Root: rootToState(root), AdminName: "admin", AdminTTL: ttl,
		})
		return err
	})
	return command, token, err
}

// readRecipients matches keys and members: one for each but ourselves. A
// member without a copy of the root key could never serve.
func readRecipients(cfg config.Config, args []string) ([]pkcs11.Recipient, error) {
	want := map[string]bool{}
	for _, m := range cfg.Cluster.InitialMembers {
		want[m.ID] = m.ID != cfg.Node.ID
	}
	var out []pkcs11.Recipient
	for _, arg := range args {
		id, file, ok := strings.Cut(arg, "=")
		if !ok {
			return nil, usagef("--transport-key must be NODE=FILE; it is %q", arg)
		}
		if id == cfg.Node.ID {
			continue // our own comes from the HSM itself
		}
		if !want[id] {
			return nil, usagef("--transport-key: %q is not in cluster.initialMembers, or is given twice", id)
		}
		want[id] = false
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("transport key of %s: %w", id, err)
		}
		r, err := parseTransportKey(id, text)
		if err != nil {
			return nil, err
		}
		out = append(out, r)
	}
	var missing []string
	for id, still := range want {
		if still {
			missing = append(missing, id)
		}
	}
	if len(missing) > 0 {
		slices.Sort(missing)
		return nil, usagef("--transport-key is missing for %s", strings.Join(missing, ", "))
	}
	return out, nil
}

func writeToken(path string, token secret.Bytes) error {
	text := append(append(make([]byte, 0, token.Len()+1), token.Expose()...), '\n')
	defer clear(text)
	if err := durable.Create(path, text); err != nil {
		return fmt.Errorf("administrator's token: %w", err)
	}
	return nil
}
