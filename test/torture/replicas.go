package torture

import (
	"fmt"
	"strings"
)

// replica is where a node is: its index, and the beginning of the hash that is
// chained over everything up to it.
type replica struct{ index, hash string }

// replica reads the two together: an index that is the same before and after
// the hash was read is the hash's.
func (n *node) replica() (replica, bool) {
	before, ok1 := n.metric("strongroom_raft_applied_index")
	hash, ok2 := n.metric("strongroom_raft_state_hash")
	after, ok3 := n.metric("strongroom_raft_applied_index")
	return replica{before, hash}, ok1 && ok2 && ok3 && before == after
}

// equalReplicas waits until all members are at the same index, which they
// reach when nobody writes, and says whether they hold the same.
func (l *Lab) equalReplicas() (string, error) {
	var at []replica
	err := l.await("all members to be at the same index", func() bool {
		at = nil
		for _, n := range l.members() {
			r, ok := n.replica()
			if !ok || len(at) > 0 && r.index != at[0].index {
				return false
			}
			at = append(at, r)
		}
		return true
	})
	if err != nil {
		return "", err
	}
	for _, r := range at {
		if r.hash != at[0].hash {
			return "", fmt.Errorf("the replicas have parted at index %s: %v", at[0].index, at)
		}
	}
	for _, n := range l.members() {
		if apart, ok := n.metric("strongroom_raft_state_apart_members"); ok && apart != "0" {
			return "", fmt.Errorf("%s finds %s members to have another state", n.name(), apart)
		}
	}
	return fmt.Sprintf("%d replicas are equal at index %s", len(at), strings.TrimSuffix(at[0].index, ".0")), nil
}
