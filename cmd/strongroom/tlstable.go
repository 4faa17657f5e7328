package main

import (
	"slices"

	"github.com/strongroom/strongroom/api/wire"
)

// shortHex is how much of a fingerprint a person compares in a table; the
// commands that take one take as little.
const shortHex = 16

// shortTLS is cluster tls for a person: fingerprints are cut, and of what a
// member trusts only those are shown. JSON has everything.
func shortTLS(r *wire.TLSResponse) any {
	cut := func(fingerprint string) string { return fingerprint[:min(len(fingerprint), shortHex)] }
	type member struct {
		NodeID      string            `json:"nodeId"`
		Error       string            `json:"error"`
		Authority   string            `json:"authority"`
		NotAfter    *wire.Time        `json:"notAfter"`
		Trusts      []string          `json:"trusts"`
		APIIssuer   string            `json:"apiIssuer"`
		APINotAfter *wire.Time        `json:"apiNotAfter"`
		GossipKeys  []string          `json:"gossipKeys"`
		Refused     map[string]string `json:"refused"`
	}
	out := &struct {
		Complete    bool                `json:"complete"`
		Authorities []wire.AuthorityUse `json:"authorities"`
		GossipKeys  []wire.GossipKeyUse `json:"gossipKeys"`
		Members     []member            `json:"members"`
	}{r.Complete, slices.Clone(r.Authorities), r.GossipKeys, nil}
	for i := range out.Authorities {
		out.Authorities[i].Fingerprint = cut(out.Authorities[i].Fingerprint)
	}
	for _, m := range r.Members {
		var trusts []string
		for _, a := range m.Trusts {
			trusts = append(trusts, cut(a.Fingerprint))
		}
		out.Members = append(out.Members, member{m.NodeID, m.Error, cut(m.Authority), m.NotAfter, trusts, m.APIIssuer, m.APINotAfter, m.GossipKeys, m.Refused})
	}
	return out
}
