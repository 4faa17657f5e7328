// Package tlsfiles holds what a node shows and trusts on its connections, as it
// stands in files: the certificate of the API, the certificate of the node
// link, the authorities of the link, and the keys of gossip. The files are read
// again while the node runs. What cannot be used does not come into use: the
// node goes on with what it had, and says so in its log and its metrics.
package tlsfiles

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/strongroom/strongroom/internal/config"
	"github.com/strongroom/strongroom/internal/gossipring"
	"github.com/strongroom/strongroom/internal/pki"
)

const (
	// lookEvery is how often the files are looked at without being asked to.
	lookEvery = 10 * time.Second
	// maxFile bounds a file of certificates or a key.
	maxFile = 1 << 20
)

// The things that are read, as metrics and log name them.
const (
	API         = "api"         // api.certFile and api.keyFile
	Link        = "link"        // cluster.certFile and cluster.keyFile
	Authorities = "authorities" // cluster.caFile
	Gossip      = "gossip"      // gossip.keyFile
)

// Config names the files. All are required.
type Config struct {
	APICert, APIKey   string
	LinkCert, LinkKey string
	Authorities       string
	GossipKeys        string
	NodeURI           string // the name that the link's certificate must have

	Logger     *slog.Logger
	Registerer prometheus.Registerer // nil: no metrics
	Now        func() time.Time      // default: time.Now
}

// Set is what is in use. It is safe for concurrent use.
type Set struct {
	cfg     Config
	metrics *metrics

	reading sync.Mutex // held while files are read and judged
	warned  time.Time  // when an end that is near was last told

	mu      sync.Mutex
	api     *tls.Certificate
	link    *tls.Certificate
	bundle  *pki.Bundle
	ring    gossipring.Ring
	failing map[string]string // why what is in the files is not in use
}

// Change says what came into use.
type Change struct{ API, Link, Authorities, Gossip bool }

// Any reports whether anything did.
func (c Change) Any() bool { return c != Change{} }

// Open reads all files. A certificate that has expired or is not valid yet is
// taken here, with an error in the log: a node that did not start for it could
// not be mended while it runs.
func Open(cfg Config) (*Set, error) {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	s := &Set{cfg: cfg, failing: map[string]string{}}
	var err error
	if s.api, err = readPair(cfg.APICert, cfg.APIKey); err != nil {
		return nil, fmt.Errorf("api.certFile, api.keyFile: %w", err)
	}
	if s.link, err = readPair(cfg.LinkCert, cfg.LinkKey); err != nil {
		return nil, fmt.Errorf("cluster.certFile, cluster.keyFile: %w", err)
	}
	if s.bundle, err = readBundle(cfg.Authorities); err != nil {
		return nil, fmt.Errorf("cluster.caFile: %w", err)
	}
	if err := s.bundle.CheckNode(s.link, cfg.NodeURI, pki.Within(s.link, cfg.Now())); err != nil {
		return nil, fmt.Errorf("cluster.certFile: %w", err)
	}
	if s.ring, err = readRing(cfg.GossipKeys); err != nil {
		return nil, fmt.Errorf("gossip.keyFile: %w", err)
	}
	if s.metrics, err = newMetrics(cfg.Registerer, s); err != nil {
		return nil, err
	}
	s.tellEnds(cfg.Now())
	return s, nil
}

// API answers the certificate of the API.
func (s *Set) API() *tls.Certificate {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.api
}

// Link answers this node's certificate of the node link.
func (s *Set) Link() *tls.Certificate {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.link
}

// Authorities answers who signs the nodes of this cluster: the same pointer
// until others come into use.
func (s *Set) Authorities() *pki.Bundle {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.bundle
}

// Pool is Authorities for crypto/x509.
func (s *Set) Pool() *x509.CertPool { return s.Authorities().Pool() }

// GossipKeys answers the keys of gossip, the one to send with first.
func (s *Set) GossipKeys() gossipring.Ring {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ring
}

// Failing answers, by the name of what it is, why what is in the files now
// cannot be used.
func (s *Set) Failing() map[string]string {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make(map[string]string, len(s.failing))
	for what, why := range s.failing {
		out[what] = why
	}
	return out
}

// Run looks at the files now and then until ctx ends, and calls changed with
// what came into use. A reason why something cannot be used is told once.
func (s *Set) Run(ctx context.Context, changed func(Change)) {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		if c := s.read(false); c.Any() {
			changed(c)
		}
	}
}

// Reload reads all files, takes what can be used, and tells in the log what
// cannot, each time. It answers what came into use.
func (s *Set) Reload() Change { return s.read(true) }

// read: asked says that somebody waits to hear what comes of it.
func (s *Set) read(asked bool) Change {
	s.reading.Lock()
	defer s.reading.Unlock()
	now := s.cfg.Now()
	var c Change
	c.API = s.readAPI(now, asked)
	c.Link, c.Authorities = s.readLink(now, asked)
	c.Gossip = s.readGossip(asked)
	if c.Any() || now.Sub(s.warned) >= day {
		s.tellEnds(now)
	}
	return c
}

func (s *Set) readAPI(now time.Time, asked bool) bool {
	old := s.API()
	fresh, err := readPair(s.cfg.APICert, s.cfg.APIKey)
	if err == nil && !same(fresh, old) {
		err = pki.Current(fresh, now)
	}
	if s.outcome(API, s.cfg.APICert, err, asked); err != nil || same(fresh, old) {
		return false
	}
	s.mu.Lock()
	s.api = fresh
	s.mu.Unlock()
	s.cfg.Logger.Info("a new certificate is in use", "of", API, "file", s.cfg.APICert, "fingerprint", pki.Fingerprint(fresh.Leaf), "notAfter", fresh.Leaf.NotAfter)
	return true
}

