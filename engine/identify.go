package engine

import (
	"context"

	"github.com/strongroom/strongroom/fsm"
)

// Methods by which a caller can have authenticated, as conditions of policies
// name them.
const (
	MethodToken = "token" // one that createToken, or init, made
	// MethodCertificate is a client certificate of the connection. Tokens that
	// login made have the kind of their trust: "oidc", "jwt" or "kubernetes".
	MethodCertificate = fsm.TrustCertificate
)

// identity is who was authenticated.
type identity struct {
	name     string // of the principal
	kind     string // "user" or "service"
	policies []string
	// method is one of the Methods; of a token that login made, the one by
	// which its holder had authenticated then.
	method string
	// groups are, from identify, those that a trust took from claims; after
	// authenticate all that the caller is in, except that of everyone.
	groups []string
	// claims are those of groups that came with the credential.
	claims []string
	// rightsUntil is when the first of what makes up the caller's rights ends
	// by itself, 0: never.
	rightsUntil int64
	boundaries  []string // policies that cap the caller
	glass       string   // its break-glass session, if one is open
	credential  string   // its id, which may be shown
	expiresAt   int64    // milliseconds since the Unix epoch
}

// identify finds out by which credential the caller came and whose it is. It
// answers name, method, groups, credential and expiresAt; the principal is
// looked up by authenticate, for all methods at one place.
func (c *call) identify(ctx context.Context, body []byte) (identity, error) {
	if c.from.Signed != nil {
		return c.signed(ctx, body)
	}
	if c.from.Token == "" && len(c.from.Certificates) > 0 {
		return c.certificate()
	}
	token, err := c.token()
	if err != nil {
		return identity{}, err
	}
	who := identity{
		name: token.Principal, method: MethodToken, groups: token.Groups,
		credential: token.ID, expiresAt: token.ExpiresAt,
	}
	if token.Method != "" {
		who.method = token.Method
	}
	return who, nil
}
