package engine

import (
	"context"

	"github.com/strongroom/strongroom/api/wire"
	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/internal/fault"
	"github.com/strongroom/strongroom/internal/names"
	"github.com/strongroom/strongroom/internal/secret"
	"github.com/strongroom/strongroom/internal/wrapped"
	"github.com/strongroom/strongroom/kms"
)

// keyUseOperations use a key and change no state but the count of its seals.
func keyUseOperations() []*Operation {
	return []*Operation{
		operation(row[wire.EncryptRequest, wire.EncryptResponse]{
			service: "kms", name: "encrypt", event: "kms.encrypt",
			summary: "Seal up to 4 KiB under a key, inside the HSM.",
			scope:   func(c *call, r *wire.EncryptRequest) (scope, error) { return c.findKey("keyId", r.KeyID) },
			run:     encrypt,
		}),
		operation(row[wire.DecryptRequest, wire.DecryptResponse]{
			service: "kms", name: "decrypt", event: "kms.decrypt",
			summary: "Open what encrypt or generateDataKey made, or an RSA-OAEP ciphertext that was made with the public key.",
			scope:   decryptScope,
			run:     decrypt,
		}),
		operation(row[wire.ReEncryptRequest, wire.EncryptResponse]{
			service: "kms", name: "reEncrypt", event: "kms.re_encrypt",
			summary: "Move a ciphertext to another key or context without showing what is in it.",
			scope: func(c *call, r *wire.ReEncryptRequest) (scope, error) {
				return c.ciphertextScope(r.Ciphertext, r.Context, "")
			},
			run: reEncrypt, further: true,
		}),
		operation(row[wire.GenerateDataKeyRequest, wire.GenerateDataKeyResponse]{
			service: "kms", name: "generateDataKey", event: "kms.generate_data_key",
			summary: "Draw random bytes and answer them twice: in the clear, and sealed under a key.",
			scope:   func(c *call, r *wire.GenerateDataKeyRequest) (scope, error) { return c.findKey("keyId", r.KeyID) },
			run:     generateDataKey,
		}),
		operation(row[wire.GenerateDataKeyRequest, wire.SealedDataKeyResponse]{
			service: "kms", name: "generateDataKeyWithoutPlaintext", event: "kms.generate_data_key_without_plaintext",
			summary: "Draw random bytes and answer them sealed under a key only.",
			scope:   func(c *call, r *wire.GenerateDataKeyRequest) (scope, error) { return c.findKey("keyId", r.KeyID) },
			run: func(ctx context.Context, c *call, r *wire.GenerateDataKeyRequest) (*wire.SealedDataKeyResponse, error) {
				made, err := generateDataKey(ctx, c, r)
				if err != nil {
					return nil, err
				}
				made.Plaintext.Wipe()
				return &wire.SealedDataKeyResponse{Ciphertext: made.Ciphertext, KeyID: made.KeyID, KeyVersion: made.KeyVersion}, nil
			},
		}),
		operation(row[wire.SignRequest, wire.SignResponse]{
			service: "kms", name: "sign", event: "kms.sign",
			summary: "Sign a message, or its digest, inside the HSM.",
			scope:   func(c *call, r *wire.SignRequest) (scope, error) { return c.findKey("keyId", r.KeyID) },
			run:     sign,
		}),
		operation(row[wire.VerifyRequest, wire.VerifyResponse]{
			service: "kms", name: "verify", event: "kms.verify",
			summary: "Tell whether a signature is of a message under a key.",
			scope:   func(c *call, r *wire.VerifyRequest) (scope, error) { return c.findKey("keyId", r.KeyID) },
			run:     verify,
		}),
		operation(row[wire.GetPublicKeyRequest, wire.GetPublicKeyResponse]{
			service: "kms", name: "getPublicKey", event: "kms.get_public_key",
			summary: "Show the public half of a key.",
			scope:   func(c *call, r *wire.GetPublicKeyRequest) (scope, error) { return c.findKey("keyId", r.KeyID) },
			run:     getPublicKey,
		}),
		operation(row[wire.GenerateMACRequest, wire.GenerateMACResponse]{
			service: "kms", name: "generateMac", event: "kms.generate_mac",
			summary: "Make an HMAC-SHA-256 of a message inside the HSM.",
			scope:   func(c *call, r *wire.GenerateMACRequest) (scope, error) { return c.findKey("keyId", r.KeyID) },
			run:     generateMAC,
		}),
		operation(row[wire.VerifyMACRequest, wire.VerifyResponse]{
			service: "kms", name: "verifyMac", event: "kms.verify_mac",
			summary: "Tell whether an HMAC-SHA-256 is of a message under a key.",
			scope:   func(c *call, r *wire.VerifyMACRequest) (scope, error) { return c.findKey("keyId", r.KeyID) },
			run:     verifyMAC,
		}),
		operation(row[wire.GenerateRandomRequest, wire.GenerateRandomResponse]{
			service: "kms", name: "generateRandom", event: "kms.generate_random",
			summary: "Draw random bytes: the HSM's, mixed with the node's.",
			scope:   func(*call, *wire.GenerateRandomRequest) (scope, error) { return scope{keyRef: "*"}, nil },
			run:     generateRandom,
		}),
	}
}

