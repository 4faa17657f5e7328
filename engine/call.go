package engine

import (
	"context"
	"io"
	"net/netip"
	"reflect"
	"time"

	"github.com/strongroom/strongroom/api/wire"
	"github.com/strongroom/strongroom/audit"
	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/iam"
	"github.com/strongroom/strongroom/internal/fault"
	"github.com/strongroom/strongroom/internal/names"
	"github.com/strongroom/strongroom/internal/secret"
)

// call is one request on its way through the gate. It belongs to one
// goroutine.
type call struct {
	engine *Engine
	op     *Operation
	from   Caller
	state  *fsm.State
	index  uint64
	now    time.Time
	// started is when the request began by this node's clock, and follow what
	// the leader said, on a node that follows; nil: this node leads.
	started time.Time
	follow  *following
	who     identity
	rules   iam.Rules

	// request is what the operation decoded, and ctx its context: the gate
	// looks for approvals of exactly this request. approval is the one that it
	// uses. trial is set in a call that is to find out what others must approve.
	ctx       context.Context
	request   any
	canonical *wipingBuffer // of what is approved; nil: nothing can be
	approval  *fsm.ApprovalUse
	stamped   bool // a command was made
	trial     *trial

	event      audit.Event   // of the operation itself
	inner      []audit.Event // kms events
	items      []audit.Event // of the items of a batch
	plaintexts []func()      // wipers of what the answer may hold
	// stream writes the answer of an operation that Streams.
	stream func(ctx context.Context, w io.Writer) error

	// noteLimit says that a refusal for a limit is told in the trail.
	noteLimit bool

	began      mark        // where the request began in this node's ledger
	mark       mark        // before the latest look at the state
	deliveries []*delivery // of versions, on their way to the caller
}

// scope is what a request is about.
type scope struct {
	path   names.Path
	prefix string   // of a list: results are filtered one by one
	key    *fsm.Key // resolved
	keyRef string   // as it was written
	action iam.Action
	// tags are those that the secret is to have, of a request that makes it;
	// nil: those that it has.
	tags map[string]string
	// list authorises a caller that may see something somewhere; the
	// operation filters what it answers.
	list bool
	// below is a prefix whose every path the request is about.
	below string
	// version is only for the event.
	version uint64
	// subject is what a request about principals, tokens or policies names;
	// only for the event.
	subject string
}

// describe fills the event before authorisation, so that a denial says what
// was asked for.
func (c *call) describe(s scope) {
	c.event.Path = string(s.path)
	if s.path == "" {
		c.event.Path = s.prefix + s.below // one of them at most
	}
	if s.key != nil {
		c.event.KeyID = s.key.ID
	} else if s.keyRef != "" {
		c.event.KeyID = s.keyRef
	}
	c.event.Version = s.version
	c.event.Reason = s.subject
}

// authorise asks iam about the operation's own action and scope.
func (c *call) authorise(o *Operation, s scope) error {
	action := o.Action
	if s.action != "" {
		action = s.action
	}
	if action == "" {
		return nil
	}
	if s.list {
		if iam.MayAnywhere(c.rules, action) {
			c.noteSession(iam.BreakGlassAnywhere(c.rules, action))
			return nil
		}
		a := c.asker()
		return c.denied(action, c.recordedAnywhere(action, a.anywhere(action)))
	}
	return c.require(action, resource(s))
}

func resource(s scope) iam.Resource {
	switch {
	case s.path != "":
		return iam.Resource{Path: s.path, Tags: s.tags}
	case s.below != "":
		return iam.Resource{Below: s.below}
	case s.key != nil:
		return keyResource(s.key)
	case s.keyRef != "":
		// A key that is not there: grants on all keys reach it, so that only
		// who may see every key learns that it is absent.
		return iam.Resource{KeyID: s.keyRef, KeyAliases: []string{s.keyRef}}
	}
	return iam.Resource{Any: true}
}

// require answers AccessDenied unless the caller may do action on r.
func (c *call) require(action iam.Action, r iam.Resource) error {
	d, off := c.decide(action, r)
	if d.Reason == iam.ReasonApproval {
		if c.follow != nil {
			return c.toLeader("approval", nil)
		}
		return c.requireApproved(action, r, d)
	}
	c.noteReport(action, r, d)
	switch {
	case d.Allowed:
		return nil
	case off != 0:
		return c.clockDenied(action, c.recorded(action, r, d), off)
	}
	return c.denied(action, c.recorded(action, r, d))
}

// may is require for filters: no event, no error.
func (c *call) may(action iam.Action, r iam.Resource) bool {
	d, _ := c.decide(action, r)
	return d.Allowed
}

// decide also answers by how much this node's clock is off, if that alone is
// why it is not allowed.
func (c *call) decide(action iam.Action, r iam.Resource) (iam.Decision, time.Duration) {
	a := c.asker()
	return c.decideFor(&a, action, r)
}

func (c *call) decideFor(a *asker, action iam.Action, r iam.Resource) (iam.Decision, time.Duration) {
	d := a.decide(action, r)
	if !d.Allowed || !d.Timed && d.Covered == "" {
		c.noteSession(d.BreakGlass)
		return d, 0
	}
	off := c.clockOff()
	switch {
	case off != 0 && d.Timed:
		d.Allowed, d.Reason, d.BreakGlass = false, iam.ReasonWindow, ""
		return d, off
	case off != 0:
		d.BreakGlass = d.Covered // nobody can say that it is not needed
	}
	c.noteSession(d.BreakGlass)
	return d, 0
}

