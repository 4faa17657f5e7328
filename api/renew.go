package api

import (
	"context"
	"net"
	"net/http"
	"sync/atomic"
	"time"
)

func (l *Link) newTransport() *http.Transport {
	return &http.Transport{
		DialContext: func(ctx context.Context, _, address string) (net.Conn, error) {
			node, _, err := net.SplitHostPort(address)
			if err != nil {
				return nil, err
			}
			return l.dial(ctx, node)
		},
		MaxIdleConnsPerHost: 128,
		IdleConnTimeout:     60 * time.Second,
		DisableCompression:  true,
	}
}

// onTransport sends a request by the transport of the moment.
type onTransport struct {
	now *atomic.Pointer[http.Transport]
}

// RoundTrip implements http.RoundTripper.
func (o onTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	return o.now.Load().RoundTrip(r)
}

// Renew has every request that begins after it go over connections that are
// opened after it, with the certificates and authorities of then. Requests
// under way stay on theirs and are answered: to cut them would turn writes
// into uncertain ones.
func (l *Link) Renew() { l.transport.Swap(l.newTransport()).CloseIdleConnections() }
