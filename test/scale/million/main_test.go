package main

import (
	"bytes"
	"context"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestTheCommandMeasuresEverything runs it over few secrets. What a page may
// cost is held by a test of engine.
func TestTheCommandMeasuresEverything(t *testing.T) {
	var out bytes.Buffer
	require.NoError(t, run(context.Background(), &out, 3000, 2))
	for _, line := range []string{"apply", "memory", "snapshot", "restore", "browse /", "tag of few", "text that nobody has", "caller of one service", "describeSecret", "getUsage"} {
		require.True(t, strings.Contains(out.String(), line), "%s is missing:\n%s", line, out.String())
	}
}
