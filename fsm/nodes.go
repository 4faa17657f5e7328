package fsm

import (
	"bytes"
	"errors"
	"fmt"
	"iter"
)

// ClusterNode is what the state knows of a node, besides the configuration of
// Raft, which says who is a member now: who may become one, which data folder
// a node has taken part with, and who never may again. A record stays for ever.
type ClusterNode struct {
	ID       string `cbor:"1,keyasint,omitempty"`
	Address  string `cbor:"2,keyasint,omitempty"` // host:port of its node link
	ReadOnly bool   `cbor:"3,keyasint,omitempty"` // it gets no vote, or gives up the one it has
	// Folder is the id of the data folder that it has taken part with, nil:
	// none yet. A node that comes with another one has lost what it promised.
	Folder      []byte `cbor:"4,keyasint,omitempty"`
	AnnouncedAt int64  `cbor:"5,keyasint,omitempty"`
	AnnouncedBy string `cbor:"6,keyasint,omitempty"`
	TokenID     string `cbor:"7,keyasint,omitempty"` // of the join token that it came with
	AdmittedAt  int64  `cbor:"8,keyasint,omitempty"`
	RemovedAt   int64  `cbor:"9,keyasint,omitempty"` // 0: it was not
	RemovedBy   string `cbor:"10,keyasint,omitempty"`
	Reason      string `cbor:"11,keyasint,omitempty"`
	RequestID   string `cbor:"12,keyasint,omitempty"`
}

// Removed reports whether the node was removed: its id never comes back.
func (n *ClusterNode) Removed() bool { return n != nil && n.RemovedAt != 0 }

// SetNode announces a node that shall become a member, or removes one.
type SetNode struct {
	Meta     Meta   `cbor:"1,keyasint,omitempty"`
	NodeID   string `cbor:"2,keyasint,omitempty"`
	Address  string `cbor:"3,keyasint,omitempty"`
	ReadOnly bool   `cbor:"4,keyasint,omitempty"`
	Remove   bool   `cbor:"5,keyasint,omitempty"`
	Reason   string `cbor:"6,keyasint,omitempty"`
}

// AdmitNode lets a node take part with a data folder. The leader proposes it
// when the node asks, before it may store or vote for anything.
type AdmitNode struct {
	Meta    Meta   `cbor:"1,keyasint,omitempty"`
	NodeID  string `cbor:"2,keyasint,omitempty"`
	Address string `cbor:"3,keyasint,omitempty"`
	Folder  []byte `cbor:"4,keyasint,omitempty"`
	// Member: it is in the configuration of Raft already.
	Member bool `cbor:"5,keyasint,omitempty"`
	// TokenHash is SHA-256 of the join token that it brings, nil: none.
	TokenHash []byte `cbor:"6,keyasint,omitempty"`
}

// SetVote says whether a node shall have a vote. That is a wish: the leader
// gives a vote when the node is in step, and takes one when a majority of the
// others answers, for neither is known here.
type SetVote struct {
	Meta     Meta   `cbor:"1,keyasint,omitempty"`
	NodeID   string `cbor:"2,keyasint,omitempty"`
	ReadOnly bool   `cbor:"3,keyasint,omitempty"`
}

// Bounds of nodes.
const (
	maxNodes       = 10_000 // those that were removed included
	maxNodeAddress = 255
	folderBytes    = 16
)

// ClusterNode answers what is known of a node, nil if nothing is.
func (s *State) ClusterNode(id string) *ClusterNode { return at(s.nodes, []byte(id)) }

// ClusterNodes answers the nodes with ids greater than after, in order, those
// that were removed included.
func (s *State) ClusterNodes(after string) iter.Seq[*ClusterNode] {
	return values(scan(s.nodes.Root(), nil, following(after)))
}

// WouldAdmit answers why Apply would refuse the command in this state, nil if
// it would not: a leader does not write a refusal for each question of a
// stranger.
func (s *State) WouldAdmit(c AdmitNode) *Refusal {
	_, r := admitNode(s.begin(s.index+1, c.Meta), c)
	return r
}

func checkNode(id, address string) *Refusal {
	if r := checkName("nodeId", id); r != nil {
		return r
	}
	if address == "" || len(address) > maxNodeAddress {
		return invalid("address", "must be host:port of the node's link, at most %d bytes", maxNodeAddress)
	}
	return nil
}

func removedNode(n *ClusterNode) *Refusal {
	return conflict("nodeId: %s was removed from the cluster, and a removed id never comes back; give the machine a new node id, a certificate of that, and an empty data folder", n.ID).with("nodeId", n.ID)
}

func setNode(t *txn, c SetNode) (Result, *Refusal) {
	if c.Remove {
		return removeNode(t, c)
	}
	if r := checkNode(c.NodeID, c.Address); r != nil {
		return Result{}, r
	}
	old := t.nodes.value([]byte(c.NodeID))
	switch {
	case old.Removed():
		return Result{}, removedNode(old)
	case old != nil && old.Folder != nil && (old.Address != c.Address || old.ReadOnly != c.ReadOnly):
		return Result{}, alreadyExists("nodeId: %s is a member, at %s; to move it, remove it and add the machine with a new id; to give or take its vote, use setVoter", c.NodeID, old.Address)
	case old != nil && old.Address == c.Address && old.ReadOnly == c.ReadOnly:
		return Result{Name: c.NodeID, Unchanged: true}, nil
	}
	if r := t.freeAddress(c.NodeID, c.Address); r != nil {
		return Result{}, r
	}
	if old == nil && t.nodes.tree.Len() >= maxNodes {
		return Result{}, tooManyNodes()
	}
	t.nodes.put([]byte(c.NodeID), &ClusterNode{
		ID: c.NodeID, Address: c.Address, ReadOnly: c.ReadOnly, AnnouncedAt: t.now, AnnouncedBy: t.by, RequestID: c.Meta.RequestID,
	})
	return Result{Name: c.NodeID}, nil
}

