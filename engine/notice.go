package engine

import (
	"context"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/strongroom/strongroom/api/wire"
	"github.com/strongroom/strongroom/audit"
	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/internal/names"
	"github.com/strongroom/strongroom/internal/notice"
)

// alertPrefix begins the events of alerts, which detectors never look at.
const alertPrefix = "alert."

// How the trails are followed.
const (
	noticeEvery  = time.Second
	noticePage   = 1000
	noticePages  = 50 // of one member in one look, so that one does not hold up the others
	noticeMember = 2 * time.Second
	// alertKept is how long an alert waits for a leader to write it.
	alertKept  = time.Hour
	maxPending = 1000
	sameTrail  = 5 * time.Minute
	// freshFor is how long a secret is new.
	freshFor = 24 * time.Hour
	// canarySlack is how far clocks may differ for a touch of a new canary.
	canarySlack = time.Second
)

// A node that starts reads what the trails have of the last days, and no more
// events than noticeStage of one member in one of these stages: then it goes
// on with the next.
var noticeStages = [...]time.Duration{(notice.BaselineDays + 1) * 24 * time.Hour, 48 * time.Hour, time.Hour}

const noticeStage = 500_000

// noticer follows the trails of all members, on every node, so that whoever
// comes to lead knows what everybody is used to. The leader alone writes
// alerts; the others keep theirs until they see it written, or lead.
type noticer struct {
	mu      sync.Mutex // one look at a time
	watcher *notice.Watcher
	cursors map[string]*noticeCursor
	pending map[alertKey]notice.Alert
	leads   atomic.Bool
	begun   bool // the state was up to date once
}

// noticeCursor is how far the trail of one member was followed.
type noticeCursor struct {
	from  int64 // of the stage, or 0
	after uint64
	last  int64 // the latest time of an event
	asked int64 // when it was last looked whether the trail is still the same
	stage int
	seen  int // events of the stage
	// caught says that the end was reached once, and failed that the member could
	// not be asked last time.
	caught, failed bool
}

type alertKey struct {
	detector notice.Detector
	subject  string
}

// subjectOf names whom an alert is about.
func subjectOf(principal, source string) string {
	if principal != "" {
		return principal
	}
	return "source " + source // no principal has a space
}

func newNoticer() (*noticer, error) {
	watcher, err := notice.New(notice.DefaultSettings())
	if err != nil {
		return nil, err
	}
	return &noticer{watcher: watcher, cursors: map[string]*noticeCursor{}, pending: map[alertKey]notice.Alert{}}, nil
}

// RunNotice feeds the detectors until ctx ends. Every node runs it, whether it
// leads or not.
func (e *Engine) RunNotice(ctx context.Context) { every(ctx, noticeEvery, e.notice) }

// leadNotice lets this node write alerts while it leads.
func (e *Engine) leadNotice(ctx context.Context) {
	e.noticer.leads.Store(true)
	defer e.noticer.leads.Store(false)
	<-ctx.Done()
}

// notice looks at what the trails have since the last look.
func (e *Engine) notice(ctx context.Context) {
	n := e.noticer
	n.mu.Lock()
	defer n.mu.Unlock()
	state := e.Log.Local()
	if !n.begun {
		// A node that starts may be behind, and would not know the canaries.
		now, err := e.Log.ReadState(ctx)
		switch {
		case err == nil:
			state = now
		case e.Cluster.CaughtUp == nil || !e.Cluster.CaughtUp():
			return
		}
		n.begun = true
	}
	n.watcher.Set(detectorSettings(state))
	current := map[string]bool{}
	caught := true
	for _, reader := range e.noticeReaders() {
		current[reader.node] = true
		if n.cursors[reader.node] == nil {
			n.cursors[reader.node] = &noticeCursor{from: e.Now().Add(-noticeStages[0]).UnixMilli()}
		}
		caught = e.followTrail(ctx, state, reader, n.cursors[reader.node]) && caught
	}
	for node := range n.cursors {
		if !current[node] && !e.isMember(node) {
			delete(n.cursors, node)
		}
	}
	// Until the trails were read to their ends it is not known which alerts
	// were written.
	if caught {
		e.writeAlerts(ctx, state)
	}
}

