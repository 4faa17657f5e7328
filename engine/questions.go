package engine

import (
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/strongroom/strongroom/api/wire"
	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/iam"
	"github.com/strongroom/strongroom/internal/fault"
	"github.com/strongroom/strongroom/internal/names"
)

// target is what a question is about, apart from who asks.
type target struct {
	action   iam.Action
	resource iam.Resource
	anywhere bool // about something at all, as lists ask
}

// decide answers the question of a about t.
func (t *target) decide(a *asker) iam.Decision {
	if t.anywhere {
		return a.anywhere(t.action)
	}
	return a.decide(t.action, t.resource)
}

// String names the target for people.
func (t *target) String() string {
	r := t.resource
	switch {
	case r.Path != "":
		return string(t.action) + " on " + string(r.Path)
	case r.Below != "":
		return string(t.action) + " on all that is below " + r.Below
	case r.KeyID != "":
		return string(t.action) + " on the key " + r.KeyID
	case t.anywhere:
		return string(t.action) + " on anything"
	}
	return string(t.action)
}

// Services whose actions are about a path or a key.
const (
	secretsPrefix = "secrets:"
	kmsPrefix     = "kms:"
)

// asksAnywhere reports whether operations ask for action without a path or a
// key by asking for something at all, and then filter what they answer.
func asksAnywhere(action iam.Action) bool {
	switch action {
	case "kms:listKeys", "kms:listAliases", "kms:getKeyHealth":
		return true
	}
	return strings.HasPrefix(string(action), secretsPrefix)
}

// targetFields are the fields of a request that name a target.
type targetFields struct {
	action, path, keyID, prefix string
	tags                        map[string]string
}

// parseTarget checks what a request names. Keys are looked up as operations
// do: one that is not there is reached by who may reach every key.
func (c *call) parseTarget(f targetFields) (target, error) {
	t := target{action: iam.Action(f.action)}
	switch {
	case f.action == "":
		return t, fault.Invalid("action", "is missing; such as secrets:getSecretValue")
	case !slices.Contains(c.engine.known, t.action):
		return t, fault.Invalid("action", "is no action of this release, such as secrets:getSecretValue; the reference of the API lists them")
	}
	about := ""
	for _, one := range [][2]string{{"path", f.path}, {"keyId", f.keyID}, {"prefix", f.prefix}} {
		if one[1] == "" {
			continue
		}
		if about != "" {
			return t, fault.Invalid(one[0], "goes without %s; give one of path, keyId and prefix", about)
		}
		about = one[0]
	}
	secrets, keys := strings.HasPrefix(f.action, secretsPrefix), strings.HasPrefix(f.action, kmsPrefix)
	if about != "" && (about == "keyId" && !keys || about != "keyId" && !secrets) {
		return t, fault.Invalid(about, "is nothing that %s is about; leave it out", f.action)
	}
	return t, c.parseResource(&t, f, about)
}

func (c *call) parseResource(t *target, f targetFields, about string) error {
	switch about {
	case "path":
		path, err := checkPath("path", f.path)
		if err != nil {
			return err
		}
		t.resource = iam.Resource{Path: path}
	case "prefix":
		s, err := prefixScope(&f.prefix)
		if err != nil {
			return err
		}
		t.resource = iam.Resource{Below: s.prefix}
	case "keyId":
		s, err := c.findKey("keyId", f.keyID)
		if err != nil {
			return err
		}
		t.resource = resource(s)
	default:
		t.resource = iam.Resource{Any: true}
		t.anywhere = asksAnywhere(t.action)
	}
	if f.tags == nil {
		return nil
	}
	if about != "path" && about != "keyId" {
		return fault.Invalid("tags", "go with a path or a keyId")
	}
	t.resource.Tags = f.tags
	return checkTags(f.tags)
}

// circumstances are the fields of a request that say how somebody would ask.
type circumstances struct {
	source     string
	at         *wire.Time
	authMethod string
	groups     []string
}

