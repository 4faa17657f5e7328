package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestTheClientHasEveryOperation: the typed client is the table of operations.
func TestTheClientHasEveryOperation(t *testing.T) {
	var want []string
	for _, service := range tableServices() {
		var b strings.Builder
		writeClient(&b, service)
		name := filepath.Join("../../client", "ops_"+service+".go")
		raw, err := os.ReadFile(name)
		require.NoError(t, err, "run make docs")
		require.Equal(t, b.String(), string(raw), "run make docs")
		want = append(want, name)
	}
	found, err := filepath.Glob("../../client/ops_*.go")
	require.NoError(t, err)
	require.ElementsMatch(t, want, found, "no file of a service that is gone")
}
