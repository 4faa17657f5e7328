package engine

import (
	"context"
	"encoding/json"
	"slices"
	"sync"
	"time"

	"github.com/strongroom/strongroom/api/wire"
	"github.com/strongroom/strongroom/audit"
	"github.com/strongroom/strongroom/iam"
	"github.com/strongroom/strongroom/internal/fault"
	"github.com/strongroom/strongroom/internal/names"
)

func auditOperations() []*Operation {
	return []*Operation{
		operation(row[wire.QueryEventsRequest, wire.QueryEventsResponse]{
			service: "audit", name: "queryEvents", event: "audit.query_events",
			summary: "Search the audit trails of all members, merged by time.",
			scope:   func(*call, *wire.QueryEventsRequest) (scope, error) { return scope{}, nil },
			run:     queryEvents,
		}),
	}
}

// TrailQuery asks one node for events of its own trail.
type TrailQuery struct {
	From      int64  `json:"from"` // milliseconds since the Unix epoch, 0: no bound
	To        int64  `json:"to"`
	Event     string `json:"event"`
	Principal string `json:"principal"`
	Path      string `json:"path"`
	KeyID     string `json:"keyId"`
	RequestID string `json:"requestId"`
	Outcome   string `json:"outcome"`
	// DecisionID finds the events of one decision.
	DecisionID string `json:"decisionId"`
	After      uint64 `json:"after"` // events with a higher sequence number
	Limit      int    `json:"limit"`
}

// TrailPage is the answer to a TrailQuery, in order of sequence.
type TrailPage struct {
	Events []wire.AuditEvent `json:"events"`
	More   bool              `json:"more"`
}

// LocalEvents answers events of this node's trail. It does not authorise:
// the caller is queryEvents, or another member over the node link.
func (e *Engine) LocalEvents(ctx context.Context, q TrailQuery) (TrailPage, error) {
	filter := audit.Filter{
		Principal: q.Principal, Path: q.Path, RequestID: q.RequestID, Outcome: q.Outcome, KeyID: q.KeyID, DecisionID: q.DecisionID,
		After: q.After, Limit: q.Limit,
	}
	if q.Event != "" {
		filter.Events = []string{q.Event}
	}
	if q.From != 0 {
		filter.From = time.UnixMilli(q.From)
	}
	if q.To != 0 {
		filter.To = time.UnixMilli(q.To)
	}
	events, more, err := e.Trail.Query(ctx, filter)
	if err != nil {
		return TrailPage{}, err
	}
	page := TrailPage{Events: make([]wire.AuditEvent, 0, len(events)), More: more}
	size := 0
	for i := range events {
		if size += eventSize(&events[i]); size > maxPageBytes && i > 0 {
			page.More = true
			break
		}
		page.Events = append(page.Events, wireEvent(&events[i]))
	}
	return page, nil
}

// maxPageBytes bounds a page of a trail: decisions can have long grounds, and
// whoever is denied often must not make a trail that nobody can ask for.
const maxPageBytes = 2 << 20

// eventSize is about how long an event is as JSON.
func eventSize(e *audit.Event) int {
	n := 400 + len(e.Principal) + len(e.Path) + len(e.Reason) + 150*len(e.KMS)
	if e.Decision == nil {
		return n
	}
	n += 200 + len(e.Decision.Path)
	for _, g := range e.Decision.Groups {
		n += 4 + len(g)
	}
	for i := range e.Decision.Steps {
		s := &e.Decision.Steps[i]
		n += 120 + len(s.Policy) + len(s.Action) + len(s.Matched) + len(s.Via) + len(s.BreakGlass)
	}
	return n
}

func wireEvent(e *audit.Event) wire.AuditEvent {
	out := wire.AuditEvent{
		Node: e.Node, Sequence: e.Sequence, Time: &wire.Time{Time: e.Time}, RequestID: e.RequestID, Event: e.Event,
		Outcome: string(e.Outcome), Code: e.Code, Principal: e.Principal, CredentialID: e.CredentialID, SourceAddress: e.SourceAddress,
		Path: e.Path, KeyID: e.KeyID, Version: e.Version, DecisionID: e.DecisionID, Reason: e.Reason, Index: e.Index,
		Cached: e.Cached, DurationMicros: e.DurationMicros,
	}
	if e.Consumer != nil {
		out.Instance = e.Consumer.Instance
	}
	if d := e.Decision; d != nil {
		out.Decision = wireDecision(d)
		out.Report = out.Decision.Report
	}
	for _, k := range e.KMS {
		out.KMS = append(out.KMS, wire.AuditKMSOp{Event: k.Event, KeyID: k.KeyID, KeyVersion: k.KeyVersion, Sequence: k.Sequence, Cached: k.Cached})
	}
	return out
}

