package fsm

import "iter"

// Approval answers the request for approval of this id, nil if there is none.
func (s *State) Approval(id string) *ApprovalRequest { return at(s.approvals, []byte(id)) }

// Approvals answers the requests for approval with ids greater than after, in
// order.
func (s *State) Approvals(after string) iter.Seq[*ApprovalRequest] {
	return values(scan(s.approvals.Root(), nil, following(after)))
}

// ApprovalsFor answers the requests of principal for approval of exactly the
// request with this hash, whatever their state.
func (s *State) ApprovalsFor(principal, operation string, hash []byte) iter.Seq[*ApprovalRequest] {
	return values(scan(s.approvalHashes.Root(), approvalKey(principal, operation, hash, ""), nil))
}

// HasApprovals reports whether principal ever asked for approval of a request
// of operation, as far as that is kept.
func (s *State) HasApprovals(principal, operation string) bool {
	for range scan(s.approvalHashes.Root(), append(pair(principal, operation), 0), nil) {
		return true
	}
	return false
}

// Counted answers whose approvals of a count for need at now: never who asked
// for it, only who was there before, still is, and is still entitled. Groups
// are those of the state; what a claim once said counts for nothing.
func (s *State) Counted(a *ApprovalRequest, need *Approval, now int64) []string {
	return a.counted(need, s.Principal, func(group, name string) bool {
		m := at(s.members, pair(group, name))
		return m != nil && m.Holds(now)
	})
}

// ApprovalState is StateAt, and approved for one that has all that it needed
// when it was made.
func (s *State) ApprovalState(a *ApprovalRequest, now int64) string {
	state := a.StateAt(now)
	if state != ApprovalPending {
		return state
	}
	for _, n := range a.Needs {
		if len(s.Counted(a, &n.Approval, now)) < n.Approval.Count {
			return state
		}
	}
	return ApprovalApproved
}
