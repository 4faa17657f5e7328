package fsm

import (
	"fmt"
	"slices"
)

// checkTrust decides what a trust may say. The form of URLs, keys and
// certificates is the engine's to check, which can parse them; what would let
// in too many is decided here as well.
func checkTrust(k *Trust) *Refusal {
	if r := checkName("name", k.Name); r != nil {
		return r
	}
	if r := checkTrustTexts(k); r != nil {
		return r
	}
	if r := checkTrustLists(k); r != nil {
		return r
	}
	if r := checkTrustWhom(k); r != nil {
		return r
	}
	switch k.Kind {
	case TrustOIDC, TrustJWT, TrustKubernetes:
		return checkIssuerTrust(k)
	case TrustCertificate:
		return checkCertificateTrust(k)
	}
	return invalid("kind", "must be oidc, jwt, kubernetes or certificate")
}

func checkTrustTexts(k *Trust) *Refusal {
	for _, text := range []struct {
		field, value string
		most         int
	}{
		{"issuer", k.Issuer, maxTrustText}, {"jwksUrl", k.JWKSURL, maxTrustText}, {"tokenReviewUrl", k.TokenReviewURL, maxTrustText},
		{"principalClaim", k.PrincipalClaim, maxTrustText}, {"groupsClaim", k.GroupsClaim, maxTrustText},
		{"clientId", k.ClientID, maxTrustText}, {"jwks", k.JWKS, maxTrustKeys}, {"caPem", k.CAPEM, maxTrustPEM}, {"reason", k.Reason, 1024},
	} {
		if len(text.value) > text.most {
			return invalid(text.field, "has %d bytes; at most %d are allowed", len(text.value), text.most)
		}
	}
	if k.ClockSkew < 0 || k.ClockSkew > maxClockSkew {
		return invalid("clockSkew", "must be 0s to 60s")
	}
	if k.Kind != TrustCertificate && (k.TTL < minLoginTTL || k.TTL > maxLoginTTL) {
		return invalid("ttl", "must be 1m to 12h")
	}
	if r := checkNamePrefix("principalPrefix", k.PrincipalPrefix); r != nil {
		return r
	}
	return checkNamePrefix("groupsPrefix", k.GroupsPrefix)
}

func checkTrustLists(k *Trust) *Refusal {
	for _, list := range []struct {
		field string
		items []string
		most  int
	}{
		{"audiences", k.Audiences, maxTrustList}, {"algorithms", k.Algorithms, maxTrustList}, {"groups", k.Groups, maxLoginGroups},
		{"allowedGroups", k.AllowedGroups, maxTrustList}, {"scopes", k.Scopes, maxTrustList},
		{"serviceAccounts", k.ServiceAccounts, maxTrustList}, {"sans", k.SANs, maxTrustList}, {"revokedSerials", k.RevokedSerials, maxSerials},
	} {
		if len(list.items) > list.most {
			return invalid(list.field, "has %d entries; at most %d are allowed", len(list.items), list.most)
		}
		for i, item := range list.items {
			if item == "" || len(item) > maxTrustText {
				return invalid(fmt.Sprintf("%s[%d]", list.field, i), "must have 1 to %d bytes", maxTrustText)
			}
		}
	}
	for i, group := range k.Groups {
		if r := checkName(fmt.Sprintf("groups[%d]", i), group); r != nil {
			return r
		}
	}
	if len(k.Claims) > maxTrustClaims {
		return invalid("claims", "has %d entries; at most %d are allowed", len(k.Claims), maxTrustClaims)
	}
	for _, name := range sorted(k.Claims) {
		if pattern := k.Claims[name]; name == "" || pattern == "" || len(name)+len(pattern) > maxTrustText {
			return invalid("claims", "must each have a name and a pattern, at most %d bytes together", maxTrustText)
		}
	}
	return nil
}

// checkTrustWhom: a trust makes one principal of everybody, or each caller's
// own of a claim, never both.
func checkTrustWhom(k *Trust) *Refusal {
	switch {
	case (k.Principal == "") == (k.PrincipalClaim == ""):
		return invalid("principal", "give principal, or principalClaim, and not both")
	case k.PrincipalClaim == "" && k.PrincipalPrefix != "":
		return invalid("principalPrefix", "goes with principalClaim")
	case k.GroupsClaim == "" && (k.GroupsPrefix != "" || len(k.AllowedGroups) > 0):
		return invalid("groupsClaim", "is missing; groupsPrefix and allowedGroups go with it")
	}
	if k.Principal != "" {
		return checkName("principal", k.Principal)
	}
	return nil
}

func checkIssuerTrust(k *Trust) *Refusal {
	review := k.TokenReviewURL != ""
	switch {
	case len(k.Audiences) == 0:
		return invalid("audiences", "is missing: a JWT that was made for another service would be taken here")
	case review && (k.Kind != TrustKubernetes || k.Issuer != "" || k.JWKSURL != "" || k.JWKS != ""):
		return invalid("tokenReviewUrl", "is for kind kubernetes, in place of issuer, jwksUrl and jwks")
	case review != (k.TokenReviewer == ReviewerSelf || k.TokenReviewer == ReviewerFile) || !review && k.TokenReviewer != "":
		return invalid("tokenReviewer", "must be self or file, with tokenReviewUrl only")
	case !review && k.Issuer == "":
		return invalid("issuer", "is missing")
	case k.JWKSURL != "" && k.JWKS != "":
		return invalid("jwks", "and jwksUrl cannot both be given")
	case !review && len(k.Algorithms) == 0:
		return invalid("algorithms", "is missing")
	case len(k.SANs)+len(k.RevokedSerials) > 0:
		return invalid("sans", "and revokedSerials are for kind certificate")
	case len(k.ServiceAccounts) > 0 != (k.Kind == TrustKubernetes):
		return invalid("serviceAccounts", "is what kind kubernetes needs, and no other kind takes: NAMESPACE/NAME, with * for any")
	case k.Principal != "" && k.Kind != TrustKubernetes && len(k.Claims) == 0:
		return invalid("claims", "is missing: with a fixed principal everybody to whom the issuer gives a JWT would become it; {\"sub\":\"*\"} says that this is meant")
	}
	for i, algorithm := range k.Algorithms {
		if !slices.Contains(Algorithms(), algorithm) {
			return invalid(fmt.Sprintf("algorithms[%d]", i), "must be one of %s", trustAlgorithms)
		}
	}
	return nil
}

func checkCertificateTrust(k *Trust) *Refusal {
	switch {
	case k.CAPEM == "":
		return invalid("caPem", "is missing: the authority that signs the clients' certificates")
	case len(k.SANs) == 0:
		return invalid("sans", "is missing: dns:, uri: or email: names that a certificate must have")
	case k.Principal == "":
		return invalid("principal", "is missing")
	case k.Issuer+k.JWKSURL+k.JWKS+k.TokenReviewURL+k.TokenReviewer+k.GroupsClaim+k.ClientID != "":
		return invalid("issuer", "and all else about JWTs is not for kind certificate")
	case len(k.Audiences)+len(k.Algorithms)+len(k.Claims)+len(k.Scopes)+len(k.ServiceAccounts) > 0:
		return invalid("audiences", "and all else about JWTs is not for kind certificate")
	case k.TTL != 0 || k.ClockSkew != 0:
		return invalid("ttl", "and clockSkew are not for kind certificate: a certificate is good for as long as it says")
	}
	return nil
}
