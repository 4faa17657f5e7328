package audit

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/strongroom/strongroom/internal/fault"
)

var base = time.UnixMilli(1_700_000_000_000).UTC()

// drawEvent makes one of few enough kinds that filters hit and miss. Times go
// to and fro, as those of requests that began earlier and ended later.
func drawEvent(t *rapid.T) Event {
	e := Event{
		Event:     rapid.SampledFrom([]string{"secrets.get_value", "secrets.put_value", "kms.decrypt"}).Draw(t, "event"),
		Outcome:   rapid.SampledFrom([]string{OK, Denied, Failed}).Draw(t, "outcome"),
		Principal: rapid.SampledFrom([]string{"", "web", "web-2", `w"eb`}).Draw(t, "principal"),
		Path:      rapid.SampledFrom([]string{"", "/app/db", "/app/db-2"}).Draw(t, "path"),
		RequestID: rapid.SampledFrom([]string{"", "r1", "r2"}).Draw(t, "request"),
		KeyID:     rapid.SampledFrom([]string{"", "k1", "k2"}).Draw(t, "key"),
		// A decision names a path, too, which is not that of the event.
		DecisionID: rapid.SampledFrom([]string{"", "d1", "d2"}).Draw(t, "decision"),

		BreakGlassID: rapid.SampledFrom([]string{"", "g1", "g2"}).Draw(t, "session"),
		// Text that holds what a filter looks for must not be taken for it.
		Reason: rapid.SampledFrom([]string{"", `,"principal":"web"`, `"path":"/app/db"`}).Draw(t, "reason"),
	}
	e.Time = base.Add(time.Duration(rapid.IntRange(0, 20).Draw(t, "ms")) * time.Millisecond)
	if rapid.Bool().Draw(t, "decided") {
		e.Decision = drawDecision(t)
	}
	if rapid.Bool().Draw(t, "kms") {
		e.KMS = []KMSEvent{{Event: "kms.decrypt", KeyID: "k1", KeyVersion: 1, Sequence: 1}}
	}
	return e
}

func drawFilter(t *rapid.T) Filter {
	instant := func(label string) time.Time {
		if rapid.Bool().Draw(t, label+" given") {
			return time.Time{}
		}
		return base.Add(time.Duration(rapid.IntRange(-2, 44).Draw(t, label)) * time.Millisecond / 2)
	}
	return Filter{
		From: instant("from"), To: instant("to"),
		Events:     rapid.SampledFrom([][]string{nil, nil, {"kms.decrypt"}, {"secrets.get_value", "kms.decrypt"}, {"no.such"}}).Draw(t, "events"),
		Principal:  rapid.SampledFrom([]string{"", "", "web", `w"eb`, "nobody"}).Draw(t, "principal"),
		Path:       rapid.SampledFrom([]string{"", "", "/app/db", "/app"}).Draw(t, "path"),
		RequestID:  rapid.SampledFrom([]string{"", "", "r1"}).Draw(t, "request"),
		Outcome:    rapid.SampledFrom([]string{"", "", OK, Denied}).Draw(t, "outcome"),
		KeyID:      rapid.SampledFrom([]string{"", "", "k1"}).Draw(t, "key"),
		DecisionID: rapid.SampledFrom([]string{"", "", "", "d1"}).Draw(t, "decision"),

		BreakGlassID: rapid.SampledFrom([]string{"", "", "", "g1"}).Draw(t, "session"),
		After:        rapid.Uint64Range(0, 45).Draw(t, "after"),
	}
}

// naive is what a filter means.
func naive(events []Event, f Filter) []Event {
	var out []Event
	for _, e := range events {
		if e.Sequence <= f.After || !f.From.IsZero() && e.Time.Before(f.From) || !f.To.IsZero() && !e.Time.Before(f.To) {
			continue
		}
		if len(f.Events) > 0 && !slices.Contains(f.Events, e.Event) {
			continue
		}
		if f.Principal != "" && f.Principal != e.Principal || f.Path != "" && f.Path != e.Path || f.RequestID != "" && f.RequestID != e.RequestID ||
			f.Outcome != "" && f.Outcome != e.Outcome || f.KeyID != "" && f.KeyID != e.KeyID || f.DecisionID != "" && f.DecisionID != e.DecisionID ||
			f.BreakGlassID != "" && f.BreakGlassID != e.BreakGlassID {
			continue
		}
		out = append(out, e)
	}
	return out
}

