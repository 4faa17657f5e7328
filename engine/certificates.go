package engine

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"slices"
	"strings"

	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/internal/fault"
)

func errCertificate() error {
	return fault.New(fault.Unauthenticated, "the client certificate is not valid here: of no trust, expired, revoked, or without a name that is let in; or send \"Authorization: Bearer TOKEN\"")
}

// certificate finds out whose client certificate came with the connection.
// That the caller has its private key was proven in the handshake; who signed
// it is decided here, against each trust of this kind. Two trusts that make
// different principals of it let in nobody: no order says which was meant.
func (c *call) certificate() (identity, error) {
	chain := make([]*x509.Certificate, 0, len(c.from.Certificates))
	for _, der := range c.from.Certificates {
		one, err := x509.ParseCertificate(der)
		if err != nil {
			return identity{}, errCertificate()
		}
		chain = append(chain, one)
	}
	principal := ""
	for trust := range c.state.Trusts("") {
		if trust.Kind != fsm.TrustCertificate || principal == trust.Principal || !c.certified(trust, chain) {
			continue
		}
		if principal != "" {
			return identity{}, errCertificate()
		}
		principal = trust.Principal
	}
	if principal == "" {
		return identity{}, errCertificate()
	}
	sum := sha256.Sum256(chain[0].Raw)
	return identity{
		name: principal, method: MethodCertificate, credential: "cert:" + hex.EncodeToString(sum[:16]), expiresAt: chain[0].NotAfter.UnixMilli(),
	}, nil
}

// certified reports whether the authority of the trust vouches for the first
// certificate of the chain now, as one of a client, under a name that the
// trust lets in. The common name is never looked at: it is no name of a
// service, and nothing constrains what an authority writes there.
func (c *call) certified(trust *fsm.Trust, chain []*x509.Certificate) bool {
	leaf := chain[0]
	if leaf.IsCA || slices.Contains(trust.RevokedSerials, leaf.SerialNumber.Text(16)) || !sanMatches(leaf, trust.SANs) {
		return false
	}
	roots, ok := c.engine.authorities.Get(trust)
	if !ok {
		roots = x509.NewCertPool()
		if !roots.AppendCertsFromPEM([]byte(trust.CAPEM)) {
			return false
		}
		c.engine.authorities.Add(trust, roots)
	}
	between := x509.NewCertPool()
	for _, one := range chain[1:] {
		between.AddCert(one)
	}
	_, err := leaf.Verify(x509.VerifyOptions{
		Roots: roots, Intermediates: between, CurrentTime: c.now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	return err == nil
}

// sanMatches reports whether the certificate has one of the names.
func sanMatches(leaf *x509.Certificate, patterns []string) bool {
	for _, pattern := range patterns {
		kind, name, _ := strings.Cut(pattern, ":")
		switch kind {
		case "dns":
			for _, have := range leaf.DNSNames {
				if wildcard(lowerASCII(name), lowerASCII(have), ".") {
					return true
				}
			}
		case "uri":
			for _, have := range leaf.URIs {
				if wildcard(name, have.String(), "/") {
					return true
				}
			}
		case "email":
			for _, have := range leaf.EmailAddresses {
				if wildcard(name, have, "@.") {
					return true
				}
			}
		}
	}
	return false
}

// lowerASCII leaves other letters alone: folding them would make one name of
// two.
func lowerASCII(s string) string {
	b := []byte(s)
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
	return string(b)
}
