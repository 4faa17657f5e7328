package engine

import (
	"context"

	"github.com/strongroom/strongroom/api/wire"
	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/iam"
	"github.com/strongroom/strongroom/internal/fault"
	"github.com/strongroom/strongroom/internal/names"
)

// versionLifeOperations change which version readers get, whether one may be
// read, and what is said about a secret. None touches a value.
func versionLifeOperations() []*Operation {
	state := func(name, event, summary string, disable bool) *Operation {
		return operation(row[wire.VersionChangeRequest, wire.VersionStateResponse]{
			service: "secrets", name: name, event: event, write: true, action: "secrets:updateVersion", summary: summary,
			scope: func(_ *call, r *wire.VersionChangeRequest) (scope, error) { return versionScope(r.Path, r.Version) },
			run: func(ctx context.Context, c *call, r *wire.VersionChangeRequest) (*wire.VersionStateResponse, error) {
				return setVersionState(ctx, c, r, disable)
			},
		})
	}
	return []*Operation{
		operation(row[wire.SetVersionLabelRequest, wire.VersionLabelResponse]{
			service: "secrets", name: "setVersionLabel", event: "secrets.label_version", write: true, action: "secrets:labelVersion",
			summary: "Put a label on a version. The label current activates it: for an older version, the rollback.",
			scope: func(_ *call, r *wire.SetVersionLabelRequest) (scope, error) {
				s, err := versionScope(r.Path, r.Version)
				return labelled(s, err, "label ", r.Label)
			},
			run: setVersionLabel,
		}),
		operation(row[wire.RemoveVersionLabelRequest, wire.VersionLabelResponse]{
			service: "secrets", name: "removeVersionLabel", event: "secrets.label_version", write: true, action: "secrets:labelVersion",
			summary: "Take a label of people from the version that has it.",
			scope: func(_ *call, r *wire.RemoveVersionLabelRequest) (scope, error) {
				s, err := pathScope(r.Path)
				return labelled(s, err, "remove label ", r.Label)
			},
			run: removeVersionLabel,
		}),
		state("disableVersion", "secrets.disable_version", "Keep a version from being read until enableVersion; the current one, too.", true),
		state("enableVersion", "secrets.enable_version", "Let a disabled version be read again.", false),
		operation(row[wire.UpdateSecretRequest, wire.DescribeSecretResponse]{
			service: "secrets", name: "updateSecret", event: "secrets.update", write: true,
			more:    []iam.Action{"secrets:putSecretValue", "secrets:getSecretValue"},
			summary: "Change description, tags and rotation of a secret.",
			scope:   func(_ *call, r *wire.UpdateSecretRequest) (scope, error) { return pathScope(r.Path) },
			run:     updateSecret,
		}),
	}
}

// labelled adds the label to what a request is about, so that the event names
// it, also that of a denial.
func labelled(s scope, err error, verb, label string) (scope, error) {
	if err != nil {
		return s, err
	}
	s.subject = verb + label
	return s, checkName("label", label)
}

func setVersionLabel(ctx context.Context, c *call, r *wire.SetVersionLabelRequest) (*wire.VersionLabelResponse, error) {
	if err := checkText("reason", r.Reason); err != nil {
		return nil, err
	}
	meta, err := c.meta(ctx, r.ClientToken, r)
	if err != nil {
		return nil, err
	}
	result, err := c.commit(ctx, fsm.SetVersionLabel{
		Meta: meta, Path: r.Path, Version: *r.Version, Label: r.Label, Expected: r.ExpectedVersion, Reason: r.Reason,
	})
	if err != nil {
		return nil, err
	}
	return c.labelAnswer(ctx, r.Label, result, meta)
}

func removeVersionLabel(ctx context.Context, c *call, r *wire.RemoveVersionLabelRequest) (*wire.VersionLabelResponse, error) {
	number, err := checkVersion("version", r.Version, false)
	if err != nil {
		return nil, err
	}
	if err := checkText("reason", r.Reason); err != nil {
		return nil, err
	}
	meta, err := c.meta(ctx, r.ClientToken, r)
	if err != nil {
		return nil, err
	}
	result, err := c.commit(ctx, fsm.RemoveVersionLabel{
		Meta: meta, Path: r.Path, Label: r.Label, Version: number, Expected: r.ExpectedVersion, Reason: r.Reason,
	})
	if err != nil {
		return nil, err
	}
	c.event.Version = result.Version
	return c.labelAnswer(ctx, r.Label, result, meta)
}

// labelAnswer tells all labels as they are after the change.
func (c *call) labelAnswer(ctx context.Context, label string, result fsm.Result, meta fsm.Meta) (*wire.VersionLabelResponse, error) {
	if err := c.afterCommit(ctx); err != nil {
		return nil, uncertain(err, meta)
	}
	out := &wire.VersionLabelResponse{Path: result.Path, Version: result.Version, Label: label, Labels: map[string]uint64{}}
	if s := c.state.Secret(names.Path(result.Path)); s != nil && s.ID == result.SecretID {
		out.CurrentVersion = s.Current
		for name, number := range s.Labels {
			out.Labels[name] = number
		}
	}
	return out, nil
}

func setVersionState(ctx context.Context, c *call, r *wire.VersionChangeRequest, disable bool) (*wire.VersionStateResponse, error) {
	if err := checkText("reason", r.Reason); err != nil {
		return nil, err
	}
	meta, err := c.meta(ctx, r.ClientToken, r)
	if err != nil {
		return nil, err
	}
	result, err := c.commit(ctx, fsm.SetVersionState{Meta: meta, Path: r.Path, Version: *r.Version, Disable: disable, Reason: r.Reason})
	if err != nil {
		return nil, err
	}
	return versionAnswer(result), nil
}

func updateSecret(ctx context.Context, c *call, r *wire.UpdateSecretRequest) (*wire.DescribeSecretResponse, error) {
	if r.Description == nil && r.Tags == nil && r.Rotation == nil {
		return nil, fault.Invalid("description", "or tags or rotation is to be given; there is nothing to change")
	}
	if r.Description != nil {
		if err := checkText("description", *r.Description); err != nil {
			return nil, err
		}
	}
	if err := checkTags(r.Tags); err != nil {
		return nil, err
	}
	if r.Tags != nil {
		// Whoever may change a secret only while it has some tags must not give
		// it others, and then be allowed what those allow.
		if err := c.require("secrets:updateSecret", iam.Resource{Path: names.Path(r.Path), Tags: r.Tags}); err != nil {
			return nil, err
		}
	}
	command := fsm.UpdateSecret{Path: r.Path, Description: r.Description, SetTags: r.Tags != nil, Tags: r.Tags}
	var err error
	if r.Rotation != nil {
		if command.Rotation, command.NextRotationAt, err = c.rotationSettings(names.Path(r.Path), *r.Rotation); err != nil {
			return nil, err
		}
	}
	if command.Meta, err = c.meta(ctx, r.ClientToken, r); err != nil {
		return nil, err
	}
	if _, err := c.commit(ctx, command); err != nil {
		return nil, err
	}
	if err := c.refresh(ctx); err != nil {
		return nil, uncertain(err, command.Meta)
	}
	return describeSecret(ctx, c, &wire.PathRequest{Path: r.Path})
}
