// Package trust holds JWTs against what trusts say of their issuers, finds the
// issuers' keys, and asks Kubernetes for its review of a token. It is the way
// out of the engine to issuers, as package rotate is to what rotations change.
package trust

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"log/slog"
	"net/url"
	"slices"
	"strings"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/strongroom/strongroom/engine"
	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/internal/fault"
)

// Config wires a Verifier.
type Config struct {
	// ReviewerFile has the token by which this server asks Kubernetes for
	// reviews, for trusts whose tokenReviewer is file; "": there is none.
	ReviewerFile string
	Logger       *slog.Logger
}

// Verifier implements engine.TrustVerifier. It is safe for concurrent use.
type Verifier struct {
	cfg     Config
	keys    *lru.Cache[string, *keyring]
	reviews chan struct{} // see maxReviews
}

// maxReviews bounds the reviews that are on their way at one time: nobody is
// known yet who asks for them.
const maxReviews = 16

// New makes a Verifier.
func New(cfg Config) *Verifier {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	keys, err := lru.New[string, *keyring](256) // as many as there can be trusts
	if err != nil {
		panic(err) // only for a size below 1
	}
	return &Verifier{cfg: cfg, keys: keys, reviews: make(chan struct{}, maxReviews)}
}

// Check refuses what could not be used, before it is kept.
func (v *Verifier) Check(t *fsm.Trust) error {
	if t.CAPEM != "" {
		if _, err := authorities(t.CAPEM); err != nil {
			return err
		}
	}
	for i, san := range t.SANs {
		kind, name, _ := strings.Cut(san, ":")
		if !slices.Contains([]string{"dns", "uri", "email"}, kind) || strings.Trim(name, "*.:/@") == "" {
			return fault.Invalid(item("sans", i), "must be dns:, uri: or email: and a name; * alone would let in every certificate of the authority")
		}
	}
	for i, account := range t.ServiceAccounts {
		if namespace, name, ok := strings.Cut(account, "/"); !ok || namespace == "" || name == "" || strings.Contains(name, "/") {
			return fault.Invalid(item("serviceAccounts", i), "must be NAMESPACE/NAME")
		}
	}
	if t.JWKS != "" {
		keys, err := parseKeys([]byte(t.JWKS))
		if err != nil || len(keys) == 0 {
			return fault.Invalid("jwks", "must be a JSON Web Key Set with at least one public key for signatures (RSA from 2048 bits, P-256, P-384, P-521 or Ed25519)")
		}
	}
	for _, u := range []struct{ field, text string }{{"jwksUrl", t.JWKSURL}, {"tokenReviewUrl", t.TokenReviewURL}} {
		if u.text != "" {
			if err := checkURL(u.field, u.text); err != nil {
				return err
			}
		}
	}
	if t.Issuer != "" && (t.Kind == fsm.TrustOIDC || t.JWKS == "" && t.JWKSURL == "") {
		return checkURL("issuer", t.Issuer)
	}
	return nil
}

// checkURL takes https only: what decides who is let in must come from whom it
// claims to, and a password in a URL would be kept and shown.
func checkURL(field, text string) error {
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "https" || u.Hostname() == "" || u.User != nil || u.Fragment != "" || u.Opaque != "" {
		return fault.Invalid(field, "must be https://HOST, without a user or a fragment")
	}
	return nil
}

func authorities(text string) (*x509.CertPool, error) {
	pool, rest, found := x509.NewCertPool(), []byte(text), false
	for {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			return nil, fault.Invalid("caPem", "holds something else than certificates; a private key does not belong here")
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fault.Invalid("caPem", "holds a certificate that cannot be read")
		}
		pool.AddCert(cert)
		found = true
	}
	if !found || strings.TrimSpace(string(rest)) != "" {
		return nil, fault.Invalid("caPem", "must be certificates in PEM and nothing else")
	}
	return pool, nil
}

// Verify implements engine.TrustVerifier.
func (v *Verifier) Verify(ctx context.Context, t *fsm.Trust, jwt []byte, now time.Time) (engine.Assertion, error) {
	parsed, err := parse(jwt)
	if err != nil {
		return engine.Assertion{}, err
	}
	if t.TokenReviewURL != "" {
		return v.review(ctx, t, parsed, jwt, now)
	}
	// What costs nothing first: most of what is no JWT for this trust is told
	// before a key is looked for, and before an issuer is asked.
	if err := parsed.about(t); err != nil {
		return engine.Assertion{}, err
	}
	expires, err := parsed.times(t, now)
	if err != nil {
		return engine.Assertion{}, err
	}
	keys, err := v.keysFor(ctx, t, parsed.kid, now)
	if err != nil {
		return engine.Assertion{}, err
	}
	if err := parsed.signedBy(keys, t.Algorithms, jwt); err != nil {
		return engine.Assertion{}, err
	}
	return engine.Assertion{Claims: parsed.claims, ExpiresAt: expires}, nil
}
