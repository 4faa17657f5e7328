package fault_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/internal/fault"
)

func TestKindIsFoundThroughWrappedAndJoinedErrors(t *testing.T) {
	base := fault.New(fault.NotFound, "no such secret")
	for name, err := range map[string]error{
		"itself":          base,
		"wrapped":         fmt.Errorf("engine: %w", base),
		"twice":           fmt.Errorf("engine: %w", fmt.Errorf("fsm: %w", base)),
		"joined":          errors.Join(io.EOF, base),
		"joined, wrapped": fmt.Errorf("close: %w", errors.Join(io.EOF, fmt.Errorf("apply: %w", base))),
		"two verbs":       fmt.Errorf("%w and %w", io.EOF, base),
		"with a detail":   base.With("path", "/a"),
	} {
		require.Equal(t, fault.NotFound, fault.KindOf(err), name)
		require.True(t, fault.Is(err, fault.NotFound), name)
		require.False(t, fault.Is(err, fault.Internal), name)
	}
}

// What no code classified is nobody else's to read: Internal, which front
// ends answer without the text.
func TestAnyOtherErrorIsInternal(t *testing.T) {
	for _, err := range []error{io.EOF, context.Canceled, errors.Join(io.EOF, context.Canceled), fmt.Errorf("x: %w", io.EOF)} {
		require.Equal(t, fault.Internal, fault.KindOf(err))
		require.True(t, fault.Is(err, fault.Internal))
		require.False(t, fault.Is(err, fault.NotFound))
	}
}

func TestNoErrorHasNoKind(t *testing.T) {
	require.Empty(t, fault.KindOf(nil))
	require.False(t, fault.Is(nil, fault.Internal))
	require.False(t, fault.Is(nil, ""), "success is not a kind that somebody may match by an empty constant")
}

// Whoever wraps last decides what the caller hears: an outer kind hides the
// inner one, which stays reachable for errors.Is.
func TestTheOuterKindWins(t *testing.T) {
	inner := fault.New(fault.NotFound, "no such key")
	outer := fault.Wrap(fault.HsmUnavailable, inner, "the HSM does not answer")
	require.Equal(t, fault.HsmUnavailable, fault.KindOf(fmt.Errorf("x: %w", outer)))
	require.False(t, fault.Is(outer, fault.NotFound))
	require.ErrorIs(t, outer, inner)

	// Of joined errors the first one speaks.
	require.Equal(t, fault.NotFound, fault.KindOf(errors.Join(inner, fault.New(fault.Conflict, "x"))))
}

// The cause is for the log; the message goes to the caller.
func TestWrapKeepsTheCauseOutOfTheMessage(t *testing.T) {
	cause := fmt.Errorf("open /var/lib/strongroom/audit: %w", io.ErrUnexpectedEOF)
	err := fault.Wrap(fault.AuditUnavailable, cause, "the audit trail of node %d cannot be written", 2)
	require.Equal(t, "the audit trail of node 2 cannot be written", err.Message)
	require.Equal(t, "AuditUnavailable: the audit trail of node 2 cannot be written: open /var/lib/strongroom/audit: unexpected EOF", err.Error())
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
	require.Same(t, cause, err.Unwrap())
	require.Empty(t, err.Details)
}

func TestWithoutACauseTheLogSeesKindAndMessage(t *testing.T) {
	err := fault.New(fault.Conflict, "version %d is newer", 3)
	require.Equal(t, fault.Conflict, err.Kind)
	require.Equal(t, "version 3 is newer", err.Message)
	require.Equal(t, "Conflict: version 3 is newer", err.Error())
	require.NoError(t, err.Unwrap())

	wrapped := fault.Wrap(fault.Conflict, nil, "x")
	require.Equal(t, "Conflict: x", wrapped.Error())
	require.NoError(t, wrapped.Unwrap())
}

func TestInvalidNamesTheFieldFirst(t *testing.T) {
	err := fault.Invalid("statements[2].paths[0]", "has %d bytes", 600)
	require.Equal(t, fault.InvalidRequest, err.Kind)
	require.Equal(t, "statements[2].paths[0]: has 600 bytes", err.Message)
	require.Equal(t, map[string]any{"field": "statements[2].paths[0]"}, err.Details)
	require.NoError(t, err.Unwrap())
}

// A field holds names that a caller made up; a verb in it is text.
func TestVerbsInAFieldAreText(t *testing.T) {
	require.Equal(t, "tags[%s%d]: is too long", fault.Invalid("tags[%s%d]", "is too long").Message)
}

// An Error may be shared: a sentinel that two requests add details to must
// not show one request's details to the other.
func TestWithAnswersACopy(t *testing.T) {
	cause := io.EOF
	base := fault.Wrap(fault.VersionInUse, cause, "version 3 is in use").With("version", 3)
	one := base.With("consumers", 1)
	two := base.With("consumers", 2).With("version", 4)

	require.Equal(t, map[string]any{"version": 3}, base.Details)
	require.Equal(t, map[string]any{"version": 3, "consumers": 1}, one.Details)
	require.Equal(t, map[string]any{"version": 4, "consumers": 2}, two.Details)
	for _, err := range []*fault.Error{base, one, two} {
		require.Equal(t, fault.VersionInUse, err.Kind)
		require.Equal(t, "version 3 is in use", err.Message)
		require.ErrorIs(t, err, cause)
	}

	one.Details["consumers"] = 9
	require.NotContains(t, base.Details, "consumers")
}

func TestWithOnAnErrorWithoutDetails(t *testing.T) {
	base := fault.New(fault.RateLimited, "slow down")
	with := base.With("retryAfter", 5)
	require.Nil(t, base.Details)
	require.Equal(t, map[string]any{"retryAfter": 5}, with.Details)
}

// The texts are the error codes on the wire: clients compare them.
func TestKindsAreFrozen(t *testing.T) {
	for kind, text := range map[fault.Kind]string{
		fault.InvalidRequest:   "InvalidRequest",
		fault.Unauthenticated:  "Unauthenticated",
		fault.AccessDenied:     "AccessDenied",
		fault.NotFound:         "NotFound",
		fault.AlreadyExists:    "AlreadyExists",
		fault.Conflict:         "Conflict",
		fault.VersionNotActive: "VersionNotActive",
		fault.KeyNotActive:     "KeyNotActive",
		fault.KeyInUse:         "KeyInUse",
		fault.VersionInUse:     "VersionInUse",
		fault.TooLarge:         "TooLarge",
		fault.RateLimited:      "RateLimited",
		fault.Internal:         "Internal",
		fault.HsmUnavailable:   "HsmUnavailable",
		fault.NoLeader:         "NoLeader",
		fault.Uncertain:        "Uncertain",
		fault.AuditUnavailable: "AuditUnavailable",
	} {
		require.Equal(t, text, string(kind))
	}
}
