package pkcs11

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"math/big"
	"testing"

	p11 "github.com/miekg/pkcs11"
	"github.com/stretchr/testify/require"
)

// flexibleBench is what a thief has who holds the user PIN, the token and the
// root copies of a flexible HSM: all but the security officer.
type flexibleBench struct {
	t       *testing.T
	m       *module
	session uint
	pair    uint
	root    Root
	copied  RootCopy
	how     wrapping
	cfg     Config
}

func newFlexibleBench(t *testing.T) *flexibleBench {
	b := &flexibleBench{t: t}
	b.m, b.session, b.pair, b.root, _, b.cfg = thiefsBenchOf(t, Flexible)
	b.copied = b.root.Copies[0]
	how, known := oaepBy(b.copied.Wrap)
	require.True(t, known)
	b.how = how
	return b
}

func (b *flexibleBench) unwrap(blob []byte, t template) (uint, error) {
	return b.m.unwrap(b.session, b.how, b.pair, blob, t)
}

// loot is the most that the HSM gives: extractable, under trusted keys only.
func (b *flexibleBench) loot() (key, mac uint) {
	b.t.Helper()
	keep := onlyTrusted().flag(ckaExtractable, true)
	key, err := b.unwrap(b.copied.RootKey, rootTemplate(false).with(keep))
	require.NoError(b.t, err)
	mac, err = b.unwrap(b.copied.MACKey, macTemplate(false).with(keep))
	require.NoError(b.t, err)
	return key, mac
}

func (b *flexibleBench) handles(object uint) (p11.SessionHandle, p11.ObjectHandle) {
	return p11.SessionHandle(b.session), p11.ObjectHandle(object)
}

func publicTemplate(public *rsa.PublicKey) template {
	return template{}.number(ckaClass, ckoPublicKey).number(ckaKeyType, ckkRSA).flag(ckaPrivate, false).flag(ckaWrap, true).
		raw(ckaModulus, public.N.Bytes()).raw(ckaPublicExponent, big.NewInt(int64(public.E)).Bytes())
}

func newReceiver(t *testing.T) (*rsa.PrivateKey, Recipient) {
	key, err := rsa.GenerateKey(rand.Reader, 3072)
	require.NoError(t, err)
	der, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	require.NoError(t, err)
	return key, Recipient{NodeID: "new", PublicDER: der, Wrap: "rsa-oaep-sha1"}
}

// In no other form than the one that only trusted keys take out does the HSM
// open the copies again.
func TestThiefOfAFlexibleHSMGetsNoOtherForm(t *testing.T) {
	b := newFlexibleBench(t)
	without := func(base template, attribute uint64) template { // both of ours say false to derive
		var out template
		for i := 0; i < len(base); i += 2 + int(base[i+1]+7)/8 {
			if base[i] != attribute {
				out = append(out, base[i:i+2+int(base[i+1]+7)/8]...)
			}
		}
		return out
	}
	bare := func(on bool) template { return template{}.flag(ckaEncrypt, on).flag(ckaDecrypt, false) }
	for name, asked := range map[string]template{
		"under any key":        leave().with(bare(false)).flag(ckaWrapWithTrusted, false),
		"silent about it":      leave().with(bare(false)),
		"readable":             template{}.flag(ckaSensitive, false).flag(ckaExtractable, false).flag(ckaWrapWithTrusted, true).with(bare(false)),
		"readable, and leaves": template{}.flag(ckaSensitive, false).flag(ckaExtractable, true).flag(ckaWrapWithTrusted, true).with(bare(false)),
		"encrypting":           leave().flag(ckaWrapWithTrusted, true).with(bare(true)),
		"decrypting":           leave().flag(ckaWrapWithTrusted, true).flag(ckaEncrypt, false).flag(ckaDecrypt, true),
		"said nothing":         {},
		"said it twice":        onlyTrusted().flag(ckaExtractable, true).flag(ckaWrapWithTrusted, false),
		"as kept by a strict":  onlyKeep(),
		"itself trusted":       onlyTrusted().flag(ckaExtractable, true).flag(ckaTrusted, true),
	} {
		_, err := b.unwrap(b.copied.RootKey, rootTemplate(false).with(asked))
		require.Error(t, err, name)
		_, err = b.unwrap(b.copied.MACKey, macTemplate(false).with(asked))
		require.Error(t, err, name)
	}
	asked := onlyTrusted().flag(ckaExtractable, true)
	_, err := b.unwrap(b.copied.RootKey, without(rootTemplate(false), ckaDerive).flag(ckaDerive, true).with(asked))
	require.ErrorContains(t, err, "CKR_TEMPLATE_INCONSISTENT", "what derives may pass on its bytes without its bonds")
	_, err = b.unwrap(b.copied.RootKey, without(rootTemplate(false), ckaDerive).flag(ckaDerive, false).with(asked))
	require.NoError(t, err, "the control")
}

