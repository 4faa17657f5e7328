package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/strongroom/strongroom/api/wire"
)

// branch is one line of a story and those within it.
type branch struct {
	text  string
	below []branch
}

func (b branch) draw(s *session, prefix string) {
	for i, child := range b.below {
		mark, next := "├─ ", "│  "
		if i == len(b.below)-1 {
			mark, next = "└─ ", "   "
		}
		lines(s, prefix+mark+child.text)
		child.draw(s, prefix+next)
	}
}

// show prints the story, oldest first. All of it goes through lines: no text
// of an event steers the terminal.
func (t *story) show(s *session) {
	lines(s, "Request "+t.id)
	for _, served := range servings(t.trails.Events, t.id) {
		lines(s, "")
		served.show(s)
	}
	t.showApprovals(s)
	missing := t.lacks()
	if len(missing)+len(t.trails.FromCopies) > 0 {
		lines(s, "")
	}
	for _, c := range t.trails.FromCopies {
		lines(s, fmt.Sprintf("The trail of %s was read from a copy of it, through event %d.", c.Node, c.Through))
	}
	for _, text := range missing {
		lines(s, "INCOMPLETE: "+text)
	}
}

// serving is what one node wrote when it served the request, in the order of
// its trail: what was done within comes first, the operation itself last.
type serving []wire.AuditEvent

// servings parts the events of a request. A node that lost the leadership on
// the way wrote its part, and the next leader the whole; a node may even have
// served twice. The events of one time are written in one piece, and only the
// last of them says how long it took.
func servings(events []wire.AuditEvent, id string) []serving {
	own := slices.DeleteFunc(slices.Clone(events), func(e wire.AuditEvent) bool { return e.RequestID != id })
	slices.SortStableFunc(own, func(a, b wire.AuditEvent) int {
		return cmp.Or(strings.Compare(a.Node, b.Node), cmp.Compare(a.Sequence, b.Sequence))
	})
	var out []serving
	for i, e := range own {
		if i > 0 {
			last := own[i-1]
			if e.Node == last.Node && e.Sequence == last.Sequence+1 && e.Time.Milli() == last.Time.Milli() && last.DurationMicros == 0 {
				out[len(out)-1] = append(out[len(out)-1], e)
				continue
			}
		}
		out = append(out, serving{e})
	}
	slices.SortStableFunc(out, func(a, b serving) int { return cmp.Compare(a[0].Time.Milli(), b[0].Time.Milli()) })
	return out
}

func (v serving) show(s *session) {
	op := &v[len(v)-1]
	from := ""
	if op.SourceAddress != "" {
		from = " from " + op.SourceAddress
	}
	came := fmt.Sprintf("%s  came in at %s%s", clock(op), cmp.Or(op.Via, op.Node), from)
	if op.Via != "" {
		came += ", handed on to " + op.Node
	}
	lines(s, came)
	switch {
	case op.Principal != "" && op.CredentialID != "":
		lines(s, fmt.Sprintf("  asked by %s, with credential %s", op.Principal, op.CredentialID))
	case op.Principal != "":
		lines(s, "  asked by "+op.Principal)
	case op.SourceAddress != "":
		lines(s, "  asked by somebody who is not known")
	}
	lines(s, "  "+subject(op))
	b := branch{below: v.branches(op)}
	end := "ok"
	if op.Outcome != "ok" {
		end = op.Outcome + ": " + op.Code
	}
	if op.Index != 0 {
		end += fmt.Sprintf(", at index %d", op.Index)
	}
	if op.DurationMicros != 0 {
		end += fmt.Sprintf(", after %s", time.Duration(op.DurationMicros)*time.Microsecond)
	}
	b.below = append(b.below, branch{text: "answered " + end + "; " + place(op.Node, op.Sequence)})
	b.draw(s, "  ")
}

