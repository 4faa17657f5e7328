package engine

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/strongroom/strongroom/api/wire"
	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/iam"
	"github.com/strongroom/strongroom/internal/fault"
	"github.com/strongroom/strongroom/internal/names"
)

// Recovery windows of a deleted secret.
const (
	minRecovery     = 7 * 24 * time.Hour
	maxRecovery     = 90 * 24 * time.Hour
	defaultRecovery = 30 * 24 * time.Hour
)

func secretOperations() []*Operation {
	return []*Operation{
		operation(row[wire.CreateSecretRequest, wire.CreateSecretResponse]{
			service: "secrets", name: "createSecret", event: "secrets.create", write: true,
			summary: "Make a secret, with a first value if one is given.",
			scope: func(c *call, r *wire.CreateSecretRequest) (scope, error) {
				s, err := pathScope(r.Path)
				s.tags = c.newTags(s.path, r.Tags)
				return s, err
			},
			run: createSecret,
		}),
		operation(row[wire.PathRequest, wire.DescribeSecretResponse]{
			service: "secrets", name: "describeSecret", event: "secrets.describe",
			summary: "Show the metadata of a secret, never a value.",
			scope:   func(c *call, r *wire.PathRequest) (scope, error) { return pathScope(r.Path) },
			run:     describeSecret,
		}),
		operation(row[wire.ListSecretsRequest, wire.ListSecretsResponse]{
			service: "secrets", name: "listSecrets", event: "secrets.list",
			summary: "List or browse the secrets that the caller may see.",
			scope: func(c *call, r *wire.ListSecretsRequest) (scope, error) {
				return prefixScope(&r.Prefix)
			},
			run: listSecrets,
		}),
		operation(row[wire.DeleteSecretRequest, wire.SecretStateResponse]{
			service: "secrets", name: "deleteSecret", event: "secrets.delete", write: true,
			more:    []iam.Action{"secrets:purgeSecret"},
			summary: "Delete a secret: it can be restored within its recovery window.",
			scope: func(c *call, r *wire.DeleteSecretRequest) (scope, error) {
				s, err := pathScope(r.Path)
				if r.Force {
					s.action = "secrets:purgeSecret"
				}
				return s, err
			},
			run: deleteSecret,
		}),
		operation(row[wire.RestoreSecretRequest, wire.SecretStateResponse]{
			service: "secrets", name: "restoreSecret", event: "secrets.restore", write: true,
			summary: "Take a deletion back within the recovery window.",
			scope:   func(c *call, r *wire.RestoreSecretRequest) (scope, error) { return pathScope(r.Path) },
			run:     restoreSecret,
		}),
	}
}

func pathScope(path string) (scope, error) {
	p, err := checkPath("path", path)
	return scope{path: p}, err
}

func createSecret(ctx context.Context, c *call, r *wire.CreateSecretRequest) (*wire.CreateSecretResponse, error) {
	path := names.Path(r.Path)
	if err := c.checkCreate(r); err != nil {
		return nil, err
	}
	var recipe recipe
	if r.Generate != nil {
		var err error
		if recipe, err = recipeFor(*r.Generate, c.engine.MaxValueBytes); err != nil {
			return nil, err
		}
	}
	meta, err := c.meta(ctx, r.ClientToken, r)
	if err != nil {
		return nil, err
	}
	if done, err := c.replayed(meta); err != nil {
		return nil, err
	} else if done != nil {
		return c.createdAnswer(ctx, *done, recipe, nil)
	}
	value := r.Value
	if r.Generate != nil {
		if value, err = c.make(ctx, recipe); err != nil {
			return nil, err
		}
	}
	unlock, err := c.engine.locks.lock(ctx, path)
	if err != nil {
		return nil, err
	}
	defer unlock()
	command := fsm.CreateSecret{
		Meta: meta, Path: r.Path, SecretID: uuid.NewString(), Description: r.Description,
		Tags: r.Tags, ReuseRetired: r.ReuseRetiredPath,
	}
	for range maxRaces {
		key, err := c.keyForNew(path, r.KMSKeyID, r.Tags)
		if err != nil {
			return nil, err
		}
		command.KeyID = key.ID
		if value != nil {
			id := newVersion(r.ClientToken, cmp.Or(r.ContentType, recipe.contentType), r.VersionLife)
			id.Number = 1
			if command.First, err = c.seal(ctx, key, path, command.SecretID, id, value); err != nil {
				return nil, err
			}
		}
		result, err := c.propose(ctx, command)
		if err != nil {
			return nil, err
		}
		if result.Refused == nil {
			c.event.Version = result.Version
			return c.createdAnswer(ctx, result, recipe, value)
		}
		if !result.Refused.Race {
			return nil, c.refused(result.Refused)
		}
		if err := c.refresh(ctx); err != nil {
			return nil, err
		}
	}
	return nil, errRaces()
}

