package pkcs11

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	p11 "github.com/miekg/pkcs11"
	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/internal/wrapped"
)

// A thief with the PIN, the token and the root copies of the replicated state
// calls the module by himself. The HSM refuses every form in which the root
// could be read, taken out or used to take wrapped keys apart.
func TestThiefGetsNoReadableRoot(t *testing.T) {
	m, session, pair, root, _ := thiefsBench(t)
	how, known := oaepBy(root.Copies[0].Wrap)
	require.True(t, known)
	base := rootTemplate(false)
	for name, asked := range map[string]template{
		"readable":       template{}.flag(ckaSensitive, false).flag(ckaExtractable, false).flag(ckaEncrypt, false).flag(ckaDecrypt, false),
		"extractable":    template{}.flag(ckaSensitive, true).flag(ckaExtractable, true).flag(ckaEncrypt, false).flag(ckaDecrypt, false),
		"decrypting":     stay().flag(ckaEncrypt, false).flag(ckaDecrypt, true),
		"encrypting":     stay().flag(ckaEncrypt, true).flag(ckaDecrypt, false),
		"said nothing":   {},
		"said it thrice": onlyKeep().with(stay()).flag(ckaSensitive, false),
	} {
		_, err := m.unwrap(session, how, pair, root.Copies[0].RootKey, base.with(asked))
		require.ErrorContains(t, err, "CKR_TEMPLATE_INCONSISTENT", name)
	}
	// The control: in the form that we use it opens.
	object, err := m.unwrap(session, how, pair, root.Copies[0].RootKey, base.with(onlyKeep()))
	require.NoError(t, err)
	_, err = m.attribute(session, object, 0x11) // CKA_VALUE
	require.ErrorContains(t, err, "CKR_ATTRIBUTE_SENSITIVE")
}

// Nor does the root key unwrap a KMS key of the replicated state readably,
// let itself be wrapped, or become what it is not.
func TestThiefGetsNoReadableKey(t *testing.T) {
	m, session, _, root, _ := thiefsBench(t)
	tok, err := m.findToken("thief", "")
	require.NoError(t, err)
	keys, err := m.find(tok, session, ckoSecretKey, rootLabel(1), rootID(root.MACCheck))
	require.NoError(t, err)
	require.Len(t, keys, 1)
	for name, asked := range map[string]template{
		"readable":    template{}.flag(ckaSensitive, false).flag(ckaExtractable, false),
		"extractable": template{}.flag(ckaSensitive, true).flag(ckaExtractable, true),
		"silent":      {},
	} {
		_, err := m.unwrap(session, wrapRFC3394, keys[0], root.Canary.Blob, secretKey(ckkAES).flag(ckaEncrypt, true).with(asked))
		require.ErrorContains(t, err, "CKR_TEMPLATE_INCONSISTENT", name)
	}
	_, err = m.unwrap(session, wrapRFC3394, keys[0], root.Canary.Blob, secretKey(ckkAES).flag(ckaEncrypt, true).with(stay()))
	require.NoError(t, err, "the control")
	_, err = m.wrap(session, wrapRFC3394, keys[0], keys[0])
	require.ErrorContains(t, err, "CKR_KEY_UNEXTRACTABLE")
	for _, change := range []*p11.Attribute{p11.NewAttribute(ckaExtractable, true), p11.NewAttribute(ckaSensitive, false)} {
		require.Error(t, m.ctx.SetAttributeValue(p11.SessionHandle(session), p11.ObjectHandle(keys[0]), []*p11.Attribute{change}))
	}
}

