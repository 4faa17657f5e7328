package wire

// PathRuleFields are what a path rule may say; each may be left out.
type PathRuleFields struct {
	Segments        []string  `json:"segments,omitzero" doc:"what paths look like below the prefix, an entry for each segment: {name} any, {env:dev|prod} one of these, config this one, {name...} as the last one or more; * stands for any part"`
	KMSKeyID        string    `json:"kmsKeyId,omitzero" doc:"key of secrets that are made without kmsKeyId: an id, or alias/NAME, which is followed whenever a secret is made"`
	Owner           string    `json:"owner,omitzero" doc:"who answers for the secrets, for people, at most 256 bytes"`
	RotationPeriod  *Duration `json:"rotationPeriod,omitzero" doc:"how often values are to be replaced (1s to 3660d)"`
	ConsumerHorizon *Duration `json:"consumerHorizon,omitzero" doc:"how long a consumer may hold a value that it has read (1s to 366d)"`
	RequiredTags    []string  `json:"requiredTags,omitzero" doc:"tags that a secret must have: owner, or with the values that are allowed, tier=1|2|3; at most 50"`
	KeepVersions    *uint64   `json:"keepVersions,omitzero" doc:"destroy older versions than this many, counted from the current one down (1 to 10000); needs secrets:destroyVersion too"`
	MaxSecrets      *uint64   `json:"maxSecrets,omitzero" doc:"refuse more secrets than this below the prefix, those in their recovery window included"`
	MaxVersions     *uint64   `json:"maxVersions,omitzero" doc:"refuse more stored versions than this below the prefix; destroyed ones do not count"`
	MaxBytes        *uint64   `json:"maxBytes,omitzero" doc:"refuse more bytes of stored values than this below the prefix"`
	MinRetention    *Duration `json:"minRetention,omitzero" doc:"age before which no version may be destroyed or purged (1s to 3660d)"`
	HSMEachRead     bool      `json:"hsmEachRead,omitzero" doc:"each read of a value is a call to the HSM, and never served by a data key in memory"`
}

// PutPathRuleRequest makes or replaces the rule of a prefix, as a whole.
type PutPathRuleRequest struct {
	Write
	Prefix string `json:"prefix" doc:"the secrets below it are bound, such as /app/; / binds all"`
	PathRuleFields
	Reason           string  `json:"reason,omitzero" doc:"why, kept with the rule, at most 1024 bytes"`
	ExpectedRevision *uint64 `json:"expectedRevision,omitzero" doc:"refuse unless the rule is at this revision (0: there is none yet)"`
}

// PathRuleResponse names the revision.
type PathRuleResponse struct {
	Prefix   string `json:"prefix"`
	Revision uint64 `json:"revision"`
}

// DeletePathRuleRequest removes the rule of a prefix.
type DeletePathRuleRequest struct {
	Write
	Prefix           string  `json:"prefix" doc:"prefix of the rule"`
	Reason           string  `json:"reason,omitzero" doc:"why; it is in the event, at most 1024 bytes"`
	ExpectedRevision *uint64 `json:"expectedRevision,omitzero" doc:"refuse unless the rule is at this revision"`
}

// ListPathRulesRequest asks for rules.
type ListPathRulesRequest struct {
	Page
	Prefix      string       `json:"prefix,omitzero" doc:"only rules of this prefix and below it (default /)"`
	Consistency *Consistency `json:"consistency,omitzero" doc:"relax the read"`
}

// ListPathRulesResponse is ordered by prefix.
type ListPathRulesResponse struct {
	PathRules  []PathRule `json:"pathRules"`
	NextCursor string     `json:"nextCursor,omitzero"`
}

// PathRule is one rule. KMSKeyState is that of its key now, or "missing".
type PathRule struct {
	Prefix   string `json:"prefix"`
	Revision uint64 `json:"revision"`
	PathRuleFields
	KMSKeyState string `json:"kmsKeyState,omitzero"`
	// Quotas tells how much is used, to who may make the rule.
	Quotas    []Quota `json:"quotas,omitzero"`
	Reason    string  `json:"reason,omitzero"`
	CreatedAt *Time   `json:"createdAt"`
	CreatedBy string  `json:"createdBy"`
	UpdatedAt *Time   `json:"updatedAt"`
	UpdatedBy string  `json:"updatedBy"`
	RequestID string  `json:"requestId,omitzero"`
}

// Quota is a bound of a path rule, and how much of it is used.
type Quota struct {
	Prefix string `json:"prefix"` // of the rule
	Quota  string `json:"quota"`  // maxSecrets, maxVersions or maxBytes
	Limit  uint64 `json:"limit"`
	Used   uint64 `json:"used"`
}

// LintPathsRequest asks which secrets differ from the rules.
type LintPathsRequest struct {
	Page
	Prefix      string          `json:"prefix,omitzero" doc:"only secrets below it (default /)"`
	Rule        *PathRuleFields `json:"rule,omitzero" doc:"the fields of a rule that is tried out as the one of the prefix, and not stored"`
	Consistency *Consistency    `json:"consistency,omitzero" doc:"relax the read"`
}

// LintPathsResponse is ordered by path.
type LintPathsResponse struct {
	Findings   []PathFinding `json:"findings"`
	NextCursor string        `json:"nextCursor,omitzero"`
}

// PathFinding is one difference of a secret from a rule.
type PathFinding struct {
	Path string `json:"path"`
	Rule string `json:"rule"` // its prefix
	// Field is that of the rule. Severity is error for what would be refused
	// today, notice for all else.
	Field    string `json:"field"`
	Severity string `json:"severity"`
	Message  string `json:"message"`
}

// SecretRule is what the rules that cover a secret say together.
type SecretRule struct {
	// Grammars are the whole paths that the rules allow, such as
	// /app/{env:dev|prod}/{service}/{name}; all of them hold.
	Grammars        []string  `json:"grammars,omitzero"`
	KMSKeyID        string    `json:"kmsKeyId,omitzero"` // as the rule has it
	Owner           string    `json:"owner,omitzero"`
	RotationPeriod  *Duration `json:"rotationPeriod,omitzero"`
	ConsumerHorizon *Duration `json:"consumerHorizon,omitzero"`
	RequiredTags    []string  `json:"requiredTags,omitzero"` // of all rules
	KeepVersions    uint64    `json:"keepVersions,omitzero"`
	MinRetention    *Duration `json:"minRetention,omitzero"` // the longest of all rules
	HSMEachRead     bool      `json:"hsmEachRead,omitzero"`  // if any rule says so
	// Prefixes are of all rules that cover the secret, the longest last; From
	// names the one that a field comes from.
	Prefixes []string          `json:"prefixes"`
	From     map[string]string `json:"from"`
}
