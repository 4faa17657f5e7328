package engine_test

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/strongroom/strongroom/api/wire"
	"github.com/strongroom/strongroom/engine"
	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/iam"
	"github.com/strongroom/strongroom/internal/names"
)

// naive answers what a request may show, by looking at everything and asking
// about each secret.
func naive(state *fsm.State, rules iam.Rules, r *wire.ListSecretsRequest) []string {
	var out []string
	for s := range state.Secrets("/") {
		path := string(s.Path)
		tagged := true
		for name, value := range r.Tags {
			got, ok := s.Tags[name]
			tagged = tagged && ok && got == value
		}
		may := iam.Decide(rules, iam.Question{Action: "secrets:listSecrets", Resource: iam.Resource{Path: s.Path}}).Allowed
		if s.State == fsm.SecretPurged || !tagged || !may || !strings.HasPrefix(path, r.Prefix) ||
			!strings.Contains(path, r.Text) && !strings.Contains(s.Description, r.Text) {
			continue
		}
		if rest := path[len(r.Prefix):]; !r.Recursive && strings.Contains(rest, "/") {
			path = r.Prefix + rest[:strings.Index(rest, "/")+1]
		}
		out = append(out, path)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// shelf is a machine that a property test writes to.
type shelf struct {
	t    *rapid.T
	m    *fsm.Machine
	made int
}

func (s *shelf) apply(c fsm.Command) {
	encoded, err := fsm.Encode(c)
	require.NoError(s.t, err)
	_, err = s.m.Apply(s.m.State().Index()+1, encoded)
	require.NoError(s.t, err)
}

var (
	somePart = rapid.SampledFrom([]string{"a", "b", "a-b", "a.b", "ab", "A"})
	someTags = rapid.MapOfN(rapid.SampledFrom([]string{"x", "y"}), rapid.SampledFrom([]string{"1", "2"}), 0, 2)
)

func (s *shelf) path(least int) string {
	return "/" + strings.Join(rapid.SliceOfN(somePart, least, 3).Draw(s.t, "path"), "/")
}

// write does one thing to a secret: some are refused, which is as well.
func (s *shelf) write() {
	s.made++
	path := s.path(1)
	meta := fsm.Meta{Time: s.m.State().Time() + 1, Principal: "admin", RequestID: fmt.Sprint("r", s.made)}
	switch rapid.IntRange(0, 5).Draw(s.t, "write") {
	case 0:
		s.apply(fsm.DeleteSecret{Meta: meta, Path: path, Reason: "gone"}) // at once
	case 1:
		s.apply(fsm.UpdateSecret{Meta: meta, Path: path, SetTags: true, Tags: someTags.Draw(s.t, "tags")})
	default:
		s.apply(fsm.CreateSecret{
			Meta: meta, Path: path, SecretID: fmt.Sprint("s", s.made), KeyID: s.key(), ReuseRetired: true,
			Tags: someTags.Draw(s.t, "tags"), Description: rapid.SampledFrom([]string{"", "of a", "of b"}).Draw(s.t, "description"),
		})
	}
}

func (s *shelf) key() string {
	for k := range s.m.State().Keys("") {
		return k.ID
	}
	return ""
}

func (s *shelf) rules() iam.Rules {
	var statements []iam.Statement
	for range rapid.IntRange(1, 4).Draw(s.t, "statements") {
		parts := rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b", "a-b", "a*", "*b", "*"}), 0, 3).Draw(s.t, "pattern")
		pattern := strings.Join(append([]string{""}, parts...), "/")
		if len(parts) == 0 || rapid.Bool().Draw(s.t, "rest") {
			pattern += "/**"
		}
		one := allowed(pattern)
		if rapid.IntRange(0, 3).Draw(s.t, "deny") == 0 {
			one = denied(pattern)
		}
		statements = append(statements, one)
	}
	return rulesOf(s.t, statements...)
}

func (s *shelf) request() *wire.ListSecretsRequest {
	r := &wire.ListSecretsRequest{Prefix: "/", Recursive: rapid.Bool().Draw(s.t, "recursive")}
	if rapid.Bool().Draw(s.t, "below") {
		r.Prefix = s.path(1) + "/"
	}
	if rapid.Bool().Draw(s.t, "tagged") {
		r.Tags = someTags.Draw(s.t, "asked tags")
	}
	if rapid.Bool().Draw(s.t, "text") {
		r.Text = rapid.SampledFrom([]string{"a", "b", "-b", "of a", "none"}).Draw(s.t, "asked text")
	}
	return r
}

// pagesOf follows a list to its end, with writes between the pages, and
// answers what was shown, in order. Each page looks at a few records only.
func (s *shelf) pagesOf(rules iam.Rules, r *wire.ListSecretsRequest, between func()) []string {
	var out []string
	place, limit := "", rapid.IntRange(1, 4).Draw(s.t, "limit")
	work := rapid.IntRange(1, 60).Draw(s.t, "work")
	for range 1000 {
		page, next, more := engine.ListPageOf(s.m.State(), rules, r, limit, work, place)
		shown := append(slices.Clone(page.Folders), pathsOf(page)...)
		slices.Sort(shown)
		require.LessOrEqual(s.t, len(shown), limit)
		out = append(out, shown...)
		if !more {
			return out
		}
		require.Greater(s.t, next, place, "every page gets on")
		place = next
		between()
	}
	require.Fail(s.t, "a list without an end")
	return nil
}

func pathsOf(page *wire.ListSecretsResponse) []string {
	var out []string
	for _, s := range page.Secrets {
		out = append(out, s.Path)
	}
	return out
}

// TestPagesAreWhatALookAtEverythingShows, for random policies, filters, sizes
// of pages and amounts of work. While others write, nothing is shown twice,
// what was there and visible throughout is shown, and what never was is not.
func TestPagesAreWhatALookAtEverythingShows(t *testing.T) {
	var genesis bytes.Buffer
	_, err := newWorld(t).log.machine.Snapshot().WriteTo(&genesis)
	require.NoError(t, err)
	rapid.Check(t, func(t *rapid.T) {
		s := &shelf{t: t, m: fsm.New()}
		require.NoError(t, s.m.Restore(bytes.NewReader(genesis.Bytes())))
		for range rapid.IntRange(0, 25).Draw(t, "secrets") {
			s.write()
		}
		rules, r := s.rules(), s.request()
		require.Equal(t, naive(s.m.State(), rules, r), nilIfEmpty(s.pagesOf(rules, r, func() {})), "a list that nobody disturbs")

		throughout, ever := naive(s.m.State(), rules, r), naive(s.m.State(), rules, r)
		shown := s.pagesOf(rules, r, func() {
			for range rapid.IntRange(0, 3).Draw(t, "writes") {
				s.write()
				now := naive(s.m.State(), rules, r)
				throughout = slices.DeleteFunc(throughout, func(path string) bool { return !slices.Contains(now, path) })
				ever = append(ever, now...)
			}
		})
		require.True(t, slices.IsSorted(shown), "%v", shown)
		require.Len(t, slices.Compact(slices.Clone(shown)), len(shown), "nothing twice: %v", shown)
		for _, path := range throughout {
			require.Contains(t, shown, path)
		}
		for _, path := range shown {
			require.Contains(t, ever, path)
			_, err := names.ParsePrefix(path)
			require.NoError(t, err)
		}
	})
}

func nilIfEmpty(s []string) []string {
	if len(s) == 0 {
		return nil
	}
	return s
}
