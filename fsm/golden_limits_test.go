package fsm_test

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/internal/fault"
)

func fullLimit() fsm.RateLimit {
	return fsm.RateLimit{
		Name: "reads", Kind: fsm.RateValueReads, Per: "principal", Principals: []string{"admin"}, Groups: []string{"ci"}, SourceCIDRs: []string{"10.0.0.0/8"},
		Count: 100, Period: 60_000, Burst: 20, Reason: "a build that ran wild",
	}
}

// limitStory holds rate limits and quotas. It is a promise to logs like story:
// append to a new one for what is new.
func limitStory() []fsm.Command {
	at := start
	meta := func() fsm.Meta {
		at += 1000
		return fsm.Meta{Time: at, Principal: "admin", RequestID: fmt.Sprintf("request-%d", at)}
	}
	none, first := uint64(0), newVersion(1, defaultKey)
	gone := fullLimit()
	gone.Name = "gone"
	return []fsm.Command{
		genesis(start),
		fsm.PutRateLimit{Meta: meta(), Limit: fullLimit(), Expected: &none},
		fsm.PutRateLimit{Meta: meta(), Limit: fullLimit(), Expected: &none}, // refused
		fsm.PutRateLimit{Meta: meta(), Limit: gone},
		fsm.DeleteRateLimit{Meta: meta(), Name: "gone"},
		fsm.PutPathRule{Meta: meta(), Rule: fsm.PathRule{Prefix: "/app/", MaxSecrets: 1, MaxVersions: 2, MaxBytes: 100}},
		fsm.CreateSecret{Meta: meta(), Path: "/app/a", SecretID: "s1", KeyID: defaultKey, First: &first},
		fsm.CreateSecret{Meta: meta(), Path: "/app/b", SecretID: "s2", KeyID: defaultKey}, // refused
	}
}

func TestGoldenLimitSnapshot(t *testing.T) {
	w := emptyWorld(t)
	for _, c := range limitStory() {
		w.do(c)
	}
	old := golden(t, limitSnapshotGolden, snapshot(t, w.m))
	m := fsm.New()
	require.NoError(t, m.Restore(bytes.NewReader(old)))
	require.Equal(t, fsm.Dump(w.m.State()), fsm.Dump(m.State()))
	want := fullLimit()
	want.Revision, want.UpdatedAt, want.UpdatedBy, want.RequestID = 1, start+1000, "admin", "request-1750000001000"
	require.Equal(t, &want, m.State().RateLimit("reads"))
	require.Nil(t, m.State().RateLimit("gone"))
	require.Equal(t, fsm.Stored{Secrets: 1, Versions: 1, Bytes: 9}, m.State().StoredBelow("/app/"))
	require.Nil(t, m.State().Secret("/app/b"))
}

func TestRateLimitsThatCannotBeMeantAreRefused(t *testing.T) {
	w := newWorld(t)
	for field, change := range map[string]func(*fsm.RateLimit){
		"name: ":          func(l *fsm.RateLimit) { l.Name = "" },
		"kind: ":          func(l *fsm.RateLimit) { l.Kind = "writes" },
		"per: ":           func(l *fsm.RateLimit) { l.Per = "" },
		"per: must be so": func(l *fsm.RateLimit) { l.Kind = fsm.RateFailures },
		"count: ":         func(l *fsm.RateLimit) { l.Count = 0 },
		"period: ":        func(l *fsm.RateLimit) { l.Period = 999 },
		"period: must":    func(l *fsm.RateLimit) { l.Period = day + 1 },
		"burst: ":         func(l *fsm.RateLimit) { l.Burst = 0 },
		"principals[0]":   func(l *fsm.RateLimit) { l.Principals = []string{"a b"} },
		"groups[0]":       func(l *fsm.RateLimit) { l.Groups = []string{"a b"} },
	} {
		l := fullLimit()
		change(&l)
		w.refused(fault.InvalidRequest, fsm.PutRateLimit{Meta: w.meta(), Limit: l}, field)
	}
	w.refused(fault.NotFound, fsm.DeleteRateLimit{Meta: w.meta(), Name: "none"}, "name: ")
}
