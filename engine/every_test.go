package engine_test

import (
	"context"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/api/wire"
	"github.com/strongroom/strongroom/audit"
	"github.com/strongroom/strongroom/engine"
	"github.com/strongroom/strongroom/internal/fault"
)

func transferNowhere(context.Context, string) error { return nil }

// story answers the events of one request, split into its own and the rest.
func (w *world) story(id, event string) (own, others []audit.Event) {
	w.t.Helper()
	for _, e := range w.events(audit.Filter{RequestID: id}) {
		if e.Event == event {
			own = append(own, e)
		} else {
			others = append(others, e)
		}
	}
	return own, others
}

func TestEveryOperationIsOneEventOfItsName(t *testing.T) {
	eachSample(t, func(t *testing.T, s *stock, c sample) {
		service, name, _ := strings.Cut(c.operation, "/")
		event := engine.Find(service, name).Event

		_, _, err := s.request(s.admin, c.operation, c.bad)
		require.Equal(t, fault.Kind(c.code), fault.KindOf(err), "%v", err)
		id, _, err := s.request(s.admin, c.operation, c.bad)
		require.Error(t, err)
		own, _ := s.story(id, event)
		require.Len(t, own, 1, "a failure is an event")
		require.Equal(t, audit.Failed, own[0].Outcome)
		require.Equal(t, c.code, own[0].Code)
		require.Equal(t, "admin", own[0].Principal)

		id, _, err = s.request(s.admin, c.operation, c.good)
		require.NoError(t, err)
		own, others := s.story(id, event)
		require.Len(t, own, 1)
		require.Equal(t, audit.OK, own[0].Outcome)
		require.Empty(t, own[0].Code)
		require.Equal(t, "admin", own[0].Principal)
		require.NotEmpty(t, own[0].CredentialID)
		require.Equal(t, "192.0.2.7", own[0].SourceAddress)
		require.NotZero(t, own[0].Index)
		if c.subject != "" {
			require.Contains(t, []string{own[0].Path, own[0].KeyID, own[0].Reason}, c.subject)
		}
		requireInner(t, c, own[0], others)
	})
}

// requireInner asserts that the kms events of a request come before its own,
// under the same id, and that its own points at them.
func requireInner(t *testing.T, c sample, own audit.Event, others []audit.Event) {
	t.Helper()
	var inner []string
	pointers := own.KMS
	for _, e := range others {
		if e.Event == "secrets.get_value" { // the item of a batch
			pointers = append(pointers, e.KMS...)
			continue
		}
		inner = append(inner, e.Event)
		require.Less(t, e.Sequence, own.Sequence)
		require.Equal(t, audit.OK, e.Outcome)
		require.Equal(t, "admin", e.Principal)
	}
	require.Equal(t, c.inner, inner)
	require.Len(t, pointers, len(c.inner))
	for i, p := range pointers {
		require.Equal(t, c.inner[i], p.Event)
		require.NotZero(t, p.Sequence, "the event says which one in the trail it is")
	}
}

func TestEveryDenialIsOneEventAndChangesNothing(t *testing.T) {
	eachSample(t, func(t *testing.T, s *stock, c sample) {
		service, name, _ := strings.Cut(c.operation, "/")
		if engine.Find(service, name).Action == "" {
			return // about the caller itself: there is no right to lack
		}
		event := engine.Find(service, name).Event
		nobody := s.principal("nobody", `[{"effect":"allow","actions":["kms:encrypt"],"keys":["alias/unrelated"]}]`)
		index := s.log.machine.State().Index()

		id, answer, err := s.request(nobody, c.operation, c.good)
		s.refused(fault.AccessDenied, "is not allowed here", err)
		require.Empty(t, answer)
		own, others := s.story(id, event)
		require.Len(t, own, 1)
		require.Empty(t, others, "no key may be used for who is denied")
		require.Equal(t, audit.Denied, own[0].Outcome)
		require.Equal(t, "nobody", own[0].Principal)
		require.Equal(t, detail(t, err, "decisionId"), own[0].DecisionID)
		require.True(t, strings.HasPrefix(own[0].Reason, "iam"))
		if c.subject != "" {
			about := own[0].Path + " " + own[0].KeyID + " " + own[0].Reason
			require.Contains(t, about, c.subject, "a denial says what was asked about")
		}

		id, _, err = s.request("", c.operation, c.good)
		s.refused(fault.Unauthenticated, "", err)
		own, others = s.story(id, event)
		require.Len(t, own, 1)
		require.Empty(t, others)
		require.Equal(t, audit.Denied, own[0].Outcome)
		require.Empty(t, own[0].Principal)
		require.Equal(t, index, s.log.machine.State().Index(), "nothing may be committed")
	})
}

func detail(t testing.TB, err error, name string) any {
	t.Helper()
	var f *fault.Error
	require.ErrorAs(t, err, &f)
	return f.Details[name]
}

