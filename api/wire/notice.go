package wire

// DescribeDetectorsRequest has nothing to say.
type DescribeDetectorsRequest struct {
	Consistency *Consistency `json:"consistency,omitzero" doc:"relax the read"`
}

// DetectorsResponse is how unusual behaviour is noticed. Revision 0: nobody has
// changed what the release comes with.
type DetectorsResponse struct {
	Revision  uint64     `json:"revision"`
	Detectors []Detector `json:"detectors"` // all of them
	Learning  Duration   `json:"learning"`
	// ExemptPrincipals, and members of ExemptGroups, are left alone.
	ExemptPrincipals []string `json:"exemptPrincipals"`
	ExemptGroups     []string `json:"exemptGroups"`
	Reason           string   `json:"reason,omitzero"`
	UpdatedAt        *Time    `json:"updatedAt,omitzero"`
	UpdatedBy        string   `json:"updatedBy,omitzero"`
	RequestID        string   `json:"requestId,omitzero"`
}

// Detector is one detector as it decides now.
type Detector struct {
	Detector string `json:"detector"`
	On       bool   `json:"on"`
	// Alerts are above the larger of Floor and Factor times the fullest window of
	// the days before.
	Floor      uint64 `json:"floor,omitzero"`
	Factor     uint64 `json:"factor,omitzero"`
	Quarantine bool   `json:"quarantine"`
	Counts     string `json:"counts"` // for people
}

// PutDetectorsRequest replaces the settings as a whole: what is left out is as
// the release comes with.
type PutDetectorsRequest struct {
	Write
	Rules            []DetectorRule `json:"rules,omitzero" doc:"detectors that decide otherwise than by default"`
	Learning         *Duration      `json:"learning,omitzero" doc:"so long nothing is said about the habits of a principal that is new, 1h to 90d (default 7d)"`
	ExemptPrincipals []string       `json:"exemptPrincipals,omitzero" doc:"the detectors leave these alone, but for canaries"`
	ExemptGroups     []string       `json:"exemptGroups,omitzero" doc:"the same for members of these"`
	Reason           string         `json:"reason,omitzero" doc:"why, kept with the settings, at most 1024 bytes"`
	ExpectedRevision *uint64        `json:"expectedRevision,omitzero" doc:"refuse unless the settings are at this revision (0: nobody has made any)"`
}

// DetectorRule is how one detector decides.
type DetectorRule struct {
	Detector   string `json:"detector" doc:"read_volume, first_read, many_paths, denials or canary"`
	Off        bool   `json:"off,omitzero" doc:"it says nothing"`
	Floor      uint64 `json:"floor,omitzero" doc:"lowest threshold (default as describeDetectors shows)"`
	Factor     uint64 `json:"factor,omitzero" doc:"so many times the baseline is too much (default as describeDetectors shows)"`
	Quarantine bool   `json:"quarantine,omitzero" doc:"an alert quarantines the principal"`
}

// PutDetectorsResponse names the revision.
type PutDetectorsResponse struct {
	Revision uint64 `json:"revision"`
}

// SetCanaryRequest marks a secret as a canary, or takes the mark away.
type SetCanaryRequest struct {
	Write
	Path   string `json:"path" doc:"path of the secret"`
	Canary bool   `json:"canary" doc:"whether it is one"`
	Reason string `json:"reason,omitzero" doc:"where it was laid out, at most 1024 bytes"`
}

// SetCanaryResponse says what the secret is now.
type SetCanaryResponse struct {
	Path   string `json:"path"`
	Canary bool   `json:"canary"`
}

// ListCanariesResponse is ordered by path.
type ListCanariesResponse struct {
	Canaries   []CanaryMark `json:"canaries"`
	NextCursor string       `json:"nextCursor,omitzero"`
}

// CanaryMark is one canary.
type CanaryMark struct {
	Path   string `json:"path"`
	At     *Time  `json:"at"`
	By     string `json:"by"`
	Reason string `json:"reason,omitzero"`
}

// QuarantineRequest names a principal to quarantine, or to release.
type QuarantineRequest struct {
	Write
	Principal string `json:"principal" doc:"name of the principal"`
	Reason    string `json:"reason" doc:"why, kept with the quarantine and in the trail, 1-1024 bytes"`
}

