package engine_test

import (
	"bytes"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/api/wire"
	"github.com/strongroom/strongroom/audit"
	"github.com/strongroom/strongroom/internal/fault"
)

func TestInQuarantineNoCredentialIsGood(t *testing.T) {
	w, k := leading(t)
	token := w.tokenOf("svc")
	must(w.as(token, "iam/whoAmI", `{}`))
	must(w.sendSigned(w.sign(k, who, `{}`, w.now()), who, `{}`))
	out := into[wire.QuarantineResponse](t, w.ok("iam/quarantinePrincipal", `{"principal":"svc","reason":"a laptop was stolen"}`))
	require.True(t, out.Quarantined)
	require.Positive(t, out.RevokedTokens)

	for range 2 { // each time
		w.setNow(w.now().Add(time.Second))
		_, err := w.as(token, "iam/whoAmI", `{}`)
		w.refused(fault.Unauthenticated, "the token is not valid here", err)
		_, err = w.sendSigned(w.sign(k, who, `{}`, w.now()), who, `{}`)
		w.refused(fault.Unauthenticated, "", err)
		require.NotContains(t, err.Error(), "quarantine", "whoever holds the key learns nothing")
	}
	denied := w.events(audit.Filter{Principal: "svc", Outcome: audit.Denied})
	require.NotEmpty(t, denied, "the trail names whose key it was")
	require.Equal(t, "quarantined", denied[0].Reason)
	require.Equal(t, k.id, denied[0].CredentialID)

	for _, request := range []string{"iam/createToken", "iam/createAccessKey"} {
		_, err := w.as(w.admin, request, `{"principal":"svc"}`)
		w.refused(fault.Conflict, "principal: svc is in quarantine; releasePrincipal first", err)
	}
	again := into[wire.QuarantineResponse](t, w.ok("iam/quarantinePrincipal", `{"principal":"svc","reason":"again"}`))
	require.True(t, again.Unchanged)

	w.ok("iam/releasePrincipal", `{"principal":"svc","reason":"the disk was encrypted"}`)
	_, err := w.as(token, "iam/whoAmI", `{}`)
	w.refused(fault.Unauthenticated, "", err)
	w.setNow(w.now().Add(time.Second))
	must(w.sendSigned(w.sign(k, who, `{}`, w.now()), who, `{}`))
	must(w.as(w.tokenOf("svc"), "iam/whoAmI", `{}`))
	require.Nil(t, into[wire.PrincipalResponse](t, w.ok("iam/describePrincipal", `{"name":"svc"}`)).Quarantined)
}

func TestInQuarantineNoTrustLetsIn(t *testing.T) {
	w := newWorld(t)
	w.ok("iam/createPrincipal", `{"name":"svc","kind":"service"}`)
	issuer := newIssuer(t)
	w.trustIssuer("ci", issuer, `"principal":"svc"`)
	login := func(id string) (string, error) {
		return w.as("", "iam/login", `{"trust":"ci","jwt":"`+issuer.jwt(w, map[string]any{"jti": id})+`"}`)
	}
	made := into[wire.LoginResponse](t, must(login("1")))
	w.ok("iam/quarantinePrincipal", `{"principal":"svc","reason":"alert"}`)
	_, err := login("2")
	w.refused(fault.Unauthenticated, "an administrator finds the reason", err)
	require.NotContains(t, err.Error(), "quarantine")
	var text bytes.Buffer
	require.NoError(t, wire.Encode(&text, made.Token))
	_, err = w.as(string(bytes.Trim(bytes.TrimSpace(text.Bytes()), `"`)), "iam/whoAmI", `{}`)
	w.refused(fault.Unauthenticated, "", err)
}