func tooManyNodes() *Refusal {
	return conflict("nodeId: %d nodes have been in this cluster, the most that there can be", maxNodes)
}

// freeAddress: two nodes at one address would share a vote, because votes are
// remembered by address.
func (t *txn) freeAddress(id, address string) *Refusal {
	for _, n := range scan(t.nodes.root(), nil, nil) {
		if n.ID != id && n.Address == address && !n.Removed() {
			return conflict("address: %s is the address of %s; remove that node first", address, n.ID).with("nodeId", n.ID)
		}
	}
	return nil
}

// setVote takes nodes with a record only: those without one have not said with
// which data folder they take part, and get no vote either.
func setVote(t *txn, c SetVote) (Result, *Refusal) {
	if r := checkName("nodeId", c.NodeID); r != nil {
		return Result{}, r
	}
	old := t.nodes.value([]byte(c.NodeID))
	switch {
	case old == nil:
		return Result{}, notFound("nodeId: no node %s takes part or was announced; cluster members shows them", c.NodeID)
	case old.Removed():
		return Result{}, removedNode(old)
	case old.ReadOnly == c.ReadOnly:
		return Result{Name: c.NodeID, Unchanged: true}, nil
	}
	next := *old
	next.ReadOnly, next.RequestID = c.ReadOnly, c.Meta.RequestID
	t.nodes.put([]byte(c.NodeID), &next)
	return Result{Name: c.NodeID}, nil
}

// removeNode also takes ids that nobody has heard of: the first members were
// in the configuration before there were records.
func removeNode(t *txn, c SetNode) (Result, *Refusal) {
	if r := checkName("nodeId", c.NodeID); r != nil {
		return Result{}, r
	}
	if c.Reason == "" || len(c.Reason) > maxWhy {
		return Result{}, invalid("reason", "must have 1 to %d bytes: a removal cannot be taken back", maxWhy)
	}
	if len(c.Address) > maxNodeAddress {
		return Result{}, invalid("address", "must have at most %d bytes", maxNodeAddress)
	}
	old := t.nodes.value([]byte(c.NodeID))
	switch {
	case old.Removed():
		return Result{Name: c.NodeID, State: "removed", Unchanged: true}, nil
	case old == nil && t.nodes.tree.Len() >= maxNodes:
		return Result{}, tooManyNodes()
	case old == nil:
		old = &ClusterNode{ID: c.NodeID, Address: c.Address}
	}
	next := *old
	next.RemovedAt, next.RemovedBy, next.Reason, next.RequestID = t.now, t.by, c.Reason, c.Meta.RequestID
	t.nodes.put([]byte(c.NodeID), &next)
	return Result{Name: c.NodeID, State: "removed"}, nil
}

func admitNode(t *txn, c AdmitNode) (Result, *Refusal) {
	if r := checkNode(c.NodeID, c.Address); r != nil {
		return Result{}, r
	}
	if len(c.Folder) != folderBytes {
		return Result{}, invalid("folder", "must have %d bytes", folderBytes)
	}
	old := t.nodes.value([]byte(c.NodeID))
	switch {
	case old.Removed():
		return Result{}, removedNode(old)
	case old != nil && old.Folder != nil && !bytes.Equal(old.Folder, c.Folder):
		return Result{}, conflict("nodeId: %s has taken part with another data folder, and has lost what it promised there; remove it, and give the machine a new node id, a certificate of that, and an empty data folder", c.NodeID).with("nodeId", c.NodeID)
	case old != nil && old.Address != c.Address:
		return Result{}, conflict("address: %s was announced at %s and calls itself at %s; set cluster.advertise of the node, or remove it and add another", c.NodeID, old.Address, c.Address)
	case old != nil && old.Folder != nil:
		return Result{Name: c.NodeID, Unchanged: true}, nil
	}
	next := ClusterNode{ID: c.NodeID, Address: c.Address}
	if old != nil {
		next = *old
	}
	if old == nil {
		if r := t.freeAddress(c.NodeID, c.Address); r != nil {
			return Result{}, r
		}
		if t.nodes.tree.Len() >= maxNodes {
			return Result{}, tooManyNodes()
		}
		if !c.Member {
			token, r := t.useJoinToken(c)
			if r != nil {
				return Result{}, r
			}
			next.ReadOnly, next.TokenID = token.ReadOnly, token.ID
			next.AnnouncedAt, next.AnnouncedBy = t.now, token.CreatedBy
		}
	}
	next.Folder, next.AdmittedAt = c.Folder, t.now
	t.nodes.put([]byte(c.NodeID), &next)
	return Result{Name: c.NodeID, TokenID: next.TokenID}, nil
}

func (t *txn) restoreNode(n *ClusterNode) (string, error) {
	switch {
	case checkName("nodeId", n.ID) != nil || len(n.Address) > maxNodeAddress || len(n.Reason) > maxWhy:
		return "", errors.New("a node is none that could have been announced")
	case n.Folder != nil && len(n.Folder) != folderBytes:
		return "", errors.New("a node has a data folder that is none")
	}
	for _, at := range []int64{n.AnnouncedAt, n.AdmittedAt, n.RemovedAt} {
		if at < 0 || at > maxTime {
			return "", errors.New("a node is of a time out of range")
		}
	}
	if !n.Removed() {
		if r := t.freeAddress(n.ID, n.Address); r != nil || n.Address == "" {
			return "", fmt.Errorf("the node %.64q has no address of its own", n.ID)
		}
	}
	t.nodes.put([]byte(n.ID), n)
	return n.ID, nil
}
