package e2e_test

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/test/localcluster"
)

var followedLine = regexp.MustCompile(`(?m)^strongroom_follower_requests_total\{result="served"\} (\d+)$`)

// followed answers how many requests a node served by itself while it did not
// lead.
func followed(t *testing.T, c *localcluster.Cluster, node int) int {
	t.Helper()
	found := followedLine.FindStringSubmatch(c.Metrics(node))
	require.NotNil(t, found)
	n, err := strconv.Atoi(found[1])
	require.NoError(t, err)
	return n
}

// answerOf sends a request until the answer is one: not "again".
func answerOf(t *testing.T, c *localcluster.Cluster, node int, token, operation, body string) localcluster.Response {
	t.Helper()
	var out localcluster.Response
	c.Await("an answer", func() bool {
		r, err := c.Do(context.Background(), node, token, operation, body)
		out = r
		return err == nil && !r.Retryable()
	})
	return out
}

// warm reads through a node until that serves the read by itself.
func warm(t *testing.T, c *localcluster.Cluster, node int, token, operation, body string) {
	t.Helper()
	c.Await("the follower to serve the read by itself", func() bool {
		before := followed(t, c, node)
		r := answerOf(t, c, node, token, operation, body)
		require.Equal(t, http.StatusOK, r.Status, "%s", r.Body)
		return followed(t, c, node) > before || c.Leader() == node
	})
}

// What was taken away through the leader is gone for every follower that is
// asked after the answer: revoked tokens, detached policies, access policies,
// disabled and destroyed versions, hundreds of times. The followers serve the
// reads by themselves before.
func TestNoFollowerServesWhatWasTakenAway(t *testing.T) {
	c := suite.Shared(t)
	leader := c.Leader()
	followers := c.Others(leader)
	const path = "/app/e2e/follow/taken"
	c.OK(1, "secrets/createSecret", `{"path":%q,"value":%q}`, path, localcluster.B64("v"))
	body := fmt.Sprintf(`{"path":%q}`, path)
	token := c.Principal("follow-taken", `[{"effect":"allow","actions":["secrets:getSecretValue","secrets:describeSecret"],"paths":["/app/e2e/follow/*"]}]`)
	for _, node := range followers {
		warm(t, c, node, token, "secrets/getSecretValue", body)
	}
	before := followed(t, c, followers[0]) + followed(t, c, followers[1])
	refused := func(round int, what, token string, status int) {
		for i := range followers {
			r := answerOf(t, c, followers[(round+i)%2], token, "secrets/getSecretValue", body)
			require.Equal(t, status, r.Status, "round %d, %s: %s", round, what, r.Body)
			if status != http.StatusConflict && what != "an access policy" { // which are about values
				r = answerOf(t, c, followers[(round+i)%2], token, "secrets/describeSecret", body)
				require.Equal(t, status, r.Status, "round %d, %s: %s", round, what, r.Body)
			}
		}
	}
	current := 1
	for round := range 200 {
		refused(round, "allowed", token, http.StatusOK)
		kind := round % 4
		if round%10 == 9 {
			kind = 4 // the next reads are of a version that is new to everybody
		}
		switch kind {
		case 0:
			made := c.OK(leader, "iam/createToken", `{"principal":"follow-taken"}`)
			fresh := made["token"].(string)
			refused(round, "a fresh token", fresh, http.StatusOK)
			c.OK(leader, "iam/revokeToken", `{"tokenId":%q}`, made["tokenId"])
			refused(round, "a revoked token", fresh, http.StatusUnauthorized)
		case 1:
			c.OK(leader, "iam/detachPolicy", `{"policy":"follow-taken","principal":"follow-taken"}`)
			refused(round, "a detached policy", token, http.StatusForbidden)
			c.OK(leader, "iam/attachPolicy", `{"policy":"follow-taken","principal":"follow-taken"}`)
		case 2:
			c.OK(leader, "iam/putAccessPolicy", `{"name":"follow-taken","paths":["/app/e2e/follow/**"],"sourceCidrs":["192.0.2.0/24"]}`)
			refused(round, "an access policy", token, http.StatusForbidden)
			c.OK(leader, "iam/deleteAccessPolicy", `{"name":"follow-taken"}`)
		case 3:
			c.OK(leader, "secrets/disableVersion", `{"path":%q,"version":%d,"reason":"round"}`, path, current)
			refused(round, "a disabled version", token, http.StatusConflict)
			c.OK(leader, "secrets/enableVersion", `{"path":%q,"version":%d,"reason":"round"}`, path, current)
		case 4:
			old := fmt.Sprintf(`{"path":%q,"version":%d}`, path, current)
			c.OK(leader, "secrets/putSecretValue", `{"path":%q,"value":%q}`, path, localcluster.B64(fmt.Sprint("v", round)))
			current++
			c.OK(leader, "secrets/destroyVersion", `{"path":%q,"version":%d,"force":true,"reason":"round"}`, path, current-1)
			for i := range followers {
				r := answerOf(t, c, followers[(round+i)%2], token, "secrets/getSecretValue", old)
				require.Equal(t, "VersionNotActive", r.Code(), "round %d: %s", round, r.Body)
			}
		}
	}
	served := followed(t, c, followers[0]) + followed(t, c, followers[1]) - before
	t.Logf("%d requests were served by the followers themselves", served)
	require.Positive(t, served, "nothing was served by followers, so nothing was tested")
}

