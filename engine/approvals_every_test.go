package engine_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/api/wire"
	"github.com/strongroom/strongroom/engine"
	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/internal/fault"
)

// Whatever a policy names, in every operation of the table: alone nobody does
// it, the request for approval does nothing, and one approval serves once.
func TestEveryOperationCanBeApproved(t *testing.T) {
	held := 0
	eachSample(t, func(t *testing.T, s *stock, c sample) {
		service, name, _ := strings.Cut(c.operation, "/")
		o := engine.Find(service, name)
		bob := s.principal("bob", approves)
		s.setNow(s.now().Add(time.Second))
		s.ok("iam/putPolicy", `{"name":"all","statements":[{"effect":"requireApproval","actions":["*"],"approval":{"principals":["bob"],"count":1}}]}`)
		s.ok("iam/attachPolicy", `{"policy":"all","principal":"admin"}`)
		ask := fmt.Sprintf(`{"operation":%q,"request":%s,"reason":"ticket 7"}`, c.operation, c.good)
		index := func() uint64 { return s.log.machine.State().Index() }
		before := index()
		switch _, _, err := s.request(s.admin, c.operation, c.good); {
		case err == nil: // about the caller itself, a list, a batch, or an approval
			_, err := s.as(s.admin, "iam/requestApproval", ask)
			require.Contains(t, []fault.Kind{fault.Conflict, fault.Unauthenticated, fault.InvalidRequest}, fault.KindOf(err), "%v", err)
			return
		default:
			s.refused(fault.AccessDenied, "needs the approval of other people here", err)
		}
		held++
		require.Equal(t, before, index(), "nothing may be committed for who is alone")
		id, answer, err := s.request(s.admin, "iam/requestApproval", ask)
		require.NoError(t, err)
		asked := into[wire.ApprovalResponse](t, answer)
		_, others := s.story(id, "iam.request_approval")
		require.Empty(t, others, "no key may be used for what is only asked for")
		require.Equal(t, before+1, index(), "the request for approval is all that may be committed")
		_, err = s.as(s.admin, c.operation, c.good)
		s.refused(fault.AccessDenied, "needs the approval", err)

		_, err = s.as(bob, "iam/approve", fmt.Sprintf(`{"approvalId":%q}`, asked.ApprovalID))
		require.NoError(t, err)
		id, _, err = s.request(s.admin, c.operation, c.good)
		require.NoError(t, err)
		own, _ := s.story(id, o.Event)
		require.Equal(t, asked.ApprovalID, own[0].ApprovalID)
		require.Equal(t, fsm.ApprovalUsed, s.log.machine.State().Approval(asked.ApprovalID).State)
		if c.operation == "iam/logout" {
			return
		}
		if _, err = s.as(s.admin, c.operation, c.good); o.Write {
			s.refused(fault.AccessDenied, "needs the approval", err)
		} else {
			require.NoError(t, err, "its answer may have been lost")
			s.setNow(s.now().Add(5 * time.Minute))
			_, err = s.as(s.admin, c.operation, c.good)
			s.refused(fault.AccessDenied, "needs the approval", err)
		}
	})
	require.Greater(t, held, 60)
}
