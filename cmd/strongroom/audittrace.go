package main

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/strongroom/strongroom/api/wire"
)

// auditTraceCommand tells what became of one request. It has none of the
// filters of audit query: a story with something left out is another story.
func auditTraceCommand() *cobra.Command {
	return &cobra.Command{
		Use: "trace REQUEST-ID", Short: "Tell the whole story of one request",
		Args: argumentCount([]string{"requestId"}, 0),
		Long: `Tells what the trails of all members know of one request: where it came in and
who served it, who asked, how it was decided, each use of a key with its place
in the trail, who approved it, and what was answered.

The id is in the answer of every request, in the header Strongroom-Request-Id,
and in error messages. Needs audit:queryEvents; who may iam:explain, too, sees
why something was denied. -o json has the events as they are.`,
		Example: "  strongroom audit trace 0198c0de-0000-7000-8000-00000000000a",
		RunE:    runTrace,
	}
}

func runTrace(cmd *cobra.Command, args []string) error {
	id := args[0]
	if id == "" {
		return usagef("REQUEST-ID is empty; the header Strongroom-Request-Id of an answer has it") // and no filter would be all events
	}
	format, err := outputFormat(cmd)
	if err != nil {
		return err
	}
	conn, err := connect(cmd, false)
	if err != nil {
		return err
	}
	defer conn.Close()
	s := &session{connection: conn, op: find("audit", "queryEvents"), out: cmd.OutOrStdout(), errOut: cmd.ErrOrStderr()}
	found := &story{id: id}
	if err := found.fetch(cmd.Context(), s.do); err != nil {
		return err
	}
	if format == formatJSON {
		return showJSON(s.out, &found.trails)
	}
	found.show(s)
	return nil
}

// story is what the trails know of a request.
type story struct {
	id string
	// trails has the events of the request, and those of the approvals that it
	// was about or allowed by, oldest first.
	trails wire.QueryEventsResponse
}

// fetch asks for the request, then for the approvals that its events name.
func (t *story) fetch(ctx context.Context, do func(ctx context.Context, req, resp any) error) error {
	if err := t.add(ctx, do, wire.QueryEventsRequest{RequestID: t.id}); err != nil {
		return err
	}
	if len(t.trails.Events) == 0 {
		return t.unknown()
	}
	var approvals []string
	for _, e := range t.trails.Events {
		if e.ApprovalID != "" && !slices.Contains(approvals, e.ApprovalID) {
			approvals = append(approvals, e.ApprovalID)
		}
	}
	for _, approval := range approvals {
		if err := t.add(ctx, do, wire.QueryEventsRequest{ApprovalID: approval}); err != nil {
			return err
		}
	}
	slices.SortStableFunc(t.trails.Events, func(a, b wire.AuditEvent) int {
		return cmp.Compare(a.Time.Milli(), b.Time.Milli())
	})
	return nil
}

// add asks for events to the last page, and keeps those that it has not yet.
func (t *story) add(ctx context.Context, do func(ctx context.Context, req, resp any) error, q wire.QueryEventsRequest) error {
	for {
		var page wire.QueryEventsResponse
		if err := do(ctx, &q, &page); err != nil {
			return err
		}
		for _, e := range page.Events {
			if !slices.ContainsFunc(t.trails.Events, func(o wire.AuditEvent) bool { return same(&e, &o) }) {
				t.trails.Events = append(t.trails.Events, e)
			}
		}
		for _, node := range page.Unreachable {
			if !slices.Contains(t.trails.Unreachable, node) {
				t.trails.Unreachable = append(t.trails.Unreachable, node)
			}
		}
		for _, c := range page.FromCopies {
			if !slices.ContainsFunc(t.trails.FromCopies, func(o wire.AnsweredByCopy) bool { return o.Node == c.Node && o.Chain == c.Chain }) {
				t.trails.FromCopies = append(t.trails.FromCopies, c)
			}
		}
		if page.NextCursor == "" {
			return nil
		}
		q.Cursor = page.NextCursor
	}
}

// same says whether both are one event. A node that lost its disk begins anew
// at 1, so the place alone does not tell.
func same(a, b *wire.AuditEvent) bool {
	return a.Node == b.Node && a.Sequence == b.Sequence && a.RequestID == b.RequestID && a.Event == b.Event && a.Time.Milli() == b.Time.Milli()
}

// unknown says that there is no event, and who could not be asked for one.
func (t *story) unknown() error {
	err := fmt.Errorf("NotFound: no trail that could be asked has an event of request %s", printable(t.id))
	if missing := t.lacks(); len(missing) > 0 {
		return hintError{err, "ask again later: " + printable(strings.Join(missing, "; "))}
	}
	return hintError{err, "is it the id of a request, as in the header Strongroom-Request-Id? One that reached no leader, or was malformed, has no event"}
}

// lacks says which part of the trails the answer does not have.
func (t *story) lacks() []string {
	var out []string
	for _, node := range t.trails.Unreachable {
		out = append(out, fmt.Sprintf("neither %s nor a copy of its trail could be asked: events may be missing", node))
	}
	for _, c := range t.trails.FromCopies {
		if c.Missing > 0 {
			out = append(out, fmt.Sprintf("the copy of the trail of %s lacks at least %d later events", c.Node, c.Missing))
		}
	}
	return out
}
