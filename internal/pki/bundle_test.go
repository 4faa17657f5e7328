package pki

import (
	"crypto/tls"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func authority(t *testing.T, name string) Pair {
	t.Helper()
	ca, err := CreateCA(name, at)
	require.NoError(t, err)
	return ca
}

func bundle(t *testing.T, cas ...Pair) *Bundle {
	t.Helper()
	var text []byte
	for _, ca := range cas {
		text = append(text, ca.Cert...)
	}
	b, err := ParseBundle(text)
	require.NoError(t, err)
	return b
}

func TestAnAuthorityIsReplacedInABundle(t *testing.T) {
	old, fresh := authority(t, "old"), authority(t, "new")
	b, err := bundle(t, old).With(bundle(t, fresh))
	require.NoError(t, err)
	require.True(t, b.Equal(bundle(t, fresh, old)))
	require.False(t, b.Equal(bundle(t, old)))
	again, err := ParseBundle(b.PEM())
	require.NoError(t, err)
	require.True(t, again.Equal(b))
	_, err = b.With(bundle(t, old))
	require.ErrorContains(t, err, "twice")

	fingerprint := Fingerprint(certificate(t, old))
	_, err = b.Without(fingerprint[:7])
	require.ErrorContains(t, err, "eight")
	_, err = b.Without("00000000")
	require.ErrorContains(t, err, "no authority")
	left, err := b.Without(strings.ToUpper(fingerprint[:2]) + ":" + fingerprint[2:16])
	require.NoError(t, err)
	require.True(t, left.Equal(bundle(t, fresh)))
	_, err = left.Without(Fingerprint(certificate(t, fresh)))
	require.ErrorContains(t, err, "only authority")
}

// What a damaged file leaves out nobody would trust any more.
func TestADamagedBundleIsNoSmallerBundle(t *testing.T) {
	old, fresh := authority(t, "old"), authority(t, "new")
	leaf, err := IssueNode(old, "c", "node1", at)
	require.NoError(t, err)
	both := string(old.Cert) + string(fresh.Cert)
	for name, c := range map[string]struct{ text, says string }{
		"empty":         {"", "no certificate"},
		"cut short":     {both[:len(both)-30], "its end is missing"},
		"cut in the 1.": {both[:60], "its end is missing"},
		"a key in it":   {string(old.Cert) + string(old.Key), "holds a PRIVATE KEY"},
		"a leaf in it":  {string(old.Cert) + string(leaf.Cert), "is no authority"},
		"garbage":       {string(old.Cert) + "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "certificate 2"},
	} {
		_, err := ParseBundle([]byte(c.text))
		require.ErrorContains(t, err, c.says, name)
	}
}

func TestANodeIsCheckedAgainstTheBundle(t *testing.T) {
	old, fresh := authority(t, "old"), authority(t, "new")
	uri := NodeURI("c", "node1").String()
	load := func(p Pair, err error) *tls.Certificate {
		require.NoError(t, err)
		c, err := tls.X509KeyPair(p.Cert, p.Key)
		require.NoError(t, err)
		return &c
	}
	good := load(IssueNode(old, "c", "node1", at))
	require.NoError(t, bundle(t, old).CheckNode(good, uri, at))
	require.NoError(t, bundle(t, fresh, old).CheckNode(good, uri, at))
	require.Equal(t, "CN=old,O=Strongroom", bundle(t, fresh, old).IssuerOf(good).Subject.String())
	require.Nil(t, bundle(t, fresh).IssuerOf(good))
	require.ErrorContains(t, bundle(t, fresh).CheckNode(good, uri, at), "not signed by an authority of the bundle")
	require.ErrorContains(t, bundle(t, old).CheckNode(good, uri, at.Add(LeafLifetime+time.Hour)), "has expired")
	require.ErrorContains(t, bundle(t, old).CheckNode(good, uri, at.Add(-time.Hour)), "is valid from")
	require.ErrorContains(t, bundle(t, old).CheckNode(load(IssueNode(old, "c", "node2", at)), uri, at), "is not of strongroom://c/node/node1")
	require.ErrorContains(t, bundle(t, old).CheckNode(load(IssueNode(old, "d", "node1", at)), uri, at), "is not of")
	require.ErrorContains(t, bundle(t, old).CheckNode(load(IssueServer(old, []string{"node1"}, at)), uri, at), "is not of")
	require.Equal(t, good.Leaf.NotAfter, Within(good, at.Add(2*LeafLifetime)))
	require.Equal(t, good.Leaf.NotBefore, Within(good, at.Add(-time.Hour)))
}

func TestARenewalReplacesAndKeepsTheKeyPrivate(t *testing.T) {
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "c.pem"), filepath.Join(dir, "k.pem")
	first, second := authority(t, "a"), authority(t, "b")
	require.NoError(t, first.Write(cert, key))
	require.NoError(t, os.WriteFile(key+".new", nil, 0o644)) // of a try that was cut short
	require.NoError(t, second.Replace(cert, key))
	got, err := ReadPair(cert, key)
	require.NoError(t, err)
	require.Equal(t, second, got)
	info, err := os.Stat(key)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
	left, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, left, 2)
}
