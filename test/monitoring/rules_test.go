package monitoring_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func promtool(t *testing.T, args ...string) string {
	t.Helper()
	cmd := exec.Command("promtool", args...)
	cmd.Dir = filepath.Join(root, "deploy/prometheus")
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "promtool %v\n%s", args, out)
	return string(out)
}

// relative answers names as promtool is to see them.
func relative(t *testing.T, pattern string) []string {
	var out []string
	for _, name := range files(t, filepath.Join("deploy/prometheus", pattern)) {
		name, err := filepath.Rel(filepath.Join(root, "deploy/prometheus"), name)
		require.NoError(t, err)
		out = append(out, name)
	}
	return out
}

func TestAlertsFireWhenTheyShould(t *testing.T) {
	promtool(t, append([]string{"check", "rules", "--lint=all", "--lint-fatal"}, relative(t, "rules/*.yml")...)...)
	promtool(t, append([]string{"test", "rules"}, relative(t, "tests/*.yml")...)...)
}

// TestThatATestOfAnAlertCanFail is the control of the test above.
func TestThatATestOfAnAlertCanFail(t *testing.T) {
	dir := t.TempDir()
	for _, name := range files(t, "deploy/prometheus/*/hsm.yml") {
		raw, err := os.ReadFile(name)
		require.NoError(t, err)
		text := strings.Replace(string(raw), "expr: strongroom_hsm_healthy == 0", "expr: strongroom_hsm_healthy == 2", 1)
		to := filepath.Join(dir, filepath.Base(filepath.Dir(name)), "hsm.yml")
		require.NoError(t, os.MkdirAll(filepath.Dir(to), 0o700))
		require.NoError(t, os.WriteFile(to, []byte(text), 0o600))
	}
	out, err := exec.Command("promtool", "test", "rules", filepath.Join(dir, "tests/hsm.yml")).CombinedOutput()
	require.Error(t, err)
	require.Contains(t, string(out), "StrongroomHsmDown fires")
}

func TestTheExampleOfAConfigurationIsSound(t *testing.T) {
	promtool(t, "check", "config", "--syntax-only", "prometheus.yml")
}

// Each alert says how bad it is, what it is about and where its runbook is;
// the section is there; and a test fires it and another one does not.
func TestEveryAlertHasARunbookAndTests(t *testing.T) {
	seen := map[string]bool{}
	for _, a := range alerts(t) {
		require.Regexp(t, `^Strongroom[A-Z][A-Za-z]+$`, a.Name)
		require.False(t, seen[a.Name], a.Name)
		seen[a.Name] = true
		require.Contains(t, []string{"critical", "warning", "info"}, a.Labels["severity"], a.Name)
		require.NotEmpty(t, a.Annotations["summary"], a.Name)
		require.NotEmpty(t, a.Annotations["description"], a.Name)
		page := fmt.Sprintf("docs/runbooks/%s.md", a.file)
		require.Equal(t, page+"#"+strings.ToLower(a.Name), a.Annotations["runbook"])
		raw, err := os.ReadFile(filepath.Join(root, page))
		require.NoError(t, err)
		require.Regexp(t, `(?m)^## `+a.Name+`$`, string(raw))
		raw, err = os.ReadFile(filepath.Join(root, "deploy/prometheus/tests", a.file+".yml"))
		require.NoError(t, err)
		require.Contains(t, string(raw), "name: "+a.Name+" fires\n")
		require.Contains(t, string(raw), "name: "+a.Name+" is quiet\n")
	}
	heading := regexp.MustCompile(`(?m)^## (.*)$`)
	for _, name := range files(t, "docs/runbooks/*.md") {
		raw, err := os.ReadFile(name)
		require.NoError(t, err)
		if filepath.Base(name) == "README.md" {
			continue
		}
		for _, m := range heading.FindAllStringSubmatch(string(raw), -1) {
			require.True(t, seen[m[1]], "%s has a section %s, and there is no such alert", name, m[1])
		}
	}
}

// A board that is looked at must be told apart from all others, and every panel
// lies on it without covering another one.
func TestBoardsAreSound(t *testing.T) {
	seen := map[string]bool{}
	for _, name := range files(t, "deploy/grafana/*.json") {
		var board struct {
			UID    string `json:"uid"`
			Title  string `json:"title"`
			Panels []struct {
				ID      int    `json:"id"`
				Title   string `json:"title"`
				GridPos struct{ X, Y, W, H int }
			} `json:"panels"`
		}
		load(t, name, &board)
		require.False(t, seen[board.UID] || seen[board.Title], name)
		seen[board.UID], seen[board.Title] = true, true
		ids, taken := map[int]bool{}, map[[2]int]string{}
		for _, p := range board.Panels {
			require.False(t, ids[p.ID], "%s: %s", name, p.Title)
			require.NotEmpty(t, p.Title, name)
			ids[p.ID] = true
			require.LessOrEqual(t, p.GridPos.X+p.GridPos.W, 24, "%s: %s", name, p.Title)
			for x := p.GridPos.X; x < p.GridPos.X+p.GridPos.W; x++ {
				for y := p.GridPos.Y; y < p.GridPos.Y+p.GridPos.H; y++ {
					require.Empty(t, taken[[2]int{x, y}], "%s: %s lies over another panel", name, p.Title)
					taken[[2]int{x, y}] = p.Title
				}
			}
		}
	}
}
