package fsm_test

import (
	"fmt"
	"slices"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/internal/names"
)

// rotationLife draws a command of the rotation of secrets.
func (p player) rotationLife() fsm.Command {
	m, path := p.w.meta(), p.path()
	s := p.w.m.State().Secret(names.Path(path))
	if s == nil || s.Rotation == nil || pick(p, true, false, false, false, false, false, false) {
		c := fsm.UpdateSecret{Meta: m, Path: path, Rotation: &fsm.RotationSettings{Kind: pick(p, "generate", "generate", "webhook", ""), Interval: day}}
		if pick(p, true, false) {
			c.NextRotationAt = p.due()
		}
		return c
	}
	run := s.Rotation.Run
	if run == nil {
		return fsm.StartRotation{Meta: m, Path: path, SecretID: pick(p, s.ID, s.ID, s.ID, ""), ID: fmt.Sprint("run", p.w.index), Scheduled: pick(p, true, false)}
	}
	step := pick(p, run.Step, run.Step, run.Step, run.Step, fsm.RotationTest)
	switch {
	case pick(p, true, false, false, false, false, false, false, false):
		return fsm.CancelRotation{Meta: m, Path: path, Force: pick(p, true, false), NextAt: p.due()}
	case pick(p, true, false, false, false):
		return fsm.RetryRotation{Meta: m, Path: path, SecretID: s.ID, ID: run.ID, Step: step, Attempts: run.Attempts, NextAt: p.due(), Error: "no"}
	case pick(p, true, false) && (step == fsm.RotationFinish || step == fsm.RotationRollBack || step == fsm.RotationTell):
		return fsm.EndRotation{Meta: m, Path: path, SecretID: s.ID, ID: run.ID, Step: step, Keep: pick(p, true, false), NextAt: p.due(), RetryAt: p.due(), Tell: pick(p, true, false)}
	}
	c := fsm.AdvanceRotation{
		Meta: m, Path: path, SecretID: s.ID, ID: run.ID, Step: step, From: s.Current,
		To: pick(p, fsm.RotationSet, fsm.RotationTest, fsm.RotationFinish, fsm.RotationRollBack),
	}
	if step == fsm.RotationCreate && c.To != fsm.RotationRollBack {
		v := p.version(s)
		c.Version = &v
	}
	return c
}

// checkRotations: what is due is found, and nothing else; a rotation that is
// on its way and not rolling back never has its version as the current one
// until it ends.
func checkRotations(t tester, s *fsm.State) {
	var want []string
	for secret := range s.Secrets("/") {
		at, ok := secret.Rotation.DueAt()
		if secret.State == fsm.SecretPurged {
			require.Nil(t, secret.Rotation)
		}
		if ok && at <= s.Time() && secret.State == fsm.SecretActive {
			want = append(want, string(secret.Path))
		}
	}
	var got []string
	for secret := range s.SecretRotationsDue(s.Time()) {
		got = append(got, string(secret.Path))
	}
	slices.Sort(got)
	require.Equal(t, want, got)
}
