package trust_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/internal/trust"
)

// signedFor signs what an issuer's software would, for the algorithm: not one
// line of it is in the package under test.
func (k keys) signedFor(algorithm, signed string) []byte {
	sum := sha256.Sum256([]byte(signed))
	var out []byte
	var err error
	switch algorithm {
	case "RS256":
		out, err = rsa.SignPKCS1v15(nil, k.rsa, crypto.SHA256, sum[:])
	case "PS256":
		out, err = rsa.SignPSS(rand.Reader, k.rsa, crypto.SHA256, sum[:], nil)
	case "ES256":
		r, s, signErr := ecdsa.Sign(rand.Reader, k.ec, sum[:])
		if err = signErr; err == nil {
			out = append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...)
		}
	default:
		out = ed25519.Sign(k.ed, []byte(signed))
	}
	if err != nil {
		panic(err)
	}
	return out
}

// loose is how a careless reader takes a JSON object: the standard library's
// way, in which names count whatever their case, and the last of two.
type loose struct {
	Alg, Kid, Typ string
	Crit, JWK     json.RawMessage
	Iss           string
	Aud           any
	Exp, Nbf, Iat *float64
}

// FuzzSigned: headers and claims of any form, under a good signature of the
// issuer's own key or of a stranger's. Whoever is let in has a JWT that a
// careless reader takes for the same issuer, audience and times, and its
// algorithm, key and signature are the issuer's. A plain JWT is let in exactly
// if those are.
func FuzzSigned(f *testing.F) {
	k, stranger := newKeys(f), newKeys(f)
	now := time.Unix(2_000_000_000, 0)
	for _, alg := range []string{"RS256", "PS256", "ES256", "EdDSA", "none", "HS256"} {
		f.Add(`{"alg":"`+alg+`"}`, payload, false, alg)
	}
	f.Add(`{"alg":"ES256","kid":"ec","typ":"JWT"}`, `{"iss":"i","aud":"strongroom","exp":2000000001,"nbf":2000000030,"iat":1999999999.5}`, false, "ES256")
	f.Add(`{"alg":"EdDSA","kid":"ed"}`, payload, true, "EdDSA")
	f.Add(`{"alg":"EdDSA","crit":["exp"]}`, `{"iss":"i","iss":"e","aud":["strongroom"],"exp":2e9}`, false, "EdDSA")
	f.Add(`{"alg":"EdDSA","kid":"seal","typ":"logout+jwt"}`, `{"ISS":"i","aud":{"a":1},"exp":"2000000001"}`, false, "EdDSA")
	v, known := trust.New(trust.Config{}), k.trust(f)
	f.Fuzz(func(t *testing.T, head, claims string, forged bool, by string) {
		text := base64.RawURLEncoding.EncodeToString([]byte(head)) + "." + base64.RawURLEncoding.EncodeToString([]byte(claims))
		signer := k
		if forged {
			signer = stranger
		}
		jwt := text + "." + base64.RawURLEncoding.EncodeToString(signer.signedFor(by, text))
		let, err := v.Verify(context.Background(), known, []byte(jwt), now)
		h, c, plain := readLoosely(head, claims)
		good := !forged && takes(h, by) && about(c, now)
		if err != nil {
			require.False(t, good && plain, "%s %s: %v", head, claims, err)
			return
		}
		require.True(t, good, "%s %s", head, claims)
		require.Equal(t, int64(*c.Exp), let.ExpiresAt.Unix())
		require.True(t, let.ExpiresAt.After(now))
		var same map[string]any
		require.NoError(t, json.Unmarshal([]byte(claims), &same))
		require.Equal(t, same, let.Claims, "what roles are given for is what was signed")
		// One byte more or less of anything is another JWT.
		for _, other := range []string{jwt[1:], jwt + "A", jwt + ".", strings.ToUpper(jwt), " " + jwt, jwt + "\n", strings.Replace(jwt, ".", "..", 1), text + "."} {
			_, err := v.Verify(context.Background(), known, []byte(other), now)
			require.Error(t, err, "%q", other)
		}
	})
}

// readLoosely also reports whether all is so plain that no strict reader can
// object: each name once and as it is written, and only names that are known.
func readLoosely(head, claims string) (h, c loose, plain bool) {
	if json.Unmarshal([]byte(head), &h) != nil || json.Unmarshal([]byte(claims), &c) != nil {
		return loose{}, loose{}, false
	}
	var again []map[string]any
	for _, text := range []string{head, claims} {
		var m map[string]any
		if json.Unmarshal([]byte(text), &m) != nil {
			return h, c, false
		}
		again = append(again, m)
		for name, value := range m {
			if !strings.Contains(" alg kid typ iss aud exp nbf iat ", " "+name+" ") || value == nil || strings.Count(text, `"`+name+`"`) != 1 {
				return h, c, false
			}
		}
		if strings.ContainsAny(text, "\\\ufffd") {
			return h, c, false
		}
	}
	_, inHead := again[0]["alg"]
	_, inClaims := again[1]["iss"]
	return h, c, inHead && inClaims
}

// takes reports whether the header asks for what by signs with, and no more.
func takes(h loose, by string) bool {
	kid := map[string]string{"RS256": "rsa", "PS256": "rsa", "ES256": "ec", "EdDSA": "ed"}[h.Alg]
	typ := strings.TrimPrefix(strings.ToLower(h.Typ), "application/")
	signs := by
	if by != "RS256" && by != "PS256" && by != "ES256" {
		signs = "EdDSA"
	}
	return kid != "" && h.Alg == signs && (h.Kid == "" || h.Kid == kid) && h.Crit == nil && h.JWK == nil && (typ == "" || typ == "jwt" || typ == "at+jwt")
}

// about reports whether the claims are those of the issuer, for us, now.
func about(c loose, now time.Time) bool {
	list, _ := c.Aud.([]any)
	ours := c.Aud == "strongroom"
	for _, one := range list {
		ours = ours || one == "strongroom"
	}
	begun := func(at *float64) bool { return at == nil || *at >= 0 && *at < float64(now.Unix()+31) }
	return c.Iss == "i" && ours && c.Exp != nil && *c.Exp >= float64(now.Unix()+1) && *c.Exp < 1e11 && begun(c.Nbf) && begun(c.Iat)
}
