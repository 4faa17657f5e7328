package trust

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/internal/outbound"
)

// Bounds of a request to an issuer.
const (
	fetchTime  = 5 * time.Second
	maxAnswer  = 1 << 20
	maxHeaders = 64 << 10
)

// client reaches one host of a trust, and no other: redirects are answers like
// any other, and the environment's proxies are not asked. Who may put a trust
// chooses the host; what it answers is shown to nobody.
func client(t *fsm.Trust, named string) (*http.Client, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if t.CAPEM != "" {
		pool, err := authorities(t.CAPEM)
		if err != nil {
			return nil, err
		}
		config.RootCAs = pool
	}
	return &http.Client{
		Transport: &http.Transport{
			DialContext: outbound.Dialer(named, fetchTime), TLSClientConfig: config, DisableKeepAlives: true, DisableCompression: true,
			MaxResponseHeaderBytes: maxHeaders, TLSHandshakeTimeout: fetchTime, ResponseHeaderTimeout: fetchTime,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Timeout:       fetchTime,
	}, nil
}

func get(ctx context.Context, t *fsm.Trust, from string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, from, nil)
	if err != nil {
		return nil, errors.New("the URL cannot be read")
	}
	req.Header.Set("Accept", "application/json")
	return send(t, req, http.StatusOK)
}

// send answers the body of an answer with one of the statuses.
func send(t *fsm.Trust, req *http.Request, statuses ...int) ([]byte, error) {
	c, err := client(t, req.URL.Hostname())
	if err != nil {
		return nil, err
	}
	resp, err := c.Do(req)
	if err != nil {
		var at *url.Error
		if errors.As(err, &at) {
			err = at.Err // without the URL, which stands in the trust
		}
		return nil, fmt.Errorf("%s: %w", req.URL.Host, err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", req.URL.Host, err)
	}
	if len(raw) > maxAnswer {
		return nil, fmt.Errorf("%s: the answer has more than %d bytes", req.URL.Host, maxAnswer)
	}
	for _, status := range statuses {
		if resp.StatusCode == status {
			return raw, nil
		}
	}
	return nil, fmt.Errorf("%s: %w", req.URL.Host, statusError(resp.StatusCode))
}

// statusError is an answer with another status than those that are good.
type statusError int

func (e statusError) Error() string { return fmt.Sprintf("status %d", int(e)) }
