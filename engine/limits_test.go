package engine_test

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/api/wire"
	"github.com/strongroom/strongroom/audit"
	"github.com/strongroom/strongroom/internal/fault"
)

func (w *world) refusedFor(err error) (limit, retryAfter string) {
	w.t.Helper()
	w.refused(fault.RateLimited, "", err)
	var f *fault.Error
	require.ErrorAs(w.t, err, &f)
	return fmt.Sprint(f.Details["limit"]), fmt.Sprint(f.Details["retryAfter"])
}

func TestReadsOfValuesAreLimited(t *testing.T) {
	w, read := reader(t)
	ann, bob := w.principal("ann", readWeb), w.principal("bob", readWeb)
	w.ok("iam/putRateLimit", `{"name":"reads","kind":"valueReads","per":"principal","principals":["ann","bob"],"count":60,"period":"60s","burst":3}`)
	for range 3 {
		require.NoError(t, read(ann))
	}
	err := read(ann)
	limit, after := w.refusedFor(err)
	require.Equal(t, "reads", limit)
	require.Equal(t, "1", after)
	require.ErrorContains(t, err, "60 reads of values in 1m0s")
	require.NoError(t, read(bob), "each has a bucket of their own")
	require.NoError(t, read(w.admin), "it is not for others")
	_, err = w.as(ann, "secrets/describeSecret", `{"path":"/app/dev/web/db"}`)
	w.refused(fault.AccessDenied, "", err)
	// Each item of a batch is a read.
	batch := into[wire.BatchGetSecretValueResponse](t, w.okAs(bob, "secrets/batchGetSecretValue",
		`{"items":[{"path":"/app/dev/web/db"},{"path":"/app/dev/web/db"},{"path":"/app/dev/web/db"}]}`))
	require.NotNil(t, batch.Results[0].GetSecretValueResponse)
	require.NotNil(t, batch.Results[1].GetSecretValueResponse)
	require.Equal(t, "RateLimited", batch.Results[2].Error.Code)
	w.setNow(w.now().Add(time.Second))
	require.NoError(t, read(ann))
	w.refusedFor(read(ann))
	// A flood is told once: the second refusal in a row is not an event.
	w.refusedFor(read(ann))
	require.Len(t, w.events(audit.Filter{Events: []string{"secrets.get_value"}, Principal: "ann", Outcome: audit.Failed}), 2)
	// A changed limit begins anew, a deleted one is gone.
	w.ok("iam/putRateLimit", `{"name":"reads","kind":"valueReads","per":"principal","count":1,"period":"1h"}`)
	require.NoError(t, read(ann))
	_, after = w.refusedFor(read(ann))
	require.Equal(t, "3600", after)
	w.ok("iam/deleteRateLimit", `{"name":"reads"}`)
	require.NoError(t, read(ann))
}

// A read that is denied does not use up what the caller may read.
func TestDeniedReadsAreNotCounted(t *testing.T) {
	w, read := reader(t)
	ann := w.principal("ann", readWeb)
	w.ok("iam/putRateLimit", `{"name":"reads","kind":"valueReads","per":"principal","count":1,"period":"1h"}`)
	for range 5 {
		_, err := w.as(ann, "secrets/getSecretValue", `{"path":"/app/prod/web/db"}`)
		w.refused(fault.AccessDenied, "", err)
	}
	require.NoError(t, read(ann))
	w.refusedFor(read(ann))
	_, err := w.as(ann, "secrets/getSecretValue", `{"path":"/app/prod/web/db"}`)
	w.refused(fault.AccessDenied, "", err)
}

// Limits for a source hold whoever asks; an IPv6 network is one source.
func TestLimitsOfSources(t *testing.T) {
	w, read := reader(t)
	ann, bob := w.principal("ann", readWeb), w.principal("bob", readWeb)
	w.ok("iam/putRateLimit", `{"name":"outside","kind":"valueReads","per":"source","sourceCidrs":["2001:db8::/32","203.0.113.0/24"],"count":1,"period":"1h"}`)
	from := func(source, token string) error {
		w.source = netip.MustParseAddr(source)
		return read(token)
	}
	require.NoError(t, from("2001:db8::1", ann))
	w.refusedFor(from("2001:db8::ffff", bob))
	require.NoError(t, from("2001:db8:0:1::1", bob))
	require.NoError(t, from("203.0.113.1", ann))
	w.refusedFor(from("::ffff:203.0.113.1", ann))
	require.NoError(t, from("203.0.113.2", ann))
	for range 5 {
		require.NoError(t, from("192.0.2.7", ann))
	}
}

// All limits that are about a request must have room; none is used up by a
// request that another one refuses.
func TestSeveralLimits(t *testing.T) {
	w, read := reader(t)
	ann := w.principal("ann", readWeb)
	w.ok("iam/putRateLimit", `{"name":"a","kind":"valueReads","per":"principal","count":2,"period":"1h"}`)
	w.ok("iam/putRateLimit", `{"name":"b","kind":"valueReads","per":"principal","count":1,"period":"1m"}`)
	require.NoError(t, read(ann))
	for range 3 {
		limit, _ := w.refusedFor(read(ann))
		require.Equal(t, "b", limit)
	}
	w.setNow(w.now().Add(time.Minute))
	require.NoError(t, read(ann))
	w.setNow(w.now().Add(time.Minute))
	limit, _ := w.refusedFor(read(ann))
	require.Equal(t, "a", limit)
}

