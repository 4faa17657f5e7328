package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/strongroom/strongroom/api/wire"
	"github.com/strongroom/strongroom/audit"
	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/iam"
	"github.com/strongroom/strongroom/internal/fault"
	"github.com/strongroom/strongroom/internal/names"
	"github.com/strongroom/strongroom/internal/secret"
	"github.com/strongroom/strongroom/kms"
)

// maxBatch is how many items a batch may have.
const maxBatch = 100

func getSecretValue(ctx context.Context, c *call, r *wire.GetSecretValueRequest) (*wire.GetSecretValueResponse, error) {
	if _, err := checkVersion("version", r.Version, false); err != nil {
		return nil, err
	}
	if err := checkInstance(r.Instance); err != nil {
		return nil, err
	}
	if err := c.within(fsm.RateValueReads); err != nil {
		return nil, err
	}
	got, err := c.read(ctx, names.Path(r.Path), r.Version, r.Label, reader{r.Instance, r.IfNotVersion})
	if err != nil {
		return nil, err
	}
	c.event.Version = got.Version
	return got, nil
}

// read finds the version, hands it out and opens it. The caller has been
// authorised for path.
func (c *call) read(ctx context.Context, path names.Path, number *uint64, label string, to reader) (*wire.GetSecretValueResponse, error) {
	s, v, err := c.handOut(ctx, path, to, func() (*fsm.Secret, *fsm.Version, error) { return c.readable(path, number, label) })
	if err != nil {
		return nil, err
	}
	maxAge, _ := c.state.Horizon(path)
	out := &wire.GetSecretValueResponse{
		Path: string(path), Version: v.Number, VersionID: v.ID, Labels: labelsOf(s, v.Number), ContentType: v.ContentType,
		CreatedAt: wire.Millis(v.CreatedAt), ExpiresAt: wire.Millis(v.ExpiresAt), Cache: wire.Cache{MaxAge: millis(maxAge)},
		KMS: wire.KeyUse{KeyID: v.KeyID, KeyVersion: v.KeyVersion}, Compromised: v.Compromised != nil,
	}
	if to.uses != nil && *to.uses == v.Number {
		out.NotModified = true
		return out, nil
	}
	if out.Value, err = c.openVersion(ctx, s, v); err != nil {
		c.takeBack()
		return nil, err
	}
	return out, nil
}

// readable answers the version that is asked for, if it may be read.
func (c *call) readable(path names.Path, number *uint64, label string) (*fsm.Secret, *fsm.Version, error) {
	s, err := c.liveSecret(path)
	if err != nil {
		return nil, nil, err
	}
	v, err := c.pick(s, number, label)
	if err != nil {
		return nil, nil, err
	}
	if state := c.readState(v); state != fsm.VersionActive {
		return nil, nil, fault.New(fault.VersionNotActive, "version: version %d is %s; listSecretVersions shows which can be read", v.Number, state).
			With("state", string(state)).With("version", v.Number)
	}
	return s, v, nil
}

func millis(n int64) wire.Duration { return wire.Duration(time.Duration(n) * time.Millisecond) }

// readState is active for what may be read. A version that waits for its
// destruction is read until then, unless it was disabled or has expired: to be
// destroyed soon gives nobody anything back.
func (c *call) readState(v *fsm.Version) fsm.VersionState {
	switch {
	case v.State == fsm.VersionPendingDestroy && v.Disabled:
		return fsm.VersionDisabled
	case v.State == fsm.VersionPendingDestroy && v.ExpiresAt != 0 && c.now.UnixMilli() >= v.ExpiresAt:
		return fsm.VersionExpired
	case v.State == fsm.VersionPendingDestroy:
		return fsm.VersionActive
	}
	return c.versionState(v)
}

// openVersion opens one version and takes charge of its plaintext. The state
// of the key is checked at the index that this request is served at, before
// the HSM is asked.
func (c *call) openVersion(ctx context.Context, s *fsm.Secret, v *fsm.Version) (*wire.Value, error) {
	if err := c.noteGlassRead(ctx, s, v); err != nil {
		return nil, err
	}
	plain, err := c.openRead(ctx, s, v)
	if err != nil {
		return nil, err
	}
	return &wire.Value{Bytes: c.reveal(plain)}, nil
}

// openRead opens a version for a reader: by a data key in memory if there is
// one, which its events say, unless a path rule wants the HSM asked each time.
func (c *call) openRead(ctx context.Context, s *fsm.Secret, v *fsm.Version) (secret.Bytes, error) {
	if c.engine.KMS.DataKeys() == nil || c.state.RuleFor(s.Path).HSMEachRead {
		return c.openOnly(ctx, s, v)
	}
	key, err := c.keyOf(v)
	if err != nil {
		return secret.Bytes{}, err
	}
	plain, cached, err := c.engine.KMS.OpenCached(ctx, key, sealedAt(s, v), sealedOf(v), func() bool {
		return keptSealed(c.engine.Log.Local(), sealedAt(s, v), v.KeyID, v.DataKey)
	})
	c.noteKMS("kms.decrypt", key, v.KeyVersion, s.Path, v.Number, err)
	if err == nil {
		c.markCached(cached)
	}
	return plain, err
}

// openOnly is openVersion for a plaintext that no answer will hold: the
// caller wipes it.
func (c *call) openOnly(ctx context.Context, s *fsm.Secret, v *fsm.Version) (secret.Bytes, error) {
	key, err := c.keyOf(v)
	if err != nil {
		return secret.Bytes{}, err
	}
	plain, err := c.engine.KMS.OpenValue(ctx, key, sealedAt(s, v), sealedOf(v))
	c.noteKMS("kms.decrypt", key, v.KeyVersion, s.Path, v.Number, err)
	return plain, err
}