// A leader that stands still says nothing. Its followers serve nothing by
// themselves until there is another one, and nothing old then.
func TestFollowersOfAStoppedLeaderServeNothingOld(t *testing.T) {
	c := suite.Shared(t)
	const path = "/app/e2e/follow/stopped"
	c.OK(1, "secrets/createSecret", `{"path":%q,"value":%q}`, path, localcluster.B64("v0"))
	body := fmt.Sprintf(`{"path":%q}`, path)
	for round := range 4 {
		leader := c.Leader()
		followers := c.Others(leader)
		for _, node := range followers {
			warm(t, c, node, c.Token, "secrets/getSecretValue", body)
		}
		var written atomic.Int64
		written.Store(-1)
		ctx, cancel := context.WithCancel(context.Background())
		var running sync.WaitGroup
		for _, node := range followers {
			for range 4 {
				running.Go(func() {
					for ctx.Err() == nil {
						after := written.Load() >= 0
						one, done := context.WithTimeout(ctx, 5*time.Second)
						r, err := c.Do(one, node, c.Token, "secrets/getSecretValue", body)
						done()
						if err != nil || r.Retryable() {
							continue
						}
						got, err := r.Value()
						assert.NoError(t, err)
						if after {
							assert.Equal(t, fmt.Sprint("stopped ", round), got)
						}
					}
				})
			}
		}
		c.Signal(leader, syscall.SIGSTOP)
		writeElsewhere(t, c, followers, fmt.Sprintf(`{"path":%q,"value":%q,"clientToken":"stopped-%d"}`, path, localcluster.B64(fmt.Sprint("stopped ", round)), round))
		written.Store(int64(round))
		c.Await("reads without the old leader", func() bool {
			one, done := context.WithTimeout(context.Background(), 3*time.Second)
			defer done()
			r, err := c.Do(one, followers[0], c.Token, "secrets/getSecretValue", body)
			return err == nil && r.Status == http.StatusOK
		})
		c.Signal(leader, syscall.SIGCONT)
		c.AwaitReady(leader)
		cancel()
		running.Wait()
	}
}

// No version is destroyed that a follower gives to a consumer at the same time:
// one of the two is refused.
func TestNoVersionIsDestroyedThatAFollowerHandsOut(t *testing.T) {
	c := suite.Shared(t)
	leader := c.Leader()
	followers := c.Others(leader)
	const path = "/app/e2e/follow/race"
	c.OK(1, "secrets/createSecret", `{"path":%q,"value":%q}`, path, localcluster.B64("v1"))
	warmUp := fmt.Sprintf(`{"path":%q,"instance":"warm"}`, path)
	for _, node := range followers {
		warm(t, c, node, c.Token, "secrets/getSecretValue", warmUp)
	}
	destroyed := 0
	for round := range 100 {
		old := round + 1
		c.OK(leader, "secrets/putSecretValue", `{"path":%q,"value":%q}`, path, localcluster.B64(fmt.Sprint("v", round+2)))
		if round%2 == 0 { // "warm" had it, and has moved
			read := fmt.Sprintf(`{"path":%q,"version":%d,"instance":"warm"}`, path, old)
			require.Equal(t, http.StatusOK, answerOf(t, c, followers[0], c.Token, "secrets/getSecretValue", read).Status)
			require.Equal(t, http.StatusOK, answerOf(t, c, followers[0], c.Token, "secrets/getSecretValue", read).Status)
			c.OK(leader, "secrets/confirmVersion", `{"path":%q,"version":%d,"instance":"warm"}`, path, old+1)
		}
		var got, gone localcluster.Response
		var running sync.WaitGroup
		running.Go(func() {
			got = answerOf(t, c, followers[round%2], c.Token, "secrets/getSecretValue", fmt.Sprintf(`{"path":%q,"version":%d,"instance":"warm"}`, path, old))
		})
		running.Go(func() {
			gone = answerOf(t, c, leader, c.Token, "secrets/destroyVersion", fmt.Sprintf(`{"path":%q,"version":%d,"reason":"race"}`, path, old))
		})
		running.Wait()
		require.False(t, got.Status == http.StatusOK && gone.Status == http.StatusOK, "round %d: version %d was handed out and destroyed", round, old)
		if gone.Status == http.StatusOK {
			destroyed++
		} else {
			require.Equal(t, "VersionInUse", gone.Code(), "%s", gone.Body)
		}
	}
	t.Logf("%d of 100 were destroyed", destroyed)
}

