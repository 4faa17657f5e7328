package engine

import (
	"context"
	"strconv"
	"time"

	"github.com/strongroom/strongroom/api/wire"
	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/iam"
	"github.com/strongroom/strongroom/internal/fault"
)

// Waiting periods of a key's deletion.
const (
	minWaiting     = 7 * 24 * time.Hour
	maxWaiting     = 90 * 24 * time.Hour
	defaultWaiting = 30 * 24 * time.Hour
)

// keyLifeOperations change keys and their names.
func keyLifeOperations() []*Operation {
	return []*Operation{
		keyHealthOperation(),
		operation(row[wire.UpdateKeyRequest, wire.KeyResponse]{
			service: "kms", name: "updateKey", event: "kms.update_key", write: true,
			summary: "Change the description or the tags of a key.",
			scope:   func(c *call, r *wire.UpdateKeyRequest) (scope, error) { return c.findKey("keyId", r.KeyID) },
			run:     updateKey,
		}),
		operation(row[wire.AliasRequest, wire.AliasResponse]{
			service: "kms", name: "createAlias", event: "kms.create_alias", write: true,
			summary: "Give a key one more name.",
			scope:   func(c *call, r *wire.AliasRequest) (scope, error) { return c.findKey("keyId", r.KeyID) },
			run: func(ctx context.Context, c *call, r *wire.AliasRequest) (*wire.AliasResponse, error) {
				return setAlias(ctx, c, r, func(m fsm.Meta, keyID string) fsm.Command {
					return fsm.CreateAlias{Meta: m, Alias: r.Alias, KeyID: keyID}
				})
			},
		}),
		operation(row[wire.AliasRequest, wire.AliasResponse]{
			service: "kms", name: "updateAlias", event: "kms.update_alias", write: true,
			summary: "Move a name to another key, in one step.",
			scope: func(c *call, r *wire.AliasRequest) (scope, error) {
				if err := checkAlias(r.Alias); err != nil {
					return scope{}, err
				}
				return c.findKey("alias", r.Alias)
			},
			run: func(ctx context.Context, c *call, r *wire.AliasRequest) (*wire.AliasResponse, error) {
				target, err := c.findKey("keyId", r.KeyID)
				if err != nil {
					return nil, err
				}
				// Who takes a name from one key and gives it to another decides
				// for both.
				if err := c.require("kms:updateAlias", resource(target)); err != nil {
					return nil, err
				}
				return setAlias(ctx, c, r, func(m fsm.Meta, keyID string) fsm.Command {
					return fsm.UpdateAlias{Meta: m, Alias: r.Alias, KeyID: keyID}
				})
			},
		}),
		operation(row[wire.DeleteAliasRequest, wire.AliasResponse]{
			service: "kms", name: "deleteAlias", event: "kms.delete_alias", write: true,
			summary: "Take a name from its key.",
			scope: func(c *call, r *wire.DeleteAliasRequest) (scope, error) {
				if err := checkAlias(r.Alias); err != nil {
					return scope{}, err
				}
				return c.findKey("alias", r.Alias)
			},
			run: deleteAlias,
		}),
		operation(row[wire.ListAliasesRequest, wire.ListAliasesResponse]{
			service: "kms", name: "listAliases", event: "kms.list_aliases",
			summary: "List the names of the keys that the caller may see.",
			scope:   func(*call, *wire.ListAliasesRequest) (scope, error) { return scope{list: true}, nil },
			run:     listAliases, further: true,
		}),
		operation(row[wire.KeyChangeRequest, wire.KeyResponse]{
			service: "kms", name: "rotateKey", event: "kms.rotate_key", write: true,
			summary: "Give a key new material from the HSM; the old goes on to open what it sealed.",
			scope:   func(c *call, r *wire.KeyChangeRequest) (scope, error) { return c.findKey("keyId", r.KeyID) },
			run:     rotateKey,
		}),
		operation(row[wire.SetKeyRotationRequest, wire.KeyResponse]{
			service: "kms", name: "setKeyRotation", event: "kms.set_key_rotation", write: true,
			summary: "Set how often a key is rotated by itself.",
			scope:   func(c *call, r *wire.SetKeyRotationRequest) (scope, error) { return c.findKey("keyId", r.KeyID) },
			run:     setKeyRotation,
		}),
		operation(row[wire.ListKeyVersionsRequest, wire.ListKeyVersionsResponse]{
			service: "kms", name: "listKeyVersions", event: "kms.list_key_versions",
			summary: "Show the versions of a key, newest first, never the material.",
			scope:   func(c *call, r *wire.ListKeyVersionsRequest) (scope, error) { return c.findKey("keyId", r.KeyID) },
			run:     listKeyVersions,
		}),
		operation(row[wire.ScheduleKeyDeletionRequest, wire.KeyResponse]{
			service: "kms", name: "scheduleKeyDeletion", event: "kms.schedule_key_deletion", write: true,
			summary: "Delete a key that nothing is bound to, after a waiting period.",
			scope:   func(c *call, r *wire.ScheduleKeyDeletionRequest) (scope, error) { return c.findKey("keyId", r.KeyID) },
			run:     scheduleKeyDeletion,
		}),
		operation(row[wire.KeyChangeRequest, wire.KeyResponse]{
			service: "kms", name: "cancelKeyDeletion", event: "kms.cancel_key_deletion", write: true,
			summary: "Take a key's deletion back; the key is disabled then.",
			scope:   func(c *call, r *wire.KeyChangeRequest) (scope, error) { return c.findKey("keyId", r.KeyID) },
			run: func(ctx context.Context, c *call, r *wire.KeyChangeRequest) (*wire.KeyResponse, error) {
				return changeKey(ctx, c, r.KeyID, r.ClientToken, r, func(m fsm.Meta, keyID string) fsm.Command {
					return fsm.CancelKeyDeletion{Meta: m, KeyID: keyID}
				})
			},
		}),
		operation(row[wire.MigrateBoundSecretsRequest, wire.MigrateBoundSecretsResponse]{
			service: "kms", name: "migrateBoundSecrets", event: "kms.migrate_bound_secrets", write: true,
			summary: "Start the job that moves every secret bound to one key to another, without new versions.",
			scope: func(c *call, r *wire.MigrateBoundSecretsRequest) (scope, error) {
				return c.findKey("fromKeyId", r.FromKeyID)
			},
			run: migrateBoundSecrets,
		}),
		operation(row[wire.RetireKeyRequest, wire.RetireKeyResponse]{
			service: "kms", name: "retireKey", event: "kms.retire_key", write: true,
			more:    []iam.Action{"kms:migrateBoundSecrets"},
			summary: "End new bindings to a key, move what is bound to another one, and disable the key once it is proven empty.",
			scope:   func(c *call, r *wire.RetireKeyRequest) (scope, error) { return c.findKey("keyId", r.KeyID) },
			run:     retireKey,
		}),
		operation(row[wire.GetImportParametersRequest, wire.ImportParametersResponse]{
			service: "kms", name: "getImportParameters", event: "kms.get_import_parameters", write: true,
			action:  "kms:importKeyMaterial",
			summary: "Make the one-time key of the HSM that a key's material is to be wrapped to.",
			scope:   func(c *call, r *wire.GetImportParametersRequest) (scope, error) { return c.findKey("keyId", r.KeyID) },
			run:     getImportParameters,
		}),
		operation(row[wire.ImportKeyMaterialRequest, wire.KeyResponse]{
			service: "kms", name: "importKeyMaterial", event: "kms.import_key_material", write: true,
			summary: "Bring the material of a key that was created for import; it is opened inside the HSM only.",
			scope:   func(c *call, r *wire.ImportKeyMaterialRequest) (scope, error) { return c.findKey("keyId", r.KeyID) },
			run:     importKeyMaterial,
		}),
	}
}

