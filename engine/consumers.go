package engine

import (
	"cmp"
	"context"
	"slices"
	"strconv"
	"strings"

	"github.com/strongroom/strongroom/api/wire"
	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/internal/fault"
	"github.com/strongroom/strongroom/internal/names"
)

func consumerOperations() []*Operation {
	return []*Operation{
		operation(row[wire.ConfirmVersionRequest, wire.ConfirmVersionResponse]{
			service: "secrets", name: "confirmVersion", event: "secrets.confirm_version", action: "secrets:getSecretValue",
			summary: "Say which version an instance uses now, and that it holds no other one.",
			scope:   func(c *call, r *wire.ConfirmVersionRequest) (scope, error) { return versionScope(r.Path, r.Version) },
			run:     confirmVersion,
		}),
		operation(row[wire.ListConsumersRequest, wire.ListConsumersResponse]{
			service: "secrets", name: "listConsumers", event: "secrets.list_consumers",
			summary: "Show who was given which version, who has moved, and until when the others may hold it.",
			scope:   func(c *call, r *wire.ListConsumersRequest) (scope, error) { return pathScope(r.Path) },
			run:     listConsumers,
		}),
	}
}

// confirmVersion changes no state by itself: it is an observation like a read,
// and is committed with the others.
func confirmVersion(ctx context.Context, c *call, r *wire.ConfirmVersionRequest) (*wire.ConfirmVersionResponse, error) {
	if err := checkInstance(r.Instance); err != nil {
		return nil, err
	}
	path := names.Path(r.Path)
	_, v, err := c.handOut(ctx, path, reader{instance: r.Instance, uses: r.Version}, func() (*fsm.Secret, *fsm.Version, error) {
		s, err := c.liveSecret(path)
		if err != nil {
			return nil, nil, err
		}
		v := c.state.Version(path, *r.Version)
		switch {
		case v == nil:
			return nil, nil, fault.New(fault.NotFound, "version: %s has no version %d; the latest is %d", path, *r.Version, s.Latest)
		case v.State == fsm.VersionDestroyed:
			return nil, nil, fault.New(fault.VersionNotActive, "version: version %d is destroyed, so nobody should use it; read the current one, and confirm that", v.Number).
				With("state", string(v.State)).With("version", v.Number)
		}
		return s, v, nil
	})
	if err != nil {
		return nil, err
	}
	if c.began.session != c.mark.session {
		// It was said before this leadership began: it must be said again.
		return nil, fault.New(fault.NoLeader, "the leadership changed meanwhile; confirm again")
	}
	c.event.Version = v.Number
	return &wire.ConfirmVersionResponse{Path: r.Path, Version: v.Number, Instance: r.Instance}, nil
}

func checkInstance(instance string) error {
	if instance == "" {
		return nil
	}
	return checkName("instance", instance)
}

func listConsumers(ctx context.Context, c *call, r *wire.ListConsumersRequest) (*wire.ListConsumersResponse, error) {
	p, err := checkPage(r.Page)
	if err != nil {
		return nil, err
	}
	if _, err := checkVersion("version", r.Version, false); err != nil {
		return nil, err
	}
	if err := c.wholeLedger(ctx); err != nil {
		return nil, err
	}
	path := names.Path(r.Path)
	c.engine.ledger.awaitLanding(ctx, map[string]bool{r.Path: true})
	if _, err := c.secretAt(path); err != nil {
		return nil, err
	}
	out := &wire.ListConsumersResponse{Path: r.Path, Consumers: []wire.Consumer{}, Unknown: c.unknown(path, r.Version)}
	last := ""
	for _, line := range c.consumersOf(path) {
		if r.Version != nil && line.Version != *r.Version || r.Holding && !c.holds(line) || !after(line, p.after) {
			continue
		}
		if len(out.Consumers) == p.limit {
			out.NextCursor = cursor(last)
			break
		}
		out.Consumers = append(out.Consumers, line)
		last = placeOf(line)
	}
	return out, nil
}

// wholeLedger makes sure that this node's session was open, and is the one that
// goes on, when the state was looked at: only then is what other nodes may
// have handed out in the state or told as unknown, and the rest in this node's
// ledger.
func (c *call) wholeLedger(ctx context.Context) error {
	for range maxLooks {
		if s := c.state.Session(c.mark.session); s != nil && s.EndedAt == 0 {
			return nil
		}
		if err := c.lookAgain(ctx, nil); err != nil {
			return err
		}
	}
	return fault.New(fault.NoLeader, "this node has only begun to lead; retry")
}

