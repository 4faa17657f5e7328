package api

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"github.com/strongroom/strongroom/internal/fault"
	"github.com/strongroom/strongroom/internal/sigv4"
)

// credential answers what the Authorization header brings: a token, the
// signature of a signed request, or neither.
func credential(r *http.Request) (token string, signed *sigv4.Request, err error) {
	if !sigv4.Is(r.Header.Get("Authorization")) {
		token, err = bearer(r)
		return token, nil, err
	}
	signed, err = sigv4.Parse(r)
	if errors.Is(err, sigv4.ErrUnsignedPayload) {
		return "", nil, fault.New(fault.InvalidRequest, "%v", err).With("field", "X-Amz-Content-Sha256")
	}
	if err != nil {
		return "", nil, fault.New(fault.Unauthenticated, "%v", err)
	}
	return "", signed, nil
}

// handOnSigned writes the signature, and what it is of, into the headers of a
// request to the leader. The leader takes the hash of the body that reaches
// it: a member that altered the body, or the operation, would be found out.
func handOnSigned(h http.Header, signed *sigv4.Request) error {
	text, err := json.Marshal(signed)
	if err != nil {
		return fmt.Errorf("hand on a signed request: %w", err)
	}
	h.Set(headerSigned, base64.StdEncoding.EncodeToString(text))
	return nil
}

// handedOnSigned reads what handOnSigned wrote, nil if the request is not
// signed.
func handedOnSigned(h http.Header) (*sigv4.Request, error) {
	values := h.Values(headerSigned)
	if len(values) == 0 {
		return nil, nil
	}
	var signed sigv4.Request
	text, err := base64.StdEncoding.DecodeString(values[0])
	if err == nil {
		err = json.Unmarshal(text, &signed)
	}
	if err == nil {
		err = signed.Check()
	}
	if err != nil || len(values) > 1 {
		return nil, fault.New(fault.Unauthenticated, "Authorization: the signed request was not handed on whole; sign it again")
	}
	return &signed, nil
}
