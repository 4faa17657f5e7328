package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/spf13/cobra"

	"github.com/strongroom/strongroom/audit"
	"github.com/strongroom/strongroom/internal/checkpoint"
	"github.com/strongroom/strongroom/internal/fault"
)

// auditVerifyCommand checks trails without a server: for auditors, on copies.
func auditVerifyCommand() *cobra.Command {
	v := &verifier{}
	cmd := &cobra.Command{
		Use: "verify DIR|FILE...", Short: "Check audit trails and exports offline: every byte, link and signature",
		Long: `Check audit trails without a server: folders, such as copies of audit.dir of
each node, and files that strongroom audit export wrote. Dense sequence
numbers, every hash, every checksum, every event in the one form that is
written. The first event that is wrong is named.

With the public key of the cluster (--key, from strongroom audit key, kept
since then) the Merkle tree over the events must have the roots that the HSM
signed. An export needs the key; of a folder without it only the links are
checked: a cut end, and a newest part that was written anew, leave no trace.

What was kept elsewhere, a head that an earlier run printed (--head) or a
checkpoint (--checkpoint), the trail must go through.`,
		Example: `  strongroom audit verify trail.jsonl --key audit.pem
  strongroom audit verify /var/lib/strongroom/audit --key audit.pem
  strongroom audit verify copies/node1 copies/node2 --head node1:1204:6f1e…`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return fmt.Errorf("DIR or FILE is missing; usage: %s", cmd.UseLine())
			}
			return nil
		},
		RunE: v.run,
	}
	cmd.Flags().StringArrayVar(&v.heads, "head", nil, "NODE:SEQUENCE:HASH that was kept; the trail of that node must go through it (may be repeated)")
	cmd.Flags().StringArray("key", nil, "file with the cluster's public keys in PEM (may be repeated)")
	cmd.Flags().StringArrayVar(&v.witnesses, "witness", nil, "NAME+KEY of a witness, who must have cosigned each --checkpoint (may be repeated)")
	cmd.Flags().StringArrayVar(&v.checkpoints, "checkpoint", nil, "file with a checkpoint that was kept; its chain must go through it (may be repeated)")
	return cmd
}

// verifier is what a run was given.
type verifier struct {
	heads, witnesses, checkpoints []string

	kept  map[string][]audit.Head
	trust audit.Trust
}

// verifiedTrail is one line of the answer: a folder, or one chain of a file.
type verifiedTrail struct {
	Dir    string `json:"dir"`
	OK     bool   `json:"ok"`
	Node   string `json:"node,omitzero"`
	Files  int    `json:"files,omitzero"`
	From   uint64 `json:"from,omitzero"` // sequence of the first event that is there
	Events uint64 `json:"events"`        // up to which sequence it is what was written
	Head   string `json:"head,omitzero"`
	// Signed is up to which sequence the cluster's key vouches for it, and
	// Checkpoints by how many signatures.
	Signed      uint64 `json:"signed,omitzero"`
	Checkpoints int    `json:"checkpoints,omitzero"`
	Error       string `json:"error,omitzero"`
	// Of the first event that is wrong.
	File     string `json:"file,omitzero"`
	Line     int    `json:"line,omitzero"`
	Sequence uint64 `json:"sequence,omitzero"`
	kept     int
}

// read reads the flags.
func (v *verifier) read(cmd *cobra.Command) error {
	v.kept = map[string][]audit.Head{}
	for _, text := range v.heads {
		h, err := audit.ParseHead(text)
		if err != nil {
			return usagef("--head: %v", err)
		}
		v.kept[h.Node] = append(v.kept[h.Node], h)
	}
	keys, err := readKeyFiles(cmd, "key")
	if err != nil {
		return err
	}
	if len(keys) > 0 {
		if v.trust.Keys, err = checkpoint.ParseKeys(keys); err != nil {
			return usagef("--key: %v", err)
		}
	}
	var witnesses []checkpoint.Witness
	for _, text := range v.witnesses {
		w, err := checkpoint.ParseWitness(text)
		if err != nil {
			return usagef("--witness: %v", err)
		}
		witnesses = append(witnesses, w)
	}
	if len(witnesses) > 0 && len(v.checkpoints) == 0 {
		return usagef("--checkpoint is missing: a witness cosigns those that it keeps")
	}
	if len(v.trust.Keys) == 0 && len(v.witnesses)+len(v.checkpoints) > 0 {
		return usagef("--key is missing: checkpoints are verified with it")
	}
	for _, path := range v.checkpoints {
		text, err := os.ReadFile(path)
		if err != nil {
			return usagef("--checkpoint: %v", err)
		}
		signed, err := checkpoint.Open(text, v.trust.Keys, witnesses...)
		if err != nil {
			return usagef("--checkpoint %s: %v", path, err)
		}
		for _, w := range witnesses {
			if !slices.Contains(signed.Witnesses, w.Name()) {
				return fault.New(fault.Conflict, "--checkpoint %s: is not cosigned by %s", path, w.Name())
			}
		}
		v.trust.Kept = append(v.trust.Kept, signed)
	}
	return nil
}

