// Package engine has one method per operation of the API, and the only place
// where the order authorise, state, open or commit, audit is written: the
// generic function do in gate.go. Operations are rows of one table; routes,
// actions, audit event names, command line and documentation are read from
// it.
package engine

import (
	"context"
	"reflect"
	"time"

	"github.com/strongroom/strongroom/api/wire"
	"github.com/strongroom/strongroom/iam"
)

// Operation is one row of the table: everything that is not specific to a
// request.
type Operation struct {
	Service string
	Name    string
	// Action is what a policy must allow; empty for what every
	// authenticated caller may do about itself.
	Action iam.Action
	// More are actions that the operation may ask for besides Action.
	More []iam.Action
	// Event is the name in the audit trail.
	Event   string
	Summary string
	// Write says that the operation changes replicated state.
	Write bool
	// Wait is how long a request may wait for something to happen, 0 for
	// those that are answered as soon as they can be.
	Wait time.Duration
	// Open says that it needs no credential: its request is one, or it tells
	// what anybody may know.
	Open bool
	// Streams says that the answer is lines, which Answer.Stream writes, and
	// not one object.
	Streams bool
	// Content is the type of such a stream: application/jsonl, or that of a file.
	Content string
	// Follows says that a node that does not lead may serve it by itself; see
	// follows.go.
	Follows bool
	// Request and Response are struct types of api/wire.
	Request  reflect.Type
	Response reflect.Type

	do func(ctx context.Context, c *call, body []byte) (any, error)
}

// Path is the operation's place in the URL, without /api/v1/.
func (o *Operation) Path() string { return o.Service + "/" + o.Name }

// Reveals reports whether answers of the operation may hold plaintext.
func (o *Operation) Reveals() bool { return reveals[o.Path()] }

var reveals = map[string]bool{
	"secrets/getSecretValue": true, "secrets/batchGetSecretValue": true, "secrets/generateSecret": true,
	"kms/decrypt": true, "kms/generateDataKey": true, "kms/generateRandom": true, "iam/createToken": true,
	"iam/createAccessKey": true, "iam/login": true, "cluster/createJoinToken": true,
}

// row holds what each operation declares beyond its types.
type row[Req, Resp any] struct {
	service, name string
	event         string
	summary       string
	write         bool
	waits         bool         // for something to happen, up to MaxWait
	self          bool         // no action: about the caller itself
	open          bool         // no credential either; see runOpen
	further       bool         // run asks for more rights, and then calls authorised
	action        iam.Action   // default service:name
	more          []iam.Action // asked for besides, in some requests
	// scope answers what the request is about. It checks the fields that it
	// reads and answers fault.InvalidRequest naming them.
	scope func(c *call, req *Req) (scope, error)
	// run does the work. It is called only after scope was authorised. What is
	// left to ask of iam, it asks before it makes a command, by meta.
	run func(ctx context.Context, c *call, req *Req) (*Resp, error)
}

// operation turns a row into a table entry. The closure is the body of the
// gate for these types: decode, authorise, run, in this order and no other.
func operation[Req, Resp any](r row[Req, Resp]) *Operation {
	o := &Operation{
		Service: r.service, Name: r.name, Event: r.event, Summary: r.summary, Write: r.write,
		Request: reflect.TypeFor[Req](), Response: reflect.TypeFor[Resp](), Action: r.action, More: r.more, Open: r.open,
	}
	why, known := follows[o.Path()]
	o.Follows = known && why == "" && !r.write
	if r.waits {
		o.Wait = MaxWait
	}
	if o.Action == "" && !r.self {
		o.Action = iam.Action(r.service + ":" + r.name)
	}
	o.do = func(ctx context.Context, c *call, body []byte) (any, error) {
		var req Req
		defer c.wipeRequest(&req) // also what was decoded before an error
		if err := wire.Decode(body, &req); err != nil {
			return nil, err
		}
		c.ctx = ctx
		if err := c.keepRequest(&req); err != nil {
			return nil, err
		}
		s, err := r.scope(c, &req)
		if err != nil {
			return nil, err
		}
		c.describe(s)
		if err := c.authorise(o, s); err != nil {
			return nil, err
		}
		if c.trial != nil {
			c.trial.scope = s
			if !r.write && !r.further {
				return nil, c.authorised()
			}
		}
		resp, err := r.run(ctx, c, &req)
		if err != nil {
			return nil, err
		}
		return resp, c.settleApproval(ctx)
	}
	return o
}

// streaming marks an operation whose run sets call.stream.
func streaming(content string, o *Operation) *Operation {
	o.Streams, o.Content = true, content
	return o
}

// Types of streams.
const (
	contentLines = "application/jsonl" // one JSON value on each line
	contentFile  = "application/octet-stream"
)

// table is built once and never changed.
var table = buildTable()

func buildTable() []*Operation {
	var out []*Operation
	out = append(out, secretOperations()...)
	out = append(out, versionOperations()...)
	out = append(out, consumerOperations()...)
	out = append(out, versionLifeOperations()...)
	out = append(out, rotationOperations()...)
	out = append(out, bindKeyOperation(), copyOperation(), usageOperation(), waitOperation())
	out = append(out, pathRuleOperations()...)
	out = append(out, keyOperations()...)
	out = append(out, keyLifeOperations()...)
	out = append(out, keyUseOperations()...)
	out = append(out, principalOperations()...)
	out = append(out, groupOperations()...)
	out = append(out, accessKeyOperations()...)
	out = append(out, policyOperations()...)
	out = append(out, attachmentOperations()...)
	out = append(out, breakGlassOperations()...)
	out = append(out, approvalOperations()...)
	out = append(out, rateLimitOperations()...)
	out = append(out, trustOperations()...)
	out = append(out, loginOperations()...)
	out = append(out, explainOperations()...)
	out = append(out, simulateOperations()...)
	out = append(out, auditOperations()...)
	out = append(out, auditProofOperations()...)
	out = append(out, noticeOperations()...)
	out = append(out, clusterOperations()...)
	out = append(out, backupOperations()...)
	out = append(out, memberOperations()...)
	out = append(out, tlsOperations()...)
	out = append(out, joinTokenOperations()...)
	out = append(out, autopilotOperations()...)
	out = append(out, jobOperations()...)
	out = append(out, rootOperations()...)
	out = append(out, rehearsalOperations()...)
	seen := map[string]bool{}
	for _, o := range out {
		if seen[o.Path()] {
			panic("engine: operation " + o.Path() + " is in the table twice")
		}
		seen[o.Path()] = true
	}
	return out
}

// Operations answers the table in the order of the documentation.
func Operations() []*Operation { return append([]*Operation(nil), table...) }

// byPath serves Find.
var byPath = func() map[string]*Operation {
	out := make(map[string]*Operation, len(table))
	for _, o := range table {
		out[o.Path()] = o
	}
	return out
}()

// Find answers the operation name of service, nil if there is none.
func Find(service, name string) *Operation { return byPath[service+"/"+name] }

// operationsByEvent is Find by the name of the event.
func operationsByEvent() map[string]*Operation {
	out := make(map[string]*Operation, len(table))
	for _, o := range table {
		out[o.Event] = o
	}
	return out
}

// Actions lists every action that an operation may ask for, without
// duplicates, in the order of the table.
func Actions() []iam.Action {
	var out []iam.Action
	seen := map[iam.Action]bool{"": true}
	for _, o := range table {
		for _, a := range append([]iam.Action{o.Action}, o.More...) {
			if !seen[a] {
				seen[a] = true
				out = append(out, a)
			}
		}
	}
	return out
}
