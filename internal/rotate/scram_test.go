package rotate

import (
	"encoding/base64"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestTheVerifierIsTheOneOfTheStandard: the example of RFC 7677, section 3.
// Its client proof and server signature follow from these keys.
func TestTheVerifierIsTheOneOfTheStandard(t *testing.T) {
	salt, err := base64.StdEncoding.DecodeString("W22ZaJ0SNY7soEsUEjb6gQ==")
	require.NoError(t, err)
	text, err := verifierWith([]byte("pencil"), salt, 4096)
	require.NoError(t, err)
	require.Equal(t, "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=", text)
	serverKey, err := base64.StdEncoding.DecodeString(text[strings.LastIndexByte(text, ':')+1:])
	require.NoError(t, err)
	const message = "n=user,r=rOprNGfwEbeRWgbNEkqO,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096,c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
	require.Equal(t, "6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=", base64.StdEncoding.EncodeToString(mac(serverKey, message)))
	other, err := verifier([]byte("pencil"))
	require.NoError(t, err)
	require.NotEqual(t, text, other, "each has a salt of its own")
}

func TestStatementsForMySQLAreQuoted(t *testing.T) {
	require.Equal(t, `'it''s \ '`, quoted(`it's \ `))
	require.Equal(t, "*2470C0C06DEE42FD1618BB99005ADCA2EC9D1E19", nativeHash("password"))
	require.Equal(t, `ALTER USER 'a''b'@'%' IDENTIFIED BY 'p'';--'`, alterUser("a'b", account{"%", "caching_sha2_password"}, "p';--"))
	require.Equal(t, `ALTER USER 'a'@'10.%' IDENTIFIED WITH mysql_native_password AS '*2470C0C06DEE42FD1618BB99005ADCA2EC9D1E19'`,
		alterUser("a", account{"10.%", "mysql_native_password"}, "password"))
}