// changeKey commits a command about one key and answers the key.
func changeKey(ctx context.Context, c *call, ref, clientToken string, request any, command func(m fsm.Meta, keyID string) fsm.Command) (*wire.KeyResponse, error) {
	key := c.state.KeyByRef(ref)
	if key == nil {
		return nil, errNoKey(ref)
	}
	meta, err := c.meta(ctx, clientToken, request)
	if err != nil {
		return nil, err
	}
	if _, err := c.commit(ctx, command(meta, key.ID)); err != nil {
		return nil, err
	}
	return c.keyAnswer(ctx, key.ID)
}

func updateKey(ctx context.Context, c *call, r *wire.UpdateKeyRequest) (*wire.KeyResponse, error) {
	if r.Description == nil && r.Tags == nil {
		return nil, fault.Invalid("description", "or tags is to be given; there is nothing to change")
	}
	if r.Description != nil {
		if err := checkText("description", *r.Description); err != nil {
			return nil, err
		}
	}
	if err := checkTags(r.Tags); err != nil {
		return nil, err
	}
	return changeKey(ctx, c, r.KeyID, r.ClientToken, r, func(m fsm.Meta, keyID string) fsm.Command {
		return fsm.UpdateKey{Meta: m, KeyID: keyID, Description: r.Description, SetTags: r.Tags != nil, Tags: r.Tags}
	})
}

