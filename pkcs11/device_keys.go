package pkcs11

import (
	"context"
	"slices"

	"github.com/strongroom/strongroom/internal/fault"
	"github.com/strongroom/strongroom/internal/secret"
	"github.com/strongroom/strongroom/internal/wrapped"
)

// maxImport is an RSA-4096 key in PKCS#8, wrapped, behind an RSA-3072 block,
// with room for encoders that add attributes.
const maxImport = 8 << 10

// GenerateKey makes version of KMS key id inside the HSM and answers it
// wrapped under the root key, with the public half of a pair. The key exists
// in the HSM during the call only. A spec and usage that are not of
// wrapped.Allowed, or that this HSM does not serve, are InvalidRequest.
//
// Pairs are made one at a time, beside the calls that serve: RSA takes
// software seconds. A caller who leaves does not hurry that.
func (d *Device) GenerateKey(ctx context.Context, id string, version uint32, spec, usage string) (wrapped.Key, error) {
	if !wrapped.Allowed(spec, usage) {
		return wrapped.Key{}, fault.Invalid("spec", "there are no keys of spec %.64q for %.64q", spec, usage)
	}
	return d.generate(ctx, makeRequest{id: id, version: version, spec: spec, usage: usage})
}

// CreateImportKey makes an RSA-3072 pair that receives key material once. Its
// private half leaves the HSM only wrapped under the root key, so that any
// node can finish the import. To use it once is the caller's to see to.
func (d *Device) CreateImportKey(ctx context.Context, id string) (wrapped.Key, error) {
	return d.generate(ctx, makeRequest{id: id, version: 1, spec: wrapped.RSA3072, usage: wrapped.Import})
}

func (d *Device) generate(ctx context.Context, m makeRequest) (wrapped.Key, error) {
	if len(m.id) > 256 {
		return wrapped.Key{}, fault.Invalid("id", "must have at most 256 bytes")
	}
	e := newEncoder(len(m.id) + len(m.spec) + len(m.usage))
	m.put(e)
	if wrapped.IsPair(m.spec) {
		return apart(ctx, d, opGeneratePair, e.b, getKey)
	}
	var k wrapped.Key
	err := d.request(ctx, opGenerateKey, e.b, func(in *decoder) { k = getKey(in) })
	return k, err
}

// apart is a request that the worker serves beside its sessions, one at a
// time: many that wait in the worker would pass their deadlines there, and
// cost it its life. One whose caller has left keeps its place to the end.
func apart[T any](ctx context.Context, d *Device, o op, payload []byte, get func(*decoder) T) (T, error) {
	var none T
	select {
	case d.making <- struct{}{}:
	case <-ctx.Done():
		return none, unavailable(ctx.Err())
	}
	type outcome struct {
		answer T
		err    error
	}
	done := make(chan outcome, 1)
	go func() { // Close waits for it: it holds d.making
		defer func() { <-d.making }()
		var out outcome
		out.err = d.request(context.WithoutCancel(ctx), o, payload, func(in *decoder) { out.answer = get(in) })
		done <- out
	}()
	select {
	case out := <-done:
		return out.answer, out.err
	case <-ctx.Done():
		return none, unavailable(ctx.Err())
	}
}

// CheckKey answers nil when k is one of ours, whole, and InvalidRequest when
// anything of it was changed. Whoever hands out k.Public asks first: a store
// that was written to could have another's there, and clients would encrypt
// to it.
func (d *Device) CheckKey(ctx context.Context, k wrapped.Key) error {
	if keyRoom(k) > maxKeyRoom {
		return errCannotUse().fault()
	}
	e := newEncoder(keyRoom(k))
	putKey(e, k)
	return d.request(ctx, opCheckKey, e.b, func(*decoder) {})
}

// Sign signs digest, the hash that algorithm names, by a pair for
// wrapped.Sign. The answer is PKCS #1 v1.5 or PSS with a salt as long as the
// hash (RFC 8017), or an ECDSA signature in DER (SEC 1, C.8), minimal.
// An algorithm that does not fit the key's spec, a digest of another length
// and a k that is not one of ours, whole, are InvalidRequest.
func (d *Device) Sign(ctx context.Context, k wrapped.Key, algorithm string, digest []byte) ([]byte, error) {
	if len(digest) > 64 || len(algorithm) > 64 {
		return nil, fault.Invalid("digest", "is not one that %.64q signs", algorithm)
	}
	return d.use(ctx, opSign, keyRequest{key: k, algorithm: algorithm, input: digest})
}

