package raft

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"
)

// Protocols of the node link, told apart by ALPN. The number is the version.
const (
	protocolRaft = "strongroom-raft/1"
	protocolLink = "strongroom-link/1"
	protocolRead = "strongroom-read/1"
)

// identity knows who may talk to this node. A node is named by the one URI
// SAN strongroom://<cluster id>/node/<node id> of its certificate; host names
// and addresses play no part. Whoever holds a certificate of the cluster's
// authority still has to be a member now.
type identity struct {
	cluster     string
	certificate func() (*tls.Certificate, error)
	authorities func() *x509.CertPool
	member      func(id string) bool
}

// nodeOf answers the node of this cluster that the certificate names.
func (i *identity) nodeOf(cert *x509.Certificate) (string, error) {
	if len(cert.URIs) != 1 {
		return "", fmt.Errorf("the certificate has %d URI names; a node's has one", len(cert.URIs))
	}
	prefix := (&url.URL{Scheme: "strongroom", Host: i.cluster, Path: "/node/"}).String()
	id, ok := strings.CutPrefix(cert.URIs[0].String(), prefix)
	if !ok || id == "" || strings.Contains(id, "/") {
		return "", fmt.Errorf("the certificate of %q names no node of cluster %q", cert.URIs[0], i.cluster)
	}
	return id, nil
}

// admit answers the peer of a verified connection if it is a member, or asks
// whether it may be one.
func (i *identity) admit(state tls.ConnectionState) (string, error) {
	if state.Version != tls.VersionTLS13 || len(state.VerifiedChains) == 0 {
		return "", errors.New("not a verified TLS 1.3 connection")
	}
	if state.NegotiatedProtocol == "" {
		return "", errors.New("the peer names no protocol of the node link")
	}
	id, err := i.nodeOf(state.PeerCertificates[0])
	if err != nil {
		return "", err
	}
	// Whoever may come to be a member asks here; what is answered, decideJoin
	// says.
	if state.NegotiatedProtocol != protocolJoin && !i.member(id) {
		return "", &noMemberError{id}
	}
	return id, nil
}

// server answers the configuration of the accepting side, which asks at each
// handshake who is trusted then.
func (i *identity) server() *tls.Config {
	return &tls.Config{
		MinVersion:         tls.VersionTLS13,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return i.serverNow(), nil },
	}
}

func (i *identity) serverNow() *tls.Config {
	return &tls.Config{
		MinVersion:             tls.VersionTLS13,
		NextProtos:             []string{protocolRaft, protocolLink, protocolJoin, protocolRead, protocolMarks, protocolLevel},
		ClientAuth:             tls.RequireAndVerifyClientCert,
		ClientCAs:              i.authorities(),
		SessionTicketsDisabled: true, // each connection proves its certificate anew
		GetCertificate:         func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return i.certificate() },
		VerifyConnection: func(state tls.ConnectionState) error {
			_, err := i.admit(state)
			return err
		},
	}
}

// client answers the configuration for a connection to node want, or to any
// node of the cluster if that is empty. Nodes are
// known by their URI, not by the host that they run on, so the check of the
// host name is replaced: first the chain, then the name.
func (i *identity) client(want, protocol string) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		NextProtos: []string{protocol},
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			return i.certificate()
		},
		InsecureSkipVerify: true, // VerifyConnection does it all
		VerifyConnection: func(state tls.ConnectionState) error {
			return i.verifyServer(state, want, protocol)
		},
	}
}

func (i *identity) verifyServer(state tls.ConnectionState, want, protocol string) error {
	if len(state.PeerCertificates) == 0 {
		return errors.New("the peer showed no certificate")
	}
	if err := verifyChain(state.PeerCertificates, i.authorities(), x509.ExtKeyUsageServerAuth, time.Time{}); err != nil {
		return err
	}
	id, err := i.nodeOf(state.PeerCertificates[0])
	if err != nil {
		return err
	}
	if want != "" && id != want {
		return fmt.Errorf("the peer is node %q, not %q", id, want)
	}
	if state.NegotiatedProtocol != protocol {
		return fmt.Errorf("the peer does not speak %s", protocol)
	}
	return nil
}

// verifyChain verifies shown, which has the node's own certificate first, for
// the time at; zero: now.
func verifyChain(shown []*x509.Certificate, authorities *x509.CertPool, usage x509.ExtKeyUsage, at time.Time) error {
	intermediates := x509.NewCertPool()
	for _, c := range shown[1:] {
		intermediates.AddCert(c)
	}
	_, err := shown[0].Verify(x509.VerifyOptions{Roots: authorities, Intermediates: intermediates, CurrentTime: at, KeyUsages: []x509.ExtKeyUsage{usage}})
	return err
}

// checkOwn requires that cert names this node, so that a mixed-up file is
// told at start.
func (i *identity) checkOwn(cert *tls.Certificate, node string) error {
	if cert == nil || len(cert.Certificate) == 0 {
		return errors.New("there is none")
	}
	leaf, err := x509.ParseCertificate(cert.Certificate[0])
	if err != nil {
		return err
	}
	id, err := i.nodeOf(leaf)
	if err != nil {
		return err
	}
	if id != node {
		return fmt.Errorf("it is of node %q, this is %q", id, node)
	}
	return nil
}

// noMemberError says that a node proved who it is, and is no member.
type noMemberError struct{ id string }

func (e *noMemberError) Error() string {
	return fmt.Sprintf("node %q is no member of this cluster", e.id)
}
