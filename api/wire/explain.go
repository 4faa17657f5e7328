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
	// is satisfied, and waived if a break-glass session makes up for the time.
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

// ExplainRequest asks how something was decided, or would be.
type ExplainRequest struct {
	DecisionID    string            `json:"decisionId,omitzero" doc:"id of a decision, as a denied caller was told; or ask by the fields below"`
	Principal     string            `json:"principal,omitzero" doc:"who asks"`
	Action        string            `json:"action,omitzero" doc:"what for, such as secrets:getSecretValue"`
	Path          string            `json:"path,omitzero" doc:"on which secret, whether it is there or not"`
	KeyID         string            `json:"keyId,omitzero" doc:"or on which key: its id or alias/NAME"`
	Prefix        string            `json:"prefix,omitzero" doc:"or on all that is below this prefix at once"`
	SourceAddress string            `json:"sourceAddress,omitzero" doc:"from where (default the caller's own address)"`
	At            *Time             `json:"at,omitzero" doc:"when (default now); the rules are always those of now"`
	Groups        []string          `json:"groups,omitzero" doc:"groups that claims put the principal into, besides those that it is in"`
	AuthMethod    string            `json:"authMethod,omitzero" doc:"how it authenticated (default token)"`
	Tags          map[string]string `json:"tags,omitzero" doc:"tags that the secret or key is to have (default those that it has)"`
	ApprovedBy    []string          `json:"approvedBy,omitzero" doc:"principals who approved the request"`
	Consistency   *Consistency      `json:"consistency,omitzero" doc:"relax the read"`
}

// Explanation is a decision with its grounds.
type Explanation struct {
	Decision string `json:"decision"` // allow or deny
	Reason   string `json:"reason,omitzero"`
	// Text says it in a sentence or two.
	Text    string         `json:"text"`
	At      *Time          `json:"at"`
	OpensAt *Time          `json:"opensAt,omitzero"`
	Chain   []DecisionStep `json:"chain"`
	More    int            `json:"more,omitzero"` // steps that were left out
	// Report is what would have been decided if the policies that only report
	// had a say; left out: the same.
	Report *PolicyReport `json:"report,omitzero"`
	// Needs are the approvals that are missing.
	Needs []ApprovalNeed `json:"needs,omitzero"`
	// BreakGlass is the session without which this would be denied.
	BreakGlass string `json:"breakGlass,omitzero"`
}

// AskedQuestion is what an explanation is about.
type AskedQuestion struct {
	Principal     string   `json:"principal"`
	Action        string   `json:"action"`
	Path          string   `json:"path,omitzero"`
	KeyID         string   `json:"keyId,omitzero"`
	Prefix        string   `json:"prefix,omitzero"`
	SourceAddress string   `json:"sourceAddress,omitzero"`
	AuthMethod    string   `json:"authMethod,omitzero"`
	Groups        []string `json:"groups,omitzero"`
}

// ExplainResponse answers a decision and its grounds. Of one from the trail it
// is as it was made then, and Now is what the same question gets today.
type ExplainResponse struct {
	Explanation
	Question AskedQuestion `json:"question"`
	Now      *Explanation  `json:"now,omitzero"`
	// Of a decision from the trail: where it is.
	DecisionID string `json:"decisionId,omitzero"`
	Event      string `json:"event,omitzero"`
	RequestID  string `json:"requestId,omitzero"`
	Node       string `json:"node,omitzero"`
	Sequence   uint64 `json:"sequence,omitzero"`
}

// WhoCanRequest asks who may do something.
type WhoCanRequest struct {
	Page
	Action        string       `json:"action" doc:"what, such as secrets:getSecretValue"`
	Path          string       `json:"path,omitzero" doc:"on which secret, whether it is there or not"`
	KeyID         string       `json:"keyId,omitzero" doc:"or on which key: its id or alias/NAME"`
	Prefix        string       `json:"prefix,omitzero" doc:"or on all that is below this prefix at once"`
	SourceAddress string       `json:"sourceAddress,omitzero" doc:"from where (default the caller's own address)"`
	AuthMethod    string       `json:"authMethod,omitzero" doc:"how they authenticate (default token)"`
	At            *Time        `json:"at,omitzero" doc:"when (default now); the rules are always those of now"`
	Consistency   *Consistency `json:"consistency,omitzero" doc:"relax the read"`
}

