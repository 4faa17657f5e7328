// Package tour_test runs the README: what a newcomer types is what CI types.
package tour_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/test/localcluster"
)

var suite localcluster.Suite

func TestMain(m *testing.M) { os.Exit(suite.Run(m)) }

func readme(t *testing.T) string {
	t.Helper()
	raw, err := os.ReadFile("../../README.md")
	require.NoError(t, err)
	return string(raw)
}

// tourLines answers the commands of the tour, one a line, without comments.
func tourLines(t *testing.T) []string {
	t.Helper()
	_, section, found := strings.Cut(readme(t), "## A tour of five minutes\n")
	require.True(t, found)
	_, block, found := strings.Cut(section, "```sh\n")
	require.True(t, found)
	block, _, found = strings.Cut(block, "```\n")
	require.True(t, found)
	var out []string
	for line := range strings.Lines(strings.ReplaceAll(block, "\\\n", "")) {
		if line = strings.TrimSpace(line); line != "" && line[0] != '#' {
			out = append(out, line)
		}
	}
	require.Greater(t, len(out), 15, "the tour must have been found")
	return out
}

// checkout makes a folder as the tour expects it: bin and .strongroom are
// there, so that not one letter of the tour has to be changed.
func checkout(t *testing.T, c *localcluster.Cluster) string {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(dir, "bin"), 0o700))
	require.NoError(t, os.Symlink(c.Binary, filepath.Join(dir, "bin", "strongroom")))
	require.NoError(t, os.Symlink(c.Dir, filepath.Join(dir, ".strongroom")))
	return dir
}

const end = "<end of line %d>\n"

// runLines runs lines in one shell, which ends at the first that fails, and
// answers what each printed.
func runLines(t *testing.T, c *localcluster.Cluster, dir string, lines []string) map[string]string {
	t.Helper()
	script := "set -euo pipefail\n"
	for i, line := range lines {
		script += line + fmt.Sprintf("\nprintf '"+strings.TrimSuffix(end, "\n")+"\\n'\n", i)
	}
	r := c.Bash(dir, script)
	out := map[string]string{}
	rest := r.Out
	for i, line := range lines {
		printed, after, found := strings.Cut(rest, fmt.Sprintf(end, i))
		require.True(t, found, "%s\nfailed with status %d:\n%s%s", line, r.Code, printed, r.Err)
		out[line], rest = printed, after
	}
	require.Zero(t, r.Code, r.Err)
	return out
}

func TestTheTourOfTheReadme(t *testing.T) {
	c := suite.Shared(t)
	lines := tourLines(t)
	dir := checkout(t, c)
	printed := runLines(t, c, dir, lines)
	for line, want := range map[string]string{
		"strongroom whoami":                                                `(?m)^principal: +admin$`,
		"strongroom cluster status":                                        `(?m)^leader: +node[123] `,
		"strongroom secret get /app/dev/web/db-password":                   `^first-password$`,
		"strongroom secret consumers /app/dev/web/db-password --holding":   `(?m)^1 +admin .* no `,
		"strongroom secret versions /app/dev/web/db-password":              `(?m)^2 .*active +current\b(.|\n)*^1 .*destroyed\b`,
		"strongroom key bound alias/pay":                                   `/app/dev/pay/card-api`,
		"strongroom audit query --path /app/dev/pay/card-api":              `secrets\.get_value`,
		"strongroom iam attach-policy --policy web-values --principal web": `web-values`,
	} {
		require.Contains(t, lines, line, "the tour has changed; change this test with it")
		require.Regexp(t, want, printed[line], line)
	}
	for line, out := range printed {
		if strings.HasPrefix(line, "strongroom secret destroy") {
			require.Regexp(t, `(?m)^state: +destroyed$`, out)
		}
		if strings.HasPrefix(line, "curl") {
			require.Contains(t, out, localcluster.B64("card-key"))
		}
	}
	thenWhatWasSaid(t, c)
	thenBreakIt(t, c, dir)
}

// thenWhatWasSaid: what the tour's comments say is so.
func thenWhatWasSaid(t *testing.T, c *localcluster.Cluster) {
	r := c.Send(1, c.Token, "secrets/getSecretValue", `{"path":"/app/dev/web/db-password","version":1}`)
	require.Equal(t, "VersionNotActive", r.Code(), "readable until it is destroyed")
	value, err := c.Send(2, c.Token, "secrets/getSecretValue", `{"path":"/app/dev/web/db-password"}`).Value()
	require.NoError(t, err)
	require.Len(t, value, 40)
	c.Await("the old key to be disabled once nothing is bound to it", func() bool {
		return c.OK(1, "kms/describeKey", `{"keyId":"alias/pay"}`)["state"] == "disabled"
	})
	r = c.Send(3, c.Token, "kms/disableKey", `{"keyId":"alias/pay-2"}`)
	require.Equal(t, "KeyInUse", r.Code(), "cannot be disabled while secrets are bound to it")
	token := func(principal string) string {
		return c.OK(1, "iam/createToken", `{"principal":%q}`, principal)["token"].(string)
	}
	for _, step := range []struct{ principal, operation, code string }{
		{"web", "secrets/getSecretValue", ""}, {"web", "secrets/putSecretValue", "AccessDenied"},
		{"auditor", "secrets/describeSecret", ""}, {"auditor", "secrets/listSecretVersions", ""}, {"auditor", "secrets/getSecretValue", "AccessDenied"},
	} {
		body := `{"path":"/app/dev/web/db-password"}`
		if step.operation == "secrets/putSecretValue" {
			body = `{"path":"/app/dev/web/db-password","value":"eA=="}`
		}
		r := c.Send(2, token(step.principal), step.operation, "%s", body)
		require.Equal(t, step.code, r.Code(), "%s %s: %s", step.principal, step.operation, r.Body)
	}
}

// thenBreakIt kills the node that the README names, goes on reading, and
// starts it again by the command that the terminal shows.
func thenBreakIt(t *testing.T, c *localcluster.Cluster, dir string) {
	command := regexp.MustCompile("Then break it: `([^`]+)`").FindStringSubmatch(readme(t))
	require.NotNil(t, command)
	require.Contains(t, command[1], "node1")
	c.Lead(1) // the interesting node to kill
	r := c.Bash(dir, command[1])
	require.Zero(t, r.Code, r.Err)
	c.AwaitEnd(1)
	// The environment names node1 first: the command line goes on to the others.
	get := "source .strongroom/env && bin/strongroom secret get /app/dev/pay/card-api"
	require.Equal(t, localcluster.Run{Out: "card-key"}, c.Bash(dir, get))
	require.NotEqual(t, 1, c.Leader())

	var start []string
	c.Await("the terminal to say how node1 is started", func() bool {
		start = regexp.MustCompile(`(?m)^  start it again with: (.+)$`).FindStringSubmatch(c.Terminal())
		return start != nil
	})
	node := exec.Command("bash", "-c", "exec "+start[1])
	require.NoError(t, node.Start())
	t.Cleanup(func() { require.NoError(t, node.Process.Kill()); _ = node.Wait() }) // killed is how it ends
	c.AwaitReady(1)
	require.Equal(t, localcluster.Run{Out: "card-key"}, c.Bash(dir, get))
}
