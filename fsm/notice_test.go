package fsm_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/internal/fault"
)

func TestSettingsOfDetectorsSayWhatTheyCan(t *testing.T) {
	w := newWorld(t)
	require.Nil(t, w.m.State().Detectors())
	require.Equal(t, fsm.DetectorRule{Detector: "denials"}, w.m.State().Detectors().Rule("denials"))
	many := make([]string, 257)
	for i := range many {
		many[i] = fmt.Sprint("p", i)
	}
	for says, d := range map[string]fsm.Detectors{
		"is no detector":             {Rules: []fsm.DetectorRule{{Detector: "hunch"}}},
		"two entries for denials":    {Rules: []fsm.DetectorRule{{Detector: "denials"}, {Detector: "denials"}}},
		"or is not sorted":           {Rules: []fsm.DetectorRule{{Detector: "denials"}, {Detector: "canary"}}},
		"floor of denials must be":   {Rules: []fsm.DetectorRule{{Detector: "denials", Floor: 1_000_000_001}}},
		"factor of denials must be":  {Rules: []fsm.DetectorRule{{Detector: "denials", Factor: 1001}}},
		"learning: must be 1h":       {Learning: 1},
		"must be 1h to 90d":          {Learning: 91 * day},
		"exemptPrincipals: has more": {Exempt: many},
		"exemptPrincipals[0]":        {Exempt: []string{"a b"}},
		"exemptGroups[0]":            {Groups: []string{"a b"}},
		"reason: has 1025 bytes":     {Reason: strings.Repeat("x", 1025)},
	} {
		w.refused(fault.InvalidRequest, fsm.PutDetectors{Meta: w.meta(), Detectors: d}, says)
	}
	one := uint64(1)
	w.refused(fault.Conflict, fsm.PutDetectors{Meta: w.meta(), Expected: &one}, "expectedRevision:")
	require.EqualValues(t, 1, w.ok(fsm.PutDetectors{Meta: w.meta(), Expected: new(uint64)}).Revision)
	require.EqualValues(t, 2, w.ok(fsm.PutDetectors{Meta: w.meta()}).Revision)
}

func TestAQuarantineNeedsAReasonAndAPrincipal(t *testing.T) {
	w := newWorld(t)
	w.ok(fsm.CreatePrincipal{Meta: w.meta(), Principal: fsm.Principal{Name: "svc", Kind: "service"}})
	for _, reason := range []string{"", strings.Repeat("x", 1025)} {
		w.refused(fault.InvalidRequest, fsm.QuarantinePrincipal{Meta: w.meta(), Principal: "svc", Reason: reason}, "reason:")
		w.refused(fault.InvalidRequest, fsm.ReleasePrincipal{Meta: w.meta(), Principal: "svc", Reason: reason}, "reason:")
	}
	w.refused(fault.NotFound, fsm.QuarantinePrincipal{Meta: w.meta(), Principal: "none", Reason: "r"}, "principal:")
	w.refused(fault.NotFound, fsm.ReleasePrincipal{Meta: w.meta(), Principal: "none", Reason: "r"}, "principal:")
	w.refused(fault.Conflict, fsm.ReleasePrincipal{Meta: w.meta(), Principal: "svc", Reason: "r"}, "is in no quarantine")
	w.ok(fsm.QuarantinePrincipal{Meta: w.meta(), Principal: "svc", Reason: "first"})
	require.True(t, w.ok(fsm.QuarantinePrincipal{Meta: w.meta(), Principal: "svc", Reason: "second"}).Unchanged)
	require.Equal(t, "first", w.m.State().Principal("svc").Quarantine.Reason, "since when it holds stays true")
	own := w.meta()
	own.Principal = "svc"
	w.refused(fault.Conflict, fsm.ReleasePrincipal{Meta: own, Principal: "svc", Reason: "r"}, "nobody releases themselves")
}

// A login that was on its way when the quarantine was committed makes no token,
// nor does any other way to a credential.
func TestInQuarantineNothingIsMadeToComeInBy(t *testing.T) {
	w := newWorld(t)
	w.ok(fsm.CreatePrincipal{Meta: w.meta(), Principal: fsm.Principal{Name: "svc", Kind: "service"}})
	w.ok(fsm.CreateToken{Meta: w.meta(), Token: token("t1", "svc", w.now+day)})
	require.Equal(t, 1, w.ok(fsm.QuarantinePrincipal{Meta: w.meta(), Principal: "svc", Reason: "r"}).Done)
	require.NotZero(t, w.m.State().Token("t1").RevokedAt)
	w.refused(fault.Conflict, fsm.CreateToken{Meta: w.meta(), Token: token("t2", "svc", w.now+day)}, "releasePrincipal first")
	w.refused(fault.Conflict, fsm.CreateAccessKey{Meta: w.meta(), Key: fsm.AccessKey{ID: "SRAKA", Principal: "svc", Generation: 1}}, "releasePrincipal first")
	w.ok(fsm.ReleasePrincipal{Meta: w.meta(), Principal: "svc", Reason: "r"})
	require.NotZero(t, w.m.State().Token("t1").RevokedAt, "what was revoked stays so")
	w.ok(fsm.CreateToken{Meta: w.meta(), Token: token("t2", "svc", w.now+day)})
}

