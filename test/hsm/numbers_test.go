package hsm

import (
	"context"
	"crypto"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/internal/dialect"
	"github.com/strongroom/strongroom/internal/wrapped"
	"github.com/strongroom/strongroom/pkcs11"
)

// ownNumbersOfAll is the configuration of a module that calls every mechanism
// by a number of its own.
func ownNumbersOfAll() map[string]uint64 {
	out := map[string]uint64{}
	for _, name := range dialect.Mechanisms() {
		number, _ := dialect.Dialect{}.Number(name)
		out[name] = ownNumber | number
	}
	out[dialect.RFC5649] = ownNumber | 0x210A // what SoftHSM calls so
	return out
}

// Everything that we do is done by the numbers of the configuration: the
// module knows no other.
func TestMechanismsUnderOtherNumbers(t *testing.T) {
	ctx := context.Background()
	b := newBox(t)
	faulty(t, &b).quirks(ownNumbers)
	b.cfg.Dialect.Mechanisms = ownNumbersOfAll()
	d, _ := rooted(t, b)
	p := d.Health().Profile
	require.EqualValues(t, ownNumber|0x210A, p.PadWrap)
	require.Equal(t, []string{wrapped.AES256, wrapped.HMAC256, wrapped.ECP256, wrapped.ECP384, wrapped.RSA2048, wrapped.RSA3072, wrapped.RSA4096}, p.Specs)
	require.Equal(t, []string{"encryption by rsa-oaep-sha256 (C_Decrypt: pkcs11: 0x7: CKR_ARGUMENTS_BAD)"}, p.Lacks, "what SoftHSM lacks by any number")

	sealsAndOpens(t, d, newKey(t, d, "k1"), 12)
	importsSecret(t, d)
	_, err := d.KeyMAC(ctx, keyOf(t, d, wrapped.HMAC256, wrapped.MAC), []byte("m"))
	require.NoError(t, err)
	for spec, algorithms := range map[string][]string{wrapped.ECP256: {wrapped.ECDSASHA256}, wrapped.RSA2048: {wrapped.RSAPSSSHA256, wrapped.RSAPKCS1SHA512}} {
		k := keyOf(t, d, spec, wrapped.Sign)
		for _, algorithm := range algorithms {
			digest := digestFor(t, algorithm)
			sig, err := d.Sign(ctx, k, algorithm, digest)
			require.NoError(t, err)
			require.True(t, verifies(t, k, algorithm, digest, sig))
		}
	}
	k := keyOf(t, d, wrapped.RSA2048, wrapped.Encrypt)
	out, err := d.DecryptRSA(ctx, k, wrapped.RSAOAEPSHA1, oaepIn(t, k, crypto.SHA1, []byte("hunter2"), nil))
	require.NoError(t, err)
	out.Wipe()
}

// A number that is missing or wrong is refused, and the reason says where to
// set it.
func TestWrongNumbersAreRefused(t *testing.T) {
	all := ownNumbersOfAll()
	for name, c := range map[string]struct {
		quirks  int32
		numbers map[string]uint64
		words   []string
	}{
		"none given":         {ownNumbers, nil, []string{"lacks AES-256 key generation", "set hsm.mechanisms"}},
		"no wrap given":      {ownNumbers, without(all, dialect.RFC3394), []string{"lacks AES key wrap (RFC 3394", "hsm.mechanisms"}},
		"no GCM given":       {ownNumbers, without(all, dialect.AESGCM), []string{"lacks AES-GCM", "hsm.mechanisms"}},
		"no HMAC given":      {ownNumbers, without(all, dialect.HMACSHA256), []string{"lacks HMAC-SHA-256", "hsm.mechanisms"}},
		"a number of nobody": {0, map[string]uint64{dialect.AESGCM: 0x80001234}, []string{"lacks AES-GCM", "aes-gcm to 0x80001234"}},
		// These work, each by itself, and are something else.
		"RFC 5649 for RFC 3394": {0, map[string]uint64{dialect.RFC3394: 0x210A}, []string{"vector of RFC 3394", "rfc3394 to 0x210a"}},
		"another MAC":           {0, map[string]uint64{dialect.HMACSHA256: 0x256}, []string{"HMAC-SHA-256", "hmac-sha256 to 0x256"}},
		"CBC for GCM":           {0, map[string]uint64{dialect.AESGCM: 0x1085}, []string{"lacks AES-GCM", "aes-gcm to 0x1085"}},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBox(t)
			faulty(t, &b).quirks(c.quirks)
			b.cfg.Dialect.Mechanisms = c.numbers
			h := open(t, b).Health()
			require.Equal(t, pkcs11.HealthDown, h.State)
			for _, words := range c.words {
				require.Contains(t, h.Reason, words)
			}
		})
	}
}

// A wrong number of what is not needed for secret keys takes nothing but that.
func TestWrongNumberOfThePadWrap(t *testing.T) {
	b := newBox(t)
	b.cfg.Dialect.Mechanisms = map[string]uint64{dialect.RFC5649: 0x2109} // RFC 3394, which does not pad
	p := open(t, b).Health().Profile
	require.Zero(t, p.PadWrap)
	require.Equal(t, []string{wrapped.AES256, wrapped.HMAC256}, p.Specs)
	require.Len(t, p.Lacks, 1)
	require.Contains(t, p.Lacks[0], "RFC 5649")
}

func without(all map[string]uint64, name string) map[string]uint64 {
	out := map[string]uint64{}
	for n, number := range all {
		if n != name {
			out[n] = number
		}
	}
	return out
}
