package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/audit"
)

// writtenTrail makes a trail of node with n events and closes it.
func writtenTrail(t *testing.T, node string, n int) (dir string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), node)
	trail, err := audit.Open(audit.Config{Dir: dir, Node: node})
	require.NoError(t, err)
	for range n {
		_, err := trail.Append(context.Background(), []audit.Event{{Event: "secrets.get_value", Outcome: audit.OK, Principal: "ann"}})
		require.NoError(t, err)
	}
	require.NoError(t, trail.Close())
	return dir
}

func verifyCommand(args ...string) (out string, code int) {
	var stdout, stderr bytes.Buffer
	code = execute(context.Background(), append([]string{"audit", "verify"}, args...), strings.NewReader(""), &stdout, &stderr)
	return stdout.String(), code
}

// An auditor checks copies of two nodes, without a server or a credential, and
// later whether they still are what they were.
func TestTrailsAreVerifiedOffline(t *testing.T) {
	one, two := writtenTrail(t, "n1", 5), writtenTrail(t, "n2", 3)
	out, code := verifyCommand(one, two, "-o", "json")
	require.Zero(t, code, out)
	var answer struct{ Trails []verifiedTrail }
	require.NoError(t, json.Unmarshal([]byte(out), &answer))
	require.Len(t, answer.Trails, 2)
	require.True(t, answer.Trails[0].OK && answer.Trails[1].OK)
	head := answer.Trails[0].Head
	require.Contains(t, head, "n1:6:") // and the one of its opening

	out, code = verifyCommand(two, one, "--head", head)
	require.Zero(t, code, out)
	require.Contains(t, out, "--head "+head)
	out, code = verifyCommand(two, "--head", head)
	require.Equal(t, exitFailed, code)
	require.Contains(t, out, "no folder holds the trail of this node")

	files, err := filepath.Glob(filepath.Join(one, "audit-*"))
	require.NoError(t, err)
	text, err := os.ReadFile(files[0])
	require.NoError(t, err)
	lines := bytes.SplitAfter(text, []byte("\n"))
	require.NoError(t, os.WriteFile(files[0], bytes.Join(lines[:4], nil), 0o600))
	out, code = verifyCommand(one)
	require.Zero(t, code, "a cut end leaves no trace in the trail: %s", out)
	out, code = verifyCommand(one, "--head", head)
	require.Equal(t, exitFailed, code)
	require.Contains(t, out, "BROKEN  "+one+": node n1, event 5 ")
	require.Contains(t, out, "its end was cut")

	changed := bytes.Replace(text, []byte(`"ann"`), []byte(`"bob"`), 1)
	require.NoError(t, os.WriteFile(files[0], changed, 0o600))
	out, code = verifyCommand(one, "-o", "json")
	require.Equal(t, exitFailed, code)
	answer.Trails = nil
	require.NoError(t, json.Unmarshal([]byte(out), &answer))
	require.Equal(t, uint64(2), answer.Trails[0].Sequence)
	require.Equal(t, files[0], answer.Trails[0].File)
	require.Empty(t, answer.Trails[0].Head, "of what is broken nothing is to be kept")

	for _, args := range [][]string{{}, {one, "--head", "n1:7"}} {
		_, code = verifyCommand(args...)
		require.Equal(t, exitUsage, code)
	}
	_, code = verifyCommand(filepath.Join(one, "none"))
	require.Equal(t, exitFailed, code)
}
