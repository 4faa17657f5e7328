package tour_test

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// manualLines answers the commands of a page of docs, in order.
func manualLines(t *testing.T, page string) []string {
	t.Helper()
	raw, err := os.ReadFile("../../docs/" + page)
	require.NoError(t, err)
	var out []string
	for _, block := range regexp.MustCompile("(?ms)^```sh\n(.*?)^```$").FindAllStringSubmatch(string(raw), -1) {
		for line := range strings.Lines(block[1]) {
			if line = strings.TrimSpace(line); line != "" && line[0] != '#' {
				out = append(out, line)
			}
		}
	}
	return out
}

// Every command of the manual about policies works, and shows what the text
// around it says.
func TestTheManualOfPolicies(t *testing.T) {
	c := suite.Fresh(t, 1)
	lines := manualLines(t, "policies.md")
	require.Greater(t, len(lines), 30, "the commands must have been found")
	printed := runLines(t, c, checkout(t, c), lines)
	const path = "/app/demo/web/db-password"
	for line, want := range map[string]string{
		"strongroom explain ann secrets:getSecretValue " + path:                                               `^allowed: ann may secrets:getSecretValue on ` + path + `, by statements\[0\] of policy web-read \(path /app/demo/web/\*\*\)\n(.|\n)*POLICY +`,
		"strongroom explain ann secrets:putSecretValue " + path:                                               `^denied: statements\[0\] of policy office-only would allow it, but its condition sourceCidrs is not met`,
		"strongroom explain ann secrets:putSecretValue " + path + " --source-address 10.1.2.3":                `^allowed: `,
		"strongroom explain ann secrets:deleteSecret " + path + " --at +3h":                                   `^denied: no statement allows ann to secrets:deleteSecret`,
		"strongroom who-can secrets:getSecretValue " + path:                                                   `(?m)^ann +user +allow +web-read\[0\] \(path /app/demo/web/\*\*\)`,
		"strongroom who-can secrets:putSecretValue " + path:                                                   `(?m)^ann +user +conditional +office-only\[0\].* sourceCidrs`,
		"strongroom what-can ann":                                                                             `(?m)^secrets:getSecretValue +/app/demo/web/\*\* +web-read$`,
		"strongroom what-can ann --values --prefix /app/demo/":                                                `(?m)^` + path + ` +1$`,
		"STRONGROOM_TOKEN_FILE=ann.token strongroom secret get " + path:                                       `^v1$`,
		"strongroom policy simulate web-read --statements '[]' --since 1d":                                    `(?m)^Would lose:\n.*\nann +secrets:getSecretValue +` + path + ` +1 `,
		"strongroom policy revisions web-read":                                                                `reading is enough`,
		"strongroom policy diff web-read":                                                                     `(?m)^\+\+\+ revision 2, .* by admin: reading is enough\n(.|\n)*^- \{"effect":"allow"`,
		"strongroom policy lint":                                                                              `(?m)^web-read +0 +valueAccessForPeople +warning `,
		"strongroom iam rollback-policy --name web-read --revision 1 --reason \"they look at versions, too\"": `(?m)^revision: +3$`,
	} {
		require.Contains(t, lines, line, "the manual has changed; change this test with it")
		require.Regexp(t, want, printed[line], line)
	}
	for line, out := range printed {
		if strings.HasPrefix(line, `strongroom explain "$(`) {
			require.Regexp(t, `^denied: no statement allows ann to secrets:getSecretValue on /app/demo/api/key\n(.|\n)*Today: denied: .*; the closest is statements\[0\] of policy web-read`, out)
		}
		if strings.HasPrefix(line, "strongroom policy simulate demo-freeze") {
			require.Regexp(t, `(?m)^Would lose:\n`, out)
		}
	}
	require.Regexp(t, `strongroom_policy_report_only_total\{outcome="would_deny"\} 1`, c.Metrics(1))
}
