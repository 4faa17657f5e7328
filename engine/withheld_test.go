package engine_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/api/wire"
	"github.com/strongroom/strongroom/audit"
	"github.com/strongroom/strongroom/engine"
	"github.com/strongroom/strongroom/internal/fault"
)

// TestWhatTheTrailDoesNotTakeIsNotAnswered takes the trail away after it said
// that it is ready: between the look at the state and the events.
func TestWhatTheTrailDoesNotTakeIsNotAnswered(t *testing.T) {
	eachSample(t, func(t *testing.T, s *stock, c sample) {
		service, name, _ := strings.Cut(c.operation, "/")
		write := engine.Find(service, name).Write
		before := s.log.machine.State().Index()
		closed := false
		s.log.onRead = func() {
			if !closed {
				closed = true
				require.NoError(t, s.trail.Close())
			}
		}
		answer, err := s.as(s.admin, c.operation, withTokenIf(write, c.good))
		s.log.onRead = nil
		if c.operation == "audit/queryEvents" && err == nil {
			t.Fatal("answered without its event")
		}
		s.refused(fault.AuditUnavailable, "audit trail", err)
		require.Empty(t, answer)
		require.Equal(t, []string{"audit trail cannot be written"}, s.steppedDown, "another node may be able to")
		require.Equal(t, write, s.log.machine.State().Index() > before)

		s.openTrail()
		_, err = s.as(s.admin, c.operation, withTokenIf(write, c.good))
		if c.operation == "iam/logout" {
			s.refused(fault.Unauthenticated, "", err) // the token is gone, as was asked
			return
		}
		if c.operation == "cluster/createJoinToken" || c.operation == "iam/createToken" || c.operation == "iam/createAccessKey" || c.operation == "iam/login" {
			s.refused(fault.Conflict, "shown only once", err)
			return
		}
		require.NoError(t, err, "the retry finds what was done, and is answered")
	})
}

func withTokenIf(write bool, body string) string {
	if write {
		return withToken(body, "retry-1")
	}
	return body
}

func TestATrailThatIsNotReadyStopsEveryRequestBeforeItIsLookedAt(t *testing.T) {
	s := newStock(t)
	require.NoError(t, s.trail.Close())
	before, reads := s.log.machine.State().Index(), 0
	opens, seals := s.token.Opens.Load(), s.token.Seals.Load()
	s.log.onRead = func() { reads++ }
	for i, c := range s.samples() {
		answer, err := s.as(s.admin, c.operation, c.good)
		s.refused(fault.AuditUnavailable, "", err)
		require.Empty(t, answer)
		require.Len(t, s.steppedDown, i+1)
	}
	require.Zero(t, reads)
	require.Equal(t, before, s.log.machine.State().Index())
	require.Equal(t, []int64{opens, seals}, []int64{s.token.Opens.Load(), s.token.Seals.Load()}, "no key may be used without a trail")
}

// TestAPanicLeavesItsEvent: what an operation did before it panicked was done
// by somebody, and the trail says by whom.
func TestAPanicLeavesItsEvent(t *testing.T) {
	w := newWorld(t)
	w.engine.Cluster.Members = func() []wire.NodeStatus { panic("a fault of ours") }
	require.PanicsWithValue(t, "a fault of ours", func() { _, _ = w.as(w.admin, "cluster/status", `{}`) })
	events := w.events(audit.Filter{Events: []string{"cluster.status"}})
	require.Len(t, events, 1)
	require.Equal(t, "failed Internal admin", outcomes(events)[0])
}

func TestARequestThatIsNotJSONIsNoEvent(t *testing.T) {
	w := newWorld(t)
	before := w.trail.Head().Sequence
	for _, body := range []string{``, `{`, `[]`, `{"a":1,"a":2}`, "{\"a\":\"\xff\"}"} {
		_, err := w.as(w.admin, "secrets/getSecretValue", body)
		w.refused(fault.InvalidRequest, "", err)
	}
	require.Equal(t, before, w.trail.Head().Sequence)
	_, err := w.as(w.admin, "secrets/getSecretValue", `{"nonsense":1}`)
	w.refused(fault.InvalidRequest, "nonsense", err)
	require.Equal(t, before+1, w.trail.Head().Sequence, "who asked is known, so this one is")
}

func TestEachItemOfABatchIsAnEvent(t *testing.T) {
	s := newStock(t)
	token := s.principal("web", `[{"effect":"allow","roles":["secrets-value-access"],"paths":["/app/dev/web/**"]}]`)
	id, _, err := s.request(token, "secrets/batchGetSecretValue",
		`{"items":[{"path":"/app/dev/web/db"},{"path":"/app/dev/api/x"},{"path":"/app/dev/web/none"},{"path":"/app/dev/web/db","version":1}]}`)
	require.NoError(t, err)
	items, _ := s.story(id, "secrets.get_value")
	require.Equal(t, []string{"ok  web", "denied AccessDenied web", "failed NotFound web", "ok  web"}, outcomes(items))
	require.Equal(t, []uint64{3, 0, 0, 1}, []uint64{items[0].Version, items[1].Version, items[2].Version, items[3].Version})
	require.NotEmpty(t, items[1].DecisionID)
	own, _ := s.story(id, "secrets.batch_get_value")
	require.Len(t, own, 1)
	decrypts, _ := s.story(id, "kms.decrypt")
	require.Len(t, decrypts, 2)
}

func TestBatchesAreBoundedAndNameTheItemAtFault(t *testing.T) {
	s := newStock(t)
	item := `{"path":"/app/dev/web/db"}`
	s.ok("secrets/batchGetSecretValue", `{"items":[%s]}`, strings.TrimSuffix(strings.Repeat(item+",", 100), ","))
	for items, says := range map[string]string{
		``:                                     "items: must have 1 to 100",
		strings.Repeat(item+",", 100) + item:   "items: must have 1 to 100",
		item + `,{"path":"a"}`:                 "items[1].path: must start with",
		item + `,{}`:                           "items[1].path: must not be empty",
		item + `,{"path":"/a","version":0}`:    "items[1].version: must be 1 or more",
		item + `,{"path":"/a","version":-1}`:   "items[1].version: must be a whole",
		item + `,{"path":"/a","paths":["/b"]}`: "items[1].paths: is not a field",
		item + `,"/a"`:                         "items[1]: must be an object",
	} {
		_, err := s.as(s.admin, "secrets/batchGetSecretValue", fmt.Sprintf(`{"items":[%s]}`, items))
		s.refused(fault.InvalidRequest, says, err)
	}
}

// TestABatchIsNotHalfAnswered: an HSM that goes away in the middle fails the
// batch, so that a caller does not take a passing fault for an item's own.
func TestABatchIsNotHalfAnswered(t *testing.T) {
	s := newStock(t)
	s.token.Down.Store(true)
	answer, err := s.as(s.admin, "secrets/batchGetSecretValue", `{"items":[{"path":"/app/dev/web/none"},{"path":"/app/dev/web/db"}]}`)
	s.refused(fault.HsmUnavailable, "", err)
	require.Empty(t, answer)
}
