package pkcs11

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	p11 "github.com/miekg/pkcs11"
	"github.com/stretchr/testify/require"
)

// A thief with the PIN, the token and the root copies of the replicated state
// calls the module by himself. The HSM refuses every form in which the root
// could be read, taken out or used to take wrapped keys apart.
func TestThiefGetsNoReadableRoot(t *testing.T) {
	m, session, pair, root := thiefsBench(t)
	how, known := transportWrap(root.Copies[0].Wrap)
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
	m, session, _, root := thiefsBench(t)
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

// thiefsBench answers a module in this process, logged in to a token that has
// a root, and the transport key in it.
func thiefsBench(t *testing.T) (m *module, session, private uint, root Root) {
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
	cfg := Config{Module: library, TokenLabel: "thief", PINFile: pin, Env: []string{"SOFTHSM2_CONF=" + conf}}
	ctx := context.Background()
	require.NoError(t, InitToken(ctx, cfg, pin))
	d, err := Open(ctx, cfg)
	require.NoError(t, err)
	_, err = d.CreateTransportKey(ctx)
	require.NoError(t, err)
	root, err = d.CreateRoot(ctx, 1, nil)
	require.NoError(t, err)
	require.NoError(t, d.Close())

	t.Setenv("SOFTHSM2_CONF", conf)
	m, err = loadModule(library)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, m.ctx.Finalize()) })
	found, err := m.findToken("thief", "")
	require.NoError(t, err)
	session, err = m.openSession(found.slot)
	require.NoError(t, err)
	require.NoError(t, m.login(session, 1, []byte("1234-5678")))
	keys, err := m.find(found, session, ckoPrivateKey, transportLabel, []byte(transportID))
	require.NoError(t, err)
	require.Len(t, keys, 1)
	return m, session, keys[0], root
}
