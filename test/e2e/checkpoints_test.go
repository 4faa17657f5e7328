package e2e_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/test/localcluster"
)

// An auditor takes the public key and an export along, and needs nothing else:
// the chains of all nodes, through a node that does not lead, as a stream.
func TestAnAuditorVerifiesAnExportAlone(t *testing.T) {
	c := suite.Fresh(t, 3)
	c.Lead(2) // the command line asks node 1
	c.OK(1, "secrets/createSecret", `{"path":"/app/e2e/audited","value":"eA=="}`)
	for range 50 {
		c.OK(3, "secrets/getSecretValue", `{"path":"/app/e2e/audited"}`)
	}
	dir := t.TempDir()
	file := func(name string, text []byte) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, text, 0o600))
		return path
	}
	var key, export string
	c.Await("the key, and copies of all chains", func() bool {
		pem, run := c.CLI("", "audit", "key"), c.CLI("", "audit", "export")
		key, export = file("audit.pem", []byte(pem.Out)), file("trail.jsonl", []byte(run.Out))
		return pem.Code == 0 && run.Code == 0 && strings.Count(run.Out, `"export":"strongroom/`) == 3
	})
	verified := c.CLI("", "audit", "verify", export, "--key", key)
	require.Zero(t, verified.Code, verified.Out+verified.Err)
	for _, node := range []string{"node1", "node2", "node3"} {
		require.Regexp(t, `(?m)^ok .*: node `+node+`, events 1 to \d+, signed up to \d+`, verified.Out)
	}
	text, err := os.ReadFile(export)
	require.NoError(t, err)
	require.Equal(t, 50, bytes.Count(text, []byte(`"event":"secrets.get_value"`)))
	changed := file("changed.jsonl", bytes.Replace(text, []byte(`/app/e2e/audited`), []byte(`/app/e2e/audittd`), 1))
	broken := c.CLI("", "audit", "verify", changed, "--key", key)
	require.NotZero(t, broken.Code)
	require.Contains(t, broken.Out, "BROKEN")
	cut := file("cut.jsonl", text[:len(text)-200])
	require.NotZero(t, c.CLI("", "audit", "verify", cut, "--key", key).Code)
	require.Contains(t, c.CLI("", "audit", "verify", export).Out, "--key FILE", "it says what is missing")

	// Another party cosigns, comes back, and what it kept is held against a later
	// export.
	witness := filepath.Join(dir, "witness")
	first := c.CLI("", "audit", "witness", "--dir", witness, "--name", "w.example.com", "--once")
	require.Zero(t, first.Code, first.Err)
	require.Regexp(t, `cosigned node2, \d+ events`, first.Out)
	name := regexp.MustCompile(`(?m)^witness (\S+)$`).FindStringSubmatch(first.Out)[1]
	kept, err := filepath.Glob(filepath.Join(witness, "node2-*.checkpoint"))
	require.NoError(t, err)
	require.Len(t, kept, 1)
	early, err := os.ReadFile(kept[0])
	require.NoError(t, err)
	c.OK(1, "secrets/getSecretValue", `{"path":"/app/e2e/audited"}`)
	later := file("later.jsonl", []byte(c.CLI("", "audit", "export").Out))
	again := c.CLI("", "audit", "witness", "--dir", witness, "--name", "w.example.com", "--once")
	require.Zero(t, again.Code, again.Err)
	require.Contains(t, again.Out, "cosigned node2", "it continues the one before")
	held := c.CLI("", "audit", "verify", later, "--key", key, "--witness", name, "--checkpoint", file("early", early))
	require.Zero(t, held.Code, held.Out+held.Err)

	proof := c.CLI("", "audit", "proof", "node2", "--sequence", "2", "-o", "json")
	require.Zero(t, proof.Code, proof.Err)
	require.Contains(t, proof.Out, `"inclusion"`)

	// The folder of a node, and its copy on another one, verify too.
	c.Await("that node 1 signs its copy of node 2's chain", func() bool {
		return regexp.MustCompile(`(?m)^strongroom_audit_signed_events\{member="node2"\} [1-9]`).MatchString(c.Metrics(1))
	})
	c.Stop()
	folders := []string{filepath.Join(c.Dir, "node2", "data", "audit")}
	copies, err := filepath.Glob(filepath.Join(c.Dir, "node1", "data", "audit", "copies", "node2", "*"))
	require.NoError(t, err)
	require.Len(t, copies, 1)
	both := c.CLI("", append([]string{"audit", "verify", "--key", key}, append(folders, copies...)...)...)
	require.Zero(t, both.Code, both.Out+both.Err)
}

