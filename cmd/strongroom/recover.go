package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/user"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/strongroom/strongroom/engine"
	"github.com/strongroom/strongroom/internal/config"
	"github.com/strongroom/strongroom/pkcs11"
	"github.com/strongroom/strongroom/raft"
)

type recoverOptions struct {
	look    bool
	confirm string
	reason  string
}

func recoverCommand() *cobra.Command {
	var configFile string
	var o recoverOptions
	cmd := &cobra.Command{
		Use: "recover --config FILE --reason TEXT [--look] [--confirm CLUSTER]", Args: cobra.NoArgs,
		Short: "Go on with the one node that is left, after the majority was lost for good; while its server does not run",
		Long: `For a cluster of which a majority of the voters will never come back. It makes this
node the only member, with what its data folder holds, and removes all others for
ever: writes that they acknowledged and this node has not heard of are lost.

It opens the folder with the node's HSM, shows what is there and what may be lost,
and has you type the name of the cluster (cluster.id) before it changes anything;
scripts give it as --confirm. Where several nodes are left, run it with --look on
each, and go on with the one that is furthest ahead.

Start the server afterwards, and add new nodes, each with a new id and an empty data
folder. The data folders of all other nodes must never be used again.

If this is interrupted, run it again, or start the server: the node is then what it
was, or recovered.`,
		Example: "  strongroom cluster recover --config /etc/strongroom/config.yaml --look\n" +
			"  strongroom cluster recover --config /etc/strongroom/config.yaml --reason \"the data centre in Aachen burnt down\"",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := required("config", configFile); err != nil {
				return err
			}
			if o.reason == "" && !o.look {
				return usagef("--reason is required: it is kept for ever, in the state and in the audit trail")
			}
			cfg, err := loadConfig(configFile)
			if err != nil {
				return err
			}
			return recoverCluster(cmd.Context(), cfg, o, cmd.InOrStdin(), cmd.OutOrStdout())
		},
	}
	cmd.Flags().StringVar(&configFile, "config", "", "configuration file of the node that is to go on")
	cmd.Flags().BoolVar(&o.look, "look", false, "show what the node holds, and change nothing")
	cmd.Flags().StringVar(&o.confirm, "confirm", "", "name of the cluster, in the place of typing it")
	cmd.Flags().StringVar(&o.reason, "reason", "", "why, for those who come after you")
	return cmd
}

func recoverCluster(ctx context.Context, cfg config.Config, o recoverOptions, in io.Reader, out io.Writer) error {
	f, err := readFiles(cfg, slog.New(slog.DiscardHandler), nil)
	if err != nil {
		return err
	}
	operator, err := operatorName()
	if err != nil {
		return err
	}
	return withDevice(ctx, cfg, func(d *pkcs11.Device) error {
		rc := raftConfig(cfg, f, slog.New(slog.DiscardHandler), nil)
		rc.Storage = openStorage(ctx, cfg, d)
		seen, err := raft.Examine(rc)
		if err != nil {
			return err
		}
		if err := showRemains(out, cfg, seen, time.Now()); err != nil || o.look {
			return err
		}
		// What was decided before is finished by every start of the server, too.
		if seen.Decided == nil {
			if err := confirmed(cfg.Cluster.ID, o.confirm, in, out); err != nil {
				return err
			}
		}
		done, err := raft.Recover(rc, raft.Recovery{Seen: seen, Operator: operator, Reason: o.reason, Now: time.Now()})
		if err != nil {
			return err
		}
		return showRecovered(out, cfg, done)
	})
}

// confirmed has the name of the cluster typed, if it was not given.
func confirmed(cluster, given string, in io.Reader, out io.Writer) error {
	if given == "" {
		if _, err := fmt.Fprintf(out, "\nType the name of the cluster to go on: "); err != nil {
			return err
		}
		line, err := bufio.NewReader(io.LimitReader(in, 1024)).ReadString('\n')
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		given = strings.TrimSpace(line)
	}
	if given != cluster {
		return errors.New("that is not the name of this cluster; nothing was changed")
	}
	return nil
}

// operatorName is who runs this command, by the system's word and sudo's.
func operatorName() (string, error) {
	u, err := user.Current()
	if err != nil {
		return "", fmt.Errorf("who runs this command: %w", err)
	}
	name := u.Username
	if by := os.Getenv("SUDO_USER"); by != "" && by != name {
		name += " by sudo of " + by
	}
	return fmt.Sprintf("%.100s", printable(name)), nil
}

func showRemains(out io.Writer, cfg config.Config, r raft.Remains, now time.Time) error {
	w := tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)
	secrets, versions := engine.Holdings(r.State)
	fmt.Fprintf(w, "cluster\t%s\nthis node\t%s at %s\n", cfg.Cluster.ID, cfg.Node.ID, cfg.Cluster.Advertise)
	fmt.Fprintf(w, "last entry\tterm %d, index %d\n", r.LastTerm, r.LastIndex)
	fmt.Fprintf(w, "last command\t%s, %v ago\n", r.LastCommand.UTC().Format(time.RFC3339), now.Sub(r.LastCommand).Round(time.Second))
	fmt.Fprintf(w, "secrets\t%d, with %d stored versions\n", secrets, versions)
	for _, s := range r.Others {
		fmt.Fprintf(w, "other member\t%s at %s\n", printable(s.ID), printable(s.Address))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if r.Decided != nil {
		_, err := fmt.Fprintf(out, "\nThe recovery was decided at %s and not finished. It is finished now, or by the next start of the server.\n",
			time.UnixMilli(r.Decided.At).UTC().Format(time.RFC3339))
		return err
	}
	if len(r.Others) == 0 && r.Missing == 0 {
		return nil // Recover says that there is nothing to do
	}
	text := `
What may be lost: every write that the others acknowledged behind this last entry, for
ever. How many there are, this node cannot know. Entries that it has and that nobody
acknowledged count as written from now on.

If another node is left with its data folder, run this command there with --look. The
node with the highest term has most; of those with the same term, the one with the
highest index. Go on with that one. If a majority of the members can be started after
all, start them, and do not go on here.

After this the data folders of all other members must never be used again: their ids
are removed for ever. Destroy the folders, or move them away, now. If a majority of
those machines comes back where it cannot reach this node, it serves as a second cluster
of the same name, and nothing can prevent that. Join tokens are revoked. What there is of
versions counts as held by somebody for as long as a reader may keep it.
`
	if r.Missing != 0 {
		text = fmt.Sprintf("\nThe log of this node is DAMAGED: it had entries up to %d, and those behind the last entry above are lost here.\n", r.Missing) + text
	}
	_, err := io.WriteString(out, text)
	return err
}

func showRecovered(out io.Writer, cfg config.Config, done raft.Recovered) error {
	var cut []string
	for _, n := range done.Record.CutOff {
		cut = append(cut, printable(n.ID))
	}
	text := fmt.Sprintf("\nCluster %s is recovered on %s, its only member, from entry %d on.", cfg.Cluster.ID, cfg.Node.ID, done.Record.Index)
	if len(cut) > 0 {
		text += fmt.Sprintf(" Removed for ever: %s.", strings.Join(cut, ", "))
	}
	text += "\nStart strongroom server here, then add new nodes (strongroom cluster add, or join-token create).\n"
	if done.Aside != "" {
		text += fmt.Sprintf("What was here before is in %s. Remove that folder once you are sure: rm -r %s\n", done.Aside, done.Aside)
	}
	_, err := io.WriteString(out, text)
	return err
}
