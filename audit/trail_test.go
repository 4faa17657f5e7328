package audit

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/internal/fault"
)

func TestEveryFieldComesBack(t *testing.T) {
	for _, durability := range []Durability{Written, Synced} {
		cfg := config(t)
		cfg.Durability = durability
		trail := mustOpen(t, cfg)
		want := Event{
			Time: time.Date(2026, 3, 4, 5, 6, 7, 8_000_000, time.UTC), RequestID: "r1", Event: "secrets.get_value", Outcome: Failed, Code: "HsmUnavailable",
			Principal: "web", CredentialID: "c1", SourceAddress: "2001:db8::1", Via: "n2", Path: "/app/db", KeyID: "k1", Version: 1 << 63, DecisionID: "d1", BreakGlassID: "g1",
			Reason: "because", Index: 12, Cached: true, DurationMicros: -5,
			KMS: []KMSEvent{{Event: "kms.decrypt", KeyID: "k1", KeyVersion: 4, Sequence: 9, Cached: true}},
		}
		first := mustAppend(t, trail, want)
		require.Equal(t, uint64(2), first, "the first is that of the start")
		want.Node, want.Sequence = "n1", first
		events := all(t, trail, Filter{After: 1})
		require.Equal(t, []Event{want}, events)
		require.Equal(t, Head{"n1", 2, trail.Head().Hash}, trail.Head())
		require.NoError(t, trail.Close())

		trail = mustOpen(t, cfg)
		events = all(t, trail, Filter{})
		require.Equal(t, want, events[1])
		require.Equal(t, []string{EventOpen, "secrets.get_value", EventOpen}, []string{events[0].Event, events[1].Event, events[2].Event})
	}
}

// A request that was handed on says by whom, behind its address; a line
// without it is byte for byte what earlier releases wrote.
func TestALineNamesTheMemberThatHandedOn(t *testing.T) {
	e := Event{Time: time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC), RequestID: "r1", Event: "iam.who_am_i", Outcome: OK, SourceAddress: "192.0.2.7", Path: "/a/b"}
	before := `2026-03-04T05:06:07.000Z","requestId":"r1","event":"iam.who_am_i","outcome":"ok","sourceAddress":"192.0.2.7"`
	require.Equal(t, before+`,"path":"/a/b"`, string(appendBody(nil, &e)))
	e.Via = "n2"
	require.Equal(t, before+`,"via":"n2","path":"/a/b"`, string(appendBody(nil, &e)))
}

// Other programs read the files: what they find is a contract.
func TestLinesOnDiskAreTheDocumentedJSON(t *testing.T) {
	cfg := config(t)
	trail := mustOpen(t, cfg)
	at := time.Date(2026, 3, 4, 6, 6, 7, 8_900_000, time.FixedZone("", 3600))
	mustAppend(t, trail, Event{Time: at, RequestID: "r1", Event: "kms.decrypt", Outcome: OK, KeyID: "k1"},
		Event{Time: at, RequestID: "r1", Event: "secrets.get_value", Outcome: OK, Path: "/a/b", KMS: []KMSEvent{{Event: "kms.decrypt", KeyID: "k1", KeyVersion: 2}}})
	require.NoError(t, trail.Close())

	require.Equal(t, []string{filepath.Join(cfg.Dir, "audit-00000000000000000001.jsonl")}, files(t, cfg.Dir))
	got := lines(t, files(t, cfg.Dir)[0])
	require.Len(t, got, 3)
	require.Contains(t, string(got[0]), `{"v":1,"node":"n1","sequence":1,"prev":"`+strings.Repeat("0", 64)+`","time":"`)
	prev := fmt.Sprintf("%x", sum([]byte(strings.TrimSuffix(string(got[1]), "\n"))))
	require.Regexp(t, `^\{"v":1,"node":"n1","sequence":3,"prev":"`+prev+`","time":"2026-03-04T05:06:07.008Z","requestId":"r1","event":"secrets.get_value",`+
		`"outcome":"ok","path":"/a/b","kms":\[\{"event":"kms.decrypt","keyId":"k1","keyVersion":2,"sequence":2\}\],"crc":"[0-9a-f]{8}"\}$`, string(got[2]))
	for _, line := range got {
		require.True(t, json.Valid(line))
	}
}

