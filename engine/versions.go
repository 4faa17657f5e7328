package engine

import (
	"context"
	"strconv"
	"time"

	"github.com/google/uuid"

	"github.com/strongroom/strongroom/api/wire"
	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/iam"
	"github.com/strongroom/strongroom/internal/fault"
	"github.com/strongroom/strongroom/internal/names"
	"github.com/strongroom/strongroom/kms"
)

// Bounds of the life of a version.
const (
	maxDestroyDelay = 90 * 24 * time.Hour
	minNotify       = time.Second
	maxNotify       = 366 * 24 * time.Hour
)

func versionOperations() []*Operation {
	return []*Operation{
		operation(row[wire.PutSecretValueRequest, wire.PutSecretValueResponse]{
			service: "secrets", name: "putSecretValue", event: "secrets.put_value", write: true,
			summary: "Add a version, and make it the current one unless told otherwise.",
			scope:   func(c *call, r *wire.PutSecretValueRequest) (scope, error) { return pathScope(r.Path) },
			run:     putSecretValue,
		}),
		operation(row[wire.GenerateSecretRequest, wire.GenerateSecretResponse]{
			service: "secrets", name: "generateSecret", event: "secrets.generate", write: true,
			more:    []iam.Action{"secrets:createSecret", "secrets:getSecretValue"},
			summary: "Have the server make a value and store it as a new version.",
			scope: func(c *call, r *wire.GenerateSecretRequest) (scope, error) {
				s, err := pathScope(r.Path)
				s.tags = c.newTags(s.path, r.Tags)
				return s, err
			},
			run: generateSecret,
		}),
		operation(row[wire.GetSecretValueRequest, wire.GetSecretValueResponse]{
			service: "secrets", name: "getSecretValue", event: "secrets.get_value",
			summary: "Read a value: the current version, or a given one.",
			scope: func(c *call, r *wire.GetSecretValueRequest) (scope, error) {
				s, err := pathScope(r.Path)
				if r.Version != nil {
					s.version = *r.Version
				}
				return s, err
			},
			run: getSecretValue,
		}),
		operation(row[wire.BatchGetSecretValueRequest, wire.BatchGetSecretValueResponse]{
			service: "secrets", name: "batchGetSecretValue", event: "secrets.batch_get_value", action: "secrets:getSecretValue",
			summary: "Read up to 100 values; each item has its own answer or error.",
			scope:   batchScope,
			run:     batchGetSecretValue,
		}),
		operation(row[wire.ListSecretVersionsRequest, wire.ListSecretVersionsResponse]{
			service: "secrets", name: "listSecretVersions", event: "secrets.list_versions",
			summary: "Show the whole history of a secret, destroyed versions included.",
			scope:   func(c *call, r *wire.ListSecretVersionsRequest) (scope, error) { return pathScope(r.Path) },
			run:     listSecretVersions,
		}),
		operation(row[wire.DestroyVersionRequest, wire.VersionStateResponse]{
			service: "secrets", name: "destroyVersion", event: "secrets.destroy_version", write: true,
			more:    []iam.Action{"secrets:forceDestroyVersion"},
			summary: "Erase the ciphertext and the data key of a version for good; its history stays.",
			scope: func(c *call, r *wire.DestroyVersionRequest) (scope, error) {
				return versionScope(r.Path, r.Version)
			},
			run: destroyVersion,
		}),
		operation(row[wire.CancelDestroyVersionRequest, wire.VersionStateResponse]{
			service: "secrets", name: "cancelDestroyVersion", event: "secrets.cancel_destroy_version", write: true,
			action:  "secrets:destroyVersion",
			summary: "Take a delayed destruction back before it is due.",
			scope: func(c *call, r *wire.CancelDestroyVersionRequest) (scope, error) {
				return versionScope(r.Path, r.Version)
			},
			run: cancelDestroyVersion,
		}),
	}
}

func versionScope(path string, version *uint64) (scope, error) {
	s, err := pathScope(path)
	if err != nil {
		return s, err
	}
	s.version, err = checkVersion("version", version, true)
	return s, err
}

// addition is what putSecretValue and generateSecret have in common.
type addition struct {
	path     names.Path
	meta     fsm.Meta
	version  fsm.NewVersion // Number and what sealing adds are filled in
	value    *wire.Value
	activate bool
	expected *uint64
	// reuse answers the current version when it holds the same bytes.
	reuse bool
}

