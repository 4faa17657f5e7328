package engine

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/google/uuid"

	"github.com/strongroom/strongroom/api/wire"
	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/iam"
	"github.com/strongroom/strongroom/internal/fault"
)

// trial is in a call that finds out what approvals a request lacks. The call
// goes the way of the request, through the same questions, up to the place
// where all are answered; it does nothing.
type trial struct {
	shown  string // the request, for people
	needs  []iam.Need
	action iam.Action // the first that was held back
	scope  scope
	over   bool
}

// errTried ends a trial.
var errTried = errors.New("engine: a trial has seen what it was to see")

// authorised is where a request has asked for all the rights that it needs,
// and has done nothing yet: a write when it makes its command, of what is no
// write that asks for more than its own action its own choice.
func (c *call) authorised() error {
	if c.trial == nil {
		return nil
	}
	c.trial.over = true
	return errTried
}

// lacks notes approvals that the request will need.
func (t *trial) lacks(action iam.Action, needs []iam.Need) {
	if t.action == "" {
		t.action = action
	}
	for _, n := range needs {
		same := func(o iam.Need) bool { return o.Policy == n.Policy && o.Statement == n.Statement }
		if !slices.ContainsFunc(t.needs, same) {
			t.needs = append(t.needs, n)
		}
	}
}

// requestApproval stores nothing unless approvals are all that the request
// lacks.
func requestApproval(ctx context.Context, c *call, r *wire.RequestApprovalRequest) (*wire.ApprovalResponse, error) {
	o := c.engine.byPath[r.Operation]
	switch {
	case o == nil:
		return nil, fault.Invalid("operation", "there is no operation %s; docs/api.md lists them", r.Operation)
	case o.Path() == batchRead:
		return nil, fault.Invalid("operation", "a batch cannot be approved as a whole; ask for secrets/getSecretValue")
	case o.Action == "" && len(o.More) == 0: // about the caller itself, or of nobody yet
		return nil, errNeedsNone(o)
	}
	meta, err := c.meta(ctx, r.ClientToken, r)
	if err != nil {
		return nil, err
	}
	if first, err := c.replayed(meta); err != nil {
		return nil, err
	} else if first != nil {
		return c.approvalAnswer(ctx, meta, first.Name)
	}
	a, needs, err := c.try(ctx, o, r.Request.Expose())
	if err != nil {
		return nil, err
	}
	a.ID, a.Reason, a.Needs = uuid.NewString(), r.Reason, approvalNeeds(needs)
	life := iam.MaxApprovalTime
	for _, n := range needs {
		life = min(life, n.ValidFor)
	}
	a.ExpiresAt = max(c.now.UnixMilli(), c.state.Time()) + life.Milliseconds()
	result, err := c.commit(ctx, fsm.RequestApproval{Meta: meta, Request: *a})
	if err != nil {
		return nil, err
	}
	return c.approvalAnswer(ctx, meta, result.Name)
}

// try finds out what approvals the caller lacks for a request of o.
func (c *call) try(ctx context.Context, o *Operation, body []byte) (*fsm.ApprovalRequest, []iam.Need, error) {
	t := &trial{}
	probe := &call{engine: c.engine, op: o, from: c.from, state: c.state, index: c.index, now: c.now, who: c.who, rules: c.rules, trial: t}
	probe.event.Event = o.Event
	defer probe.wipeAll()
	_, err := o.do(ctx, probe, body)
	if len(probe.inner)+len(probe.deliveries) > 0 {
		return nil, nil, fault.New(fault.Internal, "operation %s did something before it had asked for all its rights", o.Path())
	}
	switch {
	case err != nil && !errors.Is(err, errTried):
		if fault.Is(err, fault.AccessDenied) {
			// The same denial, which explain finds by its id.
			c.event.DecisionID, c.event.Decision = probe.event.DecisionID, probe.event.Decision
			c.event.Reason = probe.event.Decision.Reason + ": " + o.Path()
			return nil, nil, err
		}
		return nil, nil, ofRequest(err)
	case len(t.needs) == 0 || !t.over:
		return nil, nil, errNeedsNone(o)
	}
	hash, err := probe.approvalHash()
	if err != nil {
		return nil, nil, err
	}
	s := t.scope
	a := &fsm.ApprovalRequest{
		Operation: o.Path(), Hash: hash, Action: string(t.action), Request: t.shown,
		Path: string(s.path) + s.prefix + s.below, KeyID: s.keyRef, Version: s.version, Subject: s.subject,
	}
	if s.key != nil {
		a.KeyID = s.key.ID
	}
	return a, t.needs, nil
}

