package pkcs11

import (
	"bytes"
	"crypto/hmac"
	"crypto/rsa"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"

	"github.com/strongroom/strongroom/internal/wrapped"
)

// Names of the objects in the token.
const (
	transportLabel = "strongroom transport"
	transportID    = "strongroom-transport"
	transportBits  = 3072
)

func rootLabel(version uint32) string { return fmt.Sprintf("strongroom root v%d", version) }

func macLabel(version uint32) string { return fmt.Sprintf("strongroom root mac v%d", version) }

// rootID names both objects of a root. It follows from the MAC check, so that
// the objects of an init that failed half-way, or of another cluster on a
// shared HSM, are never taken for those of this root.
func rootID(macCheck []byte) []byte {
	return sumOf(append([]byte("strongroom/root-id/v1\x00"), macCheck...))[:16]
}

// macCheckText and canaryText are fixed for ever: roots that exist depend on
// them.
func macCheckText(version uint32) []byte {
	return binary.BigEndian.AppendUint32([]byte("strongroom/root-mac-check/v1\x00"), version)
}

func canaryText(version uint32) []byte {
	return binary.BigEndian.AppendUint32([]byte("strongroom/canary/v1\x00"), version)
}

// onlyKeep is what every root and root MAC key must be, and what a strict
// transport key's CKA_UNWRAP_TEMPLATE demands: it stays inside, and it does
// not decrypt, which would take wrapped keys apart block by block.
func onlyKeep() template { return stay().flag(ckaEncrypt, false).flag(ckaDecrypt, false) }

// rootTemplate is the root key but for its secrecy and length: wrap and
// unwrap only, and what it unwraps stays inside.
func rootTemplate(token bool) template {
	return template{}.number(ckaClass, ckoSecretKey).number(ckaKeyType, ckkAES).
		flag(ckaToken, token).flag(ckaPrivate, true).
		flag(ckaWrap, true).flag(ckaUnwrap, true).
		flag(ckaSign, false).flag(ckaVerify, false).flag(ckaDerive, false).
		array(ckaUnwrapTemplate, stay())
}

// macTemplate is the root MAC key but for its secrecy and length.
func macTemplate(token bool) template {
	return template{}.number(ckaClass, ckoSecretKey).number(ckaKeyType, ckkGenericSecret).
		flag(ckaToken, token).flag(ckaPrivate, true).
		flag(ckaSign, true).flag(ckaVerify, true).
		flag(ckaWrap, false).flag(ckaUnwrap, false).flag(ckaDerive, false)
}

// rootKeys is a root in use in this worker.
type rootKeys struct {
	version              uint32
	key, mac, canary     uint
	checkValue, macCheck []byte
	canaryIV, canaryBox  []byte
	copied               *RootCopy   // the root on its way into this HSM, nil: there is none
	others               []*rootKeys // that are in use with this one
}

// of answers the root in use of this version, nil if there is none.
func (r *rootKeys) of(version uint32) *rootKeys {
	if r.version == version {
		return r
	}
	for _, other := range r.others {
		if other.version == version {
			return other
		}
	}
	return nil
}

// led answers all as one ring that making leads, nil if it is not among them.
// Rings are never changed: others may be reading the one before.
func led(all []*rootKeys, making uint32) *rootKeys {
	var first *rootKeys
	var others []*rootKeys
	for _, r := range all {
		single := *r
		single.others = nil
		if r.version == making {
			first = &single
		} else {
			others = append(others, &single)
		}
	}
	if first != nil {
		first.others = others
	}
	return first
}

// checkRoot proves that the token answers, with the root that we mean.
func (w *worker) checkRoot(session uint, root *rootKeys) error {
	sum, err := w.mod.hmac(session, root.mac, macCheckText(root.version))
	if err != nil {
		return err
	}
	if !hmac.Equal(sum, root.macCheck) {
		return errors.New("the root MAC key in the HSM is another one")
	}
	if _, err := w.mod.attribute(session, root.key, ckaSensitive); err != nil {
		return err // the object is gone
	}
	if len(root.checkValue) == 0 || !w.profile.CheckValue {
		return nil // the canary, wrapped under the root, is the check then
	}
	value, err := w.mod.attribute(session, root.key, ckaCheckValue)
	if err != nil {
		return err
	}
	// SoftHSM 2.6 has the value of keys that it generated, and an empty one
	// of keys that it unwrapped; then too the canary is the check.
	if len(value) != 0 && !bytes.Equal(value, root.checkValue) {
		return errors.New("the root key in the HSM is another one")
	}
	return nil
}