func putSecretValue(ctx context.Context, c *call, r *wire.PutSecretValueRequest) (*wire.PutSecretValueResponse, error) {
	if err := c.engine.checkValue("value", r.Value); err != nil {
		return nil, err
	}
	if err := checkContentType(r.ContentType); err != nil {
		return nil, err
	}
	if err := c.checkLife(r.VersionLife); err != nil {
		return nil, err
	}
	meta, err := c.meta(ctx, r.ClientToken, r)
	if err != nil {
		return nil, err
	}
	result, unchanged, err := c.add(ctx, addition{
		path: names.Path(r.Path), meta: meta, value: r.Value,
		activate: r.Activate == nil || *r.Activate, expected: r.ExpectedVersion, reuse: true,
		version: newVersion(r.ClientToken, r.ContentType, r.VersionLife),
	})
	if err != nil {
		return nil, err
	}
	if err := c.afterCommit(ctx); err != nil {
		// The version is committed; only its labels cannot be looked up now.
		return nil, uncertain(err, meta)
	}
	labels := []string{}
	if s := c.state.Secret(names.Path(r.Path)); s != nil && s.ID == result.SecretID {
		labels = labelsOf(s, result.Version)
	}
	return &wire.PutSecretValueResponse{
		Path: r.Path, Version: result.Version, VersionID: result.VersionID, Unchanged: unchanged, Labels: labels,
	}, nil
}

// add seals a value and commits it as the next version. The number is bound
// into the seal, so a write that lost its number to another one seals again.
func (c *call) add(ctx context.Context, a addition) (result fsm.Result, unchanged bool, err error) {
	if done, err := c.replayed(a.meta); done != nil || err != nil {
		if err != nil {
			return fsm.Result{}, false, err
		}
		c.event.Version = done.Version
		return *done, done.Unchanged, nil
	}
	unlock, err := c.engine.locks.lock(ctx, a.path)
	if err != nil {
		return fsm.Result{}, false, err
	}
	defer unlock()
	// Others may have written while this one waited for its turn.
	for range maxRaces {
		if err := c.refresh(ctx); err != nil {
			return fsm.Result{}, false, err
		}
		s, err := c.liveSecret(a.path)
		if err != nil {
			return fsm.Result{}, false, err
		}
		if same, err := c.sameAsCurrent(ctx, s, a); err != nil {
			return fsm.Result{}, false, err
		} else if same != nil {
			result, err := c.keep(ctx, s, same, a.meta)
			if err != nil {
				return fsm.Result{}, false, err
			}
			if result.Refused == nil {
				c.event.Version = same.Number
				return result, true, nil
			}
			if !result.Refused.Race {
				return fsm.Result{}, false, c.refused(result.Refused)
			}
			continue // another version is current by now: look again
		}
		result, err := c.addOnce(ctx, s, a)
		if err != nil {
			return fsm.Result{}, false, err
		}
		if result.Refused == nil {
			c.event.Version = result.Version
			return result, false, nil
		}
		if !result.Refused.Race {
			return fsm.Result{}, false, c.refused(result.Refused)
		}
	}
	return fsm.Result{}, false, errRaces()
}

// keep answers the current version, which holds the bytes of this write. The
// token of a retry is remembered with that answer.
func (c *call) keep(ctx context.Context, s *fsm.Secret, current *fsm.Version, meta fsm.Meta) (fsm.Result, error) {
	if meta.ClientToken == "" {
		return fsm.Result{SecretID: s.ID, Version: current.Number, VersionID: current.ID}, nil
	}
	return c.propose(ctx, fsm.KeepCurrent{Meta: meta, Path: string(s.Path), SecretID: s.ID, Version: current.Number})
}

func (c *call) addOnce(ctx context.Context, s *fsm.Secret, a addition) (fsm.Result, error) {
	if a.expected != nil && *a.expected != s.Current {
		return fsm.Result{}, fault.New(fault.Conflict, "expectedVersion: is %d, but the current version is %d", *a.expected, s.Current).
			With("currentVersion", s.Current)
	}
	key := c.state.Key(s.KeyID)
	if key == nil {
		return fsm.Result{}, fault.New(fault.Internal, "the secret is bound to key %s, which is not there", s.KeyID)
	}
	next := a.version
	next.Number = s.Latest + 1
	sealed, err := c.seal(ctx, key, a.path, s.ID, next, a.value)
	if err != nil {
		return fsm.Result{}, err
	}
	return c.propose(ctx, fsm.PutVersion{
		Meta: a.meta, Path: string(a.path), SecretID: s.ID, Version: *sealed, Activate: a.activate, Expected: a.expected,
	})
}

