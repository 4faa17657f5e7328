package fsm

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/strongroom/strongroom/internal/names"
)

// Kinds of trusts, which are also the methods of the tokens that login makes
// by them.
const (
	TrustOIDC        = "oidc"
	TrustJWT         = "jwt"
	TrustKubernetes  = "kubernetes"
	TrustCertificate = "certificate"
)

// How a server shows to a Kubernetes API who asks for a review.
const (
	ReviewerSelf = "self" // by the token that is reviewed
	ReviewerFile = "file" // by a token in a file that the server's configuration names
)

// Bounds of trusts.
const (
	maxTrusts       = 256
	maxCertTrusts   = 32 // a certificate is held against each of them
	maxTrustList    = 64
	maxTrustText    = 512
	maxTrustPEM     = 64 << 10
	maxTrustKeys    = 64 << 10
	maxTrustClaims  = 32
	maxSerials      = 1000
	maxClockSkew    = int64(60 * 1000)
	maxLoginTTL     = int64(12 * 60 * 60 * 1000)
	maxLoginGroups  = 64
	loginTokenKept  = int64(24 * 60 * 60 * 1000)
	minLoginTTL     = int64(60 * 1000)
	trustAlgorithms = "RS256 RS384 RS512 PS256 PS384 PS512 ES256 ES384 ES512 EdDSA"
)

// Algorithms answers what a trust may name: signatures with a private key
// that only the issuer has. There is no "none" and nothing with a shared key.
func Algorithms() []string { return strings.Fields(trustAlgorithms) }

// Trust says whose word is taken for who somebody is: an issuer of JWTs, a
// Kubernetes cluster, or an authority of client certificates; and whom that
// word makes of a caller.
type Trust struct {
	Name     string `cbor:"1,keyasint,omitempty"`
	Revision uint64 `cbor:"2,keyasint,omitempty"` // from 1
	// Epoch is the index at which it last changed who is let in, or as whom.
	// A token that login made holds the epoch of its trust, and is good only
	// while the trust has the same one: no two trusts of one name share any.
	Epoch uint64 `cbor:"3,keyasint,omitempty"`
	Kind  string `cbor:"4,keyasint,omitempty"`

	Issuer     string            `cbor:"5,keyasint,omitempty"`
	JWKSURL    string            `cbor:"6,keyasint,omitempty"`
	JWKS       string            `cbor:"7,keyasint,omitempty"` // static public keys, JSON
	CAPEM      string            `cbor:"8,keyasint,omitempty"` // of the issuer's TLS; of the certificates
	Audiences  []string          `cbor:"9,keyasint,omitempty"`
	Algorithms []string          `cbor:"10,keyasint,omitempty"`
	Claims     map[string]string `cbor:"11,keyasint,omitempty"` // name → pattern, all of them

	Principal       string   `cbor:"12,keyasint,omitempty"`
	PrincipalClaim  string   `cbor:"13,keyasint,omitempty"`
	PrincipalPrefix string   `cbor:"14,keyasint,omitempty"`
	Groups          []string `cbor:"15,keyasint,omitempty"`
	GroupsClaim     string   `cbor:"16,keyasint,omitempty"`
	GroupsPrefix    string   `cbor:"17,keyasint,omitempty"`
	AllowedGroups   []string `cbor:"18,keyasint,omitempty"` // patterns; none: all of the claim

	TTL       int64    `cbor:"19,keyasint,omitempty"` // milliseconds, of the tokens
	ClockSkew int64    `cbor:"20,keyasint,omitempty"` // milliseconds
	ClientID  string   `cbor:"21,keyasint,omitempty"` // for login by device, nothing secret
	Scopes    []string `cbor:"22,keyasint,omitempty"`

	TokenReviewURL  string   `cbor:"23,keyasint,omitempty"`
	TokenReviewer   string   `cbor:"24,keyasint,omitempty"`
	ServiceAccounts []string `cbor:"25,keyasint,omitempty"` // patterns "namespace/name"
	SANs            []string `cbor:"26,keyasint,omitempty"` // patterns "dns:…", "uri:…", "email:…"
	RevokedSerials  []string `cbor:"27,keyasint,omitempty"` // hexadecimal, lower case

	Reason    string `cbor:"28,keyasint,omitempty"`
	UpdatedAt int64  `cbor:"29,keyasint,omitempty"`
	UpdatedBy string `cbor:"30,keyasint,omitempty"`
}

// PutTrust makes or replaces a trust.
type PutTrust struct {
	Meta  Meta  `cbor:"1,keyasint,omitempty"`
	Trust Trust `cbor:"2,keyasint,omitempty"`
}

// DeleteTrust removes a trust, and ends every token that was made by it.
type DeleteTrust struct {
	Meta Meta   `cbor:"1,keyasint,omitempty"`
	Name string `cbor:"2,keyasint,omitempty"`
}

// Login makes a token for who was let in by a trust. Token names the trust
// and the epoch that was looked at: if it is another by now, nobody is let in.
type Login struct {
	Meta  Meta  `cbor:"1,keyasint,omitempty"`
	Token Token `cbor:"2,keyasint,omitempty"`
}

// Kind answers the number of the command.
func (PutTrust) Kind() Kind    { return KindPutTrust }
func (DeleteTrust) Kind() Kind { return KindDeleteTrust }
func (Login) Kind() Kind       { return KindLogin }

func (c PutTrust) meta() Meta    { return c.Meta }
func (c DeleteTrust) meta() Meta { return c.Meta }
func (c Login) meta() Meta       { return c.Meta }

// Trust answers the trust of this name, nil if there is none.
func (s *State) Trust(name string) *Trust { return at(s.trusts, []byte(name)) }

