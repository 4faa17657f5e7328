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
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/engine"
	"github.com/strongroom/strongroom/internal/checkpoint"
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
	if op.Streams {
		return nil
	}
	return r.Object(w.c)
}

// otherEnd is token with another last character, whatever that was.
func otherEnd(token string) string {
	if strings.HasSuffix(token, "0") {
		return token[:len(token)-1] + "1"
	}
	return token[:len(token)-1] + "0"
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
	for _, one := range []string{gone, made["token"].(string), otherEnd(token), "srt_" + w.core} {
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
	w.approvals(name)
	w.breakGlass(name)
	w.mistrust(name)
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

// approvals has somebody else approve a request that holds a value, and deny
// another; a third is taken back.
func (w *traffic) approvals(name string) {
	other, path := name+"-approver", "/app/leak/held/"+name
	w.ok("secrets/createSecret", `{"path":%q}`, path)
	w.ok("iam/createPrincipal", `{"name":%q,"kind":"user"}`, other)
	w.ok("iam/putPolicy", `{"name":%q,"statements":[{"effect":"allow","actions":["iam:approve","iam:deny"]}]}`, other)
	w.ok("iam/attachPolicy", `{"policy":%q,"principal":%q}`, other, other)
	w.ok("iam/putPolicy", `{"name":"%s-held","statements":[{"effect":"requireApproval","actions":["secrets:putSecretValue"],"paths":[%q],"approval":{"principals":[%q],"count":1}}]}`, name, path, other)
	w.ok("iam/attachPolicy", `{"policy":"%s-held","group":"everyone"}`, name)
	token := w.token(other)
	ask := func() (request string, id any) {
		request = fmt.Sprintf(`{"path":%q,"value":%q}`, path, w.value64())
		r := w.c.Send(1, w.c.Token, "secrets/putSecretValue", "%s", request)
		require.Equal(w.t, "AccessDenied", r.Code())
		w.answers = append(w.answers, answer{"a request that is held back", string(r.Body)})
		return request, w.ok("iam/requestApproval", `{"operation":"secrets/putSecretValue","request":%s,"reason":"leak"}`, request)["approvalId"]
	}
	request, id := ask()
	for _, verdict := range []string{"approve", "deny"} {
		r := w.c.Send(1, token, "iam/"+verdict, `{"approvalId":%q}`, id)
		require.Equal(w.t, "", r.Code())
		w.answers = append(w.answers, answer{"iam/" + verdict, string(r.Body)})
		w.exercised["iam/"+verdict] = true
		if verdict == "approve" {
			w.ok("iam/describeApproval", `{"approvalId":%q}`, id)
			w.ok("secrets/putSecretValue", "%s", request)
			_, id = ask()
		}
	}
	_, id = ask()
	w.ok("iam/withdrawApproval", `{"approvalId":%q}`, id)
	w.ok("iam/listApprovals", `{}`)
}

// breakGlass has somebody read a value in a session that others close and
// review.
func (w *traffic) breakGlass(name string) {
	who, path := name+"-on-call", "/app/leak/glass/"+name
	w.ok("secrets/createSecret", `{"path":%q,"value":%q}`, path, w.value64())
	w.ok("iam/createPrincipal", `{"name":%q,"kind":"user"}`, who)
	w.ok("iam/putPolicy", `{"name":%q,"statements":[{"effect":"allow","actions":["iam:openBreakGlass"]}]}`, who)
	w.ok("iam/attachPolicy", `{"policy":%q,"principal":%q}`, who, who)
	w.ok("iam/putPolicy", `{"name":"%s-glass","statements":[{"effect":"allow","roles":["secrets-value-access"],"paths":["/app/leak/glass/**"]}]}`, name)
	w.ok("iam/attachPolicy", `{"policy":"%s-glass","principal":%q,"mode":"breakGlass"}`, name, who)
	token := w.token(who)
	opened := w.c.Send(2, token, "iam/openBreakGlass", `{"reason":"leak"}`)
	require.Equal(w.t, "", opened.Code())
	w.answers = append(w.answers, answer{"iam/openBreakGlass", string(opened.Body)})
	w.exercised["iam/openBreakGlass"] = true
	require.Equal(w.t, "", w.c.Send(3, token, "secrets/getSecretValue", `{"path":%q}`, path).Code())
	id := opened.Object(w.c)["breakGlassId"]
	w.ok("iam/closeBreakGlass", `{"breakGlassId":%q}`, id)
	w.ok("iam/reviewBreakGlass", `{"breakGlassId":%q,"notes":"leak"}`, id)
	w.ok("iam/listBreakGlass", `{}`)
}

// mistrust marks a secret and a principal that are not trusted any more, and
// lets the detectors find something to say.
func (w *traffic) mistrust(name string) {
	path, who := "/app/leak/trap/"+name, name+"-thief"
	w.ok("secrets/createSecret", `{"path":%q,"value":%q}`, path, localcluster.B64(w.core))
	w.ok("secrets/setCanary", `{"path":%q,"canary":true,"reason":"leak"}`, path)
	w.ok("secrets/listCanaries", `{}`)
	w.ok("iam/createPrincipal", `{"name":%q,"kind":"service"}`, who)
	w.ok("iam/putPolicy", `{"name":%q,"statements":[{"effect":"allow","roles":["secrets-value-access"],"paths":["/app/leak/trap/**"]}]}`, who)
	w.ok("iam/attachPolicy", `{"policy":%q,"principal":%q}`, who, who)
	require.Equal(w.t, "", w.c.Send(2, w.token(who), "secrets/getSecretValue", `{"path":%q}`, path).Code())
	w.ok("audit/describeDetectors", `{}`)
	w.ok("audit/putDetectors", `{"rules":[{"detector":"canary"}],"reason":"leak"}`)
	w.ok("audit/incident", `{"principal":%q}`, who)
	w.ok("secrets/markCompromised", `{"path":%q,"versions":[1],"reason":"leak"}`, path)
	w.ok("secrets/listCompromised", `{}`)
	w.ok("iam/quarantinePrincipal", `{"principal":%q,"reason":"leak"}`, who)
	w.ok("iam/releasePrincipal", `{"principal":%q,"reason":"leak"}`, who)
}

func (w *traffic) token(principal string) string {
	token := w.ok("iam/createToken", `{"principal":%q,"description":"leak"}`, principal)["token"].(string)
	w.add(mark{name: "a token of " + principal, text: token})
	return token
}

func (w *traffic) cluster() {
	w.ok("cluster/status", `{}`)
	w.ok("cluster/getRootKey", `{}`)
	w.ok("cluster/saveSnapshot", `{}`)
	w.c.Await("a snapshot that was saved under the root key of now", func() bool {
		return w.c.Send(w.c.Leader(), w.c.Token, "cluster/verifySnapshot", `{}`).Status == http.StatusOK
	})
	w.exercised["cluster/verifySnapshot"] = true
	w.members()
	w.rotateRoot()
	w.ok("audit/queryEvents", `{"limit":1000}`)
	w.ok("audit/exportEvents", `{}`)
	nodes := w.ok("audit/getCheckpoint", `{}`)["checkpoints"].([]any)
	w.ok("audit/getProof", `{"node":%q,"sequence":1}`, nodes[0].(map[string]any)["node"])
	w.cosigned()
	w.ok("audit/listChains", `{}`)
	w.c.Lead(w.c.Others(w.c.Leader())[0])
	w.exercised["cluster/transferLeadership"] = true
}

// cosigned hands in what a witness cosigned. Who has just begun to lead may not
// have all of the chain yet.
func (w *traffic) cosigned() {
	const operation = "audit/addCosignature"
	w.c.Await("a cosignature to be taken", func() bool {
		nodes := w.ok("audit/getCheckpoint", `{}`)["checkpoints"].([]any)
		note, err := checkpoint.Cosign([]byte(nodes[0].(map[string]any)["note"].(string)), leakWitness, witnessKey(), time.Now())
		require.NoError(w.t, err)
		r := w.c.Send(w.c.Leader(), w.c.Token, operation, `{"note":%q}`, note)
		w.answers = append(w.answers, answer{operation, string(r.Body)})
		return r.Status == http.StatusOK
	})
	w.exercised[operation] = true
}

// members announces a node that never comes, and lets it go.
func (w *traffic) members() {
	node := fmt.Sprintf("never%d", w.count) // an id is good once
	w.ok("cluster/addMember", `{"nodeId":%q,"address":"127.0.0.1:9"}`, node)
	w.ok("cluster/setVoter", `{"nodeId":%q,"voter":false}`, node)
	w.ok("cluster/members", `{}`)
	w.ok("cluster/tls", `{}`)
	w.ok("cluster/removeMember", `{"nodeId":%q,"reason":"leak"}`, node)
	w.ok("cluster/setAutopilot", `{"minVoters":3}`)
	w.ok("cluster/getAutopilot", `{}`)
	made := w.ok("cluster/createJoinToken", `{"nodeId":"other"}`)
	w.add(mark{name: "a join token", text: made["token"].(string)})
	w.ok("cluster/listJoinTokens", `{}`)
	w.ok("cluster/revokeJoinToken", `{"tokenId":%q}`, made["tokenId"])
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