// WhoCanResponse is ordered by name. Who may under no circumstances is left
// out; a page may be empty and still have a next one.
type WhoCanResponse struct {
	Principals []WhoCan `json:"principals"`
	NextCursor string   `json:"nextCursor,omitzero"`
}

// WhoCan is a principal that may, or might.
type WhoCan struct {
	Principal string `json:"principal"`
	Kind      string `json:"kind"`
	// Decision is allow, or conditional: not like this, but once what Lacks
	// names is different.
	Decision string `json:"decision"`
	// By are the statements that allow it.
	By []GrantedBy `json:"by"`
	// Lacks is what is in the way: a kind of condition, sourceAddress,
	// timeWindow, approval or breakGlass.
	Lacks []string `json:"lacks,omitzero"`
	// Conditions are the kinds of conditions that it depends on.
	Conditions []string `json:"conditions,omitzero"`
	// BreakGlass says that it holds by a break-glass session only.
	BreakGlass bool `json:"breakGlass,omitzero"`
}

// GrantedBy is a statement that allows something.
type GrantedBy struct {
	Policy    string `json:"policy"`
	Statement int    `json:"statement"`
	Matched   string `json:"matched"`
	Via       string `json:"via,omitzero"`
}

// WhatCanRequest asks what a principal may do.
type WhatCanRequest struct {
	Page
	Principal     string       `json:"principal" doc:"who"`
	Values        bool         `json:"values,omitzero" doc:"list the secrets whose values it may read, instead of its rights"`
	Prefix        string       `json:"prefix,omitzero" doc:"with values: only below this prefix"`
	SourceAddress string       `json:"sourceAddress,omitzero" doc:"with values: from where (default the caller's own address)"`
	AuthMethod    string       `json:"authMethod,omitzero" doc:"with values: how it authenticates (default token)"`
	Groups        []string     `json:"groups,omitzero" doc:"groups that claims put it into, besides those that it is in"`
	At            *Time        `json:"at,omitzero" doc:"when (default now); the rules are always those of now"`
	Consistency   *Consistency `json:"consistency,omitzero" doc:"relax the read"`
}

// WhatCanResponse is what a principal may do: its rights, or, if that was
// asked for, the secrets whose values it may read, in order.
type WhatCanResponse struct {
	Values     []ReadableSecret `json:"values,omitzero"`
	NextCursor string           `json:"nextCursor,omitzero"`
	Principal  string           `json:"principal"`
	Kind       string           `json:"kind"`
	Groups     []string         `json:"groups,omitzero"`
	// Actions are those that it may do on something, and on what. What Denies,
	// boundaries and access policies take from that is not taken out of the
	// patterns: explain decides about one path or key.
	Actions        []ActionReach     `json:"actions,omitzero"`
	Denies         []RestrictedReach `json:"denies,omitzero"`
	Boundaries     []RestrictedReach `json:"boundaries,omitzero"`
	Approvals      []RestrictedReach `json:"approvals,omitzero"`
	AccessPolicies []string          `json:"accessPolicies,omitzero"`
}

// ReadableSecret is a secret whose value can be read.
type ReadableSecret struct {
	Path           string `json:"path"`
	CurrentVersion uint64 `json:"currentVersion"`
}

// ActionReach is an action, and what it is allowed on.
type ActionReach struct {
	Action string `json:"action"`
	// On are patterns of paths and references of keys, "everything" for
	// actions that are about neither.
	On []string `json:"on"`
	// If are the kinds of conditions under which it is allowed, where every
	// statement that allows it has some.
	If []string `json:"if,omitzero"`
	By []string `json:"by"` // the policies that allow it, with how they reach it
}

// RestrictedReach is a statement that takes away, caps or asks for approval.
type RestrictedReach struct {
	Policy    string   `json:"policy"`
	Statement int      `json:"statement"`
	Via       string   `json:"via,omitzero"`
	Effect    string   `json:"effect"`
	Actions   []string `json:"actions"`
	On        []string `json:"on"`
	If        []string `json:"if,omitzero"`
}

