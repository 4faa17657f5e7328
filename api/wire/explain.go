package wire

// DecisionStep is one rule that had a say in a decision, or would have had but
// for what Unmet names.
type DecisionStep struct {
	// Policy is the name of the policy, or of the access policy if Access.
	Policy string `json:"policy"`
	// Revision is that of the policy, as it was then.
	Revision uint64 `json:"revision,omitzero"`
	// Statement is the place in the policy, from 0.
	Statement int `json:"statement"`
	// Effect is allow, deny or requireApproval; of an access policy allow if it
	// is satisfied.
	Effect string `json:"effect"`
	// Action and Matched say how the statement came to be about the question:
	// "secrets:*", "role secrets-read-access"; "path /app/**", "everything".
	Action  string `json:"action,omitzero"`
	Matched string `json:"matched,omitzero"`
	// Via is how the policy reaches the principal, "group ops"; left out: it is
	// attached to the principal itself.
	Via string `json:"via,omitzero"`
	// Unmet is the condition for want of which the statement had no say.
	Unmet      string `json:"unmet,omitzero"`
	Access     bool   `json:"access,omitzero"`
	Boundary   bool   `json:"boundary,omitzero"`
	Report     bool   `json:"report,omitzero"` // the policy only reports
	BreakGlass string `json:"breakGlass,omitzero"`
	// Missing is how many approvals are missing.
	Missing int `json:"missing,omitzero"`
}

// PolicyReport is what would have been decided if the policies that only
// report had a say.
type PolicyReport struct {
	Allowed bool   `json:"allowed"`
	Reason  string `json:"reason,omitzero"`
}

// AuditDecision is a decision as the trail keeps it.
type AuditDecision struct {
	Action  string `json:"action"`
	Allowed bool   `json:"allowed"`
	Reason  string `json:"reason,omitzero"`
	OpensAt *Time  `json:"opensAt,omitzero"`
	// What was asked about: a path, all below a prefix, a key, or Anywhere:
	// something at all. Guard is a rule of the operation itself, which no
	// policy decides.
	Path       string         `json:"path,omitzero"`
	Prefix     string         `json:"prefix,omitzero"`
	KeyID      string         `json:"keyId,omitzero"`
	Anywhere   bool           `json:"anywhere,omitzero"`
	Guard      bool           `json:"guard,omitzero"`
	AuthMethod string         `json:"authMethod,omitzero"`
	Groups     []string       `json:"groups,omitzero"` // that came with the credential
	Chain      []DecisionStep `json:"chain,omitzero"`
	More       int            `json:"more,omitzero"` // steps that were left out
	Report     *PolicyReport  `json:"report,omitzero"`
}
