package config

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const smallest = `
node: {id: node1}
cluster:
  id: 5a0f1f0e-6d2a-4b5b-9f0a-0d8f4c1f5e11
  advertise: 10.0.0.1:7401
api: {advertise: "10.0.0.1:7400"}
gossip: {advertise: "10.0.0.1:7402"}
hsm: {module: /usr/lib/softhsm/libsofthsm2.so}
`

func TestSmallestFileHasTotalDefaults(t *testing.T) {
	c, err := Parse([]byte(smallest))
	require.NoError(t, err)
	require.Equal(t, "0.0.0.0:7400", c.API.Listen)
	require.Equal(t, "10.0.0.1:7400", c.API.Advertise)
	require.Equal(t, "300ms", c.Raft.Heartbeat.String())
	require.Equal(t, "2m", c.Raft.SnapshotInterval.String())
	require.Equal(t, "/var/lib/strongroom/audit", c.Audit.Dir)
	require.Equal(t, 64<<10, c.API.MaxValueBytes)
}

func TestDefaultsYAMLIsAFileOfTheDefaults(t *testing.T) {
	text := DefaultsYAML()
	_, err := Parse([]byte(text))
	require.ErrorContains(t, err, "node.id")
	for from, to := range map[string]string{
		"  id: \"\"\n  # Folder":  "  id: node1\n  # Folder",
		"  id: \"\"\n  # Address": "  id: 5a0f1f0e-6d2a-4b5b-9f0a-0d8f4c1f5e11\n  # Address",
		"module: \"\"":            "module: /lib/p11.so",
		"advertise: \"\"":         "advertise: \"10.0.0.1:1\"",
	} {
		require.Contains(t, text, from)
		text = strings.ReplaceAll(text, from, to)
	}
	filled, err := Parse([]byte(text))
	require.NoError(t, err)
	require.Equal(t, Default().Raft, filled.Raft)
	require.Equal(t, Default().Log, filled.Log)
}

func TestEveryFaultIsNamedAtOnce(t *testing.T) {
	_, err := Parse([]byte(`
node: {id: "Node 1", dataDir: data}
api: {listen: "7400", maxValueBytes: 2000000}
hsm: {sessions: 0, tokenLabel: "", initArgs: "a\0b"}
audit: {durability: maybe}
raft: {heartbeat: 100ms, election: 50ms, lease: 90ms}
log: {level: loud, format: xml}
rotation: {webhookAllow: ["https://a", "h.example:x", "ok.example:8443", "*.ok.example", "127.0.0.1:1"], databaseAllow: ["*", "DB.example", "db*.x"]}
`))
	require.Error(t, err)
	for _, setting := range []string{
		"node.id:", "node.dataDir:", "cluster.id:", "api.listen:", "api.maxValueBytes:", "cluster.advertise:", "gossip.advertise:",
		"hsm.module:", "hsm.sessions:", "hsm.tokenLabel:", "hsm.initArgs:", "audit.durability:", "raft.heartbeat:", "raft.election:", "log.level:", "log.format:",
	} {
		require.Contains(t, err.Error(), setting)
	}
	require.Equal(t, 2, strings.Count(err.Error(), "rotation.webhookAllow:"))
	require.Equal(t, 3, strings.Count(err.Error(), "rotation.databaseAllow:"))
}

func TestUnknownSettingsAndSecondDocumentsAreRefused(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"raft: {heartbeet: 1s}", "heartbeet"},
		{"rafts: {}", "rafts"},
		{smallest + "---\nnode: {id: node2}\n", "more than one YAML document"},
		{"node: {id: a, id: b}", "already"},
		{"raft: {heartbeat: 300}", `"300" is not a duration`},
		{"cluster: {initialMembers: [{id: a, adress: b}]}", "adress"},
		{"api: {maxBodyBytes: many}", "many"},
	} {
		_, err := Parse([]byte(c.text))
		require.ErrorContains(t, err, c.want, c.text)
		require.NotContains(t, err.Error(), "config.", "names of Go types mean nothing to the reader: %s", c.text)
	}
}

