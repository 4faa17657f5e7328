package fsm_test

import (
	"slices"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/internal/names"
)

// ruleLife draws a command about path rules.
func (p player) ruleLife() fsm.Command {
	m, prefix := p.w.meta(), pick(p, "/", "/a/", "/a/")
	var expected *uint64
	if rule := p.w.m.State().PathRule(prefix); rule != nil && pick(p, true, false) {
		revision := rule.Revision + pick(p, uint64(0), 0, 1)
		expected = &revision
	}
	if pick(p, true, false, false, false) {
		return fsm.DeletePathRule{Meta: m, Prefix: prefix, Expected: expected}
	}
	rule := fsm.PathRule{
		Prefix: prefix, Owner: "o", KeepVersions: pick(p, uint64(0), 1, 1, 2), MinRetention: pick(p, 0, 0, 1000, day),
		KeyRef: pick(p, "", "", "alias/x", keyID(2)), MaxSecrets: pick(p, uint64(0), 0, 0, 2), MaxVersions: pick(p, uint64(0), 0, 0, 5), MaxBytes: pick(p, uint64(0), 0, 0, 50),
		HSMEachRead: pick(p, false, false, true),
	}
	switch pick(p, 0, 0, 0, 0, 1, 2) {
	case 1:
		rule.Segments = []string{"{name:a|b|c}"}
	case 2:
		rule.RequiredTags = []fsm.RequiredTag{{Name: "a", Values: []string{"1"}}}
	}
	return fsm.PutPathRule{Meta: m, Rule: rule, Expected: expected}
}

// checkRuled: what was accepted is as the rules of before want it.
func checkRuled(t tester, before, after *fsm.State, c fsm.Command, result fsm.Result) {
	if result.Refused != nil || result.Replayed {
		return
	}
	retained := func(path string) {
		rule := before.RuleFor(names.Path(path))
		for v := range before.Versions(names.Path(path)) {
			next := after.Version(names.Path(path), v.Number)
			if v.State != fsm.VersionDestroyed && (next == nil || next.State == fsm.VersionDestroyed) {
				require.GreaterOrEqual(t, after.Time(), v.CreatedAt+rule.MinRetention, "%s %d went too early", path, v.Number)
			}
		}
	}
	switch c := c.(type) {
	case fsm.CreateSecret:
		require.Nil(t, before.CheckNewPath(names.Path(c.Path), c.Tags))
	case fsm.CopySecret:
		require.Nil(t, before.CheckNewPath(names.Path(c.Path), before.Secret(names.Path(c.From)).Tags))
	case fsm.UpdateSecret:
		if c.SetTags {
			require.Empty(t, before.RuleFor(names.Path(c.Path)).TagBreaches(c.Tags))
		}
	case fsm.DestroyVersion:
		retained(c.Path)
	case fsm.DeleteSecret:
		retained(c.Path)
	case fsm.Sweep:
		for _, kept := range result.Kept {
			secret := before.Secret(names.Path(kept.Path))
			rule, v := before.RuleFor(secret.Path), before.Version(secret.Path, kept.Version)
			require.Equal(t, fsm.SecretActive, secret.State)
			require.Equal(t, fsm.VersionActive, v.State)
			require.Less(t, v.Number, secret.Current)
			require.GreaterOrEqual(t, after.Time(), v.CreatedAt+rule.MinRetention)
			for label, number := range secret.Labels {
				require.NotEqual(t, v.Number, number, "%s was on it", label)
			}
			newer := 0
			for other := range before.Versions(secret.Path) {
				if other.Number > v.Number && other.Number <= secret.Current && other.State == fsm.VersionActive {
					newer++
				}
			}
			for consumer := range after.Consumers(secret.Path) {
				require.LessOrEqual(t, consumer.Holding(v.Number, c.Session), after.Time(), "somebody may hold it")
			}
			require.True(t, c.Session == 0 || slices.Contains(c.Closed, fsm.ClosedVersion{Path: kept.Path, Version: kept.Version}), "it may be handed out this moment")
			require.NotZero(t, rule.KeepVersions)
			require.GreaterOrEqual(t, uint64(newer), rule.KeepVersions)
		}
	}
}

// checkKeeping: no version that is one too many and may go is forgotten, and
// the hint of where to begin is never too high.
func checkKeeping(t tester, s *fsm.State) {
	for secret := range s.Secrets("/") {
		for v := range s.Versions(secret.Path) {
			require.True(t, v.State == fsm.VersionDestroyed || v.Number >= secret.KeptFrom, "%s %d would be overlooked", secret.Path, v.Number)
		}
		rule := s.RuleFor(secret.Path)
		walked := slices.ContainsFunc(rule.Rules, func(r *fsm.PathRule) bool { return r.WalkAt != 0 })
		for _, v := range s.Surplus(secret, rule) {
			labelled := false
			for _, number := range secret.Labels {
				labelled = labelled || number == v.Number
			}
			if v.Number < secret.Current && !labelled {
				require.True(t, walked || secret.KeepAt != 0, "%s %d is one too many, and nobody will look", secret.Path, v.Number)
			}
		}
	}
}