// createTransport makes the transport pair inside the HSM. One that does not
// keep what it receives as its profile says is taken away again.
func (w *worker) createTransport(session uint, d *decoder) error {
	profile := d.text()
	if err := d.done(); err != nil {
		return err
	}
	there, err := w.mod.find(w.token, session, ckoPrivateKey, transportLabel, []byte(transportID))
	if err != nil {
		return err
	}
	if len(there) != 0 {
		return fail(statusExists, nil, "the HSM has a transport key already")
	}
	names := template{}.flag(ckaToken, true).raw(ckaLabel, []byte(transportLabel)).raw(ckaID, []byte(transportID))
	public := names.flag(ckaPrivate, false).flag(ckaWrap, true).flag(ckaEncrypt, false).flag(ckaVerify, false).
		number(ckaModulusBits, transportBits).raw(ckaPublicExponent, []byte{1, 0, 1})
	private := names.with(template{}.flag(ckaPrivate, true).with(stay()).
		flag(ckaUnwrap, true).flag(ckaDecrypt, false).flag(ckaSign, false).flag(ckaDerive, false).
		array(ckaUnwrapTemplate, demand(profile)))
	made, secret, err := w.mod.generatePair(session, ckmRSAKeyPairGen, public, private)
	if err != nil {
		return lacks("RSA-3072 key pairs with CKA_UNWRAP_TEMPLATE", err)
	}
	p, err := w.findPair(session)
	if err == nil {
		err = w.examine(session, &p)
	}
	if err == nil && p.key.Profile != profile {
		err = lacks(profile+" transport keys", nil)
	}
	if err != nil {
		return errors.Join(err, w.mod.destroy(session, made), w.mod.destroy(session, secret), syncTree(w.config.syncDir))
	}
	return syncTree(w.config.syncDir)
}

// pair is the transport pair as found in the token.
type pair struct {
	public, private uint
	key             TransportKey
}

func (w *worker) findPair(session uint) (pair, error) {
	private, err := w.mod.find(w.token, session, ckoPrivateKey, transportLabel, []byte(transportID))
	if err != nil {
		return pair{}, err
	}
	public, err := w.mod.find(w.token, session, ckoPublicKey, transportLabel, []byte(transportID))
	if err != nil {
		return pair{}, err
	}
	if len(private) == 0 {
		return pair{}, fail(statusAbsent, nil, "the HSM has no transport key")
	}
	if len(private) != 1 || len(public) != 1 {
		return pair{}, fail(statusRefused, nil, "the HSM has %d private and %d public objects labelled %q; there must be one of each",
			len(private), len(public), transportLabel)
	}
	modulus, err := w.mod.attribute(session, public[0], ckaModulus)
	if err != nil {
		return pair{}, err
	}
	exponent, err := w.mod.attribute(session, public[0], ckaPublicExponent)
	if err != nil {
		return pair{}, err
	}
	der, err := x509.MarshalPKIXPublicKey(&rsa.PublicKey{
		N: new(big.Int).SetBytes(modulus), E: int(new(big.Int).SetBytes(exponent).Int64())})
	if err != nil {
		return pair{}, fail(statusRefused, err, "the transport key is not an RSA key")
	}
	return pair{public: public[0], private: private[0], key: TransportKey{PublicDER: der, Fingerprint: sumOf(der)}}, nil
}

// transport answers the public half, with the best wrap that this HSM was
// seen to do with the pair, and the profile that it was seen to keep, now.
func (w *worker) transport(session uint, d *decoder, e *encoder) error {
	if err := d.done(); err != nil {
		return err
	}
	p, err := w.findPair(session)
	if err != nil {
		return err
	}
	if err := w.examine(session, &p); err != nil {
		return err
	}
	p.key.put(e)
	return nil
}

