package dialect

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestPresetsAreWholeAndSettingsWin(t *testing.T) {
	for _, name := range Vendors() {
		d, ok := Of(name)
		require.True(t, ok)
		require.Empty(t, d.Faults(2), name)
		require.Contains(t, IVModes(), d.IVMode, name)
	}
	_, ok := Of("unheard-of")
	require.False(t, ok)

	preset, _ := Of("cloudhsm")
	own := Dialect{IVMode: IVPrepended, MaxSessions: 16, LoginPerSession: true, Mechanisms: map[string]uint64{RFC3394: 1}}.Over(preset)
	require.Equal(t, Dialect{IVMode: IVPrepended, MaxSessions: 16, LoginPerSession: true,
		Mechanisms: map[string]uint64{RFC3394: 1, RFC5649: 0x8000216F}}, own)
	untouched, _ := Of("cloudhsm")
	require.EqualValues(t, 0x80002109, untouched.Mechanisms[RFC3394], "presets are nobody's to change")
	require.Equal(t, preset.MaxSessions, Dialect{}.Over(preset).MaxSessions)
}

func TestNumbersAreTheStandardsUnlessSaidOtherwise(t *testing.T) {
	d := Dialect{Mechanisms: map[string]uint64{RFC3394: 0x80002109, RFC5649: 0x8000216F}}
	number, own := d.Number(AESGCM)
	require.EqualValues(t, 0x1087, number)
	require.False(t, own)
	number, own = d.Number(RFC3394)
	require.EqualValues(t, 0x80002109, number)
	require.True(t, own)
	require.Equal(t, map[uint64]uint64{0x2109: 0x80002109}, d.Own(), "RFC 5649 has no one number to replace")
	seen := map[uint64]bool{}
	for _, m := range mechanisms {
		require.False(t, seen[m.number] && m.name != RFC5649, "%s: one number, one meaning", m.name)
		seen[m.number] = seen[m.number] || m.name != RFC5649
	}
}

func TestSessionsAreAddedUpInWords(t *testing.T) {
	require.Equal(t, 4, NeededSessions(2))
	require.Empty(t, TooFew(4, 2, "the token allows"))
	require.Equal(t, "4 that serve, 1 that holds the log-in and the keys and 1 for ceremonies make 6 sessions; the token allows 5; make hsm.sessions at most 3",
		TooFew(5, 4, "the token allows"))
	require.Contains(t, TooFew(2, 1, "the token allows"), "no node can serve with fewer than 3")
}
