package engine_test

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/api/wire"
	"github.com/strongroom/strongroom/audit"
	"github.com/strongroom/strongroom/engine"
	"github.com/strongroom/strongroom/internal/fault"
	"github.com/strongroom/strongroom/internal/sigv4"
)

// pairOfKeys is an access key as its holder has it.
type pairOfKeys struct{ id, secret string }

func (w *world) accessKeyOf(principal, more string) pairOfKeys {
	w.t.Helper()
	made := into[wire.CreateAccessKeyResponse](w.t, w.ok("iam/createAccessKey", `{"principal":%q%s}`, principal, more))
	return pairOfKeys{made.AccessKeyID, string(made.SecretAccessKey.Expose())}
}

// sign answers a signature of the request as the front end reads it.
func (w *world) sign(k pairOfKeys, operation, body string, at time.Time) *sigv4.Request {
	w.t.Helper()
	r, err := http.NewRequest(http.MethodPost, "https://node:7400/api/v1/"+operation, strings.NewReader(body))
	require.NoError(w.t, err)
	r.Header.Set("Content-Type", "application/json")
	require.NoError(w.t, sigv4.Sign(r, k.id, []byte(k.secret), []byte(body), at))
	r.RequestURI = r.URL.Path
	signed, err := sigv4.Parse(r)
	require.NoError(w.t, err)
	return signed
}

// sendSigned sends a request under an id of its own.
func (w *world) sendSigned(signed *sigv4.Request, operation, body string) (string, error) {
	return w.sendAgain(uuid.NewString(), signed, operation, body)
}

func (w *world) sendAgain(id string, signed *sigv4.Request, operation, body string) (string, error) {
	service, name, _ := strings.Cut(operation, "/")
	answer, err := w.engine.Do(context.Background(), engine.Find(service, name),
		engine.Caller{RequestID: id, Signed: signed, Source: w.source}, []byte(body))
	defer answer.Wipe()
	if err != nil {
		return "", err
	}
	var out bytes.Buffer
	require.NoError(w.t, wire.Encode(&out, answer.Response))
	return out.String(), nil
}

// leading is newWorld some time after its node began to lead, with a service
// that has an access key.
func leading(t *testing.T) (*world, pairOfKeys) {
	w := newWorld(t)
	w.setNow(w.now().Add(time.Minute))
	w.principal("svc", `[{"effect":"allow","actions":["secrets:getSecretValue"],"paths":["/app/**"]}]`)
	w.ok("secrets/createSecret", `{"path":"/app/dev/web/db","value":%q}`, b64("hello"))
	return w, w.accessKeyOf("svc", "")
}

const who = "iam/whoAmI"

func TestASignedRequestIsServedOnce(t *testing.T) {
	w, k := leading(t)
	const get, body = "secrets/getSecretValue", `{"path":"/app/dev/web/db"}`
	signed := w.sign(k, get, body, w.now())
	out, err := w.sendSigned(signed, get, body)
	require.NoError(t, err)
	require.Equal(t, "hello", string(into[wire.GetSecretValueResponse](t, out).Value.Expose()))
	_, err = w.sendSigned(signed, get, body)
	w.refused(fault.Unauthenticated, "it was sent before", err)

	me := into[wire.WhoAmIResponse](t, must(w.sendSigned(w.sign(k, who, `{}`, w.now()), who, `{}`)))
	require.Equal(t, k.id, me.CredentialID)
	require.Equal(t, "svc", me.Principal)
	require.Equal(t, w.now().Add(90*24*time.Hour), me.ExpiresAt.Time)
	events := w.events(audit.Filter{Events: []string{"secrets.get_value"}})
	require.Equal(t, k.id, events[0].CredentialID)
	require.Equal(t, "Unauthenticated", events[1].Code, "a replay is told")
	for _, e := range events {
		require.NotContains(t, fmt.Sprintf("%+v", e), k.secret)
	}
}

func must(out string, err error) string {
	if err != nil {
		panic(err)
	}
	return out
}