// The commands of the manual are run as they stand there, in their order; what
// the witness handed in is there whoever leads.
func TestTheCommandsOfTheAuditManual(t *testing.T) {
	c := suite.Fresh(t, 3)
	dir := t.TempDir()
	c.OK(1, "secrets/createSecret", `{"path":"/app/dev/web/db-password","value":"eA=="}`)
	read := c.Send(1, c.Token, "secrets/getSecretValue", `{"path":"/app/dev/web/db-password"}`)
	require.NotEmpty(t, read.RequestID())
	c.Await("a checkpoint of node1", func() bool {
		return regexp.MustCompile(`(?m)^strongroom_audit_signed_events\{member="node1"\} [1-9]`).MatchString(c.Metrics(c.Leader()))
	})

	witness := []string{"audit", "witness", "--dir", filepath.Join(dir, "witness"), "--name", "w.example.com", "--once"}
	unknown := c.CLI("", append(witness, "--hand-in")...)
	require.NotZero(t, unknown.Code, "nobody has named it yet")
	require.Contains(t, unknown.Err, "audit.witnesses")
	require.Contains(t, c.CLI("", "audit", "cosigned", "node1").Err, "no witness has handed in")
	name := regexp.MustCompile(`(?m)^witness (\S+)$`).FindStringSubmatch(unknown.Out)[1]
	c.Configure(func(int) string { return fmt.Sprintf("\naudit:\n  witnesses: [%q]\n  checkpointEvery: 1s\n", name) })
	c.Await("the copies of all chains", func() bool {
		return strings.Count(c.CLI("", "audit", "export").Out, `"export":"strongroom/`) == 3
	})

	manual, err := os.ReadFile("../../docs/audit.md")
	require.NoError(t, err)
	ran, out := 0, ""
	for line := range strings.SplitSeq(string(manual), "\n") {
		if !strings.HasPrefix(line, "strongroom audit ") {
			continue
		}
		line = strings.ReplaceAll(line, "0198c0de-0000-7000-8000-00000000000a", read.RequestID())
		var r localcluster.Run
		c.Await(line, func() bool { // who leads may not have all of a chain yet
			r = c.Bash(dir, `source "$3"; strongroom() { "$BINARY" "$@"; }; BINARY="$1" WITNESS="$2"; `+line, c.Binary, name, filepath.Join(c.Dir, "env"))
			return r.Code == 0 || !strings.Contains(line, "--hand-in")
		})
		require.Zero(t, r.Code, "%s: %s%s", line, r.Out, r.Err)
		ran, out = ran+1, out+r.Out
	}
	require.Equal(t, 10, ran)
	require.Regexp(t, `handed in node1, \d+ events`, out)
	require.Contains(t, out, "Request "+read.RequestID())
	require.Contains(t, out, "kms.decrypt with key")

	for _, node := range []int{2, 3} {
		c.Lead(node)
		shown := c.CLI("", "audit", "cosigned", "node1")
		require.Zero(t, shown.Code, shown.Err)
		require.Contains(t, shown.Out, "— w.example.com ")
		kept, err := os.ReadFile(filepath.Join(dir, "node1.checkpoint"))
		require.NoError(t, err)
		require.Equal(t, string(kept), shown.Out)
	}
}