// noticeReaders answers readers of the members that are there. One that is
// away serves nothing that would have to be looked at now.
func (e *Engine) noticeReaders() []trailReader {
	away := map[string]bool{}
	if e.Cluster.Members != nil {
		for _, m := range e.Cluster.Members() {
			away[m.NodeID] = !m.Alive && m.NodeID != e.Node
		}
	}
	var out []trailReader
	for _, reader := range e.trailReaders() {
		if !away[reader.node] {
			out = append(out, reader)
		}
	}
	return out
}

func (e *Engine) isMember(node string) bool {
	if node == e.Node || e.Cluster.Members == nil {
		return node == e.Node
	}
	for _, m := range e.Cluster.Members() {
		if m.NodeID == node {
			return true
		}
	}
	return false
}

// followTrail reads the trail of one member as far as one look may, and reports
// whether it has ever come to its end. A member that cannot be asked is asked
// again at the next look.
func (e *Engine) followTrail(ctx context.Context, state *fsm.State, reader trailReader, at *noticeCursor) bool {
	for range noticePages {
		one, cancel := context.WithTimeout(ctx, noticeMember)
		page, err := reader.read(one, TrailQuery{From: at.from, After: at.after, Limit: noticePage})
		cancel()
		if err != nil {
			if ctx.Err() == nil && !at.failed {
				at.failed = true
				e.Logger.Warn("the detectors could not ask a member for its audit trail; they try again", "member", reader.node, "error", err)
			}
			return at.caught || reader.node != e.Node
		}
		if at.failed {
			at.failed = false
			e.Logger.Info("the detectors follow the audit trail of a member again", "member", reader.node)
		}
		for i := range page.Events {
			e.noticeEvent(state, &page.Events[i])
			at.after, at.last = page.Events[i].Sequence, max(at.last, page.Events[i].Time.UnixMilli())
		}
		at.seen += len(page.Events)
		if !page.More || len(page.Events) == 0 {
			at.from, at.caught = 0, true
			if len(page.Events) == 0 {
				e.beginAnew(ctx, reader, at)
			}
			return true
		}
		at.hurry(e.Now())
	}
	return at.caught
}

// beginAnew goes back where a member has begun another trail, as one does that
// lost its disk: events later than all that were seen stand before the place up
// to which it was followed.
func (e *Engine) beginAnew(ctx context.Context, reader trailReader, at *noticeCursor) {
	now := e.Now().UnixMilli()
	if now-at.asked < sameTrail.Milliseconds() {
		return
	}
	at.asked = now
	one, cancel := context.WithTimeout(ctx, noticeMember)
	defer cancel()
	page, err := reader.read(one, TrailQuery{From: at.last + 1, Limit: 1})
	if err == nil && len(page.Events) == 1 && page.Events[0].Sequence <= at.after {
		at.after = page.Events[0].Sequence - 1
	}
}

// hurry goes on with the next stage where this one is too long.
func (c *noticeCursor) hurry(now time.Time) {
	if c.caught || c.seen < noticeStage || c.stage+1 >= len(noticeStages) {
		return
	}
	c.stage++
	c.seen = 0
	c.from = max(c.from, now.Add(-noticeStages[c.stage]).UnixMilli())
}

