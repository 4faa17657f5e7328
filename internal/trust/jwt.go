package trust

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
	"time"

	jose "github.com/go-jose/go-jose/v4"
	"github.com/go-json-experiment/json"

	"github.com/strongroom/strongroom/engine"
	"github.com/strongroom/strongroom/fsm"
)

// Why nobody is let in. None of them holds a piece of the JWT.
const (
	notJWT       = engine.NotLetIn("it is no signed JWT that can be read")
	notHeader    = engine.NotLetIn("its header asks for what is not supported")
	notAlgorithm = engine.NotLetIn("its algorithm is not one of the trust")
	notIssuer    = engine.NotLetIn("it is of another issuer")
	notAudience  = engine.NotLetIn("it is for another audience")
	notExpiring  = engine.NotLetIn("it does not say when it expires")
	notAnyMore   = engine.NotLetIn("it has expired")
	notYet       = engine.NotLetIn("it is not valid yet")
	notTimes     = engine.NotLetIn("its times cannot be read")
	notKey       = engine.NotLetIn("no key of the issuer has its key id and algorithm")
	notSigned    = engine.NotLetIn("its signature is wrong")
	notReviewed  = engine.NotLetIn("Kubernetes does not take it")
)

// maxTries bounds the keys that one signature is tried with. Issuers name the
// key; those that do not have a few.
const maxTries = 8

// token is a JWT (RFC 7519) in its compact form, taken apart. Nothing in it is
// believed before its signature was verified.
type token struct {
	algorithm, kid string
	claims         map[string]any
}

// parse reads header and claims. JSON is read strictly: a name that is there
// twice could mean one thing to the issuer and another here.
func parse(jwt []byte) (token, error) {
	parts := bytes.Split(jwt, []byte("."))
	if len(parts) != 3 {
		return token{}, notJWT
	}
	var header map[string]any
	var out token
	// The library that verifies skips line feeds in the signature, and what is
	// left over of its last sign: one JWT would have many spellings.
	if raw, ok := decode(parts[2]); !ok || len(raw) == 0 {
		return token{}, notJWT
	}
	if !decodePart(parts[0], &header) || !decodePart(parts[1], &out.claims) || header == nil || out.claims == nil {
		return token{}, notJWT
	}
	// Keys come from where the trust says. A header that brings a key, or says
	// where one is (jwk, x5c, jku, x5u), is not followed; jwk has no honest use
	// here at all, and what is critical (RFC 7515, section 4.1.11) is not known.
	for _, name := range []string{"crit", "b64", "jwk", "enc", "zip"} {
		if _, there := header[name]; there {
			return token{}, notHeader
		}
	}
	var ok bool
	if out.algorithm, ok = header["alg"].(string); !ok {
		return token{}, notJWT
	}
	if kid, there := header["kid"]; there {
		if out.kid, ok = kid.(string); !ok || out.kid == "" {
			return token{}, notHeader
		}
	}
	if !plainType(header["typ"]) {
		return token{}, notHeader
	}
	return out, nil
}

// plainType refuses JWTs that are typed as something else than a token of
// identity or access (RFC 8725, section 3.11), such as those of a log-out.
func plainType(typ any) bool {
	if typ == nil {
		return true
	}
	text, ok := typ.(string)
	text = strings.TrimPrefix(strings.ToLower(text), "application/")
	return ok && (text == "jwt" || text == "at+jwt")
}

func decodePart(part []byte, into any) bool {
	raw, ok := decode(part)
	defer clear(raw)
	return ok && json.Unmarshal(raw, into) == nil
}

// decode takes the one spelling that there is.
func decode(part []byte) ([]byte, bool) {
	raw := make([]byte, base64.RawURLEncoding.DecodedLen(len(part)))
	n, err := base64.RawURLEncoding.Strict().Decode(raw, part)
	return raw[:n], err == nil && !bytes.ContainsAny(part, "\r\n")
}

// about holds issuer, audience and algorithm against the trust.
func (k token) about(t *fsm.Trust) error {
	if !slices.Contains(t.Algorithms, k.algorithm) || !slices.Contains(fsm.Algorithms(), k.algorithm) {
		return notAlgorithm
	}
	if issuer, ok := k.claims["iss"].(string); !ok || issuer != t.Issuer || issuer == "" {
		return notIssuer
	}
	var audiences []any
	switch aud := k.claims["aud"].(type) {
	case string:
		audiences = []any{aud}
	case []any:
		audiences = aud
	}
	for _, aud := range audiences {
		if text, ok := aud.(string); ok && slices.Contains(t.Audiences, text) {
			return nil
		}
	}
	return notAudience
}

// times answers when the JWT expires. The skew of clocks is granted to what
// must have begun; not to exp, since no token may outlive its JWT.
func (k token) times(t *fsm.Trust, now time.Time) (time.Time, error) {
	skew := time.Duration(t.ClockSkew) * time.Millisecond
	expires, there, ok := k.time("exp")
	switch {
	case !ok:
		return time.Time{}, notTimes
	case !there:
		return time.Time{}, notExpiring
	case !now.Before(expires):
		return time.Time{}, notAnyMore
	}
	for _, name := range []string{"nbf", "iat"} {
		from, there, ok := k.time(name)
		if !ok {
			return time.Time{}, notTimes
		}
		if there && now.Add(skew).Before(from) {
			return time.Time{}, notYet
		}
	}
	return expires, nil
}

// time reads a NumericDate, to the second below.
func (k token) time(name string) (at time.Time, there, ok bool) {
	claim, there := k.claims[name]
	if !there {
		return at, false, true
	}
	seconds, ok := claim.(float64)
	if !ok || !(seconds >= 0 && seconds < 1e11) {
		return at, true, false
	}
	return time.Unix(int64(seconds), 0), true, true
}

// signedBy verifies the signature with the keys that its header can mean.
func (k token) signedBy(keys []jose.JSONWebKey, algorithms []string, jwt []byte) error {
	allowed := make([]jose.SignatureAlgorithm, len(algorithms))
	for i, a := range algorithms {
		allowed[i] = jose.SignatureAlgorithm(a)
	}
	signed, err := jose.ParseSignedCompact(string(jwt), allowed)
	if err != nil || len(signed.Signatures) != 1 {
		return notJWT
	}
	tried := 0
	for _, key := range keys {
		if !k.means(key) {
			continue
		}
		if tried++; tried > maxTries {
			return notKey
		}
		if _, err := signed.Verify(key.Key); err == nil {
			return nil
		}
	}
	if tried == 0 {
		return notKey
	}
	return notSigned
}

// means reports whether the header can be about key: the key decides which
// algorithm it is for, never the JWT.
func (k token) means(key jose.JSONWebKey) bool {
	if k.kid != "" && key.KeyID != k.kid || key.Algorithm != "" && key.Algorithm != k.algorithm {
		return false
	}
	switch public := key.Key.(type) {
	case *rsa.PublicKey:
		return strings.HasPrefix(k.algorithm, "RS") || strings.HasPrefix(k.algorithm, "PS")
	case *ecdsa.PublicKey:
		curve := map[string]elliptic.Curve{"ES256": elliptic.P256(), "ES384": elliptic.P384(), "ES512": elliptic.P521()}[k.algorithm]
		return curve != nil && public.Curve == curve
	case ed25519.PublicKey:
		return k.algorithm == "EdDSA"
	}
	return false
}

func item(field string, i int) string { return fmt.Sprintf("%s[%d]", field, i) }
