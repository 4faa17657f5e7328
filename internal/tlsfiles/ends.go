package tlsfiles

import (
	"crypto/x509"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/strongroom/strongroom/internal/pki"
)

const day = 24 * time.Hour

// nearEnd reports whether less than a third of the life of cert is left, or
// less than 30 days if a third is longer.
func nearEnd(cert *x509.Certificate, now time.Time) bool {
	return cert.NotAfter.Sub(now) < min(cert.NotAfter.Sub(cert.NotBefore)/3, 30*day)
}

// tellEnds says which certificates in use end soon or have ended. The caller
// holds reading, or is alone.
func (s *Set) tellEnds(now time.Time) {
	s.warned = now
	tell := func(of, file string, c *x509.Certificate) {
		switch {
		case now.After(c.NotAfter):
			s.cfg.Logger.Error("a certificate in use has expired: others refuse it", "of", of, "file", file, "subject", c.Subject.String(), "notAfter", c.NotAfter)
		case now.Before(c.NotBefore):
			s.cfg.Logger.Error("a certificate in use is not valid yet: others refuse it", "of", of, "file", file, "subject", c.Subject.String(), "notBefore", c.NotBefore)
		case nearEnd(c, now):
			s.cfg.Logger.Warn("a certificate in use expires soon", "of", of, "file", file, "subject", c.Subject.String(), "notAfter", c.NotAfter)
		}
	}
	tell(API, s.cfg.APICert, s.API().Leaf)
	tell(Link, s.cfg.LinkCert, s.Link().Leaf)
	for _, c := range s.Authorities().Certificates() {
		tell(Authorities, s.cfg.Authorities, c)
	}
}

type metrics struct{ reloads *prometheus.CounterVec }

func (m *metrics) reload(what, outcome string) { m.reloads.WithLabelValues(what, outcome).Inc() }

func newMetrics(r prometheus.Registerer, s *Set) (*metrics, error) {
	m := &metrics{reloads: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "strongroom_tls_reloads_total", Help: "Files of certificates and keys that were read again, by what is in them and outcome.",
	}, []string{"of", "outcome"})}
	all := []prometheus.Collector{m.reloads}
	gauge := func(name, help, of string, value func() float64) {
		all = append(all, prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "strongroom_tls_" + name, Help: help, ConstLabels: prometheus.Labels{"of": of}}, value))
	}
	for _, of := range []string{API, Link, Authorities, Gossip} {
		for _, outcome := range []string{"ok", "failed"} {
			m.reloads.WithLabelValues(of, outcome)
		}
		gauge("file_refused", "1 while what is in the file cannot be used, and what was there before is in use.", of, func() float64 {
			if _, failing := s.Failing()[of]; failing {
				return 1
			}
			return 0
		})
	}
	for of, cert := range map[string]func() *x509.Certificate{
		API: func() *x509.Certificate { return s.API().Leaf }, Link: func() *x509.Certificate { return s.Link().Leaf }, Authorities: s.firstToEnd,
	} {
		gauge("not_after_timestamp_seconds", "When the certificate in use expires, in seconds since 1970; of authorities, the one that expires first.", of, func() float64 {
			return float64(cert().NotAfter.Unix())
		})
	}
	if r == nil {
		return m, nil
	}
	for _, c := range all {
		if err := r.Register(c); err != nil {
			return nil, fmt.Errorf("TLS metrics: %w", err)
		}
	}
	return m, nil
}

// firstToEnd answers the authority that expires first.
func (s *Set) firstToEnd() *x509.Certificate {
	var first *x509.Certificate
	for _, c := range s.Authorities().Certificates() {
		if first == nil || c.NotAfter.Before(first.NotAfter) {
			first = c
		}
	}
	return first
}

// Certificate is one in use, as it may be shown to anybody.
type Certificate struct {
	Fingerprint string // SHA-256 of the certificate, in hex
	Subject     string
	Issuer      string // name of who signed it
	Authority   string // fingerprint of the trusted authority behind it; "" where that is not known
	NotBefore   time.Time
	NotAfter    time.Time
}

// Description is what is in use. Nothing in it is secret.
type Description struct {
	API, Link   Certificate
	Authorities []Certificate
	GossipKeys  []string          // fingerprints, of the key to send with first
	Failing     map[string]string // see Set.Failing
}

// Describe answers what is in use now.
func (s *Set) Describe() Description {
	bundle, link := s.Authorities(), s.Link()
	out := Description{API: describe(s.API().Leaf), Link: describe(link.Leaf), GossipKeys: s.GossipKeys().Fingerprints(), Failing: s.Failing()}
	out.Link.Authority = issuer(bundle, link)
	for _, c := range bundle.Certificates() {
		out.Authorities = append(out.Authorities, describe(c))
	}
	return out
}

func describe(c *x509.Certificate) Certificate {
	return Certificate{Fingerprint: pki.Fingerprint(c), Subject: c.Subject.String(), Issuer: c.Issuer.String(), NotBefore: c.NotBefore, NotAfter: c.NotAfter}
}
