package fsm_test

import (
	"bytes"
	"fmt"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/fsm"
)

const noticeSnapshotGolden = "testdata/snapshots/v1/notice.snapshot"

// noticeStory holds what is done about principals that are not trusted any
// more. It is a promise to logs like story: append to a new one for what is new.
func noticeStory() []fsm.Command {
	at := start
	meta := func(who string) fsm.Meta {
		at += 1000
		return fsm.Meta{Time: at, Principal: who, RequestID: fmt.Sprintf("request-%d", at)}
	}
	first, one := newVersion(1, defaultKey), uint64(1)
	return []fsm.Command{
		genesis(start),
		fsm.CreateSecret{Meta: meta("admin"), Path: "/app/a", SecretID: "a", KeyID: defaultKey, First: &first},
		fsm.CreateSecret{Meta: meta("admin"), Path: "/app/trap", SecretID: "trap", KeyID: defaultKey, First: &first},
		fsm.CreateSecret{Meta: meta("admin"), Path: "/app/gone", SecretID: "gone", KeyID: defaultKey, First: &first},
		fsm.CreatePrincipal{Meta: meta("admin"), Principal: fsm.Principal{Name: "svc", Kind: "service"}},
		fsm.CreatePrincipal{Meta: meta("admin"), Principal: fsm.Principal{Name: "free", Kind: "user"}},
		fsm.CreateToken{Meta: meta("admin"), Token: token("t1", "svc", start+40*day)},
		fsm.PutDetectors{Meta: meta("admin"), Detectors: fsm.Detectors{
			Rules:    []fsm.DetectorRule{{Detector: "canary", Quarantine: true}, {Detector: "denials", Off: true}, {Detector: "read_volume", Floor: 500, Factor: 10}},
			Learning: 3 * day, Exempt: []string{"scanner"}, Groups: []string{"auditors"}, Reason: "ticket 7",
		}, Expected: new(uint64)},
		fsm.PutDetectors{Meta: meta("admin"), Detectors: fsm.Detectors{Learning: 1}},             // refused
		fsm.PutDetectors{Meta: meta("admin"), Detectors: fsm.Detectors{}, Expected: new(uint64)}, // refused
		fsm.PutDetectors{Meta: meta("admin"), Detectors: fsm.Detectors{Learning: day}, Expected: &one},
		fsm.SetCanary{Meta: meta("admin"), Path: "/app/trap", Canary: true, Reason: "nobody reads it"},
		fsm.SetCanary{Meta: meta("admin"), Path: "/app/a", Canary: true},
		fsm.SetCanary{Meta: meta("admin"), Path: "/app/a"},
		fsm.SetCanary{Meta: meta("admin"), Path: "/app/gone", Canary: true},
		fsm.DeleteSecret{Meta: meta("admin"), Path: "/app/gone", Reason: "purged"},
		fsm.QuarantinePrincipal{Meta: meta("admin"), Principal: "svc", Reason: "alert"},
		fsm.QuarantinePrincipal{Meta: meta("admin"), Principal: "svc", Reason: "again"},   // unchanged
		fsm.QuarantinePrincipal{Meta: meta("admin"), Principal: "admin", Reason: "alert"}, // refused
		fsm.CreateToken{Meta: meta("admin"), Token: token("t2", "svc", start+40*day)},     // refused
		fsm.QuarantinePrincipal{Meta: meta("admin"), Principal: "free", Reason: "alert"},
		fsm.ReleasePrincipal{Meta: meta("admin"), Principal: "free", Reason: "it was a drill"},
		fsm.ReleasePrincipal{Meta: meta("admin"), Principal: "free", Reason: "again"}, // refused
		fsm.MarkCompromised{Meta: meta("admin"), Path: "/app/a", Versions: []uint64{1}, Reason: "read by svc"},
		fsm.PutVersion{Meta: meta("admin"), Path: "/app/a", SecretID: "a", Version: newVersion(2, defaultKey), Activate: true},
		fsm.MarkCompromised{Meta: meta("admin"), Path: "/app/a", Versions: []uint64{1, 2}, Reason: "both"},
		fsm.MarkCompromised{Meta: meta("admin"), Path: "/app/a", Versions: []uint64{2}, Reason: "not that one", Clear: true},
		fsm.MarkCompromised{Meta: meta("admin"), Path: "/app/a", Versions: []uint64{7}, Reason: "r"}, // refused
	}
}

func TestGoldenNoticeSnapshot(t *testing.T) {
	w := emptyWorld(t)
	for _, c := range noticeStory() {
		w.do(c)
	}
	old := golden(t, noticeSnapshotGolden, snapshot(t, w.m))
	m := fsm.New()
	require.NoError(t, m.Restore(bytes.NewReader(old)))
	require.Equal(t, fsm.Dump(w.m.State()), fsm.Dump(m.State()))
	s := m.State()
	require.Equal(t, uint64(2), s.Detectors().Revision)
	var canaries []string
	for path := range s.Canaries("") {
		canaries = append(canaries, string(path))
	}
	require.Equal(t, []string{"/app/trap"}, canaries)
	require.Len(t, slices.Collect(s.Quarantined()), 1)
	require.Equal(t, "alert", s.Principal("svc").Quarantine.Reason)
	require.NotZero(t, s.Token("t1").RevokedAt)
	require.Nil(t, s.Token("t2"))
	require.Equal(t, 1, s.CompromisedCount())
	for secret, v := range s.Compromised("", 0) {
		require.Equal(t, "/app/a", string(secret.Path))
		require.Equal(t, uint64(1), v.Number)
		require.Equal(t, "read by svc", v.Compromised.Reason)
		require.False(t, v.Mended(secret), "it can still be read")
	}
}
