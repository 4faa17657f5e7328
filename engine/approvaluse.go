package engine

import (
	"context"
	"fmt"
	"reflect"
	"time"

	"github.com/google/uuid"

	"github.com/strongroom/strongroom/audit"
	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/iam"
	"github.com/strongroom/strongroom/internal/fault"
)

// batchRead is denied item by item: no approval is of a whole batch.
const batchRead = "secrets/batchGetSecretValue"

// requireApproved goes on where approvals are all that action on r lacks, by
// d: it asks again with those who approved exactly this request.
//
// A write uses the approval in the step in which its command is applied, so
// that one that fails uses nothing up and none is applied twice. What is no
// write has no such step: its use is committed here, before anything is
// opened. Apply counts the approvals once more in both.
func (c *call) requireApproved(action iam.Action, r iam.Resource, d iam.Decision) error {
	if c.trial != nil {
		c.trial.lacks(action, d.Needs)
		return nil
	}
	if c.stamped && c.op.Write {
		// The command would go without the approval.
		return fault.New(fault.Internal, "operation %s asked for a right after it had made its command", c.op.Path())
	}
	off := time.Duration(0)
	a, hash, err := c.givenApproval()
	if err != nil {
		return err
	}
	if a != nil {
		asker := c.asker()
		asker.approvedBy = c.whoApproved(a.ID)
		needs := d.Needs // what the policies ask for now, not when it was requested
		if d, off = c.decideFor(&asker, action, r); d.Allowed {
			if err := c.use(a, hash, needs); err != nil {
				return err
			}
		}
	}
	c.noteReport(action, r, d)
	switch {
	case d.Allowed:
		return nil
	case off != 0:
		return c.clockDenied(action, c.recorded(action, r, d), off)
	}
	return c.unapproved(action, c.recorded(action, r, d), d.Needs)
}

// givenApproval finds the request for approval that this request can use, and
// the digest by which it is the same; nil: there is none.
func (c *call) givenApproval() (*fsm.ApprovalRequest, []byte, error) {
	if c.canonical == nil || c.op.Path() == batchRead {
		return nil, nil, nil
	}
	hash, err := c.approvalHash()
	if err != nil {
		return nil, nil, err
	}
	now := max(c.now.UnixMilli(), c.state.Time())
	var found *fsm.ApprovalRequest
	for a := range c.state.ApprovalsFor(c.who.name, c.op.Path(), hash) {
		switch {
		case c.approval != nil && c.approval.ID == a.ID:
			return a, hash, nil // one request uses one approval
		case a.StateAt(now) == fsm.ApprovalPending, found == nil && a.Serves("", c.repeat(), now):
			found = a
		}
	}
	if c.approval != nil {
		return nil, nil, nil
	}
	return found, hash, nil
}

// repeat is what shows that a request came before. A write that is repeated
// without its client token would be done twice. A read gives its caller what
// it was given.
func (c *call) repeat() string {
	if c.op.Write {
		return c.clientToken()
	}
	return "read"
}

// use marks the approval a as the one of this request.
func (c *call) use(a *fsm.ApprovalRequest, hash []byte, needs []iam.Need) error {
	if c.approval == nil {
		c.approval = &fsm.ApprovalUse{ID: a.ID, Operation: a.Operation, Hash: hash, Attempt: uuid.NewString(), Repeat: c.repeat()}
		c.event.ApprovalID = a.ID
	}
	c.approval.Needs = append(c.approval.Needs, approvalNeeds(needs)...)
	if c.op.Write {
		return nil
	}
	return c.commitUse(c.ctx)
}

func (c *call) commitUse(ctx context.Context) error {
	_, err := c.commit(ctx, fsm.UseApproval{Meta: c.stamp()})
	return err
}

// settleApproval withholds the answer of a write that was allowed by an
// approval and has not used it, unless it can be used now: one that found
// nothing to change.
func (c *call) settleApproval(ctx context.Context) error {
	if c.approval == nil || !c.op.Write {
		return nil
	}
	a := c.engine.Log.Local().Approval(c.approval.ID)
	if a != nil && a.State == fsm.ApprovalUsed {
		return nil
	}
	return c.commitUse(ctx)
}

// unapproved is denied for who lacks nothing but approvals: they may know
// whose, and how to ask for them.
func (c *call) unapproved(action iam.Action, kept *audit.Decision, needs []iam.Need) error {
	err := c.denied(action, kept).With("needs", wireNeeds(needs))
	how := "ask for it with iam/requestApproval, then send exactly this request again"
	if c.op.Path() == batchRead {
		how = "no item of a batch can be approved; use secrets/getSecretValue, after iam/requestApproval"
	}
	err.Message = fmt.Sprintf("%s needs the approval of other people here; %s", action, how)
	return err
}

// whoApproved answers those who approved the request of this id, as far as
// they are still there; "": nobody.
func (c *call) whoApproved(id string) []iam.Approver {
	a := c.state.Approval(id)
	if a == nil {
		return nil
	}
	var out []iam.Approver
	for _, name := range c.state.Counted(a, &fsm.Approval{}, c.now.UnixMilli()) {
		out = append(out, iam.Approver{Principal: name, Groups: c.groupsInState(name)})
	}
	return out
}

// clientToken answers that of the request, if it has any.
func (c *call) clientToken() string {
	f := reflect.ValueOf(c.request).Elem().FieldByName("ClientToken")
	if !f.IsValid() {
		return ""
	}
	return f.String()
}
