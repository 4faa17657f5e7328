package sink

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/strongroom/strongroom/internal/outbound"
)

// Bounds of a webhook.
const (
	minSigningKey = 32
	maxAnswer     = 64 << 10
	// maxRetryAfter bounds what a receiver may ask for: it says when it is
	// back, and does not switch the sink off.
	maxRetryAfter = time.Hour
)

// webhookTarget posts batches, one line an event. Taken is what was answered
// with 2xx.
type webhookTarget struct {
	settings Settings
	host     string
	secret   func(path string) ([]byte, error)

	client *http.Client // nil: the next request makes it
	limit  int          // events of a request; halved when the receiver finds one too large
}

func newWebhook(s Settings, secret func(string) ([]byte, error)) (*webhookTarget, error) {
	u, err := url.Parse(s.URL)
	if err != nil {
		return nil, errors.New("its url cannot be read") // the cause quotes it
	}
	return &webhookTarget{settings: s, host: u.Hostname(), secret: secret, limit: s.BatchEvents}, nil
}

// retryAfter is an error of a receiver that has said when to come again.
type retryAfter struct {
	error
	wait time.Duration
}

// errTooLarge: the receiver has answered 413.
var errTooLarge = errors.New("the receiver finds one event by itself too large (413); have it take more: the sink cannot go on before")

// deliver implements target. A batch goes in more requests than one after the
// receiver has found one too large.
func (t *webhookTarget) deliver(ctx context.Context, records []record) (taken int, err error) {
	for taken < len(records) {
		part := records[taken:min(taken+t.limit, len(records))]
		err := t.post(ctx, part)
		switch {
		case err == nil:
			taken += len(part)
			t.limit = min(t.limit+1, t.settings.BatchEvents) // slowly: each 413 costs a request
		case errors.Is(err, errTooLarge) && len(part) > 1:
			t.limit = (len(part) + 1) / 2
		default:
			t.reload() // the next one connects anew, with the files as they are then
			return taken, err
		}
	}
	return taken, nil
}

// post sends one request.
func (t *webhookTarget) post(ctx context.Context, records []record) error {
	ctx, cancel := context.WithTimeout(ctx, t.settings.Timeout)
	defer cancel()
	body := lines(records)
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, t.settings.URL, bytes.NewReader(body))
	if err != nil {
		return errors.New("the url cannot be posted to")
	}
	h := request.Header
	h.Set("Content-Type", "application/x-ndjson")
	h.Set("User-Agent", "strongroom")
	h.Set("Strongroom-Sink", t.settings.Name)
	h.Set("Strongroom-First-Sequence", strconv.FormatUint(records[0].at.sequence, 10))
	h.Set("Strongroom-Last-Sequence", strconv.FormatUint(records[len(records)-1].at.sequence, 10))
	if err := t.sign(h, body); err != nil {
		return err
	}
	if err := t.connect(); err != nil {
		return err
	}
	response, err := t.client.Do(request)
	if err != nil {
		var outer *url.Error // it quotes the URL
		if errors.As(err, &outer) {
			err = outer.Err
		}
		return fmt.Errorf("the receiver could not be reached: %w", explain(err))
	}
	_, err = io.Copy(io.Discard, io.LimitReader(response.Body, maxAnswer)) // so that the connection can be used again
	if err = errors.Join(err, response.Body.Close()); err != nil {
		return fmt.Errorf("the receiver's answer broke off: %w", err)
	}
	return judge(response)
}

// judge says what an answer means. Nothing is given up: who would know that
// the receiver will not be mended?
func judge(r *http.Response) error {
	switch {
	case r.StatusCode >= 200 && r.StatusCode <= 299:
		return nil
	case r.StatusCode == http.StatusRequestEntityTooLarge:
		return errTooLarge
	case r.StatusCode >= 300 && r.StatusCode <= 399:
		return fmt.Errorf("the receiver answered with a redirect (%d), which is not followed; correct the url", r.StatusCode)
	case r.StatusCode == http.StatusUnauthorized || r.StatusCode == http.StatusForbidden:
		return withRetryAfter(r, fmt.Errorf("the receiver answered %d: it does not accept signingKeyFile or authorizationFile", r.StatusCode))
	}
	return withRetryAfter(r, fmt.Errorf("the receiver answered %d", r.StatusCode))
}