func TestFailedAuthenticationsAreLimitedBySetting(t *testing.T) {
	w, read := reader(t)
	w.ok("iam/putRateLimit", `{"name":"guessing","kind":"authenticationFailures","per":"source","count":3,"period":"1h"}`)
	for range 3 {
		w.refused(fault.Unauthenticated, "", read("srt_wrong"))
	}
	limit, _ := w.refusedFor(read("srt_wrong"))
	require.Equal(t, "guessing", limit)
	require.NoError(t, read(w.admin), "who has a token is not locked out")
	for _, body := range []string{`"per":"principal"`, `"per":"source","principals":["ann"]`} {
		_, err := w.as(w.admin, "iam/putRateLimit", `{"name":"x","kind":"authenticationFailures","count":1,`+body+`}`)
		w.refused(fault.InvalidRequest, "per:", err)
	}
	_, err := w.as(w.admin, "iam/putRateLimit", `{"name":"built-in","kind":"valueReads","per":"source","count":1}`)
	w.refused(fault.Conflict, "always there", err)
	list := into[wire.ListRateLimitsResponse](t, w.ok("iam/listRateLimits", `{}`)).RateLimits
	require.Len(t, list, 2)
	require.True(t, list[0].BuiltIn)
	require.Equal(t, "guessing", list[1].Name)
}

// A limit on all requests that was set too low can be lifted.
func TestALimitDoesNotLockItselfIn(t *testing.T) {
	w, read := reader(t)
	w.ok("iam/putRateLimit", `{"name":"all","kind":"requests","per":"principal","count":1,"period":"24h"}`)
	require.NoError(t, read(w.admin))
	limit, _ := w.refusedFor(read(w.admin))
	require.Equal(t, "all", limit)
	w.ok("iam/listRateLimits", `{}`)
	w.ok("iam/deleteRateLimit", `{"name":"all"}`)
	require.NoError(t, read(w.admin))
}

func TestQuotasOfPathRules(t *testing.T) {
	w := newWorld(t)
	w.ok("secrets/putPathRule", `{"prefix":"/app/","maxSecrets":2,"maxVersions":3,"maxBytes":100}`)
	w.ok("secrets/createSecret", `{"path":"/app/a","value":%q}`, b64("0123456789"))
	w.ok("secrets/createSecret", `{"path":"/app/b"}`)
	_, err := w.as(w.admin, "secrets/createSecret", `{"path":"/app/c"}`)
	w.refused(fault.RateLimited, "maxSecrets 2", err)
	require.Equal(t, "maxSecrets", detail(t, err, "quota"))
	require.Equal(t, "/app/", detail(t, err, "prefix"))
	require.Equal(t, "2", detail(t, err, "used"))
	_, err = w.as(w.admin, "secrets/putSecretValue", fmt.Sprintf(`{"path":"/app/a","value":%q}`, b64(string(make([]byte, 91)))))
	w.refused(fault.RateLimited, "maxBytes 100", err)
	require.Len(t, w.events(audit.Filter{Events: []string{"secrets.put_value"}, Outcome: audit.Failed}), 1, "a refused write is told")
	w.put("/app/a", "second")
	w.put("/app/b", "third")
	_, err = w.as(w.admin, "secrets/generateSecret", `{"path":"/app/b","kind":"uuid"}`)
	w.refused(fault.RateLimited, "maxVersions 3", err)
	w.ok("secrets/destroyVersion", `{"path":"/app/a","version":1}`)
	w.ok("secrets/generateSecret", `{"path":"/app/b","kind":"uuid"}`)

	usage := into[wire.GetUsageResponse](t, w.ok("secrets/getUsage", `{"prefix":"/app/"}`))
	require.Equal(t, []wire.Quota{
		{Prefix: "/app/", Quota: "maxSecrets", Limit: 2, Used: 2}, {Prefix: "/app/", Quota: "maxVersions", Limit: 3, Used: 3},
		{Prefix: "/app/", Quota: "maxBytes", Limit: 100, Used: usage.StoredBytes},
	}, usage.Quotas)
	rules := into[wire.ListPathRulesResponse](t, w.ok("secrets/listPathRules", `{}`)).PathRules
	require.Equal(t, usage.Quotas, rules[0].Quotas)
	require.Equal(t, uint64(2), *rules[0].MaxSecrets)
	// Who sees one secret learns nothing of how many others there are.
	one := w.principal("ann", `[{"effect":"allow","roles":["secrets-read-access"],"paths":["/app/a"]}]`)
	require.NotContains(t, w.okAs(one, "secrets/getUsage", `{"prefix":"/app/"}`), "quotas")
	require.NotContains(t, w.okAs(one, "secrets/listPathRules", `{}`), "quotas")
	_, err = w.as(w.admin, "secrets/putPathRule", `{"prefix":"/app/","maxSecrets":0}`)
	w.refused(fault.InvalidRequest, "maxSecrets:", err)
}
