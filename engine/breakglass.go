package engine

import (
	"context"
	"time"

	"github.com/google/uuid"

	"github.com/strongroom/strongroom/api/wire"
	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/iam"
	"github.com/strongroom/strongroom/internal/fault"
)

const (
	defaultGlassTime = time.Hour
	// maxShownDuties bounds what a list shows of one session.
	maxShownDuties = 100

	closeGlass = iam.Action("iam:closeBreakGlass")
	listGlass  = iam.Action("iam:listBreakGlass")
)

// Duties after a session.
const (
	dutyRotate = "rotate"
	dutyReview = "review"
)

func breakGlassOperations() []*Operation {
	return []*Operation{
		operation(row[wire.OpenBreakGlassRequest, wire.OpenBreakGlassResponse]{
			service: "iam", name: "openBreakGlass", event: "iam.open_break_glass", write: true,
			summary: "Have what is attached for emergencies hold for some time, with a reason and duties afterwards.",
			scope: func(_ *call, r *wire.OpenBreakGlassRequest) (scope, error) {
				return scope{subject: r.Reason}, checkStated("reason", r.Reason)
			},
			run: openBreakGlass,
		}),
		operation(row[wire.CloseBreakGlassRequest, wire.CloseBreakGlassResponse]{
			service: "iam", name: "closeBreakGlass", event: "iam.close_break_glass", write: true, self: true, more: []iam.Action{closeGlass},
			summary: "End a break-glass session: your own, or, with iam:closeBreakGlass, anybody's. Its duties stay.",
			scope:   func(_ *call, r *wire.CloseBreakGlassRequest) (scope, error) { return glassScope(r.BreakGlassID) },
			run:     closeBreakGlass,
		}),
		operation(row[wire.ListBreakGlassRequest, wire.ListBreakGlassResponse]{
			service: "iam", name: "listBreakGlass", event: "iam.list_break_glass", self: true, more: []iam.Action{listGlass},
			summary: "List your own break-glass sessions, or, with iam:listBreakGlass, all, and what is to be done about them.",
			scope:   func(*call, *wire.ListBreakGlassRequest) (scope, error) { return scope{}, nil },
			run:     listBreakGlass,
		}),
		operation(row[wire.ReviewBreakGlassRequest, wire.ReviewBreakGlassResponse]{
			service: "iam", name: "reviewBreakGlass", event: "iam.review_break_glass", write: true,
			summary: "Say that you have looked at what somebody else did in a break-glass session, and what you found.",
			scope:   func(_ *call, r *wire.ReviewBreakGlassRequest) (scope, error) { return glassScope(r.BreakGlassID) },
			run:     reviewBreakGlass,
		}),
	}
}

// checkStated is checkText for what must be there.
func checkStated(field, text string) error {
	if text == "" {
		return fault.Invalid(field, "is missing")
	}
	return checkText(field, text)
}

func glassScope(id string) (scope, error) {
	if parsed, err := uuid.Parse(id); err != nil || parsed.String() != id {
		return scope{}, fault.Invalid("breakGlassId", "must be the id of a session (a UUID); listBreakGlass shows them")
	}
	return scope{subject: id}, nil
}

func openBreakGlass(ctx context.Context, c *call, r *wire.OpenBreakGlassRequest) (*wire.OpenBreakGlassResponse, error) {
	duration := defaultGlassTime
	if r.Duration != nil {
		duration = time.Duration(*r.Duration)
	}
	meta, err := c.meta(ctx, r.ClientToken, r)
	if err != nil {
		return nil, err
	}
	policies := r.Policies
	if p := c.state.Principal(c.who.name); policies == nil && p != nil {
		policies = c.state.BehindGlass(p, c.now.UnixMilli())
	}
	result, err := c.commit(ctx, fsm.OpenBreakGlass{
		Meta: meta, ID: newDecisionID(c.now), Policies: policies, Reason: r.Reason, Duration: duration.Milliseconds(),
	})
	if err != nil {
		return nil, err
	}
	c.event.BreakGlassID = result.Name
	if err := c.refresh(ctx); err != nil {
		return nil, uncertain(err, meta)
	}
	out := &wire.OpenBreakGlassResponse{BreakGlassID: result.Name, ExpiresAt: wire.Millis(result.DueAt), Policies: []string{}}
	if s := c.state.BreakGlass(result.Name); s != nil {
		out.Policies = s.Policies
	}
	if !result.Replayed {
		// The reason stays out: people paste all kinds of things, and logs go
		// further than the trail.
		c.engine.Logger.Warn("a break-glass session was opened", "breakGlassId", result.Name, "principal", c.who.name,
			"policies", out.Policies, "until", time.UnixMilli(result.DueAt).UTC(), "requestId", c.from.RequestID)
	}
	return out, nil
}

// ownGlass reports whether the session is the caller's own: of the principal
// that it is now, not of one of the same name before it.
func (c *call) ownGlass(s *fsm.BreakGlassSession) bool {
	p := c.state.Principal(c.who.name)
	return p != nil && s.Principal == p.Name && p.CreatedAt <= s.OpenedAt
}