// seal fills in what sealing adds to a new version, and notes the kms event.
func (c *call) seal(ctx context.Context, key *fsm.Key, path names.Path, secretID string, next fsm.NewVersion, value *wire.Value) (*fsm.NewVersion, error) {
	c.noteUse(key, fsm.KeyProtect)
	if err := c.bookSeal(ctx, key); err != nil {
		return nil, keyField(err, "kmsKeyId")
	}
	id := kms.Identity{Path: path, SecretID: secretID, Version: next.Number}
	sealed, err := c.engine.KMS.SealValue(ctx, key, id, value.Bytes)
	c.noteKMS("kms.encrypt", key, sealed.KeyVersion, path, next.Number, err)
	if err != nil {
		return nil, keyField(err, "kmsKeyId")
	}
	fingerprint, err := c.engine.KMS.Fingerprint(ctx, c.state.FingerprintKey(), id, value.Bytes)
	if err != nil {
		return nil, err
	}
	next.KeyID, next.KeyVersion = key.ID, sealed.KeyVersion
	next.Size = uint32(value.Len())
	next.Sealed, next.DataKey, next.Fingerprint = sealed.Box, sealed.DataKey, fingerprint
	return &next, nil
}

// sameAsCurrent answers the current version if a may reuse it: it is active,
// has not expired and holds the same bytes, and a asks for nothing new.
func (c *call) sameAsCurrent(ctx context.Context, s *fsm.Secret, a addition) (*fsm.Version, error) {
	if !a.reuse || s.Current == 0 || a.expected != nil && *a.expected != s.Current {
		return nil, nil
	}
	v := c.state.Version(a.path, s.Current)
	if v == nil || c.versionState(v) != fsm.VersionActive || v.ContentType != a.version.ContentType ||
		v.ExpiresAt != a.version.ExpiresAt || v.NotifyBefore != a.version.NotifyBefore {
		return nil, nil
	}
	key := c.state.Key(s.KeyID)
	if key == nil || kms.CheckProtect(key) != nil {
		return nil, nil // let the write itself say that the key is not active
	}
	id := kms.Identity{Path: a.path, SecretID: s.ID, Version: v.Number}
	same, err := c.engine.KMS.SameValue(ctx, c.state.FingerprintKey(), id, v.Fingerprint, a.value.Bytes)
	if err != nil || !same {
		return nil, err
	}
	return v, nil
}

// versionState is the stored state, or expired where time says so.
func (c *call) versionState(v *fsm.Version) fsm.VersionState {
	return v.StateAt(c.now.UnixMilli())
}

func (c *call) checkLife(life wire.VersionLife) error {
	if life.ExpiresAt != nil && life.ExpiresAt.Milli() <= c.now.UnixMilli() {
		return fault.Invalid("expiresAt", "must lie in the future")
	}
	if before := life.NotifyBefore; before != nil {
		if life.ExpiresAt == nil {
			return fault.Invalid("notifyBefore", "goes with expiresAt")
		}
		if time.Duration(*before) < minNotify || time.Duration(*before) > maxNotify {
			return fault.Invalid("notifyBefore", "must be 1s to 366d")
		}
	}
	return checkText("reason", life.Reason)
}

// newVersion answers what is known of a version before it is sealed.
func newVersion(clientToken, contentType string, life wire.VersionLife) fsm.NewVersion {
	v := fsm.NewVersion{VersionID: versionID(clientToken), ContentType: contentType, ExpiresAt: life.ExpiresAt.Milli(), Reason: life.Reason}
	if life.NotifyBefore != nil {
		v.NotifyBefore = time.Duration(*life.NotifyBefore).Milliseconds()
	}
	return v
}

// versionID answers the id of a new version: the client's token where it is
// long enough to be one, else a UUID.
func versionID(clientToken string) string {
	if len(clientToken) >= 32 && len(clientToken) <= 64 {
		return clientToken
	}
	return uuid.NewString()
}

// uncertain is the answer when a write is committed but its answer cannot be
// made up.
func uncertain(cause error, meta fsm.Meta) error {
	way := "read the secret before you write again"
	if meta.ClientToken != "" {
		way = "retry with the same clientToken"
	}
	return fault.Wrap(fault.Uncertain, cause, "the write may have been done; %s", way)
}

