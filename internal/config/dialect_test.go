package config

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/internal/dialect"
)

// hsm answers the smallest file with more settings of the HSM.
func hsm(more string) string {
	return strings.Replace(smallest, "libsofthsm2.so}", "libsofthsm2.so, "+more+"}", 1)
}

func TestDialectOfTheFile(t *testing.T) {
	c, err := Parse([]byte(smallest))
	require.NoError(t, err)
	require.Equal(t, dialect.Dialect{IVMode: dialect.IVAuto, Mechanisms: map[string]uint64{}}, c.HSM.Dialect())

	c, err = Parse([]byte(hsm(`vendor: cloudhsm, mechanisms: {rfc3394: 0x80002109, aes-gcm: 4231, ecdsa: "0x1041"}, maxSessions: 10, loginPerSession: true`)))
	require.NoError(t, err)
	require.Equal(t, dialect.Dialect{IVMode: dialect.IVWriteback, MaxSessions: 10, LoginPerSession: true, Mechanisms: map[string]uint64{
		dialect.RFC3394: 0x80002109, dialect.RFC5649: 0x8000216F, dialect.AESGCM: 0x1087, dialect.ECDSA: 0x1041}}, c.HSM.Dialect())

	c, err = Parse([]byte(hsm(`vendor: cloudhsm, ivMode: auto`)))
	require.NoError(t, err)
	require.Equal(t, dialect.IVAuto, c.HSM.Dialect().IVMode, "what the file says wins over the preset")
}

func TestFaultsOfTheDialectNameSettingAndWayOut(t *testing.T) {
	for _, c := range []struct{ more, setting, wayOut string }{
		{"vendor: acme", "hsm.vendor", "generic, cloudhsm, luna-fips"},
		{"ivMode: hsm", "hsm.ivMode", "auto, caller, writeback, appended, prepended"},
		{"mechanisms: {aes-wrap: 0x2109}", "hsm.mechanisms", "rfc3394"},
		{"mechanisms: {rfc3394: 0x100002109}", "hsm.mechanisms", "rfc3394"},
		{"maxSessions: -1", "hsm.maxSessions", "0"},
		{"sessions: 4, maxSessions: 5", "hsm.sessions", "make 6 sessions; hsm.maxSessions is 5; make hsm.sessions at most 3"},
		{"sessions: 1, maxSessions: 2", "hsm.sessions", "fewer than 3"},
	} {
		_, err := Parse([]byte(hsm(c.more)))
		require.ErrorContains(t, err, c.setting+":", c.more)
		require.ErrorContains(t, err, c.wayOut, c.more)
	}
	_, err := Parse([]byte(hsm("sessions: 4, maxSessions: 6")))
	require.NoError(t, err)
	for _, number := range []string{"010", "0o10", "rfc", "-1", "1.5", "[1]", `""`, "0x"} {
		_, err := Parse([]byte(hsm("mechanisms: {rfc3394: " + number + "}")))
		require.ErrorContains(t, err, "is not a number such as 0x2109", number)
	}
}
