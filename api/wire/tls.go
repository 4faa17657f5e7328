package wire

// TLSRequest asks with which certificates and keys the members talk.
type TLSRequest struct{}

// TLSResponse says which authorities and gossip keys are trusted and used where,
// so that the next step of a replacement can be taken when it is safe.
type TLSResponse struct {
	// Complete: every member has answered. If not, nothing may be used or
	// dropped.
	Complete    bool           `json:"complete"`
	Authorities []AuthorityUse `json:"authorities"`
	GossipKeys  []GossipKeyUse `json:"gossipKeys"`
	Members     []MemberTLS    `json:"members"`
}

// AuthorityUse is an authority of the node link that some member trusts.
type AuthorityUse struct {
	Fingerprint string   `json:"fingerprint"` // SHA-256, in hex
	Subject     string   `json:"subject"`
	NotAfter    *Time    `json:"notAfter"`
	TrustedBy   []string `json:"trustedBy"`
	UsedBy      []string `json:"usedBy"` // members that show a certificate of it
	// MayIssue: every member trusts it, so its certificates may come into use.
	MayIssue bool `json:"mayIssue"`
	// MayDrop: no member shows a certificate of it.
	MayDrop bool `json:"mayDrop"`
}

// GossipKeyUse is a key of gossip that some member takes.
type GossipKeyUse struct {
	Fingerprint string   `json:"fingerprint"`
	AcceptedBy  []string `json:"acceptedBy"`
	SentBy      []string `json:"sentBy"` // members that send under it
	// MayUse: every member takes it, so members may send under it.
	MayUse bool `json:"mayUse"`
	// MayDrop: no member sends under it.
	MayDrop bool `json:"mayDrop"`
}

// MemberTLS is what one member shows and trusts. Only fingerprints of gossip
// keys are shown, never a key.
type MemberTLS struct {
	NodeID string `json:"nodeId"`
	Error  string `json:"error,omitzero"` // why it says nothing
	// Certificate is the fingerprint of its certificate of the node link,
	// Authority that of the authority behind it.
	Certificate string `json:"certificate,omitzero"`
	Authority   string `json:"authority,omitzero"`
	NotAfter    *Time  `json:"notAfter,omitzero"`
	// APICertificate is what it shows to clients, APIIssuer who signed that.
	APICertificate string         `json:"apiCertificate,omitzero"`
	APIIssuer      string         `json:"apiIssuer,omitzero"`
	APINotAfter    *Time          `json:"apiNotAfter,omitzero"`
	Trusts         []TLSAuthority `json:"trusts,omitzero"`
	// GossipKeys are those that it takes; it sends under the first.
	GossipKeys []string `json:"gossipKeys,omitzero"`
	// Refused says why what is in its files now is not in use, by what it is:
	// api, link, authorities or gossip.
	Refused map[string]string `json:"refused,omitzero"`
}

// TLSAuthority is an authority that a member trusts on the node link.
type TLSAuthority struct {
	Fingerprint string `json:"fingerprint"`
	Subject     string `json:"subject"`
	NotAfter    *Time  `json:"notAfter"`
}