// QuarantineResponse says what the principal is now.
type QuarantineResponse struct {
	Principal     string `json:"principal"`
	Quarantined   bool   `json:"quarantined"`
	RevokedTokens int    `json:"revokedTokens,omitzero"`
	Unchanged     bool   `json:"unchanged,omitzero"` // it was in quarantine already
}

// Quarantined says since when a principal may do nothing, and why.
type Quarantined struct {
	At        *Time  `json:"at"`
	By        string `json:"by"`
	Reason    string `json:"reason"`
	RequestID string `json:"requestId"`
}

// MarkCompromisedRequest marks versions as compromised.
type MarkCompromisedRequest struct {
	Write
	Path     string   `json:"path" doc:"path of the secret"`
	Versions []uint64 `json:"versions" doc:"numbers of the versions, at most 100"`
	Reason   string   `json:"reason" doc:"who has them and why, 1-1024 bytes"`
	Clear    bool     `json:"clear,omitzero" doc:"take the marks away: it was a mistake"`
}

// MarkCompromisedResponse says how many versions were marked, or cleared.
type MarkCompromisedResponse struct {
	Path   string `json:"path"`
	Marked int    `json:"marked"`
}

// Compromised says that somebody has a version who should not. Mended: readers
// have a newer one, and nobody can read this one any more.
type Compromised struct {
	At        *Time  `json:"at"`
	By        string `json:"by"`
	Reason    string `json:"reason"`
	RequestID string `json:"requestId"`
	Mended    bool   `json:"mended"`
}

// ListCompromisedResponse is ordered by path and version.
type ListCompromisedResponse struct {
	Versions   []CompromisedVersion `json:"versions"`
	NextCursor string               `json:"nextCursor,omitzero"`
}

// CompromisedVersion is one that is compromised and not destroyed. Rotates: the
// secret has a rotation, which rotateSecret starts; otherwise somebody has to
// put a new version by hand.
type CompromisedVersion struct {
	Path    string `json:"path"`
	Version uint64 `json:"version"`
	State   string `json:"state"`
	Current bool   `json:"current"`
	Rotates bool   `json:"rotates"`
	Compromised
}

// IncidentRequest asks what a principal was given.
type IncidentRequest struct {
	Page
	Principal string    `json:"principal" doc:"whose incident it is; one that was deleted, too"`
	Since     *Duration `json:"since,omitzero" doc:"how far to look back (default 72h, at most 90d)"`
	Until     *Time     `json:"until,omitzero" doc:"do not look later than this"`
}

// IncidentResponse is ordered by path and version.
type IncidentResponse struct {
	Principal string `json:"principal"`
	Since     *Time  `json:"since"`
	Until     *Time  `json:"until"`
	// Complete: the trails of all members were read to the end. Otherwise there
	// may be more than is listed: Unreachable names the members that could not be
	// asked, and StoppedAt is up to when the others were read.
	Complete    bool     `json:"complete"`
	Unreachable []string `json:"unreachable,omitzero"`
	StoppedAt   *Time    `json:"stoppedAt,omitzero"`
	Given       []Given  `json:"given"`
	Total       int      `json:"total"` // on all pages
	NextCursor  string   `json:"nextCursor,omitzero"`
	// Quarantined is there if the principal is in quarantine now.
	Quarantined *Quarantined `json:"quarantined,omitzero"`
}

// Given is one version that the principal was given, and what it is now.
type Given struct {
	Path        string   `json:"path"`
	Version     uint64   `json:"version"`
	First       *Time    `json:"first"`
	Last        *Time    `json:"last"`
	Count       int      `json:"count"`
	Sources     []string `json:"sources"`
	Credentials []string `json:"credentials"`
	Nodes       []string `json:"nodes"`
	// State is that of the version now; gone: the secret was purged.
	State string `json:"state"`
	// Current: readers still get it. Rotated: they get a newer one. Another
	// secret that took the path since is neither.
	Current     bool `json:"current"`
	Rotated     bool `json:"rotated"`
	Rotates     bool `json:"rotates"` // rotateSecret can make a new version
	Canary      bool `json:"canary,omitzero"`
	Compromised bool `json:"compromised"` // marked so
}
