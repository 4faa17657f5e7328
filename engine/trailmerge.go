package engine

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/strongroom/strongroom/api/wire"
	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/iam"
)

// trailPage is a page of one chain.
type trailPage struct {
	TrailPage
	node string
}

// place names the chain in a cursor.
func (p *trailPage) place() string { return p.node + "/" + p.Chain }

// queryEvents asks every member for its own chain, takes the chains that
// nobody answers for from the copies of this node, and merges by time. A
// member that neither answers nor is copied here is named, not silently left
// out.
func queryEvents(ctx context.Context, c *call, r *wire.QueryEventsRequest) (*wire.QueryEventsResponse, error) {
	p, err := checkPage(r.Page)
	if err != nil {
		return nil, err
	}
	q, err := trailQuery(r)
	if err != nil {
		return nil, err
	}
	after, err := trailPlaces(p.after)
	if err != nil {
		return nil, err
	}
	// A page is cut to limit after the merge, so each chain must offer as much.
	q.Limit = p.limit
	out := &wire.QueryEventsResponse{}
	var pages []trailPage
	pages, out.Unreachable, out.FromCopies = c.engine.askAll(ctx, q, after)
	events, from, more := merge(pages, p.limit)
	out.Events = events
	mayExplain := c.may("iam:explain", iam.Resource{Any: true})
	for i, e := range out.Events {
		if !mayExplain {
			out.Events[i].Decision = nil // it names policies
		}
		after[pages[from[i]].place()] = e.Sequence
	}
	if more {
		text, err := json.Marshal(after)
		if err != nil {
			return nil, err
		}
		out.NextCursor = cursor(string(text))
	}
	return out, nil
}

// trailPlaces reads how far each chain was read, from a cursor.
func trailPlaces(text string) (map[string]uint64, error) {
	after := map[string]uint64{}
	if text == "" {
		return after, nil
	}
	// null is well-formed, and would leave no map to write into.
	if err := json.Unmarshal([]byte(text), &after); err != nil || after == nil {
		return nil, errCursor()
	}
	for place := range after {
		if !strings.Contains(place, "/") {
			return nil, errCursor()
		}
	}
	return after, nil
}

// afterOf answers how far the chains of one node were read, by short id.
func afterOf(after map[string]uint64, node string) map[string]uint64 {
	out := map[string]uint64{}
	for place, sequence := range after {
		if chain, ok := strings.CutPrefix(place, node+"/"); ok {
			out[chain] = sequence
		}
	}
	return out
}

// merge takes the earliest event of those that each chain offers next, up to
// limit, and says of each from which page it is, and whether there are more.
// It ends early where a chain offers
// no more in this page and has more. A chain keeps its own order
// whatever its times are (they are when requests began, and need not grow):
// the cursor holds how far each chain was read, so an event that was taken
// before an earlier one of its chain would make the next page lose the other.
func merge(pages []trailPage, limit int) (events []wire.AuditEvent, from []int, more bool) {
	events = []wire.AuditEvent{}
	for len(events) < limit {
		next := -1
		for i := range pages {
			if pages[i].More && len(pages[i].Events) == 0 && len(events) > 0 {
				next = -1 // what comes next of this chain is not known
				break
			}
			if len(pages[i].Events) > 0 && (next < 0 || earlier(&pages[i].Events[0], &pages[next].Events[0])) {
				next = i
			}
		}
		if next < 0 {
			break
		}
		events, from = append(events, pages[next].Events[0]), append(from, next)
		pages[next].Events = pages[next].Events[1:]
	}
	for _, page := range pages {
		more = more || page.More || len(page.Events) > 0
	}
	return events, from, more
}

func earlier(a, b *wire.AuditEvent) bool {
	if d := a.Time.Compare(b.Time.Time); d != 0 {
		return d < 0
	}
	return a.Node < b.Node
}

// askAll asks this node and every other member at the same time, and then the
// copies of all chains that nobody answered for. Each chain is answered for
// once, so each event is there once.
func (e *Engine) askAll(ctx context.Context, q TrailQuery, after map[string]uint64) (pages []trailPage, unreachable []string, copies []wire.AnsweredByCopy) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	var mu sync.Mutex
	var wg sync.WaitGroup
	readers := e.trailReaders()
	for _, reader := range readers {
		wg.Go(func() {
			q := q
			q.AfterOf = afterOf(after, reader.node)
			for _, sequence := range q.AfterOf {
				q.After = max(q.After, sequence) // for a member that knows of one chain only
			}
			page, err := reader.read(ctx, q)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				e.Logger.Warn("the audit trail of a member could not be asked", "member", reader.node, "error", err)
				unreachable = append(unreachable, reader.node)
				return
			}
			pages = append(pages, trailPage{page, reader.node})
		})
	}
	wg.Wait()
	pages, copies = e.askCopies(ctx, q, after, pages)
	unreachable = leaving(unreachable, func(node string) bool {
		current := e.currentChain(node)
		return slices.ContainsFunc(copies, func(c wire.AnsweredByCopy) bool {
			return c.Node == node && (c.Chain == current || current == "")
		})
	})
	slices.Sort(unreachable)
	return pages, unreachable, copies
}

// leaving answers the names for which not does not hold; nil: none is left.
func leaving(all []string, not func(string) bool) []string {
	if all = slices.DeleteFunc(all, not); len(all) == 0 {
		return nil
	}
	return all
}

// askCopies adds the pages of the copies of chains that are not among pages: of
// members that cannot be asked, of those that are gone, and what a node wrote
// before it lost its disk.
func (e *Engine) askCopies(ctx context.Context, q TrailQuery, after map[string]uint64, pages []trailPage) ([]trailPage, []wire.AnsweredByCopy) {
	var copies []wire.AnsweredByCopy
	if e.Copies == nil {
		return pages, nil
	}
	answered := map[string]bool{}
	for i := range pages {
		answered[pages[i].place()] = true
	}
	// A member of an older release does not say which chain it writes.
	silent := func(node string) bool { return answered[node+"/"] }
	known := e.copier.all()
	for _, c := range e.Copies.All() {
		id := c.ID()
		place := c.Node() + "/" + shortChain(id[:])
		if answered[place] || silent(c.Node()) {
			continue
		}
		through := c.Settled().Sequence
		q.AfterOf = afterOf(after, c.Node())
		page, err := eventsOf(ctx, c, id, q)
		if err != nil {
			e.Logger.Warn("a copy of an audit trail could not be asked", "member", c.Node(), "error", err)
			continue
		}
		pages = append(pages, trailPage{page, c.Node()})
		out := wire.AnsweredByCopy{Node: c.Node(), Chain: page.Chain, Through: through}
		if p, ok := known[c.Node()]; ok && p.chain == id.String() && p.head > through {
			out.Missing = p.head - through
		}
		copies = append(copies, out)
	}
	return pages, copies
}

// currentChain answers the short id of the chain that a node wrote last, as
// far as this node knows.
func (e *Engine) currentChain(node string) string {
	if p := e.copier.all()[node]; p.chain != "" {
		return p.chain[:shortChainChars]
	}
	var last *fsm.Anchor
	for a := range e.Log.Local().AnchorsOf(node) {
		if last == nil || a.At > last.At {
			last = a
		}
	}
	if last == nil {
		return ""
	}
	return shortChain(last.Chain)
}