// Every question about a principal in quarantine is answered with no, and why.
func TestQuestionsAboutAPrincipalInQuarantine(t *testing.T) {
	w := newWorld(t)
	w.ok("secrets/createSecret", `{"path":"/app/a","value":%q}`, b64("x"))
	w.principal("app", readsApp)
	explain := func() wire.ExplainResponse {
		return into[wire.ExplainResponse](t, w.ok("iam/explain", `{"principal":"app","action":"secrets:getSecretValue","path":"/app/a"}`))
	}
	whoCan := func() string {
		return w.ok("iam/whoCan", `{"action":"secrets:getSecretValue","path":"/app/a"}`)
	}
	require.Equal(t, "allow", explain().Decision)
	require.Contains(t, whoCan(), `"app"`)
	w.ok("iam/quarantinePrincipal", `{"principal":"app","reason":"alert"}`)
	said := explain()
	require.Equal(t, "deny", said.Decision)
	require.Equal(t, "quarantined", said.Reason)
	require.Contains(t, said.Text, "app is in quarantine and may do nothing; releasePrincipal ends it")
	require.NotContains(t, whoCan(), `"app"`)
	require.Empty(t, into[wire.WhatCanResponse](t, w.ok("iam/whatCan", `{"principal":"app","values":true}`)).Values)
	list := into[wire.ListPrincipalsResponse](t, w.ok("iam/listPrincipals", `{}`))
	require.Equal(t, "alert", list.Principals[1].Quarantined.Reason)
	w.ok("iam/releasePrincipal", `{"principal":"app","reason":"a drill"}`)
	require.Equal(t, "allow", explain().Decision)
}

func TestSomebodyFreeAlwaysHasFullAccess(t *testing.T) {
	w := newWorld(t)
	_, err := w.as(w.admin, "iam/quarantinePrincipal", `{"principal":"admin","reason":"alert"}`)
	w.refused(fault.Conflict, "attach full-access to another principal first", err)
	w.ok("iam/createPrincipal", `{"name":"second","kind":"user"}`)
	w.ok("iam/attachPolicy", `{"policy":"full-access","principal":"second"}`)
	second := w.tokenOf("second")
	must(w.as(second, "iam/quarantinePrincipal", `{"principal":"admin","reason":"alert"}`))
	_, err = w.as(w.admin, "iam/whoAmI", `{}`)
	w.refused(fault.Unauthenticated, "", err)
	for request, body := range map[string]string{
		"iam/quarantinePrincipal": `{"principal":"second","reason":"alert"}`,
		"iam/deletePrincipal":     `{"name":"second"}`,
		"iam/detachPolicy":        `{"principal":"second","policy":"full-access"}`,
	} {
		_, err := w.as(second, request, body)
		w.refused(fault.Conflict, "attach full-access to another principal first", err)
	}
	must(w.as(second, "iam/releasePrincipal", `{"principal":"admin","reason":"a drill"}`))
}

func TestAQuarantineEndsASessionAndWithdrawsWhatWasAsked(t *testing.T) {
	w := newWorld(t)
	w.ok("iam/putPolicy", `{"name":"emergency","statements":[{"effect":"allow","roles":["secrets-value-access"],"paths":["/app/**"]}]}`)
	token := w.principal("app", `[{"effect":"allow","actions":["iam:openBreakGlass"]}]`)
	w.ok("iam/attachPolicy", `{"policy":"emergency","principal":"app","mode":"breakGlass"}`)
	session := into[wire.OpenBreakGlassResponse](t, must(w.as(token, "iam/openBreakGlass", `{"reason":"drill"}`))).BreakGlassID
	w.ok("iam/quarantinePrincipal", `{"principal":"app","reason":"alert"}`)
	state := w.log.machine.State()
	require.Nil(t, state.OpenGlass("app", state.Time()))
	require.NotZero(t, state.BreakGlass(session).ClosedAt)
}

func TestQuarantineIsRefusedWhereItSaysNothing(t *testing.T) {
	w := newWorld(t)
	w.principal("app", readsApp)
	for _, operation := range []string{"iam/quarantinePrincipal", "iam/releasePrincipal"} {
		for body, says := range map[string]string{
			`{"principal":"app"}`: "reason:", `{"principal":"app","reason":"\u0007"}`: "reason:", `{"principal":"a b","reason":"r"}`: "principal:",
		} {
			_, err := w.as(w.admin, operation, body)
			w.refused(fault.InvalidRequest, says, err)
		}
		_, err := w.as(w.tokenOf("app"), operation, `{"principal":"admin","reason":"r"}`)
		w.refused(fault.AccessDenied, "", err)
		_, err = w.as(w.admin, operation, `{"principal":"none","reason":"r"}`)
		w.refused(fault.NotFound, "principal:", err)
	}
}

