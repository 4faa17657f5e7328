package e2e_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// The commands of the manual that make principals and trusts are run as they
// stand there.
func TestTheTrustsOfTheManualCanBeMade(t *testing.T) {
	c := suite.Fresh(t, 1)
	dir := t.TempDir()
	authority := machineCertificate(t, dir)
	for _, name := range []string{"ca.crt", "clients-ca.pem"} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(authority), 0o600))
	}
	c.OK(1, "iam/createPrincipal", `{"name":"web","kind":"service"}`)
	manual, err := os.ReadFile("../../docs/login.md")
	require.NoError(t, err)
	ran := 0
	for line := range strings.SplitSeq(string(manual), "\n") {
		if !strings.HasPrefix(line, "strongroom trust put") && !strings.HasPrefix(line, "strongroom principal create") {
			continue
		}
		cmd := c.Command()
		cmd.Path, cmd.Args, cmd.Dir = "/bin/bash", []string{"bash", "-c", `strongroom() { "$BINARY" "$@"; }` + "\n" + line}, dir
		cmd.Env = append(cmd.Env, "BINARY="+c.Binary)
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s: %s", line, out)
		ran++
	}
	require.Equal(t, 7, ran)
	for _, name := range []string{"staff", "ci", "cluster", "mesh"} {
		c.OK(1, "iam/deleteTrust", `{"name":%q}`, name)
	}
}