// What it does give can be read by nobody, and be freed by nobody from the
// bond to trusted keys.
func TestThiefOfAFlexibleHSMCannotFreeTheCopy(t *testing.T) {
	b := newFlexibleBench(t)
	key, mac := b.loot()
	for _, object := range []uint{key, mac} {
		_, err := b.m.attribute(b.session, object, 0x11) // CKA_VALUE
		require.ErrorContains(t, err, "CKR_ATTRIBUTE_SENSITIVE")
		s, o := b.handles(object)
		for _, change := range []*p11.Attribute{
			p11.NewAttribute(ckaWrapWithTrusted, false), p11.NewAttribute(ckaSensitive, false), p11.NewAttribute(ckaTrusted, true),
		} {
			require.Error(t, b.m.ctx.SetAttributeValue(s, o, []*p11.Attribute{change}))
			_, err := b.m.ctx.CopyObject(s, o, []*p11.Attribute{change})
			require.Error(t, err)
		}
		for _, token := range []bool{false, true} {
			twin, err := b.m.ctx.CopyObject(s, o, []*p11.Attribute{p11.NewAttribute(ckaToken, token)})
			if err != nil {
				continue
			}
			for _, bond := range []uint64{ckaWrapWithTrusted, ckaSensitive} {
				has, err := b.m.hasFlag(b.session, uint(twin), bond, true)
				require.NoError(t, err)
				require.True(t, has, "a copy has the same bond")
			}
		}
	}
}

