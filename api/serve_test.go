package api

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/engine"
	"github.com/strongroom/strongroom/fsm"
)

func health(t *testing.T, n *node, path string) (int, map[string]any) {
	t.Helper()
	r := n.get("/api/v1/health/" + path)
	require.Equal(t, "no-store", r.header.Get("Cache-Control"))
	require.NotEmpty(t, r.header.Get(headerID))
	var body map[string]any
	require.NoError(t, json.Unmarshal([]byte(r.body), &body), r.body)
	return r.status, body
}

func TestHealthSaysWhatItMeans(t *testing.T) {
	var notReady error
	c := newCluster(t)
	n := c.start("n1", func(c *Config) { c.Ready = func() error { return notReady } })
	status, body := health(t, n, "live")
	require.Equal(t, 200, status)
	require.Equal(t, map[string]any{"status": "live", "nodeId": "n1"}, body)
	status, body = health(t, n, "ready")
	require.Equal(t, 200, status)
	require.Equal(t, map[string]any{"status": "ready", "nodeId": "n1"}, body)
	notReady = errors.New("the HSM cannot be used")
	status, body = health(t, n, "ready")
	require.Equal(t, 503, status)
	require.Equal(t, map[string]any{"status": "notReady", "nodeId": "n1", "reason": "the HSM cannot be used"}, body)

	status, body = health(t, n, "leader")
	require.Equal(t, 503, status)
	require.Equal(t, map[string]any{"nodeId": "n1", "leader": false, "reason": "no leader is known"}, body)
	c.lead("n2")
	status, body = health(t, n, "leader")
	require.Equal(t, 503, status)
	require.Equal(t, map[string]any{"nodeId": "n1", "leader": false, "leaderId": "n2", "reason": "another node leads"}, body)
	c.lead("n1")
	status, body = health(t, n, "leader")
	require.Equal(t, 200, status)
	require.Equal(t, map[string]any{"nodeId": "n1", "leader": true, "leaderId": "n1"}, body)
}

func TestHealthNeedsNeitherLeaderNorTrailNorToken(t *testing.T) {
	n := newCluster(t).start("n1", nil)
	require.NoError(t, n.trail.Close())
	status, _ := health(t, n, "live")
	require.Equal(t, 200, status)
	require.Equal(t, 200, n.get("/metrics").status)
}

// TestMetricsHaveNoLabelThatACallerSends: what callers send may be a secret,
// and would let them make as many time series as they like.
func TestMetricsHaveNoLabelThatACallerSends(t *testing.T) {
	n := single(t, nil)
	n.ok("secrets/createSecret", `{"path":"/app/MARKED/db","value":"`+mark+`","description":"MARKED","tags":{"MARKED":"MARKED"}}`)
	n.ok("iam/createPrincipal", `{"name":"MARKED","kind":"user"}`)
	n.call("secrets/getSecretValue", `{"path":"/app/MARKED/none"}`, "X-Marked: MARKED", "User-Agent: MARKED")
	n.call("secrets/MARKED", `{}`)
	n.send(post("iam/whoAmI", "srt_MARKED", `{"MARKED":1}`))
	n.get("/MARKED")
	text := n.get("/metrics").body
	require.Contains(t, text, `strongroom_requests_total{code="ok",operation="secrets/createSecret"} 1`)
	require.Contains(t, text, `strongroom_requests_total{code="NotFound",operation="secrets/getSecretValue"} 1`)
	require.NotContains(t, text, "MARKED")
	require.NotContains(t, text, mark)
	require.NotContains(t, text, n.admin)

	known := map[string]bool{"ok": true, "would_deny": true, "would_allow": true, "maxSecrets": true, "maxVersions": true, "maxBytes": true, "built-in": true, "authenticationFailures": true, "rotate": true, "review": true, "n1": true}
	for _, reason := range []string{"unknown_key", "expired_key", "source_address", "bad_signature", "late", "early", "replayed", "before_leader", "memory_full"} {
		known[reason] = true // of a signature that is refused
	}
	for _, result := range []string{"served", "leader", "audit", "approval", "commit", "again", "rateLimit", "unauthenticated", "consent", "hsm", "slow"} {
		known[result] = true // what became of a request on a node that follows
	}
	for _, reason := range []string{"iam", "boundary", "sourceAddress", "timeWindow", "approval", "quarantined", "guard", "unauthenticated"} {
		known[reason] = true // of a denial
	}
	for _, state := range []fsm.SecretState{fsm.SecretActive, fsm.SecretPendingDeletion, fsm.SecretPurged} {
		known[string(state)] = true
	}
	for _, state := range []fsm.VersionState{fsm.VersionActive, fsm.VersionDisabled, fsm.VersionExpired, fsm.VersionPendingDestroy, fsm.VersionDestroyed} {
		known[string(state)] = true
	}
	for kind := range statuses {
		known[string(kind)] = true
	}
	for _, o := range engine.Operations() {
		known[o.Path()] = true
	}
	for _, state := range fsm.KeyStates {
		known[string(state)] = true
	}
	for _, state := range []fsm.JobState{fsm.JobRunning, fsm.JobPaused, fsm.JobFailed, fsm.JobDone, fsm.JobCancelled} {
		known[string(state)] = true
	}
	for _, step := range []fsm.RotationStep{fsm.RotationCreate, fsm.RotationSet, fsm.RotationTest, fsm.RotationFinish, fsm.RotationTell, fsm.RotationRollBack} {
		known[string(step)] = true
	}
	for _, detector := range fsm.DetectorNames {
		known[detector] = true
	}
	labels := regexp.MustCompile(`(\w+)="([^"]*)"`)
	for _, line := range strings.Split(text, "\n") {
		if strings.HasPrefix(line, "#") {
			continue
		}
		for _, found := range labels.FindAllStringSubmatch(line, -1) {
			require.True(t, found[1] == "le" || known[found[2]], "%s is a label of %s", found[0], line)
		}
	}
}

