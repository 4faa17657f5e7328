// Package docs_test holds the documentation against the code: what a page
// names is there, and what a page lists is the whole list. That docs/api.md and
// docs/configuration.md are what is generated is held by cmd/strongroom and
// internal/config.
package docs_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/test/localcluster"
)

const root = "../.."

var suite localcluster.Suite

func TestMain(m *testing.M) { os.Exit(suite.Run(m)) }

func read(t *testing.T, name string) string {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(root, name))
	require.NoError(t, err)
	return string(raw)
}

// pages answers every page of the repository by its name.
func pages(t *testing.T) map[string]string {
	t.Helper()
	out := map[string]string{}
	for _, pattern := range []string{"*.md", "*/*.md", "*/*/*.md"} {
		found, err := filepath.Glob(filepath.Join(root, pattern))
		require.NoError(t, err)
		for _, path := range found {
			name, err := filepath.Rel(root, path)
			require.NoError(t, err)
			out[name] = read(t, name)
		}
	}
	require.Greater(t, len(out), 12, "the pages must have been found")
	return out
}

// manuals are the pages for users, operators and contributors. Other pages may
// name what is planned or was not taken.
func manuals(t *testing.T) map[string]string {
	t.Helper()
	out := map[string]string{}
	for name, text := range pages(t) {
		if name == "README.md" || name == "CONTRIBUTING.md" || name == "SECURITY.md" || name == "deploy/README.md" || strings.HasPrefix(name, "docs/") {
			out[name] = text
		}
	}
	require.Len(t, out, 38)
	return out
}

var (
	fence    = regexp.MustCompile("(?ms)^ *```([a-z]*)\n(.*?)^ *```$")
	codeSpan = regexp.MustCompile("`([^`\n]+)`")
)

// spans answers what stands between backticks in the running text.
func spans(text string) []string {
	var out []string
	for _, m := range codeSpan.FindAllStringSubmatch(fence.ReplaceAllString(text, ""), -1) {
		out = append(out, m[1])
	}
	return out
}

// shell answers the lines that a reader may type: those of sh blocks, and spans.
func shell(text string) []string {
	out := spans(text)
	for _, m := range fence.FindAllStringSubmatch(text, -1) {
		if m[1] == "sh" {
			for line := range strings.Lines(strings.ReplaceAll(m[2], "\\\n", "")) {
				code, _, _ := strings.Cut(line, " # ")
				out = append(out, strings.TrimSpace(code))
			}
		}
	}
	return out
}

// rows answers the cells of the table below a heading.
func rows(t *testing.T, text, heading string) [][]string {
	t.Helper()
	_, section, found := strings.Cut(text, heading+"\n")
	require.True(t, found, "there is no heading %q", heading)
	var out [][]string
	for line := range strings.Lines(section) {
		line = strings.TrimSpace(line)
		switch {
		case strings.HasPrefix(line, "#"):
			return out
		case strings.HasPrefix(line, "|") && !strings.HasPrefix(line, "|---"):
			var cells []string
			for _, cell := range strings.Split(strings.Trim(line, "|"), " | ") {
				cells = append(cells, strings.TrimSpace(cell))
			}
			out = append(out, cells)
		}
	}
	return out
}
