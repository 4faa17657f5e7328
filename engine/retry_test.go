package engine_test

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/api/wire"
	"github.com/strongroom/strongroom/audit"
	"github.com/strongroom/strongroom/engine"
	"github.com/strongroom/strongroom/internal/fault"
)

// withToken adds a clientToken to a request.
func withToken(body, token string) string {
	sep := ","
	if body == "{}" {
		sep = ""
	}
	return strings.TrimSuffix(body, "}") + sep + fmt.Sprintf(`"clientToken":%q}`, token)
}

// TestEveryWriteIsDoneOnceHoweverOftenItIsSent goes over all writes of the
// table: the second time nothing is changed and the first result answered,
// and the token does not serve for another request.
func TestEveryWriteIsDoneOnceHoweverOftenItIsSent(t *testing.T) {
	writes := 0
	eachSample(t, func(t *testing.T, s *stock, c sample) {
		service, name, _ := strings.Cut(c.operation, "/")
		o := engine.Find(service, name)
		_, takes := o.Request.FieldByName("ClientToken")
		require.Equal(t, o.Write, takes, "a write takes a clientToken, a read has nothing to repeat")
		if !o.Write {
			return
		}
		writes++
		body := withToken(c.good, "retry-1")
		first := s.ok(c.operation, "%s", body)
		before := s.dump()
		s.setNow(s.now().Add(time.Minute))

		again, err := s.as(s.admin, c.operation, strings.Replace(body, "{", "{ ", 1))
		if c.operation == "iam/logout" {
			s.refused(fault.Unauthenticated, "", err) // the token that it was made with is gone
			return
		}
		if c.operation == "iam/createAccessKey" {
			s.refused(fault.Conflict, "shown only once", err)
			require.Equal(t, into[wire.CreateAccessKeyResponse](t, first).AccessKeyID, detail(t, err, "accessKeyId"))
		} else if c.operation == "iam/createToken" || c.operation == "iam/login" || c.operation == "cluster/createJoinToken" {
			s.refused(fault.Conflict, "shown only once", err)
			require.Equal(t, into[wire.CreateTokenResponse](t, first).TokenID, detail(t, err, "tokenId"))
		} else {
			require.NoError(t, err)
			require.JSONEq(t, first, again)
		}
		require.Equal(t, before, s.dump(), "nothing may be changed by the second time")

		_, err = s.as(s.admin, c.operation, withToken(other(t, s, c), "retry-1"))
		s.refused(fault.Conflict, "clientToken: was used for another request", err)
		require.Equal(t, before, s.dump())

		_, err = s.as(s.admin, c.operation, withToken(c.good, strings.Repeat("x", 65)))
		s.refused(fault.InvalidRequest, "clientToken: has 65 characters", err)
	})
	require.GreaterOrEqual(t, writes, 20)
}

// other is a request of the operation that differs from c.good.
func other(t *testing.T, s *stock, c sample) string {
	t.Helper()
	r := strings.NewReplacer("/app/dev/web/new", "/app/dev/web/new2", `"version":1`, `"version":2`, `"version":2`, `"version":1`,
		`"path":"/app/dev/web/db"`, `"path":"/app/dev/web/gone"`, `"path":"/app/dev/web/gone"`, `"path":"/app/dev/web/db"`,
		`"path":"/app/dev/web/turn"`, `"path":"/app/dev/web/db"`,
		"alias/more", "alias/most", `"alias/pay"`, `"alias/off"`, `"alias/off"`, `"alias/pay"`, `"name":"svc"`, `"name":"admin"`,
		`"principal":"svc"`, `"principal":"admin"`, `"name":"new"`, `"name":"newer"`, `"name":"loose"`, `"name":"attached"`,
		`"name":"office"`, `"name":"home"`, `"name":"idle"`, `"name":"other"`, `"name":"slow"`, `"name":"wild"`, s.tokenID, absentID, s.accessKey, absentAccessKey, s.jobID, absentID,
		`"reason":"incident"`, `"reason":"drill"`, s.glass, absentID, s.broken, absentID, `"name":"other"`, `"name":"ci"`, s.jwts[0], s.jwts[1], s.asked[0], s.asked[1], s.own[0], s.own[1], strconv.Quote(s.cosigned[0]), strconv.Quote(s.cosigned[1]), `"reason":"unused"`, `"reason":"old"`,
		`"voter":false`, `"voter":true`, `"nodeId":"node9"`, `"nodeId":"node7"`, `"minVoters":5`, `"minVoters":7`, s.joinToken, absentID, "alias/second", "alias/third", "alias/doomed", "alias/off", `"toKeyId":"alias/worn"`, `"toKeyId":"alias/pay"`,
		`"ratePerSecond":10`, `"ratePerSecond":11`, `"label":"blue"`, `"label":"green"`, `"prefix":"/app/prod"`, `"prefix":"/app/test"`, `"prefix":"/app/dev/"`, `"prefix":"/app/test/"`, "alias/empty", "alias/waiting", `"alias/waiting"`, `"alias/empty"`)
	out := r.Replace(c.good)
	require.NotEqual(t, c.good, out, c.operation)
	return out
}

