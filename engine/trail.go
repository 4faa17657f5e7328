package engine

import (
	"context"
	"time"

	"github.com/strongroom/strongroom/api/wire"
	"github.com/strongroom/strongroom/audit"
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
		incidentOperation(),
		chainOperation(),
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
	// BreakGlassID finds what was done in a break-glass session.
	BreakGlassID string `json:"breakGlassId"`
	// ApprovalID finds those of one request for approval.
	ApprovalID string `json:"approvalId"`
	After      uint64 `json:"after"` // events with a higher sequence number
	// AfterOf takes the place of After where it is set, for each chain by its
	// short id: who asks does not know which one the node writes by now.
	AfterOf map[string]uint64 `json:"afterOf,omitempty"`
	Limit   int               `json:"limit"`
}

// TrailPage is the answer to a TrailQuery, in order of sequence.
type TrailPage struct {
	Events []wire.AuditEvent `json:"events"`
	More   bool              `json:"more"`
	Chain  string            `json:"chain"` // short id
}

// LocalEvents answers events of this node's trail. It does not authorise:
// the caller is queryEvents, or another member over the node link.
func (e *Engine) LocalEvents(ctx context.Context, q TrailQuery) (TrailPage, error) {
	id, err := e.Trail.ChainID(ctx)
	if err != nil {
		return TrailPage{}, err
	}
	return eventsOf(ctx, e.Trail, id, q)
}

// eventFiles is a trail or a copy, for those who look for events.
type eventFiles interface {
	Query(ctx context.Context, filter audit.Filter) ([]audit.Event, bool, error)
}

func eventsOf(ctx context.Context, files eventFiles, id audit.ChainID, q TrailQuery) (TrailPage, error) {
	short := shortChain(id[:])
	if q.AfterOf != nil {
		q.After = q.AfterOf[short]
	}
	filter := audit.Filter{
		Principal: q.Principal, Path: q.Path, RequestID: q.RequestID, Outcome: q.Outcome, KeyID: q.KeyID, DecisionID: q.DecisionID, BreakGlassID: q.BreakGlassID, ApprovalID: q.ApprovalID,
		After: q.After, Limit: q.Limit,
	}
	if q.Event != "" {
		filter.Events = []string{q.Event}
	}
	times := q.times()
	filter.From, filter.To = times.From, times.To
	events, more, err := files.Query(ctx, filter)
	if err != nil {
		return TrailPage{}, err
	}
	page := TrailPage{Events: make([]wire.AuditEvent, 0, len(events)), More: more, Chain: short}
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

// times answers a filter with the bounds of q in time.
func (q TrailQuery) times() (f audit.Filter) {
	if q.From != 0 {
		f.From = time.UnixMilli(q.From)
	}
	if q.To != 0 {
		f.To = time.UnixMilli(q.To)
	}
	return f
}

// maxPageBytes bounds a page of a trail: decisions can have long grounds, and
// whoever is denied often must not make a trail that nobody can ask for.
const maxPageBytes = 2 << 20

// eventSize is about how long an event is as JSON.
func eventSize(e *audit.Event) int {
	n := 400 + len(e.Principal) + len(e.Via) + len(e.Path) + len(e.Reason) + 150*len(e.KMS)
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
		Outcome: string(e.Outcome), Code: e.Code, Principal: e.Principal, CredentialID: e.CredentialID, SourceAddress: e.SourceAddress, Via: e.Via,
		Path: e.Path, KeyID: e.KeyID, Version: e.Version, DecisionID: e.DecisionID, ApprovalID: e.ApprovalID, Reason: e.Reason, Index: e.Index,
		Cached: e.Cached, DurationMicros: e.DurationMicros, BreakGlassID: e.BreakGlassID,
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

func trailQuery(r *wire.QueryEventsRequest) (TrailQuery, error) {
	q := TrailQuery{
		From: r.From.Milli(), To: r.To.Milli(), Event: r.Event, Principal: r.Principal, Path: r.Path,
		KeyID: r.KeyID, RequestID: r.RequestID, Outcome: r.Outcome, DecisionID: r.DecisionID, BreakGlassID: r.BreakGlassID, ApprovalID: r.ApprovalID,
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
	for field, text := range map[string]string{"event": r.Event, "principal": r.Principal, "keyId": r.KeyID, "requestId": r.RequestID, "decisionId": r.DecisionID, "breakGlassId": r.BreakGlassID, "approvalId": r.ApprovalID} {
		if len(text) > 256 {
			return q, fault.Invalid(field, "has %d bytes; at most 256 are allowed", len(text))
		}
	}
	return q, nil
}
