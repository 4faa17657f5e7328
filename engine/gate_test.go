package engine_test

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/api/wire"
	"github.com/strongroom/strongroom/audit"
	"github.com/strongroom/strongroom/engine"
	"github.com/strongroom/strongroom/internal/fault"
)

// bodiesFor makes requests from the fields of an operation's request type.
func bodiesFor(o *engine.Operation, path string) []string {
	var fields []string
	collect(o.Request, func(name string) {
		known := map[string]string{
			"path": `"` + path + `"`, "version": "1", "prefix": `"/"`, "recursive": "true", "reveal": "true", "kind": `"password"`,
			"items": `[{"path":"` + path + `"},{"path":"` + path + `","version":1}]`, "keyId": `"alias/default"`, "label": `"previous"`,
			"value": `"` + b64("x") + `"`, "plaintext": `"` + b64("x") + `"`, "ciphertext": `"` + b64("x") + `"`, "name": `"admin"`,
			"principal": `"admin"`, "policy": `"full-access"`, "statements": `[{"effect":"allow","roles":["full-access"]}]`,
		}
		if text, ok := known[name]; ok {
			fields = append(fields, `"`+name+`":`+text)
		}
	})
	all := "{" + strings.Join(fields, ",") + "}"
	var some []string
	for _, f := range fields {
		if !strings.HasPrefix(f, `"version"`) && !strings.HasPrefix(f, `"label"`) {
			some = append(some, f)
		}
	}
	return []string{all, "{" + strings.Join(some, ",") + "}", "{}"}
}

func collect(t reflect.Type, f func(string)) {
	for i := range t.NumField() {
		field := t.Field(i)
		if field.Anonymous {
			collect(field.Type, f)
			continue
		}
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		f(name)
	}
}

func publicText(t *testing.T, err error) string {
	var f *fault.Error
	require.ErrorAs(t, err, &f)
	return fmt.Sprint(f.Kind, f.Message, f.Details["reason"], len(f.Details))
}

func TestDenyWinsAndRevocationIsInForceAtOnce(t *testing.T) {
	w := newWorld(t)
	w.ok("secrets/createSecret", `{"path":"/app/dev/web/db","value":%q}`, b64("v"))
	token := w.principal("web", `[{"effect":"allow","roles":["secrets-value-access"],"paths":["/app/dev/web/**"]}]`)
	read := func() error {
		_, err := w.as(token, "secrets/getSecretValue", `{"path":"/app/dev/web/db"}`)
		return err
	}
	require.NoError(t, read())
	w.ok("iam/putPolicy", `{"name":"stop","statements":[{"effect":"deny","actions":["secrets:getSecretValue"],"paths":["/app/*/web/db"]}]}`)
	w.ok("iam/attachPolicy", `{"policy":"stop","principal":"web"}`)
	w.refused(fault.AccessDenied, "secrets:getSecretValue", read())
	w.ok("iam/detachPolicy", `{"policy":"stop","principal":"web"}`)
	require.NoError(t, read())

	tokens := into[wire.ListTokensResponse](t, w.ok("iam/listTokens", `{"principal":"web"}`)).Tokens
	w.ok("iam/revokeToken", `{"tokenId":%q}`, tokens[0].TokenID)
	w.refused(fault.Unauthenticated, "not valid", read())
}

func TestTokensExpireAndAreBoundToAddresses(t *testing.T) {
	w := newWorld(t)
	w.ok("iam/createPrincipal", `{"name":"svc","kind":"service"}`)
	made := into[wire.CreateTokenResponse](t, w.ok("iam/createToken", `{"principal":"svc","ttl":"1h","boundCidrs":["192.0.2.0/24"]}`))
	token := string(made.Token.Expose())
	_, err := w.as(token, "iam/whoAmI", `{}`)
	require.NoError(t, err)
	w.source = netip.MustParseAddr("198.51.100.1")
	_, err = w.as(token, "iam/whoAmI", `{}`)
	w.refused(fault.Unauthenticated, "", err)
	w.source = netip.MustParseAddr("192.0.2.9")
	w.setNow(w.now().Add(time.Hour))
	_, err = w.as(token, "iam/whoAmI", `{}`)
	w.refused(fault.Unauthenticated, "", err)
}

