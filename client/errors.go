package client

import (
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/strongroom/strongroom/api/wire"
	"github.com/strongroom/strongroom/internal/fault"
)

// Error is what a server answered instead of a result.
type Error struct {
	Code       string // of the API, such as "NotFound"; empty when something else than Strongroom answered
	Message    string
	RequestID  string
	Details    map[string]any
	Status     int           // of HTTP
	RetryAfter time.Duration // 0: the server did not say
}

// Error is code and message. Servers never put a value into either.
func (e *Error) Error() string {
	if e.Code == "" {
		return fmt.Sprintf("HTTP status %d: %s", e.Status, e.Message)
	}
	return e.Code + ": " + e.Message
}

// Retryable reports whether the same request, with the same clientToken, may
// succeed a little later.
func (e *Error) Retryable() bool {
	if _, quota := e.Details["quota"]; quota {
		return false // it does not fill up by itself
	}
	switch fault.Kind(e.Code) {
	case fault.NoLeader, fault.Uncertain, fault.HsmUnavailable, fault.AuditUnavailable, fault.RateLimited:
		return true
	case "":
		// A proxy in between that lost its node.
		return e.Status == http.StatusBadGateway || e.Status == http.StatusServiceUnavailable || e.Status == http.StatusGatewayTimeout
	}
	return false
}

// IsCode reports whether err is an answer with this code.
func IsCode(err error, code fault.Kind) bool {
	var e *Error
	return errors.As(err, &e) && e.Code == string(code)
}

// mayBeDone reports whether a write that ended in err may have been done: the
// server says so, or could not write its trail after it, or the connection
// broke when the request was on its way.
func mayBeDone(err error) bool {
	var answered *Error
	if errors.As(err, &answered) {
		return answered.Code == string(fault.Uncertain) || answered.Code == string(fault.AuditUnavailable) || answered.Code == ""
	}
	var unreachable *UnreachableError
	return errors.As(err, &unreachable) && !unreachable.NotSent
}

// failure reads the error body of an answer.
func failure(answer *http.Response, body []byte) error {
	e := &Error{Status: answer.StatusCode, RequestID: answer.Header.Get("Strongroom-Request-Id")}
	if seconds, err := strconv.Atoi(answer.Header.Get("Retry-After")); err == nil && seconds >= 0 {
		e.RetryAfter = time.Duration(seconds) * time.Second
	}
	var sent wire.Error
	if json.Unmarshal(body, &sent) != nil || sent.Error.Code == "" {
		e.Message = "not an answer of Strongroom; check the address"
		return e
	}
	e.Code, e.Message, e.Details = sent.Error.Code, sent.Error.Message, sent.Error.Details
	if sent.Error.RequestID != "" {
		e.RequestID = sent.Error.RequestID
	}
	return e
}

// UnreachableError says that a node gave no answer.
type UnreachableError struct {
	Address string
	// NotSent: no connection came about, so the request surely did nothing.
	NotSent bool
	// Permanent: trying again will not help.
	Permanent bool
	cause     error
}

// Error names the node and the reason.
func (e *UnreachableError) Error() string { return fmt.Sprintf("%s: %v", e.Address, e.cause) }

// Unwrap answers the cause.
func (e *UnreachableError) Unwrap() error { return e.cause }

// unreachable sorts a failed exchange.
func unreachable(address string, err error) error {
	out := &UnreachableError{Address: address, cause: err}
	if u, parseErr := url.Parse(address); parseErr == nil {
		out.Address = u.Host
	}
	var outer *url.Error
	if errors.As(err, &outer) {
		out.cause = outer.Err // without the URL, which Address says
	}
	var dial *net.OpError
	var untrusted *tls.CertificateVerificationError
	var notTLS tls.RecordHeaderError
	switch {
	case errors.As(err, &untrusted), errors.As(err, &notTLS):
		out.NotSent, out.Permanent = true, true
	case errors.As(err, &dial) && dial.Op == "dial":
		out.NotSent = true
	}
	return out
}
