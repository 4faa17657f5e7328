package engine

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"strings"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/strongroom/strongroom/api/wire"
	"github.com/strongroom/strongroom/audit"
	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/internal/checkpoint"
	"github.com/strongroom/strongroom/internal/fault"
	"github.com/strongroom/strongroom/internal/names"
)

func auditProofOperations() []*Operation {
	return []*Operation{
		operation(row[wire.GetCheckpointRequest, wire.GetCheckpointResponse]{
			service: "audit", name: "getCheckpoint", event: "audit.get_checkpoint",
			summary: "Show what was signed over the audit chains, and the public keys.",
			scope: func(_ *call, r *wire.GetCheckpointRequest) (scope, error) {
				return scope{}, checkChain(r.Node, r.Chain)
			},
			run: getCheckpoint,
		}),
		operation(row[wire.GetProofRequest, wire.GetProofResponse]{
			service: "audit", name: "getProof", event: "audit.get_proof",
			summary: "Prove that an event is in a signed chain, or that a checkpoint continues an earlier one.",
			scope:   func(_ *call, r *wire.GetProofRequest) (scope, error) { return scope{}, checkProof(r) },
			run:     getProof,
		}),
		cosignatureOperation(),
		streaming(contentLines, operation(row[wire.ExportEventsRequest, wire.ExportEventsResponse]{
			service: "audit", name: "exportEvents", event: "audit.export_events",
			summary: "Stream events as they are written, with what it takes to verify them offline.",
			scope:   func(_ *call, r *wire.ExportEventsRequest) (scope, error) { return scope{}, checkExport(r) },
			run:     exportEvents,
		})),
	}
}

func checkChain(node, chain string) error {
	if node != "" {
		if _, err := names.ParseName(node); err != nil {
			return fault.Invalid("node", "%v", err)
		}
	}
	if _, err := hex.DecodeString(strings.Repeat("0", len(chain)%2) + chain); err != nil || len(chain) > 64 {
		return fault.Invalid("chain", "must be the id of a chain, a SHA-256 in hex, or how it begins")
	}
	if chain != "" && node == "" {
		return fault.Invalid("node", "is missing: chain goes with it")
	}
	return nil
}

func checkProof(r *wire.GetProofRequest) error {
	if r.Node == "" {
		return fault.Invalid("node", "is missing")
	}
	if err := checkChain(r.Node, r.Chain); err != nil {
		return err
	}
	switch {
	case r.Sequence == 0 && r.FromSize == 0:
		return fault.Invalid("sequence", "is missing; or fromSize, for the continuation of an earlier checkpoint")
	case max(r.Sequence, r.FromSize, r.Size) > 1<<62:
		return fault.Invalid("size", "must be at most 2^62, as sequence and fromSize must")
	}
	return nil
}

func checkExport(r *wire.ExportEventsRequest) error {
	if err := checkChain(r.Node, r.Chain); err != nil {
		return err
	}
	switch {
	case r.From != nil && r.To != nil && !r.From.Before(r.To.Time):
		return fault.Invalid("to", "must lie after from")
	case r.Node == "" && max(r.FromSequence, r.ToSequence) > 0:
		return fault.Invalid("node", "is missing: fromSequence and toSequence go with it")
	case r.ToSequence > 0 && r.FromSequence > r.ToSequence:
		return fault.Invalid("toSequence", "must not lie before fromSequence")
	}
	return nil
}

func getCheckpoint(ctx context.Context, c *call, r *wire.GetCheckpointRequest) (*wire.GetCheckpointResponse, error) {
	out := &wire.GetCheckpointResponse{Checkpoints: []wire.Checkpoint{}}
	held := sortChains(c.engine.heldChains(""))
	if r.Node != "" {
		one, err := c.engine.chainOf(ctx, r.Node, r.Chain)
		if err != nil {
			return nil, err
		}
		held = []*heldChain{one}
	}
	keys, err := c.engine.auditKeys(ctx)
	if err != nil {
		return nil, err
	}
	parsed, err := checkpoint.ParseKeys([]byte(keys))
	if err != nil {
		return nil, err
	}
	for _, h := range held {
		found, err := c.engine.checkpointOf(ctx, h, r.Size, c.state, parsed)
		if err != nil && (r.Node != "" || !fault.Is(err, fault.NotFound)) {
			return nil, err
		}
		if err == nil {
			out.Checkpoints = append(out.Checkpoints, *found)
		}
	}
	out.PublicKeys = keys
	return out, nil
}

func (e *Engine) checkpointOf(ctx context.Context, h *heldChain, size uint64, state *fsm.State, keys []checkpoint.Key) (*wire.Checkpoint, error) {
	prover, err := h.open(ctx, e.ClusterID)
	if err != nil {
		return nil, err
	}
	text, found, err := prover.Checkpoint(size)
	if err != nil {
		return nil, err
	}
	out := wireCheckpoint(text, found)
	out.Cosigned = e.cosigned(state, found, keys)
	if broken := prover.Broken(); broken != nil {
		out.Problem = broken.Error()
	}
	return out, nil
}

