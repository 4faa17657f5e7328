package pki

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// MaxAuthorities bounds a bundle: one authority, or two while one is replaced
// by another; the rest is room for mistakes to be mended in steps.
const MaxAuthorities = 8

// Bundle is the authorities whose certificates are trusted, in the order of
// their file. It does not change.
type Bundle struct {
	certs []*x509.Certificate
	pool  *x509.CertPool
}

// ParseBundle reads authorities in PEM. It is strict, because what it leaves
// out nobody trusts any more: a file that was cut short, that holds something
// else than authorities, or the same one twice is an error, not a smaller
// bundle.
func ParseBundle(text []byte) (*Bundle, error) {
	var certs []*x509.Certificate
	for {
		block, rest := pem.Decode(text)
		if block == nil {
			break
		}
		text = rest
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("it holds a %s; a bundle holds certificates of authorities only", block.Type)
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("certificate %d: %w", len(certs)+1, err)
		}
		certs = append(certs, cert)
	}
	if bytes.Contains(text, []byte("-----BEGIN")) {
		return nil, errors.New("its end is missing or damaged")
	}
	return newBundle(certs)
}

func newBundle(certs []*x509.Certificate) (*Bundle, error) {
	switch {
	case len(certs) == 0:
		return nil, errors.New("it holds no certificate")
	case len(certs) > MaxAuthorities:
		return nil, fmt.Errorf("it holds %d authorities; at most %d are possible", len(certs), MaxAuthorities)
	}
	b := &Bundle{pool: x509.NewCertPool()}
	for _, c := range certs {
		if !c.BasicConstraintsValid || !c.IsCA {
			return nil, fmt.Errorf("%q is no authority: its certificate may not sign others", c.Subject)
		}
		if b.has(c) {
			return nil, fmt.Errorf("%q (%s) is in it twice", c.Subject, Fingerprint(c))
		}
		b.certs = append(b.certs, c)
		b.pool.AddCert(c)
	}
	return b, nil
}

func (b *Bundle) has(cert *x509.Certificate) bool { return slices.ContainsFunc(b.certs, cert.Equal) }

// Pool is the bundle for crypto/x509: the same pointer each time. It must not
// be changed.
func (b *Bundle) Pool() *x509.CertPool { return b.pool }

// Certificates are the authorities, in the order of the file.
func (b *Bundle) Certificates() []*x509.Certificate { return slices.Clone(b.certs) }

// Equal reports whether both hold the same authorities.
func (b *Bundle) Equal(other *Bundle) bool {
	return len(b.certs) == len(other.certs) && !slices.ContainsFunc(b.certs, func(c *x509.Certificate) bool { return !other.has(c) })
}

// PEM is the bundle as ParseBundle reads it.
func (b *Bundle) PEM() []byte {
	var out []byte
	for _, c := range b.certs {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
	}
	return out
}

// With answers a bundle that holds the authorities of other, too.
func (b *Bundle) With(other *Bundle) (*Bundle, error) {
	return newBundle(append(b.Certificates(), other.certs...))
}

// Without answers a bundle that lacks the authority of the given fingerprint,
// of which eight hex digits and more suffice if they name one.
func (b *Bundle) Without(fingerprint string) (*Bundle, error) {
	prefix := strings.ToLower(strings.ReplaceAll(fingerprint, ":", ""))
	if len(prefix) < 8 {
		return nil, errors.New("a fingerprint needs at least eight of its hex digits")
	}
	stay := slices.DeleteFunc(b.Certificates(), func(c *x509.Certificate) bool { return strings.HasPrefix(Fingerprint(c), prefix) })
	switch len(b.certs) - len(stay) {
	case 0:
		return nil, fmt.Errorf("no authority has the fingerprint %s", fingerprint)
	case 1:
	default:
		return nil, fmt.Errorf("more than one authority has a fingerprint that begins with %s", fingerprint)
	}
	if len(stay) == 0 {
		return nil, errors.New("it is the only authority; a node that trusts none takes no part in a cluster")
	}
	return newBundle(stay)
}

// Fingerprint is the SHA-256 of a certificate, in hex, as openssl x509
// -fingerprint -sha256 shows it with colons.
func Fingerprint(cert *x509.Certificate) string {
	sum := sha256.Sum256(cert.Raw)
	return hex.EncodeToString(sum[:])
}

// CheckNode answers why cert cannot be the certificate of the node that uri
// names, among nodes that trust b: nil if it can.
func (b *Bundle) CheckNode(cert *tls.Certificate, uri string, now time.Time) error {
	if err := Current(cert, now); err != nil {
		return err
	}
	if len(cert.Leaf.URIs) != 1 || cert.Leaf.URIs[0].String() != uri {
		return fmt.Errorf("the certificate is not of %s; issue one with strongroom tls issue-node --config", uri)
	}
	// The link is mutual: each node is a client of the others, too.
	for _, usage := range []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth} {
		if _, err := b.verify(cert, now, usage); err != nil {
			return fmt.Errorf("the certificate is not signed by an authority of the bundle: %w", err)
		}
	}
	return nil
}

// IssuerOf answers the authority of the bundle that stands behind cert, nil if
// none does.
func (b *Bundle) IssuerOf(cert *tls.Certificate) *x509.Certificate {
	// At its end, when its authority lives as a rule: what is asked is who
	// issued it, not whether it is good now.
	for _, at := range []time.Time{cert.Leaf.NotAfter, cert.Leaf.NotBefore} {
		if chains, err := b.verify(cert, at, x509.ExtKeyUsageAny); err == nil {
			return chains[0][len(chains[0])-1]
		}
	}
	return nil
}

func (b *Bundle) verify(cert *tls.Certificate, now time.Time, usage x509.ExtKeyUsage) ([][]*x509.Certificate, error) {
	between := x509.NewCertPool()
	for _, der := range cert.Certificate[1:] {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, fmt.Errorf("its chain: %w", err)
		}
		between.AddCert(c)
	}
	return cert.Leaf.Verify(x509.VerifyOptions{Roots: b.pool, Intermediates: between, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{usage}})
}

// Current answers why cert is not valid now, nil if it is.
func Current(cert *tls.Certificate, now time.Time) error {
	switch leaf := cert.Leaf; {
	case now.Before(leaf.NotBefore):
		return fmt.Errorf("the certificate is valid from %s on", leaf.NotBefore.UTC().Format(time.RFC3339))
	case now.After(leaf.NotAfter):
		return fmt.Errorf("the certificate has expired at %s", leaf.NotAfter.UTC().Format(time.RFC3339))
	}
	return nil
}

// Within moves now into the life of cert, for a check of all but its age: what
// is in use already was good once, and is held against other things.
func Within(cert *tls.Certificate, now time.Time) time.Time {
	switch {
	case now.Before(cert.Leaf.NotBefore):
		return cert.Leaf.NotBefore
	case now.After(cert.Leaf.NotAfter):
		return cert.Leaf.NotAfter
	}
	return now
}