func closeBreakGlass(ctx context.Context, c *call, r *wire.CloseBreakGlassRequest) (*wire.CloseBreakGlassResponse, error) {
	if err := checkText("reason", r.Reason); err != nil {
		return nil, err
	}
	s := c.state.BreakGlass(r.BreakGlassID)
	if s == nil || !c.ownGlass(s) {
		// Asked before it is said whether there is one.
		if err := c.require(closeGlass, iam.Resource{Any: true}); err != nil {
			return nil, err
		}
	}
	c.event.BreakGlassID = r.BreakGlassID
	meta, err := c.meta(ctx, r.ClientToken, r)
	if err != nil {
		return nil, err
	}
	result, err := c.commit(ctx, fsm.CloseBreakGlass{Meta: meta, ID: r.BreakGlassID, Reason: r.Reason})
	if err != nil {
		return nil, err
	}
	if err := c.refresh(ctx); err != nil {
		return nil, uncertain(err, meta)
	}
	return &wire.CloseBreakGlassResponse{BreakGlassID: result.Name, EndedAt: wire.Millis(result.DueAt), Duties: c.glassDuties(result.Name)}, nil
}

func reviewBreakGlass(ctx context.Context, c *call, r *wire.ReviewBreakGlassRequest) (*wire.ReviewBreakGlassResponse, error) {
	if err := checkStated("notes", r.Notes); err != nil {
		return nil, err
	}
	c.event.BreakGlassID = r.BreakGlassID
	meta, err := c.meta(ctx, r.ClientToken, r)
	if err != nil {
		return nil, err
	}
	result, err := c.commit(ctx, fsm.ReviewBreakGlass{Meta: meta, ID: r.BreakGlassID, Notes: r.Notes})
	if err != nil {
		return nil, err
	}
	if err := c.refresh(ctx); err != nil {
		return nil, uncertain(err, meta)
	}
	out := &wire.ReviewBreakGlassResponse{BreakGlassID: result.Name, Duties: c.glassDuties(result.Name)}
	if s := c.state.BreakGlass(result.Name); s != nil {
		out.ReviewedAt = wire.Millis(s.ReviewedAt)
	}
	return out, nil
}

// glassDuties counts what is to be done after a session.
func (c *call) glassDuties(id string) int {
	n := c.state.GlassCount(id).Duties
	if s := c.state.BreakGlass(id); s != nil && s.ReviewedAt == 0 {
		n++
	}
	return n
}

func listBreakGlass(_ context.Context, c *call, r *wire.ListBreakGlassRequest) (*wire.ListBreakGlassResponse, error) {
	p, err := checkPage(r.Page)
	if err != nil {
		return nil, err
	}
	if err := c.checkConsistency(r.Consistency); err != nil {
		return nil, err
	}
	if r.State != "" && r.State != "all" && r.State != "open" && r.State != "duties" {
		return nil, fault.Invalid("state", "must be open, duties or all")
	}
	whose := c.who.name
	all := c.may(listGlass, iam.Resource{Any: true})
	if all {
		whose = ""
	}
	out := &wire.ListBreakGlassResponse{Sessions: []wire.BreakGlassSession{}}
	for s := range c.state.BreakGlassSessions(whose, p.after) {
		if !all && !c.ownGlass(s) || !c.inGlassState(s, r.State) {
			continue
		}
		if n := len(out.Sessions); n == p.limit {
			out.NextCursor = cursor(out.Sessions[n-1].BreakGlassID)
			break
		}
		out.Sessions = append(out.Sessions, c.wireGlass(s))
	}
	return out, nil
}

// inGlassState reports whether a list of state shows s. A review is to be done
// once the session has ended; what was read is to be rotated at once.
func (c *call) inGlassState(s *fsm.BreakGlassSession, state string) bool {
	open := s.EndedAt(c.now.UnixMilli()) == 0
	switch state {
	case "open":
		return open
	case "duties":
		return !open && s.ReviewedAt == 0 || c.state.GlassCount(s.ID).Duties > 0
	}
	return true
}

func (c *call) wireGlass(s *fsm.BreakGlassSession) wire.BreakGlassSession {
	count, ended := c.state.GlassCount(s.ID), s.EndedAt(c.now.UnixMilli())
	out := wire.BreakGlassSession{
		BreakGlassID: s.ID, Principal: s.Principal, Policies: s.Policies, Reason: s.Reason, State: "open",
		OpenedAt: wire.Millis(s.OpenedAt), ExpiresAt: wire.Millis(s.ExpiresAt), EndedAt: wire.Millis(ended), ClosedBy: s.ClosedBy, CloseReason: s.CloseReason,
		Reads: count.Reads, RotateDuties: count.Duties, Duties: []wire.BreakGlassDuty{},
		ReviewedAt: wire.Millis(s.ReviewedAt), ReviewedBy: s.ReviewedBy, Notes: s.Notes, SettledAt: wire.Millis(s.SettledAt),
	}
	if ended != 0 {
		out.State = "ended"
	}
	if ended != 0 && s.ReviewedAt == 0 {
		out.Duties = append(out.Duties, wire.BreakGlassDuty{Duty: dutyReview, Since: wire.Millis(ended)})
	}
	shown := 0
	for read := range c.state.GlassReads(s.ID) {
		if shown == min(count.Duties, maxShownDuties) {
			break
		}
		if read.DoneAt == 0 {
			out.Duties = append(out.Duties, rotateDuty(read))
			shown++
		}
	}
	return out
}

func rotateDuty(read *fsm.GlassRead) wire.BreakGlassDuty {
	newest := read.Versions[len(read.Versions)-1]
	since := newest.At
	for _, v := range read.Versions {
		since = min(since, v.At)
	}
	return wire.BreakGlassDuty{Duty: dutyRotate, Path: string(read.Path), Version: newest.Version, Since: wire.Millis(since)}
}
