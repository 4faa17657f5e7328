package wire

// OpenBreakGlassRequest opens a session of the caller.
type OpenBreakGlassRequest struct {
	Write
	Policies []string  `json:"policies,omitzero" doc:"which of the policies that are attached to the caller with the mode breakGlass (default all)"`
	Duration *Duration `json:"duration,omitzero" doc:"how long, 1m to 12h (default 1h); it ends by itself"`
	Reason   string    `json:"reason" doc:"why: what the reviewer reads first, at most 1024 bytes"`
}

// OpenBreakGlassResponse says until when it is open.
type OpenBreakGlassResponse struct {
	BreakGlassID string   `json:"breakGlassId"`
	ExpiresAt    *Time    `json:"expiresAt"`
	Policies     []string `json:"policies"`
}

// CloseBreakGlassRequest ends a session before its time.
type CloseBreakGlassRequest struct {
	Write
	BreakGlassID string `json:"breakGlassId" doc:"id of the session"`
	Reason       string `json:"reason,omitzero" doc:"why, kept with the session, at most 1024 bytes"`
}

// CloseBreakGlassResponse says when it ended, which may be before now.
type CloseBreakGlassResponse struct {
	BreakGlassID string `json:"breakGlassId"`
	EndedAt      *Time  `json:"endedAt"`
	// Duties is how many there are: secrets to rotate, and the review.
	Duties int `json:"duties"`
}

// ReviewBreakGlassRequest says what somebody found in a session of another.
type ReviewBreakGlassRequest struct {
	Write
	BreakGlassID string `json:"breakGlassId" doc:"id of the session, which must have ended"`
	Notes        string `json:"notes" doc:"what was looked at and found, kept with the session, at most 1024 bytes"`
}

// ReviewBreakGlassResponse says what is left to do.
type ReviewBreakGlassResponse struct {
	BreakGlassID string `json:"breakGlassId"`
	ReviewedAt   *Time  `json:"reviewedAt"`
	Duties       int    `json:"duties"`
}

// ListBreakGlassRequest lists sessions.
type ListBreakGlassRequest struct {
	Page
	State       string       `json:"state,omitzero" doc:"open: those that are open; duties: those after which something is to be done; all (default)"`
	Consistency *Consistency `json:"consistency,omitzero" doc:"relax the read"`
}

// ListBreakGlassResponse is ordered by when sessions were opened.
type ListBreakGlassResponse struct {
	Sessions   []BreakGlassSession `json:"sessions"`
	NextCursor string              `json:"nextCursor,omitzero"`
}

// BreakGlassSession is one session. It is forgotten 90 days after SettledAt,
// when its last duty was done.
type BreakGlassSession struct {
	BreakGlassID string   `json:"breakGlassId"`
	Principal    string   `json:"principal"`
	Policies     []string `json:"policies"`
	Reason       string   `json:"reason"`
	State        string   `json:"state"` // open or ended
	OpenedAt     *Time    `json:"openedAt"`
	ExpiresAt    *Time    `json:"expiresAt"`
	EndedAt      *Time    `json:"endedAt,omitzero"`
	ClosedBy     string   `json:"closedBy,omitzero"` // absent: it expired
	CloseReason  string   `json:"closeReason,omitzero"`
	// Reads is how many versions were read because of it.
	Reads int `json:"reads"`
	// RotateDuties is how many secrets are to be rotated. Duties shows the
	// first hundred of them.
	RotateDuties int              `json:"rotateDuties"`
	Duties       []BreakGlassDuty `json:"duties"`
	ReviewedAt   *Time            `json:"reviewedAt,omitzero"`
	ReviewedBy   string           `json:"reviewedBy,omitzero"`
	Notes        string           `json:"notes,omitzero"`
	SettledAt    *Time            `json:"settledAt,omitzero"`
}

// BreakGlassDuty is something to be done after a session. Rotate: make a
// version newer than Version, the newest that was read, the current one of
// Path. Review: look at what was done, and say so.
type BreakGlassDuty struct {
	Duty    string `json:"duty"` // rotate or review
	Path    string `json:"path,omitzero"`
	Version uint64 `json:"version,omitzero"`
	Since   *Time  `json:"since"`
}
