package cron_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/internal/cron"
)

func next(t *testing.T, expression, zone, after string, n int) (out []string) {
	t.Helper()
	s, err := cron.Parse(expression, zone)
	require.NoError(t, err, expression)
	at, err := time.Parse(time.RFC3339, after)
	require.NoError(t, err)
	for range n {
		at = s.Next(at)
		out = append(out, at.UTC().Format("2006-01-02T15:04:05Z"))
	}
	return out
}

func TestSchedulesAreDue(t *testing.T) {
	for _, c := range []struct {
		expression, zone, after string
		want                    []string
	}{
		{"* * * * *", "", "2026-03-04T05:06:07Z", []string{"2026-03-04T05:07:00Z", "2026-03-04T05:08:00Z"}},
		{"0 3 * * *", "", "2026-03-04T03:00:00Z", []string{"2026-03-05T03:00:00Z", "2026-03-06T03:00:00Z"}},
		{"*/20 1,3-4 * * *", "", "2026-03-04T01:30:00Z", []string{"2026-03-04T01:40:00Z", "2026-03-04T03:00:00Z", "2026-03-04T03:20:00Z"}},
		{"15 4 1 jan,jul *", "", "2026-03-04T00:00:00Z", []string{"2026-07-01T04:15:00Z", "2027-01-01T04:15:00Z"}},
		{"30 3 * * sun", "Asia/Kolkata", "2026-03-04T00:00:00Z", []string{"2026-03-07T22:00:00Z", "2026-03-14T22:00:00Z"}},
		{"0 0 * * 7", "", "2026-03-04T00:00:00Z", []string{"2026-03-08T00:00:00Z"}},
		{"0 0 13 * fri", "", "2026-03-04T00:00:00Z", []string{"2026-03-06T00:00:00Z", "2026-03-13T00:00:00Z", "2026-03-20T00:00:00Z"}}, // either day
		{"0 0 29 2 *", "", "2026-03-04T00:00:00Z", []string{"2028-02-29T00:00:00Z", "2032-02-29T00:00:00Z"}},
		{"0 0 31 * *", "", "2026-03-31T00:00:00Z", []string{"2026-05-31T00:00:00Z"}},
	} {
		require.Equal(t, c.want, next(t, c.expression, c.zone, c.after, len(c.want)), c.expression)
	}
}

// TestDaylightSavingTime: in Berlin clocks go from 02:00 to 03:00 on
// 2026-03-29 and from 03:00 to 02:00 on 2026-10-25.
func TestDaylightSavingTime(t *testing.T) {
	berlin := "Europe/Berlin"
	require.Equal(t, []string{"2026-03-28T01:30:00Z", "2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"},
		next(t, "30 2 * * *", berlin, "2026-03-28T00:00:00Z", 3), "what is skipped is due when the clocks were moved")
	require.Equal(t, []string{"2026-10-24T00:30:00Z", "2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"},
		next(t, "30 2 * * *", berlin, "2026-10-24T00:00:00Z", 3), "what comes twice is due once")
	require.Equal(t, []string{"2026-03-29T00:30:00Z", "2026-03-29T01:00:00Z", "2026-03-29T01:30:00Z"},
		next(t, "30 * * * *", berlin, "2026-03-29T00:00:00Z", 3), "every hour")
	require.Equal(t, []string{"2026-04-04T16:30:00Z", "2026-04-05T16:30:00Z"},
		next(t, "0 3 * * *", "Australia/Lord_Howe", "2026-04-04T00:00:00Z", 2), "half an hour")
	require.Equal(t, []string{"2011-12-30T10:00:00Z", "2011-12-31T10:00:00Z"},
		next(t, "0 0 * * *", "Pacific/Apia", "2011-12-29T10:30:00Z", 2), "a whole day was skipped")
}

func TestWhatIsNoScheduleIsRefused(t *testing.T) {
	for expression, says := range map[string]string{
		"":              "has 0 fields",
		"* * * *":       "has 4 fields",
		"@daily":        "has 1 fields",
		"60 * * * *":    "minute: must be 0 to 59",
		"* 24 * * *":    "hour: must be 0 to 23",
		"* * 0 * *":     "day of the month: must be 1 to 31",
		"* * * 13 *":    "month: must be 1 to 12",
		"* * * * 8":     "day of the week: must be 0 to 7",
		"*/0 * * * *":   "step after /",
		"5-1 * * * *":   "runs backwards",
		"+1 * * * *":    "minute: must be",
		"1, * * * *":    "minute: must be",
		"* * * Jan *":   "month: must be",
		"0 0 30 feb *":  "is never due",
		"?  * * * *":    "minute: must be",
		"* * L * *":     "day of the month: must be",
		"007 * * * *":   "minute: must be",
		"1-2-3 * * * *": "minute: must be",
	} {
		_, err := cron.Parse(expression, "")
		require.ErrorContains(t, err, says, expression)
	}
	for _, zone := range []string{"Local", "Mars/Phobos", "../etc/passwd", "CET+1"} {
		_, err := cron.Parse("* * * * *", zone)
		require.ErrorContains(t, err, "IANA", zone)
	}
}
