package api

import (
	"context"
	"errors"
	"net/http"

	"github.com/strongroom/strongroom/internal/fault"
)

// statuses is the one table from kinds to HTTP statuses.
var statuses = map[fault.Kind]int{
	fault.InvalidRequest:   http.StatusBadRequest,
	fault.Unauthenticated:  http.StatusUnauthorized,
	fault.AccessDenied:     http.StatusForbidden,
	fault.NotFound:         http.StatusNotFound,
	fault.AlreadyExists:    http.StatusConflict,
	fault.Conflict:         http.StatusConflict,
	fault.VersionNotActive: http.StatusConflict,
	fault.KeyNotActive:     http.StatusConflict,
	fault.KeyInUse:         http.StatusConflict,
	fault.VersionInUse:     http.StatusConflict,
	fault.TooLarge:         http.StatusRequestEntityTooLarge,
	fault.RateLimited:      http.StatusTooManyRequests,
	fault.Internal:         http.StatusInternalServerError,
	fault.HsmUnavailable:   http.StatusServiceUnavailable,
	fault.NoLeader:         http.StatusServiceUnavailable,
	fault.Uncertain:        http.StatusServiceUnavailable,
	fault.AuditUnavailable: http.StatusServiceUnavailable,
}

// retryable kinds carry Retry-After.
func retryable(kind fault.Kind) bool {
	switch kind {
	case fault.RateLimited, fault.HsmUnavailable, fault.NoLeader, fault.Uncertain, fault.AuditUnavailable:
		return true
	}
	return false
}

// public turns any error into the one that the caller may see. What is not a
// fault of the table is ours: its text goes to the log only.
func public(err error, write bool) *fault.Error {
	var f *fault.Error
	if errors.As(err, &f) && f.Kind != fault.Internal {
		if _, known := statuses[f.Kind]; known {
			return f
		}
	}
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		if write {
			return fault.Wrap(fault.Uncertain, err, "the request ran out of time; the write may have been done: retry with the same clientToken, or read first")
		}
		return fault.Wrap(fault.NoLeader, err, "the request ran out of time; retry")
	}
	return fault.Wrap(fault.Internal, err, "internal error; the server's log has the details under the request id")
}

// retryAfter answers the seconds after which a retry may help. A quota does
// not fill up by itself: whoever retries all the same does it seldom.
func retryAfter(f *fault.Error) string {
	if seconds, ok := f.Details["retryAfter"].(string); ok {
		return seconds
	}
	if _, quota := f.Details["quota"]; quota {
		return "60"
	}
	return "1"
}
