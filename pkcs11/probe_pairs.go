package pkcs11

import (
	"bytes"
	"crypto"
	"crypto/rsa"
	"errors"
	"fmt"
	"math/big"

	"github.com/strongroom/strongroom/internal/wrapped"
)

// A module may lack all that is here and still serve secret keys. What it
// lacks is kept in the profile, in words, and refused key by key.

// optional runs a step on a session of its own. A failure that speaks of the
// device, rather than of what it can do, ends the start as any other would:
// it must not be remembered as a lack for as long as the worker lives.
func (p *prober) optional(capability string, step func(session uint) error) (bool, error) {
	err := p.w.ceremony(step)
	if err == nil {
		return true, nil
	}
	if ofDevice(err) {
		return false, err
	}
	p.profile.Lacks = append(p.profile.Lacks, fmt.Sprintf("%s (%v)", capability, err))
	return false, nil
}

// pairs finds out what the module does with key pairs.
func (p *prober) pairs() error {
	able, err := p.optional("AES key wrap with padding (RFC 5649), which private keys need", p.padWrap)
	if err != nil || !able {
		return err
	}
	for _, spec := range []string{wrapped.ECP256, wrapped.ECP384} {
		able, err := p.optional("key pairs of "+spec, func(session uint) error { return p.ec(session, spec) })
		if err != nil {
			return err
		}
		if able {
			p.profile.Specs = append(p.profile.Specs, spec)
			p.profile.Sign = append(p.profile.Sign, wrapped.SignAlgorithms(spec)...)
		}
	}
	able, err = p.optional("RSA key pairs", p.rsa)
	if able {
		p.profile.Specs = append(p.profile.Specs, wrapped.RSA2048, wrapped.RSA3072, wrapped.RSA4096)
	}
	return err
}

// probeRoot makes a key like the root key, but for this session.
func (p *prober) probeRoot(session uint) (uint, error) {
	return p.w.mod.generate(session, ckmAESKeyGen, rootTemplate(false).number(ckaValueLen, 32).with(stay()))
}

// padWrap finds the mechanism that is RFC 5649. The number does not tell:
// 0x210A is that on SoftHSM and nShield, and PKCS #7 padding with RFC 3394 on
// NSS. The length does: 32 bytes make 40 under RFC 5649 and 48 under the
// other; and where they make the very bytes of RFC 3394 there is no padding.
func (p *prober) padWrap(session uint) error {
	m := p.w.mod
	kek, err := p.probeRoot(session)
	if err != nil {
		return err
	}
	kind := specs[specUsage{wrapped.AES256, wrapped.Encrypt}]
	key, err := m.generate(session, kind.generate, kind.makeTemplate())
	if err != nil {
		return err
	}
	unpadded, err := m.wrap(session, wrapRFC3394, kek, key)
	if err != nil {
		return err
	}
	last := errors.New("what it calls so is another padding")
	for _, mechanism := range p.padWraps() {
		how := wrapping{mechanism: mechanism}
		blob, err := m.wrap(session, how, kek, key)
		if err != nil {
			last = err
			continue
		}
		if len(blob) != kind.bytes+8 || bytes.Equal(blob, unpadded) {
			continue
		}
		if _, err := m.unwrap(session, how, kek, blob, kind.useTemplate(p.profile.ValueLen)); err != nil {
			last = err
			continue
		}
		p.profile.PadWrap = mechanism
		return nil
	}
	return last
}

// ec does with a pair all that we do with one. Making it costs next to
// nothing.
func (p *prober) ec(session uint, spec string) error {
	m, kind := p.w.mod, specs[specUsage{spec, wrapped.Sign}]
	public, private, err := m.generatePair(session, kind.generate, kind.publicTemplate(), kind.makeTemplate())
	if err != nil {
		return err
	}
	der, err := m.readPublic(session, public, kind)
	if err != nil {
		return err
	}
	parsed, err := kind.parsePublic(der)
	if err != nil {
		return err
	}
	reload, err := p.takeOutAndIn(session, private, kind)
	if err != nil {
		return err
	}
	object, err := reload(kind)
	if err != nil {
		return err
	}
	return m.proveSigning(session, object, parsed, signings[wrapped.SignAlgorithms(spec)[0]], kind)
}

// takeOutAndIn wraps a private key under a key like the root key, checks that
// nobody can unwrap it readably there, and answers how to unwrap it for a use.
func (p *prober) takeOutAndIn(session, private uint, kind keyKind) (func(keyKind) (uint, error), error) {
	m, how := p.w.mod, p.profile.wrapping(kind)
	kek, err := p.probeRoot(session)
	if err != nil {
		return nil, err
	}
	blob, err := m.wrap(session, how, kek, private)
	if err != nil {
		return nil, err
	}
	readable := privateKey(kind.keyType).flag(ckaSensitive, false).flag(ckaExtractable, true)
	if _, err := m.unwrap(session, how, kek, blob, readable); err == nil {
		return nil, errors.New("it unwraps private keys to a readable form that CKA_UNWRAP_TEMPLATE forbids")
	}
	return func(use keyKind) (uint, error) {
		object, err := m.unwrap(session, how, kek, blob, use.useTemplate(false))
		if err != nil {
			return 0, err
		}
		return object, m.staysIn(session, object)
	}, nil
}