func (c *call) checkCreate(r *wire.CreateSecretRequest) error {
	if err := checkText("description", r.Description); err != nil {
		return err
	}
	if err := checkTags(r.Tags); err != nil {
		return err
	}
	if r.Value != nil && r.Generate != nil {
		return fault.Invalid("generate", "goes without value; give one of the two")
	}
	if r.Value != nil {
		if err := c.engine.checkValue("value", r.Value); err != nil {
			return err
		}
	}
	if r.Value == nil && r.Generate == nil && (r.ContentType != "" || r.VersionLife != wire.VersionLife{}) {
		return fault.Invalid("contentType", "and expiresAt describe a first value, as notifyBefore and reason do; give value or generate too")
	}
	if err := c.checkLife(r.VersionLife); err != nil {
		return err
	}
	return checkContentType(r.ContentType)
}

// createdAnswer describes what was made. fresh is the value that was stored,
// nil if there is none or if it was an earlier request that stored it.
func (c *call) createdAnswer(ctx context.Context, r fsm.Result, recipe recipe, fresh *wire.Value) (*wire.CreateSecretResponse, error) {
	out := &wire.CreateSecretResponse{Path: r.Path, SecretID: r.SecretID, VersionID: r.VersionID}
	if r.Version != 0 {
		out.Version = &r.Version
	}
	var err error
	out.PublicKey, err = c.publicHalf(ctx, recipe, r, fresh)
	return out, err
}

// bindable answers the key that new versions are bound to: active, and for
// encryption.
func (c *call) bindable(ref string) (*fsm.Key, error) {
	if ref == "" {
		ref = names.DefaultAlias
	}
	if _, err := names.ParseKeyRef(ref); err != nil {
		return nil, fault.Invalid("kmsKeyId", "%v", err)
	}
	key := c.state.KeyByRef(ref)
	if key == nil {
		return nil, fault.New(fault.NotFound, "kmsKeyId: there is no key %s; listKeys shows the keys", ref)
	}
	return key, nil
}

func describeSecret(ctx context.Context, c *call, r *wire.PathRequest) (*wire.DescribeSecretResponse, error) {
	if err := c.checkConsistency(r.Consistency); err != nil {
		return nil, err
	}
	s, err := c.secretAt(names.Path(r.Path))
	if err != nil {
		return nil, err
	}
	keyState := ""
	if key := c.state.Key(s.KeyID); key != nil {
		keyState = string(key.State)
	}
	return &wire.DescribeSecretResponse{
		Path: r.Path, SecretID: s.ID, State: string(s.State), KMSKeyID: s.KeyID, KMSKeyState: keyState,
		CurrentVersion: s.Current, LatestVersion: s.Latest, Labels: s.Labels, Description: s.Description,
		Tags: s.Tags, CreatedAt: wire.Millis(s.CreatedAt), CreatedBy: s.CreatedBy,
		UpdatedAt: wire.Millis(s.UpdatedAt), UpdatedBy: s.UpdatedBy,
		DeletedAt: wire.Millis(s.DeletedAt), DeletionAt: wire.Millis(s.PurgeAt),
		Rule:     secretRule(c.state.RuleFor(s.Path)),
		Rotation: rotationStatus(c.state, s, c.now),
	}, nil
}

func deleteSecret(ctx context.Context, c *call, r *wire.DeleteSecretRequest) (*wire.SecretStateResponse, error) {
	window := defaultRecovery
	if r.RecoveryWindow != nil {
		window = time.Duration(*r.RecoveryWindow)
		if r.Force {
			return nil, fault.Invalid("recoveryWindow", "goes without force, which purges at once")
		}
	}
	if window < minRecovery || window > maxRecovery {
		return nil, fault.Invalid("recoveryWindow", "must be 7d to 90d")
	}
	if err := checkText("reason", r.Reason); err != nil {
		return nil, err
	}
	meta, err := c.meta(ctx, r.ClientToken, r)
	if err != nil {
		return nil, err
	}
	command := fsm.DeleteSecret{Meta: meta, Path: r.Path, Reason: r.Reason}
	if !r.Force {
		command.PurgeAt = c.now.Add(window).UnixMilli()
	}
	result, err := c.commit(ctx, command)
	if err != nil {
		return nil, err
	}
	return stateAnswer(result), nil
}

func restoreSecret(ctx context.Context, c *call, r *wire.RestoreSecretRequest) (*wire.SecretStateResponse, error) {
	meta, err := c.meta(ctx, r.ClientToken, r)
	if err != nil {
		return nil, err
	}
	result, err := c.commit(ctx, fsm.RestoreSecret{Meta: meta, Path: r.Path})
	if err != nil {
		return nil, err
	}
	return stateAnswer(result), nil
}

func stateAnswer(r fsm.Result) *wire.SecretStateResponse {
	return &wire.SecretStateResponse{Path: r.Path, SecretID: r.SecretID, State: r.State, DeletionAt: wire.Millis(r.DueAt)}
}

func sortStrings(s []string) { slices.Sort(s) }
