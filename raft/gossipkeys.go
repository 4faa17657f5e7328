package raft

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"github.com/hashicorp/memberlist"

	"github.com/strongroom/strongroom/internal/secret"
)

const gossipKeyBytes = 32

func checkGossipKeys(keys []secret.Bytes) error {
	if len(keys) == 0 {
		return errors.New("raft: gossip needs a key; it has no mode without")
	}
	for i, key := range keys {
		if key.Len() != gossipKeyBytes {
			return fmt.Errorf("raft: gossip keys must have %d bytes; number %d has %d", gossipKeyBytes, i+1, key.Len())
		}
	}
	return nil
}

func newKeyring(keys []secret.Bytes) (*memberlist.Keyring, error) {
	var all [][]byte
	for _, key := range keys {
		all = append(all, bytes.Clone(key.Expose())) // memberlist keeps it
	}
	ring, err := memberlist.NewKeyring(all, all[0])
	if err != nil {
		return nil, fmt.Errorf("gossip keys: %w", err)
	}
	return ring, nil
}

// UseGossipKeys replaces the keys of gossip. From then on this node sends under
// the first and takes what is under any of them; what is under another one is
// dropped. Calls must not overlap.
func (n *Node) UseGossipKeys(keys []secret.Bytes) error {
	if err := checkGossipKeys(keys); err != nil {
		return err
	}
	return setKeyring(n.gossip.ring, keys)
}

// setKeyring has ring hold keys, the first one first. What is sent meanwhile is
// under the first key of before or of now, never under another one, which
// members may not have.
//
// memberlist hands its slice out to readers and RemoveKey moves what is behind
// the removed key, so keys are taken from the end only, and those that stay are
// put back: a message under one of these may be dropped meanwhile, as on any
// network.
func setKeyring(ring *memberlist.Keyring, keys []secret.Bytes) error {
	wanted := func(key []byte) bool {
		return slices.ContainsFunc(keys, func(k secret.Bytes) bool { return bytes.Equal(k.Expose(), key) })
	}
	first := bytes.Clone(keys[0].Expose())
	if err := errors.Join(ring.AddKey(first), ring.UseKey(first)); err != nil {
		return fmt.Errorf("gossip keys: %w", err)
	}
	held := slices.Clone(ring.GetKeys())
	if gone := slices.IndexFunc(held, func(key []byte) bool { return !wanted(key) }); gone >= 0 {
		for i := len(held) - 1; i >= gone; i-- {
			if err := ring.RemoveKey(held[i]); err != nil {
				return fmt.Errorf("gossip keys: %w", err)
			}
		}
	}
	for _, key := range keys {
		if err := ring.AddKey(bytes.Clone(key.Expose())); err != nil {
			return fmt.Errorf("gossip keys: %w", err)
		}
	}
	return nil
}
