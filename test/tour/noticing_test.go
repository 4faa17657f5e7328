package tour_test

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// Every command of the manual about noticing works, from the canary to the
// release, and shows what the text around it says.
func TestTheManualOfNoticing(t *testing.T) {
	c := suite.Fresh(t, 1)
	lines := manualLines(t, "noticing.md")
	require.Greater(t, len(lines), 18, "the commands must have been found")
	printed := runLines(t, c, checkout(t, c), lines)
	const path = "/app/demo/legacy/root-password"
	for line, want := range map[string]string{
		"strongroom canary ls":      path + ` .*in the wiki of 2019`,
		"strongroom detectors show": `(?m)^read_volume +yes +100 +4 +no`,
		"STRONGROOM_TOKEN_FILE=web.token strongroom secret get " + path: `^not a password$`,
		"strongroom audit query --principal demo-web":                   `secrets\.get_value`,
		"strongroom incident demo-web --since 72h":                      `demo-web was given 1 versions (.|\n)*` + path + ` +1 +1 (.|\n)*To be rotated by hand(.|\n)*` + path,
		"strongroom principal describe demo-web":                        `quarantined`,
		"strongroom secrets list-compromised":                           path + ` +1 +active +yes`,
	} {
		require.Contains(t, lines, line, "the manual has changed; change this test with it")
		require.Regexp(t, want, printed[line], line)
	}
	metrics := c.Metrics(1)
	require.Regexp(t, `(?m)^strongroom_principals_quarantined 0$`, metrics)
	require.Regexp(t, `(?m)^strongroom_versions_compromised 1$`, metrics)
	c.Await("the alert", func() bool {
		return len(c.OK(1, "audit/queryEvents", `{"event":"alert.canary"}`)["events"].([]any)) == 1
	})
}
