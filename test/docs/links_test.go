package docs_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var (
	link    = regexp.MustCompile(`\[[^\]\n]*\]\(([^)\s]+)\)`)
	heading = regexp.MustCompile(`(?m)^#+ (.+)$`)
)

func TestRelativeLinksLeadSomewhere(t *testing.T) {
	all := pages(t)
	count := 0
	for name, text := range all {
		for _, m := range link.FindAllStringSubmatch(fence.ReplaceAllString(text, ""), -1) {
			if strings.Contains(m[1], "://") || strings.HasPrefix(m[1], "mailto:") {
				continue
			}
			count++
			file, anchor, _ := strings.Cut(m[1], "#")
			target := name
			if file != "" {
				target = filepath.Join(filepath.Dir(name), file)
			}
			_, err := os.Stat(filepath.Join(root, target))
			require.NoError(t, err, "%s links to %s", name, m[1])
			if anchor != "" {
				require.Contains(t, anchors(all[target]), anchor, "%s links to %s", name, m[1])
			}
		}
	}
	require.Greater(t, count, 10, "the links must have been found")
}

// anchors are the names that forges give to headings.
func anchors(text string) []string {
	var out []string
	for _, m := range heading.FindAllStringSubmatch(text, -1) {
		kept := strings.Map(func(r rune) rune {
			if r == ' ' {
				return '-'
			}
			if strings.ContainsRune("`.,:;()'\"?!/*", r) {
				return -1
			}
			return r
		}, strings.ToLower(m[1]))
		out = append(out, kept)
	}
	return out
}

// A path between backticks, such as test/tour, is one of this repository if
// its first part is.
func TestPathsOfTheRepositoryExist(t *testing.T) {
	path := regexp.MustCompile(`^[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)+/?$`)
	count := 0
	for name, text := range manuals(t) {
		for _, span := range spans(text) {
			first, rest, _ := strings.Cut(span, "/")
			info, err := os.Stat(filepath.Join(root, first))
			if !path.MatchString(span) || first == ".strongroom" || err != nil || !info.IsDir() || isOperation(first, rest) {
				continue
			}
			count++
			_, err = os.Stat(filepath.Join(root, span))
			require.NoError(t, err, "%s names %s", name, span)
		}
	}
	require.Greater(t, count, 5, "the paths must have been found")
}
