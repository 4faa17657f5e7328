// Package pki makes the certificates of a cluster: a small certificate
// authority with ECDSA P-256, good enough to run on, and replaceable by any
// other that issues the same names. Keys are PKCS#8 in PEM, mode 0600.
package pki

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/strongroom/strongroom/internal/durable"
)

// How long certificates are valid, and how far back they begin, for clocks
// that are behind.
const (
	CALifetime   = 10 * 365 * 24 * time.Hour
	LeafLifetime = 825 * 24 * time.Hour // what TLS clients accept at most
	backdate     = 5 * time.Minute
)

// Pair is a certificate and its private key, both PEM.
type Pair struct {
	Cert []byte
	Key  []byte
}

// NodeURI is the name of a node in its certificate's URI SAN. The node link
// accepts a peer by it and by nothing else.
func NodeURI(clusterID, nodeID string) *url.URL {
	return &url.URL{Scheme: "strongroom", Host: clusterID, Path: "/node/" + nodeID}
}

// CreateCA makes an authority. It can sign leaves only, not other
// authorities.
func CreateCA(commonName string, now time.Time) (Pair, error) {
	template := &x509.Certificate{
		Subject:               pkix.Name{CommonName: commonName, Organization: []string{"Strongroom"}},
		NotBefore:             now.Add(-backdate),
		NotAfter:              now.Add(CALifetime),
		IsCA:                  true,
		BasicConstraintsValid: true,
		MaxPathLenZero:        true,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	return sign(template, nil, nil)
}

// IssueServer makes a server certificate of the API for hosts, each an IP
// address or a DNS name.
func IssueServer(ca Pair, hosts []string, now time.Time) (Pair, error) {
	if len(hosts) == 0 {
		return Pair{}, errors.New("a server certificate needs at least one host name or address")
	}
	template := leaf(hosts[0], now)
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	for _, host := range hosts {
		if ip := net.ParseIP(host); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, host)
		}
	}
	return issue(ca, template)
}

// IssueNode makes the certificate of a node for the node link: client and
// server in one, named by NodeURI.
func IssueNode(ca Pair, clusterID, nodeID string, now time.Time) (Pair, error) {
	if clusterID == "" || nodeID == "" {
		return Pair{}, errors.New("a node certificate needs the cluster's id and the node's")
	}
	template := leaf(nodeID, now)
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	template.URIs = []*url.URL{NodeURI(clusterID, nodeID)}
	return issue(ca, template)
}

func leaf(commonName string, now time.Time) *x509.Certificate {
	return &x509.Certificate{
		Subject:               pkix.Name{CommonName: commonName, Organization: []string{"Strongroom"}},
		NotBefore:             now.Add(-backdate),
		NotAfter:              now.Add(LeafLifetime),
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageDigitalSignature,
	}
}

func issue(ca Pair, template *x509.Certificate) (Pair, error) {
	parent, key, err := ca.parse()
	if err != nil {
		return Pair{}, fmt.Errorf("certificate authority: %w", err)
	}
	if !parent.IsCA {
		return Pair{}, errors.New("certificate authority: the certificate may not sign others")
	}
	if template.NotAfter.After(parent.NotAfter) {
		template.NotAfter = parent.NotAfter
	}
	return sign(template, parent, key)
}

// sign makes a key for template and signs it by parent, or by itself when
// parent is nil.
func sign(template, parent *x509.Certificate, signer *ecdsa.PrivateKey) (Pair, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return Pair{}, fmt.Errorf("key: %w", err)
	}
	if template.SerialNumber, err = rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127)); err != nil {
		return Pair{}, fmt.Errorf("serial number: %w", err)
	}
	if parent == nil {
		parent, signer = template, key
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		return Pair{}, fmt.Errorf("certificate: %w", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return Pair{}, fmt.Errorf("key: %w", err)
	}
	defer clear(der)
	return Pair{
		Cert: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert}),
		Key:  pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}),
	}, nil
}

func (p Pair) parse() (*x509.Certificate, *ecdsa.PrivateKey, error) {
	certBlock, _ := pem.Decode(p.Cert)
	keyBlock, _ := pem.Decode(p.Key)
	if certBlock == nil || keyBlock == nil {
		return nil, nil, errors.New("certificate and key must be PEM")
	}
	cert, err := x509.ParseCertificate(certBlock.Bytes)
	if err != nil {
		return nil, nil, fmt.Errorf("certificate: %w", err)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(keyBlock.Bytes)
	if err != nil {
		return nil, nil, fmt.Errorf("key: %w", err)
	}
	key, ok := parsed.(*ecdsa.PrivateKey)
	if !ok {
		return nil, nil, errors.New("key: is not ECDSA")
	}
	if !key.PublicKey.Equal(cert.PublicKey) {
		return nil, nil, errors.New("key and certificate do not belong together")
	}
	return cert, key, nil
}

// Write puts the pair into two files, the key with mode 0600. Neither may be
// there: an authority that is overwritten is lost with all that it signed.
func (p Pair) Write(certFile, keyFile string) error {
	if err := writeNew(keyFile, p.Key, 0o600); err != nil {
		return err
	}
	if err := writeNew(certFile, p.Cert, 0o644); err != nil {
		return errors.Join(err, os.Remove(keyFile))
	}
	return nil
}

// Replace puts the pair into two files that may be there: a renewal. Each file
// is whole at any time, but for a moment they do not belong together; who reads
// them then keeps the pair before.
func (p Pair) Replace(certFile, keyFile string) error {
	return errors.Join(ReplaceFile(keyFile, p.Key, 0o600), ReplaceFile(certFile, p.Cert, 0o644))
}

// ReplaceFile puts content into a file that may be there, in one step: who
// reads it finds the old content or the new one, whole. It stays with its
// owner: a server must still be able to read what root renewed.
func ReplaceFile(path string, content []byte, mode os.FileMode) error {
	temporary := path + ".new"
	// What an earlier try left behind may have another mode.
	if err := os.Remove(temporary); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err := writeNew(temporary, content, mode); err != nil {
		return err
	}
	if info, err := os.Stat(path); err == nil {
		if stat, ok := info.Sys().(*syscall.Stat_t); ok {
			if err := os.Chown(temporary, int(stat.Uid), int(stat.Gid)); err != nil {
				return errors.Join(fmt.Errorf("the owner of %s cannot be kept: %w", path, err), os.Remove(temporary))
			}
		}
	}
	if err := os.Rename(temporary, path); err != nil {
		return err
	}
	return durable.SyncDir(filepath.Dir(path))
}

func writeNew(path string, content []byte, mode os.FileMode) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, mode)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	return errors.Join(err, f.Sync(), f.Close())
}

// ReadPair reads what Write wrote.
func ReadPair(certFile, keyFile string) (Pair, error) {
	cert, err := os.ReadFile(certFile)
	if err != nil {
		return Pair{}, err
	}
	key, err := os.ReadFile(keyFile)
	if err != nil {
		return Pair{}, err
	}
	p := Pair{Cert: cert, Key: key}
	if _, _, err := p.parse(); err != nil {
		return Pair{}, fmt.Errorf("%s, %s: %w", certFile, keyFile, err)
	}
	return p, nil
}