// Nor does any key take it out that the thief has, finds or makes.
func TestThiefOfAFlexibleHSMHasNoKeyThatTakesTheCopyOut(t *testing.T) {
	b := newFlexibleBench(t)
	key, mac := b.loot()
	mine, _ := newReceiver(t)
	rsaKey, err := b.m.create(b.session, publicTemplate(&mine.PublicKey))
	require.NoError(t, err)
	aes := template{}.flag(ckaToken, false).flag(ckaPrivate, true).flag(ckaWrap, true).number(ckaValueLen, 32)
	aesKey, err := b.m.generate(b.session, ckmAESKeyGen, aes)
	require.NoError(t, err)
	tok, err := b.m.findToken("thief", "")
	require.NoError(t, err)
	own, err := b.m.find(tok, b.session, ckoPublicKey, transportLabel, []byte(transportID))
	require.NoError(t, err)
	require.Len(t, own, 1)
	serving, err := b.m.find(tok, b.session, ckoSecretKey, rootLabel(1), rootID(b.root.MACCheck))
	require.NoError(t, err)
	require.Len(t, serving, 1)
	for _, object := range []uint{key, mac} {
		for name, with := range map[string]struct {
			how wrapping
			key uint
		}{
			"a public key of his": {b.how, rsaKey}, "our own public key": {b.how, own[0]},
			"PKCS #1 v1.5": {wrapping{mechanism: ckmRSAPKCS}, rsaKey},
			"an AES key":   {wrapRFC3394, aesKey}, "the root key": {wrapRFC3394, serving[0]}, "itself": {wrapRFC3394, key},
		} {
			_, err := b.m.wrap(b.session, with.how, with.key, object)
			require.Error(t, err, name)
		}
	}
	_, err = b.m.wrap(b.session, b.how, rsaKey, key)
	require.ErrorContains(t, err, "CKR_KEY_NOT_WRAPPABLE")
	_, err = b.m.wrap(b.session, b.how, rsaKey, serving[0])
	require.ErrorContains(t, err, "CKR_KEY_UNEXTRACTABLE", "the root in use leaves under no key at all")

	// And he cannot have one that is trusted.
	_, err = b.m.create(b.session, publicTemplate(&mine.PublicKey).flag(ckaTrusted, true))
	require.Error(t, err)
	_, err = b.m.create(b.session, publicTemplate(&mine.PublicKey).flag(ckaToken, true).flag(ckaTrusted, true))
	require.Error(t, err)
	_, err = b.m.generate(b.session, ckmAESKeyGen, aes.with(template{}.flag(ckaTrusted, true)))
	require.Error(t, err)
	for _, object := range []uint{rsaKey, aesKey, own[0]} {
		s, o := b.handles(object)
		require.Error(t, b.m.ctx.SetAttributeValue(s, o, []*p11.Attribute{p11.NewAttribute(ckaTrusted, true)}))
		_, err := b.m.ctx.CopyObject(s, o, []*p11.Attribute{p11.NewAttribute(ckaTrusted, true)})
		require.Error(t, err)
	}
}

// A receiver's key that the security officer trusts takes the copy out, to
// that receiver and nobody else, for as long as it is there: the thief can
// neither change it nor have a twin of it for later.
func TestTrustIsForOneReceiverAndEnds(t *testing.T) {
	b := newFlexibleBench(t)
	mine, to := newReceiver(t)
	d := &Device{cfg: b.cfg, metrics: &metrics{}}
	var err error
	d.cfg, err = d.cfg.withDefaults()
	require.NoError(t, err)
	d.log = d.cfg.Logger
	ctx := context.Background()
	require.NoError(t, d.trust(ctx, trustRequest{soPINFile: b.cfg.PINFile, receiver: to})) // the bench has one PIN for both
	tok, err := b.m.findToken("thief", "")
	require.NoError(t, err)
	trusted, err := b.m.find(tok, b.session, ckoPublicKey, receiverLabel, sumOf(to.PublicDER))
	require.NoError(t, err)
	require.Len(t, trusted, 1)

	key, _ := b.loot()
	blob, err := b.m.wrap(b.session, b.how, trusted[0], key)
	require.NoError(t, err)
	require.Len(t, blob, mine.Size())
	s, o := b.handles(trusted[0])
	other, _ := newReceiver(t)
	for _, change := range []*p11.Attribute{
		p11.NewAttribute(ckaModulus, other.N.Bytes()), p11.NewAttribute(ckaLabel, "for later"), p11.NewAttribute(ckaID, []byte("later")),
	} {
		require.Error(t, b.m.ctx.SetAttributeValue(s, o, []*p11.Attribute{change}))
		_, err := b.m.ctx.CopyObject(s, o, []*p11.Attribute{change})
		require.Error(t, err)
	}
	for _, token := range []bool{false, true} {
		_, err := b.m.ctx.CopyObject(s, o, []*p11.Attribute{p11.NewAttribute(ckaToken, token)})
		require.Error(t, err)
	}

	require.NoError(t, d.trust(ctx, trustRequest{soPINFile: b.cfg.PINFile}))
	_, err = b.m.wrap(b.session, b.how, trusted[0], key)
	require.Error(t, err)
	trusted, err = b.m.find(tok, b.session, ckoPublicKey, receiverLabel, nil)
	require.NoError(t, err)
	require.Empty(t, trusted)
}