// SimulatePolicyRequest asks what would be different if a policy, an access
// policy, or both were as proposed.
type SimulatePolicyRequest struct {
	Name         string          `json:"name,omitzero" doc:"name of the policy, whether it is there or not"`
	Statements   []Statement     `json:"statements,omitzero" doc:"its proposed statements; an empty list: the policy is removed (default as they are)"`
	AttachTo     *ProposedHolder `json:"attachTo,omitzero" doc:"{\"principals\":[…], \"groups\":[…], \"mode\":\"grant\" or \"boundary\"}: attach it to these too"`
	AccessPolicy *ProposedAccess `json:"accessPolicy,omitzero" doc:"a proposed access policy: the fields of putAccessPolicy"`
	Since        *Duration       `json:"since,omitzero" doc:"replay the requests of this time (default 7d, at most 90d)"`
}

// ProposedHolder is who a proposed policy is attached to.
type ProposedHolder struct {
	Principals []string `json:"principals,omitzero"`
	Groups     []string `json:"groups,omitzero"`
	Mode       string   `json:"mode,omitzero"`
}

// ProposedAccess is an access policy that is tried out.
type ProposedAccess struct {
	Name        string       `json:"name"`
	Paths       []string     `json:"paths"`
	Actions     []string     `json:"actions,omitzero"`
	Principals  []string     `json:"principals,omitzero"`
	Groups      []string     `json:"groups,omitzero"`
	SourceCIDRs []string     `json:"sourceCidrs,omitzero"`
	TimeWindows []TimeWindow `json:"timeWindows,omitzero"`
	NotBefore   *Time        `json:"notBefore,omitzero"`
	NotAfter    *Time        `json:"notAfter,omitzero"`
}

// SimulatePolicyResponse tells who would lose and who would gain what, among
// what was asked for in that time. Each list is of different questions, the
// most frequent first.
type SimulatePolicyResponse struct {
	Loses []ChangedAnswer `json:"loses"`
	Gains []ChangedAnswer `json:"gains"`
	// MoreLoses and MoreGains count the different questions that were left out.
	MoreLoses int      `json:"moreLoses,omitzero"`
	MoreGains int      `json:"moreGains,omitzero"`
	Warnings  []string `json:"warnings"`
	Replayed
}

// Replayed says what was asked again.
type Replayed struct {
	// Questions were asked again; Unreplayable could not be: their principal is
	// gone, or the trail does not say what was asked.
	Questions    int   `json:"questions"`
	Unreplayable int   `json:"unreplayable"`
	Since        *Time `json:"since"`
	// StoppedAt is up to when the trails were read, if they hold more than one
	// answer replays; Unreachable names members whose trail is not in it.
	StoppedAt   *Time    `json:"stoppedAt,omitzero"`
	Unreachable []string `json:"unreachable,omitzero"`
	// FromCopies are chains that copies were asked for.
	FromCopies []AnsweredByCopy `json:"fromCopies,omitzero"`
}

// ChangedAnswer is a question that would be answered otherwise. It has no
// Path where the caller may neither describe the secret nor read the trail.
type ChangedAnswer struct {
	Principal string `json:"principal"`
	Action    string `json:"action"`
	Path      string `json:"path,omitzero"`
	KeyID     string `json:"keyId,omitzero"`
	Count     int    `json:"count"`
	LastAt    *Time  `json:"lastAt"`
	Reason    string `json:"reason,omitzero"` // of the denial that it would be
}

// LintPoliciesRequest asks what is wrong with policies.
type LintPoliciesRequest struct {
	Policy string    `json:"policy,omitzero" doc:"only this policy (default all)"`
	Since  *Duration `json:"since,omitzero" doc:"a statement is unused if no request of this time used it (default 30d, at most 90d; 0s: do not look)"`
}

// LintPoliciesResponse is in order of policies and statements.
type LintPoliciesResponse struct {
	Findings []PolicyFinding `json:"findings"`
	More     int             `json:"more,omitzero"` // findings that were left out
	Policies int             `json:"policies"`      // that were looked at
	Replayed
}

// PolicyFinding is something that a reviewer should look at.
type PolicyFinding struct {
	Policy    string `json:"policy"`
	Statement int    `json:"statement"`
	// Kind is wide, valueAccessForPeople, unused, shadowed, neverAllows,
	// noBoundary, missing or stale.
	Kind     string `json:"kind"`
	Severity string `json:"severity"` // warning or notice
	Message  string `json:"message"`
}