// noticeEvent hands one event to the detectors.
func (e *Engine) noticeEvent(state *fsm.State, event *wire.AuditEvent) {
	n := e.noticer
	if name, is := strings.CutPrefix(event.Event, alertPrefix); is {
		key := alertKey{notice.Detector(name), subjectOf(event.Principal, event.SourceAddress)}
		if waiting, ok := n.pending[key]; ok && waiting.At <= event.Time.UnixMilli() {
			delete(n.pending, key)
		}
		n.watcher.Told(key.detector, notice.Event{At: event.Time.UnixMilli(), Principal: event.Principal, Source: event.SourceAddress})
		return
	}
	look, ok := noticed(state, event)
	if ok && exempt(state, look.Principal, e.Now().UnixMilli()) {
		// Nobody has a reason to touch a canary.
		look.Kind, ok = notice.Attempt, look.Canary
	}
	if !ok {
		return
	}
	// A clock ahead of this one must not open windows that time only reaches
	// later.
	look.At = min(look.At, e.Now().UnixMilli())
	for _, a := range n.watcher.Observe(look) {
		if len(n.pending) < maxPending {
			n.pending[alertKey{a.Detector, subjectOf(a.Principal, a.Source)}] = a
		}
	}
}

// noticed answers what the detectors see of an event; false: nothing. What the
// cluster does by itself is nobody's habit.
func noticed(state *fsm.State, event *wire.AuditEvent) (notice.Event, bool) {
	look := notice.Event{
		At: event.Time.UnixMilli(), Principal: event.Principal, Source: event.SourceAddress, Name: event.Event, Path: event.Path,
	}
	if strings.Contains(event.Principal, ":") || event.Principal == "" && event.SourceAddress == "" {
		return look, false
	}
	if p := state.Principal(event.Principal); p != nil && p.Quarantine != nil && look.At >= p.Quarantine.At {
		return look, false // it is known already, and will go on knocking
	}
	hands := handsOut[event.Event] && event.Path != ""
	switch {
	case event.Outcome == audit.Denied:
		look.Kind = notice.Denial
	case hands && event.Outcome == audit.OK:
		look.Kind = notice.Read
	case hands:
		look.Kind = notice.Attempt
	default:
		return look, false
	}
	path := names.Path(event.Path)
	if s := state.Secret(path); s != nil && s.State != fsm.SecretPurged {
		look.Fresh = look.At-s.CreatedAt < freshFor.Milliseconds()
		// What was read before it was laid out is no touch.
		mark := state.CanaryMark(path)
		look.Canary = mark != nil && look.At+canarySlack.Milliseconds() >= mark.At
	}
	return look, true
}

// handsOut are the events of what answers a value, or moves one to where
// somebody may read it.
var handsOut = map[string]bool{"secrets.get_value": true, "secrets.generate": true, "secrets.copy": true}

// writeAlerts writes what waits, if this node leads, and forgets what has
// waited too long.
func (e *Engine) writeAlerts(ctx context.Context, state *fsm.State) {
	n := e.noticer
	oldest := e.Now().Add(-alertKept).UnixMilli()
	for key, a := range n.pending {
		if a.At < oldest {
			delete(n.pending, key)
		}
	}
	if !n.leads.Load() || e.Trail.Ready() != nil {
		return
	}
	for key, a := range n.pending {
		delete(n.pending, key)
		e.alert(ctx, state, a)
	}
}

// alert writes the event of one alert and acts upon it. The event is about the
// principal and is not its doing: its outcome says that it was noticed.
func (e *Engine) alert(ctx context.Context, state *fsm.State, a notice.Alert) {
	e.metrics.alerts.WithLabelValues(string(a.Detector)).Inc()
	e.Logger.Warn("alert", "detector", a.Detector, "principal", a.Principal, "source", a.Source, "path", a.Path, "text", a.Text)
	e.record(ctx, fsm.Meta{Principal: a.Principal, RequestID: uuid.NewString()}, audit.Event{
		Event: alertPrefix + string(a.Detector), Path: a.Path, SourceAddress: a.Source, Reason: a.Text, Index: state.Index(),
	}, nil)
	if a.Principal != "" && state.Detectors().Rule(string(a.Detector)).Quarantine {
		e.quarantineFor(ctx, a)
	}
}
