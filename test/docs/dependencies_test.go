package docs_test

import (
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// required answers the modules of go.mod with their versions, and the tools.
func required(t *testing.T) (modules map[string]string, tools []string) {
	t.Helper()
	modules = map[string]string{}
	file := read(t, "go.mod")
	for _, m := range regexp.MustCompile(`(?m)^(?:require |\t)(\S+) (v\S+)`).FindAllStringSubmatch(file, -1) {
		modules[m[1]] = m[2]
	}
	for _, m := range regexp.MustCompile(`(?m)^tool (\S+)$`).FindAllStringSubmatch(file, -1) {
		tools = append(tools, m[1])
	}
	require.Greater(t, len(modules), 20)
	require.NotEmpty(t, tools)
	return modules, tools
}

// moduleOf answers the module of a package, empty for the standard library and
// our own.
func moduleOf(modules map[string]string, pkg string) string {
	for path := pkg; path != "."; path = filepath.Dir(path) {
		if _, ok := modules[path]; ok {
			return path
		}
	}
	return ""
}

// Each library that the code imports has a line that says why, and no line is
// left over. What go.mod marks as indirect does not count: the imports do.
func TestEveryDependencyHasAReason(t *testing.T) {
	modules, tools := required(t)
	direct := map[string]bool{}
	for _, tool := range tools {
		direct[moduleOf(modules, tool)] = true
	}
	set := token.NewFileSet()
	require.NoError(t, filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, ".go") {
			return err
		}
		file, err := parser.ParseFile(set, path, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		for _, i := range file.Imports {
			pkg, err := strconv.Unquote(i.Path.Value)
			if err != nil {
				return err
			}
			if m := moduleOf(modules, pkg); m != "" {
				direct[m] = true
			}
		}
		return nil
	}))
	listed := map[string]bool{}
	for _, row := range rows(t, read(t, "docs/dependencies.md"), "# Dependencies")[1:] {
		require.Len(t, row, 3, "%v", row)
		module, version, pinned := strings.Cut(row[0], " ")
		listed[module] = true
		require.NotEmpty(t, row[1], "the licence of %s", module)
		require.NotEmpty(t, row[2], "the reason for %s", module)
		if pinned {
			require.Equal(t, modules[module], "v"+version, module)
		}
	}
	require.Equal(t, direct, listed)
}
