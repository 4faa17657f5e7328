// Package client speaks to a Strongroom cluster: it tries the nodes in turn,
// repeats what may be repeated, and gives each write a clientToken, so that a
// repetition never does it twice.
package client

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/strongroom/strongroom/api/wire"
	"github.com/strongroom/strongroom/internal/secret"
	"github.com/strongroom/strongroom/internal/sigv4"
)

// Defaults of Config.
const (
	DefaultRetryFor       = 30 * time.Second
	DefaultAttemptTimeout = 20 * time.Second
)

// Config says where the cluster is and who asks.
type Config struct {
	// Addresses are the API addresses of nodes, such as
	// https://127.0.0.1:7400, tried in turn. Only https is taken: a token
	// must not travel in the clear.
	Addresses []string
	// CAFile names a PEM file with the authority of the servers'
	// certificates; CAs gives it directly. Neither: the system's.
	CAFile string
	CAs    *x509.CertPool
	// Token answers the credential. It is asked for each attempt, so that a
	// renewed token is picked up; nil sends none. The client wipes what it
	// answers.
	Token func() (secret.Bytes, error)
	// AccessKeyID and AccessKeySecret take the place of Token: each attempt is
	// signed anew, and the secret is never sent. It is asked for each attempt,
	// like Token, and wiped by the client.
	AccessKeyID     string
	AccessKeySecret func() (secret.Bytes, error)
	// Certificate, if not nil, is shown to servers that ask for one: a
	// credential where Token is nil.
	Certificate *tls.Certificate
	// RetryFor bounds how long a request is repeated while the cluster says
	// that it may be, and how long nodes that cannot be reached are tried.
	// RetryConnect, if not 0, is a shorter bound for the latter.
	RetryFor     time.Duration
	RetryConnect time.Duration
	// AttemptTimeout bounds one attempt at one node. It should be longer than
	// the servers' api.timeout.
	AttemptTimeout time.Duration
	// UserAgent is for the servers' logs.
	UserAgent string
}

// Client is safe for concurrent use.
type Client struct {
	cfg       Config
	http      *http.Client
	addresses []string
	preferred atomic.Int64 // index of the address that answered last
}