func listSecretVersions(ctx context.Context, c *call, r *wire.ListSecretVersionsRequest) (*wire.ListSecretVersionsResponse, error) {
	p, err := checkPage(r.Page)
	if err != nil {
		return nil, err
	}
	if err := c.checkConsistency(r.Consistency); err != nil {
		return nil, err
	}
	path := names.Path(r.Path)
	s, err := c.secretAt(path)
	if err != nil {
		return nil, err
	}
	before := s.Latest + 1
	if p.after != "" {
		if before, err = strconv.ParseUint(p.after, 10, 64); err != nil {
			return nil, fault.Invalid("cursor", "is not a nextCursor of this operation")
		}
	}
	out := &wire.ListSecretVersionsResponse{Path: r.Path, Versions: []wire.VersionSummary{}}
	lastRead := c.lastReads(path)
	for v := range c.state.Versions(path) {
		if v.Number >= before {
			continue
		}
		if len(out.Versions) == p.limit {
			out.NextCursor = cursor(strconv.FormatUint(v.Number+1, 10))
			break
		}
		line := c.versionSummary(s, v)
		line.LastReadAt = lastRead(v.Number)
		out.Versions = append(out.Versions, line)
	}
	return out, nil
}

func (c *call) versionSummary(s *fsm.Secret, v *fsm.Version) wire.VersionSummary {
	out := wire.VersionSummary{
		Version: v.Number, VersionID: v.ID, State: string(c.versionState(v)), Labels: labelsOf(s, v.Number),
		Size: v.Size, ContentType: v.ContentType, KMSKeyID: v.KeyID, KMSKeyVersion: v.KeyVersion,
		CreatedAt: wire.Millis(v.CreatedAt), CreatedBy: v.CreatedBy, RequestID: v.RequestID,
		ExpiresAt: wire.Millis(v.ExpiresAt), DestroyAt: wire.Millis(v.DestroyAt),
		DestroyedAt: wire.Millis(v.DestroyedAt), DestroyedBy: v.DestroyedBy, Reason: v.Reason,
		NotifiedAt: wire.Millis(v.NotifiedAt), Changes: changesOf(v), ChangesOmitted: v.Omitted,
	}
	if v.NotifyBefore != 0 {
		before := wire.Duration(time.Duration(v.NotifyBefore) * time.Millisecond)
		out.NotifyBefore = &before
	}
	out.Compromised = wireCompromised(s, v)
	return out
}

func changesOf(v *fsm.Version) []wire.VersionChange {
	out := []wire.VersionChange{{
		At: wire.Millis(v.CreatedAt), By: v.CreatedBy, RequestID: v.RequestID, What: "created", Reason: v.CreateReason,
	}}
	for _, change := range v.Changes {
		out = append(out, wire.VersionChange{
			At: wire.Millis(change.At), By: change.By, RequestID: change.RequestID, What: change.What, Label: change.Label, Reason: change.Reason,
		})
	}
	return out
}

func destroyVersion(ctx context.Context, c *call, r *wire.DestroyVersionRequest) (*wire.VersionStateResponse, error) {
	if err := checkText("reason", r.Reason); err != nil {
		return nil, err
	}
	var dueAt int64
	if r.Delay != nil && *r.Delay > 0 {
		if time.Duration(*r.Delay) > maxDestroyDelay {
			return nil, fault.Invalid("delay", "must be at most 90d")
		}
		dueAt = c.now.Add(time.Duration(*r.Delay)).UnixMilli()
	}
	if r.Force {
		if r.Reason == "" {
			return nil, fault.Invalid("reason", "must say why a version is destroyed that consumers may still hold")
		}
		if err := c.require("secrets:forceDestroyVersion", iam.Resource{Path: names.Path(r.Path)}); err != nil {
			return nil, err
		}
	}
	meta, err := c.meta(ctx, r.ClientToken, r)
	if err != nil {
		return nil, err
	}
	result, err := c.destroy(ctx, fsm.DestroyVersion{
		Meta: meta, Path: r.Path, Version: *r.Version, Reason: r.Reason, DueAt: dueAt, Force: r.Force,
	})
	if err != nil {
		return nil, err
	}
	return versionAnswer(result), nil
}

func cancelDestroyVersion(ctx context.Context, c *call, r *wire.CancelDestroyVersionRequest) (*wire.VersionStateResponse, error) {
	if err := checkText("reason", r.Reason); err != nil {
		return nil, err
	}
	meta, err := c.meta(ctx, r.ClientToken, r)
	if err != nil {
		return nil, err
	}
	result, err := c.commit(ctx, fsm.CancelDestroy{Meta: meta, Path: r.Path, Version: *r.Version, Reason: r.Reason})
	if err != nil {
		return nil, err
	}
	return versionAnswer(result), nil
}

func versionAnswer(r fsm.Result) *wire.VersionStateResponse {
	return &wire.VersionStateResponse{Path: r.Path, Version: r.Version, State: r.State, DestroyAt: wire.Millis(r.DueAt)}
}
