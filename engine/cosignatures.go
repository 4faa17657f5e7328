package engine

import (
	"context"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/strongroom/strongroom/api/wire"
	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/internal/checkpoint"
	"github.com/strongroom/strongroom/internal/fault"
)

func cosignatureOperation() *Operation {
	return operation(row[wire.AddCosignatureRequest, wire.AddCosignatureResponse]{
		service: "audit", name: "addCosignature", event: "audit.add_cosignature", write: true,
		summary: "Hand in a checkpoint that a witness has cosigned, for getCheckpoint to show.",
		scope: func(_ *call, r *wire.AddCosignatureRequest) (scope, error) {
			switch {
			case r.Note == "":
				return scope{}, fault.Invalid("note", "is missing: a checkpoint with the signatures of the cluster and of one witness")
			case len(r.Note) > fsm.MaxCosignedNote:
				return scope{}, fault.Invalid("note", "must have at most %d bytes", fsm.MaxCosignedNote)
			}
			return scope{}, nil
		},
		run: addCosignature,
	})
}

// addCosignature believes nobody who hands in: both signatures must be good,
// the witness one of those that are configured, and the chain the one that
// this node holds.
func addCosignature(ctx context.Context, c *call, r *wire.AddCosignatureRequest) (*wire.AddCosignatureResponse, error) {
	meta, err := c.meta(ctx, r.ClientToken, r)
	if err != nil {
		return nil, err
	}
	signed, err := c.engine.openCosigned(ctx, r.Note)
	if err != nil {
		return nil, err
	}
	witness := signed.Witnesses[0]
	c.event.Reason = fmt.Sprintf("%s, of %s up to event %d", witness, signed.Node, signed.Size)
	h, err := c.engine.chainOf(ctx, signed.Node, signed.Chain)
	if err != nil {
		return nil, err
	}
	prover, err := h.open(ctx, c.engine.ClusterID)
	if err != nil {
		return nil, err
	}
	if err := prover.Holds(ctx, signed.Checkpoint); err != nil {
		if mismatch(err) != nil {
			return nil, fault.Wrap(fault.Conflict, err, "the chain of %s is not the one that was signed and cosigned; compare its copies with strongroom audit verify, and keep this note", signed.Node)
		}
		return nil, err
	}
	chain, err := hex.DecodeString(signed.Chain)
	if err != nil {
		return nil, err
	}
	result, err := c.commit(ctx, fsm.AddCosignature{Meta: meta, Cosignature: fsm.Cosignature{
		Node: signed.Node, Chain: chain, Witness: witness, Size: signed.Size, Note: []byte(r.Note),
	}})
	if err != nil {
		return nil, err
	}
	return &wire.AddCosignatureResponse{Node: signed.Node, Chain: signed.Chain, Size: signed.Size, Witness: witness, Unchanged: result.Unchanged}, nil
}

// openCosigned verifies a note that has been handed in, with exactly the two
// signatures that are looked at: others would be kept unread.
func (e *Engine) openCosigned(ctx context.Context, note string) (checkpoint.Signed, error) {
	if len(e.Witnesses) == 0 {
		return checkpoint.Signed{}, fault.New(fault.Conflict, "no witness is known here; name them in audit.witnesses of every node, as strongroom audit witness prints them")
	}
	text, err := e.auditKeys(ctx)
	if err != nil {
		return checkpoint.Signed{}, err
	}
	keys, err := checkpoint.ParseKeys([]byte(text))
	if err != nil {
		return checkpoint.Signed{}, err
	}
	signed, err := checkpoint.Open([]byte(note), keys, e.Witnesses...)
	if err != nil {
		return checkpoint.Signed{}, fault.Invalid("note", "%v", err)
	}
	_, signatures, _ := strings.Cut(note, "\n\n")
	switch {
	case signed.Cluster != e.ClusterID:
		return checkpoint.Signed{}, fault.Invalid("note", "is of another cluster")
	case len(signed.Witnesses) == 0:
		return checkpoint.Signed{}, fault.Invalid("note", "is cosigned by no witness of audit.witnesses")
	case len(signed.Witnesses) != 1 || strings.Count(signatures, "\n") != 2:
		return checkpoint.Signed{}, fault.Invalid("note", "must have two signatures, of the cluster and of one witness")
	}
	return signed, nil
}

// cosigned answers what witnesses handed in of a chain: of those that are
// configured now, under the keys that they have now.
func (e *Engine) cosigned(state *fsm.State, c checkpoint.Checkpoint, keys []checkpoint.Key) []wire.Cosignature {
	chain, err := hex.DecodeString(c.Chain)
	if err != nil || len(chain) != 32 || len(e.Witnesses) == 0 {
		return nil
	}
	var out []wire.Cosignature
	for kept := range state.CosignaturesOf(c.Node, [32]byte(chain)) {
		signed, err := checkpoint.Open(kept.Note, keys, e.Witnesses...)
		if err != nil || len(signed.Witnesses) != 1 || signed.Witnesses[0] != kept.Witness || signed.Origin() != c.Origin() {
			continue
		}
		out = append(out, wire.Cosignature{Witness: kept.Witness, Size: signed.Size, Time: &wire.Time{Time: signed.Time}, Note: string(kept.Note)})
	}
	return out
}
