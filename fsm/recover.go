package fsm

import (
	"encoding/binary"
	"errors"
	"iter"
	"slices"
	"strings"
)

// Recovery is one time that the cluster was started anew on a single node,
// because the majority of its voters was lost for good. Whatever the others
// acknowledged after the last entry of that node is not in the state, and the
// state says so for ever.
type Recovery struct {
	Index    uint64 `cbor:"1,keyasint,omitempty"` // of the command
	At       int64  `cbor:"2,keyasint,omitempty"`
	Operator string `cbor:"3,keyasint,omitempty"` // login name on the machine
	Reason   string `cbor:"4,keyasint,omitempty"`
	NodeID   string `cbor:"5,keyasint,omitempty"` // that goes on
	// LastIndex and LastTerm are of the last entry that it had, written at
	// LastAt. Up to Committed it knew that a majority had them.
	LastIndex uint64 `cbor:"6,keyasint,omitempty"`
	LastTerm  uint64 `cbor:"7,keyasint,omitempty"`
	LastAt    int64  `cbor:"8,keyasint,omitempty"`
	Committed uint64 `cbor:"9,keyasint,omitempty"`
	// Missing is up to where it had acknowledged entries that were damaged and
	// are lost; 0: none were.
	Missing uint64        `cbor:"10,keyasint,omitempty"`
	CutOff  []NodeAddress `cbor:"11,keyasint,omitempty"` // by id
	// ToldAt is when the audit trail had it; 0: it has not yet.
	ToldAt int64 `cbor:"12,keyasint,omitempty"`
}

// RecoverCluster is applied by strongroom cluster recover, on a node whose
// server does not run, right behind the last entry that the node had: nothing
// proposes it to a cluster that runs.
type RecoverCluster struct {
	Meta      Meta          `cbor:"1,keyasint,omitempty"`
	Survivor  NodeAddress   `cbor:"2,keyasint,omitempty"`
	Folder    []byte        `cbor:"3,keyasint,omitempty"` // its data folder
	CutOff    []NodeAddress `cbor:"4,keyasint,omitempty"` // all other members
	Operator  string        `cbor:"5,keyasint,omitempty"`
	Reason    string        `cbor:"6,keyasint,omitempty"`
	LastIndex uint64        `cbor:"7,keyasint,omitempty"`
	LastTerm  uint64        `cbor:"8,keyasint,omitempty"`
	LastAt    int64         `cbor:"9,keyasint,omitempty"`
	Committed uint64        `cbor:"10,keyasint,omitempty"`
	Missing   uint64        `cbor:"11,keyasint,omitempty"`
}

// TellRecovery notes that the audit trail has the event of a recovery.
type TellRecovery struct {
	Meta  Meta   `cbor:"1,keyasint,omitempty"`
	Index uint64 `cbor:"2,keyasint,omitempty"`
}

// Kind answers the number of the command.
func (RecoverCluster) Kind() Kind { return KindRecoverCluster }
func (TellRecovery) Kind() Kind   { return KindTellRecovery }

func (c RecoverCluster) meta() Meta { return c.Meta }
func (c TellRecovery) meta() Meta   { return c.Meta }

// Numbers of the commands of a recovery.
const (
	KindRecoverCluster Kind = 98
	KindTellRecovery   Kind = 99
)

// maxRecoveries bounds the list; the oldest make room. Nobody loses a majority
// so often.
const maxRecoveries = 100

func recoveryKey(index uint64) []byte { return binary.BigEndian.AppendUint64(nil, index) }

// Recoveries answers the recoveries, oldest first.
func (s *State) Recoveries() iter.Seq[*Recovery] {
	return values(scan(s.recoveries.Root(), nil, nil))
}

// recoverCluster leaves one member. All others are removed for ever, whether
// the configuration of Raft names them or only the state: they may have
// acknowledged what is lost here, or hold entries that this history does not
// have, so their folders must never come back. Their ids are what stops them.
// A node that is only announced stays so: it has not taken part as far as this
// history goes, and one that did in the lost part comes with a folder that is
// not empty, which no leader lets in.
//
// What the lost part of the history may have done is taken as done where that
// is the safe side. Values that others handed out may be held by anybody, so a
// lost session of the ledger stands in the way of destructions until nobody
// can hold them. Join tokens that look unused may have been used, so all of
// them are revoked.
func recoverCluster(t *txn, c RecoverCluster) (Result, *Refusal) {
	if r := t.checkRecovery(c); r != nil {
		return Result{}, r
	}
	cut := map[string]string{}
	for _, n := range c.CutOff {
		cut[n.ID] = n.Address
	}
	for _, n := range t.nodes.collect(nil, 0) {
		// Nobody else may be announced where the survivor is: its address may
		// be a new one.
		if n.ID != c.Survivor.ID && (n.Folder != nil || n.Address == c.Survivor.Address) && !n.Removed() && cut[n.ID] == "" {
			cut[n.ID] = n.Address
		}
	}
	all := make([]NodeAddress, 0, len(cut))
	for _, id := range sorted(cut) {
		if t.nodes.value([]byte(id)).Removed() {
			continue
		}
		all = append(all, NodeAddress{ID: id, Address: cut[id]})
		t.cutOff(id, cut[id], c)
	}
	survivor := ClusterNode{ID: c.Survivor.ID}
	if old := t.nodes.value([]byte(c.Survivor.ID)); old != nil {
		survivor = *old
	}
	survivor.Address, survivor.Folder, survivor.ReadOnly = c.Survivor.Address, c.Folder, false
	if survivor.AdmittedAt == 0 {
		survivor.AdmittedAt = t.now
	}
	t.nodes.put([]byte(survivor.ID), &survivor)
	t.revokeJoinTokens()
	t.loseSessions(all)
	for _, old := range t.recoveries.collect(nil, 0) {
		if len(t.recoveries.collect(nil, maxRecoveries)) < maxRecoveries {
			break
		}
		t.recoveries.remove(recoveryKey(old.Index))
	}
	t.recoveries.put(recoveryKey(t.index), &Recovery{
		Index: t.index, At: t.now, Operator: c.Operator, Reason: c.Reason, NodeID: c.Survivor.ID,
		LastIndex: c.LastIndex, LastTerm: c.LastTerm, LastAt: c.LastAt, Committed: c.Committed, Missing: c.Missing, CutOff: all,
	})
	return Result{Name: c.Survivor.ID, Done: len(all)}, nil
}