// usable answers the key that a request names, for action. An attempt on a
// key that waits for its deletion is told apart: somebody still needs it.
func (c *call) usable(field, ref string, action fsm.KeyAction) (*fsm.Key, error) {
	key := c.state.KeyByRef(ref)
	if key == nil {
		return nil, fault.New(fault.NotFound, "%s: there is no key %s; listKeys shows the keys", field, ref)
	}
	if key.Purpose != "" && action != fsm.KeyOpen {
		// Whoever could have it sign could sign a history of his own.
		return nil, fault.New(fault.Conflict, "%s: the key is the cluster's own, for %s, and serves nobody else; createKey makes one", field, key.Purpose)
	}
	c.noteUse(key, action)
	return key, nil
}

func (c *call) checkPlaintext(plaintext *wire.Value) error {
	switch {
	case plaintext == nil:
		return fault.Invalid("plaintext", "is missing")
	case plaintext.Len() == 0:
		return fault.Invalid("plaintext", "must not be empty")
	case plaintext.Len() > kms.MaxPlaintext:
		return fault.New(fault.TooLarge, "plaintext: has %d bytes; at most %d are allowed, encrypt more under a data key", plaintext.Len(), kms.MaxPlaintext)
	}
	return nil
}

func encrypt(ctx context.Context, c *call, r *wire.EncryptRequest) (*wire.EncryptResponse, error) {
	if err := c.checkPlaintext(r.Plaintext); err != nil {
		return nil, err
	}
	if err := kms.CheckContext(r.Context); err != nil {
		return nil, err
	}
	key, err := c.usable("keyId", r.KeyID, fsm.KeyProtect)
	if err != nil {
		return nil, err
	}
	if err := c.bookSeal(ctx, key); err != nil {
		return nil, err
	}
	blob, version, err := c.engine.KMS.Encrypt(ctx, key, r.Plaintext.Bytes, r.Context)
	if err != nil {
		return nil, err
	}
	c.event.Version = uint64(version)
	return &wire.EncryptResponse{Ciphertext: blob, KeyID: key.ID, KeyVersion: version}, nil
}

// decryptScope reads the key from the ciphertext: authorisation is for that
// key, before anything is opened. A ciphertext that was made outside names
// none; there the request must.
func decryptScope(c *call, r *wire.DecryptRequest) (scope, error) {
	if r.Algorithm == "" {
		if r.KeyVersion != 0 {
			return scope{}, fault.Invalid("keyVersion", "goes with algorithm; a ciphertext of encrypt names its version itself")
		}
		return c.ciphertextScope(r.Ciphertext, r.Context, r.KeyID)
	}
	if r.Algorithm != wrapped.RSAOAEPSHA1 && r.Algorithm != wrapped.RSAOAEPSHA256 {
		return scope{}, fault.Invalid("algorithm", "must be %s or %s; leave it out for a ciphertext of encrypt", wrapped.RSAOAEPSHA1, wrapped.RSAOAEPSHA256)
	}
	if len(r.Ciphertext) == 0 {
		return scope{}, fault.Invalid("ciphertext", "is missing")
	}
	if len(r.Context) != 0 {
		return scope{}, fault.Invalid("context", "goes without algorithm; RSA-OAEP made outside binds none")
	}
	return c.findKey("keyId", r.KeyID)
}

// ciphertextScope reads the key from a ciphertext of ours.
func (c *call) ciphertextScope(ciphertext []byte, context map[string]string, keyRef string) (scope, error) {
	if len(ciphertext) == 0 {
		return scope{}, fault.Invalid("ciphertext", "is missing")
	}
	if err := kms.CheckContext(context); err != nil {
		return scope{}, err
	}
	header, err := c.engine.KMS.ParseHeader(ciphertext)
	if err != nil {
		return scope{}, err
	}
	if keyRef != "" {
		// Only the grammar here: whether an alias is of this key is told to
		// who may use the key, and the header's key id is anybody's to write.
		if _, err := names.ParseKeyRef(keyRef); err != nil {
			return scope{}, fault.Invalid("keyId", "%v", err)
		}
	}
	return c.findKey("ciphertext", header.KeyID)
}