func rotateKey(ctx context.Context, c *call, r *wire.KeyChangeRequest) (*wire.KeyResponse, error) {
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
	result, err := c.engine.rotate(ctx, key, meta)
	if err != nil {
		return nil, err
	}
	if result.Refused != nil {
		return nil, c.refused(result.Refused)
	}
	c.index = max(c.index, result.Index)
	c.event.Version = uint64(result.KeyVersion)
	return c.keyAnswer(ctx, key.ID)
}

// rotate makes the next version of key in the HSM and proposes it. A key
// whose state does not allow it is refused before the HSM is asked; Apply
// decides the same again.
func (e *Engine) rotate(ctx context.Context, key *fsm.Key, meta fsm.Meta) (fsm.Result, error) {
	command := fsm.RotateKey{Meta: meta, KeyID: key.ID}
	if fsm.RuleFor(key.State, fsm.KeyRotate).Refused == "" && key.Origin != fsm.OriginImported {
		material, err := e.KMS.GenerateKey(ctx, key.ID, key.Current+1, key.Spec, key.Usage)
		if err != nil {
			return fsm.Result{}, err
		}
		command.Version = fsm.KeyVersion{Wrapped: material}
	}
	encoded, err := fsm.Encode(command)
	if err != nil {
		return fsm.Result{}, err
	}
	return e.Log.Propose(ctx, encoded)
}

func setKeyRotation(ctx context.Context, c *call, r *wire.SetKeyRotationRequest) (*wire.KeyResponse, error) {
	if r.Period == nil {
		return nil, fault.Invalid("period", "is missing; 0s ends the schedule")
	}
	return changeKey(ctx, c, r.KeyID, r.ClientToken, r, func(m fsm.Meta, keyID string) fsm.Command {
		return fsm.SetKeyRotation{Meta: m, KeyID: keyID, Period: time.Duration(*r.Period).Milliseconds()}
	})
}

func listKeyVersions(_ context.Context, c *call, r *wire.ListKeyVersionsRequest) (*wire.ListKeyVersionsResponse, error) {
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
	next := uint64(len(key.Versions))
	if p.after != "" {
		if next, err = strconv.ParseUint(p.after, 10, 32); err != nil || next > uint64(len(key.Versions)) {
			return nil, fault.Invalid("cursor", "is not a nextCursor of this operation")
		}
	}
	out := &wire.ListKeyVersionsResponse{KeyID: key.ID, Versions: []wire.KeyVersion{}}
	for ; next > 0 && len(out.Versions) < p.limit; next-- {
		v := key.Versions[next-1]
		out.Versions = append(out.Versions, wire.KeyVersion{
			Version: uint32(next), Current: uint32(next) == key.Current, CreatedAt: wire.Millis(v.CreatedAt), CreatedBy: v.CreatedBy,
			SealsReserved: v.Reserved,
		})
	}
	if next > 0 {
		out.NextCursor = cursor(strconv.FormatUint(next, 10))
	}
	return out, nil
}

func scheduleKeyDeletion(ctx context.Context, c *call, r *wire.ScheduleKeyDeletionRequest) (*wire.KeyResponse, error) {
	waiting := defaultWaiting
	if r.WaitingPeriod != nil {
		waiting = time.Duration(*r.WaitingPeriod)
	}
	if waiting < minWaiting || waiting > maxWaiting {
		return nil, fault.Invalid("waitingPeriod", "must be 7d to 90d")
	}
	if err := checkText("reason", r.Reason); err != nil {
		return nil, err
	}
	return changeKey(ctx, c, r.KeyID, r.ClientToken, r, func(m fsm.Meta, keyID string) fsm.Command {
		return fsm.ScheduleKeyDeletion{Meta: m, KeyID: keyID, DueAt: m.Time + waiting.Milliseconds(), Reason: r.Reason}
	})
}
