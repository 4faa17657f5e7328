package hsm

import (
	"bytes"
	"context"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/internal/dialect"
	"github.com/strongroom/strongroom/internal/fault"
	"github.com/strongroom/strongroom/internal/secret"
	"github.com/strongroom/strongroom/internal/wrapped"
	"github.com/strongroom/strongroom/pkcs11"
)

// ivVendors are modules that make the IV themselves, one for each way.
var ivVendors = map[string]struct {
	quirks  int32
	mode    string
	ivBytes int
}{
	"written back":           {ivWriteback, dialect.IVWriteback, 12},
	"appended, 16":           {ivAppended, dialect.IVAppended, 16},
	"appended, 12":           {ivAppended | ivShort, dialect.IVAppended, 12},
	"appended, wants NULL":   {ivAppended | ivNull, dialect.IVAppended, 16},
	"appended, 12, and NULL": {ivAppended | ivShort | ivNull, dialect.IVAppended, 12},
	"prepended":              {ivPrepended, dialect.IVPrepended, 12},
}

// ivKinds are the three that differ in where the IV is found.
var ivKinds = []string{"written back", "appended, 16", "prepended"}

// Whoever makes the IV, auto finds it, the mode by its name serves too, and
// what is sealed opens by IV, box and context, and by nothing else.
func TestIVsThatTheHSMMakes(t *testing.T) {
	for name, c := range ivVendors {
		t.Run(name, func(t *testing.T) {
			b := newBox(t)
			f := faulty(t, &b)
			f.quirks(c.quirks)
			d, root := rooted(t, b)
			p := d.Health().Profile
			require.Equal(t, c.mode, p.IVMode)
			require.EqualValues(t, c.ivBytes, p.IVBytes)
			require.Len(t, root.CanaryIV, c.ivBytes)
			k := newKey(t, d, "k1")
			sealsAndOpens(t, d, k, c.ivBytes)
			importsSecret(t, d)

			iv, sealed := seal(t, d, k, "hunter2", "aad")
			require.NoError(t, d.Close())
			b.cfg.Dialect.IVMode = c.mode
			d = open(t, b)
			require.NoError(t, d.UseRoot(context.Background(), root))
			got, err := unseal(d, k, iv, sealed, "aad")
			require.NoError(t, err)
			require.Equal(t, "hunter2", got)
		})
	}
}

func sealsAndOpens(t *testing.T, d *pkcs11.Device, k wrapped.Key, ivBytes int) {
	t.Helper()
	pid := d.Health().WorkerPID
	seen := map[string]bool{}
	for _, text := range []string{"", "x", "hunter2", string(make([]byte, pkcs11.MaxPlaintext))} {
		for range 3 {
			iv, sealed := seal(t, d, k, text, "context")
			require.Len(t, iv, ivBytes)
			require.Len(t, sealed, len(text)+16, "the stored form is the same in every mode")
			require.False(t, seen[string(iv)], "two seals, one IV")
			seen[string(iv)] = true
			got, err := unseal(d, k, iv, sealed, "context")
			require.NoError(t, err)
			require.Equal(t, text, got)
		}
	}
	iv, sealed := seal(t, d, k, "hunter2", "context")
	flipped := func(in []byte, at int) []byte {
		out := bytes.Clone(in)
		out[at] ^= 1
		return out
	}
	for what, bad := range map[string]struct {
		iv, sealed []byte
		aad        string
	}{
		"context": {iv, sealed, "another"}, "no context": {iv, sealed, ""}, "iv": {flipped(iv, ivBytes-1), sealed, "context"},
		"ciphertext": {iv, flipped(sealed, 0), "context"}, "tag": {iv, flipped(sealed, len(sealed)-1), "context"},
		"no iv": {nil, sealed, "context"}, "iv of 13": {append(bytes.Clone(iv), make([]byte, 13-min(13, len(iv)))...)[:13], sealed, "context"},
		"iv of the other length": {make([]byte, 28-ivBytes), sealed, "context"},
		"iv moved to the box":    {iv[:ivBytes-1], append([]byte{iv[ivBytes-1]}, sealed...), "context"},
	} {
		got, err := unseal(d, k, bad.iv, bad.sealed, bad.aad)
		require.Equal(t, fault.InvalidRequest, fault.KindOf(err), what)
		require.Empty(t, got, what)
	}
	require.Equal(t, pid, d.Health().WorkerPID, "none of it costs a worker")
}

// importsSecret brings in an AES key, which is proven by sealing.
func importsSecret(t *testing.T, d *pkcs11.Device) {
	t.Helper()
	importer, err := d.CreateImportKey(context.Background(), "i")
	require.NoError(t, err)
	blob := sealedFor(t, importer, randomBytes(t, 32), randomBytes(t, 32))
	_, err = d.ImportKey(context.Background(), importer, wrapped.RSAOAEPSHA1, blob, into([2]string{wrapped.AES256, wrapped.Encrypt}, nil))
	require.NoError(t, err)
}

