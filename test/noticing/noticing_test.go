package noticing

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/internal/notice"
)

// short is what make test runs; make noticing runs the whole month.
var short = Run{Seed: 7, Principals: 100, Weeks: 2, Victims: 6}

func TestEveryAttackIsNoticedAndFalseAlarmsAreFew(t *testing.T) {
	report, err := Replay(short)
	require.NoError(t, err)
	require.Greater(t, report.Events, 500_000)
	for _, f := range report.Attacks {
		require.Zero(t, f.Missed, f.Name)
		require.LessOrEqual(t, f.After[len(f.After)-1].Hours(), 8.0, f.Name)
	}
	require.LessOrEqual(t, report.Rate(report.AllFalse()), 25.0, "false alarms per 1,000 principals a week: %v", report.FalseByKind)
	require.Zero(t, report.False[notice.Canary], "a canary never cries wolf")
}

func TestTheSameSeedTellsTheSame(t *testing.T) {
	small := Run{Seed: 3, Principals: 10, Weeks: 1, Victims: 1}
	one, err := Replay(small)
	require.NoError(t, err)
	other, err := Replay(small)
	require.NoError(t, err)
	require.Equal(t, one, other)
	small.Seed++
	other, err = Replay(small)
	require.NoError(t, err)
	require.NotEqual(t, one.Events, other.Events)
}