func (v *verifier) run(cmd *cobra.Command, args []string) error {
	format, err := outputFormat(cmd)
	if err != nil {
		return err
	}
	if err := v.read(cmd); err != nil {
		return err
	}
	out := &struct {
		Trails []verifiedTrail `json:"trails"`
	}{}
	bad, kept, seen := 0, 0, map[string]bool{}
	for _, path := range args {
		for _, t := range v.verify(path) {
			out.Trails = append(out.Trails, t)
			seen[t.Node] = true
			kept += t.kept
			if !t.OK {
				bad++
			}
		}
	}
	for node := range v.kept {
		if !seen[node] {
			bad++
			out.Trails = append(out.Trails, verifiedTrail{Node: node, Error: "no folder holds the trail of this node, of which a head was kept"})
		}
	}
	if kept < len(v.trust.Kept) && bad == 0 {
		bad++
		out.Trails = append(out.Trails, verifiedTrail{Error: fmt.Sprintf("%d of %d checkpoints that were kept are over events that are not here", len(v.trust.Kept)-kept, len(v.trust.Kept))})
	}
	if format == formatJSON {
		err = showJSON(cmd.OutOrStdout(), out)
	} else {
		showTrails(cmd.OutOrStdout(), out.Trails)
	}
	if err != nil || bad == 0 {
		return err
	}
	return fault.New(fault.Conflict, "%d of %d trails are not what was written", bad, len(out.Trails))
}

func (v *verifier) verify(path string) []verifiedTrail {
	st, err := os.Stat(path)
	switch {
	case err != nil:
		return []verifiedTrail{{Dir: path, Error: err.Error()}}
	case st.IsDir():
		return []verifiedTrail{v.folder(path)}
	case len(v.trust.Keys) == 0:
		return []verifiedTrail{{Dir: path, Error: "an export is verified with the public key of the cluster: --key FILE, from strongroom audit key"}}
	}
	return v.export(path)
}

// folder verifies a trail or the copy of one.
func (v *verifier) folder(dir string) verifiedTrail {
	verify := audit.Verify
	if len(v.trust.Keys) > 0 {
		verify = func(dir string, kept ...audit.Head) (audit.Report, error) {
			return audit.VerifySigned(dir, v.trust, kept...)
		}
	}
	// Whose trail it is decides which heads go with it.
	report, err := verify(dir)
	if err == nil && len(v.kept[report.Node]) > 0 {
		report, err = verify(dir, v.kept[report.Node]...)
	}
	out := verifiedTrail{
		Dir: dir, OK: err == nil, Node: report.Node, Files: report.Segments, From: report.Pruned + 1, Events: report.Events,
		Signed: report.Signed, Checkpoints: report.Checkpoints, kept: report.Kept,
	}
	if report.Events > report.Pruned {
		out.Head = report.Head.String()
	}
	return out.failed(err)
}

// export verifies a file of exports, and answers a line for each.
func (v *verifier) export(path string) []verifiedTrail {
	f, err := os.Open(path)
	if err != nil {
		return []verifiedTrail{{Dir: path, Error: err.Error()}}
	}
	found, err := audit.VerifyExport(path, f, v.trust)
	err = errors.Join(err, f.Close())
	var out []verifiedTrail
	for _, e := range found {
		out = append(out, verifiedTrail{
			Dir: path, OK: true, Node: e.Signed.Node, From: e.From, Events: e.To, Signed: e.To, Checkpoints: e.Checkpoints, kept: e.Kept,
		})
	}
	if err != nil {
		out = append(out, verifiedTrail{Dir: path}.failed(err))
	}
	return out
}

// failed says why, if it did.
func (t verifiedTrail) failed(err error) verifiedTrail {
	if err == nil {
		return t
	}
	t.OK, t.Error = false, err.Error()
	var broken *audit.BrokenError
	if errors.As(err, &broken) {
		t.Error, t.File, t.Line, t.Sequence = broken.Reason, broken.File, broken.Line, broken.Sequence
		t.Head = "" // of a trail that is not to be believed
	}
	return t
}

func showTrails(out io.Writer, trails []verifiedTrail) {
	for _, t := range trails {
		switch {
		case t.OK:
			fmt.Fprintf(out, "ok      %s: node %s, events %d to %d", printable(t.Dir), printable(t.Node), t.From, t.Events)
			if t.Files > 0 {
				fmt.Fprintf(out, " in %d files", t.Files)
			}
			if t.Checkpoints > 0 {
				fmt.Fprintf(out, ", signed up to %d (%d checkpoints)", t.Signed, t.Checkpoints)
			}
			fmt.Fprintln(out)
			if t.Head != "" {
				fmt.Fprintf(out, "        keep:  --head %s\n", printable(t.Head))
			}
		case t.File != "":
			fmt.Fprintf(out, "BROKEN  %s: node %s, event %d (%s, line %d): %s\n        the events before it, up to %d, are what was written\n",
				printable(t.Dir), printable(t.Node), t.Sequence, printable(t.File), t.Line, printable(t.Error), t.Sequence-1)
		default:
			fmt.Fprintf(out, "FAILED  %s %s: %s\n", printable(t.Dir), printable(t.Node), printable(t.Error))
		}
	}
}