// TestReadAccessGetsNoValueByAnyOperation sends every operation as a
// principal that may see everything and read nothing, with requests that
// reveal to the administrator, with the failing ones, and with every field
// filled in.
func TestReadAccessGetsNoValueByAnyOperation(t *testing.T) {
	served := 0
	eachSample(t, func(t *testing.T, s *stock, c sample) {
		token := s.principal("reader", `[{"effect":"allow","roles":["secrets-read-access"],"paths":["/**"]}]`)
		service, name, _ := strings.Cut(c.operation, "/")
		bodies := append(bodiesFor(engine.Find(service, name), "/app/dev/web/db"), c.good, c.bad)
		for _, body := range bodies {
			answer, err := s.as(token, c.operation, body)
			if err == nil {
				served++
			}
			for _, mark := range []string{markValue, markCaller, s.admin} {
				require.False(t, holds(answer+fmt.Sprint(err), mark), body)
			}
		}
		require.Equal(t, markValue+"-3", s.value("/app/dev/web/db"), "nothing may have been changed")
	})
	require.GreaterOrEqual(t, served, 4, "describe, list and history must work for this role")
}

// TestTheSearchForMarksFindsThem keeps the test above from passing because it
// looks for the wrong thing.
func TestTheSearchForMarksFindsThem(t *testing.T) {
	s := newStock(t)
	require.True(t, holds(s.ok("secrets/getSecretValue", `{"path":"/app/dev/web/db"}`), markValue))
	require.True(t, holds(s.ok("secrets/batchGetSecretValue", `{"items":[{"path":"/app/dev/web/db","version":1}]}`), markValue))
	require.True(t, holds(s.ok("kms/decrypt", `{"ciphertext":%q}`, s.ciphertext), markCaller))
	for _, text := range []string{"x" + markValue, b64("x" + markValue), b64("xy" + markValue), fmt.Sprintf("%x", "x"+markValue)} {
		require.True(t, holds(text, markValue))
	}
}

// TestOperationsThatRevealSaySo: what reads the table (console, command line)
// treats these answers with care.
func TestOperationsThatRevealSaySo(t *testing.T) {
	for _, o := range engine.Operations() {
		require.Equal(t, hasPlaintext(o.Response), o.Reveals(), o.Path())
	}
}

func hasPlaintext(t reflect.Type) bool {
	switch t.Kind() {
	case reflect.Pointer, reflect.Slice:
		return hasPlaintext(t.Elem())
	case reflect.Struct:
		if t == reflect.TypeFor[wire.Value]() || t == reflect.TypeFor[wire.Text]() {
			return true
		}
		for i := range t.NumField() {
			if t.PkgPath() == reflect.TypeFor[wire.Value]().PkgPath() && hasPlaintext(t.Field(i).Type) {
				return true
			}
		}
	}
	return false
}

func TestAbsentAndForbiddenAreTheSameAnswer(t *testing.T) {
	s := newStock(t)
	sealed := s.ciphertext
	token := s.principal("stranger", `[
		{"effect":"allow","roles":["secrets-full-access"],"paths":["/app/dev/api/**"]},
		{"effect":"allow","roles":["kms-admin-access","kms-use-access"],"keys":["alias/off"]}]`)
	absent := strings.NewReplacer(
		"/app/dev/web/db", "/app/dev/web/none", "/app/dev/web/gone", "/app/dev/web/never", "alias/pay", "alias/none",
		"alias/default", "alias/nothing", s.keyID, absentID, s.tokenID, absentID, `"svc"`, `"nobody"`, `"loose"`, `"unknown"`,
		`"attached"`, `"untied"`, `"office"`, `"home"`, sealed, forAnotherKey(t, sealed))
	compared := 0
	for _, c := range s.samples() {
		for _, there := range []string{c.good, strings.ReplaceAll(c.good, "alias/pay", s.keyID)} {
			none := absent.Replace(there)
			if none == there {
				continue
			}
			one, a := s.as(token, c.operation, there)
			two, b := s.as(token, c.operation, none)
			if c.operation == "secrets/batchGetSecretValue" { // its items have the errors
				require.Contains(t, one, `"AccessDenied"`)
				require.Equal(t, absent.Replace(one), two)
				continue
			}
			require.Equal(t, fault.AccessDenied, fault.KindOf(a), c.operation)
			require.Equal(t, publicText(t, a), publicText(t, b), "%s %s %s", c.operation, there, none)
			compared++
		}
	}
	require.Greater(t, compared, 30)
}

// TestDecryptTellsAStrangerNothingAboutAliases: the ciphertext names a key id
// that anybody may write; which alias belongs to it is for who may use it.
func TestDecryptTellsAStrangerNothingAboutAliases(t *testing.T) {
	s := newStock(t)
	token := s.principal("stranger", `[{"effect":"allow","roles":["kms-use-access"],"keys":["alias/off"]}]`)
	ask := func(alias string) string {
		_, err := s.as(token, "kms/decrypt", fmt.Sprintf(`{"ciphertext":%q,"keyId":%q}`, s.ciphertext, alias))
		return publicText(t, err)
	}
	require.Equal(t, ask("alias/pay"), ask("alias/default"), "right and wrong")
	require.Equal(t, ask("alias/pay"), ask("alias/none"))
	_, err := s.as(s.admin, "kms/decrypt", fmt.Sprintf(`{"ciphertext":%q,"keyId":"alias/none"}`, s.ciphertext))
	s.refused(fault.InvalidRequest, "keyId", err)
}
