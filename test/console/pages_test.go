package console_test

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/test/localcluster"
)

// stocked is a cluster with some of everything that pages show. Names and texts
// hold what would be markup, if it ever became some.
func stocked(t *testing.T) *localcluster.Cluster {
	t.Helper()
	c := suite.Fresh(t, 3)
	const mark = `<img src=x onerror=alert(1)><script>alert(2)</script>`
	for i := range 12 {
		c.OK(1, "secrets/createSecret", `{"path":"/app/prod/web/secret-%02d","value":"eA==","description":%q,"tags":{"owner":%q}}`, i, mark, mark)
	}
	c.OK(1, "secrets/createSecret", `{"path":"/app/prod/payments/db-password","value":%q}`, localcluster.B64("correct horse"))
	c.OK(1, "secrets/putSecretValue", `{"path":"/app/prod/payments/db-password","value":%q,"reason":%q}`, localcluster.B64("battery staple"), mark)
	c.OK(2, "secrets/getSecretValue", `{"path":"/app/prod/payments/db-password","instance":"pod-1"}`)
	c.OK(1, "kms/createKey", `{"alias":"alias/payments","description":%q}`, mark)
	c.OK(1, "kms/createKey", `{"alias":"alias/leaving"}`)
	c.OK(1, "kms/scheduleKeyDeletion", `{"keyId":"alias/leaving","reason":%q}`, mark)
	c.Principal("reader", `[{"effect":"allow","actions":["secrets:listSecrets","secrets:describeSecret"],"paths":["/app/prod/web/**"]}]`)
	return c
}

// Every page, wide and narrow, light and dark, is whole: no script fails, the
// content policy has nothing to stop, no barrier is found, nothing has to be
// moved sideways; and marks in names and texts are shown as they are.
func TestEveryPageIsSound(t *testing.T) {
	c := stocked(t)
	p := open(t, c, 1)
	p.sees("Token")
	p.isSound("the sign-in")
	p.shot("signin")
	p.signsIn(c.Token)
	key := c.OK(1, "kms/describeKey", `{"keyId":"alias/leaving"}`)["keyId"].(string)
	pages := map[string]string{
		"overview": "#/", "keys": "#/keys", "key": "#/keys/" + key, "secrets": "#/secrets/", "folder": "#/secrets/app/prod/web/", "marked": "#/secrets/app/prod/web/secret-03",
		"secret": "#/secrets/app/prod/payments/db-password", "access": "#/access", "policy": "#/access/policy/reader", "principal": "#/access/principal/reader", "audit": "#/audit", "cluster": "#/cluster",
	}
	for _, width := range []int64{1280, 400} {
		for _, dark := range []bool{false, true} {
			p.size(width, 900)
			p.dark(dark)
			for name, hash := range pages {
				what := fmt.Sprintf("%s-%d-%v", name, width, dark)
				p.goes(hash)
				p.until(hash, fmt.Sprintf(`location.hash === %q`, hash))
				p.sees("Sign out")
				p.rests()
				require.NotContains(t, p.text(), "Error ", what)
				p.isSound(what)
				p.shot(what)
			}
		}
	}
	p.goes("#/secrets/app/prod/web/secret-03")
	p.sees(`owner=<img src=x onerror=alert(1)>`)
}

// unique answers a name that no other round on the shared cluster has.
func unique(name string) string { return name + "-" + uuid.NewString()[:8] }

// A value is shown on request, is an event, and goes again.
func TestAValueIsRevealedAndHidden(t *testing.T) {
	c := suite.Shared(t)
	path := unique("/app/prod/console/reveal")
	c.OK(1, "secrets/createSecret", `{"path":%q,"value":%q}`, path, localcluster.B64("battery staple"))
	p := open(t, c, 2)
	p.signsIn(c.Token)
	p.goes("#/secrets" + path)
	p.sees("Reveal")
	p.rests()
	require.NotContains(t, p.text(), "battery staple")
	p.clicks("Reveal")
	p.sees("battery staple")
	p.isSound("a value in sight")
	p.clicks("Hide")
	p.until("the value to go", `!document.documentElement.outerHTML.includes('battery staple')`)
	events := c.OK(1, "audit/queryEvents", `{"path":%q,"event":"secrets.get_value"}`, path)["events"].([]any)
	require.Len(t, events, 1)
}

// What is done in the console is done: a secret is made without anybody typing
// a value, and a key is disabled and enabled.
func TestWorkIsDone(t *testing.T) {
	c := suite.Shared(t)
	alias, made := unique("alias/console-work"), unique("app/prod/console/made")
	c.OK(1, "kms/createKey", `{"alias":%q}`, alias)
	p := open(t, c, 1)
	p.signsIn(c.Token)
	p.goes("#/secrets/")
	p.clicks("New secret")
	p.types("Path", made)
	p.sees("strongroom secret generate /" + made + " --kind password --create")
	p.isSound("the dialog")
	p.shot("dialog")
	p.clicks("Make the secret")
	p.sees("Reveal")
	require.EqualValues(t, 1, c.OK(1, "secrets/describeSecret", `{"path":%q}`, "/"+made)["currentVersion"])

	p.goes("#/keys")
	p.clicks(alias)
	p.clicks("Disable")
	p.clicks("Disable the key")
	p.sees("Enable")
	require.Equal(t, "disabled", c.OK(1, "kms/describeKey", `{"keyId":%q}`, alias)["state"])
	p.clicks("Enable")
	p.clicks("Enable the key")
	p.sees("Rotate")
	require.Equal(t, "active", c.OK(1, "kms/describeKey", `{"keyId":%q}`, alias)["state"])
}

// Who may see little sees that, and is told what is not shown; a wrong token
// gets nowhere.
func TestOnlyWhatTheCallerMayDo(t *testing.T) {
	c := suite.Shared(t)
	path := unique("/app/prod/console/hidden")
	c.OK(1, "secrets/createSecret", `{"path":%q,"value":"eA=="}`, path)
	token := c.Principal(unique("console-reader"), `[{"effect":"allow","actions":["secrets:listSecrets","secrets:describeSecret"],"paths":["/app/prod/console/**"]}]`)
	p := open(t, c, 3)
	p.types("Token", "srt_nobody0000000000000000000000000000000000000000")
	p.clicks("Sign in")
	p.sees("Unauthenticated")
	p.isSound("a refused sign-in")
	p.runs(`document.getElementById('token').value = ''; true`)
	p.signsIn(token)
	p.sees("You have no right to see")
	p.goes("#/secrets" + path)
	p.clicks("Reveal")
	p.sees("AccessDenied")
	p.sees("decision")
	p.goes("#/keys")
	p.sees("AccessDenied")
	p.clicks("Sign out")
	p.sees("Token")
	p.do(chromedp.Reload())
	p.sees("Token")
}

// Each command line that a page shows is one that there is.
func TestCommandLinesExist(t *testing.T) {
	c := suite.Shared(t)
	shown := map[string]bool{}
	command := regexp.MustCompile("[`'(> ]strongroom ([a-z]+(?:-[a-z]+)*(?: [a-z]+(?:-[a-z]+)*)?)")
	require.NoError(t, filepath.WalkDir("../../internal/console/static", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		raw, err := os.ReadFile(name)
		for _, m := range command.FindAllStringSubmatch(string(raw), -1) {
			shown[m[1]] = true
		}
		return err
	}))
	require.Greater(t, len(shown), 15)
	for words := range shown {
		run := c.CLI("", append(strings.Fields(words), "--help")...)
		require.Equal(t, 0, run.Code, words)
		require.Contains(t, run.Out, "strongroom "+words, words)
	}
}