func TestAccessPolicyRestrictsWhatIAMAllows(t *testing.T) {
	w := newWorld(t)
	w.ok("secrets/createSecret", `{"path":"/app/prod/pay/db","value":%q}`, b64("v"))
	w.ok("iam/putAccessPolicy", `{"name":"office","paths":["/app/prod/**"],"sourceCidrs":["198.51.100.0/24"]}`)
	_, err := w.as(w.admin, "secrets/getSecretValue", `{"path":"/app/prod/pay/db"}`)
	w.refused(fault.AccessDenied, "", err)
	var f *fault.Error
	require.ErrorAs(t, err, &f)
	require.Equal(t, "sourceAddress", f.Details["reason"])
	w.ok("secrets/describeSecret", `{"path":"/app/prod/pay/db"}`) // metadata reveals no value
	w.source = netip.MustParseAddr("198.51.100.9")
	require.Equal(t, "v", w.value("/app/prod/pay/db"))
}

func TestEveryOutcomeIsInTheTrailWithItsInnerEvents(t *testing.T) {
	w := newWorld(t)
	w.ok("secrets/createSecret", `{"path":"/a/b","value":%q}`, b64("v"))
	token := w.principal("stranger", `[{"effect":"allow","roles":["secrets-value-access"],"paths":["/x/y/z"]}]`)
	_, err := w.as(token, "secrets/getSecretValue", `{"path":"/a/b"}`)
	w.refused(fault.AccessDenied, "", err)
	_, err = w.as("", "secrets/getSecretValue", `{"path":"/a/b"}`)
	w.refused(fault.Unauthenticated, "", err)
	w.value("/a/b")
	_, err = w.as(w.admin, "secrets/getSecretValue", `{"path":"/a/none"}`)
	w.refused(fault.NotFound, "", err)

	reads := w.events(audit.Filter{Events: []string{"secrets.get_value"}})
	require.Len(t, reads, 4)
	require.Equal(t, []string{"denied AccessDenied stranger", "denied Unauthenticated ", "ok  admin", "failed NotFound admin"}, outcomes(reads))
	require.NotEmpty(t, reads[0].DecisionID)
	require.Equal(t, "/a/b", reads[0].Path)
	require.Equal(t, "192.0.2.7", reads[0].SourceAddress)

	story := w.events(audit.Filter{RequestID: reads[2].RequestID})
	require.Len(t, story, 2)
	require.Equal(t, "kms.decrypt", story[0].Event)
	require.Equal(t, story[0].KeyID, story[1].KMS[0].KeyID)
	require.Equal(t, "/a/b", story[0].Path)
	require.Len(t, w.events(audit.Filter{Events: []string{"kms.encrypt"}}), 1)
}

func outcomes(events []audit.Event) []string {
	var out []string
	for _, e := range events {
		out = append(out, fmt.Sprintf("%s %s %s", e.Outcome, e.Code, e.Principal))
	}
	return out
}

// TestNoAuditNoAnswer takes the trail away in the middle of its life.
func TestNoAuditNoAnswer(t *testing.T) {
	w := newWorld(t)
	const mark = "MARKED-PLAINTEXT-VALUE"
	w.ok("secrets/createSecret", `{"path":"/a/b","value":%q}`, b64(mark))
	require.NoError(t, w.trail.Close())
	before := w.log.machine.State().Index()
	for _, body := range []string{"secrets/getSecretValue", "secrets/describeSecret", "secrets/deleteSecret"} {
		answer, err := w.as(w.admin, body, `{"path":"/a/b"}`)
		w.refused(fault.AuditUnavailable, "", err)
		require.Empty(t, answer)
	}
	require.Equal(t, before, w.log.machine.State().Index(), "nothing may be committed without a trail")
}