// clockOff answers by how much the clock is off by which the request is decided.
func (c *call) clockOff() time.Duration {
	if c.follow != nil {
		return time.Duration(c.follow.Off)
	}
	return c.engine.clock.off(c.engine.Now(), c.state.Time())
}

func (c *call) question(action iam.Action, r iam.Resource) iam.Question {
	a := c.asker()
	return a.question(action, r)
}

// newTags answers the tags that a secret is to have, for a question about it
// before it is there; nil, which stands for those that it has, if there is one.
func (c *call) newTags(path names.Path, tags map[string]string) map[string]string {
	if s := c.state.Secret(path); s != nil && s.State != fsm.SecretPurged {
		return nil
	}
	if tags == nil {
		return map[string]string{}
	}
	return tags
}

// keyResource is what a question about a key is about.
func keyResource(key *fsm.Key) iam.Resource {
	return iam.Resource{KeyID: key.ID, KeyAliases: key.Aliases, Tags: key.Tags}
}

// deny refuses what no question to the policies decides: a guard of the
// operation itself.
func (c *call) deny(action iam.Action, d iam.Decision) error {
	kept := c.recorded(action, iam.Resource{}, d)
	kept.Guard = true
	return c.denied(action, kept)
}

// denied makes the one answer to whoever lacks a right. It does not depend on
// whether the thing exists: absent and forbidden are the same to a stranger.
func (c *call) denied(action iam.Action, d *audit.Decision) *fault.Error {
	id := c.note(d)
	if subject := c.event.Reason; subject != "" {
		// What was asked about, which describe put there, must stay in sight:
		// "iam: svc" is a denied request about svc.
		c.event.Reason = d.Reason + ": " + subject
	} else {
		c.event.Reason = d.Reason
	}
	denied := fault.New(fault.AccessDenied, "%s is not allowed here for this caller; an administrator can look up the decision by its id", action)
	if d.Reason == iam.ReasonWindow {
		denied = fault.New(fault.AccessDenied, "%s is not allowed to this caller at this time", action)
		if d.OpensAt != 0 {
			opens := wire.Millis(d.OpensAt).String()
			denied = fault.New(fault.AccessDenied, "%s is not allowed to this caller before %s", action, opens).With("opensAt", opens)
		}
	}
	return denied.With("decisionId", id).With("reason", d.Reason)
}

// reveal takes charge of a plaintext that the answer will hold.
func (c *call) reveal(b secret.Bytes) secret.Bytes {
	c.plaintexts = append(c.plaintexts, b.Wipe)
	return b
}

func (c *call) wipeAll() {
	for _, f := range c.plaintexts {
		f()
	}
	c.plaintexts = nil
}

// wipeRequest overwrites every plaintext field of a decoded request.
func (c *call) wipeRequest(req any) { wipeFields(reflect.ValueOf(req).Elem()) }

func wipeFields(v reflect.Value) {
	for i := range v.NumField() {
		f := v.Field(i)
		if v.Type().Field(i).Anonymous && f.Kind() == reflect.Struct {
			wipeFields(f)
			continue
		}
		if holdsPlaintext(f) {
			f.Interface().(interface{ Wipe() }).Wipe()
		}
	}
}

// holdsPlaintext reports whether a field of a request is plaintext that is
// there.
func holdsPlaintext(f reflect.Value) bool {
	switch f.Interface().(type) {
	case *wire.Value, *wire.Text, *wire.Object:
		return !f.IsNil()
	}
	return false
}

func (c *call) source() string { return shownAddress(c.from.Source) }

func shownAddress(a netip.Addr) string {
	if a == (netip.Addr{}) {
		return ""
	}
	return a.String()
}

// stamp is in every command of the request.
func (c *call) stamp() fsm.Meta {
	return fsm.Meta{Time: c.now.UnixMilli(), Principal: c.who.name, RequestID: c.from.RequestID, Approval: c.approval}
}

// meta stamps a command. retry is the request for recognising a repetition;
// its ClientToken decides whether there is one.
func (c *call) meta(ctx context.Context, clientToken string, request any) (fsm.Meta, error) {
	if err := c.authorised(); err != nil {
		return fsm.Meta{}, err
	}
	c.stamped = true
	m := c.stamp()
	if clientToken == "" {
		return m, nil
	}
	if err := checkClientToken(clientToken); err != nil {
		return m, err
	}
	hash, err := c.requestHash(ctx, request)
	if err != nil {
		return m, err
	}
	m.ClientToken, m.Operation, m.RequestHash = clientToken, c.op.Path(), hash
	return m, nil
}

// requestHash hashes the canonical form, so that a retry which spells its
// JSON another way is still the same request.
func (c *call) requestHash(ctx context.Context, request any) ([]byte, error) {
	var buf wipingBuffer
	defer buf.wipe()
	if err := wire.Encode(&buf, request); err != nil {
		return nil, err
	}
	return c.engine.KMS.RequestHash(ctx, c.state.FingerprintKey(), buf.b)
}

// wipingBuffer overwrites what it held, also the pieces it outgrew.
type wipingBuffer struct{ b []byte }

func (w *wipingBuffer) Write(p []byte) (int, error) {
	if need := len(w.b) + len(p); need > cap(w.b) {
		grown := make([]byte, len(w.b), 2*need)
		copy(grown, w.b)
		clear(w.b)
		w.b = grown
	}
	w.b = append(w.b, p...)
	return len(p), nil
}

func (w *wipingBuffer) wipe() { clear(w.b[:cap(w.b)]) }
