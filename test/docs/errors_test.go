package docs_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// statusNames maps the names of package net/http to numbers.
func statusNames() map[string]int {
	out := map[string]int{}
	for status := 100; status < 600; status++ {
		if text := http.StatusText(status); text != "" {
			out["Status"+strings.NewReplacer(" ", "", "-", "", "'", "").Replace(text)] = status
		}
	}
	return out
}

// statuses reads the one table of package api, by its source: it is nobody
// else's to import.
func statuses(t *testing.T) map[string]int {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), filepath.Join(root, "api/errors.go"), nil, 0)
	require.NoError(t, err)
	names, out := statusNames(), map[string]int{}
	ast.Inspect(file, func(n ast.Node) bool {
		entry, ok := n.(*ast.KeyValueExpr)
		if !ok {
			return true
		}
		key, ok := entry.Key.(*ast.SelectorExpr)
		require.True(t, ok)
		value, ok := entry.Value.(*ast.SelectorExpr)
		require.True(t, ok)
		out[key.Sel.Name] = names[value.Sel.Name]
		return true
	})
	require.Greater(t, len(out), 10)
	return out
}

// The table of errors in docs/api.md is the table of the code: every code, no
// other, with the status that is sent.
func TestTheTableOfErrorsIsComplete(t *testing.T) {
	documented := map[string]int{}
	for _, row := range rows(t, read(t, "docs/api.md"), "## Errors")[1:] {
		require.Len(t, row, 3, "%v", row)
		status, err := strconv.Atoi(row[1])
		require.NoError(t, err)
		for _, code := range spans(row[0]) {
			documented[code] = status
		}
	}
	require.Equal(t, statuses(t), documented)
}
