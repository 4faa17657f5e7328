package docs_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/engine"
	"github.com/strongroom/strongroom/internal/config"
)

func isOperation(service, name string) bool { return engine.Find(service, name) != nil }

// source is all Go code of the product, for names that are nothing but known
// to it.
func source(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	require.NoError(t, filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && path != root && (strings.HasPrefix(d.Name(), ".") || d.Name() == "test") {
			return filepath.SkipDir
		}
		if !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		raw, err := os.ReadFile(path)
		b.Write(raw)
		return err
	}))
	require.Greater(t, b.Len(), 300_000, "the source must have been found")
	return b.String()
}

// alertRules are the alerts that there are, for their runbooks.
func alertRules(t *testing.T) string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(root, "deploy/prometheus/rules/*.yml"))
	require.NoError(t, err)
	require.NotEmpty(t, files)
	var b strings.Builder
	for _, name := range files {
		raw, err := os.ReadFile(name)
		require.NoError(t, err)
		b.Write(raw)
	}
	return b.String()
}

// testNames are the tests that there are, for manuals that say what holds them.
func testNames(t *testing.T) map[string]bool {
	t.Helper()
	out := map[string]bool{}
	declared := regexp.MustCompile(`(?m)^func (Test[A-Za-z]+)\(`)
	require.NoError(t, filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		raw, err := os.ReadFile(path)
		for _, m := range declared.FindAllStringSubmatch(string(raw), -1) {
			out[m[1]] = true
		}
		return err
	}))
	return out
}

// words answers everything in text that could be a name.
func words(text string) map[string]bool {
	out := map[string]bool{}
	for _, w := range regexp.MustCompile(`[A-Za-z0-9]+(?:[_-][A-Za-z0-9]+)*`).FindAllString(text, -1) {
		out[w] = true
	}
	return out
}

// events are the names in the audit trail.
func events() []string {
	out := []string{"audit.open", "audit.recovered", "audit.prune", "audit.chain_broken", "kms.encrypt", "kms.decrypt", "kms.use_of_key_pending_deletion", "secrets.version_expires_soon", "secrets.rotation_step", "secrets.rotation_failed", "secrets.rotation_overdue", "alert.canary", "audit.copy_broken", "audit.anchor_mismatch", "audit.new_chain", "cluster.admit_member", "cluster.remove_dead_member", "cluster.raise_level"}
	for _, op := range engine.Operations() {
		out = append(out, op.Event)
	}
	return out
}

// Every name between backticks is one of the code, by the shape that it has:
// operations, IAM actions, settings, events, variables, roles, fields, codes.
func TestNamesInTheManualsAreThoseOfTheCode(t *testing.T) {
	services, sections := []string{}, []string{}
	for _, op := range engine.Operations() {
		services = append(services, op.Service)
	}
	settings := []string{}
	for _, s := range config.Settings() {
		settings = append(settings, s.Name)
		section, _, _ := strings.Cut(s.Name, ".")
		sections = append(sections, section)
	}
	actions := []string{}
	for _, a := range engine.Actions() {
		actions = append(actions, string(a))
	}
	known := words(source(t) + read(t, "deploy/systemd/strongroom.service") + alertRules(t))
	var (
		slash     = regexp.MustCompile(`^([a-z]+)/([a-z][A-Za-z]+)$`)
		colon     = regexp.MustCompile(`^([a-z]+):([a-z][A-Za-z]+)$`)
		dotted    = regexp.MustCompile(`^([a-z]+)\.[A-Za-z_]+$`)
		variable  = regexp.MustCompile(`^[A-Z]+(_[A-Z]+)+$`)
		mixedCase = regexp.MustCompile(`^[A-Za-z][a-z]*([A-Z][a-z]+)+$`)
		testName  = regexp.MustCompile(`^Test[A-Z][A-Za-z]+$`)
		kebab     = regexp.MustCompile(`^[a-z]+(-[a-z]+)+$`)
	)
	tests := testNames(t)
	checked := map[string]int{}
	for name, text := range manuals(t) {
		for _, span := range spans(text) {
			if m := slash.FindStringSubmatch(span); m != nil && slices.Contains(services, m[1]) {
				checked["operation"]++
				require.True(t, isOperation(m[1], m[2]), "%s names the operation %s", name, span)
			} else if m := colon.FindStringSubmatch(span); m != nil && slices.Contains(services, m[1]) {
				checked["action"]++
				require.Contains(t, actions, span, "%s names the action %s", name, span)
			} else if m := dotted.FindStringSubmatch(span); m != nil && slices.Contains(append(sections, services...), m[1]) && !strings.HasSuffix(span, ".go") {
				checked["setting or event"]++
				require.True(t, slices.Contains(settings, span) || slices.Contains(events(), span) || known[strings.TrimPrefix(span, m[1]+".")] && name == "docs/api.md", "%s names %s", name, span)
			} else if testName.MatchString(span) {
				checked["test"]++
				require.True(t, tests[span], "%s names %s, which is no test", name, span)
			} else if variable.MatchString(span) || mixedCase.MatchString(span) || kebab.MatchString(span) {
				checked["word"]++
				require.True(t, known[span], "%s names %s, which the code does not know", name, span)
			}
		}
	}
	for _, what := range []string{"operation", "action", "setting or event", "test", "word"} {
		require.Positive(t, checked[what], what)
	}
}

// What the README promises in its first lines is done by something.
func TestRolesInTheReadmeExist(t *testing.T) {
	code := source(t)
	roles := regexp.MustCompile(`"roles":\["([a-z-]+)"\]`).FindAllStringSubmatch(read(t, "README.md"), -1)
	require.NotEmpty(t, roles)
	for _, m := range roles {
		require.Contains(t, code, `"`+m[1]+`"`)
	}
}
