package engine

import (
	"context"

	"github.com/strongroom/strongroom/api/wire"
	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/iam"
	"github.com/strongroom/strongroom/internal/fault"
	"github.com/strongroom/strongroom/internal/names"
)

func usageOperation() *Operation {
	return operation(row[wire.GetUsageRequest, wire.GetUsageResponse]{
		service: "secrets", name: "getUsage", event: "secrets.get_usage",
		summary: "Count the secrets below a prefix that the caller may see, their stored versions and bytes, and the version-hours of this month.",
		scope: func(_ *call, r *wire.GetUsageRequest) (scope, error) {
			return prefixScope(&r.Prefix)
		},
		run: getUsage,
	})
}

// prefixScope is the scope of what goes over the secrets below a prefix and
// filters them one by one.
func prefixScope(prefix *string) (scope, error) {
	if *prefix == "" {
		*prefix = "/"
	}
	parsed, err := names.ParsePrefix(*prefix)
	if err != nil {
		return scope{}, fault.Invalid("prefix", "%v", err)
	}
	*prefix = parsed
	return scope{prefix: parsed, list: true}, nil
}

const (
	millisPerHour = 60 * 60 * 1000
	// usageStride is how many secrets are counted between two looks at whether
	// anybody still waits for the sum.
	usageStride = 4096
)

// getUsage walks the state that this request is served at, which nobody
// writes, so it holds up nobody.
func getUsage(ctx context.Context, c *call, r *wire.GetUsageRequest) (*wire.GetUsageResponse, error) {
	if err := c.checkConsistency(r.Consistency); err != nil {
		return nil, err
	}
	// The clock of a leader may be behind the time of its last command; an
	// idle cluster has a last command of long ago.
	now := max(c.now.UnixMilli(), c.state.Time())
	out := &wire.GetUsageResponse{Prefix: r.Prefix, CountedAt: wire.Millis(now)}
	seen, millis := 0, int64(0)
	for s, u := range c.state.Usages(r.Prefix, now) {
		if seen++; seen%usageStride == 0 && ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if !c.may("secrets:getUsage", iam.Resource{Path: s.Path}) {
			continue
		}
		if s.State != fsm.SecretPurged {
			out.Secrets++
		}
		out.StoredVersions += u.Versions
		out.StoredBytes += u.Bytes
		millis += u.Millis
	}
	out.VersionHours = float64(millis) / millisPerHour
	for i := range r.Prefix {
		if rule := c.state.PathRule(r.Prefix[:i+1]); r.Prefix[i] == '/' && rule != nil && c.may("secrets:getUsage", iam.Resource{Below: rule.Prefix}) {
			out.Quotas = append(out.Quotas, c.quotas(rule)...)
		}
	}
	return out, nil
}