// What a follower served is found where requests are looked for: its event is
// in its own trail, and a denial is explained by its id through any node.
func TestWhatAFollowerServedIsInTheTrail(t *testing.T) {
	c := suite.Shared(t)
	leader := c.Leader()
	node := c.Others(leader)[0]
	const path = "/app/e2e/follow/trail"
	c.OK(1, "secrets/createSecret", `{"path":%q,"value":%q}`, path, localcluster.B64("v"))
	body := fmt.Sprintf(`{"path":%q}`, path)
	warm(t, c, node, c.Token, "secrets/getSecretValue", body)
	var r localcluster.Response
	c.Await("the follower to serve one by itself", func() bool {
		before := followed(t, c, node)
		r = answerOf(t, c, node, c.Token, "secrets/getSecretValue", body)
		return followed(t, c, node) > before
	})
	events := c.OK(leader, "audit/queryEvents", `{"requestId":%q,"event":"secrets.get_value"}`, r.RequestID())["events"].([]any)
	require.Len(t, events, 1)
	event := events[0].(map[string]any)
	require.Equal(t, localcluster.Name(node), event["node"])
	require.NotContains(t, event, "via")

	token := c.Principal("follow-denied", `[{"effect":"allow","actions":["secrets:getSecretValue"],"paths":["/app/none/*"]}]`)
	denied := answerOf(t, c, node, token, "secrets/getSecretValue", body)
	require.Equal(t, http.StatusForbidden, denied.Status, "%s", denied.Body)
	id := decisionOf(t, denied)
	for n := range 3 {
		out := c.OK(n+1, "iam/explain", `{"decisionId":%q}`, id)
		require.Equal(t, "deny", out["decision"])
	}
}

func decisionOf(t *testing.T, r localcluster.Response) string {
	t.Helper()
	found := regexp.MustCompile(`"decisionId":"([^"]+)"`).FindSubmatch(r.Body)
	require.NotNil(t, found, "%s", r.Body)
	return string(found[1])
}

// A follower whose HSM is gone still answers: the leader opens the value.
func TestAFollowerWithoutItsTokenStillAnswers(t *testing.T) {
	c := suite.Shared(t)
	leader := c.Leader()
	node := c.Others(leader)[0]
	const path = "/app/e2e/follow/hsm"
	c.OK(1, "secrets/createSecret", `{"path":%q,"value":%q}`, path, localcluster.B64("v"))
	body := fmt.Sprintf(`{"path":%q}`, path)
	warm(t, c, node, c.Token, "secrets/getSecretValue", body)
	tokens := filepath.Join(c.NodeDir(node), "tokens")
	require.NoError(t, os.Rename(tokens, tokens+".away"))
	require.NoError(t, os.Mkdir(tokens, 0o700))
	read := func() {
		t.Helper()
		r := answerOf(t, c, node, c.Token, "secrets/getSecretValue", body)
		got, err := r.Value()
		require.NoError(t, err)
		require.Equal(t, "v", got)
	}
	for range 20 {
		read()
	}
	c.Await("the node to notice", func() bool { return strings.Contains(c.Metrics(node), "strongroom_hsm_healthy 0\n") })
	for range 20 {
		read()
	}
	require.NoError(t, os.Remove(tokens))
	require.NoError(t, os.Rename(tokens+".away", tokens))
	c.AwaitReady(node)
	warm(t, c, node, c.Token, "secrets/getSecretValue", body)
}
