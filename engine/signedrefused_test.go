package engine_test

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/engine"
	"github.com/strongroom/strongroom/internal/fault"
	"github.com/strongroom/strongroom/internal/sigv4"
)

// The caller is told one thing for all, and the operator which it was.
func TestRefusedSignedRequestsAreCountedByReason(t *testing.T) {
	w, k := leading(t)
	bound := w.accessKeyOf("svc", `,"boundCidrs":["10.0.0.0/8"]`)
	short := w.accessKeyOf("svc", `,"ttl":"1s"`)
	gone := w.accessKeyOf("svc", "")
	w.ok("iam/deleteAccessKey", `{"accessKeyId":%q}`, gone.id)
	w.setNow(w.now().Add(time.Second))
	used := w.sign(k, who, `{}`, w.now())
	must(w.sendSigned(used, who, `{}`))
	tampered := *w.sign(k, who, `{}`, w.now())
	tampered.Signature[0] ^= 1
	w.source = netip.MustParseAddr("192.0.2.1")

	counted := map[string]float64{}
	for _, c := range []struct {
		reason string
		signed *sigv4.Request
	}{
		{"unknown_key", w.sign(gone, who, `{}`, w.now())},
		{"unknown_key", w.sign(pairOfKeys{absentAccessKey, k.secret}, who, `{}`, w.now())},
		{"expired_key", w.sign(short, who, `{}`, w.now())},
		{"source_address", w.sign(bound, who, `{}`, w.now())},
		{"bad_signature", &tampered},
		{"bad_signature", w.sign(k, who, `{"a":1}`, w.now())},
		{"bad_signature", w.sign(k, "iam/logout", `{}`, w.now())},
		{"late", w.sign(k, who, `{}`, w.now().Add(-5*time.Minute-time.Second))},
		{"early", w.sign(k, who, `{}`, w.now().Add(6*time.Second))},
		{"replayed", used},
		{"before_leader", w.sign(k, who, `{}`, w.now().Add(-time.Minute))},
	} {
		_, err := w.sendSigned(c.signed, who, `{}`)
		require.Error(t, err, c.reason)
		require.NotContains(t, err.Error(), c.reason)
		counted[c.reason]++
		for _, reason := range []string{"unknown_key", "expired_key", "source_address", "bad_signature", "late", "early", "replayed", "before_leader", "memory_full"} {
			require.Equal(t, counted[reason], testutil.ToFloat64(w.engine.SignedRefusals().WithLabelValues(reason)), "%s after %s", reason, c.reason)
		}
	}
	require.Equal(t, 9, testutil.CollectAndCount(w.engine.SignedRefusals()), "nothing that a caller sends becomes a label")
	must(w.sendSigned(w.sign(k, who, `{}`, w.now().Add(time.Second)), who, `{}`))
}

// fullFor holds the refusal of a full memory to what a client needs: another
// code than that of a bad signature, and what to do.
func fullFor(t *testing.T, w *world, k pairOfKeys) {
	t.Helper()
	before := testutil.ToFloat64(w.engine.SignedRefusals().WithLabelValues("memory_full"))
	_, err := w.sendSigned(w.sign(k, who, `{ }`, w.now()), who, `{ }`)
	w.refused(fault.RateLimited, "sign again in a minute, or use a token", err)
	require.Equal(t, before+1, testutil.ToFloat64(w.engine.SignedRefusals().WithLabelValues("memory_full")))
}

// Whoever signs more than can be remembered is refused, and shuts out nobody
// else. What was accepted before stays used up.
func TestAKeyThatFillsItsMemoryIsRefusedAlone(t *testing.T) {
	w, k := leading(t)
	other := w.accessKeyOf("svc", "")
	used := w.sign(k, who, `{}`, w.now())
	must(w.sendAgain("the-first", used, who, `{}`))
	require.NoError(t, w.engine.AcceptSignatures(k.id, w.now(), engine.MaxKeyNonces-1))
	fullFor(t, w, k)
	_, err := w.sendSigned(used, who, `{}`)
	w.refused(fault.Unauthenticated, "it was sent before", err)
	must(w.sendAgain("the-first", used, who, `{}`)) // that request itself, tried anew
	must(w.sendSigned(w.sign(other, who, `{}`, w.now()), who, `{}`))
	_, err = w.as(w.admin, who, `{}`)
	require.NoError(t, err, "tokens are told apart by nothing")
	// The bound is for one minute of dates.
	w.setNow(w.now().Add(time.Minute))
	must(w.sendSigned(w.sign(k, who, `{}`, w.now()), who, `{}`))
}

// When all of the memory is full no signed request is taken: forgetting one
// would let it be sent again. It comes back by itself.
func TestAFullMemoryOfSignaturesRefusesAllUntilItForgets(t *testing.T) {
	w, k := leading(t)
	used := w.sign(k, who, `{}`, w.now())
	must(w.sendSigned(used, who, `{}`))
	const fillers = engine.MaxNonces / engine.MaxKeyNonces
	for i := range fillers - 1 {
		require.NoError(t, w.engine.AcceptSignatures(fmt.Sprintf("filler-%02d", i), w.now(), engine.MaxKeyNonces))
	}
	require.NoError(t, w.engine.AcceptSignatures("filler-last", w.now(), engine.MaxKeyNonces-1))
	fullFor(t, w, k)
	fullFor(t, w, w.accessKeyOf("svc", ""))
	w.setNow(w.now().Add(time.Minute))
	fullFor(t, w, k) // also under a later date
	_, err := w.sendSigned(used, who, `{}`)
	w.refused(fault.Unauthenticated, "it was sent before", err)
	_, err = w.as(w.admin, who, `{}`)
	require.NoError(t, err)

	w.setNow(w.now().Add(5*time.Minute + engine.MaxWait + 2*time.Minute))
	must(w.sendSigned(w.sign(k, who, `{}`, w.now()), who, `{}`))
	_, err = w.sendSigned(used, who, `{}`)
	w.refused(fault.Unauthenticated, "", err) // forgotten, and too old
}