// keyOf answers the key that a version is bound to, and notes its use.
func (c *call) keyOf(v *fsm.Version) (*fsm.Key, error) {
	key := c.state.Key(v.KeyID)
	if key == nil {
		return nil, fault.New(fault.Internal, "version %d is bound to key %s, which is not there", v.Number, v.KeyID)
	}
	c.noteUse(key, fsm.KeyOpen)
	return key, nil
}

func sealedAt(s *fsm.Secret, v *fsm.Version) kms.Identity {
	return kms.Identity{Path: s.Path, SecretID: s.ID, Version: v.Number}
}

func sealedOf(v *fsm.Version) kms.Sealed {
	return kms.Sealed{Box: v.Sealed, DataKey: v.DataKey, KeyVersion: v.KeyVersion}
}

// pick answers the version that is asked for.
func (c *call) pick(s *fsm.Secret, number *uint64, label string) (*fsm.Version, error) {
	var want uint64
	switch {
	case number != nil && label != "":
		return nil, fault.Invalid("label", "goes without version; give one of the two")
	case number != nil:
		want = *number
	case label != "":
		if err := checkName("label", label); err != nil {
			return nil, err
		}
		if want = s.Labels[label]; want == 0 {
			return nil, fault.New(fault.NotFound, "label: no version of %s has the label %s", s.Path, label)
		}
	case s.Current == 0:
		return nil, fault.New(fault.NotFound, "path: %s has no current version; putSecretValue adds one", s.Path)
	default:
		want = s.Current
	}
	v := c.state.Version(s.Path, want)
	if v == nil {
		return nil, fault.New(fault.NotFound, "version: %s has no version %d; the latest is %d", s.Path, want, s.Latest)
	}
	return v, nil
}

// noteKMS adds the inner event of a data key that was wrapped or opened.
func (c *call) noteKMS(event string, key *fsm.Key, keyVersion uint32, path names.Path, version uint64, err error) {
	if keyVersion == 0 {
		keyVersion = key.Current
	}
	e := audit.Event{Event: event, KeyID: key.ID, Path: string(path), Version: version, Index: c.index}
	e.Outcome, e.Code = outcome(err)
	c.inner = append(c.inner, e)
	c.event.KMS = append(c.event.KMS, audit.KMSEvent{Event: event, KeyID: key.ID, KeyVersion: keyVersion})
}

func batchScope(c *call, r *wire.BatchGetSecretValueRequest) (scope, error) {
	if len(r.Items) == 0 || len(r.Items) > maxBatch {
		return scope{}, fault.Invalid("items", "must have 1 to %d entries", maxBatch)
	}
	if err := checkInstance(r.Instance); err != nil {
		return scope{}, err
	}
	for i, item := range r.Items {
		if _, err := checkPath(fmt.Sprintf("items[%d].path", i), item.Path); err != nil {
			return scope{}, err
		}
		if _, err := checkVersion(fmt.Sprintf("items[%d].version", i), item.Version, false); err != nil {
			return scope{}, err
		}
	}
	return scope{list: true}, nil
}

// batchGetSecretValue is getSecretValue for each item: each is authorised by
// itself and is an event of its own.
func batchGetSecretValue(ctx context.Context, c *call, r *wire.BatchGetSecretValueRequest) (*wire.BatchGetSecretValueResponse, error) {
	out := &wire.BatchGetSecretValueResponse{Results: make([]wire.BatchResult, 0, len(r.Items))}
	for _, item := range r.Items {
		got, err := c.readItem(ctx, item, r.Instance)
		if err != nil {
			kind := fault.KindOf(err)
			if kind == fault.HsmUnavailable || kind == fault.Internal || c.follow != nil && kind == fault.NoLeader {
				return nil, err // not the item's fault: the whole batch may be retried
			}
			out.Results = append(out.Results, wire.BatchResult{Path: item.Path, Error: itemError(err)})
			continue
		}
		out.Results = append(out.Results, wire.BatchResult{Path: item.Path, GetSecretValueResponse: got})
	}
	return out, nil
}

func (c *call) readItem(ctx context.Context, item wire.BatchItem, instance string) (got *wire.GetSecretValueResponse, err error) {
	path := names.Path(item.Path)
	batch := c.event
	c.event = audit.Event{Event: "secrets.get_value", Path: item.Path, Index: c.index}
	if item.Version != nil {
		c.event.Version = *item.Version
	}
	if err = c.require("secrets:getSecretValue", iam.Resource{Path: path}); err == nil {
		err = c.within(fsm.RateValueReads)
	}
	if err == nil {
		if got, err = c.read(ctx, path, item.Version, item.Label, reader{instance, item.IfNotVersion}); err == nil {
			c.event.Version = got.Version
		}
	}
	c.event.Outcome, c.event.Code = outcome(err)
	c.items = append(c.items, c.event)
	batch.BreakGlassID = cmp.Or(batch.BreakGlassID, c.event.BreakGlassID)
	c.event = batch
	return got, err
}

func itemError(err error) *wire.ItemError {
	var f *fault.Error
	if !errors.As(err, &f) {
		return &wire.ItemError{Code: string(fault.Internal), Message: "internal error"}
	}
	return &wire.ItemError{Code: string(f.Kind), Message: f.Message}
}

// keyField renames the field of a key error to the one of the request.
func keyField(err error, field string) error {
	var f *fault.Error
	if !errors.As(err, &f) || f.Kind != fault.KeyNotActive {
		return err
	}
	out := *f
	out.Message = field + out.Message[len("keyId"):]
	return &out
}
