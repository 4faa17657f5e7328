package config

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestProxiesThatTrustTheWrongAreFaultsOfTheFile(t *testing.T) {
	with := func(api string) error {
		_, err := Parse([]byte(strings.Replace(smallest, `api: {advertise: "10.0.0.1:7400"}`, "api:\n  advertise: 10.0.0.1:7400\n"+api, 1)))
		return err
	}
	require.NoError(t, with("  trustedProxies: [10.0.0.0/24, \"2001:db8::/64\"]\n  proxyProtocol: true\n"))
	for text, says := range map[string]string{
		"  trustedProxies: [10.0.0.1]\n":    "api.trustedProxies: must be a CIDR range",
		"  trustedProxies: [0.0.0.0/0]\n":   "api.trustedProxies: 0.0.0.0/0 trusts everybody",
		"  trustedProxies: [10.0.0.1/24]\n": "write 10.0.0.0/24",
		"  proxyProtocol: true\n":           "api.trustedProxies: is empty, so nobody may send the header",
		"  trustedProxy: [10.0.0.0/24]\n":   "trustedProxy is not a setting",
		"  proxyProtocol: v2\n":             "line",
	} {
		require.ErrorContains(t, with(text), says, text)
	}
}
