package engine

import (
	"context"

	"github.com/strongroom/strongroom/api/wire"
	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/internal/fault"
	"github.com/strongroom/strongroom/kms"
)

func getImportParameters(ctx context.Context, c *call, r *wire.GetImportParametersRequest) (*wire.ImportParametersResponse, error) {
	key := c.state.KeyByRef(r.KeyID)
	if key == nil {
		return nil, errNoKey(r.KeyID)
	}
	meta, err := c.meta(ctx, r.ClientToken, r)
	if err != nil {
		return nil, err
	}
	can, err := c.engine.KMS.OAEP(ctx)
	if err != nil {
		return nil, err
	}
	out := &wire.ImportParametersResponse{KeyID: key.ID, Algorithms: can}
	if done, err := c.replayed(meta); err != nil {
		return nil, err
	} else if done != nil {
		if key.ImportKey == nil {
			return nil, fault.New(fault.Conflict, "clientToken: the import key that was made for it has been used; ask for another one without the token")
		}
		out.PublicKey = kms.PublicPEM(*key.ImportKey)
		return out, nil
	}
	one, err := c.engine.KMS.CreateImportKey(ctx, key)
	if err != nil {
		return nil, err
	}
	if _, err := c.commit(ctx, fsm.SetImportKey{Meta: meta, KeyID: key.ID, ImportKey: one}); err != nil {
		return nil, err
	}
	out.PublicKey = kms.PublicPEM(one)
	return out, nil
}

func importKeyMaterial(ctx context.Context, c *call, r *wire.ImportKeyMaterialRequest) (*wire.KeyResponse, error) {
	switch {
	case len(r.Material) == 0:
		return nil, fault.Invalid("material", "is missing")
	case len(r.Material) > kms.MaxImport:
		return nil, fault.New(fault.TooLarge, "material: has %d bytes; at most %d are allowed", len(r.Material), kms.MaxImport)
	}
	key := c.state.KeyByRef(r.KeyID)
	if key == nil {
		return nil, errNoKey(r.KeyID)
	}
	meta, err := c.meta(ctx, r.ClientToken, r)
	if err != nil {
		return nil, err
	}
	if done, err := c.replayed(meta); err != nil {
		return nil, err
	} else if done != nil {
		return c.keyAnswer(ctx, key.ID)
	}
	material, err := c.engine.KMS.ImportKey(ctx, key, r.Algorithm, r.Material, r.PublicKey)
	if err != nil {
		return nil, err
	}
	if _, err := c.commit(ctx, fsm.ImportMaterial{Meta: meta, KeyID: key.ID, Version: fsm.KeyVersion{Wrapped: material}}); err != nil {
		return nil, err
	}
	return c.keyAnswer(ctx, key.ID)
}