func wireCheckpoint(text []byte, c checkpoint.Checkpoint) *wire.Checkpoint {
	return &wire.Checkpoint{
		Node: c.Node, Chain: c.Chain, Size: c.Size, RootHash: base64.StdEncoding.EncodeToString(c.Root[:]), Head: hex.EncodeToString(c.Head[:]),
		Time: &wire.Time{Time: c.Time}, Note: string(text),
	}
}

// auditKeys answers the public halves of all versions of the key that signs,
// the newest first.
func (e *Engine) auditKeys(ctx context.Context) (string, error) {
	key, err := e.auditKey()
	if err != nil {
		return "", err
	}
	var out strings.Builder
	for version := key.Current; version > 0; version-- {
		text, _, err := e.KMS.PublicKey(ctx, key, version)
		if err != nil {
			return "", err
		}
		out.WriteString(text)
	}
	return out.String(), nil
}

func getProof(ctx context.Context, c *call, r *wire.GetProofRequest) (*wire.GetProofResponse, error) {
	h, err := c.engine.chainOf(ctx, r.Node, r.Chain)
	if err != nil {
		return nil, err
	}
	prover, err := h.open(ctx, c.engine.ClusterID)
	if err != nil {
		return nil, err
	}
	text, found, err := prover.Checkpoint(r.Size)
	if err != nil {
		return nil, err
	}
	out := &wire.GetProofResponse{Checkpoint: *wireCheckpoint(text, found)}
	if r.Sequence > 0 {
		line, proof, err := prover.Inclusion(ctx, r.Sequence, found.Size)
		if err != nil {
			return nil, err
		}
		leaf := tlog.RecordHash(line)
		out.LeafHash, out.Inclusion = base64.StdEncoding.EncodeToString(leaf[:]), hashes(proof)
	}
	if r.FromSize > 0 {
		proof, err := prover.Consistency(ctx, r.FromSize, found.Size)
		if err != nil {
			return nil, err
		}
		out.Consistency = hashes(proof)
	}
	return out, nil
}

func hashes(proof []tlog.Hash) []string {
	out := []string{}
	for _, h := range proof {
		out = append(out, base64.StdEncoding.EncodeToString(h[:]))
	}
	return out
}

// exportEvents signs what has grown, so that an export goes up to now, and
// hands over how to write it: the event of the export is in the trail before
// its first line leaves.
func exportEvents(ctx context.Context, c *call, r *wire.ExportEventsRequest) (*wire.ExportEventsResponse, error) {
	held := sortChains(c.engine.heldChains(""))
	if r.Node != "" {
		one, err := c.engine.chainOf(ctx, r.Node, r.Chain)
		if err != nil {
			return nil, err
		}
		held = []*heldChain{one}
	}
	var parts []exportPart
	var told []string
	for _, h := range held {
		part, err := c.engine.exportPart(ctx, h, r)
		if err != nil {
			return nil, err
		}
		if part != nil {
			parts = append(parts, *part)
			told = append(told, fmt.Sprintf("%s %d to %d", h.store.Node(), part.first, part.last))
		}
	}
	if len(parts) == 0 {
		return nil, fault.New(fault.NotFound, "there are no signed events in what was asked for")
	}
	c.event.Reason = strings.Join(told, ", ")
	c.stream = func(ctx context.Context, w io.Writer) error {
		for _, p := range parts {
			if _, err := p.prover.Export(ctx, w, p.first, p.last); err != nil {
				return err
			}
		}
		return nil
	}
	return &wire.ExportEventsResponse{}, nil
}

// exportPart is what one chain gives to an export.
type exportPart struct {
	prover      *audit.Prover
	first, last uint64
}

// exportPart answers nil if the chain has nothing of what was asked for.
func (e *Engine) exportPart(ctx context.Context, h *heldChain, r *wire.ExportEventsRequest) (*exportPart, error) {
	prover, err := h.open(ctx, e.ClusterID)
	if err != nil {
		return nil, err
	}
	if prover.Broken() == nil {
		if err := e.signChain(ctx, h, true); err != nil {
			return nil, err
		}
	}
	p := &exportPart{prover, max(r.FromSequence, 1), r.ToSequence}
	if r.From != nil || r.To != nil {
		f := TrailQuery{From: r.From.Milli(), To: r.To.Milli()}.times()
		first, last, err := h.store.Range(ctx, f.From, f.To)
		if err != nil || first == 0 {
			return nil, err
		}
		p.first = max(p.first, first)
		if p.last == 0 || p.last > last {
			p.last = last
		}
	}
	_, signed, _ := prover.State()
	if p.last == 0 || p.last > signed {
		p.last = signed
	}
	if max(p.first, h.store.PrunedTo()+1) > p.last {
		return nil, nil
	}
	return p, nil
}
