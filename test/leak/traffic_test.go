package leak_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/engine"
	"github.com/strongroom/strongroom/test/localcluster"
)

// traffic sends marked requests and keeps what must be searched afterwards.
type traffic struct {
	t    *testing.T
	c    *localcluster.Cluster
	core string
	searcher

	count     int
	exercised map[string]bool
	answers   []answer // that must hold no mark
}

type answer struct{ to, body string }

// value makes one more marked value: long enough that a piece of it is found
// when the rest was cut off.
func (w *traffic) value() string {
	w.count++
	return strings.Repeat(w.core, 3) + strconv.Itoa(w.count)
}

func (w *traffic) value64() string { return localcluster.B64(w.value()) }

// ok sends a request that must succeed, to the nodes in turn, and answers the
// decoded answer. Only those that are there to reveal may hold a mark.
func (w *traffic) ok(operation, format string, args ...any) map[string]any {
	w.t.Helper()
	w.count++
	nodes := []int{1 + w.count%3, 1 + (w.count+1)%3, 1 + (w.count+2)%3}
	ctx, cancel := context.WithTimeout(context.Background(), localcluster.Patience)
	defer cancel()
	service, name, _ := strings.Cut(operation, "/")
	op := engine.Find(service, name)
	require.NotNil(w.t, op, operation)
	r, _, err := w.c.Persist(ctx, nodes, operation, localcluster.Repeatable(operation, fmt.Sprintf(format, args...)))
	require.NoError(w.t, err)
	require.Equal(w.t, http.StatusOK, r.Status, "%s: %s", operation, r.Body)
	w.exercised[operation] = true
	if !op.Reveals() {
		w.answers = append(w.answers, answer{operation, string(r.Body)})
	}
	return r.Object(w.c)
}

// secrets makes secrets of the name, with versions in every state.
func (w *traffic) secrets(path string) {
	w.ok("secrets/createSecret", `{"path":%q,"value":%q,"tags":{"team":"leak"}}`, path, w.value64())
	w.ok("secrets/createSecret", `{"path":"%s-generated","generate":{"kind":"hex","length":24}}`, path)
	w.ok("secrets/createSecret", `{"path":"%s-key","generate":{"kind":"ec"}}`, path)
	for range 3 {
		w.ok("secrets/putSecretValue", `{"path":%q,"value":%q,"contentType":"text/plain"}`, path, w.value64())
	}
	w.generated(path)
	w.ok("secrets/getSecretValue", `{"path":%q,"version":1,"instance":"leak-1"}`, path)
	w.ok("secrets/batchGetSecretValue", `{"items":[{"path":%q},{"path":%q,"version":2},{"path":"/app/leak/none"}]}`, path, path)
	w.ok("secrets/confirmVersion", `{"path":%q,"version":4,"instance":"leak-1"}`, path)
	w.ok("secrets/listConsumers", `{"path":%q}`, path)
	w.ok("secrets/describeSecret", `{"path":%q}`, path)
	w.ok("secrets/listSecrets", `{"prefix":"/app","recursive":true}`)
	w.ok("secrets/destroyVersion", `{"path":%q,"version":1,"reason":"rotated","force":true}`, path)
	w.ok("secrets/destroyVersion", `{"path":%q,"version":2,"delay":"24h"}`, path)
	w.ok("secrets/cancelDestroyVersion", `{"path":%q,"version":2}`, path)
	w.ok("secrets/disableVersion", `{"path":%q,"version":2,"reason":"a look"}`, path)
	w.ok("secrets/enableVersion", `{"path":%q,"version":2}`, path)
	w.ok("secrets/setVersionLabel", `{"path":%q,"version":2,"label":"blue"}`, path)
	w.ok("secrets/removeVersionLabel", `{"path":%q,"label":"blue","reason":"a look"}`, path)
	w.ok("secrets/putSecretValue", `{"path":%q,"value":%q,"activate":false,"expiresAt":"2999-01-01T00:00:00Z","notifyBefore":"1d","reason":"for later"}`, path, w.value64())
	w.ok("secrets/setVersionLabel", `{"path":%q,"version":2,"label":"current","reason":"rolled back"}`, path)
	w.ok("secrets/updateSecret", `{"path":%q,"description":"of the leak test"}`, path)
	w.rotations(path)
	w.ok("secrets/listSecretVersions", `{"path":%q}`, path)
	w.ok("secrets/copySecret", `{"path":%q,"toPath":"%s-copy"}`, path, path)
	w.ok("secrets/getUsage", `{"prefix":"/app"}`)
	w.ok("secrets/putPathRule", `{"prefix":"%s-ruled/","segments":["{name}"],"requiredTags":["team"],"keepVersions":1,"reason":"a look"}`, path)
	w.ok("secrets/createSecret", `{"path":"%s-ruled/one","value":%q,"tags":{"team":"leak"}}`, path, w.value64())
	for range 2 {
		w.ok("secrets/putSecretValue", `{"path":"%s-ruled/one","value":%q}`, path, w.value64())
	}
	w.ok("secrets/listPathRules", `{}`)
	w.ok("secrets/lintPaths", `{"prefix":"/app","rule":{"requiredTags":["owner"]}}`)
	w.ok("secrets/deletePathRule", `{"prefix":"%s-ruled/"}`, path)
	w.ok("secrets/waitForChange", `{"paths":["/app/leak/none"],"timeout":"100ms"}`)
	w.ok("secrets/waitForChange", `{"prefix":"/app"}`)
	w.ok("secrets/deleteSecret", `{"path":%q}`, path)
	w.ok("secrets/restoreSecret", `{"path":%q}`, path)
	w.ok("secrets/deleteSecret", `{"path":"%s-generated","force":true,"reason":"gone"}`, path)
}