// lastUse is the one thing that a repetition may move: it uses keys to tell
// that it is one, and one that reveals hands out the value again.
var lastUse = regexp.MustCompile(`,"last(UsedAt|ReadAt)":(null|"[^"]*")`)

// dump answers all that lists and descriptions show.
func (s *stock) dump() string {
	var out strings.Builder
	now := s.now()
	s.setNow(time.UnixMilli(s.log.machine.State().Time()).UTC())
	for _, ask := range []string{
		`secrets/listSecrets {"recursive":true}`, `secrets/listSecretVersions {"path":"/app/dev/web/db"}`,
		`secrets/describeSecret {"path":"/app/dev/web/gone"}`, `kms/listKeys {}`, `iam/listPrincipals {}`, `iam/listTokens {}`,
		`iam/listPolicies {}`, `iam/listAccessPolicies {}`,
	} {
		operation, body, _ := strings.Cut(ask, " ")
		answer, err := s.as(s.admin, operation, body)
		fmt.Fprintln(&out, ask, lastUse.ReplaceAllString(answer, ""), err)
	}
	s.setNow(now)
	return out.String()
}

func TestAClientTokenIsOfOnePrincipalAndOneOperationForADay(t *testing.T) {
	w := newWorld(t)
	w.ok("iam/createPrincipal", `{"name":"second","kind":"user"}`)
	w.ok("iam/attachPolicy", `{"policy":"full-access","principal":"second"}`)
	second := w.tokenOf("second")
	w.ok("secrets/createSecret", `{"path":"/a/one","clientToken":"t"}`)
	_, err := w.as(second, "secrets/createSecret", `{"path":"/a/two","clientToken":"t"}`)
	require.NoError(t, err, "the token of somebody else")
	w.ok("secrets/deleteSecret", `{"path":"/a/one","clientToken":"t"}`)

	admin := string(into[wire.CreateTokenResponse](t, w.ok("iam/createToken", `{"principal":"admin","ttl":"30d"}`)).Token.Expose())
	w.setNow(w.now().Add(24*time.Hour - time.Millisecond))
	_, err = w.as(admin, "secrets/createSecret", `{"path":"/a/three","clientToken":"t"}`)
	w.refused(fault.Conflict, "clientToken", err)
	w.setNow(w.now().Add(time.Millisecond))
	_, err = w.as(admin, "secrets/createSecret", `{"path":"/a/three","clientToken":"t"}`)
	require.NoError(t, err, "a day later it is forgotten")
}

func TestALongClientTokenIsTheVersionID(t *testing.T) {
	w := newWorld(t)
	long, short := strings.Repeat("a", 32), strings.Repeat("b", 31)
	made := into[wire.CreateSecretResponse](t, w.ok("secrets/createSecret", `{"path":"/a/b","value":%q,"clientToken":%q}`, b64("1"), long))
	require.Equal(t, long, made.VersionID)
	put := into[wire.PutSecretValueResponse](t, w.ok("secrets/putSecretValue", `{"path":"/a/b","value":%q,"clientToken":%q}`, b64("2"), short))
	require.NotEqual(t, short, put.VersionID)
	require.Len(t, put.VersionID, 36)
}