// Nor a private key, whatever it is for: not in another form than that in which
// we use it, and in that one it cannot be read, taken out or given other uses.
func TestThiefGetsNoReadablePair(t *testing.T) {
	m, session, _, root, keys := thiefsBench(t)
	tok, err := m.findToken("thief", "")
	require.NoError(t, err)
	roots, err := m.find(tok, session, ckoSecretKey, rootLabel(1), rootID(root.MACCheck))
	require.NoError(t, err)
	require.Len(t, roots, 1)
	parts := []uint64{0x11, ckaPrivateExponent, ckaPrime1, ckaPrime2, ckaExponent1, ckaExponent2, ckaCoefficient} // 0x11: CKA_VALUE
	for _, k := range keys {
		kind := specs[specUsage{k.Spec, k.Usage}]
		how := Profile{PadWrap: ckmAESKeyWrapPad}.wrapping(kind)
		for name, asked := range map[string]template{
			"readable":    template{}.flag(ckaSensitive, false).flag(ckaExtractable, false),
			"extractable": leave(),
			"both":        template{}.flag(ckaSensitive, false).flag(ckaExtractable, true),
			"silent":      {},
		} {
			_, err := m.unwrap(session, how, roots[0], k.Blob, kind.hold(false).with(kind.uses(true)).with(asked))
			require.ErrorContains(t, err, "CKR_TEMPLATE_INCONSISTENT", "%s: %s", k.Spec, name)
		}
		object, err := m.unwrap(session, how, roots[0], k.Blob, kind.useTemplate(false))
		require.NoError(t, err, "the control")
		require.NoError(t, m.staysIn(session, object))
		for _, flag := range []uint64{ckaEncrypt, ckaDecrypt, ckaSign, ckaUnwrap} {
			if kind.pair() && flag != ckaEncrypt {
				right, err := m.hasFlag(session, object, flag, flag == kind.may[0])
				require.NoError(t, err)
				require.True(t, right, "%s: 0x%x", k.Spec, flag)
			}
		}
		for _, part := range parts {
			if value, err := m.attribute(session, object, part); err == nil {
				require.Empty(t, value, "%s: 0x%x", k.Spec, part)
			}
		}
		_, err = m.wrap(session, how, roots[0], object)
		require.ErrorContains(t, err, "CKR_KEY_UNEXTRACTABLE")
		for _, change := range []*p11.Attribute{p11.NewAttribute(ckaExtractable, true), p11.NewAttribute(ckaSensitive, false)} {
			require.Error(t, m.ctx.SetAttributeValue(p11.SessionHandle(session), p11.ObjectHandle(object), []*p11.Attribute{change}))
		}
	}
}

// thiefsBench answers a module in this process, logged in to a token that has
// a root, and the transport key in it.
func thiefsBench(t *testing.T) (m *module, session, private uint, root Root, keys []wrapped.Key) {
	m, session, private, root, keys, _ = thiefsBenchOf(t, Strict)
	return m, session, private, root, keys
}

func benchKeys(ctx context.Context, t *testing.T, d *Device) (keys []wrapped.Key) {
	for _, spec := range []string{wrapped.ECP256, wrapped.ECP384, wrapped.RSA2048} {
		k, err := d.GenerateKey(ctx, "k", 1, spec, wrapped.Sign)
		require.NoError(t, err)
		keys = append(keys, k)
	}
	importer, err := d.CreateImportKey(ctx, "i")
	require.NoError(t, err)
	secret, err := d.GenerateKey(ctx, "k", 1, wrapped.HMAC256, wrapped.MAC)
	require.NoError(t, err)
	return append(keys, importer, secret)
}

// thiefsBenchOf is thiefsBench with a transport key of profile, keys only
// where it is strict, and the configuration of the token.
func thiefsBenchOf(t *testing.T, profile string) (m *module, session, private uint, root Root, keys []wrapped.Key, cfg Config) {
	library := ""
	for _, path := range []string{os.Getenv("STRONGROOM_TEST_SOFTHSM"), "/usr/lib/softhsm/libsofthsm2.so", "/usr/lib64/softhsm/libsofthsm2.so"} {
		if _, err := os.Stat(path); err == nil && library == "" {
			library = path
		}
	}
	require.NotEmpty(t, library, "SoftHSM is not installed: install the package softhsm2")
	dir := t.TempDir()
	conf, pin := filepath.Join(dir, "softhsm2.conf"), filepath.Join(dir, "pin")
	require.NoError(t, os.Mkdir(filepath.Join(dir, "tokens"), 0o700))
	require.NoError(t, writeSecret(conf, fmt.Sprintf("directories.tokendir = %s/tokens\n", dir)))
	require.NoError(t, writeSecret(pin, "1234-5678"))
	cfg = Config{Module: library, TokenLabel: "thief", PINFile: pin, Env: []string{"SOFTHSM2_CONF=" + conf}}
	ctx := context.Background()
	require.NoError(t, InitToken(ctx, cfg, pin))
	d, err := Open(ctx, cfg)
	require.NoError(t, err)
	_, err = d.createTransportKey(ctx, profile)
	require.NoError(t, err)
	root, err = d.CreateRoot(ctx, 1, nil)
	require.NoError(t, err)
	if profile == Strict {
		keys = benchKeys(ctx, t, d)
	}
	require.NoError(t, d.Close())

	t.Setenv("SOFTHSM2_CONF", conf)
	m, err = loadModule(library, "")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, m.ctx.Finalize()) })
	found, err := m.findToken("thief", "")
	require.NoError(t, err)
	session, err = m.openSession(found.slot)
	require.NoError(t, err)
	require.NoError(t, m.login(session, 1, []byte("1234-5678")))
	pairs, err := m.find(found, session, ckoPrivateKey, transportLabel, []byte(transportID))
	require.NoError(t, err)
	require.Len(t, pairs, 1)
	return m, session, pairs[0], root, keys, cfg
}
