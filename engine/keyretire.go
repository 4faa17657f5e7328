package engine

import (
	"context"

	"github.com/google/uuid"

	"github.com/strongroom/strongroom/api/wire"
	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/internal/fault"
)

// The pace of migrations, in secrets a second.
const (
	defaultJobRate = 100
	maxJobRate     = 10_000
)

func jobRate(given *uint32) (uint32, error) {
	if given == nil {
		return defaultJobRate, nil
	}
	if *given < 1 || *given > maxJobRate {
		return 0, fault.Invalid("ratePerSecond", "must be 1 to %d", maxJobRate)
	}
	return *given, nil
}

// target answers the key that secrets shall move to. Moving them there is a
// right of its own on that key, too.
func (c *call) target(ref string) (*fsm.Key, error) {
	s, err := c.findKey("toKeyId", ref)
	if err != nil {
		return nil, err
	}
	if err := c.require("kms:migrateBoundSecrets", resource(s)); err != nil {
		return nil, err
	}
	if s.key == nil {
		return nil, fault.New(fault.NotFound, "toKeyId: there is no key %s; listKeys shows the keys", ref)
	}
	return s.key, nil
}

func migrateBoundSecrets(ctx context.Context, c *call, r *wire.MigrateBoundSecretsRequest) (*wire.MigrateBoundSecretsResponse, error) {
	rate, err := jobRate(r.RatePerSecond)
	if err != nil {
		return nil, err
	}
	to, err := c.target(r.ToKeyID)
	if err != nil {
		return nil, err
	}
	from := c.state.KeyByRef(r.FromKeyID)
	if from == nil {
		return nil, fault.New(fault.NotFound, "fromKeyId: there is no key %s; listKeys shows the keys", r.FromKeyID)
	}
	meta, err := c.meta(ctx, r.ClientToken, r)
	if err != nil {
		return nil, err
	}
	job := fsm.Job{ID: uuid.NewString(), Kind: fsm.JobMigrate, From: from.ID, To: to.ID, Rate: rate}
	result, err := c.commit(ctx, fsm.CreateJob{Meta: meta, Job: job})
	if err != nil {
		return nil, err
	}
	c.event.Reason = "job " + result.JobID
	return &wire.MigrateBoundSecretsResponse{JobID: result.JobID}, nil
}

func retireKey(ctx context.Context, c *call, r *wire.RetireKeyRequest) (*wire.RetireKeyResponse, error) {
	rate, err := jobRate(r.RatePerSecond)
	if err != nil {
		return nil, err
	}
	key := c.state.KeyByRef(r.KeyID)
	if key == nil {
		return nil, errNoKey(r.KeyID)
	}
	job := fsm.Job{ID: uuid.NewString(), Rate: rate}
	if r.ToKeyID != "" {
		to, err := c.target(r.ToKeyID)
		if err != nil {
			return nil, err
		}
		job.To = to.ID
	}
	meta, err := c.meta(ctx, r.ClientToken, r)
	if err != nil {
		return nil, err
	}
	result, err := c.commit(ctx, fsm.RetireKey{Meta: meta, KeyID: key.ID, Job: job})
	if err != nil {
		return nil, err
	}
	out := &wire.RetireKeyResponse{KeyID: key.ID, State: result.State, JobID: result.JobID}
	if out.JobID != "" {
		c.event.Reason = "job " + out.JobID
	} else {
		out.EmptyIndex = result.Index
	}
	return out, nil
}
