package api

import (
	"crypto/tls"
	"encoding/base64"
	"net/http"

	"github.com/strongroom/strongroom/internal/fault"
)

// Bounds of a chain of client certificates. It must fit into the headers of
// the node link; chains of real authorities have half of that.
const (
	maxChain      = 4
	maxChainBytes = 8 << 10
)

// shownCertificates answers what the client showed in the handshake of this
// connection, in DER. The handshake has proven that it holds the private key
// of the first one, and nothing else: TLS was told to ask, not to decide.
func shownCertificates(r *http.Request) ([][]byte, error) {
	secured, _ := r.Context().Value(tlsKey{}).(*tls.Conn)
	if secured == nil {
		return nil, nil
	}
	var out [][]byte
	size := 0
	for _, one := range secured.ConnectionState().PeerCertificates {
		out = append(out, one.Raw)
		size += len(one.Raw)
	}
	if len(out) > maxChain || size > maxChainBytes {
		return nil, fault.New(fault.Unauthenticated, "the client certificate comes with %d others in %d bytes; at most %d and %d are taken: leave out the root", len(out)-1, size, maxChain-1, maxChainBytes)
	}
	return out, nil
}

// handedCertificates answers those that another member was shown.
func handedCertificates(r *http.Request) ([][]byte, error) {
	var out [][]byte
	for _, text := range r.Header.Values(headerCertificate) {
		der, err := base64.StdEncoding.DecodeString(text)
		if err != nil || len(out) == maxChain {
			return nil, fault.New(fault.Internal, "a member sent certificates that cannot be read")
		}
		out = append(out, der)
	}
	return out, nil
}