func decrypt(ctx context.Context, c *call, r *wire.DecryptRequest) (*wire.DecryptResponse, error) {
	var key *fsm.Key
	var plain secret.Bytes
	var version uint32
	var err error
	if r.Algorithm != "" {
		if key, err = c.usable("keyId", r.KeyID, fsm.KeyOpen); err != nil {
			return nil, err
		}
		plain, version, err = c.engine.KMS.DecryptRaw(ctx, key, r.KeyVersion, r.Algorithm, r.Ciphertext)
	} else {
		if key, err = c.ciphertextKey(r.Ciphertext, r.KeyID); err != nil {
			return nil, err
		}
		plain, version, err = c.engine.KMS.Decrypt(ctx, key, r.Ciphertext, r.Context)
	}
	if err != nil {
		return nil, err
	}
	c.event.Version = uint64(version)
	return &wire.DecryptResponse{Plaintext: &wire.Value{Bytes: c.reveal(plain)}, KeyID: key.ID, KeyVersion: version}, nil
}

// ciphertextKey answers the key of a ciphertext that the scope has read, which
// must be the one that is asked for, if one is. One of a key that is not
// there answers as one that does not open.
func (c *call) ciphertextKey(ciphertext []byte, asked string) (*fsm.Key, error) {
	header, err := c.engine.KMS.ParseHeader(ciphertext)
	if err != nil {
		return nil, err
	}
	if asked != "" {
		if want := c.state.KeyByRef(asked); want == nil || want.ID != header.KeyID {
			return nil, fault.Invalid("keyId", "is not the key that the ciphertext is of")
		}
	}
	key := c.state.Key(header.KeyID)
	if key == nil {
		return nil, kms.ErrOpen()
	}
	c.noteUse(key, fsm.KeyOpen)
	return key, nil
}

func reEncrypt(ctx context.Context, c *call, r *wire.ReEncryptRequest) (*wire.EncryptResponse, error) {
	if err := kms.CheckContext(r.ToContext); err != nil {
		return nil, err
	}
	target, err := c.findKey("toKeyId", r.ToKeyID)
	if err != nil {
		return nil, err
	}
	// The right to take something out of one key is not the right to put it
	// under another.
	if err := c.require("kms:reEncrypt", resource(target)); err != nil {
		return nil, err
	}
	if err := c.authorised(); err != nil {
		return nil, err
	}
	from, err := c.ciphertextKey(r.Ciphertext, "")
	if err != nil {
		return nil, err
	}
	to, err := c.usable("toKeyId", r.ToKeyID, fsm.KeyProtect)
	if err != nil {
		return nil, err
	}
	if err := c.bookSeal(ctx, to); err != nil {
		return nil, err
	}
	blob, version, err := c.engine.KMS.ReEncrypt(ctx, from, to, r.Ciphertext, r.Context, r.ToContext)
	if err != nil {
		return nil, err
	}
	return &wire.EncryptResponse{Ciphertext: blob, KeyID: to.ID, KeyVersion: version}, nil
}

func generateDataKey(ctx context.Context, c *call, r *wire.GenerateDataKeyRequest) (*wire.GenerateDataKeyResponse, error) {
	n, err := count("bytes", r.Bytes, 32, kms.MaxDataKey)
	if err != nil {
		return nil, err
	}
	if err := kms.CheckContext(r.Context); err != nil {
		return nil, err
	}
	key, err := c.usable("keyId", r.KeyID, fsm.KeyProtect)
	if err != nil {
		return nil, err
	}
	if err := c.bookSeal(ctx, key); err != nil {
		return nil, err
	}
	plain, blob, version, err := c.engine.KMS.GenerateDataKey(ctx, key, n, r.Context)
	if err != nil {
		return nil, err
	}
	c.event.Version = uint64(version)
	return &wire.GenerateDataKeyResponse{
		Plaintext: &wire.Value{Bytes: c.reveal(plain)}, Ciphertext: blob, KeyID: key.ID, KeyVersion: version,
	}, nil
}

// count reads an optional number of bytes.
func count(field string, given *int, otherwise, most int) (int, error) {
	if given == nil {
		return otherwise, nil
	}
	if *given < 1 || *given > most {
		return 0, fault.Invalid(field, "must be 1 to %d", most)
	}
	return *given, nil
}

func generateRandom(ctx context.Context, c *call, r *wire.GenerateRandomRequest) (*wire.GenerateRandomResponse, error) {
	n, err := count("bytes", r.Bytes, 32, kms.MaxRandom)
	if err != nil {
		return nil, err
	}
	out, err := c.engine.KMS.Draw(ctx, n)
	if err != nil {
		return nil, err
	}
	return &wire.GenerateRandomResponse{Random: &wire.Value{Bytes: c.reveal(out)}}, nil
}