// KeyMAC answers HMAC-SHA-256 of message, at most MaxMessage bytes, under a
// key for wrapped.MAC: the bytes that everybody else computes with that key.
func (d *Device) KeyMAC(ctx context.Context, k wrapped.Key, message []byte) ([]byte, error) {
	if len(message) > MaxMessage {
		return nil, fault.New(fault.TooLarge, "a message may have %d bytes", MaxMessage)
	}
	return d.use(ctx, opKeyMAC, keyRequest{key: k, input: message})
}

// use is a request whose answer is public.
func (d *Device) use(ctx context.Context, o op, m keyRequest) ([]byte, error) {
	if keyRoom(m.key) > maxKeyRoom {
		return nil, errCannotUse().fault()
	}
	e := newEncoder(m.room())
	m.put(e)
	var out []byte
	err := d.request(ctx, o, e.b, func(in *decoder) { out = append([]byte(nil), in.bytes()...) })
	return out, err
}

// DecryptRSA opens what was encrypted to the public half of a pair for
// wrapped.Encrypt, by OAEP without label. An algorithm that this HSM does not
// do (Health().Profile.OAEP has those it does) and a key for another use are
// InvalidRequest that says so; all else that does not open is InvalidRequest
// with one text. The caller wipes the result.
func (d *Device) DecryptRSA(ctx context.Context, k wrapped.Key, algorithm string, ciphertext []byte) (secret.Bytes, error) {
	if len(ciphertext) > 1024 || len(algorithm) > 64 || keyRoom(k) > maxKeyRoom {
		return secret.Bytes{}, errCannotOpen().fault()
	}
	m := keyRequest{key: k, algorithm: algorithm, input: ciphertext}
	e := newEncoder(m.room())
	m.put(e)
	var out secret.Bytes
	err := d.request(ctx, opDecryptRSA, e.b, func(in *decoder) { out = secret.Copy(in.bytes()) })
	if err != nil {
		out.Wipe()
		return secret.Bytes{}, err
	}
	return out, nil
}

// ImportKey takes in key material that was made elsewhere and answers it as
// GenerateKey answers a key. blob is laid out as CKM_RSA_AES_KEY_WRAP has it
// (PKCS#11 v2.40, 2.1.21):
//
//	OAEP by algorithm, to importKey's public half, of an AES-256 key: 384 bytes
//	RFC 5649 wrap, under that AES key, of 32 bytes, or of a PKCS#8 private key
//
// into has ID, Version, Spec and Usage of the key, and Public: required for an
// EC key, optional for an RSA key, none for others. The HSM proves that the
// private half belongs to it. Whatever is wrong with blob is InvalidRequest
// with one text.
//
// The blob is taken apart by the module, and it is a stranger's: should it
// kill a worker, it shall not have a second. So this is not repeated by
// itself; after HsmUnavailable the caller may, as nothing was changed.
func (d *Device) ImportKey(ctx context.Context, importKey wrapped.Key, algorithm string, blob []byte, into wrapped.Key) (wrapped.Key, error) {
	if !wrapped.Allowed(into.Spec, into.Usage) {
		return wrapped.Key{}, fault.Invalid("spec", "there are no keys of spec %.64q for %.64q", into.Spec, into.Usage)
	}
	if len(into.ID) > 256 || len(into.Public) > 1024 || len(algorithm) > 64 {
		return wrapped.Key{}, fault.Invalid("key", "id, public key or algorithm is too long")
	}
	if keyRoom(importKey) > maxKeyRoom {
		return wrapped.Key{}, errCannotUse().fault()
	}
	if len(blob) > maxImport {
		return wrapped.Key{}, errCannotImport().fault()
	}
	m := importRequest{with: importKey, algorithm: algorithm, blob: blob, into: wrapped.Key{ID: into.ID, Version: into.Version,
		Spec: into.Spec, Usage: into.Usage, Public: into.Public}}
	e := newEncoder(keyRoom(m.with) + keyRoom(m.into) + len(blob) + len(algorithm))
	m.put(e)
	return apart(ctx, d, opImportKey, e.b, getKey)
}

// OAEP answers the RSA-OAEP algorithms that this HSM was seen to do, best
// first; none where it does no RSA.
func (d *Device) OAEP(ctx context.Context) ([]string, error) {
	if _, err := d.worker(ctx); err != nil {
		return nil, err
	}
	return slices.Clone(d.snapshot().profile.OAEP), nil
}

// finishMaking waits for the request that is made apart, if there is one.
func (d *Device) finishMaking() {
	d.making <- struct{}{}
	<-d.making
}
