package client

import (
	"bytes"
	"errors"
	"os"

	"github.com/strongroom/strongroom/internal/fault"
	"github.com/strongroom/strongroom/internal/secret"
)

// The codes of the API, for IsCode. docs/api.md says when each is answered.
const (
	CodeInvalidRequest   = fault.InvalidRequest
	CodeUnauthenticated  = fault.Unauthenticated
	CodeAccessDenied     = fault.AccessDenied
	CodeNotFound         = fault.NotFound
	CodeAlreadyExists    = fault.AlreadyExists
	CodeConflict         = fault.Conflict
	CodeVersionNotActive = fault.VersionNotActive
	CodeKeyNotActive     = fault.KeyNotActive
	CodeKeyInUse         = fault.KeyInUse
	CodeVersionInUse     = fault.VersionInUse
	CodeTooLarge         = fault.TooLarge
	CodeRateLimited      = fault.RateLimited
	CodeInternal         = fault.Internal
	CodeHsmUnavailable   = fault.HsmUnavailable
	CodeNoLeader         = fault.NoLeader
	CodeUncertain        = fault.Uncertain
	CodeAuditUnavailable = fault.AuditUnavailable
)

// TokenFile reads the credential from a file for each attempt, so that a
// renewed token is picked up. It is for Config.Token.
func TokenFile(name string) func() (secret.Bytes, error) {
	return TokenFunc(func() ([]byte, error) { return os.ReadFile(name) })
}

// TokenFunc is for Config.Token: read answers the credential for each attempt.
// White space around it is left out. The client wipes what read answered.
func TokenFunc(read func() ([]byte, error)) func() (secret.Bytes, error) {
	return func() (secret.Bytes, error) {
		raw, err := read()
		if err != nil {
			clear(raw)
			return secret.Bytes{}, err
		}
		defer clear(raw)
		// Copied, so that what lies around the token is wiped too.
		token := bytes.Clone(bytes.TrimSpace(raw))
		if len(token) == 0 {
			return secret.Bytes{}, errors.New("the credential is empty")
		}
		return secret.New(token), nil
	}
}