// queryEvents asks every member for its own chain and merges by time. A
// member that cannot be asked is named, not silently left out.
func queryEvents(ctx context.Context, c *call, r *wire.QueryEventsRequest) (*wire.QueryEventsResponse, error) {
	p, err := checkPage(r.Page)
	if err != nil {
		return nil, err
	}
	q, err := trailQuery(r)
	if err != nil {
		return nil, err
	}
	after := map[string]uint64{}
	if p.after != "" {
		// null is well-formed, and would leave no map to write into.
		if err := json.Unmarshal([]byte(p.after), &after); err != nil || after == nil {
			return nil, errCursor()
		}
	}
	// A page is cut to limit after the merge, so each chain must offer as much.
	q.Limit = p.limit
	pages, unreachable := c.engine.askAll(ctx, q, after)
	events, more := merge(pages, p.limit)
	out := &wire.QueryEventsResponse{Events: events, Unreachable: unreachable}
	mayExplain := c.may("iam:explain", iam.Resource{Any: true})
	for i, e := range out.Events {
		if !mayExplain {
			out.Events[i].Decision = nil // it names policies
		}
		after[e.Node] = e.Sequence
	}
	if more {
		text, err := json.Marshal(after)
		if err != nil {
			return nil, err
		}
		out.NextCursor = cursor(string(text))
	}
	return out, nil
}

// merge takes the earliest event of those that each chain offers next, up to
// limit, and says whether there are more. It ends early where a chain offers
// no more in this page and has more. A chain keeps its own order
// whatever its times are (they are when requests began, and need not grow):
// the cursor holds how far each chain was read, so an event that was taken
// before an earlier one of its chain would make the next page lose the other.
func merge(pages []TrailPage, limit int) (events []wire.AuditEvent, more bool) {
	events = []wire.AuditEvent{}
	for len(events) < limit {
		next := -1
		for i := range pages {
			if pages[i].More && len(pages[i].Events) == 0 && len(events) > 0 {
				next = -1 // what comes next of this chain is not known
				break
			}
			if len(pages[i].Events) > 0 && (next < 0 || earlier(&pages[i].Events[0], &pages[next].Events[0])) {
				next = i
			}
		}
		if next < 0 {
			break
		}
		events = append(events, pages[next].Events[0])
		pages[next].Events = pages[next].Events[1:]
	}
	for _, page := range pages {
		more = more || page.More || len(page.Events) > 0
	}
	return events, more
}

func earlier(a, b *wire.AuditEvent) bool {
	if d := a.Time.Compare(b.Time.Time); d != 0 {
		return d < 0
	}
	return a.Node < b.Node
}

func trailQuery(r *wire.QueryEventsRequest) (TrailQuery, error) {
	q := TrailQuery{
		From: r.From.Milli(), To: r.To.Milli(), Event: r.Event, Principal: r.Principal, Path: r.Path,
		KeyID: r.KeyID, RequestID: r.RequestID, Outcome: r.Outcome, DecisionID: r.DecisionID,
	}
	if r.From != nil && r.To != nil && !r.From.Before(r.To.Time) {
		return q, fault.Invalid("to", "must lie after from")
	}
	if r.Path != "" {
		// The events of lists carry a prefix, which ends in a slash.
		if _, err := names.ParsePrefix(r.Path); err != nil {
			return q, fault.Invalid("path", "%v", err)
		}
	}
	if r.Outcome != "" && r.Outcome != "ok" && r.Outcome != "denied" && r.Outcome != "failed" {
		return q, fault.Invalid("outcome", "must be ok, denied or failed")
	}
	for field, text := range map[string]string{"event": r.Event, "principal": r.Principal, "keyId": r.KeyID, "requestId": r.RequestID, "decisionId": r.DecisionID} {
		if len(text) > 256 {
			return q, fault.Invalid(field, "has %d bytes; at most 256 are allowed", len(text))
		}
	}
	return q, nil
}

// askAll asks this node and every other member at the same time.
func (e *Engine) askAll(ctx context.Context, q TrailQuery, after map[string]uint64) (pages []TrailPage, unreachable []string) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	var mu sync.Mutex
	var wg sync.WaitGroup
	ask := func(node string, query func(context.Context, TrailQuery) (TrailPage, error)) {
		defer wg.Done()
		q := q
		q.After = after[node]
		page, err := query(ctx, q)
		mu.Lock()
		defer mu.Unlock()
		if err != nil {
			e.Logger.Warn("the audit trail of a member could not be asked", "member", node, "error", err)
			unreachable = append(unreachable, node)
			return
		}
		pages = append(pages, page)
	}
	wg.Add(1)
	go ask(e.Node, e.LocalEvents)
	if e.Cluster.Members != nil && e.Cluster.PeerEvents != nil {
		for _, member := range e.Cluster.Members() {
			if member.NodeID == e.Node {
				continue
			}
			wg.Add(1)
			go ask(member.NodeID, func(ctx context.Context, q TrailQuery) (TrailPage, error) {
				return e.Cluster.PeerEvents(ctx, member.NodeID, q)
			})
		}
	}
	wg.Wait()
	slices.Sort(unreachable)
	return pages, unreachable
}