// A release can wait for a second person, as any action can.
func TestAReleaseCanAskForApproval(t *testing.T) {
	w := newWorld(t)
	w.principal("app", readsApp)
	w.ok("iam/putPolicy", `{"name":"two","statements":[{"effect":"requireApproval","actions":["iam:releasePrincipal"],"approval":{"count":1}}]}`)
	w.ok("iam/attachPolicy", `{"policy":"two","principal":"admin"}`)
	w.ok("iam/quarantinePrincipal", `{"principal":"app","reason":"alert"}`)
	_, err := w.as(w.admin, "iam/releasePrincipal", `{"principal":"app","reason":"a drill"}`)
	require.Error(t, err)
	require.NotNil(t, w.log.machine.State().Principal("app").Quarantine)
}

func TestACompromisedVersionSaysSoUntilItIsMended(t *testing.T) {
	w := newWorld(t)
	w.ok("secrets/createSecret", `{"path":"/app/a","value":%q}`, b64("x"))
	count := func() float64 {
		return testutil.ToFloat64(&one{w.engine.NoticeCollector(), "strongroom_versions_compromised"})
	}
	require.Zero(t, count())
	require.Equal(t, 1, into[wire.MarkCompromisedResponse](t, w.ok("secrets/markCompromised", `{"path":"/app/a","versions":[1,1],"reason":"read by a thief"}`)).Marked)
	require.Zero(t, into[wire.MarkCompromisedResponse](t, w.ok("secrets/markCompromised", `{"path":"/app/a","versions":[1],"reason":"again"}`)).Marked)
	require.EqualValues(t, 1, count())
	got := into[wire.GetSecretValueResponse](t, w.ok("secrets/getSecretValue", `{"path":"/app/a"}`))
	require.True(t, got.Compromised, "it is still read, and says so")
	v := into[wire.ListSecretVersionsResponse](t, w.ok("secrets/listSecretVersions", `{"path":"/app/a"}`)).Versions[0]
	require.Equal(t, "read by a thief", v.Compromised.Reason)
	require.Equal(t, "admin", v.Compromised.By)
	require.False(t, v.Compromised.Mended)
	require.Equal(t, "compromised", v.Changes[len(v.Changes)-1].What)

	w.put("/app/a", "y")
	require.False(t, into[wire.GetSecretValueResponse](t, w.ok("secrets/getSecretValue", `{"path":"/app/a"}`)).Compromised)
	require.EqualValues(t, 1, count(), "the old one can still be read")
	w.setNow(w.now().Add(time.Second))
	w.ok("secrets/disableVersion", `{"path":"/app/a","version":1}`)
	require.Zero(t, count())
	list := into[wire.ListCompromisedResponse](t, w.ok("secrets/listCompromised", `{}`))
	require.True(t, list.Versions[0].Mended)
	require.Equal(t, "disabled", list.Versions[0].State)
	w.ok("secrets/destroyVersion", `{"path":"/app/a","version":1,"force":true,"reason":"compromised"}`)
	require.Empty(t, into[wire.ListCompromisedResponse](t, w.ok("secrets/listCompromised", `{}`)).Versions)
}

func TestAMarkIsClearedAndRefused(t *testing.T) {
	w := newWorld(t)
	w.ok("secrets/createSecret", `{"path":"/app/a","value":%q}`, b64("x"))
	w.ok("secrets/markCompromised", `{"path":"/app/a","versions":[1],"reason":"r"}`)
	w.ok("secrets/markCompromised", `{"path":"/app/a","versions":[1],"reason":"another secret","clear":true}`)
	require.Empty(t, into[wire.ListCompromisedResponse](t, w.ok("secrets/listCompromised", `{}`)).Versions)
	for body, says := range map[string]string{
		`{"path":"/app/a","versions":[1]}`: "reason:", `{"path":"/app/a","versions":[],"reason":"r"}`: "versions:", `{"path":"app","versions":[1],"reason":"r"}`: "path:",
	} {
		_, err := w.as(w.admin, "secrets/markCompromised", body)
		w.refused(fault.InvalidRequest, says, err)
	}
	_, err := w.as(w.admin, "secrets/markCompromised", `{"path":"/app/a","versions":[1,9],"reason":"r"}`)
	w.refused(fault.NotFound, "versions[1]:", err)
	require.Empty(t, into[wire.ListCompromisedResponse](t, w.ok("secrets/listCompromised", `{}`)).Versions, "all of them, or none")
	stranger := w.principal("app", `[{"effect":"allow","roles":["secrets-full-access"],"paths":["/other/**"]}]`)
	_, err = w.as(stranger, "secrets/markCompromised", `{"path":"/app/a","versions":[1],"reason":"r"}`)
	w.refused(fault.AccessDenied, "", err)
}
