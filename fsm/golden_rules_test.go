package fsm_test

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/fsm"
)

// fullRule is a rule that says all that a rule can say.
func fullRule(prefix string) fsm.PathRule {
	return fsm.PathRule{
		Prefix: prefix, Segments: []string{"{env:dev|staging|prod}", "{service}", "{name}"}, KeyRef: "alias/default", Owner: "platform",
		RotationPeriod: 90 * day, ConsumerHorizon: day, RequiredTags: []fsm.RequiredTag{{Name: "owner"}, {Name: "tier", Values: []string{"1", "2"}}},
		KeepVersions: 2, MinRetention: 4000, Reason: "the convention of the house",
	}
}

// ruleStory holds the life of path rules. It is a promise to logs like story:
// append to a new one for what is new.
func ruleStory() []fsm.Command {
	at := start
	meta := func() fsm.Meta {
		at += 1000
		return fsm.Meta{Time: at, Principal: "admin", RequestID: fmt.Sprintf("request-%d", at)}
	}
	none, one := uint64(0), uint64(1)
	first, tags := newVersion(1, defaultKey), map[string]string{"owner": "pay", "tier": "1"}
	path := "/app/prod/pay/db"
	put := func(n uint64) fsm.PutVersion {
		return fsm.PutVersion{Meta: meta(), Path: path, SecretID: "s1", Version: newVersion(n, defaultKey), Activate: true}
	}
	return []fsm.Command{
		genesis(start),
		fsm.PutPathRule{Meta: meta(), Rule: fullRule("/app/"), Expected: &none},
		fsm.PutPathRule{Meta: meta(), Rule: fsm.PathRule{Prefix: "/app/prod/", KeepVersions: 5, MinRetention: 1000}},
		fsm.PutPathRule{Meta: meta(), Rule: fsm.PathRule{Prefix: "/app/prod/", KeepVersions: 4}, Expected: &none},                             // refused
		fsm.CreateSecret{Meta: meta(), Path: "/app/qa/pay/db", SecretID: "s0", KeyID: defaultKey, Tags: tags, First: &first},                  // refused
		fsm.CreateSecret{Meta: meta(), Path: path, SecretID: "s0", KeyID: defaultKey, Tags: map[string]string{"owner": "pay"}, First: &first}, // refused
		fsm.CreateSecret{Meta: meta(), Path: path, SecretID: "s1", KeyID: defaultKey, Tags: tags, First: &first},
		put(2), put(3), put(4),
		fsm.DestroyVersion{Meta: meta(), Path: path, Version: 4}, // refused
		put(5), put(6),
		fsm.DestroyVersion{Meta: meta(), Path: path, Version: 5, Reason: "too young"}, // refused
		fsm.DeleteSecret{Meta: meta(), Path: path},                                    // refused
		fsm.DeletePathRule{Meta: meta(), Prefix: "/app/prod/", Expected: &one, Reason: "the house rule is enough"},
		fsm.PutPathRule{Meta: meta(), Rule: fsm.PathRule{Prefix: "/tmp/", Owner: "nobody"}},
		fsm.Sweep{Meta: fsm.Meta{Time: meta().Time}, Limit: 100},
		put(7),
	}
}

func tellRules(t tester) *world {
	w := emptyWorld(t)
	for _, c := range ruleStory() {
		w.do(c)
	}
	return w
}

func TestGoldenRuleSnapshot(t *testing.T) {
	w := tellRules(t)
	old := golden(t, ruleSnapshotGolden, snapshot(t, w.m))
	m := fsm.New()
	require.NoError(t, m.Restore(bytes.NewReader(old)))
	require.Equal(t, fsm.WithoutHistory(fsm.Dump(w.m.State())), fsm.WithoutHistory(fsm.Dump(m.State())))

	state := m.State()
	want := fullRule("/app/")
	want.Revision, want.CreatedAt, want.CreatedBy, want.UpdatedAt, want.UpdatedBy, want.RequestID = 1, start+1000, "admin", start+1000, "admin", "request-1750000001000"
	require.Equal(t, &want, state.PathRule("/app/"))
	require.Nil(t, state.PathRule("/app/prod/"))
	require.Equal(t, "nobody", state.RuleFor("/tmp/x").Owner)
	require.Nil(t, state.Secret("/app/qa/pay/db"))
	var states []fsm.VersionState
	for v := range state.Versions("/app/prod/pay/db") {
		states = append(states, v.State)
	}
	const active, destroyed = fsm.VersionActive, fsm.VersionDestroyed
	require.Equal(t, []fsm.VersionState{active, active, active, destroyed, destroyed, destroyed, destroyed}, states, "5 waits for the next sweep")
	require.Equal(t, "keepVersions 2 of the rule /app/", state.Version("/app/prod/pay/db", 1).Reason)
}

func TestOldRuleLogsAreDecidedAlike(t *testing.T) {
	hash := tellRules(t).m.State().Hash()
	old := golden(t, ruleHashGolden, []byte(hex.EncodeToString(hash[:])+"\n"))
	require.Equal(t, strings.TrimSpace(string(old)), hex.EncodeToString(hash[:]))
}
