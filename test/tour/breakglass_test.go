package tour_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Every command of the manual about break-glass works, from the emergency to
// the review, and shows what the text around it says.
func TestTheManualOfBreakGlass(t *testing.T) {
	c := suite.Fresh(t, 1)
	lines := manualLines(t, "break-glass.md")
	require.Greater(t, len(lines), 25, "the commands must have been found")
	printed := runLines(t, c, checkout(t, c), lines)
	const path = "/app/demo/pay/db-password"
	for line, want := range map[string]string{
		"strongroom who-can secrets:getSecretValue " + path:                        `(?m)^ann +user +conditional +demo-emergency\[0\].* breakGlass`,
		"STRONGROOM_TOKEN_FILE=ann.token strongroom secret get " + path:            `^v1$`,
		"strongroom explain ann secrets:getSecretValue " + path:                    `^allowed: ann may .*; only while the break-glass session .* is open, which waives the times of access policy demo-past\n`,
		"STRONGROOM_TOKEN_FILE=ann.token strongroom break-glass ls":                `of ann: incident 7: payments are down\n  opened at .* for demo-emergency, open until .*; versions read: 1\n  to do: rotate ` + path + `, of which version 1 was read; since `,
		`STRONGROOM_TOKEN_FILE=ann.token strongroom break-glass close "$SESSION"`:  `^Session .* ended at .*\. 2 duties are left`,
		"STRONGROOM_TOKEN_FILE=bob.token strongroom break-glass ls --state duties": `closed at .* by ann; versions read: 1\n  to do: review; since .*\n  to do: rotate `,
		`strongroom audit query --break-glass-id "$SESSION"`:                       `iam\.open_break_glass(.|\n)*secrets\.get_value(.|\n)*iam\.close_break_glass`,
		"strongroom break-glass ls":                                                `reviewed at .* by bob: read one password, as ticket 7 says; rotated\n$`,
	} {
		require.Contains(t, lines, line, "the manual has changed; change this test with it")
		require.Regexp(t, want, printed[line], line)
	}
	for line, out := range printed {
		if strings.Contains(line, "break-glass open") {
			require.Regexp(t, `^Session .* is open until .*, for demo-emergency\.\n`, out)
		}
		if strings.Contains(line, "break-glass review") {
			require.Regexp(t, `is reviewed\. Nothing is left to do\.\n$`, out)
		}
	}
	metrics := c.Metrics(1)
	require.Regexp(t, `(?m)^strongroom_break_glass_open 0$`, metrics)
	require.Regexp(t, `(?m)^strongroom_break_glass_duties\{duty="rotate"\} 0$`, metrics)
}
