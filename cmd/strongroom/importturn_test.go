package main

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/pkcs11"
)

// turnRoot is a root whose copies are for the HSMs of these nodes, "node=hsm".
func turnRoot(check byte, copies ...[2]string) pkcs11.Root {
	r := pkcs11.Root{Version: 1, MACCheck: make([]byte, 32)}
	r.MACCheck[0] = check
	for _, c := range copies {
		r.Copies = append(r.Copies, pkcs11.RootCopy{NodeID: c[0], Fingerprint: []byte(c[1])})
	}
	return r
}

// Two nodes of one HSM never may import the same root for the first time in
// the same ten seconds, whatever the order of the copies.
func TestNodesOfOneHSMTakeTurns(t *testing.T) {
	r := turnRoot(1, [2]string{"c", "shared"}, [2]string{"a", "shared"}, [2]string{"z", "own"}, [2]string{"b", "shared"}, [2]string{"b", "shared"}, [2]string{"", "shared"})
	start := time.Unix(1000, 0)
	for node, first := range map[string]time.Duration{"a": 0, "b": importTurn, "c": 2 * importTurn, "z": 0, "stranger": 0} {
		var turns importTurns
		for at := time.Duration(0); at <= 3*importTurn; at += time.Second {
			require.Equal(t, at >= first, turns.mine(node, []pkcs11.Root{r}, start.Add(at)), "%s after %v", node, at)
		}
	}
}

// The wait is for each root from when it was first heard of: that of a
// rotation is none of the first root's.
func TestEachRootHasTurnsOfItsOwn(t *testing.T) {
	first, next := turnRoot(1, [2]string{"a", "shared"}, [2]string{"b", "shared"}), turnRoot(2, [2]string{"a", "shared"}, [2]string{"b", "shared"})
	var turns importTurns
	now := time.Unix(1000, 0)
	require.False(t, turns.mine("b", []pkcs11.Root{first}, now))
	now = now.Add(time.Hour)
	require.True(t, turns.mine("b", []pkcs11.Root{first}, now))
	require.False(t, turns.mine("b", []pkcs11.Root{first, next}, now))
	require.True(t, turns.mine("b", []pkcs11.Root{first, next}, now.Add(importTurn)))
}
