package main

import (
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestFilesOfAddressesAreReadAgain(t *testing.T) {
	path := filepath.Join(t.TempDir(), "addresses")
	log := slog.New(slog.DiscardHandler)
	require.Empty(t, addressesIn("", log))
	require.Empty(t, addressesIn(path, log), "a file that is not there yet")
	require.NoError(t, os.WriteFile(path, []byte("# members\n\n 10.0.0.1:7401 \nnode2.example:7401"), 0o600))
	require.Equal(t, []string{"10.0.0.1:7401", "node2.example:7401"}, addressesIn(path, log))
	require.NoError(t, os.WriteFile(path, []byte("10.0.0.3:7401\n"), 0o600))
	require.Equal(t, []string{"10.0.0.3:7401"}, addressesIn(path, log))
}

// A join token that others could read may have been taken by them.
func TestJoinTokenMustBePrivate(t *testing.T) {
	path := filepath.Join(t.TempDir(), "token")
	require.NoError(t, os.WriteFile(path, []byte("text\n"), 0o600))
	token, err := joinToken(path)
	require.NoError(t, err)
	require.Equal(t, "text", string(token.Expose()))
	token.Wipe()
	require.NoError(t, os.Chmod(path, 0o644))
	_, err = joinToken(path)
	require.ErrorContains(t, err, "cluster.joinTokenFile: "+path+" holds a secret")
	_, err = joinToken(path + "-none")
	require.ErrorContains(t, err, "cluster.joinTokenFile")
}