// TestTheSameRequestComesAgainUnderItsID: the front end tries anew where
// surely nothing was done, and looks again while a request waits.
func TestTheSameRequestComesAgainUnderItsID(t *testing.T) {
	w, k := leading(t)
	id, signed := uuid.NewString(), w.sign(k, who, `{}`, w.now())
	for range 3 {
		_, err := w.sendAgain(id, signed, who, `{}`)
		require.NoError(t, err)
	}
	w.setNow(w.now().Add(5*time.Minute + engine.MaxWait)) // the last look of one that came late
	_, err := w.sendAgain(id, signed, who, `{}`)
	require.NoError(t, err)
	_, err = w.sendSigned(signed, who, `{}`)
	w.refused(fault.Unauthenticated, "", err)
	unnamed := w.sign(k, who, `{}`, w.now())
	_, err = w.sendAgain("", unnamed, who, `{}`)
	w.refused(fault.Unauthenticated, "", err)
}

func TestValidRequestsMayArriveInAnyOrder(t *testing.T) {
	w, k := leading(t)
	first, second := w.sign(k, who, `{}`, w.now()), w.sign(k, who, `{}`, w.now().Add(time.Second))
	w.setNow(w.now().Add(2 * time.Second))
	must(w.sendSigned(second, who, `{}`))
	must(w.sendSigned(first, who, `{}`))
}

func TestWhatWasAlteredIsRefusedAlike(t *testing.T) {
	w, k := leading(t)
	const get, body = "secrets/getSecretValue", `{"path":"/app/dev/web/db"}`
	other := w.accessKeyOf("admin", "")
	bound := w.accessKeyOf("svc", `,"boundCidrs":["10.0.0.0/8"]`)
	short := w.accessKeyOf("svc", `,"ttl":"1s"`)
	gone := w.accessKeyOf("svc", "")
	w.ok("iam/deleteAccessKey", `{"accessKeyId":%q}`, gone.id)
	w.setNow(w.now().Add(time.Second))
	alter := func(f func(r *sigv4.Request)) *sigv4.Request {
		r := *w.sign(k, get, body, w.now())
		r.Head = bytes.Clone(r.Head)
		f(&r)
		return &r
	}
	want := ""
	for name, signed := range map[string]*sigv4.Request{
		"another secret":    w.sign(pairOfKeys{k.id, other.secret}, get, body, w.now()),
		"another id":        alter(func(r *sigv4.Request) { r.KeyID = other.id }),
		"unknown id":        alter(func(r *sigv4.Request) { r.KeyID = absentAccessKey }),
		"another region":    alter(func(r *sigv4.Request) { r.Region = "eu" }),
		"another date":      alter(func(r *sigv4.Request) { r.Time = r.Time.Add(time.Second) }),
		"another header":    alter(func(r *sigv4.Request) { r.Head = bytes.Replace(r.Head, []byte("node:7400"), []byte("nodE:7400"), 1) }),
		"another signature": alter(func(r *sigv4.Request) { r.Signature[31] ^= 1 }),
		"another operation": w.sign(k, who, body, w.now()),
		"another body":      w.sign(k, get, `{"path":"/app/dev/web/dc"}`, w.now()),
		"late":              w.sign(k, get, body, w.now().Add(-5*time.Minute-time.Second)),
		"future":            w.sign(k, get, body, w.now().Add(6*time.Second)),
		"bound elsewhere":   w.sign(bound, get, body, w.now()),
		"expired":           w.sign(short, get, body, w.now()),
		"deleted":           w.sign(gone, get, body, w.now()),
	} {
		_, err := w.sendSigned(signed, get, body)
		w.refused(fault.Unauthenticated, "", err)
		if want == "" {
			want = err.Error()
		}
		require.Equal(t, want, err.Error(), name)
	}
	w.source = netip.MustParseAddr("10.9.8.7")
	must(w.sendSigned(w.sign(bound, get, body, w.now()), get, body))
}