func TestMetricsCanBeSwitchedOff(t *testing.T) {
	n := single(t, func(c *Config) { c.Registry = nil })
	r := n.get("/metrics")
	require.Equal(t, 404, r.status)
	require.Equal(t, "NotFound", r.failed(t).Code)
}

// slow holds the next look at the state until release is called.
func slow(n *node) (entered chan struct{}, release func()) {
	entered, gate := make(chan struct{}, 1), make(chan struct{})
	n.log.hook(func(ctx context.Context) error {
		entered <- struct{}{}
		select {
		case <-gate:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}, nil)
	return entered, func() {
		n.log.hook(nil, nil)
		close(gate)
	}
}

func TestCloseLetsRequestsInFlightFinish(t *testing.T) {
	leader, follower := pair(t, nil)
	for _, n := range []*node{follower, leader} {
		entered, release := slow(leader)
		answered := make(chan reply, 1)
		go func() { answered <- n.call("iam/whoAmI", `{}`) }()
		<-entered
		closed := make(chan error, 1)
		go func() { closed <- n.server.Close(context.Background()) }()
		require.Eventually(t, func() bool {
			conn, err := net.Dial("tcp", n.address)
			if err == nil {
				_ = conn.Close()
			}
			return err != nil
		}, 10*time.Second, time.Millisecond, "nothing new is taken")
		select {
		case err := <-closed:
			t.Fatalf("closed under a request: %v", err)
		default:
		}
		release()
		require.Equal(t, 200, (<-answered).status)
		require.NoError(t, <-closed)
	}
}

func TestCloseCutsWhatDoesNotFinishInTime(t *testing.T) {
	n := single(t, nil)
	entered, release := slow(n)
	defer release()
	cut := make(chan error, 1)
	go func() {
		conn, err := net.Dial("tcp", n.address)
		if err == nil {
			defer conn.Close()
			_, err = conn.Write([]byte(post("iam/whoAmI", n.admin, `{}`)))
		}
		if err == nil {
			_, err = conn.Read(make([]byte, 1))
		}
		cut <- err
	}()
	<-entered
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, n.server.Close(ctx), context.DeadlineExceeded)
	require.Error(t, <-cut, "no answer comes of it")
}

// TestEveryTimeoutIsSet: Go's defaults wait for ever.
func TestEveryTimeoutIsSet(t *testing.T) {
	n := single(t, nil)
	for name, s := range map[string]*http.Server{"public": n.server.public, "link": n.server.peers} {
		for what, d := range map[string]time.Duration{
			"header": s.ReadHeaderTimeout, "read": s.ReadTimeout, "write": s.WriteTimeout - n.server.Timeout, "idle": s.IdleTimeout,
		} {
			require.Positive(t, d, "%s %s", name, what)
			require.LessOrEqual(t, d, 2*time.Minute, "%s %s", name, what)
		}
		require.Equal(t, 16<<10, s.MaxHeaderBytes)
	}
}

func TestTheIndexOfAnAnswerGrows(t *testing.T) {
	n := single(t, nil)
	first := n.ok("secrets/createSecret", `{"path":"/a/one"}`).header.Get(headerIndex)
	second := n.ok("secrets/createSecret", `{"path":"/a/two"}`).header.Get(headerIndex)
	require.Equal(t, []string{"3", "4"}, []string{first, second})
	require.Equal(t, "4", n.ok("secrets/describeSecret", `{"path":"/a/one"}`).header.Get(headerIndex))
	require.Equal(t, "4", n.call("secrets/describeSecret", `{"path":"/a/none"}`).header.Get(headerIndex))
}

func TestTwoRequestsOnOneConnectionAreTwoRequests(t *testing.T) {
	n := single(t, nil)
	conn, err := net.Dial("tcp", n.address)
	require.NoError(t, err)
	defer conn.Close()
	ids := map[string]bool{}
	for range 5 {
		r := exchange(t, conn, post("iam/whoAmI", n.admin, `{}`))
		require.Equal(t, 200, r.status)
		ids[r.header.Get(headerID)] = true
	}
	require.Len(t, ids, 5)
	require.Equal(t, 401, exchange(t, conn, post("iam/whoAmI", "", `{}`)).status, "a connection does not stay authenticated")
}
