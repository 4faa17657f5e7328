package wire_test

import (
	"bytes"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/strongroom/strongroom/api/wire"
)

func TestTimesHaveOneForm(t *testing.T) {
	for _, text := range []string{"2026-01-02T03:04:05Z", "2026-01-02T03:04:05.1Z", "2026-01-02T03:04:05.123Z", "1970-01-01T00:00:00Z", "9999-12-31T23:59:59.999Z"} {
		got, err := wire.ParseTime(text)
		require.NoError(t, err, text)
		require.Equal(t, text, got.String())
		require.Equal(t, time.UTC, got.Location())
	}
	for _, text := range []string{
		"", "Z", "2026-01-02", "2026-01-02T03:04:05", "2026-01-02T03:04:05+00:00", "2026-01-02T03:04:05-00:00", "2026-01-02t03:04:05Z", "2026-01-02T03:04:05z",
		"2026-01-02T3:04:05Z", "2026-01-02T3:04:05.5Z", "2026-01-02T03:04:05,5Z", "2026-01-02T03:04:05.Z", "2026-01-02T03:04:05.1234Z", "2026-01-02T03:04:05.1000Z",
		"2026-01-02 03:04:05Z", "2026-02-29T00:00:00Z", "2026-13-01T00:00:00Z", "2026-01-02T24:00:00Z", "2026-01-02T03:04:60Z", "1969-12-31T23:59:59.999Z",
		"10000-01-01T00:00:00Z", "-001-01-01T00:00:00Z", "2026-01-02T03:04:05ZZ", " 2026-01-02T03:04:05Z", "2026-01-02T03:04:05Z ", "２026-01-02T03:04:05Z",
	} {
		_, err := wire.ParseTime(text)
		require.Error(t, err, text)
	}
}

func TestTimesSurviveTheJourney(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		ms := rapid.Int64Range(1, 253402300799999).Draw(r, "ms")
		var out bytes.Buffer
		require.NoError(r, wire.Encode(&out, wire.PutSecretValueRequest{VersionLife: wire.VersionLife{ExpiresAt: wire.Millis(ms)}}))
		var in wire.PutSecretValueRequest
		require.NoError(r, wire.Decode(out.Bytes(), &in), out.String())
		require.Equal(r, ms, in.ExpiresAt.Milli())
	})
	require.Nil(t, wire.Millis(0))
	require.Zero(t, (*wire.Time)(nil).Milli())
}

func TestDurationsSurviveTheJourney(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		d := wire.Duration(rapid.Int64Range(0, int64(100*365*24*time.Hour)).Draw(r, "d"))
		text, err := d.MarshalText()
		require.NoError(r, err)
		var again wire.Duration
		require.NoError(r, again.UnmarshalText(text), string(text))
		require.Equal(r, d, again)

		o := wire.Offset(rapid.Int64().Draw(r, "o"))
		text, err = o.MarshalText()
		require.NoError(r, err)
		var same wire.Offset
		require.NoError(r, same.UnmarshalText(text), string(text))
		require.Equal(r, o, same)
	})
	var o wire.Offset
	for _, bad := range []string{"", "-", "7", "1d", "7.2 s"} {
		require.Error(t, o.UnmarshalText([]byte(bad)), bad)
	}
}