// withRetryAfter reads the header of RFC 9110, 10.2.3: seconds or a date.
func withRetryAfter(r *http.Response, err error) error {
	text := r.Header.Get("Retry-After")
	wait := time.Duration(0)
	if seconds, bad := strconv.ParseUint(text, 10, 32); bad == nil {
		wait = time.Duration(seconds) * time.Second
	} else if at, bad := http.ParseTime(text); bad == nil {
		wait = time.Until(at)
	}
	if wait <= 0 {
		return err
	}
	return retryAfter{err, min(wait, maxRetryAfter)}
}

// sign reads the keys and sets the headers that prove who sends, when, and
// what. Whoever does not have the key cannot make one; whoever has seen one
// can send the same again, which is why the time is signed, too.
func (t *webhookTarget) sign(h http.Header, body []byte) error {
	raw, err := t.secret(t.settings.SigningKeyFile)
	if err != nil {
		return fmt.Errorf("signingKeyFile: %w", err)
	}
	defer clear(raw)
	key := make([]byte, base64.StdEncoding.DecodedLen(len(raw)))
	defer clear(key)
	n, err := base64.StdEncoding.Strict().Decode(key, bytes.TrimSpace(raw))
	if err != nil || n < minSigningKey {
		return fmt.Errorf("signingKeyFile: %s must hold %d bytes or more in base64; make it with: head -c 32 /dev/urandom | base64", t.settings.SigningKeyFile, minSigningKey)
	}
	now := time.Now().Unix()
	h.Set("Strongroom-Timestamp", strconv.FormatInt(now, 10))
	h.Set("Strongroom-Signature", "v1="+signature(key[:n], now, body))
	if t.settings.AuthorizationFile == "" {
		return nil
	}
	text, err := t.secret(t.settings.AuthorizationFile)
	if err != nil {
		return fmt.Errorf("authorizationFile: %w", err)
	}
	defer clear(text)
	value := strings.TrimSpace(string(text))
	if value == "" || strings.ContainsFunc(value, func(r rune) bool { return r < 32 || r > 126 }) {
		return fmt.Errorf("authorizationFile: %s must hold one line of printable ASCII", t.settings.AuthorizationFile)
	}
	h.Set("Authorization", value)
	return nil
}

// signature is HMAC-SHA256, in hexadecimal digits, over "timestamp.body": the
// same as that of the webhooks of rotations.
func signature(key []byte, timestamp int64, body []byte) string {
	mac := hmac.New(sha256.New, key)
	mac.Write(strconv.AppendInt(nil, timestamp, 10))
	mac.Write([]byte{'.'})
	mac.Write(body)
	return hex.EncodeToString(mac.Sum(nil))
}

// connect makes the client: no proxy of the environment, no redirect, no
// address that outbound refuses.
func (t *webhookTarget) connect() error {
	if t.client != nil {
		return nil
	}
	cfg, err := tlsConfig(t.settings, t.host)
	if err != nil {
		return err
	}
	t.client = &http.Client{
		Transport: &http.Transport{
			DialContext: outbound.Dialer(t.host, t.settings.Timeout), TLSClientConfig: cfg, MaxResponseHeaderBytes: maxAnswer,
			MaxIdleConns: 1, IdleConnTimeout: time.Minute, ForceAttemptHTTP2: true,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return nil
}

// reload implements target.
func (t *webhookTarget) reload() {
	if t.client != nil {
		t.client.CloseIdleConnections()
		t.client = nil
	}
}

// close implements target.
func (t *webhookTarget) close() error {
	t.reload()
	return nil
}