func TestFilesAreForTheOwnerOnly(t *testing.T) {
	cfg := config(t)
	require.NoError(t, os.MkdirAll(cfg.Dir, 0o755)) // an installer's mistake
	mustOpen(t, cfg)
	dir, err := os.Stat(cfg.Dir)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o700), dir.Mode().Perm())
	entries, err := os.ReadDir(cfg.Dir)
	require.NoError(t, err)
	require.NotEmpty(t, entries)
	for _, entry := range entries {
		info, err := entry.Info()
		require.NoError(t, err)
		require.Equal(t, os.FileMode(0o600), info.Mode().Perm(), entry.Name())
	}
}

func TestOperationsPointAtTheirInnerEvents(t *testing.T) {
	trail := mustOpen(t, config(t))
	kmsEvent := func(event, key string) Event { return Event{Event: event, KeyID: key, Outcome: OK} }
	entry := func(event, key string) KMSEvent { return KMSEvent{Event: event, KeyID: key, KeyVersion: 1} }
	batch := []Event{
		kmsEvent("kms.decrypt", "k1"), kmsEvent("kms.decrypt", "k2"), kmsEvent("kms.decrypt", "k1"), kmsEvent("kms.encrypt", "k1"),
		{Event: "secrets.get_value", Outcome: OK, KMS: []KMSEvent{entry("kms.decrypt", "k1"), entry("kms.decrypt", "k2")}},
		{Event: "secrets.get_value", Outcome: OK, KMS: []KMSEvent{entry("kms.decrypt", "k1"), entry("kms.encrypt", "k1"), entry("kms.decrypt", "k1")}},
		{Event: "kms.decrypt", KeyID: "k1", Outcome: OK, KMS: []KMSEvent{{Event: "kms.decrypt", KeyID: "k1", Sequence: 77}}},
		{Event: "secrets.batch_get", Outcome: OK},
	}
	first := mustAppend(t, trail, batch...)
	require.Zero(t, batch[4].KMS[0].Sequence, "the caller's events are not changed")
	got := all(t, trail, Filter{After: first - 1})
	require.Len(t, got, len(batch))
	require.Equal(t, []uint64{first, first + 1}, sequences(got[4].KMS))
	require.Equal(t, []uint64{first + 2, first + 3, 0}, sequences(got[5].KMS), "no event is left for the last entry")
	require.Equal(t, []uint64{77}, sequences(got[6].KMS), "what the caller knows stays")
}

func sequences(kms []KMSEvent) []uint64 {
	var out []uint64
	for _, k := range kms {
		out = append(out, k.Sequence)
	}
	return out
}

// Concurrent requests share groups and files; nothing is lost, doubled or
// torn apart, and each caller learns its own numbers.
func TestConcurrentAppendsAreDense(t *testing.T) {
	for _, durability := range []Durability{Written, Synced} {
		cfg := config(t)
		cfg.Durability, cfg.SegmentBytes = durability, 8<<10
		trail := mustOpen(t, cfg)
		const writers, each = 8, 25
		firsts := make([][]uint64, writers)
		var wg sync.WaitGroup
		for w := range writers {
			wg.Go(func() {
				for i := range each {
					name := fmt.Sprintf("w%d-%d", w, i)
					first, err := trail.Append(context.Background(), []Event{read(name), read(name)})
					if err != nil {
						t.Errorf("append: %v", err)
						return
					}
					firsts[w] = append(firsts[w], first)
				}
			})
		}
		wg.Wait()
		events := all(t, trail, Filter{})
		require.Len(t, events, 1+writers*each*2)
		requireDense(t, events)
		for w := range firsts {
			for i, first := range firsts[w] {
				for _, e := range events[first-1 : first+1] {
					require.Equal(t, fmt.Sprintf("w%d-%d", w, i), e.Principal)
				}
			}
		}
		require.Greater(t, len(files(t, cfg.Dir)), 3)
		require.NoError(t, trail.Close())
		report, err := Verify(cfg.Dir)
		require.NoError(t, err)
		require.Equal(t, uint64(len(events)), report.Events)
		require.Equal(t, trail.Head(), report.Head)
	}
}

