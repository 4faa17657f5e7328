package engine

import (
	"context"
	"time"

	"github.com/strongroom/strongroom/api/wire"
	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/internal/fault"
)

func rateLimitOperations() []*Operation {
	return []*Operation{
		operation(row[wire.PutRateLimitRequest, wire.RateLimitResponse]{
			service: "iam", name: "putRateLimit", event: "iam.put_rate_limit", write: true,
			summary: "Limit how often each principal, or each source address, reads values, fails to authenticate, or asks for anything.",
			scope:   func(_ *call, r *wire.PutRateLimitRequest) (scope, error) { return nameScope("name", r.Name) },
			run:     putRateLimit,
		}),
		operation(row[wire.ListRequest, wire.ListRateLimitsResponse]{
			service: "iam", name: "listRateLimits", event: "iam.list_rate_limits",
			summary: "List rate limits.",
			scope:   func(*call, *wire.ListRequest) (scope, error) { return scope{}, nil },
			run:     listRateLimits,
		}),
		operation(row[wire.NameChangeRequest, wire.NameResponse]{
			service: "iam", name: "deleteRateLimit", event: "iam.delete_rate_limit", write: true,
			summary: "Delete a rate limit.",
			scope:   func(_ *call, r *wire.NameChangeRequest) (scope, error) { return nameScope("name", r.Name) },
			run: func(ctx context.Context, c *call, r *wire.NameChangeRequest) (*wire.NameResponse, error) {
				return named(ctx, c, r, func(m fsm.Meta) fsm.Command { return fsm.DeleteRateLimit{Meta: m, Name: r.Name} })
			},
		}),
	}
}

func putRateLimit(ctx context.Context, c *call, r *wire.PutRateLimitRequest) (*wire.RateLimitResponse, error) {
	limit := fsm.RateLimit{
		Name: r.Name, Kind: r.Kind, Per: r.Per, Principals: r.Principals, Groups: r.Groups, SourceCIDRs: r.SourceCIDRs,
		Count: r.Count, Period: time.Second.Milliseconds(), Burst: r.Count, Reason: r.Reason,
	}
	if r.Period != nil {
		limit.Period = time.Duration(*r.Period).Milliseconds()
	}
	if r.Burst != nil {
		limit.Burst = *r.Burst
	}
	if limit.Name == builtInLimit {
		return nil, fault.New(fault.Conflict, "name: %s is the limit that is always there; give yours another name", builtInLimit)
	}
	if _, err := parseCIDRs("sourceCidrs", r.SourceCIDRs); err != nil {
		return nil, err
	}
	if err := checkText("reason", r.Reason); err != nil {
		return nil, err
	}
	meta, err := c.meta(ctx, r.ClientToken, r)
	if err != nil {
		return nil, err
	}
	result, err := c.commit(ctx, fsm.PutRateLimit{Meta: meta, Limit: limit, Expected: r.ExpectedRevision})
	if err != nil {
		return nil, err
	}
	return &wire.RateLimitResponse{Name: r.Name, Revision: result.Revision}, nil
}

// builtInLimit is the limit on failed authentications that needs no setting.
const builtInLimit = "built-in"

func listRateLimits(_ context.Context, c *call, r *wire.ListRequest) (*wire.ListRateLimitsResponse, error) {
	p, err := checkPage(r.Page)
	if err != nil {
		return nil, err
	}
	out := &wire.ListRateLimitsResponse{RateLimits: []wire.RateLimit{}}
	add := func(l wire.RateLimit) bool {
		if n := len(out.RateLimits); n == p.limit {
			out.NextCursor = cursor(out.RateLimits[n-1].Name)
			return false
		}
		out.RateLimits = append(out.RateLimits, l)
		return true
	}
	own := wire.RateLimit{
		Name: builtInLimit, Kind: fsm.RateFailures, Per: "source", Count: failureRate, Period: wire.Duration(time.Second), Burst: failureBurst, BuiltIn: true,
	}
	told := p.after >= builtInLimit
	for l := range c.state.RateLimits(p.after) {
		if !told && l.Name > builtInLimit {
			told = true
			if !add(own) {
				return out, c.checkConsistency(r.Consistency)
			}
		}
		if !add(rateLimit(l)) {
			return out, c.checkConsistency(r.Consistency)
		}
	}
	if !told {
		add(own)
	}
	return out, c.checkConsistency(r.Consistency)
}

func rateLimit(l *fsm.RateLimit) wire.RateLimit {
	return wire.RateLimit{
		Name: l.Name, Revision: l.Revision, Kind: l.Kind, Per: l.Per, Principals: l.Principals, Groups: l.Groups, SourceCIDRs: l.SourceCIDRs,
		Count: l.Count, Period: wire.Duration(time.Duration(l.Period) * time.Millisecond), Burst: l.Burst, Reason: l.Reason,
		UpdatedAt: wire.Millis(l.UpdatedAt), UpdatedBy: l.UpdatedBy, RequestID: l.RequestID,
	}
}