// rsa does with one pair all that we do with RSA, but for making it: that
// takes SoftHSM from a tenth of a second to more than one, and a lost worker
// shall be replaced in two. Each pair is proven when it is made.
func (p *prober) rsa(session uint) error {
	private, public, err := p.probePair(session)
	if err != nil {
		return err
	}
	reload, err := p.takeOutAndIn(session, private, rsaKind(2048, ckaSign))
	if err != nil {
		return err
	}
	if err := p.rsaSigning(reload, public); err != nil {
		return err
	}
	if err := p.rsaOpening(reload, public); err != nil {
		return err
	}
	if len(p.profile.OAEP) == 0 && !p.profile.signs(wrapped.RSA2048) {
		return errors.New("it neither signs nor opens")
	}
	return nil
}

func (p *prober) rsaSigning(reload func(keyKind) (uint, error), public crypto.PublicKey) error {
	kind := rsaKind(2048, ckaSign)
	object, err := reload(kind)
	if err != nil {
		return err
	}
	for _, algorithm := range wrapped.SignAlgorithms(wrapped.RSA2048) {
		able, err := p.optional("signing by "+algorithm, func(session uint) error {
			return p.w.mod.proveSigning(session, object, public, signings[algorithm], kind)
		})
		if err != nil {
			return err
		}
		if able {
			p.profile.Sign = append(p.profile.Sign, algorithm)
		}
	}
	return nil
}

// rsaOpening: an algorithm is one that both decrypts and unwraps.
func (p *prober) rsaOpening(reload func(keyKind) (uint, error), public crypto.PublicKey) error {
	decrypting, err := reload(rsaKind(2048, ckaDecrypt))
	if err != nil {
		return err
	}
	importing, err := reload(rsaKind(2048, ckaUnwrap))
	if err != nil {
		return err
	}
	for _, o := range oaeps {
		able, err := p.optional("encryption by "+o.name, func(session uint) error {
			if err := p.w.mod.proveOpening(session, decrypting, public, wrapped.Encrypt, o, p.profile.ValueLen); err != nil {
				return err
			}
			return p.w.mod.proveOpening(session, importing, public, wrapped.Import, o, p.profile.ValueLen)
		})
		if err != nil {
			return err
		}
		if able {
			p.profile.OAEP = append(p.profile.OAEP, o.name)
		}
	}
	return nil
}

// probePair answers a pair to try things with: one that everybody knows,
// brought in, or where the module takes no private key from outside one that
// it makes. (Modules that refuse that are hardware, and quick at it.)
func (p *prober) probePair(session uint) (private uint, public crypto.PublicKey, err error) {
	m, kind := p.w.mod, rsaKind(2048, ckaSign)
	known, err := knownPair()
	if err != nil {
		return 0, nil, err
	}
	if private, err = m.create(session, privateRSA(known)); err == nil {
		return private, &known.PublicKey, nil
	}
	object, private, err := m.generatePair(session, kind.generate, kind.publicTemplate(), kind.makeTemplate())
	if err != nil {
		return 0, nil, err
	}
	der, err := m.readPublic(session, object, kind)
	if err != nil {
		return 0, nil, err
	}
	public, err = kind.parsePublic(der)
	return private, public, err
}

func privateRSA(k *rsa.PrivateKey) template {
	return privateKey(ckkRSA).with(leave()).
		raw(ckaModulus, k.N.Bytes()).raw(ckaPublicExponent, big.NewInt(publicExponent).Bytes()).
		raw(ckaPrivateExponent, k.D.Bytes()).raw(ckaPrime1, k.Primes[0].Bytes()).raw(ckaPrime2, k.Primes[1].Bytes()).
		raw(ckaExponent1, k.Precomputed.Dp.Bytes()).raw(ckaExponent2, k.Precomputed.Dq.Bytes()).
		raw(ckaCoefficient, k.Precomputed.Qinv.Bytes())
}

// The primes of the pair that everybody knows. It protects nothing: it lives
// in the HSM for the length of a probe.
const (
	knownPrime1 = "ee31799a9b3575f5d45fcbb940640438f82fa2022779078c5271eaafa6372c2f" +
		"309bd41e072c6d2f5c8ef673d52bde5da933e51c76214e64322699df5561fc18" +
		"811032e7310af96cf710f9e07c76c5fcee12ad93103a43ff27bb86eb5b826c3d" +
		"2db7da8618cd2377585671123e405bf8b4b2b99ee7152d244a80e3050be9b4e5"
	knownPrime2 = "e47095a9cd30b117cf1229e7cbd85621d2bff31afb623160331f1053f12dd70c" +
		"db1441587a6b0e9adaaad48199dc554a49caef05eeb68af5f0af8371b911a8bf" +
		"7b5f546ffd5dbf36b5ffc2fc3d06a40dddcd313bef1b5313f0abbd412219a754" +
		"8cab68ffcac4838d1782b3a8b6ee1689cd2abdb7d74a062dcea4d751e28c76e7"
)

func knownPair() (*rsa.PrivateKey, error) {
	p, fine := new(big.Int).SetString(knownPrime1, 16)
	q, good := new(big.Int).SetString(knownPrime2, 16)
	if !fine || !good {
		return nil, errors.New("the primes of the probe are none")
	}
	one := big.NewInt(1)
	phi := new(big.Int).Mul(new(big.Int).Sub(p, one), new(big.Int).Sub(q, one))
	k := &rsa.PrivateKey{PublicKey: rsa.PublicKey{N: new(big.Int).Mul(p, q), E: publicExponent},
		D: new(big.Int).ModInverse(big.NewInt(publicExponent), phi), Primes: []*big.Int{p, q}}
	k.Precompute()
	return k, k.Validate()
}
