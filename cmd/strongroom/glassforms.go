package main

import (
	"fmt"
	"reflect"
	"strings"

	"github.com/strongroom/strongroom/api/wire"
)

// glassForms are the short forms for break-glass sessions.
func glassForms() []opForm {
	open := withExample(short("open", "iam", "openBreakGlass", "reason"), `  strongroom break-glass open "incident 7: payments are down" --duration 30m`)
	open.show = showOpened
	end := short("close", "iam", "closeBreakGlass", "breakGlassId", "reason")
	end.optional = 1
	end.show = func(s *session, resp any) error {
		r := resp.(*wire.CloseBreakGlassResponse)
		lines(s, fmt.Sprintf("Session %s ended at %s. %s", r.BreakGlassID, cell(reflect.ValueOf(r.EndedAt)), dutiesText(r.Duties)))
		return nil
	}
	list := paged(withExample(short("ls", "iam", "listBreakGlass"), "  strongroom break-glass ls --state duties"))
	list.show = showSessions
	review := withExample(short("review", "iam", "reviewBreakGlass", "breakGlassId", "notes"),
		`  strongroom audit query --break-glass-id "$SESSION"   # what was done`+"\n"+
			`  strongroom break-glass review "$SESSION" "read the database password, as ticket 7 says"`)
	review.show = func(s *session, resp any) error {
		r := resp.(*wire.ReviewBreakGlassResponse)
		lines(s, fmt.Sprintf("Session %s is reviewed. %s", r.BreakGlassID, dutiesText(r.Duties)))
		return nil
	}
	return []opForm{open, end, list, review}
}

// dutiesText says how much is left to do.
func dutiesText(n int) string {
	switch n {
	case 0:
		return "Nothing is left to do."
	case 1:
		return "One duty is left: strongroom break-glass ls shows it."
	}
	return fmt.Sprintf("%d duties are left: strongroom break-glass ls shows them.", n)
}

func showOpened(s *session, resp any) error {
	r := resp.(*wire.OpenBreakGlassResponse)
	lines(s,
		fmt.Sprintf("Session %s is open until %s, for %s.", r.BreakGlassID, cell(reflect.ValueOf(r.ExpiresAt)), strings.Join(r.Policies, ", ")),
		"What you read because of it is noted, and is to be rotated afterwards; somebody else reviews it.",
		"It ends by itself, or by: strongroom break-glass close "+r.BreakGlassID)
	return nil
}

func showSessions(s *session, resp any) error {
	r := resp.(*wire.ListBreakGlassResponse)
	for i := range r.Sessions {
		one := &r.Sessions[i]
		if i > 0 {
			lines(s, "")
		}
		when := "open until " + cell(reflect.ValueOf(one.ExpiresAt))
		switch {
		case one.State != "open" && one.ClosedBy != "":
			when = "closed at " + cell(reflect.ValueOf(one.EndedAt)) + " by " + one.ClosedBy
		case one.State != "open":
			when = "expired at " + cell(reflect.ValueOf(one.EndedAt))
		}
		lines(s,
			fmt.Sprintf("%s of %s: %s", one.BreakGlassID, one.Principal, one.Reason),
			fmt.Sprintf("  opened at %s for %s, %s; versions read: %d", cell(reflect.ValueOf(one.OpenedAt)), strings.Join(one.Policies, ", "), when, one.Reads))
		if one.ReviewedBy != "" {
			lines(s, fmt.Sprintf("  reviewed at %s by %s: %s", cell(reflect.ValueOf(one.ReviewedAt)), one.ReviewedBy, one.Notes))
		}
		more := one.RotateDuties
		for _, d := range one.Duties {
			lines(s, "  "+dutyText(&d))
			if d.Duty == dutyRotate {
				more--
			}
		}
		if more > 0 {
			lines(s, fmt.Sprintf("  and %d more to rotate", more))
		}
	}
	return nil
}

const dutyRotate = "rotate"

func dutyText(d *wire.BreakGlassDuty) string {
	since := cell(reflect.ValueOf(d.Since))
	if d.Duty == dutyRotate {
		return fmt.Sprintf("to do: rotate %s, of which version %d was read; since %s", d.Path, d.Version, since)
	}
	return "to do: review; since " + since
}
