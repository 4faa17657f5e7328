package wire

// PutRateLimitRequest makes or replaces a rate limit.
type PutRateLimitRequest struct {
	Write
	Name             string    `json:"name" doc:"name of the limit"`
	Kind             string    `json:"kind" doc:"what is counted: valueReads, authenticationFailures or requests"`
	Per              string    `json:"per" doc:"by whom: principal or source (an IPv4 address, or the /64 of an IPv6 address)"`
	Principals       []string  `json:"principals,omitzero" doc:"only for these"`
	Groups           []string  `json:"groups,omitzero" doc:"only for members of these"`
	SourceCIDRs      []string  `json:"sourceCidrs,omitzero" doc:"only from these addresses"`
	Count            uint64    `json:"count" doc:"so many in a period"`
	Period           *Duration `json:"period,omitzero" doc:"1s (default) to 24h"`
	Burst            *uint64   `json:"burst,omitzero" doc:"so many at once (default count)"`
	Reason           string    `json:"reason,omitzero" doc:"why, kept with the limit, at most 1024 bytes"`
	ExpectedRevision *uint64   `json:"expectedRevision,omitzero" doc:"refuse unless the limit is at this revision (0: there is none yet)"`
}

// RateLimitResponse names the revision.
type RateLimitResponse struct {
	Name     string `json:"name"`
	Revision uint64 `json:"revision"`
}

// ListRateLimitsResponse is ordered by name.
type ListRateLimitsResponse struct {
	RateLimits []RateLimit `json:"rateLimits"`
	NextCursor string      `json:"nextCursor,omitzero"`
}

// RateLimit is one limit. BuiltIn is one that is always there.
type RateLimit struct {
	Name        string   `json:"name"`
	Revision    uint64   `json:"revision"`
	Kind        string   `json:"kind"`
	Per         string   `json:"per"`
	Principals  []string `json:"principals,omitzero"`
	Groups      []string `json:"groups,omitzero"`
	SourceCIDRs []string `json:"sourceCidrs,omitzero"`
	Count       uint64   `json:"count"`
	Period      Duration `json:"period"`
	Burst       uint64   `json:"burst"`
	Reason      string   `json:"reason,omitzero"`
	BuiltIn     bool     `json:"builtIn,omitzero"`
	UpdatedAt   *Time    `json:"updatedAt,omitzero"`
	UpdatedBy   string   `json:"updatedBy,omitzero"`
	RequestID   string   `json:"requestId,omitzero"`
}
