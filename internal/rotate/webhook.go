package rotate

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/strongroom/strongroom/api/wire"
	"github.com/strongroom/strongroom/engine"
	"github.com/strongroom/strongroom/internal/fault"
	"github.com/strongroom/strongroom/internal/secret"
)

// Bounds of a webhook.
const (
	minSigningKey  = 32
	maxHookAnswer  = 2 << 20
	webhookTimeout = 20 * time.Second
	maxURL         = 1024
	maxCA          = 16 << 10
)

// webhook posts each step to a receiver, which does it at whatever system the
// secret is for. The body never holds a value: the receiver reads the pending
// version with a credential of its own, so it is authorised and in the trail
// like everybody else.
type webhook struct {
	guard     guard
	clusterID string
}

// hookBody is what is posted. Its bytes, after the timestamp and a dot, are
// what the signature is over.
type hookBody struct {
	Event          string `json:"event"` // "secrets.rotation"
	ClusterID      string `json:"clusterId"`
	RotationID     string `json:"rotationId"`
	Step           string `json:"step"` // create, set, test, finish, rollBack
	Attempt        uint32 `json:"attempt"`
	Path           string `json:"path"`
	PendingVersion uint64 `json:"pendingVersion,omitempty"` // finish: it is current by now
	CurrentVersion uint64 `json:"currentVersion,omitempty"`
	Timestamp      int64  `json:"timestamp"` // seconds since the Unix epoch
}

// hookAnswer is what may come back for create, where the system of the
// receiver makes its credentials itself. No body: Strongroom generates.
type hookAnswer struct {
	Value       []byte `json:"value"` // base64
	ContentType string `json:"contentType"`
}

// Check implements engine.Rotator.
func (w *webhook) Check(s wire.RotationSettings) error {
	if s.AdminSecret != "" || s.Usernames != nil || s.Database != "" {
		return fault.Invalid("adminSecret", "and usernames and database are for databases")
	}
	if s.SigningSecret == "" {
		return fault.Invalid("signingSecret", "is missing; name a secret whose value is the key of the signature")
	}
	if _, err := roots(s.CA); err != nil {
		return err
	}
	_, err := w.target(s)
	return err
}

// target answers where to post to.
func (w *webhook) target(s wire.RotationSettings) (*url.URL, error) {
	u, err := url.Parse(s.URL)
	if err != nil || len(s.URL) > maxURL || u.Scheme != "https" || u.Host == "" || u.User != nil || u.Fragment != "" || u.Opaque != "" {
		return nil, fault.Invalid("url", "must be an https URL without user and fragment, of at most %d characters", maxURL)
	}
	port := u.Port()
	if port == "" {
		port = "443"
	}
	return u, w.guard.check("url", u.Hostname(), port, "443")
}

// roots answers the certificates of a setting, nil for those of the system.
func roots(ca string) (*x509.CertPool, error) {
	if ca == "" {
		return nil, nil
	}
	pool := x509.NewCertPool()
	if len(ca) > maxCA || !pool.AppendCertsFromPEM([]byte(ca)) {
		return nil, fault.Invalid("ca", "must hold certificates (PEM), of at most %d bytes", maxCA)
	}
	return pool, nil
}

// Create implements engine.Rotator.
func (w *webhook) Create(ctx context.Context, t engine.RotationTask) (engine.NewValue, error) {
	body, err := w.post(ctx, t, "create")
	if err != nil {
		return engine.NewValue{}, err
	}
	defer clear(body)
	if len(bytes.TrimSpace(body)) == 0 {
		return t.Generate(ctx)
	}
	var answer hookAnswer
	if err := json.Unmarshal(body, &answer); err != nil || len(answer.Value) == 0 {
		// The cause may quote the value.
		return engine.NewValue{}, engine.TargetError(nil, `create: the receiver's answer is neither empty nor {"value": base64, "contentType": …}`)
	}
	return engine.NewValue{Value: secret.New(answer.Value), ContentType: answer.ContentType}, nil
}

// Set implements engine.Rotator.
func (w *webhook) Set(ctx context.Context, t engine.RotationTask) error { return w.tell(ctx, t, "set") }

// Test implements engine.Rotator.
func (w *webhook) Test(ctx context.Context, t engine.RotationTask) error {
	return w.tell(ctx, t, "test")
}

// Tells implements engine.Rotator: the receiver may now take the version that
// was current out of force.
func (w *webhook) Tells() bool { return true }

// Tell implements engine.Rotator.
func (w *webhook) Tell(ctx context.Context, t engine.RotationTask) error {
	return w.tell(ctx, t, "finish")
}

