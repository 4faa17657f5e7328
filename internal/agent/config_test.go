package agent

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const good = `
connection:
  addresses: [https://a:7400]
  tokenFile: /t
files:
  - path: /app/dev/db
    destination: /run/x/db
  - template: /etc/x.tmpl
    destination: /run/x/conf
    mode: "0640"
    onChange:
      command: [/bin/true]
`

func TestTheConfigurationHasDefaults(t *testing.T) {
	c, err := ParseConfig([]byte(good))
	require.NoError(t, err)
	require.Equal(t, Mode(0o600), c.Files[0].Mode)
	require.Equal(t, AfterWrite, c.Files[0].Confirm)
	require.Equal(t, DeniedKeep, c.Files[0].OnDenied)
	require.Equal(t, Mode(0o640), c.Files[1].Mode)
	require.Equal(t, AfterCommand, c.Files[1].Confirm)
	require.Equal(t, 30*time.Second, c.Files[1].OnChange.Timeout.D())
}

func TestMistakesInTheConfigurationAreToldByTheSetting(t *testing.T) {
	for name, one := range map[string]struct{ old, new, want string }{
		"unknown":             {"tokenFile: /t", "tokenFile: /t\n  pni: x", "pni is not a setting of connection"},
		"unknown in a file":   {"mode:", "modes: 1\n    mode:", "modes is not a setting of files"},
		"unknown at the top":  {"\nfiles:", "\nmore: 1\nfiles:", "more is not a setting of the file"},
		"no address":          {"[https://a:7400]", "[]", "connection.addresses"},
		"no token":            {"/t\n", "t\n", "connection.tokenFile"},
		"two credentials":     {"tokenFile: /t", "tokenFile: /t\n  accessKeyId: SRAKX\n  secretAccessKeyFile: /s", "connection.tokenFile: is a second credential"},
		"no id":               {"tokenFile: /t", "secretAccessKeyFile: /s", "connection.accessKeyId: is missing"},
		"no secret":           {"tokenFile: /t", "accessKeyId: SRAKX", "connection.secretAccessKeyFile: must be the absolute path"},
		"a relative secret":   {"tokenFile: /t", "accessKeyId: SRAKX\n  secretAccessKeyFile: s", "connection.secretAccessKeyFile: must be the absolute path"},
		"an access key":       {"tokenFile: /t", "accessKeyId: SRAKX\n  secretAccessKeyFile: /s", ""},
		"bad instance":        {"tokenFile", "instance: a b\n  tokenFile", "connection.instance"},
		"neither":             {"path: /app/dev/db\n    ", "", "files[0]: must have either"},
		"both":                {"path: /app", "template: /x\n    path: /app", "files[0]: must have either"},
		"bad path":            {"/app/dev/db", "app", "files[0].path"},
		"relative":            {"/run/x/db", "x/db", "files[0].destination"},
		"not clean":           {"/run/x/db", "/run/../x/db", "files[0].destination"},
		"twice":               {"/run/x/db", "/run/x/conf", "files[1].destination"},
		"world-readable":      {`"0640"`, "0644", "worldReadable"},
		"writable":            {`"0640"`, "0660", "files[1].mode"},
		"no mode":             {`"0640"`, "rw", "octal"},
		"decimal":             {`"0640"`, "416", "lets everybody"},
		"a shell line":        {"[/bin/true]", "[reload.sh]", "files[1].onChange.command"},
		"both reactions":      {"command: [/bin/true]", "command: [/bin/true]\n      signal: {pidFile: /p, signal: HUP}", "not both"},
		"no such signal":      {"command: [/bin/true]", "signal: {pidFile: /p, signal: NONE}", "files[1].onChange.signal.signal"},
		"nothing to wait for": {"mode:", "confirm: afterCommand\n    mode:", ""},
		"confirm":             {"destination: /run/x/db", "destination: /run/x/db\n    confirm: afterCommand", "files[0].confirm"},
		"on denial":           {"mode:", "onDenied: burn\n    mode:", "files[1].onDenied"},
		"no loopback":         {"\nfiles:", "\nstatus: {listen: \"0.0.0.0:1\"}\nfiles:", "status.listen"},
		"a bare number":       {"tokenFile", "maxAge: 5\n  tokenFile", "duration"},
	} {
		require.Equal(t, 1, strings.Count(good, one.old), name)
		_, err := ParseConfig([]byte(strings.Replace(good, one.old, one.new, 1)))
		if one.want == "" {
			require.NoError(t, err, name)
			continue
		}
		require.ErrorContains(t, err, one.want, name)
	}
	_, err := ParseConfig([]byte(good + "---\na: 1\n"))
	require.ErrorContains(t, err, "more than one")
}

func templated(t *testing.T, text string) (*source, error) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "t")
	require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
	return newSource(File{Template: file})
}

func TestTemplates(t *testing.T) {
	snap := collect(t, map[string]string{"/a": "x\"y", "/o": `{"f":"v"}`, "/bin": "\xff"})
	s, err := templated(t, `{{ with secret "/a" }}{{ json . }}{{ end }} {{ secretJSON "/o" "f" | base64 }}{{ if eq (secret "/a") "no" }}{{ secret "/bin" }}{{ end }}`)
	require.NoError(t, err)
	require.Equal(t, []string{"/a", "/o", "/bin"}, s.paths, "all of them, whether they are reached or not")
	out, err := s.render(snap)
	require.NoError(t, err)
	require.Equal(t, `"x\"y" dg==`, string(out))

	for _, text := range []string{`{{ "/a" | secret }}`, `{{ secret (printf "/%s" "a") }}`, `{{ $p := "/a" }}{{ secret $p }}`, `{{ secret "a" }}`, `nothing`, `{{ secret`, `{{ env "X" }}`, `{{ define "x" }}{{ secret $ }}{{ end }}`} {
		_, err := templated(t, text)
		require.Error(t, err, text)
	}
	for text, want := range map[string]string{`{{ secretJSON "/o" "g" }}`: `no field "g"`, `{{ secret "/bin" | json }}`: "UTF-8", `{{ .Missing }}{{ secret "/a" }}`: "cannot be carried out"} {
		s, err := templated(t, text)
		require.NoError(t, err, text)
		_, err = s.render(snap)
		require.ErrorContains(t, err, want, text)
	}
	// The engine's own message would quote the value.
	s, err = templated(t, `{{ index (slice "abc" 0 1) (secret "/a") }}`)
	require.NoError(t, err)
	_, err = s.render(snap)
	require.ErrorContains(t, err, ":1:")
	require.NotContains(t, err.Error(), "x\"y")
}
