package main

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"
)

// The program measures what it says: it finds events in each question but the
// one for nobody's.
func TestTheQuestionsFindWhatTheyShould(t *testing.T) {
	var out bytes.Buffer
	require.NoError(t, run(100_000, "", "n1", false, &out))
	require.Contains(t, out.String(), "nothing found")
	require.NotContains(t, out.String(), "(0 found)\na p")
	require.Regexp(t, `an hour, all +[\d.]+ ms, at most [\d.]+ ms \(\d{3,} found\)`, out.String())
	require.Regexp(t, `nothing found +[\d.]+ ms, at most [\d.]+ ms \(0 found\)`, out.String())
	require.Regexp(t, `all, a request +[\d.]+ ms, at most [\d.]+ ms \(11 found\)`, out.String())
	require.Regexp(t, `all, no request +[\d.]+ ms, at most [\d.]+ ms \(0 found\)`, out.String())
}
