package main

import (
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/strongroom/strongroom/api/wire"
)

// addDecisionForms adds what answers questions about rights: explain, who-can
// and what-can.
func addDecisionForms(root *cobra.Command) {
	for _, f := range []opForm{explainForm(), whoCanForm(), whatCanForm()} {
		cmd := f.command()
		cmd.GroupID = groupRights
		root.AddCommand(cmd)
	}
}

// reviewForms are the short forms for who reviews policies.
func reviewForms() []opForm {
	lint := withExample(short("lint", "iam", "lintPolicies", "policy"), "  strongroom policy lint\n  strongroom policy lint web-values --since 90d")
	lint.optional = 1
	lint.show = showLint
	simulate := withExample(short("simulate", "iam", "simulatePolicy", "name"),
		"  strongroom policy simulate web-values --statements-file proposed.json --since 30d\n"+
			"  strongroom policy simulate web-values --statements '[]'                          # if it were removed\n"+
			`  strongroom policy simulate web-values --attach-to '{"principals":["batch"]}'`)
	simulate.optional = 1
	simulate.show = showSimulation
	return []opForm{lint, simulate, paged(short("revisions", "iam", "listPolicyRevisions", "name")), diffForm()}
}

var decisionID = regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)

// explainForm takes the id of a decision, or PRINCIPAL ACTION and a path, a
// prefix or a key.
func explainForm() opForm {
	f := withExample(short("explain", "iam", "explain", "principal", "action", "path"),
		"  strongroom explain 0198c0de-0000-7000-8000-00000000000a      # what a denial said\n"+
			"  strongroom explain ann secrets:getSecretValue /app/prod/web/db-password --source-address 10.1.2.3\n"+
			"  strongroom explain ann kms:encrypt alias/pay")
	f.optional = 3
	f.short = "Show why something is allowed or denied, by the id of a decision or by a question"
	f.send = func(cmd *cobra.Command, s *session, req, resp any) error {
		r := req.(*wire.ExplainRequest)
		if decisionID.MatchString(r.Principal) && r.Action == "" && r.DecisionID == "" {
			r.DecisionID, r.Principal = r.Principal, ""
		}
		sortTarget(r.Action, &r.Path, &r.KeyID, &r.Prefix)
		return s.do(cmd.Context(), r, resp)
	}
	f.show = showExplanation
	return f
}

// sortTarget puts what was given as a path where it belongs: a key for
// actions of kms, a prefix if it ends in a slash.
func sortTarget(action string, path, keyID, prefix *string) {
	switch {
	case *path == "":
	case strings.HasPrefix(action, "kms:") && *keyID == "":
		*keyID, *path = *path, ""
	case strings.HasSuffix(*path, "/") && *prefix == "":
		*prefix, *path = *path, ""
	}
}

func whoCanForm() opForm {
	f := paged(withExample(short("who-can", "iam", "whoCan", "action", "path"),
		"  strongroom who-can secrets:getSecretValue /app/prod/web/db-password\n  strongroom who-can kms:decrypt alias/pay"))
	f.optional = 1
	f.send = func(cmd *cobra.Command, s *session, req, resp any) error {
		r := req.(*wire.WhoCanRequest)
		sortTarget(r.Action, &r.Path, &r.KeyID, &r.Prefix)
		return s.do(cmd.Context(), r, resp)
	}
	return f
}

func whatCanForm() opForm {
	f := paged(withExample(short("what-can", "iam", "whatCan", "principal"),
		"  strongroom what-can ann\n  strongroom what-can ann --values --prefix /app/prod/"))
	f.show = showRights
	return f
}

// lines prints texts, each made harmless for a terminal.
func lines(s *session, texts ...string) {
	for _, text := range texts {
		fmt.Fprintln(s.out, printable(text))
	}
}

func titled(s *session, title string, rows any) error {
	v := reflect.ValueOf(rows)
	if v.Len() == 0 {
		return nil
	}
	lines(s, "", title)
	return table(s.out, v)
}

func showExplanation(s *session, resp any) error {
	r := resp.(*wire.ExplainResponse)
	lines(s, r.Text)
	if err := titled(s, "Rules that had a say, or would have but for a condition:", r.Chain); err != nil {
		return err
	}
	if r.More > 0 {
		lines(s, fmt.Sprintf("and %d more", r.More))
	}
	if err := titled(s, "Approvals that are missing:", r.Needs); err != nil {
		return err
	}
	if r.DecisionID != "" {
		lines(s, "", fmt.Sprintf("Decided at %s on %s, request %s (%s).", cell(reflect.ValueOf(r.At)), r.Node, r.RequestID, r.Event))
	}
	if r.Now == nil {
		return nil
	}
	lines(s, "", "Today: "+r.Now.Text)
	return titled(s, "Rules that have a say today:", r.Now.Chain)
}

func showRights(s *session, resp any) error {
	r := resp.(*wire.WhatCanResponse)
	if r.Values != nil {
		return showTable(s, &struct {
			Values     []wire.ReadableSecret `json:"values"`
			NextCursor string                `json:"nextCursor,omitzero"`
		}{r.Values, r.NextCursor})
	}
	if len(r.Actions) == 0 && r.NextCursor == "" {
		lines(s, r.Principal+" may do nothing.")
	} else if err := table(s.out, reflect.ValueOf(r.Actions)); err != nil {
		return err
	}
	for _, part := range []struct {
		title string
		rows  []wire.RestrictedReach
	}{
		{"Denied, whatever allows it:", r.Denies}, {"Boundaries, which all must allow it too:", r.Boundaries},
		{"Held back until others approve:", r.Approvals},
	} {
		if err := titled(s, part.title, part.rows); err != nil {
			return err
		}
	}
	if len(r.AccessPolicies) > 0 {
		lines(s, "", "Access policies that may restrict it: "+strings.Join(r.AccessPolicies, ", "))
	}
	return nil
}

