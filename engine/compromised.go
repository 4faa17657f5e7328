package engine

import (
	"context"
	"slices"
	"strconv"
	"strings"

	"github.com/strongroom/strongroom/api/wire"
	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/iam"
	"github.com/strongroom/strongroom/internal/fault"
	"github.com/strongroom/strongroom/internal/names"
)

func compromisedOperations() []*Operation {
	return []*Operation{
		operation(row[wire.MarkCompromisedRequest, wire.MarkCompromisedResponse]{
			service: "secrets", name: "markCompromised", event: "secrets.mark_compromised", write: true,
			summary: "Mark versions that somebody has who should not. They can still be read; whoever reads them is told.",
			scope: func(_ *call, r *wire.MarkCompromisedRequest) (scope, error) {
				if r.Reason == "" {
					return scope{}, fault.Invalid("reason", "is missing; say who has them, and why you think so")
				}
				if err := checkText("reason", r.Reason); err != nil {
					return scope{}, err
				}
				return pathScope(r.Path)
			},
			run: markCompromised,
		}),
		operation(row[wire.ListRequest, wire.ListCompromisedResponse]{
			service: "secrets", name: "listCompromised", event: "secrets.list_compromised", action: describe,
			summary: "List the versions that are marked as compromised and not destroyed: what is left to rotate.",
			scope:   func(*call, *wire.ListRequest) (scope, error) { return scope{list: true}, nil },
			run:     listCompromised,
		}),
	}
}

func markCompromised(ctx context.Context, c *call, r *wire.MarkCompromisedRequest) (*wire.MarkCompromisedResponse, error) {
	meta, err := c.meta(ctx, r.ClientToken, r)
	if err != nil {
		return nil, err
	}
	versions := slices.Compact(slices.Sorted(slices.Values(r.Versions)))
	result, err := c.commit(ctx, fsm.MarkCompromised{Meta: meta, Path: r.Path, Versions: versions, Reason: r.Reason, Clear: r.Clear})
	if err != nil {
		return nil, err
	}
	return &wire.MarkCompromisedResponse{Path: r.Path, Marked: result.Done}, nil
}

func listCompromised(_ context.Context, c *call, r *wire.ListRequest) (*wire.ListCompromisedResponse, error) {
	p, err := checkPage(r.Page)
	if err != nil {
		return nil, err
	}
	path, number, err := versionPlace(p.after)
	if err != nil {
		return nil, err
	}
	out := &wire.ListCompromisedResponse{Versions: []wire.CompromisedVersion{}}
	for s, v := range c.state.Compromised(path, number) {
		if !c.may(describe, iam.Resource{Path: s.Path}) {
			continue
		}
		if len(out.Versions) == p.limit {
			last := out.Versions[p.limit-1]
			out.NextCursor = placeOfVersion(last.Path, last.Version)
			break
		}
		out.Versions = append(out.Versions, wire.CompromisedVersion{
			Path: string(s.Path), Version: v.Number, State: string(c.versionState(v)), Current: s.Current == v.Number, Rotates: s.Rotation != nil,
			Compromised: *wireCompromised(s, v),
		})
	}
	return out, c.checkConsistency(r.Consistency)
}

// wireCompromised answers the mark of a version, nil if it has none.
func wireCompromised(s *fsm.Secret, v *fsm.Version) *wire.Compromised {
	m := v.Compromised
	if m == nil {
		return nil
	}
	return &wire.Compromised{At: wire.Millis(m.At), By: m.By, Reason: m.Reason, RequestID: m.RequestID, Mended: v.Mended(s)}
}

// placeOfVersion is a cursor in an order of paths and versions.
func placeOfVersion(path string, number uint64) string {
	return cursor(path + " " + strconv.FormatUint(number, 10))
}

// versionPlace is the way back. A path has no space.
func versionPlace(after string) (names.Path, uint64, error) {
	if after == "" {
		return "", 0, nil
	}
	text, digits, _ := strings.Cut(after, " ")
	path, err := names.ParsePath(text)
	number, bad := strconv.ParseUint(digits, 10, 64)
	if err != nil || bad != nil {
		return "", 0, errCursor()
	}
	return path, number, nil
}