// readLink takes certificate and authorities together if they fit, or else one
// of them if it fits what is in use. A node whose own certificate its bundle
// does not cover takes part in nothing that its like take part in, so such a
// bundle is a mistake in the order of the steps, and stays out.
func (s *Set) readLink(now time.Time, asked bool) (newCert, newBundle bool) {
	oldCert, oldBundle := s.Link(), s.Authorities()
	cert, certErr := readPair(s.cfg.LinkCert, s.cfg.LinkKey)
	if certErr == nil && same(cert, oldCert) {
		cert = oldCert
	}
	bundle, bundleErr := readBundle(s.cfg.Authorities)
	if bundleErr == nil && bundle.Equal(oldBundle) {
		bundle = oldBundle
	}
	fits := func(c *tls.Certificate, b *pki.Bundle) error {
		at := now
		if c == oldCert {
			at = pki.Within(c, now) // its age is told elsewhere
		}
		return b.CheckNode(c, s.cfg.NodeURI, at)
	}
	useCert, useBundle := oldCert, oldBundle
	switch {
	case certErr == nil && bundleErr == nil && fits(cert, bundle) == nil:
		useCert, useBundle = cert, bundle
	case certErr == nil && fits(cert, oldBundle) == nil:
		useCert = cert
	case bundleErr == nil && fits(oldCert, bundle) == nil:
		useBundle = bundle
	}
	if certErr == nil && useCert != cert {
		certErr = fits(cert, useBundle)
	}
	if bundleErr == nil && useBundle != bundle {
		bundleErr = fmt.Errorf("it lacks the authority of this node's certificate: %w", fits(useCert, bundle))
	}
	s.outcome(Link, s.cfg.LinkCert, certErr, asked)
	s.outcome(Authorities, s.cfg.Authorities, bundleErr, asked)
	s.mu.Lock()
	s.link, s.bundle = useCert, useBundle
	s.mu.Unlock()
	if newCert = useCert != oldCert; newCert {
		s.cfg.Logger.Info("a new certificate is in use", "of", Link, "file", s.cfg.LinkCert, "fingerprint", pki.Fingerprint(useCert.Leaf),
			"authority", issuer(useBundle, useCert), "notAfter", useCert.Leaf.NotAfter)
	}
	if newBundle = useBundle != oldBundle; newBundle {
		s.cfg.Logger.Info("other authorities are trusted on the node link", "file", s.cfg.Authorities, "authorities", fingerprints(useBundle))
	}
	return newCert, newBundle
}

func (s *Set) readGossip(asked bool) bool {
	old := s.GossipKeys()
	fresh, err := readRing(s.cfg.GossipKeys)
	if s.outcome(Gossip, s.cfg.GossipKeys, err, asked); err != nil || fresh.Equal(old) {
		return false
	}
	s.mu.Lock()
	s.ring = fresh // the old one is not wiped: somebody may be setting it
	s.mu.Unlock()
	s.cfg.Logger.Info("other gossip keys are in use", "file", s.cfg.GossipKeys, "fingerprints", fresh.Fingerprints())
	return true
}

// outcome notes why what is in a file cannot be used, or that it can, and tells
// it if it is news or somebody asked.
func (s *Set) outcome(what, file string, err error, asked bool) {
	s.mu.Lock()
	before := s.failing[what]
	delete(s.failing, what)
	if err != nil {
		s.failing[what] = err.Error()
	}
	news := before != s.failing[what]
	s.mu.Unlock()
	switch {
	case err != nil && (news || asked):
		s.metrics.reload(what, "failed")
		s.cfg.Logger.Error("a file cannot be used; this node goes on with what it had", "of", what, "file", file, "error", err)
	case err == nil && (news || asked):
		s.metrics.reload(what, "ok")
		if news {
			s.cfg.Logger.Info("a file can be used again", "of", what, "file", file)
		}
	}
}

func same(a, b *tls.Certificate) bool { return a.Leaf.Equal(b.Leaf) }

func issuer(b *pki.Bundle, c *tls.Certificate) string {
	if i := b.IssuerOf(c); i != nil {
		return pki.Fingerprint(i)
	}
	return ""
}

func fingerprints(b *pki.Bundle) []string {
	var out []string
	for _, c := range b.Certificates() {
		out = append(out, pki.Fingerprint(c))
	}
	return out
}

// readFile reads a file that is no secret, whole.
func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	raw, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(raw) > maxFile {
		err = fmt.Errorf("%s has more than %d bytes", path, maxFile)
	}
	return raw, errors.Join(err, f.Close())
}

func readPair(certFile, keyFile string) (*tls.Certificate, error) {
	cert, err := readFile(certFile)
	if err != nil {
		return nil, err
	}
	key, err := config.ReadSecret(keyFile, maxFile)
	if err != nil {
		return nil, err
	}
	defer clear(key)
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return nil, fmt.Errorf("%s with key %s: %w", certFile, keyFile, err)
	}
	return &pair, nil
}

func readBundle(path string) (*pki.Bundle, error) {
	raw, err := readFile(path)
	if err != nil {
		return nil, err
	}
	b, err := pki.ParseBundle(raw)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return b, nil
}

func readRing(path string) (gossipring.Ring, error) {
	raw, err := config.ReadSecret(path, gossipring.MaxFile)
	if err != nil {
		return nil, err
	}
	defer clear(raw)
	ring, err := gossipring.Parse(raw)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return ring, nil
}