// createRoot makes a root key and a root MAC key as session objects that may
// be extracted, wraps them to every recipient's transport key and to our own,
// and forgets them: this session is closed when we return. Our own copy is
// imported afterwards like every node's, so that no root was ever extractable
// as an object of the token.
func (w *worker) createRoot(session uint, d *decoder, e *encoder) error {
	version, to := d.u32(), getRecipients(d)
	if err := d.done(); err != nil {
		return err
	}
	own, err := w.findPair(session)
	if err != nil {
		return err
	}
	fresh := template{}.number(ckaValueLen, 32).flag(ckaSensitive, true).flag(ckaExtractable, true).
		flag(ckaEncrypt, false).flag(ckaDecrypt, false)
	root := &rootKeys{version: version}
	if root.key, err = w.mod.generate(session, ckmAESKeyGen, rootTemplate(false).with(fresh)); err != nil {
		return err
	}
	if root.mac, err = w.mod.generate(session, ckmGenericSecretGen, macTemplate(false).with(fresh)); err != nil {
		return err
	}
	out := Root{Version: version}
	if w.profile.CheckValue {
		if out.CheckValue, err = w.mod.attribute(session, root.key, ckaCheckValue); err != nil {
			return err
		}
	}
	if out.MACCheck, err = w.mod.hmac(session, root.mac, macCheckText(version)); err != nil {
		return err
	}
	if err := w.createCanary(session, root, &out); err != nil {
		return err
	}
	if out.Copies, err = w.copies(session, root, own, to); err != nil {
		return err
	}
	for _, object := range []uint{root.key, root.mac} {
		if err := w.mod.destroy(session, object); err != nil {
			return err
		}
	}
	out.put(e)
	return nil
}

// createCanary makes the canary key under the new root and seals its text.
func (w *worker) createCanary(session uint, root *rootKeys, out *Root) error {
	kind := specs[specUsage{wrapped.AES256, UsageEncrypt}]
	object, err := w.mod.generate(session, kind.generate, kind.makeTemplate())
	if err != nil {
		return err
	}
	k := wrapped.Key{ID: "canary", Version: 1, Spec: wrapped.AES256, Usage: UsageEncrypt, Wrap: w.profile.Wrap, Root: root.version}
	if k.Blob, err = w.mod.wrap(session, wrapRFC3394, root.key, object); err != nil {
		return err
	}
	if err := w.mod.destroy(session, object); err != nil {
		return err
	}
	if k.MAC, err = w.mod.hmac(session, root.mac, k.Authenticated()); err != nil {
		return err
	}
	if object, _, err = w.unwrapKey(session, root, k); err != nil {
		return err
	}
	iv, box, err := w.mod.seal(session, object, nil, canaryText(root.version))
	if err != nil {
		return err
	}
	out.Canary, out.CanaryIV, out.CanaryBox = k, iv, box
	return nil
}

// copies wraps both keys to each transport key, our own included.
func (w *worker) copies(session uint, root *rootKeys, own pair, to []Recipient) ([]RootCopy, error) {
	if !containsKey(to, own.key.PublicDER) {
		to = append(to, Recipient{PublicDER: own.key.PublicDER})
	}
	out := make([]RootCopy, 0, len(to))
	for _, r := range to {
		name := r.Wrap
		if name == "" {
			name = wrapped.RSAOAEPSHA1
		}
		how, known := oaepBy(name)
		if !known {
			return nil, fail(statusInvalid, nil, "the transport key of node %q asks for the unknown wrap %q", r.NodeID, name)
		}
		public, err := w.importPublic(session, r)
		if err != nil {
			return nil, err
		}
		c := RootCopy{NodeID: r.NodeID, Fingerprint: sumOf(r.PublicDER), Wrap: name}
		if c.RootKey, err = w.mod.wrap(session, how, public, root.key); err != nil {
			return nil, err
		}
		if c.MACKey, err = w.mod.wrap(session, how, public, root.mac); err != nil {
			return nil, err
		}
		out = append(out, c)
	}
	return out, nil
}

func containsKey(to []Recipient, der []byte) bool {
	for _, r := range to {
		if bytes.Equal(r.PublicDER, der) {
			return true
		}
	}
	return false
}

// importPublic takes a recipient's public key into the HSM as a session
// object. A key that is no RSA key of 3072 bits or more is refused.
func (w *worker) importPublic(session uint, r Recipient) (uint, error) {
	public, err := receiverKey(r)
	if err != nil {
		return 0, err
	}
	t := template{}.number(ckaClass, ckoPublicKey).number(ckaKeyType, ckkRSA).
		flag(ckaToken, false).flag(ckaPrivate, false).flag(ckaWrap, true).
		raw(ckaModulus, public.N.Bytes()).raw(ckaPublicExponent, big.NewInt(int64(public.E)).Bytes())
	return w.mod.create(session, t)
}

// syncTree makes what the module wrote below dir survive a power cut: SoftHSM
// itself never syncs. An empty dir means an HSM that needs no such help.
func syncTree(dir string) error {
	if dir == "" {
		return nil
	}
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if !entry.IsDir() && !entry.Type().IsRegular() {
			return nil
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		if err := f.Sync(); err != nil {
			_ = f.Close()
			return err
		}
		return f.Close()
	})
	if err != nil {
		return fail(statusSick, err, "the token directory %s cannot be synced", dir)
	}
	return nil
}
