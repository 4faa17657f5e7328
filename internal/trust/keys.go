package trust

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"errors"
	"strings"
	"sync"
	"time"

	jose "github.com/go-jose/go-jose/v4"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/strongroom/strongroom/fsm"
)

// How keys are kept. An issuer that rotates is followed at once, by the key id
// that is not known yet; one that withdraws a key within refreshAfter; one that
// is down is done without for staleFor.
const (
	refreshAfter = 10 * time.Minute
	askAgain     = 10 * time.Second // at the soonest, however many unknown key ids come
	staleFor     = 24 * time.Hour
	maxKeys      = 100
	minRSA       = 2048
)

// errNoKeys says that the issuer could not be asked, and never was or too long
// ago.
var errNoKeys = errors.New("the keys of the issuer are not known: it cannot be reached")

// keyring is what is known of one trust's keys.
type keyring struct {
	asking chan struct{} // holds one while somebody asks the issuer

	mu      sync.Mutex
	epoch   uint64 // of the trust that the keys are for
	keys    []jose.JSONWebKey
	fetched time.Time // zero: never
	tried   time.Time
}

// keysFor answers the keys of the trust's issuer, among them kid if it has it.
func (v *Verifier) keysFor(ctx context.Context, t *fsm.Trust, kid string, now time.Time) ([]jose.JSONWebKey, error) {
	ring := v.ring(t)
	if keys, good := ring.look(kid, now); good {
		return keys, nil
	}
	select {
	case ring.asking <- struct{}{}:
		defer func() { <-ring.asking }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	keys, good := ring.look(kid, now) // as somebody else may have asked by now
	if good || !ring.mayAsk(now) {
		return usable(keys, good)
	}
	fetched, err := v.fetchKeys(ctx, t)
	if err != nil {
		v.cfg.Logger.Warn("the keys of an issuer could not be fetched", "trust", t.Name, "error", err)
		return usable(keys, false)
	}
	ring.mu.Lock()
	defer ring.mu.Unlock()
	ring.keys, ring.fetched = fetched, now
	return fetched, nil
}

// usable answers what is known, however old look found it.
func usable(keys []jose.JSONWebKey, good bool) ([]jose.JSONWebKey, error) {
	if !good && len(keys) == 0 {
		return nil, errNoKeys
	}
	return keys, nil
}

// ring answers the keyring of the trust as it is now.
func (v *Verifier) ring(t *fsm.Trust) *keyring {
	fresh := &keyring{asking: make(chan struct{}, 1), epoch: t.Epoch}
	for {
		ring, there, _ := v.keys.PeekOrAdd(t.Name, fresh)
		if !there {
			return fresh
		}
		if ring.epoch == t.Epoch {
			return ring
		}
		// Keys of what the trust was before serve nobody any more.
		v.keys.Remove(t.Name)
	}
}

// look answers the keys that are not too old to be used, and whether there is
// no need to ask for newer ones.
func (r *keyring) look(kid string, now time.Time) ([]jose.JSONWebKey, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	age := now.Sub(r.fetched)
	if r.fetched.IsZero() || age > staleFor || age < -staleFor {
		return nil, false
	}
	if age >= refreshAfter || age < 0 {
		return r.keys, false
	}
	for _, key := range r.keys {
		if kid == "" || key.KeyID == kid {
			return r.keys, true
		}
	}
	return r.keys, false
}

// mayAsk notes that the issuer is asked at now, if it may be.
func (r *keyring) mayAsk(now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if since := now.Sub(r.tried); !r.tried.IsZero() && since >= 0 && since < askAgain {
		return false
	}
	r.tried = now
	return true
}

// fetchKeys answers the issuer's keys, from where the trust says or the
// issuer's configuration does (OpenID Connect Discovery 1.0, section 4).
func (v *Verifier) fetchKeys(ctx context.Context, t *fsm.Trust) ([]jose.JSONWebKey, error) {
	if t.JWKS != "" {
		return parseKeys([]byte(t.JWKS))
	}
	// Others wait for this answer too: it does not end with the one caller.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), fetchTime)
	defer cancel()
	from := t.JWKSURL
	if from == "" {
		var configuration struct {
			Issuer  string `json:"issuer"`
			JWKSURI string `json:"jwks_uri"`
		}
		raw, err := get(ctx, t, strings.TrimSuffix(t.Issuer, "/")+"/.well-known/openid-configuration")
		if err != nil {
			return nil, err
		}
		if err := json.Unmarshal(raw, &configuration); err != nil || configuration.Issuer != t.Issuer {
			return nil, errors.New("the configuration at the issuer's URL is not the one of this issuer")
		}
		if from = configuration.JWKSURI; checkURL("jwks_uri", from) != nil {
			return nil, errors.New("the issuer's configuration names no https URL of keys")
		}
	}
	raw, err := get(ctx, t, from)
	if err != nil {
		return nil, err
	}
	return parseKeys(raw)
}

// parseKeys reads a JSON Web Key Set (RFC 7517, section 5), and leaves out what
// cannot verify a signature: other uses, other kinds, keys that are too short.
func parseKeys(raw []byte) ([]jose.JSONWebKey, error) {
	var set struct {
		Keys []jsontext.Value `json:"keys"`
	}
	if err := json.Unmarshal(raw, &set); err != nil || set.Keys == nil {
		return nil, errors.New("the keys are no JSON Web Key Set")
	}
	if len(set.Keys) > maxKeys {
		return nil, errors.New("there are more keys than an issuer can have")
	}
	out := make([]jose.JSONWebKey, 0, len(set.Keys))
	for _, one := range set.Keys {
		var key jose.JSONWebKey
		if err := key.UnmarshalJSON(one); err == nil && verifies(key) {
			out = append(out, key)
		}
	}
	return out, nil
}

func verifies(key jose.JSONWebKey) bool {
	if key.Use != "" && key.Use != "sig" || !key.Valid() {
		return false
	}
	switch public := key.Key.(type) {
	case *rsa.PublicKey:
		return public.N.BitLen() >= minRSA && public.N.BitLen() <= 8192
	case *ecdsa.PublicKey, ed25519.PublicKey:
		return true
	}
	return false // private and shared keys
}