func (t *txn) checkRecovery(c RecoverCluster) *Refusal {
	if r := checkNode(c.Survivor.ID, c.Survivor.Address); r != nil {
		return r
	}
	if old := t.nodes.value([]byte(c.Survivor.ID)); old.Removed() {
		return removedNode(old)
	}
	switch {
	case len(c.Folder) != folderBytes:
		return invalid("folder", "must have %d bytes", folderBytes)
	case c.Reason == "" || len(c.Reason) > maxWhy:
		return invalid("reason", "must have 1 to %d bytes: a recovery cannot be taken back", maxWhy)
	case c.Operator == "" || len(c.Operator) > maxMetaBytes:
		return invalid("operator", "must have 1 to %d bytes", maxMetaBytes)
	case len(c.CutOff) > maxNodes:
		return invalid("cutOff", "must have at most %d entries", maxNodes)
	case c.LastAt < 0 || c.LastAt > maxTime || c.LastIndex >= t.index || c.Committed > c.LastIndex:
		return invalid("lastIndex", "is of no log that this command could follow")
	}
	for _, n := range c.CutOff {
		if r := checkNode(n.ID, n.Address); r != nil {
			return r
		}
		if n.ID == c.Survivor.ID {
			return invalid("cutOff", "%s is the node that goes on", n.ID)
		}
	}
	return nil
}

// cutOff removes a node for ever.
func (t *txn) cutOff(id, address string, c RecoverCluster) {
	next := ClusterNode{ID: id, Address: address}
	if old := t.nodes.value([]byte(id)); old != nil {
		next = *old
	}
	next.RemovedAt, next.RemovedBy, next.RequestID = t.now, t.by, c.Meta.RequestID
	next.Reason = "cut off when the cluster was recovered on " + c.Survivor.ID
	t.nodes.put([]byte(id), &next)
}

// revokeJoinTokens revokes all that look unused.
func (t *txn) revokeJoinTokens() {
	for _, k := range t.joinTokens.collect(nil, 0) {
		if k.Spent(t.now) == "" {
			next := *k
			next.RevokedAt = t.now
			t.joinTokens.put([]byte(k.ID), &next)
		}
	}
}

// loseSessions ends all sessions, and puts one in that covers what members
// that are gone may have handed out in sessions that this state has not heard
// of.
func (t *txn) loseSessions(gone []NodeAddress) {
	var names []string
	for _, n := range gone {
		names = append(names, n.ID)
	}
	for _, s := range t.sessions.collect(nil, 0) {
		if s.EndedAt == 0 {
			ended := *s
			ended.EndedAt = t.now
			t.sessions.put(sessionKey(s.Number), &ended)
		}
		if slices.Contains(names, s.Node) {
			lost := *t.sessions.value(sessionKey(s.Number))
			lost.Lost = true
			t.sessions.put(sessionKey(s.Number), &lost)
		}
	}
	if len(names) > 0 {
		t.loseSession(names)
	}
}

// loseSession puts in a session in which any of the nodes may have handed out
// whatever there was until now.
func (t *txn) loseSession(nodes []string) {
	node := strings.Join(nodes, ", ")
	t.sessions.put(sessionKey(t.index), &Session{
		Number: t.index, Node: node[:min(len(node), maxMetaBytes)], OpenedAt: t.now, EndedAt: t.now, Lost: true,
	})
}

func tellRecovery(t *txn, c TellRecovery) (Result, *Refusal) {
	r := t.recoveries.value(recoveryKey(c.Index))
	if r == nil || r.ToldAt != 0 {
		return Result{Unchanged: true}, nil
	}
	next := *r
	next.ToldAt = t.now
	t.recoveries.put(recoveryKey(c.Index), &next)
	return Result{Done: 1}, nil
}

func (t *txn) restoreRecovery(r *Recovery) (string, error) {
	switch {
	case r.Index == 0 || r.Index > t.index || r.LastIndex >= r.Index || r.Committed > r.LastIndex:
		return "", errors.New("a recovery is of no place in the log")
	case r.At <= 0 || r.At > maxTime || r.ToldAt < 0 || r.ToldAt > maxTime || r.LastAt < 0 || r.LastAt > maxTime:
		return "", errors.New("a recovery is of a time out of range")
	}
	t.recoveries.put(recoveryKey(r.Index), r)
	return string(recoveryKey(r.Index)), nil
}
