package main

import (
	"bytes"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/api/wire"
)

// statusTable is what a person sees of two nodes whose clocks are off by so
// much.
func statusTable(t *testing.T, refuses bool, offsets ...time.Duration) string {
	t.Helper()
	status := &wire.StatusResponse{ClusterID: "c", MaxClockOffset: wire.Duration(5 * time.Second), Nodes: []wire.NodeStatus{{NodeID: "n1", RefusesTimed: refuses}, {NodeID: "n2"}}}
	for i, off := range offsets {
		shown := wire.Offset(off)
		status.Nodes[i].ClockOffset = &shown
	}
	var out bytes.Buffer
	require.NoError(t, showTable(&session{out: &out}, status))
	for i, off := range offsets {
		require.Equal(t, wire.Offset(off), *status.Nodes[i].ClockOffset, "the answer itself stays")
	}
	return out.String()
}

func TestStatusShowsClocksThatAreOff(t *testing.T) {
	for _, quiet := range [][]time.Duration{nil, {0, 0}, {2500 * time.Millisecond, -2500 * time.Millisecond}} {
		text := statusTable(t, false, quiet...)
		require.NotContains(t, text, "CLOCK")
		require.NotContains(t, text, "clock")
		require.NotContains(t, text, "REFUSES")
	}
	text := statusTable(t, false, 0, -2501*time.Millisecond)
	require.Regexp(t, `max clock offset: +5s\n`, text)
	require.Regexp(t, `CLOCK OFFSET\n`, text)
	require.Regexp(t, `(?m)^n2 .* -2\.501s$`, text)
	require.NotRegexp(t, `(?m)^n1 .*s$`, text, "that of the other is in order")
	text = statusTable(t, true, -8*time.Second, 0)
	require.Regexp(t, `CLOCK OFFSET +REFUSES TIMED\n`, text)
	require.Regexp(t, `(?m)^n1 .* -8s +yes$`, text)
}
