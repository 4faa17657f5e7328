package engine

import (
	"context"
	"crypto/sha256"

	"github.com/google/uuid"

	"github.com/strongroom/strongroom/api/wire"
	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/iam"
	"github.com/strongroom/strongroom/internal/fault"
	"github.com/strongroom/strongroom/internal/names"
	"github.com/strongroom/strongroom/kms"
)

func copyOperation() *Operation {
	return operation(row[wire.CopySecretRequest, wire.CopySecretResponse]{
		service: "secrets", name: "copySecret", event: "secrets.copy", write: true,
		action:  "secrets:getSecretValue",
		more:    []iam.Action{"secrets:createSecret"},
		summary: "Copy a secret with all its live versions, sealed anew under the new path, without showing any.",
		scope: func(_ *call, r *wire.CopySecretRequest) (scope, error) {
			s, err := pathScope(r.Path)
			if err != nil {
				return s, err
			}
			to, err := checkPath("toPath", r.ToPath)
			s.subject = "to " + string(to)
			return s, err
		},
		run: copySecret,
	})
}

// maxCopied is how many versions fit into one command, however small.
const maxCopied = 4096

// copySecret opens each live version and seals it under the new identity;
// the path, the id and the number are in the seal. Apply takes the copy only
// if the source is still what was opened here.
func copySecret(ctx context.Context, c *call, r *wire.CopySecretRequest) (*wire.CopySecretResponse, error) {
	from, to := names.Path(r.Path), names.Path(r.ToPath)
	var tags map[string]string
	if source := c.state.Secret(from); source != nil {
		tags = source.Tags
	}
	if err := c.require("secrets:createSecret", iam.Resource{Path: to, Tags: c.newTags(to, tags)}); err != nil {
		return nil, err
	}
	meta, err := c.meta(ctx, r.ClientToken, r)
	if err != nil {
		return nil, err
	}
	if done, err := c.replayed(meta); done != nil || err != nil {
		return copyAnswer(done), err
	}
	unlock, err := c.engine.locks.lock(ctx, to)
	if err != nil {
		return nil, err
	}
	defer unlock()
	for range maxRaces {
		if err := c.refresh(ctx); err != nil {
			return nil, err
		}
		result, err := c.copyOnce(ctx, r, from, to, meta)
		if err != nil {
			return nil, err
		}
		if result.Refused == nil {
			return copyAnswer(&result), nil
		}
		if !result.Refused.Race {
			return nil, c.refused(result.Refused)
		}
	}
	return nil, errRaces()
}

func (c *call) copyOnce(ctx context.Context, r *wire.CopySecretRequest, from, to names.Path, meta fsm.Meta) (fsm.Result, error) {
	source, err := c.liveSecret(from)
	if err != nil {
		return fsm.Result{}, err
	}
	old := c.state.Secret(to)
	taken := old != nil && (old.State != fsm.SecretPurged || !r.ReuseRetiredPath)
	if taken || c.state.CheckNewPath(to, source.Tags) != nil {
		// Apply has the words for why; nothing need be opened to hear them. If
		// the way is free by then, it takes no copy without versions, either.
		return c.propose(ctx, fsm.CopySecret{
			Meta: meta, Path: r.ToPath, SecretID: uuid.NewString(), KeyID: source.KeyID, ReuseRetired: r.ReuseRetiredPath, From: r.Path, FromID: source.ID,
		})
	}
	ref := r.KMSKeyID
	if ref == "" {
		ref = source.KeyID
	}
	key, err := c.bindable(ref)
	if err != nil {
		return fsm.Result{}, err
	}
	live, err := c.copiable(from)
	if err != nil {
		return fsm.Result{}, err
	}
	command := fsm.CopySecret{
		Meta: meta, Path: r.ToPath, SecretID: uuid.NewString(), KeyID: key.ID, ReuseRetired: r.ReuseRetiredPath, From: r.Path, FromID: source.ID,
	}
	for i, v := range live {
		item, err := c.copyVersion(ctx, source, v, key, kms.Identity{Path: to, SecretID: command.SecretID, Version: uint64(i) + 1})
		if err != nil {
			return fsm.Result{}, err
		}
		command.Versions = append(command.Versions, item)
	}
	result, err := c.propose(ctx, command)
	if fault.Is(err, fault.TooLarge) {
		return result, errCopyTooLarge(from)
	}
	return result, err
}

// copiable answers the live versions at path, oldest first. What cannot fit
// into one command is refused before anything is opened.
func (c *call) copiable(path names.Path) ([]*fsm.Version, error) {
	var live []*fsm.Version
	size := 0
	for v := range c.state.Versions(path) {
		if v.State == fsm.VersionDestroyed {
			continue
		}
		live = append(live, v)
		size += len(v.Sealed) + len(v.DataKey) + len(v.Fingerprint)
	}
	if size > fsm.MaxCommandBytes || len(live) > maxCopied {
		return nil, errCopyTooLarge(path)
	}
	for i, j := 0, len(live)-1; i < j; i, j = i+1, j-1 {
		live[i], live[j] = live[j], live[i]
	}
	return live, nil
}

func errCopyTooLarge(path names.Path) error {
	return fault.New(fault.TooLarge, "path: the live versions of %s are more than one command of the log may hold; destroy those that are not needed, then copy", path)
}

// copyVersion opens v and seals it as id. The plaintext lives no longer than
// this.
func (c *call) copyVersion(ctx context.Context, source *fsm.Secret, v *fsm.Version, key *fsm.Key, id kms.Identity) (fsm.CopiedVersion, error) {
	// Whoever may read the copy without a session has read the source.
	if err := c.noteGlassRead(ctx, source, v); err != nil {
		return fsm.CopiedVersion{}, err
	}
	plain, err := c.openOnly(ctx, source, v)
	if err != nil {
		return fsm.CopiedVersion{}, err
	}
	defer plain.Wipe()
	sealed, err := c.seal(ctx, key, id.Path, id.SecretID, fsm.NewVersion{Number: id.Version}, &wire.Value{Bytes: plain})
	if err != nil {
		return fsm.CopiedVersion{}, err
	}
	sum := sha256.Sum256(v.DataKey)
	return fsm.CopiedVersion{
		Source: v.Number, Old: sum[:], VersionID: uuid.NewString(), KeyVersion: sealed.KeyVersion,
		Sealed: sealed.Sealed, DataKey: sealed.DataKey, Fingerprint: sealed.Fingerprint,
	}, nil
}

func copyAnswer(r *fsm.Result) *wire.CopySecretResponse {
	if r == nil {
		return nil
	}
	return &wire.CopySecretResponse{Path: r.Path, SecretID: r.SecretID, KMSKeyID: r.KeyID, Versions: r.Done, CurrentVersion: r.Version}
}