// generated has the server make values and begins to look for them.
func (w *traffic) generated(path string) {
	for _, kind := range []string{"password", "passphrase", "bytes", "hex", "base64", "uuid", "rsa", "ec", "ed25519"} {
		made := w.ok("secrets/generateSecret", `{"path":"%s-%s","kind":%q,"create":true,"reveal":true}`, path, kind, kind)
		raw, err := json.Marshal(made)
		require.NoError(w.t, err)
		value, err := localcluster.Response{Status: http.StatusOK, Body: raw}.Value()
		require.NoError(w.t, err)
		require.NotEmpty(w.t, value)
		w.add(mark{name: "generated " + kind, text: value})
	}
}

// principals makes name, with rights and tokens, and answers a token of it.
func (w *traffic) principals(name string) (token string) {
	w.ok("iam/createPrincipal", `{"name":%q,"kind":"service"}`, name)
	w.ok("iam/createPrincipal", `{"name":"%s-2","kind":"user"}`, name)
	w.ok("iam/putPolicy", `{"name":%q,"statements":[{"effect":"allow","roles":["secrets-read-access"],"paths":["/app/**"]}]}`, name)
	w.ok("iam/getPolicy", `{"name":%q}`, name)
	w.ok("iam/listPolicies", `{}`)
	w.ok("iam/attachPolicy", `{"policy":%q,"principal":%q}`, name, name)
	w.ok("iam/attachPolicy", `{"policy":%q,"principal":"%s-2"}`, name, name)
	w.ok("iam/detachPolicy", `{"policy":%q,"principal":"%s-2"}`, name, name)
	w.ok("iam/describePrincipal", `{"name":%q}`, name)
	w.ok("iam/listPrincipals", `{}`)
	token = w.token(name)
	gone := w.token(name + "-2")
	made := w.ok("iam/createToken", `{"principal":%q}`, name)
	w.add(mark{name: "a revoked token", text: made["token"].(string)})
	w.ok("iam/listTokens", `{}`)
	w.ok("iam/revokeToken", `{"tokenId":%q}`, made["tokenId"])
	key := w.ok("iam/createAccessKey", `{"principal":%q}`, name)
	w.add(mark{name: "the secret of an access key", text: key["secretAccessKey"].(string)})
	w.ok("iam/listAccessKeys", `{}`)
	w.ok("iam/deleteAccessKey", `{"accessKeyId":%q}`, key["accessKeyId"])
	leaving := w.token(name)
	require.Equal(w.t, "", w.c.Send(1, leaving, "iam/logout", `{}`).Code())
	w.exercised["iam/logout"] = true
	w.ok("iam/revokeTokens", `{"principal":"%s-2","accessKeys":true}`, name)
	w.ok("iam/deletePrincipal", `{"name":"%s-2"}`, name)
	for _, one := range []string{gone, made["token"].(string), token[:len(token)-1] + "0", "srt_" + w.core} {
		r := w.c.Send(1+w.count%3, one, "iam/whoAmI", `{}`)
		require.Equal(w.t, "Unauthenticated", r.Code())
		w.answers = append(w.answers, answer{"a wrong token", string(r.Body)})
	}
	w.ok("iam/whoAmI", `{}`)
	w.ok("iam/putAccessPolicy", `{"name":%q,"paths":["/app/leak/office/**"],"sourceCidrs":["10.0.0.0/8"]}`, name)
	w.ok("iam/getAccessPolicy", `{"name":%q}`, name)
	w.ok("iam/listAccessPolicies", `{}`)
	w.ok("iam/deleteAccessPolicy", `{"name":%q}`, name)
	w.logins(name)
	w.ok("iam/putPolicy", `{"name":"%s-none","statements":[{"effect":"deny","actions":["*"],"paths":["/none/**"]}]}`, name)
	w.ok("iam/putPolicy", `{"name":"%s-none","statements":[{"effect":"deny","actions":["secrets:*"],"paths":["/none/**"]}]}`, name)
	w.ok("iam/listPolicyRevisions", `{"name":"%s-none"}`, name)
	w.ok("iam/rollbackPolicy", `{"name":"%s-none","revision":1}`, name)
	w.ok("iam/deletePolicy", `{"name":"%s-none"}`, name)
	w.ok("iam/putRateLimit", `{"name":%q,"kind":"valueReads","per":"source","principals":["nobody"],"count":10,"reason":"leak"}`, name)
	w.ok("iam/listRateLimits", `{}`)
	w.ok("iam/deleteRateLimit", `{"name":%q}`, name)
	w.ok("iam/createGroup", `{"name":%q}`, name)
	w.ok("iam/explain", `{"principal":%q,"action":"secrets:getSecretValue","path":"/app/leak/none"}`, name)
	w.ok("iam/whoCan", `{"action":"secrets:getSecretValue","path":"/app/leak/none"}`)
	w.ok("iam/whatCan", `{"principal":%q}`, name)
	w.ok("iam/whatCan", `{"principal":%q,"values":true}`, name)
	w.ok("iam/simulatePolicy", `{"name":%q,"statements":[]}`, name)
	w.ok("iam/lintPolicies", `{}`)
	w.ok("iam/addToGroup", `{"group":%q,"principal":%q,"ttl":"1h"}`, name, name)
	w.ok("iam/describeGroup", `{"name":%q}`, name)
	w.ok("iam/listGroupMembers", `{"group":%q}`, name)
	w.ok("iam/listGroups", `{}`)
	w.ok("iam/removeFromGroup", `{"group":%q,"principal":%q}`, name, name)
	w.ok("iam/deleteGroup", `{"name":%q}`, name)
	return token
}

