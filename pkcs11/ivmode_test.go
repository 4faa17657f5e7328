package pkcs11

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/internal/dialect"
)

// Where each way finds the IV, and all that a seal may not look like.
func TestSplitFindsTheIVAndRefusesTheRest(t *testing.T) {
	const size = 5
	zeros, iv := make([]byte, 12), bytes.Repeat([]byte{7}, 12)
	long := bytes.Repeat([]byte{9}, 16)
	box := bytes.Repeat([]byte{3}, size+tagBytes)
	join := func(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
	caller, writeback := gcmWay{dialect.IVCaller, 12, 12}, gcmWay{dialect.IVWriteback, 12, 12}
	appended, prepended := gcmWay{dialect.IVAppended, 16, 16}, gcmWay{dialect.IVPrepended, 0, 12}
	for name, c := range map[string]struct {
		way                gcmWay
		before, after, out []byte
		iv                 []byte // nil: refused
	}{
		"caller":                      {caller, iv, iv, box, iv},
		"caller, overwritten":         {caller, iv, long[:12], box, nil},
		"caller, appended":            {caller, iv, iv, join(box, iv), nil},
		"caller, short":               {caller, iv, iv, box[1:], nil},
		"written back":                {writeback, zeros, iv, box, iv},
		"written back, not":           {writeback, zeros, zeros, box, nil},
		"written back and appended":   {writeback, zeros, iv, join(box, iv), nil},
		"appended":                    {appended, long, long, join(box, long), long},
		"appended, not":               {appended, long, long, box, nil},
		"appended, another length":    {appended, long, long, join(box, iv), nil},
		"appended, zeros":             {appended, long, long, join(box, make([]byte, 16)), nil},
		"appended, found":             {gcmWay{dialect.IVAppended, 0, 0}, nil, nil, join(box, iv), iv},
		"appended, 13":                {gcmWay{dialect.IVAppended, 0, 0}, nil, nil, join(box, long[:13]), nil},
		"prepended":                   {prepended, nil, nil, join(iv, box), iv},
		"prepended, zeros":            {prepended, nil, nil, join(zeros, box), nil},
		"prepended, not":              {prepended, nil, nil, box, nil},
		"shorter than the plaintext":  {prepended, nil, nil, box[:3], nil},
		"caller, zeros drawn by luck": {caller, zeros, zeros, box, nil},
	} {
		gotIV, gotBox, err := c.way.split(c.before, c.after, c.out, size)
		if c.iv == nil {
			require.Error(t, err, name)
			require.Empty(t, gotIV, name)
			require.Empty(t, gotBox, name)
			continue
		}
		require.NoError(t, err, name)
		require.Equal(t, c.iv, gotIV, name)
		require.Equal(t, box, gotBox, name)
	}
}

// Only the way that must not have one hands over zeros or nothing.
func TestBuffersOfIVs(t *testing.T) {
	for _, way := range ways {
		one, err := way.buffer()
		require.NoError(t, err)
		other, err := way.buffer()
		require.NoError(t, err)
		require.Len(t, one, way.handed)
		switch {
		case way.mode == dialect.IVWriteback:
			require.Equal(t, make([]byte, ivBytes), one)
		case way.handed > 0:
			require.NotEqual(t, one, other, "%+v", way)
		}
	}
	require.Equal(t, dialect.IVCaller, ways[0].mode, "auto tries first what needs no trust in the HSM's generator")
}

func TestDialectTravels(t *testing.T) {
	for _, d := range []dialect.Dialect{
		{Mechanisms: map[string]uint64{}},
		{IVMode: dialect.IVAppended, LoginPerSession: true, Mechanisms: map[string]uint64{dialect.RFC3394: dialect.MaxNumber, dialect.RSAKeyPairGen: 0}},
	} {
		e := newEncoder(64)
		putDialect(e, d)
		in := &decoder{b: e.b}
		require.Equal(t, d, getDialect(in))
		require.NoError(t, in.done())
	}
}

// The table of names gives the numbers that the code knows by itself.
func TestNumbersOfTheDialectAreThoseOfTheCode(t *testing.T) {
	for name, want := range map[string]uint64{
		dialect.AESKeyGen: ckmAESKeyGen, dialect.GenericSecretKeyGen: ckmGenericSecretGen, dialect.RSAKeyPairGen: ckmRSAKeyPairGen,
		dialect.ECKeyPairGen: ckmECKeyPairGen, dialect.AESGCM: ckmAESGCM, dialect.AESGCMPrepended: ckmAESGCMPrepended,
		dialect.RFC3394: ckmAESKeyWrap, dialect.RFC5649: 0, dialect.HMACSHA256: ckmSHA256HMAC, dialect.RSAPKCS1: ckmRSAPKCS,
		dialect.RSAPSS: ckmRSAPSS, dialect.RSAOAEP: ckmRSAOAEP, dialect.ECDSA: ckmECDSA,
	} {
		got, own := dialect.Dialect{}.Number(name)
		require.Equal(t, want, got, name)
		require.False(t, own)
	}
	require.Len(t, dialect.Mechanisms(), 13)
}

// A file that was replaced is another one; the one that was read is told.
func TestPINFileTellsWhichItWas(t *testing.T) {
	path := t.TempDir() + "/pin"
	require.NoError(t, writeSecret(path, "1234"))
	pin, first, err := readPINFile(path)
	require.NoError(t, err)
	require.Equal(t, "1234", string(pin))
	require.Equal(t, stateOf(path), first)
	require.NoError(t, writeSecret(path, "12345"))
	_, second, err := readPINFile(path)
	require.NoError(t, err)
	require.NotEqual(t, first, second)
}