func TestInitialMembersAreChecked(t *testing.T) {
	text := strings.Replace(smallest, "advertise: 10.0.0.1:7401", `advertise: 10.0.0.1:7401
  initialMembers: [{id: node2, address: "10.0.0.2:7401"}, {id: node2, address: "10.0.0.2:7401"}, {id: "", address: x}]`, 1)
	_, err := Parse([]byte(text))
	for _, want := range []string{"initialMembers[1].id", "initialMembers[1].address", "initialMembers[2].id", "initialMembers[2].address", "does not have this node"} {
		require.ErrorContains(t, err, want)
	}
}

func TestSecretFilesOfOthersAreRefused(t *testing.T) {
	dir := t.TempDir()
	c := Default()
	for _, p := range []*string{&c.API.CertFile, &c.API.KeyFile, &c.Cluster.CertFile, &c.Cluster.KeyFile, &c.Cluster.CAFile, &c.Gossip.KeyFile, &c.HSM.Module, &c.HSM.PINFile} {
		*p = filepath.Join(dir, filepath.Base(fmt.Sprintf("%p", p)))
		require.NoError(t, os.WriteFile(*p, []byte("x"), 0o600))
	}
	require.NoError(t, c.CheckFiles())
	for name, p := range map[string]string{
		"api.keyFile": c.API.KeyFile, "cluster.keyFile": c.Cluster.KeyFile, "gossip.keyFile": c.Gossip.KeyFile, "hsm.pinFile": c.HSM.PINFile,
	} {
		for _, mode := range []os.FileMode{0o640, 0o604, 0o620} {
			require.NoError(t, os.Chmod(p, mode))
			err := c.CheckFiles()
			require.ErrorContains(t, err, name)
			require.ErrorContains(t, err, "chmod 600 "+p)
			_, err = ReadSecret(p, 10)
			require.ErrorContains(t, err, "chmod 600")
		}
		require.NoError(t, os.Chmod(p, 0o400))
	}
	require.NoError(t, c.CheckFiles())
	require.NoError(t, os.Chmod(c.API.CertFile, 0o644), "what is public may be read")
	require.NoError(t, c.CheckFiles())
	require.NoError(t, os.Remove(c.Cluster.CAFile))
	require.ErrorContains(t, c.CheckFiles(), "cluster.caFile")
}

func TestEverySettingIsDescribedAndHasAReadableDefault(t *testing.T) {
	_ = Default() // panics on a tag that cannot be read
	for _, s := range Settings() {
		require.NotEmpty(t, s.Doc, s.Name)
		require.NotContains(t, s.Name, "..", s.Name)
	}
}

func TestDocumentHoldsEverySetting(t *testing.T) {
	raw, err := os.ReadFile("../../docs/configuration.md")
	require.NoError(t, err)
	_, generated, ok := strings.Cut(string(raw), "<!-- generated from here on; make docs renews it -->\n")
	require.True(t, ok)
	require.Equal(t, strings.TrimSpace(Reference()), strings.TrimSpace(generated), "run make docs")
}

func TestExampleOfTheDocumentIsValid(t *testing.T) {
	raw, err := os.ReadFile("../../docs/configuration.md")
	require.NoError(t, err)
	_, rest, ok := strings.Cut(string(raw), "```yaml\n")
	require.True(t, ok)
	example, _, ok := strings.Cut(rest, "```")
	require.True(t, ok)
	_, err = Parse([]byte(example))
	require.NoError(t, err)
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(smallest))
	f.Add([]byte(DefaultsYAML()))
	f.Add([]byte("a: &x [*x]"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		c, err := Parse(raw)
		if err == nil {
			require.Empty(t, c.faults())
		}
	})
}
