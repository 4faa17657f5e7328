package main

import (
	"fmt"
	"io"
	"reflect"
	"strings"

	"github.com/spf13/cobra"

	"github.com/strongroom/strongroom/api/wire"
)

func approvalForms() []opForm {
	ask := withExample(short("request", "iam", "requestApproval", "operation"), `  strongroom approval request secrets/destroyVersion --request-file body.json --reason "leaked, ticket 7"
  strongroom secret destroy /app/prod/web/db --version 3 --ask-approval "leaked, ticket 7"   # the same, from the command itself`)
	list := paged(withExample(short("ls", "iam", "listApprovals"), "  strongroom approval ls --for-me --state pending"))
	list.show = func(s *session, resp any) error { return showApprovals(s, resp.(*wire.ListApprovalsResponse)) }
	out := []opForm{
		ask, short("show", "iam", "describeApproval", "approvalId"), short("approve", "iam", "approve", "approvalId"),
		short("deny", "iam", "deny", "approvalId"), short("withdraw", "iam", "withdrawApproval", "approvalId"),
	}
	for i := range out {
		out[i].show = func(s *session, resp any) error {
			showApproval(s.out, resp.(*wire.ApprovalResponse))
			return nil
		}
	}
	return append(out, list)
}

// askApproval sends the request that the command would send, for approval.
func (f opForm) askApproval(cmd *cobra.Command, flags *requestFlags, args []string, reason string) error {
	format, err := outputFormat(cmd)
	if err != nil {
		return err
	}
	if create := cmd.Flags().Lookup("create"); create != nil && create.Changed && f.send != nil {
		return usagef("--create does not go with --ask-approval: one request is approved; make the secret first")
	}
	conn, err := connect(cmd, false)
	if err != nil {
		return err
	}
	defer conn.Close()
	req, err := flags.request(cmd, args)
	if err != nil {
		return err
	}
	defer wipeValues(reflect.ValueOf(req))
	var body wipingBuffer
	defer body.wipe()
	if err := wire.Encode(&body, req); err != nil {
		return err
	}
	ask := &wire.RequestApprovalRequest{Operation: f.op.Path(), Request: wire.NewObject(body.b), Reason: reason}
	var resp wire.ApprovalResponse
	if err := conn.Do(cmd.Context(), "iam", "requestApproval", ask, &resp); err != nil {
		return err
	}
	if format == formatJSON {
		return showJSON(cmd.OutOrStdout(), &resp)
	}
	showApproval(cmd.OutOrStdout(), &resp)
	if resp.State == "pending" {
		fmt.Fprintln(cmd.ErrOrStderr(), "Once it is approved, run the same command without --ask-approval.")
	}
	return nil
}

// showApproval prints a request for approval for who is to decide it.
func showApproval(out io.Writer, a *wire.ApprovalResponse) {
	line := func(name, format string, args ...any) {
		fmt.Fprintf(out, "%-12s %s\n", name+":", printable(fmt.Sprintf(format, args...)))
	}
	line("approval", "%s", a.ApprovalID)
	line("state", "%s", a.State)
	line("asked by", "%s at %s", a.Principal, a.CreatedAt)
	line("operation", "%s", a.Operation)
	line("request", "%s", a.Request)
	line("reason", "%s", a.Reason)
	for _, n := range a.Needs {
		line("needs", "%s", needText(n.Policy, n.Count, n.Given, n.Principals, n.Groups))
	}
	for _, g := range a.Approvals {
		text := g.Principal + " at " + g.At.String()
		if g.Comment != "" {
			text += ": " + g.Comment
		}
		line("approved by", "%s", text)
	}
	switch {
	case a.EndedAt == nil:
		line("expires at", "%s", a.ExpiresAt)
	case a.EndedBy == "":
		line(a.State, "at %s", a.EndedAt)
	default:
		line(a.State, "at %s by %s %s", a.EndedAt, a.EndedBy, a.EndReason)
	}
}

func needText(policy string, count, given int, principals, groups []string) string {
	who := make([]string, 0, len(principals)+len(groups))
	who = append(who, principals...)
	for _, g := range groups {
		who = append(who, "group "+g)
	}
	if len(who) == 0 {
		who = []string{"anybody who may iam:approve"}
	}
	return fmt.Sprintf("%d of %s (policy %s); %d given", count, strings.Join(who, ", "), policy, given)
}

// showApprovals prints one line for each.
func showApprovals(s *session, list *wire.ListApprovalsResponse) error {
	type row struct {
		ApprovalID string     `json:"approvalId"`
		State      string     `json:"state"`
		Principal  string     `json:"askedBy"`
		Operation  string     `json:"operation"`
		About      string     `json:"about"`
		Reason     string     `json:"reason"`
		ExpiresAt  *wire.Time `json:"expiresAt"`
	}
	out := &struct {
		Rows       []row  `json:"rows"`
		NextCursor string `json:"nextCursor,omitzero"`
	}{NextCursor: list.NextCursor}
	for _, a := range list.Approvals {
		about := a.Path
		if about == "" {
			about = strings.TrimSpace(a.KeyID + " " + a.Subject)
		}
		out.Rows = append(out.Rows, row{a.ApprovalID, a.State, a.Principal, a.Operation, about, a.Reason, a.ExpiresAt})
	}
	return showTable(s, out)
}

// showNeeds prints whose approval a denied request lacks.
func showNeeds(out io.Writer, detail any) {
	needs, _ := detail.([]any)
	for _, one := range needs {
		n, _ := one.(map[string]any)
		policy, _ := n["policy"].(string)
		count, _ := n["count"].(float64)
		given, _ := n["given"].(float64)
		fmt.Fprintf(out, "  needs:       %s\n", printable(needText(policy, int(count), int(given), texts(n["principals"]), texts(n["groups"]))))
	}
}

func texts(list any) []string {
	var out []string
	all, _ := list.([]any)
	for _, one := range all {
		if text, ok := one.(string); ok {
			out = append(out, text)
		}
	}
	return out
}
