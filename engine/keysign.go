package engine

import (
	"context"

	"github.com/strongroom/strongroom/api/wire"
	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/internal/fault"
	"github.com/strongroom/strongroom/internal/wrapped"
	"github.com/strongroom/strongroom/kms"
)

// digest answers what a signature is over. Both inputs keep their owner.
func digest(algorithm string, message *wire.Value, digest []byte) ([]byte, error) {
	var text []byte
	if message != nil {
		if text = message.Expose(); text == nil {
			text = []byte{}
		}
	}
	return kms.DigestOf(algorithm, text, digest)
}

// algorithmFor answers the algorithm asked for, or the first of the key's.
func algorithmFor(key *fsm.Key, asked string) string {
	if can := wrapped.SignAlgorithms(key.Spec); asked == "" && len(can) > 0 {
		return can[0]
	}
	return asked
}

// forSigning refuses a key without algorithms in words about the key, not
// about an algorithm that nobody has given.
func forSigning(key *fsm.Key) error {
	if key.Usage != kms.UsageSign {
		return fault.Invalid("keyId", "the key is for %s, not for %s", key.Usage, kms.UsageSign)
	}
	return nil
}

func sign(ctx context.Context, c *call, r *wire.SignRequest) (*wire.SignResponse, error) {
	key, err := c.usable("keyId", r.KeyID, fsm.KeyProtect)
	if err != nil {
		return nil, err
	}
	if err := kms.CheckProtect(key); err != nil {
		return nil, err
	}
	if err := forSigning(key); err != nil {
		return nil, err
	}
	algorithm := algorithmFor(key, r.Algorithm)
	sum, err := digest(algorithm, r.Message, r.Digest)
	if err != nil {
		return nil, err
	}
	signature, version, err := c.engine.KMS.Sign(ctx, key, algorithm, sum)
	if err != nil {
		return nil, err
	}
	c.event.Version = uint64(version)
	return &wire.SignResponse{Signature: signature, Algorithm: algorithm, KeyID: key.ID, KeyVersion: version}, nil
}

func verify(ctx context.Context, c *call, r *wire.VerifyRequest) (*wire.VerifyResponse, error) {
	key, err := c.usable("keyId", r.KeyID, fsm.KeyOpen)
	if err != nil {
		return nil, err
	}
	if err := kms.CheckOpen(key); err != nil {
		return nil, err
	}
	if err := forSigning(key); err != nil {
		return nil, err
	}
	if len(r.Signature) == 0 {
		return nil, fault.Invalid("signature", "is missing")
	}
	algorithm := algorithmFor(key, r.Algorithm)
	sum, err := digest(algorithm, r.Message, r.Digest)
	if err != nil {
		return nil, err
	}
	valid, version, err := c.engine.KMS.Verify(ctx, key, r.KeyVersion, algorithm, sum, r.Signature)
	return c.verified(key, valid, version, err)
}

func (c *call) verified(key *fsm.Key, valid bool, version uint32, err error) (*wire.VerifyResponse, error) {
	if err != nil {
		return nil, err
	}
	out := &wire.VerifyResponse{Valid: valid, KeyID: key.ID}
	if valid {
		out.KeyVersion = version
		c.event.Version = uint64(version)
	}
	return out, nil
}

func getPublicKey(ctx context.Context, c *call, r *wire.GetPublicKeyRequest) (*wire.GetPublicKeyResponse, error) {
	key, err := c.usable("keyId", r.KeyID, fsm.KeyOpen)
	if err != nil {
		return nil, err
	}
	text, version, err := c.engine.KMS.PublicKey(ctx, key, r.KeyVersion)
	if err != nil {
		return nil, err
	}
	c.event.Version = uint64(version)
	return &wire.GetPublicKeyResponse{
		PublicKey: text, Spec: key.Spec, Usage: key.Usage, Algorithms: c.engine.algorithms(ctx, key), KeyID: key.ID, KeyVersion: version,
	}, nil
}

// algorithms lists what a key can do, where it can do more than one thing.
func (e *Engine) algorithms(ctx context.Context, key *fsm.Key) []string {
	if key.Usage == kms.UsageSign {
		return wrapped.SignAlgorithms(key.Spec)
	}
	if key.Usage == kms.UsageEncrypt && key.Spec != wrapped.AES256 {
		can, err := e.KMS.OAEP(ctx)
		if err == nil {
			return can
		}
	}
	return nil
}

func checkMessage(message *wire.Value) error {
	switch {
	case message == nil:
		return fault.Invalid("message", "is missing")
	case message.Len() > kms.MaxMessage:
		return fault.New(fault.TooLarge, "message: has %d bytes; at most %d are allowed, of something longer send a digest as the message", message.Len(), kms.MaxMessage)
	}
	return nil
}

func generateMAC(ctx context.Context, c *call, r *wire.GenerateMACRequest) (*wire.GenerateMACResponse, error) {
	if err := checkMessage(r.Message); err != nil {
		return nil, err
	}
	key, err := c.usable("keyId", r.KeyID, fsm.KeyProtect)
	if err != nil {
		return nil, err
	}
	mac, version, err := c.engine.KMS.GenerateMAC(ctx, key, r.Message.Expose())
	if err != nil {
		return nil, err
	}
	c.event.Version = uint64(version)
	return &wire.GenerateMACResponse{MAC: mac, KeyID: key.ID, KeyVersion: version}, nil
}

func verifyMAC(ctx context.Context, c *call, r *wire.VerifyMACRequest) (*wire.VerifyResponse, error) {
	if err := checkMessage(r.Message); err != nil {
		return nil, err
	}
	if len(r.MAC) == 0 {
		return nil, fault.Invalid("mac", "is missing")
	}
	key, err := c.usable("keyId", r.KeyID, fsm.KeyOpen)
	if err != nil {
		return nil, err
	}
	valid, version, err := c.engine.KMS.VerifyMAC(ctx, key, r.KeyVersion, r.Message.Expose(), r.MAC)
	return c.verified(key, valid, version, err)
}
