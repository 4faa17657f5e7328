package fsm

import "maps"

// StartAnew is the first command of a cluster that was restored from a backup:
// nothing proposes it to a cluster that runs. The nodes of the cluster before
// have lost what they promised, all at once and by intent, so their data
// folders are forgotten; whoever is no member now has to be admitted again.
// Removed nodes stay removed.
type StartAnew struct {
	Meta Meta `cbor:"1,keyasint,omitempty"`
	// Members are those that the restored cluster begins with.
	Members []NodeAddress `cbor:"2,keyasint,omitempty"`
	// Doubt: what happened after the backup is unknown, so values may have been
	// handed out, and join tokens used, of which this state has not heard. Logs
	// of builds before there was this field decide as they did.
	Doubt bool `cbor:"3,keyasint,omitempty"`
}

// NodeAddress says where a node is.
type NodeAddress struct {
	ID      string `cbor:"1,keyasint,omitempty"`
	Address string `cbor:"2,keyasint,omitempty"`
}

func startAnew(t *txn, c StartAnew) (Result, *Refusal) {
	if len(c.Members) == 0 || len(c.Members) > maxNodes {
		return Result{}, invalid("members", "must have 1 to %d entries", maxNodes)
	}
	address := map[string]string{}
	at := map[string]string{}
	for _, m := range c.Members {
		if r := checkNode(m.ID, m.Address); r != nil {
			return Result{}, r
		}
		if old := t.nodes.value([]byte(m.ID)); old.Removed() {
			return Result{}, removedNode(old)
		}
		if address[m.ID] != "" || at[m.Address] != "" {
			return Result{}, invalid("members", "%s at %s is there twice", m.ID, m.Address)
		}
		address[m.ID], at[m.Address] = m.Address, m.ID
	}
	var all []*ClusterNode
	for _, n := range scan(t.nodes.root(), nil, nil) {
		all = append(all, n)
	}
	for _, old := range all {
		if old.Removed() {
			continue
		}
		if other := at[old.Address]; address[old.ID] == "" && other != "" {
			// It was there once, and the machine has another name now.
			next := *old
			next.RemovedAt, next.RemovedBy, next.Reason, next.RequestID = t.now, t.by, "its address is that of "+other+" in the restored cluster", c.Meta.RequestID
			t.nodes.put([]byte(old.ID), &next)
			continue
		}
		next := *old
		next.Folder, next.AdmittedAt = nil, 0
		if a := address[old.ID]; a != "" {
			next.Address = a
		}
		t.nodes.put([]byte(old.ID), &next)
	}
	if c.Doubt {
		t.revokeJoinTokens()
		t.loseSession(t.whoHandedOut(all, c.Members))
	}
	return Result{}, nil
}

// whoHandedOut answers the nodes that may have led before a restore. Sessions
// that the backup knows are settled as ever, by nodes that have their trail
// still; the one for these nodes stands for those that it does not know.
func (t *txn) whoHandedOut(known []*ClusterNode, members []NodeAddress) []string {
	ids := map[string]bool{}
	for _, n := range known {
		ids[n.ID] = ids[n.ID] || n.Folder != nil
	}
	for _, m := range members {
		ids[m.ID] = true
	}
	for _, s := range t.sessions.collect(nil, 0) {
		ids[s.Node] = true
	}
	maps.DeleteFunc(ids, func(_ string, may bool) bool { return !may })
	return sorted(ids)
}
