package main

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/strongroom/strongroom/api/wire"
	"github.com/strongroom/strongroom/internal/checkpoint"
	"github.com/strongroom/strongroom/internal/durable"
	"github.com/strongroom/strongroom/internal/fault"
)

// auditWitnessCommand is run by another party, on another machine: it cosigns
// what continues what it saw before, and keeps it.
func auditWitnessCommand() *cobra.Command {
	w := &witness{}
	cmd := &cobra.Command{
		Use: "witness --dir DIR --name NAME", Short: "Cosign checkpoints that continue those before, for another party",
		Args: cobra.NoArgs,
		Long: `Asks a cluster for its checkpoints, checks the signature and, by a consistency
proof (RFC 6962), that each continues the one that was cosigned before, and
cosigns it (C2SP tlog-cosignature, Ed25519). What it cosigned is kept in DIR,
NODE-CHAIN.checkpoint for each chain, for strongroom audit verify.

A cluster that shows one history to its auditors and another one to others
cannot have both cosigned. With --hand-in the cluster gets what was cosigned, and
strongroom audit cosigned shows it to auditors; it takes cosignatures of those
alone whose NAME+KEY, the first line that this prints, is in audit.witnesses of
its nodes. Run it where the operators of the cluster have no
say, with a credential that may audit:getCheckpoint and audit:getProof, and for
--hand-in audit:addCosignature.

The first run makes the key of the witness, DIR/witness.key, and keeps the
public keys of the cluster in DIR/audit.pem, unless that file is there: put it
there yourself if you have it from elsewhere. A checkpoint under a key that is
not in it is refused: add the key when the cluster has told you of a rotation.`,
		Example: "  strongroom audit witness --dir /var/lib/witness --name witness.example.com --once",
		RunE:    w.run,
	}
	cmd.Flags().StringVar(&w.dir, "dir", "", "folder of the witness; made if it is not there")
	cmd.Flags().StringVar(&w.name, "name", "", "name of the witness, such as witness.example.com")
	cmd.Flags().DurationVar(&w.every, "every", time.Minute, "how often to ask")
	cmd.Flags().BoolVar(&w.once, "once", false, "ask once, and fail if a checkpoint is refused")
	cmd.Flags().BoolVar(&w.handIn, "hand-in", false, "give the cluster what was cosigned, for audit cosigned")
	return cmd
}

// witness is one run.
type witness struct {
	dir, name string
	every     time.Duration
	once      bool
	handIn    bool

	key  ed25519.PrivateKey
	keys []checkpoint.Key // of the cluster
	conn *connection
}

func (w *witness) run(cmd *cobra.Command, _ []string) error {
	if w.dir == "" {
		return usagef("--dir is missing: the folder of the witness")
	}
	if err := checkpoint.CheckName(w.name); err != nil {
		return usagef("--name: %v", err)
	}
	if w.every < time.Second {
		return usagef("--every must be at least 1s")
	}
	if err := os.MkdirAll(w.dir, 0o700); err != nil {
		return err
	}
	var err error
	if w.key, err = witnessKey(filepath.Join(w.dir, "witness.key")); err != nil {
		return err
	}
	public, _ := w.key.Public().(ed25519.PublicKey)
	fmt.Fprintf(cmd.OutOrStdout(), "witness %s\n", w.name+"+"+base64.StdEncoding.EncodeToString(public))
	if w.conn, err = connect(cmd, false); err != nil {
		return err
	}
	defer w.conn.Close()
	for {
		err := w.round(cmd)
		if w.once {
			return err
		}
		if err != nil {
			fmt.Fprintf(cmd.ErrOrStderr(), "%s %s\n", time.Now().UTC().Format(time.RFC3339), printable(err.Error()))
		}
		select {
		case <-time.After(w.every):
		case <-cmd.Context().Done():
			return nil
		}
	}
}

// witnessKey reads the key of the witness, or makes one.
func witnessKey(path string) (ed25519.PrivateKey, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		_, key, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			return nil, err
		}
		der, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			return nil, err
		}
		return key, durable.Replace(path, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	}
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, usagef("%s is not a key in PEM; bring back the one that was there", path)
	}
	any, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	key, ok := any.(ed25519.PrivateKey)
	if err != nil || !ok {
		return nil, usagef("%s is not an Ed25519 key; bring back the one that was there", path)
	}
	return key, nil
}

