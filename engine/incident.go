package engine

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"

	"github.com/strongroom/strongroom/api/wire"
	"github.com/strongroom/strongroom/audit"
	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/internal/fault"
	"github.com/strongroom/strongroom/internal/names"
)

// What one incident may cost: so many events of each trail that name the
// principal, and so much time.
const (
	maxIncident     = 500_000
	incidentTime    = 25 * time.Second
	defaultIncident = 72 * time.Hour
	// maxSeen bounds the addresses and the credentials that are named for one
	// version; the trail has them all.
	maxSeen = 20
	// madeAnew is how much later than what was given, in milliseconds, a secret
	// was made that is another one: clocks of nodes differ by less.
	madeAnew = 10_000
)

func incidentOperation() *Operation {
	return operation(row[wire.IncidentRequest, wire.IncidentResponse]{
		service: "audit", name: "incident", event: "audit.incident",
		summary: "List exactly which versions a principal was given, by the trails of all members, and what they are now.",
		scope:   func(_ *call, r *wire.IncidentRequest) (scope, error) { return nameScope("principal", r.Principal) },
		run:     incident,
	})
}

type givenKey struct {
	path    string
	version uint64
}

// incidentOf collects what one principal was given.
type incidentOf struct {
	out   *wire.IncidentResponse
	given map[givenKey]*wire.Given
}

func incident(ctx context.Context, c *call, r *wire.IncidentRequest) (*wire.IncidentResponse, error) {
	p, err := checkPage(r.Page)
	if err != nil {
		return nil, err
	}
	path, number, err := versionPlace(p.after)
	if err != nil {
		return nil, err
	}
	since, err := c.sinceTime(r.Since, defaultIncident)
	if err != nil {
		return nil, err
	}
	until := c.now
	if r.Until != nil && r.Until.Before(until) {
		until = r.Until.Time
	}
	if !since.Before(until) {
		return nil, fault.Invalid("until", "must lie after since")
	}
	i := &incidentOf{given: map[givenKey]*wire.Given{}, out: &wire.IncidentResponse{
		Principal: r.Principal, Since: wire.Millis(since.UnixMilli()), Until: wire.Millis(until.UnixMilli()),
	}}
	if err := i.read(ctx, c); err != nil {
		return nil, err
	}
	i.page(c, p.limit, givenKey{string(path), number})
	if p := c.state.Principal(r.Principal); p != nil {
		i.out.Quarantined = wireQuarantine(p.Quarantine)
	}
	return i.out, nil
}

// read asks every member. One replay of the trails runs at a time.
func (i *incidentOf) read(ctx context.Context, c *call) error {
	select {
	case c.engine.replaying <- struct{}{}:
		defer func() { <-c.engine.replaying }()
	default:
		return fault.New(fault.RateLimited, "the trails are being replayed for somebody else on this node; try again in a moment")
	}
	bounded, cancel := context.WithTimeout(ctx, incidentTime)
	defer cancel()
	for _, reader := range c.engine.trailReaders() {
		if err := i.trail(bounded, c, reader); err != nil {
			c.engine.Logger.Warn("the audit trail of a member could not be asked", "member", reader.node, "error", err)
			i.out.Unreachable = append(i.out.Unreachable, reader.node)
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	slices.Sort(i.out.Unreachable)
	i.out.Complete = len(i.out.Unreachable) == 0 && i.out.StoppedAt == nil
	return nil
}

func (i *incidentOf) trail(ctx context.Context, c *call, reader trailReader) error {
	q := TrailQuery{From: i.out.Since.Milli(), To: i.out.Until.Milli() + 1, Principal: i.out.Principal, Limit: replayPage}
	for seen := 0; ; {
		one, cancel := context.WithTimeout(ctx, replayMember)
		page, err := reader.read(one, q)
		cancel()
		if err != nil {
			return err
		}
		for e := range page.Events {
			i.event(&page.Events[e])
			q.After = page.Events[e].Sequence
		}
		seen += len(page.Events)
		if !page.More || len(page.Events) == 0 {
			return nil
		}
		if last := page.Events[len(page.Events)-1].Time; seen >= maxIncident && (i.out.StoppedAt == nil || last.Before(i.out.StoppedAt.Time)) {
			i.out.StoppedAt = last
			return nil
		} else if seen >= maxIncident {
			return nil
		}
	}
}

// event takes one of what answered a value.
func (i *incidentOf) event(e *wire.AuditEvent) {
	if !handsOut[e.Event] || e.Outcome != audit.OK || e.Path == "" || e.Principal != i.out.Principal {
		return
	}
	key := givenKey{e.Path, e.Version}
	g := i.given[key]
	if g == nil {
		g = &wire.Given{Path: e.Path, Version: e.Version, First: e.Time, Last: e.Time, Sources: []string{}, Credentials: []string{}, Nodes: []string{}}
		i.given[key] = g
	}
	g.Count++
	if e.Time.Before(g.First.Time) {
		g.First = e.Time
	}
	if e.Time.After(g.Last.Time) {
		g.Last = e.Time
	}
	note(&g.Sources, e.SourceAddress)
	note(&g.Credentials, e.CredentialID)
	note(&g.Nodes, e.Node)
}

func note(list *[]string, item string) {
	if item != "" && len(*list) < maxSeen && !slices.Contains(*list, item) {
		*list = append(*list, item)
	}
}

// page answers those after a place, with what they are now.
func (i *incidentOf) page(c *call, limit int, after givenKey) {
	all := make([]*wire.Given, 0, len(i.given))
	for _, g := range i.given {
		all = append(all, g)
	}
	slices.SortFunc(all, func(a, b *wire.Given) int {
		return cmp.Or(strings.Compare(a.Path, b.Path), cmp.Compare(a.Version, b.Version))
	})
	i.out.Total, i.out.Given = len(all), []wire.Given{}
	for _, g := range all {
		if after.path != "" && (g.Path < after.path || g.Path == after.path && g.Version <= after.version) {
			continue
		}
		if len(i.out.Given) == limit {
			last := i.out.Given[limit-1]
			i.out.NextCursor = placeOfVersion(last.Path, last.Version)
			return
		}
		for _, list := range [][]string{g.Sources, g.Credentials, g.Nodes} {
			slices.Sort(list)
		}
		c.standing(g)
		i.out.Given = append(i.out.Given, *g)
	}
}

// standing says what a version is now. One of a secret that was made anew at
// the path since is gone, whatever the number says.
func (c *call) standing(g *wire.Given) {
	g.State = "gone"
	path := names.Path(g.Path)
	s, v := c.state.Secret(path), c.state.Version(path, g.Version)
	if s == nil || s.State == fsm.SecretPurged || s.CreatedAt > g.Last.Milli()+madeAnew {
		return
	}
	g.Rotates = s.Rotation != nil
	if c.may(manageCanaries, resource(scope{path: path})) {
		g.Canary = c.state.IsCanary(path)
	}
	if v == nil {
		g.State = string(s.State)
		return
	}
	g.State = string(c.versionState(v))
	g.Current, g.Rotated, g.Compromised = s.Current == v.Number, s.Current > v.Number, v.Compromised != nil
}

func wireQuarantine(q *fsm.Quarantine) *wire.Quarantined {
	if q == nil {
		return nil
	}
	return &wire.Quarantined{At: wire.Millis(q.At), By: q.By, Reason: q.Reason, RequestID: q.RequestID}
}
