package engine

import (
	"context"
	"encoding/hex"
	"math"

	"github.com/google/uuid"

	"github.com/strongroom/strongroom/api/wire"
	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/iam"
	"github.com/strongroom/strongroom/internal/fault"
	"github.com/strongroom/strongroom/internal/names"
)

func generateSecret(ctx context.Context, c *call, r *wire.GenerateSecretRequest) (*wire.GenerateSecretResponse, error) {
	path := names.Path(r.Path)
	if r.Create {
		if err := c.require("secrets:createSecret", iam.Resource{Path: path, Tags: c.newTags(path, r.Tags)}); err != nil {
			return nil, err
		}
	}
	if r.Reveal {
		if err := c.require("secrets:getSecretValue", iam.Resource{Path: path, Tags: c.newTags(path, r.Tags)}); err != nil {
			return nil, err
		}
		if err := c.within(fsm.RateValueReads); err != nil {
			return nil, err
		}
	}
	if r.KMSKeyID != "" && !r.Create {
		return nil, fault.Invalid("kmsKeyId", "goes with create; an existing secret keeps its key")
	}
	if r.Tags != nil && !r.Create {
		return nil, fault.Invalid("tags", "goes with create; updateSecret changes those of an existing secret")
	}
	if err := checkTags(r.Tags); err != nil {
		return nil, err
	}
	if err := c.checkLife(r.VersionLife); err != nil {
		return nil, err
	}
	recipe, err := recipeFor(r.GenerateSpec, c.engine.MaxValueBytes)
	if err != nil {
		return nil, err
	}
	meta, err := c.meta(ctx, r.ClientToken, r)
	if err != nil {
		return nil, err
	}
	// A retry makes nothing: a key of RSA costs seconds.
	if done, err := c.replayed(meta); err != nil {
		return nil, err
	} else if done != nil {
		c.event.Version = done.Version
		return c.generatedAnswer(ctx, r, *done, recipe, nil, meta)
	}
	value, err := c.make(ctx, recipe)
	if err != nil {
		return nil, err
	}
	if err := c.createIfMissing(ctx, r, path); err != nil {
		return nil, err
	}
	result, _, err := c.add(ctx, addition{
		path: path, meta: meta, value: value, activate: true, expected: r.ExpectedVersion,
		version: newVersion(r.ClientToken, recipe.contentType, r.VersionLife),
	})
	if err != nil {
		return nil, err
	}
	return c.generatedAnswer(ctx, r, result, recipe, value, meta)
}

// generatedAnswer describes the stored version. It reads it back, so that a
// retry, whose freshly made value was thrown away, answers the first one.
func (c *call) generatedAnswer(ctx context.Context, r *wire.GenerateSecretRequest, result fsm.Result, recipe recipe, fresh *wire.Value, meta fsm.Meta) (*wire.GenerateSecretResponse, error) {
	look := c.afterCommit
	if r.Reveal { // what opens a value goes by a state that is fresh
		look = c.refresh
	}
	err := look(ctx)
	if err != nil {
		return nil, uncertain(err, meta)
	}
	out := &wire.GenerateSecretResponse{
		Path: r.Path, Version: result.Version, VersionID: result.VersionID, EntropyBits: math.Floor(recipe.bits*10) / 10,
	}
	s := c.state.Secret(names.Path(r.Path))
	v := c.state.Version(names.Path(r.Path), result.Version)
	if s == nil || v == nil || s.ID != result.SecretID {
		return out, nil
	}
	if len(v.Fingerprint) >= 16 {
		out.Fingerprint = hex.EncodeToString(v.Fingerprint[:16])
	}
	if r.Reveal {
		if out.Value, err = c.revealGenerated(ctx, s, v); err != nil {
			if fault.Is(err, fault.NoLeader) {
				return nil, uncertain(err, meta) // the version is there
			}
			return nil, err
		}
	}
	out.PublicKey, err = c.publicHalf(ctx, recipe, result, fresh)
	return out, err
}

// publicHalf answers the public key of what was generated, "" for kinds that
// have none. fresh is what this request made: where the write was that of an
// earlier request, its value is not this one, and the stored one is opened. If
// that is gone by now, or may not be read, there is no answer to give.
func (c *call) publicHalf(ctx context.Context, recipe recipe, result fsm.Result, fresh *wire.Value) (string, error) {
	if recipe.public == nil {
		return "", nil
	}
	if !result.Replayed && fresh != nil {
		return recipe.public(fresh.Expose())
	}
	if err := c.refresh(ctx); err != nil {
		return "", err
	}
	path := names.Path(result.Path)
	s, v := c.state.Secret(path), c.state.Version(path, result.Version)
	if s == nil || v == nil || s.ID != result.SecretID || c.versionState(v) != fsm.VersionActive {
		return "", nil
	}
	stored, err := c.openOnly(ctx, s, v)
	if err != nil {
		return "", err
	}
	defer stored.Wipe()
	return recipe.public(stored.Expose())
}

// revealGenerated hands the value to who had it made: a consumer like any
// other.
func (c *call) revealGenerated(ctx context.Context, s *fsm.Secret, v *fsm.Version) (*wire.Value, error) {
	s, v, err := c.handOut(ctx, s.Path, reader{}, func() (*fsm.Secret, *fsm.Version, error) { return c.readable(s.Path, &v.Number, "") })
	if err != nil {
		return nil, err
	}
	return c.openVersion(ctx, s, v)
}

// createIfMissing makes the secret for a request that says so. Another
// writer may have made it a moment ago: that is as good.
func (c *call) createIfMissing(ctx context.Context, r *wire.GenerateSecretRequest, path names.Path) error {
	if s := c.state.Secret(path); !r.Create || s != nil && s.State == fsm.SecretActive {
		return nil
	}
	key, err := c.keyForNew(path, r.KMSKeyID, r.Tags)
	if err != nil {
		return err
	}
	result, err := c.propose(ctx, fsm.CreateSecret{
		Meta: c.stamp(),
		Path: r.Path, SecretID: uuid.NewString(), KeyID: key.ID, Tags: r.Tags,
	})
	if err != nil {
		return err
	}
	if refused := result.Refused; refused != nil {
		if err := c.refresh(ctx); err != nil {
			return err
		}
		if s := c.state.Secret(path); s == nil || s.State != fsm.SecretActive {
			return c.refused(refused)
		}
	}
	return nil
}
