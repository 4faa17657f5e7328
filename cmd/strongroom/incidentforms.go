package main

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/strongroom/strongroom/api/wire"
)

// incidentForm is what one does about a principal that is not trusted any
// more: see what it was given, and on request take everything from it, mark
// what it was given and have it rotated.
func incidentForm() opForm {
	f := withExample(short("incident", "audit", "incident", "principal"),
		"  strongroom incident svc-web --since 72h\n"+
			"  strongroom incident svc-web --since 72h --quarantine --mark-compromised --rotate")
	f.short = "List what a principal was given, and on request quarantine it, mark and rotate"
	var then afterIncident
	f.extra = func(cmd *cobra.Command) {
		cmd.Flags().BoolVar(&then.quarantine, "quarantine", false, "first take everything from the principal, so that nothing more is given")
		cmd.Flags().BoolVar(&then.mark, "mark-compromised", false, "mark every version that was given as compromised")
		cmd.Flags().BoolVar(&then.rotate, "rotate", false, "start the rotation of each secret that readers still get such a version of, where it has one")
		cmd.Flags().StringVar(&then.reason, "reason", "", "why, for the quarantine, the marks and the rotations")
	}
	f.send = then.send
	f.show = showIncident
	return f
}

// afterIncident is what is to be done about an incident.
type afterIncident struct {
	quarantine, mark, rotate bool
	reason                   string
}

// send does it in the order in which each step sees the effect of the one
// before. Whatever one secret refuses, the others are gone on with; the errors
// are told together.
func (a *afterIncident) send(cmd *cobra.Command, s *session, req, resp any) error {
	ctx, r, out := cmd.Context(), req.(*wire.IncidentRequest), resp.(*wire.IncidentResponse)
	reason := a.reason
	if reason == "" {
		reason = "incident of " + r.Principal
	}
	if a.quarantine {
		done, err := s.IAM().QuarantinePrincipal(ctx, wire.QuarantineRequest{Principal: r.Principal, Reason: reason})
		if err != nil {
			return fmt.Errorf("nothing was done: %w", err)
		}
		if done.Unchanged {
			fmt.Fprintf(s.errOut, "%s was in quarantine already.\n", r.Principal)
		} else {
			fmt.Fprintf(s.errOut, "%s is in quarantine; tokens revoked: %d.\n", r.Principal, done.RevokedTokens)
		}
	}
	if err := whole(ctx, s, r, out); err != nil {
		return err
	}
	var errs []error
	if a.mark {
		errs = append(errs, markGiven(ctx, s, out, reason)...)
	}
	if a.rotate {
		errs = append(errs, startRotations(ctx, s, out, reason)...)
	}
	err := errors.Join(errs...)
	if err == nil {
		return nil
	}
	// The list is shown all the same: it is what is left to do by.
	if format, _ := outputFormat(cmd); format == formatJSON {
		return errors.Join(showJSON(s.out, out), err)
	}
	return errors.Join(showIncident(s, out), err)
}

// whole follows all pages. It is complete if each of them was.
func whole(ctx context.Context, s *session, r *wire.IncidentRequest, out *wire.IncidentResponse) error {
	if r.Limit == nil && r.Cursor == "" {
		most := 1000
		r.Limit = &most
	}
	if err := s.do(ctx, r, out); err != nil {
		return err
	}
	r.Until = out.Until // what happens meanwhile moves no page
	for cursor := out.NextCursor; cursor != ""; {
		r.Cursor = cursor
		var page wire.IncidentResponse
		if err := s.do(ctx, r, &page); err != nil {
			return err
		}
		out.Given = append(out.Given, page.Given...)
		out.Complete = out.Complete && page.Complete
		out.Unreachable = slices.Compact(slices.Sorted(slices.Values(append(out.Unreachable, page.Unreachable...))))
		if out.StoppedAt == nil {
			out.StoppedAt = page.StoppedAt
		}
		cursor = page.NextCursor
	}
	out.NextCursor = ""
	return nil
}

// markGiven marks what is still there, and says so in out.
func markGiven(ctx context.Context, s *session, out *wire.IncidentResponse, reason string) (errs []error) {
	marked := 0
	for i := 0; i < len(out.Given); {
		end := i
		var versions []uint64
		for ; end < len(out.Given) && out.Given[end].Path == out.Given[i].Path; end++ {
			if g := &out.Given[end]; g.State != stateGone && g.Version > 0 && !g.Compromised {
				versions = append(versions, g.Version)
			}
		}
		for some := range slices.Chunk(versions, 100) {
			done, err := s.Secrets().MarkCompromised(ctx, wire.MarkCompromisedRequest{Path: out.Given[i].Path, Versions: some, Reason: reason})
			if err != nil {
				errs = append(errs, fmt.Errorf("%s was not marked: %w", out.Given[i].Path, err))
				continue
			}
			marked += done.Marked
			for j := i; j < end; j++ {
				out.Given[j].Compromised = out.Given[j].Compromised || slices.Contains(some, out.Given[j].Version)
			}
		}
		i = end
	}
	fmt.Fprintf(s.errOut, "Versions marked as compromised: %d.\n", marked)
	return errs
}

// startRotations starts the rotations that there are.
func startRotations(ctx context.Context, s *session, out *wire.IncidentResponse, reason string) (errs []error) {
	started := 0
	for _, g := range out.Given {
		if !g.Current || !g.Rotates {
			continue
		}
		if _, err := s.Secrets().RotateSecret(ctx, wire.RotateSecretRequest{Path: g.Path, Reason: reason}); err != nil {
			errs = append(errs, fmt.Errorf("%s was not rotated: %w", g.Path, err))
			continue
		}
		started++
	}
	fmt.Fprintf(s.errOut, "Rotations started: %d.\n", started)
	return errs
}

// stateGone is the state of a version that is not there any more.
const stateGone = "gone"

func showIncident(s *session, resp any) error {
	r := resp.(*wire.IncidentResponse)
	lines(s, fmt.Sprintf("%s was given %d versions from %s to %s.", r.Principal, r.Total, cell(reflect.ValueOf(r.Since)), cell(reflect.ValueOf(r.Until))))
	if r.Quarantined != nil {
		lines(s, fmt.Sprintf("It is in quarantine since %s: %s", cell(reflect.ValueOf(r.Quarantined.At)), r.Quarantined.Reason))
	}
	if !r.Complete {
		text := "THE LIST MAY LACK SOMETHING:"
		if len(r.Unreachable) > 0 {
			text += " not asked: " + strings.Join(r.Unreachable, ", ") + "."
		}
		if r.StoppedAt != nil {
			text += " read up to " + cell(reflect.ValueOf(r.StoppedAt)) + " only."
		}
		lines(s, text)
	}
	if len(r.Given) > 0 {
		if err := table(s.out, reflect.ValueOf(r.Given)); err != nil {
			return err
		}
	}
	var byHand []string
	for _, g := range r.Given {
		if g.Current && !g.Rotates {
			byHand = append(byHand, "  "+g.Path)
		}
	}
	if len(byHand) > 0 {
		lines(s, "To be rotated by hand, because they have no rotation and readers still get what was given:")
		lines(s, byHand...)
	}
	return nil
}