// RollBack implements engine.Rotator.
func (w *webhook) RollBack(ctx context.Context, t engine.RotationTask) (engine.RolledBack, error) {
	return engine.RolledBack{}, w.tell(ctx, t, "rollBack")
}

func (w *webhook) tell(ctx context.Context, t engine.RotationTask, step string) error {
	body, err := w.post(ctx, t, step)
	clear(body)
	return err
}

// post sends one step and answers the body of the answer, which the caller
// clears.
func (w *webhook) post(ctx context.Context, t engine.RotationTask, step string) ([]byte, error) {
	u, err := w.target(t.Settings) // again: the list may be another one by now
	if err != nil {
		return nil, err
	}
	pool, err := roots(t.Settings.CA)
	if err != nil {
		return nil, err
	}
	key, err := t.OpenSigning(ctx)
	if err != nil {
		return nil, err
	}
	if key.Len() < minSigningKey {
		return nil, engine.TargetError(nil, "%s: the value of signingSecret has %d bytes; a key has %d or more", step, key.Len(), minSigningKey)
	}
	now := time.Now()
	body, err := json.Marshal(hookBody{
		Event: "secrets.rotation", ClusterID: w.clusterID, RotationID: t.RotationID, Step: step, Attempt: t.Attempt, Path: t.Path,
		PendingVersion: t.Version, CurrentVersion: t.Current, Timestamp: now.Unix(),
	})
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, webhookTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, u.String(), bytes.NewReader(body))
	if err != nil {
		return nil, fault.Invalid("url", "cannot be posted to")
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("User-Agent", "strongroom")
	request.Header.Set("Strongroom-Signature", "v1="+Signature(key.Expose(), now.Unix(), body))
	request.Header.Set("Strongroom-Timestamp", strconv.FormatInt(now.Unix(), 10))
	return w.send(request, step, pool, u.Hostname())
}

// Signature is HMAC-SHA256, in hexadecimal digits, over "timestamp.body".
func Signature(key []byte, timestamp int64, body []byte) string {
	mac := hmac.New(sha256.New, key)
	mac.Write(strconv.AppendInt(nil, timestamp, 10))
	mac.Write([]byte{'.'})
	mac.Write(body)
	return hex.EncodeToString(mac.Sum(nil))
}

// send does one exchange on a connection of its own: no proxy of the
// environment, no redirect, no connection that another host could share.
func (w *webhook) send(request *http.Request, step string, pool *x509.CertPool, host string) ([]byte, error) {
	transport := &http.Transport{
		DialContext: w.guard.dialer(host), DisableKeepAlives: true, MaxResponseHeaderBytes: 64 << 10,
		TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: pool},
	}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	response, err := client.Do(request)
	if err != nil {
		var outer *url.Error // it quotes the URL
		if errors.As(err, &outer) {
			err = outer.Err
		}
		return nil, engine.TargetError(err, "%s: the receiver could not be reached: %s", step, reason(err))
	}
	defer func() { _ = response.Body.Close() }() // read to its end, or thrown away
	body, err := io.ReadAll(io.LimitReader(response.Body, maxHookAnswer+1))
	switch {
	case response.StatusCode >= 300 && response.StatusCode < 400:
		err = engine.TargetError(nil, "%s: the receiver answered with a redirect (%d), which is not followed; correct the url", step, response.StatusCode)
	case response.StatusCode < 200 || response.StatusCode > 299:
		err = engine.TargetError(nil, "%s: the receiver answered %d", step, response.StatusCode)
	case err != nil:
		err = engine.TargetError(err, "%s: the receiver's answer broke off", step)
	case len(body) > maxHookAnswer:
		err = engine.TargetError(nil, "%s: the receiver's answer has more than %d bytes", step, maxHookAnswer)
	}
	if err != nil {
		clear(body)
		return nil, err
	}
	return body, nil
}

// reason says in our words why a connection failed: what comes from outside
// stays in the log.
func reason(err error) string {
	var address errAddress
	var unknown x509.UnknownAuthorityError
	var name x509.HostnameError
	var invalid x509.CertificateInvalidError
	switch {
	case errors.As(err, &address):
		return address.Error()
	case errors.As(err, &unknown):
		return "its certificate is not signed by an authority that is trusted; give its certificate as ca"
	case errors.As(err, &name):
		return "its certificate is for another name"
	case errors.As(err, &invalid):
		return "its certificate is not valid now, or not for this"
	case errors.Is(err, context.DeadlineExceeded):
		return "it did not answer in time"
	}
	return "there was no connection; the server's log has the cause"
}
