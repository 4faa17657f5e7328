package e2e_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/test/localcluster"
)

// A person's morning, in a shell that knows nothing but the env file.
func TestTheEnvFileIsAllThatAShellNeeds(t *testing.T) {
	c := suite.Shared(t)
	r := c.Bash(t.TempDir(), `set -eu
source "$1/env"
export PATH="$2:$PATH"
printf 'one\ttwo' | strongroom secret put /app/e2e/shell/s --create >/dev/null
printf '<%s>' "$(strongroom secret get /app/e2e/shell/s)"
strongroom whoami -o json | grep -q '"principal": "admin"'
curl -s --cacert "$STRONGROOM_CACERT" "$STRONGROOM_ADDR/api/v1/health/live" >/dev/null`, c.Dir, filepath.Dir(c.Binary))
	require.Zero(t, r.Code, r.Err)
	require.Equal(t, "<one\ttwo>", r.Out)
}

func TestAValueGoesInByStandardInputAndComesOutAsItIs(t *testing.T) {
	c := suite.Shared(t)
	value := "first line\n\x00\xff last, without a line feed"
	r := c.CLI(value, "secret", "put", "/app/e2e/cli/s", "--create")
	require.Zero(t, r.Code, r.Err)
	require.NotContains(t, r.Out+r.Err, "first line")
	r = c.CLI("", "secret", "get", "/app/e2e/cli/s")
	require.Equal(t, localcluster.Run{Out: value}, r)

	r = c.CLI("", "secret", "get", "/app/e2e/cli/s", "-o", "json")
	require.Zero(t, r.Code, r.Err)
	var answer struct {
		Path    string
		Value   []byte
		Version int
	}
	require.NoError(t, json.Unmarshal([]byte(r.Out), &answer))
	require.Equal(t, "/app/e2e/cli/s", answer.Path)
	require.Equal(t, value, string(answer.Value))
	require.Equal(t, 1, answer.Version)
}

func TestAValueOnTheCommandLineIsAMistakeAndIsNotSent(t *testing.T) {
	c := suite.Shared(t)
	c.OK(1, "secrets/createSecret", `{"path":"/app/e2e/cli/argv"}`)
	for _, args := range [][]string{{"secret", "put", "/app/e2e/cli/argv", "hunter2"}, {"secret", "put", "/app/e2e/cli/argv", "--value=hunter2"}} {
		r := c.CLI("", args...)
		require.Equal(t, 2, r.Code)
		require.NotContains(t, r.Out+r.Err, "hunter2")
	}
	require.Empty(t, versions(t, c, 1, "/app/e2e/cli/argv"))
}

func TestExitCodesTellDoneRefusedAndMistake(t *testing.T) {
	c := suite.Shared(t)
	for line, want := range map[string]int{
		"whoami":                                0,
		"cluster status -o json":                0,
		"secret ls /app":                        0,
		"secret get /app/e2e/not-there":         1,
		"secret get not-a-path":                 1,
		"key disable alias/default":             1,
		"whoami --token-file /nowhere":          1,
		"secret get":                            2,
		"secret frobnicate":                     2,
		"secret get /a --frobnicate":            2,
		"whoami -o xml":                         2,
		"secret destroy /app/e2e/cli/s":         2,
		"cluster transfer-leadership --to moon": 1,
	} {
		r := c.CLI("", strings.Fields(line)...)
		require.Equal(t, want, r.Code, "%s: %s", line, r.Err)
		if want != 0 {
			require.Empty(t, r.Out, line)
			require.Contains(t, r.Err, "strongroom: ", line)
		}
	}
	r := c.CLI("", "secret", "get", "/app/e2e/not-there")
	require.Contains(t, r.Err, "NotFound")
	require.Regexp(t, `request id: +[0-9a-f-]{36}`, r.Err)
	for _, line := range []string{"cluster status", "secret ls /app", "audit query --limit 1", "key ls", "principal ls"} {
		r := c.CLI("", append(strings.Fields(line), "-o", "json")...)
		require.True(t, json.Valid([]byte(r.Out)), "%s: %s", line, r.Out)
	}
}

// A configuration that is wrong is told by the name of the setting, before
// anything is opened, by check and by the server alike.
func TestAWrongConfigurationIsToldByTheNameOfTheSetting(t *testing.T) {
	c := suite.Shared(t)
	good, err := os.ReadFile(filepath.Join(c.NodeDir(1), "config.yaml"))
	require.NoError(t, err)
	open := filepath.Join(t.TempDir(), "hsm-pin")
	require.NoError(t, os.WriteFile(open, []byte("1234\n"), 0o600))
	require.NoError(t, os.Chmod(open, 0o644))
	file := filepath.Join(t.TempDir(), "config.yaml")
	for name, one := range map[string]struct{ setting, old, new string }{
		"a PIN that others can read": {"hsm.pinFile", `(?m)^  pinFile: ".*hsm-pin"$`, `  pinFile: "` + open + `"`},
		"a module that is not there": {"hsm.module", `(?m)^  module: .*$`, `  module: /nowhere/module.so`},
		"a relative path":            {"node.dataDir", `(?m)^  dataDir: .*$`, `  dataDir: data`},
		"a listener without a port":  {"api.listen", `(?m)^api:\n  listen: .*$`, "api:\n  listen: 127.0.0.1"},
		"an id that is none":         {"cluster.id", `(?m)^cluster:\n  id: .*$`, "cluster:\n  id: prod"},
		"somebody else's node":       {"cluster.certFile", `(?m)^  id: node1$`, "  id: node2"},
		"a setting nobody knows":     {"pni", `(?m)^  pinFile: .*$`, `  pni: x`},
		"a lease that is too long":   {"raft.heartbeat", `\z`, "raft:\n  lease: 290ms\n"},
	} {
		pattern := regexp.MustCompile(one.old)
		require.Len(t, pattern.FindAllIndex(good, -1), 1, name)
		require.NoError(t, os.WriteFile(file, pattern.ReplaceAllLiteral(good, []byte(one.new)), 0o600))
		for _, args := range [][]string{{"config", "check", "--config", file}, {"server", "--config", file}} {
			r := c.CLI("", args...)
			require.Equal(t, 1, r.Code, "%s: %s", name, args[0])
			require.Contains(t, r.Err, one.setting, "%s: %s", name, args[0])
		}
	}
	r := c.CLI("", "config", "check", "--config", filepath.Join(c.NodeDir(1), "config.yaml"))
	require.Zero(t, r.Code, r.Err)
	require.Contains(t, r.Out, "ok")
}
