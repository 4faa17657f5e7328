package main

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/client"
	"github.com/strongroom/strongroom/internal/fault"
)

// A destruction that is refused says whom it waits for: consumers, and nodes
// that have not told yet what they handed out.
func TestARefusedDestructionSaysWhomItWaitsFor(t *testing.T) {
	var out bytes.Buffer
	showFailure(&out, &client.Error{Status: 409, Code: string(fault.VersionInUse), Message: "version: 1 may still be in use", Details: map[string]any{
		"consumers": []any{map[string]any{"principal": "web", "instance": "pod-1", "mayHoldUntil": "2026-11-26T21:04:31.545Z"}},
		"unknown":   map[string]any{"nodes": []any{"node1"}, "until": "2026-11-26T21:04:37.237Z"},
	}})
	require.Contains(t, out.String(), "in use by:   web/pod-1 until 2026-11-26T21:04:31.545Z\n")
	require.Contains(t, out.String(), "not told:    node1 led before")
	require.Contains(t, out.String(), "after 2026-11-26T21:04:37.237Z\n")
}
