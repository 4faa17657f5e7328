// Package fault is the one typed error of Strongroom: a kind that every
// front end maps by one table, a text that may be shown to the caller, and a
// cause that may not.
package fault

import (
	"errors"
	"fmt"
)

// Kind says what went wrong, in the words of the API contract.
type Kind string

// The kinds. Their texts are the error codes on the wire.
const (
	InvalidRequest   Kind = "InvalidRequest"
	Unauthenticated  Kind = "Unauthenticated"
	AccessDenied     Kind = "AccessDenied"
	NotFound         Kind = "NotFound"
	AlreadyExists    Kind = "AlreadyExists"
	Conflict         Kind = "Conflict"
	VersionNotActive Kind = "VersionNotActive"
	KeyNotActive     Kind = "KeyNotActive"
	KeyInUse         Kind = "KeyInUse"
	VersionInUse     Kind = "VersionInUse"
	TooLarge         Kind = "TooLarge"
	RateLimited      Kind = "RateLimited"
	Internal         Kind = "Internal"
	HsmUnavailable   Kind = "HsmUnavailable"
	NoLeader         Kind = "NoLeader"
	Uncertain        Kind = "Uncertain"
	AuditUnavailable Kind = "AuditUnavailable"
)

// Error is a failure with a public text. Message names the field, the rule
// and the way out, and never holds a value, a token or a key. The cause goes
// to the log only.
type Error struct {
	Kind    Kind
	Message string
	Details map[string]any
	cause   error
}

// New makes an Error with a formatted public text.
func New(kind Kind, format string, args ...any) *Error {
	return &Error{Kind: kind, Message: fmt.Sprintf(format, args...)}
}

// Invalid is New(InvalidRequest, "field: …"): the field comes first, so that
// every message names it.
func Invalid(field, format string, args ...any) *Error {
	return &Error{
		Kind:    InvalidRequest,
		Message: field + ": " + fmt.Sprintf(format, args...),
		Details: map[string]any{"field": field},
	}
}

// Wrap makes an Error whose cause is kept for the log and for errors.Is, and
// is not part of the public text.
func Wrap(kind Kind, cause error, format string, args ...any) *Error {
	e := New(kind, format, args...)
	e.cause = cause
	return e
}

// With answers a copy that carries one more detail.
func (e *Error) With(key string, value any) *Error {
	out := *e
	out.Details = make(map[string]any, len(e.Details)+1)
	for k, v := range e.Details {
		out.Details[k] = v
	}
	out.Details[key] = value
	return &out
}

// Error is for logs: kind, public text and cause.
func (e *Error) Error() string {
	if e.cause != nil {
		return fmt.Sprintf("%s: %s: %v", e.Kind, e.Message, e.cause)
	}
	return fmt.Sprintf("%s: %s", e.Kind, e.Message)
}

// Unwrap answers the cause.
func (e *Error) Unwrap() error { return e.cause }

// KindOf is the kind of the first *Error in err's chain, Internal for any
// other error, and empty for nil.
func KindOf(err error) Kind {
	if err == nil {
		return ""
	}
	var e *Error
	if errors.As(err, &e) {
		return e.Kind
	}
	return Internal
}

// Is reports whether err carries kind.
func Is(err error, kind Kind) bool { return err != nil && KindOf(err) == kind }