// askerFor answers principal as one who asks in such circumstances; those that
// are left out are the caller's address, now, and a token.
func (c *call) askerFor(principal *fsm.Principal, w circumstances) (asker, error) {
	a := asker{state: c.state, principal: principal.Name, method: MethodToken, source: c.from.Source, at: c.now}
	if err := w.check(); err != nil {
		return a, err
	}
	if w.source != "" {
		a.source = netip.MustParseAddr(w.source) // check has parsed it
	}
	if w.authMethod != "" {
		a.method = w.authMethod
	}
	var r *rights
	var err error
	claims := slices.Compact(slices.Sorted(slices.Values(w.groups)))
	if w.at == nil {
		r, err = c.engine.rightsOf(c.state, principal, claims, c.now.UnixMilli())
	} else {
		a.at = w.at.Time
		r, err = c.engine.rightsAt(c.state, principal, claims, w.at.Milli())
	}
	if err != nil {
		return a, err
	}
	a.rules, a.groups = r.rules, r.groups
	return a, nil
}

// maxClaims bounds the groups of a question.
const maxClaims = 256

func (w *circumstances) check() error {
	if w.source != "" {
		if addr, err := netip.ParseAddr(w.source); err != nil || addr.Zone() != "" {
			return fault.Invalid("sourceAddress", "must be an address without a zone, such as 192.0.2.7")
		}
	}
	if w.authMethod != "" && !slices.Contains(iam.AuthMethods(), w.authMethod) {
		return fault.Invalid("authMethod", "must be one of %s", strings.Join(iam.AuthMethods(), ", "))
	}
	if len(w.groups) > maxClaims {
		return fault.Invalid("groups", "has %d entries; at most %d are allowed", len(w.groups), maxClaims)
	}
	for _, g := range w.groups {
		if err := checkName("groups", g); err != nil {
			return err
		}
	}
	return nil
}

// replay is a question of the trail.
type replay struct {
	target
	principal string
	method    string
	claims    []string
	source    netip.Addr
	at        time.Time
	approval  string // the request for approval by which it was allowed
}

// replayOf reads the first question of an event. It answers asked false for an
// event that is about none: of the server itself, of a failed authentication,
// of a key that another operation used. known is false where it was one that
// the trail does not hold.
func (e *Engine) replayOf(state *fsm.State, ev *wire.AuditEvent) (r replay, asked, known bool) {
	r = replay{principal: ev.Principal, method: MethodToken, approval: ev.ApprovalID}
	if ev.Time != nil {
		r.at = ev.Time.Time
	}
	r.source, _ = netip.ParseAddr(ev.SourceAddress) // none: an unknown address
	if token := state.Token(ev.CredentialID); token != nil {
		r.claims = token.Groups
		if token.Method != "" {
			r.method = token.Method
		}
	}
	if d := ev.Decision; d != nil {
		if d.AuthMethod != "" {
			r.method, r.claims = d.AuthMethod, d.Groups
		}
		r.target = targetOf(state, iam.Action(d.Action), d.Path, d.Prefix, d.KeyID)
		r.anywhere = d.Anywhere
		return r, true, !d.Guard
	}
	o := e.byEvent[ev.Event]
	inner := o != nil && o.Service == "kms" && ev.Path != "" // of a data key
	if o == nil || o.Action == "" || inner || ev.Principal == "" || ev.Code == string(fault.Unauthenticated) {
		return r, false, false
	}
	r.target = eventTarget(state, o, ev)
	return r, true, true
}

// eventTarget reads what was asked about from the fields of an event that has
// no decision.
func eventTarget(state *fsm.State, o *Operation, e *wire.AuditEvent) target {
	below := strings.HasSuffix(e.Path, "/")
	switch {
	case o.Service == "secrets" && e.Path != "" && !below:
		return targetOf(state, o.Action, e.Path, "", "")
	case o.Service == "secrets" && below && o.Write:
		return targetOf(state, o.Action, "", e.Path, "")
	case o.Service == "kms" && o.Action != "kms:createKey": // its event names the key that it made
		return targetOf(state, o.Action, "", "", e.KeyID)
	}
	return targetOf(state, o.Action, "", "", "")
}

// targetOf makes a target of what the trail names. A key that is gone is
// looked for by what it was called.
func targetOf(state *fsm.State, action iam.Action, path, below, keyID string) target {
	t := target{action: action}
	switch {
	case path != "":
		t.resource = iam.Resource{Path: names.Path(path)}
	case below != "":
		t.resource = iam.Resource{Below: below}
	case keyID != "":
		t.resource = resource(scope{key: state.KeyByRef(keyID), keyRef: keyID})
	default:
		t.resource, t.anywhere = iam.Resource{Any: true}, asksAnywhere(action)
	}
	return t
}
