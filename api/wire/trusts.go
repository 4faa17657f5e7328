package wire

import "github.com/go-json-experiment/json/jsontext"

// PutTrustRequest makes or replaces a trust.
type PutTrustRequest struct {
	Write
	Name string `json:"name" doc:"name of the trust; login names it"`
	Kind string `json:"kind" doc:"oidc, jwt, kubernetes or certificate"`

	Issuer     string            `json:"issuer,omitzero" doc:"URL that the iss claim must equal; of kind oidc, where its configuration is found"`
	JWKSURL    string            `json:"jwksUrl,omitzero" doc:"where the issuer's public keys are (default: as its configuration says)"`
	JWKS       jsontext.Value    `json:"jwks,omitzero" doc:"the issuer's public keys themselves, for servers that cannot reach it: a JSON Web Key Set"`
	CAPEM      string            `json:"caPem,omitzero" doc:"certificates of authorities, PEM: of the issuer's TLS (default the system's); of kind certificate, of the clients' certificates"`
	Audiences  []string          `json:"audiences,omitzero" doc:"a JWT must be for one of them; needed for every kind but certificate"`
	Algorithms []string          `json:"algorithms,omitzero" doc:"signatures that are taken (default RS256, PS256, ES256, ES384, EdDSA)"`
	Claims     map[string]string `json:"claims,omitzero" doc:"claim=pattern, * stands for any text; all must match; a.b reaches into an object; one element of a list is enough"`

	Principal       string   `json:"principal,omitzero" doc:"whom everybody that the trust lets in becomes"`
	PrincipalClaim  string   `json:"principalClaim,omitzero" doc:"instead: the claim that names an existing principal"`
	PrincipalPrefix string   `json:"principalPrefix,omitzero" doc:"stands before what principalClaim says"`
	Groups          []string `json:"groups,omitzero" doc:"groups that everybody whom the trust lets in is in, while the token lives"`
	GroupsClaim     string   `json:"groupsClaim,omitzero" doc:"claim that names more groups"`
	GroupsPrefix    string   `json:"groupsPrefix,omitzero" doc:"stands before what groupsClaim says"`
	AllowedGroups   []string `json:"allowedGroups,omitzero" doc:"patterns; other groups of the claim are left out (default: none are)"`

	TTL       *Duration `json:"ttl,omitzero" doc:"how long a token lives, at most as long as the JWT (default 1h, at most 12h)"`
	ClockSkew *Duration `json:"clockSkew,omitzero" doc:"by how much the issuer's clock may differ (default 30s, at most 60s)"`
	ClientID  string    `json:"clientId,omitzero" doc:"client at the issuer for strongroom login; public, without a secret"`
	Scopes    []string  `json:"scopes,omitzero" doc:"what strongroom login asks the issuer for (default openid)"`

	TokenReviewURL  string   `json:"tokenReviewUrl,omitzero" doc:"https://HOST:PORT of a Kubernetes API that reviews each token, instead of issuer and keys"`
	TokenReviewer   string   `json:"tokenReviewer,omitzero" doc:"who asks for the review: self (by the token itself) or file (by login.tokenReviewerFile of the server)"`
	ServiceAccounts []string `json:"serviceAccounts,omitzero" doc:"NAMESPACE/NAME, * in either for any text; needed for kind kubernetes"`
	SANs            []string `json:"sans,omitzero" doc:"dns:, uri: or email: names, one of which a certificate must have; * stands for one label of a dns: name, and for any text without / in a uri:"`
	RevokedSerials  []string `json:"revokedSerials,omitzero" doc:"serial numbers of certificates that are not taken, hexadecimal"`
	Reason          string   `json:"reason,omitzero" doc:"why, at most 1024 bytes"`
}

// PutTrustResponse tells the revision.
type PutTrustResponse struct {
	Name     string `json:"name"`
	Revision uint64 `json:"revision"`
}

// TrustResponse is a trust. Nothing in it is secret.
type TrustResponse struct {
	Name            string            `json:"name"`
	Revision        uint64            `json:"revision"`
	Kind            string            `json:"kind"`
	Issuer          string            `json:"issuer,omitzero"`
	JWKSURL         string            `json:"jwksUrl,omitzero"`
	JWKS            jsontext.Value    `json:"jwks,omitzero"`
	CAPEM           string            `json:"caPem,omitzero"`
	Audiences       []string          `json:"audiences,omitzero"`
	Algorithms      []string          `json:"algorithms,omitzero"`
	Claims          map[string]string `json:"claims,omitzero"`
	Principal       string            `json:"principal,omitzero"`
	PrincipalClaim  string            `json:"principalClaim,omitzero"`
	PrincipalPrefix string            `json:"principalPrefix,omitzero"`
	Groups          []string          `json:"groups,omitzero"`
	GroupsClaim     string            `json:"groupsClaim,omitzero"`
	GroupsPrefix    string            `json:"groupsPrefix,omitzero"`
	AllowedGroups   []string          `json:"allowedGroups,omitzero"`
	TTL             *Duration         `json:"ttl,omitzero"`
	ClockSkew       *Duration         `json:"clockSkew,omitzero"`
	ClientID        string            `json:"clientId,omitzero"`
	Scopes          []string          `json:"scopes,omitzero"`
	TokenReviewURL  string            `json:"tokenReviewUrl,omitzero"`
	TokenReviewer   string            `json:"tokenReviewer,omitzero"`
	ServiceAccounts []string          `json:"serviceAccounts,omitzero"`
	SANs            []string          `json:"sans,omitzero"`
	RevokedSerials  []string          `json:"revokedSerials,omitzero"`
	Reason          string            `json:"reason,omitzero"`
	UpdatedAt       *Time             `json:"updatedAt"`
	UpdatedBy       string            `json:"updatedBy"`
}

// ListTrustsResponse is ordered by name.
type ListTrustsResponse struct {
	Trusts     []TrustResponse `json:"trusts"`
	NextCursor string          `json:"nextCursor,omitzero"`
}

// LoginRequest gives a JWT for a token. It needs no other credential.
type LoginRequest struct {
	Write
	Trust string `json:"trust" doc:"name of the trust"`
	JWT   *Text  `json:"jwt" doc:"the JWT, at most 16 KiB"`
}

// LoginResponse shows the token once.
type LoginResponse struct {
	Token     *Text  `json:"token"`
	TokenID   string `json:"tokenId"`
	ExpiresAt *Time  `json:"expiresAt"`
}

// DescribeLoginRequest asks how to log in. It needs no credential.
type DescribeLoginRequest struct {
	Trust string `json:"trust" doc:"name of the trust"`
}

// DescribeLoginResponse is what a program needs to get a JWT from the issuer.
type DescribeLoginResponse struct {
	Trust    string   `json:"trust"`
	Kind     string   `json:"kind"`
	Issuer   string   `json:"issuer,omitzero"`
	ClientID string   `json:"clientId,omitzero"`
	Scopes   []string `json:"scopes,omitzero"`
	CAPEM    string   `json:"caPem,omitzero"`
}
