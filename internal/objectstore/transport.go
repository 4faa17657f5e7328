package objectstore

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"sync/atomic"
	"time"

	"github.com/aws/smithy-go"
)

// httpClient is one that follows no redirect, so that a signed request goes
// nowhere but to the endpoint, and asks no proxy that the environment names.
func httpClient(caFile string) (*http.Client, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if caFile != "" {
		raw, err := os.ReadFile(caFile)
		if err != nil {
			return nil, fmt.Errorf("snapshots.s3CAFile: %w", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(raw) {
			return nil, fmt.Errorf("snapshots.s3CAFile: %s has no certificate (PEM)", caFile)
		}
	}
	return &http.Client{
		Transport: &http.Transport{
			TLSClientConfig: config, DialContext: (&net.Dialer{Timeout: 10 * time.Second}).DialContext, TLSHandshakeTimeout: 10 * time.Second,
			ForceAttemptHTTP2: true, MaxIdleConnsPerHost: 2, IdleConnTimeout: 30 * time.Second,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}, nil
}

// bounded is for requests without much of a body.
func (b *Bucket) bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, b.stall)
}

var errStalled = errors.New("no byte moved for too long")

// idle ends a request in which nothing moves: a backup may take as long as it
// flows, so its whole time is no bound.
type idle struct {
	after   time.Duration
	timer   *time.Timer
	stalled atomic.Bool
}

func newIdle(after time.Duration, cancel context.CancelFunc) *idle {
	i := &idle{after: after}
	i.timer = time.AfterFunc(after, func() {
		i.stalled.Store(true)
		cancel()
	})
	return i
}

func (i *idle) moved() { i.timer.Reset(i.after) }

func (i *idle) stop() { i.timer.Stop() }

// why is err, or that the request stalled.
func (i *idle) why(err error) error {
	if err != nil && i.stalled.Load() {
		return fmt.Errorf("%w (%v)", errStalled, i.after)
	}
	return err
}

// outgoing is the body of a request. The library reads it to sign and to send
// it, and goes back to its beginning to send it again.
type outgoing struct {
	*bytes.Reader
	idle *idle
}

// Read implements io.Reader.
func (o *outgoing) Read(p []byte) (int, error) {
	o.idle.moved()
	return o.Reader.Read(p)
}

// WriteTo hides that of bytes.Reader, which would write everything at once.
func (o *outgoing) WriteTo(w io.Writer) (int64, error) {
	return io.Copy(w, struct{ io.Reader }{o})
}

func (b *Bucket) sending(ctx context.Context, body []byte) (context.Context, *outgoing, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	i := newIdle(b.stall, cancel)
	return ctx, &outgoing{bytes.NewReader(body), i}, func() { i.stop(); cancel() }
}

// object is a backup that is read.
type object struct {
	body     io.ReadCloser
	idle     *idle
	cancel   context.CancelFunc
	bucket   *Bucket
	location string
}

// Read implements io.Reader.
func (o *object) Read(p []byte) (int, error) {
	n, err := o.body.Read(p)
	o.idle.moved()
	if err != nil && !errors.Is(err, io.EOF) {
		err = o.bucket.fault("read "+o.location, o.idle.why(err))
	}
	return n, err
}

// Close implements io.Closer.
func (o *object) Close() error {
	o.idle.stop()
	err := o.body.Close()
	o.cancel()
	return err
}

func isCode(err error, codes ...string) bool {
	var api smithy.APIError
	if !errors.As(err, &api) {
		return false
	}
	for _, code := range codes {
		if api.ErrorCode() == code {
			return true
		}
	}
	return false
}

// fault says what could not be done, and for the faults that an operator makes
// what to do. What the library says of an error holds no credential: it is
// names, codes and the text of the store.
func (b *Bucket) fault(what string, err error) error {
	hint := ""
	switch {
	case err == nil:
		return nil
	case isCode(err, "NoSuchBucket"):
		hint = ": make the bucket " + b.cfg.Bucket + ", or correct snapshots.s3Bucket"
	case isCode(err, "InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken", "ExpiredToken"):
		hint = ": the store does not take the credentials (snapshots.s3Credentials)"
	case isCode(err, "AccessDenied"):
		hint = ": the credentials may not do this; docs/backup.md lists what they need"
	case isCode(err, "RequestTimeTooSkewed"):
		hint = ": the clocks of this node and the store differ"
	}
	return fmt.Errorf("%s in %s at %s%s: %w", what, b.cfg.Bucket, b.cfg.Endpoint, hint, err)
}
