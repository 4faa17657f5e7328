package engine

import (
	"context"
	"strings"

	"github.com/strongroom/strongroom/api/wire"
	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/internal/fault"
	"github.com/strongroom/strongroom/internal/names"
)

func checkAlias(alias string) error {
	if _, err := names.ParseKeyRef(alias); err != nil || !strings.HasPrefix(alias, names.AliasPrefix) {
		return fault.Invalid("alias", "must be alias/NAME")
	}
	return nil
}

func setAlias(ctx context.Context, c *call, r *wire.AliasRequest, command func(m fsm.Meta, keyID string) fsm.Command) (*wire.AliasResponse, error) {
	if err := checkAlias(r.Alias); err != nil {
		return nil, err
	}
	key := c.state.KeyByRef(r.KeyID)
	if key == nil {
		return nil, errNoKey(r.KeyID)
	}
	meta, err := c.meta(ctx, r.ClientToken, r)
	if err != nil {
		return nil, err
	}
	if _, err := c.commit(ctx, command(meta, key.ID)); err != nil {
		return nil, err
	}
	return &wire.AliasResponse{Alias: r.Alias, KeyID: key.ID}, nil
}

func deleteAlias(ctx context.Context, c *call, r *wire.DeleteAliasRequest) (*wire.AliasResponse, error) {
	meta, err := c.meta(ctx, r.ClientToken, r)
	if err != nil {
		return nil, err
	}
	result, err := c.commit(ctx, fsm.DeleteAlias{Meta: meta, Alias: r.Alias})
	if err != nil {
		return nil, err
	}
	return &wire.AliasResponse{Alias: r.Alias, KeyID: result.KeyID}, nil
}

func listAliases(_ context.Context, c *call, r *wire.ListAliasesRequest) (*wire.ListAliasesResponse, error) {
	p, err := checkPage(r.Page)
	if err != nil {
		return nil, err
	}
	if err := c.checkConsistency(r.Consistency); err != nil {
		return nil, err
	}
	only := ""
	if r.KeyID != "" {
		s, err := c.findKey("keyId", r.KeyID)
		if err != nil {
			return nil, err
		}
		if err := c.require("kms:listAliases", resource(s)); err != nil {
			return nil, err
		}
		if s.key == nil {
			return nil, errNoKey(r.KeyID)
		}
		only = s.key.ID
	}
	if err := c.authorised(); err != nil {
		return nil, err
	}
	out := &wire.ListAliasesResponse{Aliases: []wire.AliasResponse{}}
	for alias, key := range c.state.Aliases(p.after) {
		if only != "" && key.ID != only || !c.may("kms:listAliases", keyResource(key)) {
			continue
		}
		if len(out.Aliases) == p.limit {
			out.NextCursor = cursor(out.Aliases[p.limit-1].Alias)
			break
		}
		out.Aliases = append(out.Aliases, wire.AliasResponse{Alias: alias, KeyID: key.ID})
	}
	return out, nil
}