// replayedText says what an answer is based on.
func replayedText(r wire.Replayed) []string {
	out := []string{fmt.Sprintf("%d requests since %s were asked again; %d could not be.", r.Questions, cell(reflect.ValueOf(r.Since)), r.Unreplayable)}
	if r.StoppedAt != nil {
		out = append(out, "The trails hold more than one answer replays: later ones than "+cell(reflect.ValueOf(r.StoppedAt))+" are not in it. Choose a shorter --since.")
	}
	if len(r.Unreachable) > 0 {
		out = append(out, "Not in it: the trails of "+strings.Join(r.Unreachable, ", ")+", which did not answer.")
	}
	return out
}

func showSimulation(s *session, resp any) error {
	r := resp.(*wire.SimulatePolicyResponse)
	if len(r.Loses)+len(r.Gains) == 0 {
		lines(s, "No request would have been answered otherwise.")
	}
	for _, part := range []struct {
		title string
		rows  []wire.ChangedAnswer
		more  int
	}{{"Would lose:", r.Loses, r.MoreLoses}, {"Would gain:", r.Gains, r.MoreGains}} {
		if err := titled(s, part.title, part.rows); err != nil {
			return err
		}
		if part.more > 0 {
			lines(s, fmt.Sprintf("and %d more", part.more))
		}
	}
	for _, w := range r.Warnings {
		lines(s, "Warning: "+w)
	}
	lines(s, "")
	lines(s, replayedText(r.Replayed)...)
	return nil
}

func showLint(s *session, resp any) error {
	r := resp.(*wire.LintPoliciesResponse)
	if err := table(s.out, reflect.ValueOf(r.Findings)); err != nil {
		return err
	}
	if len(r.Findings) > 0 {
		lines(s, "")
	}
	lines(s, fmt.Sprintf("%d policies, %d findings.", r.Policies, len(r.Findings)+r.More))
	lines(s, replayedText(r.Replayed)...)
	return nil
}

// diffForm compares two revisions of a policy, statement by statement.
func diffForm() opForm {
	f := withExample(short("diff", "iam", "getPolicy", "name"), "  strongroom policy diff web-values              # what the last change was\n  strongroom policy diff web-values --revision 3  # revision 3 against the current one")
	f.short = "Compare a past revision of a policy with the current one"
	var old wire.PolicyResponse
	f.send = func(cmd *cobra.Command, s *session, req, resp any) error {
		if format, err := outputFormat(cmd); err != nil || format == formatJSON {
			return errors.Join(err, usagef("policy diff is for people; policy get --revision N -o json shows a revision"))
		}
		r, now := req.(*wire.GetPolicyRequest), resp.(*wire.PolicyResponse)
		past := *r
		r.Revision = nil
		if err := s.do(cmd.Context(), r, now); err != nil {
			return err
		}
		if past.Revision == nil {
			if now.Revision < 2 {
				return nil
			}
			before := now.Revision - 1
			past.Revision = &before
		}
		return s.do(cmd.Context(), &past, &old)
	}
	f.show = func(s *session, resp any) error { return showDiff(s, &old, resp.(*wire.PolicyResponse)) }
	return f
}

func showDiff(s *session, old, now *wire.PolicyResponse) error {
	if old.Name == "" {
		lines(s, fmt.Sprintf("Policy %s has one revision.", now.Name))
		return nil
	}
	lines(s, "--- "+revisionLine(old), "+++ "+revisionLine(now))
	before, after := statementLines(old), statementLines(now)
	for _, edit := range difference(before, after) {
		lines(s, edit)
	}
	if slices.Equal(before, after) {
		lines(s, "The statements are the same.")
	}
	return nil
}

func revisionLine(p *wire.PolicyResponse) string {
	text := fmt.Sprintf("revision %d, %s by %s", p.Revision, cell(reflect.ValueOf(p.UpdatedAt)), p.UpdatedBy)
	if p.Reason != "" {
		text += ": " + p.Reason
	}
	return text
}

func statementLines(p *wire.PolicyResponse) []string {
	out := []string{"reportOnly: " + strconv.FormatBool(p.ReportOnly)}
	for i := range p.Statements {
		var b strings.Builder
		if err := wire.Encode(&b, &p.Statements[i]); err != nil {
			b.WriteString("?")
		}
		out = append(out, strings.TrimSpace(b.String()))
	}
	return out
}

// difference is the shortest list of kept, removed and added lines (a longest
// common subsequence; policies have at most a thousand statements).
func difference(a, b []string) []string {
	longest := make([][]int, len(a)+1)
	for i := range longest {
		longest[i] = make([]int, len(b)+1)
	}
	for i := len(a) - 1; i >= 0; i-- {
		for j := len(b) - 1; j >= 0; j-- {
			if a[i] == b[j] {
				longest[i][j] = longest[i+1][j+1] + 1
			} else {
				longest[i][j] = max(longest[i+1][j], longest[i][j+1])
			}
		}
	}
	var out []string
	i, j := 0, 0
	for i < len(a) || j < len(b) {
		switch {
		case i < len(a) && j < len(b) && a[i] == b[j]:
			out = append(out, "  "+a[i])
			i, j = i+1, j+1
		case i < len(a) && (j == len(b) || longest[i+1][j] >= longest[i][j+1]):
			out = append(out, "- "+a[i])
			i++
		default:
			out = append(out, "+ "+b[j])
			j++
		}
	}
	return out
}