// The short cuts (whole files passed over, lines not decoded) never change an
// answer, whatever the page, with the files as they are and read again.
func TestQueryAnswersWhatANaiveFilterDoes(t *testing.T) {
	cfg := config(t)
	cfg.SegmentBytes = 4000
	trail := mustOpen(t, cfg)
	for i := range 40 {
		mustAppend(t, trail, rapid.Custom(drawEvent).Example(i))
	}
	require.Greater(t, len(files(t, cfg.Dir)), 3)
	check := func() {
		written := all(t, trail, Filter{})
		requireDense(t, written)
		hits := 0
		rapid.Check(t, func(t *rapid.T) {
			filter := drawFilter(t)
			want := naive(written, filter)
			filter.Limit = rapid.IntRange(1, 12).Draw(t, "limit")
			var got []Event
			for {
				page, more, err := trail.Query(context.Background(), filter)
				require.NoError(t, err)
				require.LessOrEqual(t, len(page), filter.Limit)
				got = append(got, page...)
				if !more {
					break
				}
				require.Len(t, page, filter.Limit, "only a full page has more behind it")
				filter.After = page[len(page)-1].Sequence
			}
			require.Equal(t, want, got)
			hits += len(got)
		})
		require.Positive(t, hits)
	}
	check()
	require.NoError(t, trail.Close())
	trail = mustOpen(t, cfg)
	check()
}

func TestQueryLimits(t *testing.T) {
	trail := mustOpen(t, config(t))
	batch := make([]Event, maxLimit)
	for i := range batch {
		batch[i] = read("web")
	}
	mustAppend(t, trail, batch...) // and the event of the start: one more than fits
	for limit, want := range map[int]int{0: defaultLimit, 1: 1, maxLimit: maxLimit} {
		events, more, err := trail.Query(t.Context(), Filter{Limit: limit})
		require.NoError(t, err)
		require.True(t, more)
		require.Len(t, events, want)
	}
	events, more, err := trail.Query(t.Context(), Filter{Limit: maxLimit, After: 1})
	require.NoError(t, err)
	require.Len(t, events, maxLimit)
	require.False(t, more, "an exact page is the last")
	for _, limit := range []int{-1, maxLimit + 1} {
		_, _, err := trail.Query(t.Context(), Filter{Limit: limit})
		require.Equal(t, fault.InvalidRequest, fault.KindOf(err))
		require.ErrorContains(t, err, "limit: must be 1 to 1000")
	}
}

// From is inside, To is outside: neighbouring ranges share no event and lose
// none.
func TestTimeRangeIsHalfOpen(t *testing.T) {
	trail := mustOpen(t, config(t))
	for i := range 4 {
		e := read(fmt.Sprint(i))
		e.Time = base.Add(time.Duration(i) * time.Millisecond)
		mustAppend(t, trail, e)
	}
	var got []string
	for i := range 2 {
		from := base.Add(time.Duration(2*i) * time.Millisecond)
		for _, e := range all(t, trail, Filter{From: from, To: from.Add(2 * time.Millisecond)}) {
			got = append(got, e.Principal)
		}
	}
	require.Equal(t, []string{"0", "1", "2", "3"}, got)
}

// An event whose Append has returned is seen; one that comes meanwhile does
// not tear what is read.
func TestQueryBesideAppends(t *testing.T) {
	cfg := config(t)
	cfg.SegmentBytes = 2000
	trail := mustOpen(t, cfg)
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				return
			default:
				if _, err := trail.Append(context.Background(), []Event{read("noise")}); err != nil {
					t.Errorf("append: %v", err)
					return
				}
			}
		}
	}()
	for i := range 50 {
		mine := fmt.Sprintf("mine-%d", i)
		sequence := mustAppend(t, trail, read(mine))
		events := all(t, trail, Filter{Principal: mine})
		require.Len(t, events, 1)
		require.Equal(t, sequence, events[0].Sequence)
	}
	close(stop)
	<-done
	requireDense(t, all(t, trail, Filter{}))
}

func TestQueryEndsWithItsCaller(t *testing.T) {
	trail := mustOpen(t, config(t))
	batch := make([]Event, 1100)
	for i := range batch {
		batch[i] = read("web")
	}
	mustAppend(t, trail, batch...)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, _, err := trail.Query(ctx, Filter{Principal: "nobody"})
	require.ErrorIs(t, err, context.Canceled)
}

// A query does not walk the chain, but what it shows it has checked: a
// changed event is never answered as if it had been written so.
func TestQueryDoesNotShowAChangedEvent(t *testing.T) {
	cfg := config(t)
	trail := mustOpen(t, cfg)
	mustAppend(t, trail, read("web"), read("web"), read("web"))
	path := files(t, cfg.Dir)[0]
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	changed := bytes.Replace(data, []byte("secrets.get_value"), []byte("secrets.got_value"), 1)
	require.NoError(t, os.WriteFile(path, changed, 0o600)) // in place: it stays the same file
	_, _, err = trail.Query(t.Context(), Filter{Principal: "web"})
	var broken *BrokenError
	require.ErrorAs(t, err, &broken)
	require.Equal(t, uint64(2), broken.Sequence)
	require.Equal(t, fault.Internal, fault.KindOf(err))
}
