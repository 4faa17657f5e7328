package engine

import (
	"context"
	"time"

	"github.com/google/uuid"

	"github.com/strongroom/strongroom/api/wire"
	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/iam"
	"github.com/strongroom/strongroom/internal/fault"
	"github.com/strongroom/strongroom/internal/names"
	"github.com/strongroom/strongroom/internal/wrapped"
	"github.com/strongroom/strongroom/kms"
)

func keyOperations() []*Operation {
	return []*Operation{
		operation(row[wire.CreateKeyRequest, wire.KeyResponse]{
			service: "kms", name: "createKey", event: "kms.create_key", write: true,
			summary: "Make a KMS key; its material is born in the HSM and leaves it only wrapped.",
			scope: func(c *call, r *wire.CreateKeyRequest) (scope, error) {
				if r.Alias == "" {
					return scope{keyRef: "*"}, nil
				}
				ref, err := names.ParseKeyRef(r.Alias)
				if err != nil || ref[:len(names.AliasPrefix)] != names.AliasPrefix {
					return scope{}, fault.Invalid("alias", "must be alias/NAME")
				}
				return scope{keyRef: r.Alias}, nil
			},
			run: createKey,
		}),
		operation(row[wire.KeyRequest, wire.KeyResponse]{
			service: "kms", name: "describeKey", event: "kms.describe_key",
			summary: "Show a key, its state and how many secrets are bound to it.",
			scope:   func(c *call, r *wire.KeyRequest) (scope, error) { return c.findKey("keyId", r.KeyID) },
			run:     describeKey,
		}),
		operation(row[wire.ListKeysRequest, wire.ListKeysResponse]{
			service: "kms", name: "listKeys", event: "kms.list_keys",
			summary: "List the keys that the caller may see.",
			scope:   func(*call, *wire.ListKeysRequest) (scope, error) { return scope{list: true}, nil },
			run:     listKeys,
		}),
		operation(row[wire.KeyChangeRequest, wire.KeyResponse]{
			service: "kms", name: "disableKey", event: "kms.disable_key", write: true,
			summary: "Disable a key that no live secret version is bound to.",
			scope:   func(c *call, r *wire.KeyChangeRequest) (scope, error) { return c.findKey("keyId", r.KeyID) },
			run: func(ctx context.Context, c *call, r *wire.KeyChangeRequest) (*wire.KeyResponse, error) {
				return setKeyState(ctx, c, r, fsm.KeyDisabled)
			},
		}),
		operation(row[wire.KeyChangeRequest, wire.KeyResponse]{
			service: "kms", name: "enableKey", event: "kms.enable_key", write: true,
			summary: "Enable a disabled key.",
			scope:   func(c *call, r *wire.KeyChangeRequest) (scope, error) { return c.findKey("keyId", r.KeyID) },
			run: func(ctx context.Context, c *call, r *wire.KeyChangeRequest) (*wire.KeyResponse, error) {
				return setKeyState(ctx, c, r, fsm.KeyActive)
			},
		}),
		operation(row[wire.ListBoundSecretsRequest, wire.ListBoundSecretsResponse]{
			service: "kms", name: "listBoundSecrets", event: "kms.list_bound_secrets",
			summary: "List the secrets with live versions under a key.",
			scope:   func(c *call, r *wire.ListBoundSecretsRequest) (scope, error) { return c.findKey("keyId", r.KeyID) },
			run:     listBoundSecrets,
		}),
	}
}

func createKey(ctx context.Context, c *call, r *wire.CreateKeyRequest) (*wire.KeyResponse, error) {
	if err := checkText("description", r.Description); err != nil {
		return nil, err
	}
	if err := checkTags(r.Tags); err != nil {
		return nil, err
	}
	if r.Spec == "" {
		r.Spec = wrapped.AES256
	}
	if r.Usage == "" {
		r.Usage = kms.DefaultUsage(r.Spec)
	}
	if r.Origin == "" {
		r.Origin = fsm.OriginHSM
	}
	if err := checkNewKey(r); err != nil {
		return nil, err
	}
	meta, err := c.meta(ctx, r.ClientToken, r)
	if err != nil {
		return nil, err
	}
	if done, err := c.replayed(meta); err != nil {
		return nil, err
	} else if done != nil {
		return c.keyAnswer(ctx, done.KeyID)
	}
	key := fsm.Key{
		ID: uuid.NewString(), Spec: r.Spec, Usage: r.Usage, Origin: r.Origin, State: fsm.KeyPendingImport,
		Description: r.Description, Tags: r.Tags,
	}
	if r.Alias != "" {
		key.Aliases = []string{r.Alias}
	}
	if r.Origin == fsm.OriginHSM {
		material, err := c.engine.KMS.GenerateKey(ctx, key.ID, 1, key.Spec, key.Usage)
		if err != nil {
			return nil, err
		}
		key.State, key.Current = fsm.KeyActive, 1
		key.Versions = []fsm.KeyVersion{{Wrapped: material, CreatedAt: c.now.UnixMilli(), CreatedBy: c.who.name}}
	}
	result, err := c.commit(ctx, fsm.CreateKey{Meta: meta, Key: key})
	if err != nil {
		return nil, err
	}
	c.event.KeyID = result.KeyID
	return c.keyAnswer(ctx, result.KeyID)
}