// Trusts answers the trusts with names greater than after, in order.
func (s *State) Trusts(after string) func(yield func(*Trust) bool) {
	return values(scan(s.trusts.Root(), nil, following(after)))
}

// Stands reports whether the trust that made k still lets in whom it let in
// then. It is true for a token that no trust made.
func (s *State) Stands(k *Token) bool {
	if k.Trust == "" {
		return true
	}
	trust := s.Trust(k.Trust)
	return trust != nil && trust.Epoch == k.TrustEpoch
}

func putTrust(t *txn, c PutTrust) (Result, *Refusal) {
	trust := c.Trust
	if r := checkTrust(&trust); r != nil {
		return Result{}, r
	}
	if trust.Principal != "" {
		if _, r := t.principal("principal", trust.Principal); r != nil {
			return Result{}, r
		}
	}
	old := t.trusts.value([]byte(trust.Name))
	if r := t.checkTrustCount(old, &trust); r != nil {
		return Result{}, r
	}
	trust.Revision, trust.Epoch, trust.UpdatedAt, trust.UpdatedBy = 1, t.index, t.now, t.by
	if old != nil {
		trust.Revision = old.Revision + 1
		if letsInAlike(old, &trust) {
			trust.Epoch = old.Epoch
		}
	}
	t.trusts.put([]byte(trust.Name), &trust)
	return Result{Name: trust.Name, Revision: trust.Revision}, nil
}

func (t *txn) checkTrustCount(old, trust *Trust) *Refusal {
	count, certificates := 1, 0
	if trust.Kind == TrustCertificate {
		certificates = 1
	}
	for _, other := range t.trusts.collect(nil, 0) {
		if old != nil && other.Name == old.Name {
			continue
		}
		count++
		if other.Kind == TrustCertificate {
			certificates++
		}
	}
	if count > maxTrusts || certificates > maxCertTrusts {
		return conflict("name: there are %d trusts and %d of them of kind certificate, which are the most allowed; delete one first", min(count-1, maxTrusts), min(certificates, maxCertTrusts))
	}
	return nil
}

// letsInAlike reports whether nobody is let in by one of the two who would
// not be by the other, and everybody as the same. What is left out here only
// shapes the next login.
func letsInAlike(a, b *Trust) bool {
	x, y := *a, *b
	for _, one := range []*Trust{&x, &y} {
		one.Revision, one.Epoch, one.TTL, one.ClockSkew, one.ClientID, one.Scopes, one.RevokedSerials = 0, 0, 0, 0, "", nil, nil
		one.Reason, one.UpdatedAt, one.UpdatedBy = "", 0, ""
	}
	// By their encoding: an empty list and none are the same there.
	left, errLeft := codec.enc.Marshal(x)
	right, errRight := codec.enc.Marshal(y)
	return errLeft == nil && errRight == nil && bytes.Equal(left, right)
}

func deleteTrust(t *txn, c DeleteTrust) (Result, *Refusal) {
	if r := checkName("name", c.Name); r != nil {
		return Result{}, r
	}
	if t.trusts.value([]byte(c.Name)) == nil {
		return Result{}, notFound("name: there is no trust %s", c.Name)
	}
	t.trusts.remove([]byte(c.Name))
	return Result{Name: c.Name}, nil
}

// login decides again what does not need the JWT: that the trust is the one
// that was looked at, and that the token is no wider than a trust can make it.
func login(t *txn, c Login) (Result, *Refusal) {
	k := c.Token
	if r := t.checkToken(k); r != nil {
		return Result{}, r
	}
	trust := t.trusts.value([]byte(k.Trust))
	switch {
	case k.Trust == "" || trust == nil || trust.Epoch != k.TrustEpoch:
		return Result{}, conflict("trust: was changed or deleted meanwhile; log in again")
	case trust.Kind == TrustCertificate || k.Method != trust.Kind:
		return Result{}, conflict("trust: makes no tokens of this method")
	case trust.Principal != "" && trust.Principal != k.Principal:
		return Result{}, conflict("trust: is for another principal")
	case k.ExpiresAt > t.now+maxLoginTTL:
		return Result{}, invalid("ttl", "a token of a login lives at most 12 hours")
	case len(k.Groups) > maxLoginGroups:
		return Result{}, invalid("groups", "has %d entries; at most %d are allowed", len(k.Groups), maxLoginGroups)
	}
	for i, group := range k.Groups {
		if r := checkName(fmt.Sprintf("groups[%d]", i), group); r != nil {
			return Result{}, r
		}
	}
	if _, r := t.trusted("principal", k.Principal); r != nil {
		return Result{}, r
	}
	k.Groups = slices.Compact(slices.Sorted(slices.Values(k.Groups)))
	t.addToken(k)
	return Result{TokenID: k.ID, Name: k.Principal, DueAt: k.ExpiresAt}, nil
}

// forgetAt is when a token leaves the state. Those of logins come by the
// thousand, each good for hours; the trail keeps whose they were.
func (k *Token) forgetAt() int64 {
	if k.Trust != "" {
		return k.ExpiresAt + loginTokenKept
	}
	return k.ExpiresAt + tokenKept
}

func (t *txn) restoreTrust(trust *Trust) (string, error) {
	if checkTrust(trust) != nil || trust.Revision == 0 || trust.Epoch == 0 || trust.Epoch > t.index {
		return "", errors.New("a trust is none that could have been put")
	}
	t.trusts.put([]byte(trust.Name), trust)
	return trust.Name, nil
}

// checkNamePrefix refuses what no name can begin with.
func checkNamePrefix(field, prefix string) *Refusal {
	if prefix == "" {
		return nil
	}
	if _, err := names.ParseName(prefix + "x"); err != nil || len(prefix) > 64 {
		return invalid(field, "must be what a name can begin with, at most 64 characters")
	}
	return nil
}