// New checks cfg and makes a Client. It does not connect.
func New(cfg Config) (*Client, error) {
	if cfg.RetryFor == 0 {
		cfg.RetryFor = DefaultRetryFor
	}
	if cfg.RetryConnect == 0 || cfg.RetryConnect > cfg.RetryFor {
		cfg.RetryConnect = cfg.RetryFor
	}
	if cfg.AttemptTimeout == 0 {
		cfg.AttemptTimeout = DefaultAttemptTimeout
	}
	if (cfg.AccessKeyID == "") != (cfg.AccessKeySecret == nil) || cfg.AccessKeyID != "" && cfg.Token != nil {
		return nil, errors.New("client: give a token, or the id of an access key and its secret")
	}
	if cfg.AccessKeyID != "" && !sigv4.ValidKeyID(cfg.AccessKeyID) {
		return nil, errors.New("client: the access key id must begin with SRAK and have 20 characters")
	}
	c := &Client{cfg: cfg}
	for _, a := range cfg.Addresses {
		base, err := baseURL(a)
		if err != nil {
			return nil, err
		}
		c.addresses = append(c.addresses, base)
	}
	if len(c.addresses) == 0 {
		return nil, errors.New("client: no address of a node is given")
	}
	roots, err := cfg.roots()
	if err != nil {
		return nil, err
	}
	secured := &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
	if cfg.Certificate != nil {
		secured.Certificates = []tls.Certificate{*cfg.Certificate}
	}
	c.http = &http.Client{
		Transport: &http.Transport{
			DialContext:         (&net.Dialer{Timeout: 3 * time.Second}).DialContext,
			TLSClientConfig:     secured,
			TLSHandshakeTimeout: 3 * time.Second,
			MaxIdleConnsPerHost: 64,
			IdleConnTimeout:     90 * time.Second,
			DisableCompression:  true,
			// Proxy is nil on purpose: a variable in the environment must not
			// lead secrets another way.
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return c, nil
}

func baseURL(address string) (string, error) {
	u, err := url.Parse(strings.TrimRight(address, "/"))
	if err != nil || u.Host == "" || u.User != nil || u.Path != "" || u.RawQuery != "" || u.Fragment != "" {
		return "", fmt.Errorf("client: address %q must be https://HOST:PORT", address)
	}
	if u.Scheme != "https" {
		return "", fmt.Errorf("client: address %q must begin with https://: a token must not travel in the clear", address)
	}
	return u.String(), nil
}

func (cfg Config) roots() (*x509.CertPool, error) {
	if cfg.CAFile == "" {
		return cfg.CAs, nil
	}
	pem, err := os.ReadFile(cfg.CAFile)
	if err != nil {
		return nil, fmt.Errorf("client: certificate authority: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("client: certificate authority: %s holds no certificate", cfg.CAFile)
	}
	return pool, nil
}

// Close lets go of idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Do runs one operation: req and resp are pointers to the types of api/wire
// that the operation takes and answers; resp may be nil. Plaintext in req
// stays the caller's to wipe, and so does what resp holds afterwards.
//
// Do repeats the request while the answer is NoLeader, Uncertain,
// HsmUnavailable, AuditUnavailable or RateLimited, and when a node cannot be
// reached or breaks off, within Config.RetryFor and ctx. A write gets a
// clientToken if it has none, so none of this can do it twice. The error is an
// *Error when a server answered, and *UnreachableError when none did.
func (c *Client) Do(ctx context.Context, service, operation string, req, resp any) error {
	var body buffer
	defer body.wipe()
	if err := wire.Encode(&body, withClientToken(req)); err != nil {
		return fmt.Errorf("client: %w", err)
	}
	path := "/api/v1/" + service + "/" + operation
	begun, patience := time.Now(), mayWait(req)
	at := int(c.preferred.Load())
	var maybe error // of an attempt after which the write may have been done
	for attempt := 0; ; attempt++ {
		err := c.attempt(ctx, patience, c.addresses[at%len(c.addresses)]+path, body.b, resp)
		if err == nil {
			c.preferred.Store(int64(at % len(c.addresses)))
			return nil
		}
		if isWrite(req) && mayBeDone(err) {
			maybe = err
		}
		again, pause := c.again(err, attempt, time.Since(begun)-patience)
		if !again || ctx.Err() != nil {
			return settle(err, maybe)
		}
		at = c.next(at, err)
		select {
		case <-ctx.Done():
			return errors.Join(settle(err, maybe), ctx.Err())
		case <-time.After(pause):
		}
	}
}

// next answers which address is tried after the one at. A NoLeader that names
// the leader is believed only where it names an address of the configuration:
// a token is not carried to where nobody sent it.
func (c *Client) next(at int, err error) int {
	var answered *Error
	if errors.As(err, &answered) && answered.Code == "NoLeader" {
		hint, _ := answered.Details["leader"].(string)
		if i := slices.Index(c.addresses, strings.TrimRight(hint, "/")); i >= 0 && i != at%len(c.addresses) {
			return i
		}
	}
	return at + 1
}

// settle answers the error to give up with. Once a write may have been done,
// a later attempt that did nothing does not undo that: unless a server gave a
// last word, the caller must hear of the attempt that is open.
func settle(last, maybe error) error {
	var answered *Error
	if maybe == nil || errors.As(last, &answered) && !answered.Retryable() {
		return last
	}
	return maybe
}

// again decides about another attempt, and the pause before it. The other
// nodes are tried at once; only a whole round without success is followed by
// a pause.
func (c *Client) again(err error, attempt int, spent time.Duration) (bool, time.Duration) {
	bound := c.cfg.RetryFor
	var answered *Error
	var unreachable *UnreachableError
	switch {
	case errors.As(err, &answered):
		if !answered.Retryable() {
			return false, 0
		}
	case errors.As(err, &unreachable):
		if unreachable.Permanent {
			return false, 0
		}
		if unreachable.NotSent {
			bound = c.cfg.RetryConnect
		}
	default:
		return false, 0
	}
	rounds := (attempt + 1) / len(c.addresses)
	if (attempt+1)%len(c.addresses) != 0 && (answered == nil || answered.Code == "NoLeader") {
		return spent < bound, 0
	}
	pause := min(50*time.Millisecond<<min(rounds, 5), time.Second)
	pause = pause/2 + rand.N(pause/2+1)
	if answered != nil && answered.Code != "NoLeader" && answered.Code != "Uncertain" {
		// An election is over sooner than a header of whole seconds can say; all
		// else is repeated when the server asked for it.
		pause = max(pause, answered.RetryAfter)
	}
	return spent+pause < bound, pause
}

// mayWait answers for how long the server may wait for something to happen.
func mayWait(req any) time.Duration {
	if waits, ok := req.(interface{ MayWait() time.Duration }); ok {
		return waits.MayWait()
	}
	return 0
}

// attempt asks one node once.
func (c *Client) attempt(ctx context.Context, patience time.Duration, url string, body []byte, resp any) error {
	ctx, begun, cancel := timed(ctx, c.cfg.AttemptTimeout+patience, resp)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("client: %w", err)
	}
	req.Header.Set("Content-Type", "application/json")
	if c.cfg.UserAgent != "" {
		req.Header.Set("User-Agent", c.cfg.UserAgent)
	}
	if err := c.authorise(req, body); err != nil {
		return err
	}
	answer, err := c.http.Do(req)
	if err != nil {
		return unreachable(url, err)
	}
	defer answer.Body.Close()
	if s, ok := resp.(*stream); ok && answer.StatusCode == http.StatusOK {
		begun()
		return s.take(answer.Body)
	}
	var buf buffer
	defer buf.wipe()
	if _, err := io.Copy(&buf, io.LimitReader(answer.Body, maxResponse)); err != nil {
		return unreachable(url, err)
	}
	if answer.StatusCode != http.StatusOK {
		return failure(answer, buf.b)
	}
	if resp == nil {
		return nil
	}
	// Unknown members are taken: a newer server may say more.
	if err := json.Unmarshal(buf.b, resp); err != nil {
		return &Error{Status: answer.StatusCode, Message: "the answer is not one of this operation; is there a server of another kind at this address?"}
	}
	return nil
}

// authorise puts the credential into one attempt.
func (c *Client) authorise(req *http.Request, body []byte) error {
	switch {
	case c.cfg.AccessKeyID != "":
		key, err := c.cfg.AccessKeySecret()
		if err != nil {
			return fmt.Errorf("client: secret of the access key: %w", err)
		}
		defer key.Wipe()
		return sigv4.Sign(req, c.cfg.AccessKeyID, key.Expose(), body, time.Now())
	case c.cfg.Token != nil:
		token, err := c.cfg.Token()
		if err != nil {
			return fmt.Errorf("client: token: %w", err)
		}
		defer token.Wipe()
		req.Header.Set("Authorization", "Bearer "+string(token.Expose()))
	}
	return nil
}

// maxResponse is more than the largest answer: a batch of a hundred values of
// 1 MiB, in base64.
const maxResponse = 160 << 20

// buffer wipes the pieces that it outgrew, and itself.
type buffer struct{ b []byte }

func (b *buffer) Write(p []byte) (int, error) {
	if need := len(b.b) + len(p); need > cap(b.b) {
		grown := make([]byte, len(b.b), max(2*need, 1024))
		copy(grown, b.b)
		clear(b.b)
		b.b = grown
	}
	b.b = append(b.b, p...)
	return len(p), nil
}

func (b *buffer) wipe() { clear(b.b[:cap(b.b)]) }
