package config

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestWhereToJoinIsChecked(t *testing.T) {
	for text, want := range map[string]string{
		"cluster: {join: [\"10.0.0.1\"]}": "cluster.join[0]: must be host:port",
		"cluster: {join: [\"a:1\"], initialMembers: [{id: node1, address: \"10.0.0.1:1\"}]}": "cluster.join: goes without cluster.initialMembers",
		"cluster: {joinFile: here}":      "cluster.joinFile: must be empty or an absolute path",
		"cluster: {joinTokenFile: here}": "cluster.joinTokenFile: must be empty or an absolute path",
		"gossip: {seedsFile: here}":      "gossip.seedsFile: must be empty or an absolute path",
	} {
		_, err := Parse([]byte(text))
		require.ErrorContains(t, err, want, text)
	}
	_, err := Parse([]byte("cluster: {join: [\"seed.example:7401\"], joinFile: /etc/strongroom/join}"))
	require.NotContains(t, err.Error(), "cluster.join", "names are addresses, too")
}