func checkNewKey(r *wire.CreateKeyRequest) error {
	if r.Origin != fsm.OriginHSM && r.Origin != fsm.OriginImported {
		return fault.Invalid("origin", "must be %s or %s", fsm.OriginHSM, fsm.OriginImported)
	}
	return kms.CheckSpec(r.Spec, r.Usage)
}

func (c *call) keyAnswer(ctx context.Context, id string) (*wire.KeyResponse, error) {
	if err := c.refresh(ctx); err != nil {
		return nil, uncertain(err, fsm.Meta{ClientToken: "x"})
	}
	key := c.state.Key(id)
	if key == nil {
		return nil, errNoKey(id)
	}
	out := c.keyResponse(key)
	return &out, nil
}

func (c *call) keyResponse(key *fsm.Key) wire.KeyResponse {
	out := wire.KeyResponse{
		KeyID: key.ID, Spec: key.Spec, Usage: key.Usage, State: string(key.State), Origin: key.Origin,
		CurrentVersion: key.Current, Aliases: key.Aliases, BoundSecrets: c.state.BoundCount(key.ID),
		Description: key.Description, Tags: key.Tags, CreatedAt: wire.Millis(key.CreatedAt), CreatedBy: key.CreatedBy,
		UpdatedAt: wire.Millis(key.UpdatedAt), DeletionAt: wire.Millis(key.DeletionAt), DeletedBy: key.DeletedBy,
		DeleteReason: key.DeleteReason, DestroyedAt: wire.Millis(key.DestroyedAt), EmptyIndex: key.EmptyIndex,
		LastUsedAt: wire.Millis(c.engine.uses.of(key)), Algorithms: wrapped.SignAlgorithms(key.Spec),
	}
	if key.Usage != kms.UsageSign {
		out.Algorithms = nil
	}
	if key.RotationPeriod != 0 {
		period := wire.Duration(key.RotationPeriod) * wire.Duration(time.Millisecond)
		out.Rotation = &wire.KeyRotation{Period: &period, NextRotationAt: wire.Millis(key.NextRotationAt)}
	}
	return out
}

func describeKey(ctx context.Context, c *call, r *wire.KeyRequest) (*wire.KeyResponse, error) {
	if err := c.checkConsistency(r.Consistency); err != nil {
		return nil, err
	}
	key := c.state.KeyByRef(r.KeyID)
	if key == nil {
		return nil, errNoKey(r.KeyID)
	}
	out := c.keyResponse(key)
	return &out, nil
}

func listKeys(ctx context.Context, c *call, r *wire.ListKeysRequest) (*wire.ListKeysResponse, error) {
	p, err := checkPage(r.Page)
	if err != nil {
		return nil, err
	}
	if err := c.checkConsistency(r.Consistency); err != nil {
		return nil, err
	}
	out := &wire.ListKeysResponse{Keys: []wire.KeyResponse{}}
	for key := range c.state.Keys(p.after) {
		if !c.may("kms:listKeys", keyResource(key)) {
			continue
		}
		if len(out.Keys) == p.limit {
			out.NextCursor = cursor(out.Keys[p.limit-1].KeyID)
			break
		}
		out.Keys = append(out.Keys, c.keyResponse(key))
	}
	return out, nil
}

func setKeyState(ctx context.Context, c *call, r *wire.KeyChangeRequest, to fsm.KeyState) (*wire.KeyResponse, error) {
	key := c.state.KeyByRef(r.KeyID)
	if key == nil {
		return nil, errNoKey(r.KeyID)
	}
	meta, err := c.meta(ctx, r.ClientToken, r)
	if err != nil {
		return nil, err
	}
	if _, err := c.commit(ctx, fsm.SetKeyState{Meta: meta, KeyID: key.ID, State: to}); err != nil {
		return nil, err
	}
	return c.keyAnswer(ctx, key.ID)
}

func listBoundSecrets(ctx context.Context, c *call, r *wire.ListBoundSecretsRequest) (*wire.ListBoundSecretsResponse, error) {
	p, err := checkPage(r.Page)
	if err != nil {
		return nil, err
	}
	if err := c.checkConsistency(r.Consistency); err != nil {
		return nil, err
	}
	key := c.state.KeyByRef(r.KeyID)
	if key == nil {
		return nil, errNoKey(r.KeyID)
	}
	out := &wire.ListBoundSecretsResponse{Secrets: []wire.BoundSecret{}, Total: c.state.BoundCount(key.ID)}
	for path, versions := range c.state.BoundPaths(key.ID, p.after) {
		if !c.may("secrets:describeSecret", iam.Resource{Path: path}) {
			continue
		}
		if len(out.Secrets) == p.limit {
			out.NextCursor = cursor(out.Secrets[p.limit-1].Path)
			break
		}
		out.Secrets = append(out.Secrets, wire.BoundSecret{Path: string(path), Versions: versions})
	}
	return out, nil
}
