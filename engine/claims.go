package engine

import (
	"strconv"
	"strings"

	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/internal/names"
)

// maxReadings bounds in how many ways a dotted name is read: it is split at
// each of its dots.
const maxReadings = 16

// claimAt answers what a dotted name reaches. Claims have dots in their own
// names ("kubernetes.io"), so a name may be read in several ways; one that
// reaches two things reaches none, for nobody could say which was meant.
func claimAt(claims map[string]any, name string) (any, bool) {
	found := reach(claims, name, nil)
	if len(found) != 1 {
		return nil, false
	}
	return found[0], true
}

func reach(object map[string]any, name string, found []any) []any {
	if v, ok := object[name]; ok {
		found = append(found, v)
	}
	for i := 0; i < len(name) && len(found) < maxReadings; i++ {
		if name[i] != '.' {
			continue
		}
		if inner, ok := object[name[:i]].(map[string]any); ok {
			found = reach(inner, name[i+1:], found)
		}
	}
	return found
}

// texts answers a claim as texts: the elements of a list, or the one value.
// Objects, null and numbers with a fraction have none: they match nothing.
func texts(claim any) []string {
	switch v := claim.(type) {
	case string:
		return []string{v}
	case bool:
		return []string{strconv.FormatBool(v)}
	case float64:
		if n := int64(v); float64(n) == v && n > -1<<53 && n < 1<<53 {
			return []string{strconv.FormatInt(n, 10)}
		}
	case []any:
		var out []string
		for _, item := range v {
			if _, list := item.([]any); !list {
				out = append(out, texts(item)...)
			}
		}
		return out
	}
	return nil
}

// claimsMatch reports whether every pattern is met.
func claimsMatch(patterns map[string]string, claims map[string]any) bool {
	for name, pattern := range patterns {
		claim, ok := claimAt(claims, name)
		if !ok || !anyMatch(pattern, texts(claim)) {
			return false
		}
	}
	return true
}

func anyMatch(pattern string, list []string) bool {
	for _, text := range list {
		if wildcard(pattern, text, "") {
			return true
		}
	}
	return false
}

// wildcard reports whether text is pattern, in which * stands for any text,
// also none, that holds none of the bytes of stops. It takes no longer than
// the product of the two lengths.
func wildcard(pattern, text, stops string) bool {
	p, t, star, from := 0, 0, -1, 0
	for t < len(text) {
		switch {
		case p < len(pattern) && pattern[p] == '*':
			star, from = p, t
			p++
		case p < len(pattern) && pattern[p] == text[t]:
			p++
			t++
		case star >= 0 && strings.IndexByte(stops, text[from]) < 0:
			from++
			p, t = star+1, from
		default:
			return false
		}
	}
	return strings.Trim(pattern[p:], "*") == ""
}

// serviceAccount answers "namespace/name" of a subject of Kubernetes.
func serviceAccount(subject string) (string, bool) {
	parts := strings.Split(subject, ":")
	if len(parts) != 4 || parts[0] != "system" || parts[1] != "serviceaccount" || parts[2] == "" || parts[3] == "" {
		return "", false
	}
	account := parts[2] + "/" + parts[3]
	return account, strings.Count(account, "/") == 1
}

// letsIn reports whether the trust is for who has these claims.
func letsIn(trust *fsm.Trust, claims map[string]any) bool {
	if !claimsMatch(trust.Claims, claims) {
		return false
	}
	if trust.Kind != fsm.TrustKubernetes {
		return true
	}
	subject, _ := claims["sub"].(string)
	account, ok := serviceAccount(subject)
	if !ok {
		return false
	}
	for _, pattern := range trust.ServiceAccounts {
		if wildcard(pattern, account, "/") {
			return true
		}
	}
	return false
}

// principalOf answers whom a trust makes of who has these claims.
func principalOf(trust *fsm.Trust, claims map[string]any) (string, bool) {
	if trust.Principal != "" {
		return trust.Principal, true
	}
	claim, ok := claimAt(claims, trust.PrincipalClaim)
	text, isText := claim.(string)
	if !ok || !isText || text == "" {
		return "", false
	}
	name := trust.PrincipalPrefix + text
	_, err := names.ParseName(name)
	return name, err == nil
}

// maxGroups is what Apply allows.
const maxGroups = 64

// groupsOf answers the groups that a trust puts the caller into. What is no
// name of a group is left out: nothing can be attached to it. Too many are an
// error, since one that is left out may be one that is denied something.
func groupsOf(trust *fsm.Trust, claims map[string]any) ([]string, bool) {
	seen := map[string]bool{}
	for _, group := range trust.Groups {
		seen[group] = true
	}
	if trust.GroupsClaim != "" {
		claim, _ := claimAt(claims, trust.GroupsClaim)
		for _, text := range texts(claim) {
			group := trust.GroupsPrefix + text
			if _, err := names.ParseName(group); err == nil && text != "" && allowedGroup(trust, group) {
				seen[group] = true
			}
		}
	}
	out := make([]string, 0, len(seen))
	for group := range seen {
		out = append(out, group)
	}
	sortStrings(out)
	return out, len(out) <= maxGroups
}

func allowedGroup(trust *fsm.Trust, group string) bool {
	for _, pattern := range trust.AllowedGroups {
		if wildcard(pattern, group, "") {
			return true
		}
	}
	return len(trust.AllowedGroups) == 0
}