// branches is what the operation consists of: how it was decided, the items of
// a batch, and the uses of keys, each below what needed it.
func (v serving) branches(op *wire.AuditEvent) []branch {
	needed := map[uint64]bool{op.Sequence: true}
	for i := range v {
		for _, k := range v[i].KMS {
			needed[k.Sequence] = true
		}
	}
	var out []branch
	if text := decided(op); text != "" {
		out = append(out, branch{text: text})
	}
	for i := range v {
		if item := &v[i]; !needed[item.Sequence] {
			text := subject(item) + ": " + result(item) + "; " + place(item.Node, item.Sequence)
			one := branch{text: text, below: v.details(item)}
			if item.Outcome == "denied" {
				one.below = slices.Insert(one.below, 0, branch{text: decided(item)})
			}
			out = append(out, one)
		}
	}
	return append(out, v.details(op)...)
}

// details are the uses of keys by an event, and what else it names.
func (v serving) details(e *wire.AuditEvent) (out []branch) {
	for _, k := range e.KMS {
		out = append(out, branch{text: v.use(e.Node, &k)})
	}
	add := func(text, value string) {
		if value != "" {
			out = append(out, branch{text: text + value})
		}
	}
	add("handed to the consumer ", e.Instance)
	add("because of the break-glass session ", e.BreakGlassID)
	add("approval ", e.ApprovalID)
	if e.Outcome != "denied" {
		add("note: ", e.Reason)
	}
	return out
}

// use tells of one use of a key, by the event that was written for it.
func (v serving) use(node string, k *wire.AuditKMSOp) string {
	text := fmt.Sprintf("%s with key %s, version %d: ", k.Event, k.KeyID, k.KeyVersion)
	call := "a call to the HSM"
	if k.Cached {
		call = "cached, no call to the HSM"
	}
	if k.Sequence == 0 {
		return text + call + "; its event is not known"
	}
	i := slices.IndexFunc(v, func(e wire.AuditEvent) bool { return e.Sequence == k.Sequence })
	if i < 0 {
		return text + call + "; " + place(node, k.Sequence) + ", which was not found"
	}
	return text + call + ", " + result(&v[i]) + "; " + place(node, k.Sequence)
}

// showApprovals tells how each approval came about that the request is about
// or was allowed by.
func (t *story) showApprovals(s *session) {
	var told []string
	for _, e := range t.trails.Events {
		if e.RequestID != t.id || e.ApprovalID == "" || slices.Contains(told, e.ApprovalID) {
			continue
		}
		told = append(told, e.ApprovalID)
		lines(s, "", "Approval "+e.ApprovalID)
		all := branch{}
		for i := range t.trails.Events {
			if o := &t.trails.Events[i]; o.ApprovalID == e.ApprovalID {
				text := fmt.Sprintf("%s  %s by %s: %s", clock(o), o.Event, cmp.Or(o.Principal, "the cluster"), result(o))
				if o.Reason != "" {
					text += " (" + o.Reason + ")"
				}
				if o.RequestID != t.id {
					text += ", in request " + cmp.Or(o.RequestID, "-")
				} else {
					text += ", in this request"
				}
				all.below = append(all.below, branch{text: text})
			}
		}
		all.draw(s, "  ")
	}
}

// decided tells how it was decided, "" if it failed for another reason.
func decided(e *wire.AuditEvent) string {
	text := ""
	switch e.Outcome {
	case "ok":
		text = "allowed"
		if e.DecisionID != "" {
			text += ", decision " + e.DecisionID
		}
	case "denied":
		text = "denied"
		if e.Reason != "" {
			text += " (" + e.Reason + ")"
		}
		if e.DecisionID != "" {
			text += ", decision " + e.DecisionID + ": strongroom explain " + e.DecisionID
		}
	}
	if text != "" && e.Report != nil {
		text += "; a policy that only reports would have decided otherwise"
	}
	return text
}

func subject(e *wire.AuditEvent) string {
	text := e.Event
	if e.Path != "" {
		text += " " + e.Path
	}
	if e.KeyID != "" {
		text += " with key " + e.KeyID
	}
	if e.Version != 0 {
		text += fmt.Sprintf(", version %d", e.Version)
	}
	return text
}

func result(e *wire.AuditEvent) string {
	if e.Code == "" {
		return e.Outcome
	}
	return e.Outcome + ", " + e.Code
}

func place(node string, sequence uint64) string {
	return fmt.Sprintf("event %d of %s", sequence, node)
}

func clock(e *wire.AuditEvent) string {
	if e.Time == nil {
		return "?"
	}
	return e.Time.UTC().Format("2006-01-02T15:04:05.000Z")
}