// TestALostAnswerOfACommittedWriteIsFoundByTheRetry: the command is in the
// log, and the leader that should have said so is gone.
func TestALostAnswerOfACommittedWriteIsFoundByTheRetry(t *testing.T) {
	w := newWorld(t)
	w.ok("secrets/createSecret", `{"path":"/a/b","value":%q}`, b64("one"))
	body := fmt.Sprintf(`{"path":"/a/b","value":%q,"clientToken":"lost-1"}`, b64("two"))
	w.log.committed = func() error {
		return fault.New(fault.Uncertain, "the leader was lost; retry with the same clientToken")
	}
	id, _, err := w.request(w.admin, "secrets/putSecretValue", body)
	w.refused(fault.Uncertain, "clientToken", err)
	own, inner := w.story(id, "secrets.put_value")
	require.Equal(t, audit.Failed, own[0].Outcome)
	require.Equal(t, "Uncertain", own[0].Code)
	require.Len(t, inner, 1, "a key was used, so the trail says so")
	w.log.committed = nil
	put := into[wire.PutSecretValueResponse](t, w.ok("secrets/putSecretValue", "%s", body))
	require.Equal(t, uint64(2), put.Version)
	require.Equal(t, "two", w.value("/a/b"))
}

// TestACommittedWriteWhoseAnswerCannotBeMadeUpIsUncertain: after the commit
// this node cannot look at the state any more. NoLeader would say that
// nothing was done.
func TestACommittedWriteWhoseAnswerCannotBeMadeUpIsUncertain(t *testing.T) {
	uncertain := 0
	eachSample(t, func(t *testing.T, s *stock, c sample) {
		service, name, _ := strings.Cut(c.operation, "/")
		if !engine.Find(service, name).Write {
			return
		}
		before := s.log.machine.State().Index()
		s.log.committed = func() error { s.log.lost = true; return nil }
		_, err := s.as(s.admin, c.operation, withToken(c.good, "retry-1"))
		s.log.lost, s.log.committed = false, nil
		require.Greater(t, s.log.machine.State().Index(), before)
		if err != nil {
			s.refused(fault.Uncertain, "retry with the same clientToken", err)
			uncertain++
		}
	})
	require.Positive(t, uncertain)
}

// A write that is committed when leadership goes is answered as what it is:
// what describes it is in this node's own state. A value is not opened by that.
func TestAWriteIsAnsweredAlthoughLeadershipGoesRightBehindIt(t *testing.T) {
	w := newWorld(t)
	w.ok("secrets/createSecret", `{"path":"/a/b","value":%q}`, b64("one"))
	w.ok("iam/createPrincipal", `{"name":"ci","kind":"service"}`)
	w.log.committed = func() error { w.log.lost = true; return nil }
	lost := func() { w.log.lost = false }
	put := into[wire.PutSecretValueResponse](t, w.ok("secrets/putSecretValue", `{"path":"/a/b","value":%q}`, b64("two")))
	require.Equal(t, uint64(2), put.Version)
	require.Equal(t, []string{"current"}, put.Labels)
	lost()
	made := into[wire.GenerateSecretResponse](t, w.ok("secrets/generateSecret", `{"path":"/a/b","kind":"password"}`))
	require.Equal(t, uint64(3), made.Version)
	lost()
	w.ok("iam/createPrincipal", `{"name":"cd","kind":"service"}`)
	lost()
	_, err := w.as(w.admin, "secrets/generateSecret", `{"path":"/a/b","kind":"password","reveal":true}`)
	w.refused(fault.Uncertain, "read the secret before you write again", err)
	lost()
	w.log.committed = nil
	require.Equal(t, uint64(4), into[wire.PutSecretValueResponse](t, w.ok("secrets/putSecretValue", `{"path":"/a/b","value":%q}`, b64("x"))).Version-1)
}

// TestALateRetryOfAnUnchangedPutPutsNothingBack: the first time it found its
// bytes there; by the second somebody has rotated.
func TestALateRetryOfAnUnchangedPutPutsNothingBack(t *testing.T) {
	w := newWorld(t)
	w.ok("secrets/createSecret", `{"path":"/a/b","value":%q}`, b64("one"))
	body := fmt.Sprintf(`{"path":"/a/b","value":%q,"clientToken":"late"}`, b64("one"))
	first := into[wire.PutSecretValueResponse](t, w.ok("secrets/putSecretValue", "%s", body))
	require.True(t, first.Unchanged)
	w.put("/a/b", "two")
	again := into[wire.PutSecretValueResponse](t, w.ok("secrets/putSecretValue", "%s", body))
	require.Equal(t, first.Version, again.Version)
	require.True(t, again.Unchanged)
	require.Equal(t, "two", w.value("/a/b"))
}
