package gossipring

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func ring(t *testing.T, n int) Ring {
	t.Helper()
	var r Ring
	for range n {
		r = append(r, Generate())
	}
	again, err := Parse(r.Format())
	require.NoError(t, err)
	require.True(t, r.Equal(again))
	return r
}

func TestAKeyIsReplacedInThreeSteps(t *testing.T) {
	r := ring(t, 1)
	old := Fingerprint(r[0])
	r, err := r.Add(Generate())
	require.NoError(t, err)
	require.Equal(t, old, r.Fingerprints()[0], "the new key is not sent with yet")
	fresh := r.Fingerprints()[1]
	_, err = r.Drop(old)
	require.ErrorContains(t, err, "is the one that is sent with")
	r, err = r.Use(strings.ToUpper(fresh))
	require.NoError(t, err)
	require.Equal(t, []string{fresh, old}, r.Fingerprints())
	r, err = r.Drop(old)
	require.NoError(t, err)
	require.Equal(t, []string{fresh}, r.Fingerprints())
	_, err = r.Use(old)
	require.ErrorContains(t, err, "no key has the fingerprint")
}

func TestBadFilesAreRefusedAndNotShown(t *testing.T) {
	key := base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{7}, 32))
	five := ""
	for i := range 5 {
		five += base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{byte(i)}, 32)) + "\n"
	}
	for name, text := range map[string]string{
		"empty": "", "blank": "\n \n", "short": key[:40], "text": "correct horse battery staple", "twice": key + "\n" + key,
		"one of two": key + "\nAAAA\n", "long": base64.StdEncoding.EncodeToString(make([]byte, 33)), "many": five,
	} {
		_, err := Parse([]byte(text))
		require.Error(t, err, name)
		require.NotContains(t, err.Error(), key[:8], name)
		require.NotContains(t, err.Error(), "battery", name)
	}
	r, err := Parse([]byte("\r\n" + key + "\r\n\n"))
	require.NoError(t, err)
	require.Len(t, r, 1)
	require.NotContains(t, fmt.Sprintf("%v %+v %#v %s", r, r, r, r.Fingerprints()), key)
}

func TestAFingerprintIsOfTheKeyAlone(t *testing.T) {
	a, b := ring(t, 1), ring(t, 1)
	require.NotEqual(t, Fingerprint(a[0]), Fingerprint(b[0]))
	require.Len(t, Fingerprint(a[0]), 16)
}