func TestTheWindowOfASignature(t *testing.T) {
	w, k := leading(t)
	w.setNow(w.now().Add(10 * time.Minute))
	must(w.sendSigned(w.sign(k, who, `{}`, w.now().Add(-5*time.Minute)), who, `{}`))
	ahead := w.sign(k, who, `{}`, w.now().Add(5*time.Second))
	must(w.sendSigned(ahead, who, `{}`))
	for range 12 { // remembered for as long as it could be sent
		_, err := w.sendSigned(ahead, who, `{}`)
		w.refused(fault.Unauthenticated, "", err)
		w.setNow(w.now().Add(30 * time.Second))
		_, _ = w.sendSigned(w.sign(k, who, `{}`, w.now()), who, `{}`)
	}
	w.setNow(w.now().Add(-10 * time.Minute)) // the clock is set back
	_, err := w.sendSigned(ahead, who, `{}`)
	w.refused(fault.Unauthenticated, "", err)
}

// TestANewLeaderTakesNothingThatAnEarlierOneMayHaveServed: it remembers no
// signature, so what may have been served is refused until it is signed anew.
func TestANewLeaderTakesNothingThatAnEarlierOneMayHaveServed(t *testing.T) {
	w, k := leading(t)
	served := w.sign(k, who, `{}`, w.now())
	ahead := w.sign(k, who, `{}`, w.now().Add(5*time.Second))
	must(w.sendSigned(served, who, `{}`))
	must(w.sendSigned(ahead, who, `{}`))
	require.NoError(t, w.engine.OpenLedger(context.Background())) // what a leader begins with
	for _, again := range []*sigv4.Request{served, ahead} {
		_, err := w.sendSigned(again, who, `{}`)
		w.refused(fault.NoLeader, "sign it again", err)
		require.True(t, engine.SignAgain(err))
	}
	w.setNow(w.now().Add(6 * time.Second))
	for _, again := range []*sigv4.Request{served, ahead} {
		_, err := w.sendSigned(again, who, `{}`)
		require.True(t, engine.SignAgain(err), "however long it leads")
	}
	must(w.sendSigned(w.sign(k, who, `{}`, w.now()), who, `{}`))
}

// TestWhoHasLostTheLeadServesNoSignature: another node led meanwhile, and
// remembers what this one does not.
func TestWhoHasLostTheLeadServesNoSignature(t *testing.T) {
	w, k := leading(t)
	cfg := w.engine.Config
	other, err := engine.New(cfg)
	require.NoError(t, err)
	require.NoError(t, other.OpenLedger(context.Background()))
	_, err = w.sendSigned(w.sign(k, who, `{}`, w.now()), who, `{}`)
	w.refused(fault.NoLeader, "only begun to lead", err)
	require.False(t, engine.SignAgain(err), "the front end tries again")
}

func TestWithoutAnHSMNoSignatureIsTaken(t *testing.T) {
	w, k := leading(t)
	w.token.Down.Store(true)
	signed := w.sign(k, who, `{}`, w.now())
	_, err := w.sendSigned(signed, who, `{}`)
	w.refused(fault.HsmUnavailable, "", err)
	w.token.Down.Store(false)
	must(w.sendSigned(signed, who, `{}`)) // it was not used up
	w.token.Down.Store(true)
	must(w.sendSigned(w.sign(k, who, `{}`, w.now().Add(time.Second)), who, `{}`)) // derived a moment ago
	w.ok("iam/deleteAccessKey", `{"accessKeyId":%q}`, k.id)
	_, err = w.sendSigned(w.sign(k, who, `{}`, w.now()), who, `{}`)
	w.refused(fault.Unauthenticated, "", err)
	_, err = w.as(w.admin, "iam/createAccessKey", `{"principal":"svc"}`)
	w.refused(fault.HsmUnavailable, "", err)
	require.NotContains(t, w.ok("iam/listAccessKeys", `{"principal":"svc"}`), "SRAK", "none was made whose secret nobody knows")
}
