package main

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/strongroom/strongroom/client"
	"github.com/strongroom/strongroom/internal/fault"
)

// showFailure prints what went wrong and what to do about it.
func showFailure(out io.Writer, err error) {
	var answered *client.Error
	var unreachable *client.UnreachableError
	var hinted hintError
	switch {
	case errors.As(err, &answered):
		fmt.Fprintf(out, "strongroom: %s\n", printable(answered.Error()))
		if answered.RequestID != "" {
			fmt.Fprintf(out, "  request id:  %s\n", printable(answered.RequestID))
		}
		for _, name := range []string{"decisionId", "reason", "opensAt", "state", "keyId"} {
			if detail, ok := answered.Details[name].(string); ok {
				fmt.Fprintf(out, "  %-12s %s\n", words(name)+":", printable(detail))
			}
		}
		showNeeds(out, answered.Details["needs"])
		showConsumers(out, answered.Details["consumers"])
		showUnknown(out, answered.Details["unknown"])
		hint := wayOut(fault.Kind(answered.Code))
		if answered.Details["needs"] != nil {
			hint = "the same command with --ask-approval REASON asks for it; once it is approved, run the command again"
		}
		if errors.As(err, &hinted) {
			hint = hinted.hint
		}
		if hint != "" {
			fmt.Fprintf(out, "  what to do:  %s\n", hint)
		}
	case errors.As(err, &unreachable):
		fmt.Fprintf(out, "strongroom: no node could be reached; the last one tried: %s\n", printable(unreachable.Error()))
		hint := "is a node running at the address in " + envAddr + " or --addr?"
		if unreachable.Permanent {
			hint = "the certificate is not from the authority in " + envCACert + " or --cacert; correct that, or the address"
		}
		fmt.Fprintf(out, "  what to do:  %s\n", hint)
	default:
		fmt.Fprintln(out, "strongroom:", strings.TrimPrefix(err.Error(), "client: "))
		if errors.As(err, &hinted) {
			fmt.Fprintf(out, "  what to do:  %s\n", hinted.hint)
		}
	}
}

// showConsumers prints whom a destruction waits for.
func showConsumers(out io.Writer, detail any) {
	consumers, _ := detail.([]any)
	for _, one := range consumers {
		c, _ := one.(map[string]any)
		name, _ := c["principal"].(string)
		if instance, _ := c["instance"].(string); instance != "" {
			name += "/" + instance
		}
		until, _ := c["mayHoldUntil"].(string)
		fmt.Fprintf(out, "  in use by:   %s until %s\n", printable(name), printable(until))
	}
}

// showUnknown prints the nodes that have not told yet to whom they gave a
// version.
func showUnknown(out io.Writer, detail any) {
	unknown, _ := detail.(map[string]any)
	nodes, _ := unknown["nodes"].([]any)
	until, _ := unknown["until"].(string)
	for _, one := range nodes {
		node, _ := one.(string)
		fmt.Fprintf(out, "  not told:    %s led before and has not said yet whom it gave the version; nobody can hold it after %s\n", printable(node), printable(until))
	}
}

// wayOut is what a person can do about an error.
func wayOut(kind fault.Kind) string {
	switch kind {
	case fault.Unauthenticated:
		return "use a token that is valid: the one in " + envTokenFile + " or --token-file is unknown, expired or revoked"
	case fault.AccessDenied:
		return "ask an administrator for the right, and give them the decision id"
	case fault.Uncertain:
		return "look whether it was done (describe or list), or send it again with the same --client-token"
	case fault.NoLeader:
		return "a majority of the nodes must run and reach each other; strongroom cluster status, and the nodes' logs, say who is missing"
	case fault.HsmUnavailable:
		return "the HSM of the leader is away; GET /api/v1/health/ready of each node says why"
	case fault.AuditUnavailable:
		return "the leader cannot write its audit trail; free space on the disk of audit.dir"
	case fault.Internal:
		return "look for the request id in the servers' logs"
	case fault.VersionInUse:
		return "strongroom secret consumers PATH --holding lists who may hold it; wait for them, or --force with a --reason"
	case fault.KeyInUse:
		return "strongroom key bound KEY lists the secrets that need it"
	case "":
		return "check the address"
	}
	return ""
}

// hintError adds a way out that only the command knows.
type hintError struct {
	error
	hint string
}

func (h hintError) Unwrap() error { return h.error }