// round asks once, and goes on to the next chain where one is refused.
func (w *witness) round(cmd *cobra.Command) error {
	var got wire.GetCheckpointResponse
	if err := w.conn.Do(cmd.Context(), "audit", "getCheckpoint", &wire.GetCheckpointRequest{}, &got); err != nil {
		return err
	}
	if err := w.readKeys(got.PublicKeys); err != nil {
		return err
	}
	var refused error
	for _, c := range got.Checkpoints {
		size, err := w.see(cmd.Context(), c)
		switch {
		case err != nil:
			refused = errors.Join(refused, fault.New(fault.Conflict, "REFUSED the checkpoint of %s over %d events: %v", c.Node, c.Size, err))
		case size > 0:
			fmt.Fprintf(cmd.OutOrStdout(), "cosigned %s, %d events\n", printable(c.Node), size)
		}
		if w.handIn && err == nil {
			refused = errors.Join(refused, w.give(cmd, c))
		}
	}
	return refused
}

// give hands in what was cosigned of a chain, unless the cluster has it: what
// failed before is tried again.
func (w *witness) give(cmd *cobra.Command, c wire.Checkpoint) error {
	text, err := os.ReadFile(w.path(c.Node, c.Chain))
	if err != nil {
		return err
	}
	kept, err := checkpoint.Open(text, w.keys)
	if err != nil {
		return err
	}
	if slices.ContainsFunc(c.Cosigned, func(s wire.Cosignature) bool { return s.Witness == w.name && s.Size >= kept.Size }) {
		return nil
	}
	var got wire.AddCosignatureResponse
	if err := w.conn.Do(cmd.Context(), "audit", "addCosignature", &wire.AddCosignatureRequest{Note: string(text)}, &got); err != nil {
		return fmt.Errorf("the cosigned checkpoint of %s over %d events was not taken: %w", kept.Node, kept.Size, err)
	}
	fmt.Fprintf(cmd.OutOrStdout(), "handed in %s, %d events\n", printable(kept.Node), kept.Size)
	return nil
}

// path is where the newest cosigned checkpoint of a chain is kept.
func (w *witness) path(node, chain string) string {
	return filepath.Join(w.dir, node+"-"+chain[:16]+".checkpoint")
}

// readKeys takes the keys that are pinned; the first time, those that the
// cluster shows.
func (w *witness) readKeys(shown string) error {
	path := filepath.Join(w.dir, "audit.pem")
	text, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		text = []byte(shown)
		if _, err := checkpoint.ParseKeys(text); err != nil {
			return fmt.Errorf("the public keys that the cluster shows: %w", err)
		}
		err = durable.Replace(path, text)
	}
	if err == nil {
		w.keys, err = checkpoint.ParseKeys(text)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

// see cosigns one checkpoint, if it is new and continues the one before. It
// answers its size, 0 if there is nothing new.
func (w *witness) see(ctx context.Context, c wire.Checkpoint) (uint64, error) {
	now, err := checkpoint.Open([]byte(c.Note), w.keys)
	if err != nil {
		return 0, err
	}
	if c.Node != now.Node || c.Chain != now.Chain {
		return 0, fmt.Errorf("it is of %s, and was shown as another one's", now.Origin())
	}
	path := w.path(now.Node, now.Chain)
	text, err := os.ReadFile(path)
	if err == nil {
		before, bad := checkpoint.Open(text, w.keys)
		if bad != nil {
			return 0, fmt.Errorf("%s: %w", path, bad)
		}
		if before.Origin() != now.Origin() {
			return 0, fmt.Errorf("%s is of %s", path, before.Origin())
		}
		if fresh, bad := w.continues(ctx, before.Checkpoint, now.Checkpoint); bad != nil || !fresh {
			return 0, bad
		}
	} else if !errors.Is(err, os.ErrNotExist) {
		return 0, err
	}
	signed, err := checkpoint.Cosign([]byte(c.Note), w.name, w.key, time.Now())
	if err != nil {
		return 0, err
	}
	return now.Size, durable.Replace(path, signed)
}

// continues reports whether now is newer than before, and fails if it does
// not continue it.
func (w *witness) continues(ctx context.Context, before, now checkpoint.Checkpoint) (bool, error) {
	switch {
	case now.Size == before.Size && now.Root == before.Root:
		return false, nil
	case now.Size == before.Size:
		return false, errors.New("it has another root than the one over as many events that was cosigned: the cluster has signed two histories")
	case now.Size < before.Size:
		// The node that answers is behind the one that answered before. If events
		// are gone, the checkpoint that grows past the one before tells.
		return false, nil
	}
	var got wire.GetProofResponse
	if err := w.conn.Do(ctx, "audit", "getProof", &wire.GetProofRequest{Node: now.Node, Chain: now.Chain, FromSize: before.Size, Size: now.Size}, &got); err != nil {
		return false, err
	}
	var proof tlog.TreeProof
	for _, text := range got.Consistency {
		h, err := tlog.ParseHash(text)
		if err != nil {
			return false, err
		}
		proof = append(proof, h)
	}
	if err := tlog.CheckTree(proof, int64(now.Size), now.Root, int64(before.Size), before.Root); err != nil {
		return false, fmt.Errorf("it does not continue the one over %d events that was cosigned: events were removed or changed", before.Size)
	}
	return true, nil
}