// What one node's HSM sealed opens in another whose HSM lets the caller choose
// the IV, of either length.
func TestIVsOfOneHSMOpenInAnother(t *testing.T) {
	for _, name := range ivKinds {
		b := newBox(t)
		plain := b
		f := faulty(t, &b)
		f.quirks(ivVendors[name].quirks)
		d, root := rooted(t, b)
		k := newKey(t, d, "k1")
		iv, sealed := seal(t, d, k, "hunter2", "aad")
		require.NoError(t, d.Close())
		other := open(t, plain)
		require.NoError(t, other.UseRoot(context.Background(), root), name)
		require.Equal(t, dialect.IVCaller, other.Health().Profile.IVMode)
		got, err := unseal(other, k, iv, sealed, "aad")
		require.NoError(t, err, name)
		require.Equal(t, "hunter2", got)
	}
}

// A mode that is set and that the module does not do is refused by the name
// of the setting, with the one that works.
func TestWrongIVModeIsRefused(t *testing.T) {
	for _, c := range []struct {
		quirks     int32
		set, works string
	}{
		{0, dialect.IVWriteback, dialect.IVCaller}, {0, dialect.IVAppended, dialect.IVCaller}, {0, dialect.IVPrepended, dialect.IVCaller},
		{ivWriteback, dialect.IVCaller, dialect.IVWriteback}, {ivAppended, dialect.IVWriteback, dialect.IVAppended},
		{ivAppended | ivNull, dialect.IVPrepended, dialect.IVAppended}, {ivPrepended, dialect.IVCaller, dialect.IVPrepended},
	} {
		b := newBox(t)
		faulty(t, &b).quirks(c.quirks)
		b.cfg.Dialect.IVMode = c.set
		d := open(t, b)
		h := d.Health()
		require.Equal(t, pkcs11.HealthDown, h.State, "%+v", c)
		require.Contains(t, h.Reason, "hsm.ivMode: the HSM module does not do AES-GCM in the mode "+c.set, "%+v", c)
		require.Contains(t, h.Reason, "in the mode "+c.works+": set that, or auto", "%+v", c)
		_, err := d.Random(context.Background(), 8)
		require.Equal(t, fault.HsmUnavailable, fault.KindOf(err))
	}
}

// A module that makes IVs badly, or seals badly, is refused at the start, in
// every mode.
func TestBadSealsAreFoundAtTheStart(t *testing.T) {
	for name, bad := range map[string]struct {
		quirks int32
		words  string
	}{
		"constant IVs":   {ivConstant, "two seals have one IV"},
		"zero IVs":       {ivZero, ""},
		"AAD not bound":  {forgetAAD, "other associated data"},
		"opens anything": {opensAnything, "opens with a damaged"},
	} {
		for _, vendor := range ivKinds {
			t.Run(vendor+", "+name, func(t *testing.T) {
				b := newBox(t)
				faulty(t, &b).quirks(ivVendors[vendor].quirks | bad.quirks)
				h := open(t, b).Health()
				require.Equal(t, pkcs11.HealthDown, h.State)
				require.Contains(t, h.Reason, "lacks AES-GCM")
				require.Contains(t, h.Reason, bad.words)
			})
		}
	}
	for words, quirks := range map[string]int32{"other associated data": forgetAAD, "opens with a damaged": opensAnything,
		"not AES-256-GCM with that IV": ivMasked} {
		b := newBox(t)
		faulty(t, &b).quirks(quirks)
		require.Contains(t, open(t, b).Health().Reason, "lacks AES-GCM", words)
		require.Contains(t, open(t, b).Health().Reason, words)
	}
}

// A module that turns bad while it serves: the seal with the used IV never
// leaves, and the next probe refuses the module.
func TestIVsThatTurnBadNeverLeave(t *testing.T) {
	for _, name := range ivKinds {
		quirks := ivVendors[name].quirks
		for what, worse := range map[string]int32{"constant": quirks | ivConstant, "zero": quirks | ivZero, "the caller's, suddenly": 0} {
			t.Run(name+", "+what, func(t *testing.T) {
				b := newBox(t)
				f := faulty(t, &b)
				f.quirks(quirks)
				b.cfg.Dialect.IVMode = ivVendors[name].mode
				d, _ := rooted(t, b)
				k := newKey(t, d, "k1")
				seal(t, d, k, "hunter2", "")
				f.quirks(worse)
				seen := map[string]bool{}
				for {
					iv, _, err := d.Seal(context.Background(), k, secret.Copy([]byte("hunter2")), nil)
					if err != nil {
						require.Equal(t, fault.HsmUnavailable, fault.KindOf(err))
						break
					}
					require.NotEqual(t, make([]byte, len(iv)), iv)
					require.False(t, seen[string(iv)], "two seals with one IV left the worker")
					seen[string(iv)] = true
				}
				// By the seal itself, or where it only said that it cannot,
				// by the canary.
				require.Eventually(t, func() bool { return strings.Contains(d.Health().Reason, "hsm.ivMode") }, patient, ping)
			})
		}
	}
}
