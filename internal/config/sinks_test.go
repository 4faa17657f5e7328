package config

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"
)

func withSinks(text string) []byte { return []byte(smallest + "audit:\n  sinks:\n" + text) }

func TestSinksGetTheDefaultsOfTheirType(t *testing.T) {
	c, err := Parse(withSinks(`
    - {name: archive, type: file, path: /var/log/strongroom/audit.jsonl}
    - {name: siem, type: syslog, address: "siem.example:6514", format: ecs, batchTime: 2s}
    - {name: alerts, type: webhook, url: "https://hooks.example/a", signingKeyFile: /etc/strongroom/alerts.key, events: ["alert.*"], outcomes: [denied]}
    - {name: console, type: stdout, start: newest}
`))
	require.NoError(t, err)
	s := c.Audit.Sinks
	require.Equal(t, Sink{
		Name: "archive", Type: "file", Format: "native", Start: "oldest", BatchEvents: 500, BatchBytes: 1 << 20, BatchTime: Duration(500 * time.Millisecond),
		Path: "/var/log/strongroom/audit.jsonl", Keep: 10,
	}, s[0])
	require.Equal(t, []any{"ecs", "2s", "local0", "strongroom", 32473, "10s"}, []any{s[1].Format, s[1].BatchTime.String(), s[1].Facility, s[1].AppName, s[1].EnterpriseNumber, s[1].Timeout.String()})
	require.Equal(t, "10s", s[2].Timeout.String())
	require.Equal(t, "newest", s[3].Start)
	require.Zero(t, s[3].Timeout, "a setting of other types stays unset")
}

func TestEveryFaultOfASinkIsNamed(t *testing.T) {
	for _, one := range []struct{ sink, want string }{
		{`{type: file, path: /a}`, "audit.sinks[0].name: must be 1 to 63"},
		{`{name: a}`, "audit.sinks[0].type: must be file, syslog, webhook, stdout"},
		{`{name: a, type: kafka}`, `it is "kafka"`},
		{`{name: a, type: file, path: a.log}`, "audit.sinks[0].path: must be an absolute path"},
		{`{name: a, type: file, path: /var/../a.log}`, "audit.sinks[0].path"},
		{`{name: a, type: file, path: /a, maxBytes: 10}`, "audit.sinks[0].maxBytes: must be 0"},
		{`{name: a, type: file, path: /a, keep: -1}`, "audit.sinks[0].keep"},
		{`{name: a, type: file, path: /a, url: "https://b"}`, "audit.sinks[0].url: is for sinks of the type webhook; remove it"},
		{`{name: a, type: stdout, timeout: 1s}`, "audit.sinks[0].timeout: is for sinks of the type syslog and webhook"},
		{`{name: a, type: stdout, format: cef}`, "audit.sinks[0].format: must be native, ecs or ocsf"},
		{`{name: a, type: stdout, start: now}`, "audit.sinks[0].start"},
		{`{name: a, type: stdout, events: ["secrets.**"]}`, "audit.sinks[0].events"},
		{`{name: a, type: stdout, events: [""]}`, "audit.sinks[0].events"},
		{`{name: a, type: stdout, outcomes: [okay]}`, "audit.sinks[0].outcomes"},
		{`{name: a, type: stdout, batchEvents: -1}`, "audit.sinks[0].batchEvents"},
		{`{name: a, type: stdout, batchBytes: 1}`, "audit.sinks[0].batchBytes"},
		{`{name: a, type: stdout, batchTime: 2h}`, "audit.sinks[0].batchTime"},
		{`{name: a, type: syslog}`, "audit.sinks[0].address: must be host:port"},
		{`{name: a, type: syslog, address: ":6514"}`, "audit.sinks[0].address"},
		{`{name: a, type: syslog, address: "h:1", facility: kern}`, "audit.sinks[0].facility"},
		{`{name: a, type: syslog, address: "h:1", appName: "a b"}`, "audit.sinks[0].appName"},
		{`{name: a, type: syslog, address: "h:1", enterpriseNumber: -1}`, "audit.sinks[0].enterpriseNumber"},
		{`{name: a, type: syslog, address: "h:1", caFile: ca.pem}`, "audit.sinks[0].caFile"},
		{`{name: a, type: syslog, address: "h:1", clientCertFile: /c.pem}`, "audit.sinks[0].clientKeyFile: and clientCertFile"},
		{`{name: a, type: syslog, address: "h:1", timeout: 1ms}`, "audit.sinks[0].timeout"},
		{`{name: a, type: webhook, signingKeyFile: /k}`, "audit.sinks[0].url: must be an https URL"},
		{`{name: a, type: webhook, signingKeyFile: /k, url: "http://h.example"}`, "audit.sinks[0].url"},
		{`{name: a, type: webhook, signingKeyFile: /k, url: "https://u:p@h.example"}`, "audit.sinks[0].url"},
		{`{name: a, type: webhook, url: "https://h.example"}`, "audit.sinks[0].signingKeyFile"},
		{`{name: a, type: webhook, url: "https://h.example", signingKeyFile: /k, authorizationFile: t}`, "audit.sinks[0].authorizationFile"},
		{`{name: a, type: webhook, url: "https://h.example", key: secret}`, "key is not a setting of sink"},
	} {
		_, err := Parse(withSinks("    - " + one.sink + "\n"))
		require.ErrorContains(t, err, one.want, one.sink)
		require.NotContains(t, err.Error(), "u:p", "what stands in a URL is not repeated")
	}
	_, err := Parse(withSinks("    - {name: a, type: file, path: /a}\n    - {name: a, type: file, path: /a}\n"))
	require.ErrorContains(t, err, `audit.sinks[1].name: "a" is there twice`)
	require.ErrorContains(t, err, `audit.sinks[1].path: "/a" is there twice`)
	_, err = Parse(withSinks("    - {name: a, type: webhook, signingKeyFile: /k, url: \"http://127.0.0.1:1/x\"}\n    - {name: b, type: webhook, signingKeyFile: /k, url: \"http://[::1]:1\"}\n"))
	require.NoError(t, err, "plain HTTP stays on this machine")
}

func TestKeysOfSinksAreLookedAtAsSecrets(t *testing.T) {
	key := filepath.Join(t.TempDir(), "key")
	require.NoError(t, os.WriteFile(key, []byte("x"), 0o644))
	c, err := Parse(withSinks("    - {name: a, type: webhook, url: \"https://h.example\", signingKeyFile: " + key + ", caFile: " + key + ", authorizationFile: " + key + ".none}\n"))
	require.NoError(t, err)
	err = c.CheckFiles()
	require.ErrorContains(t, err, "audit.sinks[0].signingKeyFile: "+key+" holds a secret")
	require.ErrorContains(t, err, "audit.sinks[0].authorizationFile: ")
	require.NotContains(t, err.Error(), "audit.sinks[0].caFile", "a certificate is no secret")
}

func TestEverySettingOfASinkIsDescribed(t *testing.T) {
	text := Reference()
	for i := range reflect.TypeFor[Sink]().NumField() {
		f := reflect.TypeFor[Sink]().Field(i)
		require.NotEmpty(t, f.Tag.Get("doc"), f.Name)
		require.Contains(t, text, "| `"+f.Tag.Get("yaml")+"` |")
		for _, one := range strings.Fields(f.Tag.Get("for")) {
			require.Contains(t, sinkTypes, one)
		}
		require.NoError(t, yaml.Unmarshal([]byte(f.Tag.Get("default")), reflect.New(f.Type).Interface()))
	}
}
