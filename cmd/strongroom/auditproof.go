package main

import (
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/strongroom/strongroom/api/wire"
	"github.com/strongroom/strongroom/internal/fault"
)

// auditForms are the short forms for what auditors take along.
func auditForms() []opForm {
	query := withExample(short("query", "audit", "queryEvents"), "  strongroom audit query --path /app/dev/web/db-password --from -1h")
	checkpoint := short("checkpoint", "audit", "getCheckpoint", "node")
	checkpoint.optional, checkpoint.show = 1, showCheckpoints
	checkpoint.example = "  strongroom audit checkpoint\n  strongroom audit checkpoint node1 --size 1000"
	cosigned := short("cosigned", "audit", "getCheckpoint", "node")
	cosigned.short = "Print the newest checkpoint of a member's chain that a witness cosigned, as audit verify --checkpoint takes it."
	cosigned.show = showCosigned
	cosigned.example = "  strongroom audit cosigned node1 > node1.checkpoint\n  strongroom audit verify trail.jsonl --key audit.pem --checkpoint node1.checkpoint --witness NAME+KEY"
	key := short("key", "audit", "getCheckpoint")
	key.short = "Print the public keys that audit verify takes, in PEM."
	key.show = func(s *session, resp any) error {
		_, err := fmt.Fprint(s.out, resp.(*wire.GetCheckpointResponse).PublicKeys)
		return err
	}
	key.example = "  strongroom audit key > audit.pem"
	export := short("export", "audit", "exportEvents", "node")
	export.optional = 1
	export.example = "  strongroom audit export > trail.jsonl\n  strongroom audit export node1 --from -24h > day.jsonl\n  strongroom audit verify trail.jsonl day.jsonl --key audit.pem"
	proof := short("proof", "audit", "getProof", "node")
	proof.example = "  strongroom audit proof node1 --sequence 1204\n  strongroom audit proof node1 --from-size 1000"
	return []opForm{query, short("chains", "audit", "listChains"), checkpoint, cosigned, key, export, proof}
}

func showCheckpoints(s *session, resp any) error {
	for i, c := range resp.(*wire.GetCheckpointResponse).Checkpoints {
		if i > 0 {
			fmt.Fprintln(s.out)
		}
		// A note is text of the server's: no byte of it steers the terminal.
		for _, line := range strings.Split(strings.TrimSuffix(c.Note, "\n"), "\n") {
			if _, err := fmt.Fprintln(s.out, printable(line)); err != nil {
				return err
			}
		}
		if c.Problem != "" {
			fmt.Fprintf(s.errOut, "PROBLEM with the trail of %s: %s\n", printable(c.Node), printable(c.Problem))
		}
	}
	return nil
}

// showCosigned prints the one over most events. A file holds one checkpoint;
// -o json shows those of all witnesses.
func showCosigned(s *session, resp any) error {
	var newest *wire.Cosignature
	for _, c := range resp.(*wire.GetCheckpointResponse).Checkpoints {
		for i := range c.Cosigned {
			if newest == nil || c.Cosigned[i].Size > newest.Size {
				newest = &c.Cosigned[i]
			}
		}
	}
	if newest == nil {
		return fault.New(fault.NotFound, "no witness has handed in a cosigned checkpoint of this chain: strongroom audit witness --hand-in does, and audit.witnesses names who may")
	}
	for _, line := range strings.Split(strings.TrimSuffix(newest.Note, "\n"), "\n") {
		if _, err := fmt.Fprintln(s.out, printable(line)); err != nil {
			return err
		}
	}
	return nil
}

// readKeyFiles reads the files that a command was given, whole.
func readKeyFiles(cmd *cobra.Command, flag string) ([]byte, error) {
	paths, err := cmd.Flags().GetStringArray(flag)
	if err != nil {
		return nil, err
	}
	var out []byte
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, usagef("--%s: %v", flag, err)
		}
		out = append(append(out, text...), '\n')
	}
	return out, nil
}