func errNeedsNone(o *Operation) error {
	return fault.New(fault.Conflict, "request: needs no approval of anybody; send it to %s", o.Path())
}

// ofRequest says that a field is one of the request that is to be approved.
func ofRequest(err error) error {
	var f *fault.Error
	if !errors.As(err, &f) {
		return err
	}
	out := fault.New(f.Kind, "request: %s", f.Message)
	for name, value := range f.Details {
		out = out.With(name, value)
	}
	return out
}

func approvalNeeds(needs []iam.Need) []fsm.ApprovalNeed {
	out := make([]fsm.ApprovalNeed, len(needs))
	for i, n := range needs {
		out[i] = fsm.ApprovalNeed{Policy: n.Policy, Statement: n.Statement, Approval: fsm.Approval{
			Principals: n.Principals, Groups: n.Groups, Count: n.Count, ValidFor: n.ValidFor.Milliseconds(),
		}}
	}
	return out
}

// wireNeeds is what a denial and an explanation say of approvals.
func wireNeeds(needs []iam.Need) []wire.ApprovalNeed {
	var out []wire.ApprovalNeed
	for _, n := range needs {
		valid := wire.Duration(n.ValidFor)
		out = append(out, wire.ApprovalNeed{
			Policy: n.Policy, Statement: n.Statement, Count: n.Count, Given: n.Given, Principals: n.Principals, Groups: n.Groups, ValidFor: &valid,
		})
	}
	return out
}

// keepRequest keeps what makes the request the one that was approved: the
// operation and every field, values too, except those that do not change what
// it does. It is taken before the operation sees the request, which may fill in
// what was left out, and only if it may be asked for; wipeAll overwrites it.
func (c *call) keepRequest(request any) error {
	c.request = request
	if c.trial == nil && !c.state.HasApprovals(c.who.name, c.op.Path()) {
		return nil
	}
	bare := copyOf(request)
	for _, name := range []string{"ClientToken", "Consistency"} {
		if f := bare.Elem().FieldByName(name); f.IsValid() {
			f.SetZero()
		}
	}
	c.canonical = &wipingBuffer{}
	c.plaintexts = append(c.plaintexts, c.canonical.wipe)
	if c.trial != nil {
		var err error
		if c.trial.shown, err = showRequest(bare); err != nil {
			return err
		}
	}
	return wire.Encode(c.canonical, struct {
		Approval string `json:"approval"`
		Request  any    `json:"request"`
	}{c.op.Path(), bare.Interface()})
}

// approvalHash is a keyed digest of the request. The key is in the HSM:
// whoever sees the digest of a short value cannot try them all.
func (c *call) approvalHash() ([]byte, error) {
	return c.engine.KMS.RequestHash(c.ctx, c.state.FingerprintKey(), c.canonical.b)
}

// copyOf answers a pointer to a shallow copy of what request points to.
func copyOf(request any) reflect.Value {
	out := reflect.New(reflect.TypeOf(request).Elem())
	out.Elem().Set(reflect.ValueOf(request).Elem())
	return out
}

// hidden stands for a value where people are shown a request.
const hidden = `"(hidden)"`

// showRequest answers a request as JSON for those who decide. Where it holds a
// value, a mark stands.
func showRequest(bare reflect.Value) (string, error) {
	shown := copyOf(bare.Interface())
	names := hideValues(shown.Elem())
	var b strings.Builder
	if err := wire.Encode(&b, shown.Interface()); err != nil {
		return "", err
	}
	text := strings.TrimSuffix(b.String(), "}")
	for _, name := range names {
		if !strings.HasSuffix(text, "{") {
			text += ","
		}
		text += fmt.Sprintf("%q:%s", name, hidden)
	}
	return text + "}", nil
}

// hideValues takes out of v, a copy, whatever wipeFields would wipe, and
// answers the names of what was there.
func hideValues(v reflect.Value) []string {
	var out []string
	for i := range v.NumField() {
		f, field := v.Field(i), v.Type().Field(i)
		if field.Anonymous && f.Kind() == reflect.Struct {
			out = append(out, hideValues(f)...)
			continue
		}
		if holdsPlaintext(f) {
			name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
			out = append(out, name)
			f.SetZero()
		}
	}
	return out
}
