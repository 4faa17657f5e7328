package engine_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/audit"
	"github.com/strongroom/strongroom/engine"
	"github.com/strongroom/strongroom/internal/fault"
)

// sent is a request as who sent it knows it: what the trail must say of it.
type sent struct {
	ID, Event string
	Outcome   string
	Code      string
	Principal string
}

// TestTheTrailIsTheListOfRequests sends every operation in every way that it
// can end (denied, as nobody, failed, allowed, and as bytes that are no
// request), and keeps a list. The events of the trail are that list: none is
// missing, none is told twice, none is made up, and they stand in the order in
// which the requests were answered. What else is there are the inner events of
// these requests, before their own.
func TestTheTrailIsTheListOfRequests(t *testing.T) {
	requests, seen := 0, map[string]bool{}
	eachSample(t, func(t *testing.T, s *stock, c sample) {
		service, name, _ := strings.Cut(c.operation, "/")
		o := engine.Find(service, name)
		nobody := s.principal("nobody", `[{"effect":"allow","actions":["kms:encrypt"],"keys":["alias/unrelated"]}]`)
		before := s.events(audit.Filter{})
		mark := before[len(before)-1].Sequence
		var list []sent
		send := func(token, body, principal string, outcome string, code fault.Kind) {
			t.Helper()
			id, _, err := s.request(token, c.operation, body)
			require.Equal(t, code, fault.KindOf(err), "%v", err)
			list = append(list, sent{id, o.Event, outcome, string(code), principal})
		}
		if o.Action != "" {
			send(nobody, c.good, "nobody", audit.Denied, fault.AccessDenied)
		}
		if !o.Open {
			send("", c.good, "", audit.Denied, fault.Unauthenticated)
		}
		// Nobody is known yet and nothing was asked: the only way to get an
		// answer without an event.
		for _, token := range []string{s.admin, nobody, ""} {
			_, _, err := s.request(token, c.operation, `{"no":`)
			s.refused(fault.InvalidRequest, "", err)
		}
		send(s.admin, c.bad, "admin", audit.Failed, fault.Kind(c.code))
		send(s.admin, c.good, "admin", audit.OK, "")

		requireIs(t, list, c, s.events(audit.Filter{After: mark}))
		requests += len(list)
		seen[c.operation] = true
	})
	for _, o := range engine.Operations() {
		require.True(t, seen[o.Service+"/"+o.Name], "%s was not sent", o.Path())
	}
	t.Logf("%d requests to %d operations", requests, len(seen))
}

// requireIs asserts that events are those of the list, in its order, with
// those of what it took before each.
func requireIs(t *testing.T, list []sent, c sample, events []audit.Event) {
	t.Helper()
	var own []sent
	at := 0
	for _, e := range events {
		require.Less(t, at, len(list), "nobody asked for this: %+v", e)
		require.Equal(t, list[at].ID, e.RequestID, "another request's turn: %+v", e)
		if e.Event != list[at].Event {
			require.NotEqual(t, audit.Denied, list[at].Outcome, "no key is used for who is denied: %+v", e)
			require.Equal(t, list[at].Principal, e.Principal)
			continue
		}
		own = append(own, sent{e.RequestID, e.Event, e.Outcome, e.Code, e.Principal})
		at++
	}
	require.Equal(t, list, own, c.operation)
}