func TestCanariesAreBoundedAndGoWithTheirSecret(t *testing.T) {
	w := newWorld(t)
	for i := range 10_001 {
		path := fmt.Sprintf("/c/%d", i)
		w.ok(fsm.CreateSecret{Meta: w.meta(), Path: path, SecretID: fmt.Sprint(i), KeyID: defaultKey})
		if i < 10_000 {
			w.ok(fsm.SetCanary{Meta: w.meta(), Path: path, Canary: true})
		}
	}
	w.refused(fault.Conflict, fsm.SetCanary{Meta: w.meta(), Path: "/c/10000", Canary: true}, "10000 canaries")
	require.True(t, w.ok(fsm.SetCanary{Meta: w.meta(), Path: "/c/1", Canary: true}).Unchanged)
	require.True(t, w.m.State().IsCanary("/c/7"))
	w.ok(fsm.DeleteSecret{Meta: w.meta(), Path: "/c/7"})
	require.False(t, w.m.State().IsCanary("/c/7"))
	w.ok(fsm.CreateSecret{Meta: w.meta(), Path: "/c/7", SecretID: "again", KeyID: defaultKey, ReuseRetired: true})
	require.False(t, w.m.State().IsCanary("/c/7"), "another secret at the path is none")
	w.ok(fsm.SetCanary{Meta: w.meta(), Path: "/c/10000", Canary: true})
	w.refused(fault.NotFound, fsm.SetCanary{Meta: w.meta(), Path: "/none", Canary: true}, "path:")
	w.refused(fault.InvalidRequest, fsm.SetCanary{Meta: w.meta(), Path: "/c/1", Reason: strings.Repeat("x", 1025)}, "reason:")
}

func TestMarksAreOnVersionsThatThereAre(t *testing.T) {
	w := newWorld(t)
	w.secret("/a", 2)
	many := make([]uint64, 101)
	for i := range many {
		many[i] = uint64(i + 1)
	}
	for says, c := range map[string]fsm.MarkCompromised{
		"versions: must have": {Path: "/a", Reason: "r"}, "1 to 100 entries": {Path: "/a", Versions: many, Reason: "r"},
		"reason:": {Path: "/a", Versions: []uint64{1}}, "versions: must rise": {Path: "/a", Versions: []uint64{2, 1}, Reason: "r"},
	} {
		c.Meta = w.meta()
		w.refused(fault.InvalidRequest, c, says)
	}
	w.refused(fault.NotFound, fsm.MarkCompromised{Meta: w.meta(), Path: "/a", Versions: []uint64{1, 9}, Reason: "r"}, "versions[1]:")
	w.refused(fault.NotFound, fsm.MarkCompromised{Meta: w.meta(), Path: "/none", Versions: []uint64{1}, Reason: "r"}, "path:")
	require.Zero(t, w.m.State().CompromisedCount(), "all of them, or none")
	require.Equal(t, 2, w.ok(fsm.MarkCompromised{Meta: w.meta(), Path: "/a", Versions: []uint64{1, 2}, Reason: "r"}).Done)
	require.Equal(t, 2, w.m.State().CompromisedCount())
	w.ok(w.destroy("/a", 1))
	require.Equal(t, 1, w.m.State().CompromisedCount())
	require.NotNil(t, w.version("/a", 1).Compromised, "its history stays")
	w.ok(fsm.DeleteSecret{Meta: w.meta(), Path: "/a"})
	require.Zero(t, w.m.State().CompromisedCount())
}

// Those who are in quarantine give no approval.
func TestAnApprovalOfSomebodyInQuarantineDoesNotCount(t *testing.T) {
	w := newApprovalWorld(t)
	w.ok(w.request(1))
	w.ok(w.say("bob", fsm.VerdictApprove))
	w.ok(fsm.QuarantinePrincipal{Meta: w.meta(), Principal: "bob", Reason: "r"})
	w.refused(fault.Conflict, w.use(need(1)), "asks for more approvals")
	w.ok(w.say("eve", fsm.VerdictApprove))
	w.ok(w.use(need(1)))
	require.Equal(t, "bob", slices.Collect(w.m.State().Quarantined())[0].Name)
}