func TestTheTrailHoldsNoValueAndNoToken(t *testing.T) {
	w := newWorld(t)
	const mark = "MARKED-PLAINTEXT-VALUE"
	w.ok("secrets/createSecret", `{"path":"/a/b","value":%q}`, b64(mark))
	w.value("/a/b")
	w.ok("kms/encrypt", `{"keyId":"alias/default","plaintext":%q}`, b64(mark))
	token := w.principal("svc", `[{"effect":"allow","actions":["iam:listPolicies"]}]`)
	require.NoError(t, w.trail.Close())
	files, err := filepath.Glob(filepath.Join(w.dir, "*"))
	require.NoError(t, err)
	seen := 0
	for _, name := range files {
		content, err := os.ReadFile(name)
		require.NoError(t, err)
		seen += len(content)
		for _, secret := range []string{mark, b64(mark), w.admin, token} {
			require.NotContains(t, string(content), secret)
		}
	}
	require.Positive(t, seen)
}

func TestFailedAuthenticationIsSlowedDownBySourceAndLocksNobodyOut(t *testing.T) {
	w := newWorld(t)
	limited := 0
	for range 400 {
		if _, err := w.as("srt_wrong", "iam/whoAmI", `{}`); fault.Is(err, fault.RateLimited) {
			limited++
		}
	}
	require.Equal(t, 200, limited)
	_, err := w.as(w.admin, "iam/whoAmI", `{}`)
	require.NoError(t, err, "a valid token from the same address is served")
	w.source = netip.MustParseAddr("198.51.100.1")
	_, err = w.as("srt_wrong", "iam/whoAmI", `{}`)
	w.refused(fault.Unauthenticated, "", err)
}

// TestAHostCannotOutrunTheLimitWithItsManyAddresses: each failure would be an
// event, and a flood must not fill the disk.
func TestAHostCannotOutrunTheLimitWithItsManyAddresses(t *testing.T) {
	w := newWorld(t)
	fail := func(format string, i int) fault.Kind {
		w.source = netip.MustParseAddr(fmt.Sprintf(format, i))
		_, err := w.as("srt_wrong", "iam/whoAmI", `{}`)
		return fault.KindOf(err)
	}
	for i := range 200 {
		require.Equal(t, fault.Unauthenticated, fail("2001:db8:0:1::%x", i))
	}
	require.Equal(t, fault.RateLimited, fail("2001:db8:0:1:ffff::%x", 1))
	require.Equal(t, fault.Unauthenticated, fail("2001:db8:0:2::%x", 1), "another network")
	for i := range 200 {
		require.Equal(t, fault.Unauthenticated, fail("10.0.0.%d", i), "each IPv4 address for itself")
	}
	require.Equal(t, fault.Unauthenticated, fail("::ffff:10.0.0.%d", 1))
}

func TestANodeThatDoesNotLeadDoesNothingAndWritesNoEvent(t *testing.T) {
	w := newWorld(t)
	before := w.trail.Head().Sequence
	w.log.lost = true
	_, err := w.as(w.admin, "secrets/listSecrets", `{}`)
	w.refused(fault.NoLeader, "", err)
	require.Equal(t, before, w.trail.Head().Sequence)
}

func TestWithoutHSMMetadataIsServedAndValuesAreNot(t *testing.T) {
	w := newWorld(t)
	w.ok("secrets/createSecret", `{"path":"/a/b","value":%q}`, b64("v"))
	w.token.Down.Store(true)
	_, err := w.as(w.admin, "secrets/getSecretValue", `{"path":"/a/b"}`)
	w.refused(fault.HsmUnavailable, "", err)
	_, err = w.as(w.admin, "secrets/putSecretValue", fmt.Sprintf(`{"path":"/a/b","value":%q}`, b64("w")))
	w.refused(fault.HsmUnavailable, "", err)
	w.ok("secrets/describeSecret", `{"path":"/a/b"}`)
	w.ok("secrets/deleteSecret", `{"path":"/a/b"}`)
}