// A path, a user agent or an error text comes from a stranger. It must not
// begin a line of its own, nor steer a terminal, nor hide in lookalikes.
func TestStringsCannotForgeLines(t *testing.T) {
	cfg := config(t)
	trail := mustOpen(t, cfg)
	evil := "x\"}\n{\"v\":1,\"node\":\"n1\",\"sequence\":9}\r\n\x1b[2J\x00\u2028\u2029\u202e\u0085\x7f<>&\\ \U0001F511é"
	e := read(evil)
	e.Path, e.Reason, e.RequestID, e.SourceAddress, e.KeyID = evil, evil, evil, evil, evil
	e.KMS = []KMSEvent{{Event: evil, KeyID: evil}}
	mustAppend(t, trail, e)
	invalid := read("bad\xff\xfeutf8\xc3")
	mustAppend(t, trail, invalid)
	require.NoError(t, trail.Close())

	got := lines(t, files(t, cfg.Dir)[0])
	require.Len(t, got, 3)
	for _, line := range got {
		for _, c := range strings.TrimSuffix(string(line), "\n") {
			require.True(t, ' ' <= c && c <= '~', "%q", c)
		}
		require.True(t, json.Valid(line))
	}
	_, err := Verify(cfg.Dir)
	require.NoError(t, err)
	trail = mustOpen(t, cfg)
	events := all(t, trail, Filter{Principal: evil})
	require.Len(t, events, 1)
	require.Equal(t, evil, events[0].Reason)
	require.Equal(t, evil, events[0].KMS[0].KeyID)
	require.Len(t, all(t, trail, Filter{Principal: "bad\uFFFD\uFFFDutf8\uFFFD"}), 1)
}

func TestMalformedEventsAreRefusedWhole(t *testing.T) {
	trail := mustOpen(t, config(t))
	for name, bad := range map[string]Event{
		"no outcome":     {Event: "a.b"},
		"other outcome":  {Event: "a.b", Outcome: "fine"},
		"no name":        {Outcome: OK},
		"name with text": {Event: "a b\n", Outcome: OK},
		"long name":      {Event: strings.Repeat("a", 65), Outcome: OK},
		"far time":       {Event: "a.b", Outcome: OK, Time: time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC)},
		"long":           {Event: "a.b", Outcome: OK, Reason: strings.Repeat("x", maxLine)},
		"long escaped":   {Event: "a.b", Outcome: OK, Reason: strings.Repeat("\x00", maxLine/6)},
	} {
		_, err := trail.Append(context.Background(), []Event{read("web"), bad})
		require.Equal(t, fault.Internal, fault.KindOf(err), name)
	}
	require.Equal(t, uint64(1), trail.Head().Sequence)
	require.NoError(t, trail.Ready(), "one bad event is not a bad disk")
	// The largest one that is taken can be read again, links and all.
	big := Event{Event: "a.b", Outcome: OK, KeyID: "k", KMS: make([]KMSEvent, 500)}
	batch := []Event{big}
	for i := range big.KMS {
		big.KMS[i] = KMSEvent{Event: "kms.decrypt", KeyID: "k"}
		batch = append(batch, Event{Event: "kms.decrypt", KeyID: "k", Outcome: OK})
	}
	entries := len(appendBody(nil, &big)) + len(big.KMS)*linkBytes + len(`,"reason":""`)
	batch[0].Reason = strings.Repeat("x", maxLine-1024-entries)
	mustAppend(t, trail, batch...)
	require.Len(t, all(t, trail, Filter{Events: []string{"a.b"}}), 1)
}