func (w *traffic) token(principal string) string {
	token := w.ok("iam/createToken", `{"principal":%q,"description":"leak"}`, principal)["token"].(string)
	w.add(mark{name: "a token of " + principal, text: token})
	return token
}

func (w *traffic) cluster() {
	w.ok("cluster/status", `{}`)
	w.ok("cluster/getRootKey", `{}`)
	w.rotateRoot()
	w.ok("audit/queryEvents", `{"limit":1000}`)
	w.c.Lead(w.c.Others(w.c.Leader())[0])
	w.exercised["cluster/transferLeadership"] = true
}

// background puts marked values without a pause until stop is called, so that
// a node is killed with some in its hands.
func (w *traffic) background(path string) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	for i := range 4 {
		own := fmt.Sprintf("%s/%d", path, i)
		w.ok("secrets/createSecret", `{"path":%q}`, own)
		running.Go(func() {
			for round := 0; ctx.Err() == nil; round++ {
				value := localcluster.B64(fmt.Sprintf("%s%s, %d of %d", w.core, w.core, round, i))
				body := fmt.Sprintf(`{"path":%q,"value":%q,"clientToken":%q}`, own, value, uuid.NewString())
				_, _, _ = w.c.Persist(ctx, []int{1, 2, 3}, "secrets/putSecretValue", body) // e2e looks at the answers
			}
		})
	}
	return func() { cancel(); running.Wait() }
}