// placeOf orders lines: versions newest first, then principals and instances.
func placeOf(line wire.Consumer) string {
	newest := numberText(^line.Version) // 20 digits, for all versions that there will be
	return newest + "\x00" + line.Principal + "\x00" + line.Instance
}

func after(line wire.Consumer, place string) bool { return place == "" || placeOf(line) > place }

func (c *call) holds(line wire.Consumer) bool {
	return line.MovedTo == 0 && line.MayHoldUntil != nil && line.MayHoldUntil.UnixMilli() > c.now.UnixMilli()
}

// consumersOf answers the ledger of a secret, with what this node, which
// hands out, has not committed yet.
func (c *call) consumersOf(path names.Path) []wire.Consumer {
	merged := map[string]*fsm.Consumer{}
	for one := range c.state.Consumers(path) {
		merged[one.Principal+"\x00"+one.Instance] = one
	}
	s := c.state.Secret(path)
	for _, o := range c.engine.ledger.observed(path) {
		if s == nil || o.SecretID != s.ID || c.state.Version(path, o.Version) == nil {
			continue
		}
		key := o.Principal + "\x00" + o.Instance
		merged[key] = merged[key].With(o)
	}
	session := c.engine.ledger.current()
	lines := []wire.Consumer{}
	for _, one := range merged {
		for _, h := range one.Holds {
			lines = append(lines, consumerLine(one, h, session))
		}
	}
	slices.SortFunc(lines, func(a, b wire.Consumer) int {
		return cmp.Or(cmp.Compare(b.Version, a.Version), strings.Compare(a.Principal, b.Principal), strings.Compare(a.Instance, b.Instance))
	})
	return lines
}

func consumerLine(one *fsm.Consumer, h fsm.Hold, session uint64) wire.Consumer {
	line := wire.Consumer{
		Version: h.Version, Principal: one.Principal, Instance: one.Instance,
		FirstReadAt: wire.Millis(h.First), LastReadAt: wire.Millis(h.Last),
		MayHoldUntil: wire.Millis(one.HeldUntil(h, session)),
	}
	if one.Said.Version == h.Version && one.Principal != fsm.Others {
		line.Confirmed, line.ConfirmedAt = true, wire.Millis(one.Said.At)
	}
	if one.Moved(h) {
		line.MovedTo, line.MayHoldUntil = one.Said.Version, wire.Millis(one.Said.At)
	}
	return line
}

// maxShown is how many consumers a refusal names.
const maxShown = 20

// inUse adds to a refused destruction who may hold the version, as far as is
// known, for a caller who may destroy it.
func (c *call) inUse(err *fault.Error, path names.Path, number uint64) *fault.Error {
	shown := []wire.Consumer{}
	count := 0
	for _, line := range c.consumersOf(path) {
		if line.Version == number && c.holds(line) {
			if count++; len(shown) < maxShown {
				shown = append(shown, line)
			}
		}
	}
	err = err.With("consumers", shown).With("count", count)
	if text, ok := err.Details["mayHoldUntil"].(string); ok {
		if until, parseErr := strconv.ParseInt(text, 10, 64); parseErr == nil {
			err = err.With("mayHoldUntil", wire.Millis(until))
		}
	}
	if unknown := c.unknown(path, &number); unknown != nil {
		err = err.With("unknown", unknown)
	}
	return err
}

// unknown answers who may have handed out a version, or any that is there,
// without the ledger knowing.
func (c *call) unknown(path names.Path, number *uint64) *wire.UnknownConsumers {
	var all fsm.Unknown
	for v := range c.state.Versions(path) {
		if v.State == fsm.VersionDestroyed || number != nil && *number != v.Number {
			continue
		}
		one := c.state.Unknown(path, v, c.now.UnixMilli())
		for _, node := range one.Nodes {
			if !slices.Contains(all.Nodes, node) {
				all.Nodes = append(all.Nodes, node)
			}
		}
		all.Until = max(all.Until, one.Until)
	}
	if len(all.Nodes) == 0 {
		return nil
	}
	slices.Sort(all.Nodes)
	return &wire.UnknownConsumers{Nodes: all.Nodes, Until: wire.Millis(all.Until)}
}

// lastReads answers when versions of a secret were last handed out.
func (c *call) lastReads(path names.Path) func(number uint64) *wire.Time {
	fresh := map[uint64]int64{}
	for _, o := range c.engine.ledger.observed(path) {
		fresh[o.Version] = max(fresh[o.Version], o.Last)
	}
	return func(number uint64) *wire.Time {
		return wire.Millis(max(fresh[number], c.state.LastRead(path, number)))
	}
}