func TestClosedTrailTakesNothing(t *testing.T) {
	cfg := config(t)
	trail := mustOpen(t, cfg)
	mustAppend(t, trail, read("web"))
	require.NoError(t, trail.Close())
	require.NoError(t, trail.Close())
	requireUnavailable(t, trail.Ready())
	_, err := trail.Append(context.Background(), []Event{read("web")})
	requireUnavailable(t, err)
	report, err := Verify(cfg.Dir)
	require.NoError(t, err)
	require.Equal(t, uint64(2), report.Events)
}

// Close and Append at the same time: an Append that answered nil is there.
func TestCloseLosesNothingThatWasAnswered(t *testing.T) {
	cfg := config(t)
	trail := mustOpen(t, cfg)
	var wg sync.WaitGroup
	answered := make([]uint64, 8)
	started := make(chan struct{}, len(answered))
	for w := range answered {
		wg.Go(func() {
			for i := 0; ; i++ {
				last, err := trail.Append(context.Background(), []Event{read("web")})
				if err != nil {
					return
				}
				answered[w] = last
				if i == 3 {
					started <- struct{}{}
				}
			}
		})
	}
	for range answered {
		<-started
	}
	require.NoError(t, trail.Close())
	wg.Wait()
	report, err := Verify(cfg.Dir)
	require.NoError(t, err)
	for _, sequence := range answered {
		require.LessOrEqual(t, sequence, report.Events)
	}
}

func TestSecondOpenerIsRefused(t *testing.T) {
	cfg := config(t)
	trail := mustOpen(t, cfg)
	_, err := Open(cfg)
	require.ErrorContains(t, err, "another process writes the trail")
	mustAppend(t, trail, read("web"))
	require.NoError(t, trail.Close())
	mustOpen(t, cfg)
}

func TestTrailOfAnotherNodeIsRefused(t *testing.T) {
	cfg := closedTrail(t, 2, 0)
	cfg.Node = "n2"
	_, err := Open(cfg)
	var broken *BrokenError
	require.ErrorAs(t, err, &broken)
	require.Contains(t, broken.Reason, `of node "n1"`)
}

func TestCallerWhoGivesUpIsNotAnswered(t *testing.T) {
	trail := mustOpen(t, config(t))
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, err := trail.Append(ctx, []Event{read("web")})
	requireUnavailable(t, err)
	require.NoError(t, trail.Ready())
}

func TestMetricsCountByEventAndOutcome(t *testing.T) {
	cfg := config(t)
	registry := prometheus.NewRegistry()
	cfg.Registerer = registry
	trail := mustOpen(t, cfg)
	denied := read("web")
	denied.Outcome = Denied
	mustAppend(t, trail, read("web"), denied, denied)
	require.NoError(t, testutil.GatherAndCompare(registry, strings.NewReader(`
# HELP strongroom_audit_events_total Events in the audit trail of this node since its start, by event and outcome.
# TYPE strongroom_audit_events_total counter
strongroom_audit_events_total{event="secrets.get_value",outcome="denied"} 2
strongroom_audit_events_total{event="secrets.get_value",outcome="ok"} 1
# HELP strongroom_audit_failed 1 while the audit trail takes no events and requests are refused.
# TYPE strongroom_audit_failed gauge
strongroom_audit_failed 0
# HELP strongroom_audit_head_sequence Sequence number of the newest event in the audit trail of this node.
# TYPE strongroom_audit_head_sequence gauge
strongroom_audit_head_sequence 4
`), "strongroom_audit_events_total", "strongroom_audit_failed", "strongroom_audit_head_sequence"))
}
