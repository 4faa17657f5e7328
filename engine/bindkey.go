package engine

import (
	"context"

	"github.com/strongroom/strongroom/api/wire"
	"github.com/strongroom/strongroom/audit"
	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/iam"
	"github.com/strongroom/strongroom/internal/names"
)

func bindKeyOperation() *Operation {
	return operation(row[wire.BindKeyRequest, wire.BindKeyResponse]{
		service: "secrets", name: "bindKey", event: "secrets.bind_key", write: true,
		more:    []iam.Action{"kms:encrypt"},
		summary: "Bind a secret to another KMS key: the data keys of all its live versions are sealed anew, its values are not touched.",
		scope:   func(_ *call, r *wire.BindKeyRequest) (scope, error) { return pathScope(r.Path) },
		run:     bindKey,
	})
}

// bindKey moves one secret. Each round moves what is under one other key;
// the last one, which also makes to the key of the next versions, carries the
// client token. A put that comes in between is found by the next round.
func bindKey(ctx context.Context, c *call, r *wire.BindKeyRequest) (*wire.BindKeyResponse, error) {
	path := names.Path(r.Path)
	target, err := c.findKey("kmsKeyId", r.KMSKeyID)
	if err != nil {
		return nil, err
	}
	if err := c.require("kms:encrypt", resource(target)); err != nil {
		return nil, err
	}
	meta, err := c.meta(ctx, r.ClientToken, r)
	if err != nil {
		return nil, err
	}
	if done, err := c.replayed(meta); done != nil || err != nil {
		return bindAnswer(r, done), err
	}
	unlock, err := c.engine.locks.lock(ctx, path)
	if err != nil {
		return nil, err
	}
	defer unlock()
	moved := 0
	for range maxRaces {
		if err := c.refresh(ctx); err != nil {
			if moved > 0 {
				return nil, uncertain(err, meta)
			}
			return nil, err
		}
		s, err := c.secretAt(path)
		if err != nil {
			return nil, err
		}
		to, err := c.bindable(r.KMSKeyID)
		if err != nil {
			return nil, err
		}
		from, last := c.elsewhere(s, to.ID)
		if from == "" {
			return &wire.BindKeyResponse{Path: r.Path, KMSKeyID: to.ID, Versions: moved}, nil
		}
		n, err := c.moveOnce(ctx, s, c.state.Key(from), to, meta, last)
		if err != nil {
			return nil, err
		}
		moved += n
	}
	return nil, errRaces()
}

func bindAnswer(r *wire.BindKeyRequest, done *fsm.Result) *wire.BindKeyResponse {
	if done == nil {
		return nil
	}
	return &wire.BindKeyResponse{Path: r.Path, KMSKeyID: done.KeyID, Versions: done.Done}
}

// elsewhere answers a key other than to that s still needs, its own key last.
func (c *call) elsewhere(s *fsm.Secret, to string) (keyID string, last bool) {
	for v := range c.state.Versions(s.Path) {
		if v.State != fsm.VersionDestroyed && v.KeyID != to && v.KeyID != s.KeyID {
			return v.KeyID, false
		}
	}
	for v := range c.state.Versions(s.Path) {
		if v.State != fsm.VersionDestroyed && v.KeyID == s.KeyID && v.KeyID != to {
			return s.KeyID, true
		}
	}
	if s.KeyID != to {
		return s.KeyID, true
	}
	return "", false
}

func (c *call) moveOnce(ctx context.Context, s *fsm.Secret, from, to *fsm.Key, meta fsm.Meta, last bool) (int, error) {
	if !last {
		meta.ClientToken, meta.Operation, meta.RequestHash = "", "", nil
	}
	c.noteUse(from, fsm.KeyOpen)
	c.noteUse(to, fsm.KeyProtect)
	items, events, err := c.engine.rewrapSecret(ctx, c.state, from, to, s.Path, meta, stepItems)
	for _, e := range events {
		c.inner = append(c.inner, e)
		key := from
		if e.KeyID == to.ID {
			key = to
		}
		c.event.KMS = append(c.event.KMS, audit.KMSEvent{Event: e.Event, KeyID: e.KeyID, KeyVersion: key.Current})
	}
	if err != nil {
		return 0, keyField(err, "kmsKeyId")
	}
	command := fsm.RewrapVersions{Meta: meta, From: from.ID, To: to.ID, Items: items}
	if last {
		command.Paths = []string{string(s.Path)}
	}
	result, err := c.commit(ctx, command)
	if err != nil {
		return 0, err
	}
	if result.Done < len(items) {
		c.engine.Logger.Debug("versions changed while their key did", "path", s.Path, "left", len(items)-result.Done)
	}
	return result.Done, nil
}
