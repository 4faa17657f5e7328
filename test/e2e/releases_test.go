package e2e_test

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// upgrade is a way from one build to another.
type upgrade struct {
	name     string
	from, to string // binaries
}

// upgrades are the ways that are tried: from this source to the build that
// stands for the next release. With STRONGROOM_UPGRADE, as make upgrade sets
// it, also from the last release to both.
func upgrades(t *testing.T) []upgrade {
	t.Helper()
	today, next := suite.Binary(), built(t, "next", "../..", "-tags", "levelnext")
	out := []upgrade{{"from this source to the next release", today, next}}
	if os.Getenv("STRONGROOM_UPGRADE") != "" {
		last := built(t, "last", lastReleaseSource(t))
		out = append(out, upgrade{"from the last release to this source", last, today}, upgrade{"from the last release to the next", last, next})
	}
	return out
}

// built builds the binary of a source once for all tests of the package.
func built(t *testing.T, name, source string, flags ...string) string {
	t.Helper()
	binary := filepath.Join(suite.Dir(), name)
	if _, err := os.Stat(binary); !errors.Is(err, fs.ErrNotExist) {
		require.NoError(t, err)
		return binary
	}
	cmd := exec.Command("go", append(append([]string{"build", "-o", binary}, flags...), "./cmd/strongroom")...)
	cmd.Dir = source
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	return binary
}

// lastReleaseSource takes the source of the last release out of the repository.
func lastReleaseSource(t *testing.T) string {
	t.Helper()
	raw, err := os.ReadFile("testdata/last-release")
	require.NoError(t, err)
	var commit string
	for line := range strings.Lines(string(raw)) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			require.Empty(t, commit, "testdata/last-release names two commits")
			commit = line
		}
	}
	require.Regexp(t, "^[0-9a-f]{40}$", commit)
	const root = "../.."
	out, err := exec.Command("git", "-C", root, "cat-file", "-e", commit+"^{commit}").CombinedOutput()
	require.NoError(t, err, "the last release, %s of test/e2e/testdata/last-release, is not in this repository, which may be a shallow clone: git fetch --unshallow, or git fetch origin %s\n%s", commit, commit, out)
	dir := t.TempDir()
	archive := filepath.Join(dir, "source.tar")
	out, err = exec.Command("git", "-C", root, "archive", "--output", archive, commit).CombinedOutput()
	require.NoError(t, err, "%s", out)
	source := filepath.Join(dir, "source")
	require.NoError(t, os.Mkdir(source, 0o700))
	out, err = exec.Command("tar", "-xf", archive, "-C", source).CombinedOutput()
	require.NoError(t, err, "%s", out)
	return source
}
