package engine

import (
	"context"
	"iter"
	"maps"
	"slices"
	"strings"

	"github.com/strongroom/strongroom/api/wire"
	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/iam"
	"github.com/strongroom/strongroom/internal/names"
)

const listAction = iam.Action("secrets:listSecrets")

// What one page may cost, in units of about a tenth of a microsecond: a
// filter that matches nothing in a million secrets must not hold a processor
// for longer than a page that is full. A page whose work is used up ends where
// it is, with a cursor to go on from.
const (
	pageWork     = 20_000
	lookWork     = 2  // the next record in order
	textWork     = 1  // searching it for a text
	seekWork     = 10 // a place in a tree: after a folder, or a record by its path
	decisionWork = 8  // asking iam, and as much again for each rule there is
)

// lister fills one page.
type lister struct {
	c     *call
	r     *wire.ListSecretsRequest
	limit int
	spans []iam.Span // what the caller's policies reach below the prefix
	tag   string     // the one that candidates are taken from; "": none is asked for
	work  int        // left
	out   *wire.ListSecretsResponse

	place string      // up to which everything was looked at
	at    *fsm.Secret // the record at place; nil if the place is one that the page shows
}

// ends of a walk.
type ending int

const (
	nothingLeft ending = iota
	pageFull           // and there is at least one more
	workDone
	skipping // a folder was shown: go on behind it
)

func listSecrets(ctx context.Context, c *call, r *wire.ListSecretsRequest) (*wire.ListSecretsResponse, error) {
	p, err := c.listPage(ctx, r.Page)
	if err != nil {
		return nil, err
	}
	if err := c.checkConsistency(r.Consistency); err != nil {
		return nil, err
	}
	l := newLister(c, r, p)
	if l.run() == nothingLeft {
		return l.out, nil
	}
	l.out.NextCursor, err = l.cursor(ctx)
	return l.out, err
}

func newLister(c *call, r *wire.ListSecretsRequest, p page) *lister {
	l := &lister{
		c: c, r: r, limit: p.limit, place: p.after, work: pageWork,
		spans: iam.Spans(c.rules, listAction, r.Prefix),
		out:   &wire.ListSecretsResponse{Folders: []string{}, Secrets: []wire.SecretSummary{}},
	}
	l.tag = l.rarestTag()
	return l
}

// run fills the page.
func (l *lister) run() ending {
	end := l.walk()
	for end == skipping {
		l.work -= seekWork
		end = l.walk()
	}
	return end
}

// walk goes on from the place, and says why it stopped. It looks at one
// record at least, unless there is none: so every page gets on.
func (l *lister) walk() ending {
	decision := decisionWork + l.c.rules.Weight()
	first := len(l.out.Folders)+len(l.out.Secrets) == 0
	for s := range l.candidates() {
		if l.work <= 0 && !first {
			return workDone
		}
		first = false
		l.work -= lookWork
		if s.State == fsm.SecretPurged || !l.matches(s) {
			l.looked(s)
			continue
		}
		l.work -= decision
		if !l.c.may(listAction, iam.Resource{Path: s.Path}) {
			l.looked(s)
			continue
		}
		if len(l.out.Folders)+len(l.out.Secrets) == l.limit {
			return pageFull
		}
		if folder, ok := l.folder(s.Path); ok {
			l.out.Folders = append(l.out.Folders, folder)
			// No path byte is above '~', so this skips the whole folder.
			l.place, l.at = folder+"\x7f", nil
			return skipping
		}
		l.place, l.at = string(s.Path), nil
		l.out.Secrets = append(l.out.Secrets, wire.SecretSummary{
			Path: string(s.Path), CurrentVersion: s.Current, State: string(s.State),
			KMSKeyID: s.KeyID, UpdatedAt: wire.Millis(s.UpdatedAt),
		})
	}
	return nothingLeft
}

// looked notes that s is not shown. Once the page is full the place stays at
// what it ends with, which the caller sees: what lies behind it is looked for
// again.
func (l *lister) looked(s *fsm.Secret) {
	if len(l.out.Folders)+len(l.out.Secrets) < l.limit {
		l.place, l.at = string(s.Path), s
	}
}

// candidates answers the secrets after the place, in order, that the
// caller's policies may reach and, where a tag is asked for, that may have it.
func (l *lister) candidates() iter.Seq[*fsm.Secret] {
	return func(yield func(*fsm.Secret) bool) {
		from := l.place
		for _, span := range l.spans {
			if span.Before(from) {
				continue
			}
			for s := range l.within(span, from) {
				if !span.Holds(string(s.Path)) {
					break // an exact one, and this is longer
				}
				if !yield(s) {
					return
				}
			}
		}
	}
}

func (l *lister) within(span iam.Span, after string) iter.Seq[*fsm.Secret] {
	state := l.c.state
	if l.tag == "" {
		return state.SecretsFrom(span.Prefix, after)
	}
	return func(yield func(*fsm.Secret) bool) {
		for path := range state.TaggedFrom(l.tag, l.r.Tags[l.tag], span.Prefix, after) {
			l.work -= seekWork
			if s := state.Secret(path); s != nil && !yield(s) {
				return
			}
		}
	}
}

// probe is how many candidates of each tag are counted.
const probe = 64

// rarestTag answers the tag with the fewest candidates, as far as a short
// look tells: of those that look alike the first by name.
func (l *lister) rarestTag() string {
	best, fewest := "", 0
	if len(l.r.Tags) == 1 {
		for name := range l.r.Tags {
			return name
		}
	}
	for _, name := range slices.Sorted(maps.Keys(l.r.Tags)) {
		n := 0
		for _, span := range l.spans {
			for range l.c.state.TaggedFrom(name, l.r.Tags[name], span.Prefix, l.place) {
				if n++; n == probe {
					break
				}
			}
			if n == probe {
				break
			}
		}
		l.work -= seekWork + n*lookWork
		if best == "" || n < fewest {
			best, fewest = name, n
		}
	}
	return best
}

// folder answers the folder one level below the prefix that path lies in,
// when browsing.
func (l *lister) folder(path names.Path) (string, bool) {
	if l.r.Recursive {
		return "", false
	}
	rest := string(path[len(l.r.Prefix):])
	if i := strings.IndexByte(rest, '/'); i >= 0 {
		return l.r.Prefix + rest[:i+1], true
	}
	return "", false
}

func (l *lister) matches(s *fsm.Secret) bool {
	for name, value := range l.r.Tags {
		if got, ok := s.Tags[name]; !ok || got != value {
			return false
		}
	}
	if l.r.Text == "" {
		return true
	}
	l.work -= textWork
	return strings.Contains(string(s.Path), l.r.Text) || strings.Contains(s.Description, l.r.Text)
}

// cursor answers where the next page begins. A place that the caller may not
// see is sealed: the page must not name it.
func (l *lister) cursor(ctx context.Context) (string, error) {
	if l.at == nil || l.at.State != fsm.SecretPurged && l.c.may(listAction, iam.Resource{Path: l.at.Path}) {
		return cursor(l.place), nil
	}
	return l.c.sealCursor(ctx, l.place)
}
