package e2e_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/engine"
	"github.com/strongroom/strongroom/test/localcluster"
)

// Whoever may look at everything, with every operation that there is, sees no
// value: neither the API's answers nor their errors hold one.
func TestAReaderOfMetadataGetsNoValueByAnyOperation(t *testing.T) {
	c := suite.Shared(t)
	const path, value = "/app/e2e/look/secret", "what nobody but the owner may see"
	c.OK(1, "secrets/createSecret", `{"path":%q,"value":%q}`, path, localcluster.B64("an older value, "+value))
	c.OK(1, "secrets/putSecretValue", `{"path":%q,"value":%q}`, path, localcluster.B64(value))
	looker := c.Principal("looker", `[{"effect":"allow","roles":["secrets-read-access"],"paths":["/**"]}]`)

	// Every field that some operation knows, with what would serve a thief best.
	fields := map[string]string{
		"path": `"` + path + `"`, "version": `1`, "label": `"current"`, "items": `[{"path":"` + path + `"}]`, "prefix": `"/app/e2e/look"`,
		"recursive": `true`, "kind": `"password"`, "create": `true`, "reveal": `true`, "value": `"eA=="`, "keyId": `"alias/default"`,
		"plaintext": `"eA=="`, "ciphertext": `"eA=="`, "principal": `"looker"`, "name": `"looker"`, "policy": `"looker"`, "statements": `[]`,
		"tokenId": `"00000000-0000-4000-8000-000000000000"`, "paths": `["/**"]`, "sourceCidrs": `["10.0.0.0/8"]`,
	}
	allowed := 0
	for _, op := range engine.Operations() {
		if op.Path() == "iam/logout" {
			continue // it answers nothing, and would end the looker's token
		}
		for node := 1; node <= 3; node++ {
			r := c.Send(node, looker, op.Path(), "%s", requestFor(op, fields))
			allowed += boolToInt(r.Status == http.StatusOK)
			for _, form := range []string{value, localcluster.B64(value), localcluster.B64("an older value, " + value)} {
				require.NotContains(t, string(r.Body), form, op.Path())
			}
			require.NotContains(t, string(r.Body), `"value"`, op.Path())
			require.NotContains(t, string(r.Body), `"plaintext":`, op.Path())
			if op.Reveals() && r.Status == http.StatusOK { // a batch answers item by item
				require.Contains(t, string(r.Body), "AccessDenied", op.Path())
			}
		}
	}
	require.GreaterOrEqual(t, allowed, 3*4, "describe, list, versions and whoAmI must have worked")
	r := c.Send(1, looker, "secrets/listSecretVersions", `{"path":%q}`, path)
	require.Equal(t, http.StatusOK, r.Status, "%s", r.Body)
	require.Len(t, versions(t, c, 1, path), 2, "and nothing was written either")
}

func boolToInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

// requestFor fills in those fields that an operation has.
func requestFor(op *engine.Operation, fields map[string]string) string {
	var members []string
	for i := range op.Request.NumField() {
		f := op.Request.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if f.Anonymous { // such as the embedded description of what to generate
			for j := range f.Type.NumField() {
				inner, _, _ := strings.Cut(f.Type.Field(j).Tag.Get("json"), ",")
				if v, ok := fields[inner]; ok {
					members = append(members, `"`+inner+`":`+v)
				}
			}
			continue
		}
		if v, ok := fields[name]; ok {
			members = append(members, `"`+name+`":`+v)
		}
	}
	return "{" + strings.Join(members, ",") + "}"
}

// A stranger cannot tell a path that is not there from one that he may not
// see, whatever he tries with it and whichever node he asks.
func TestAbsentAndForbiddenAreOneAnswer(t *testing.T) {
	c := suite.Shared(t)
	const there, missing = "/app/e2e/other/there", "/app/e2e/other/missing"
	c.OK(1, "secrets/createSecret", `{"path":%q,"value":"eA=="}`, there)
	stranger := c.Principal("stranger", `[{"effect":"allow","roles":["secrets-full-access"],"paths":["/app/e2e/mine/**"]}]`)
	for _, op := range engine.Operations() {
		if op.Path() == "iam/logout" {
			continue // it answers nothing, and would end the looker's token
		}
		if op.Service != "secrets" || op.Name == "batchGetSecretValue" || op.Name == "listSecrets" {
			continue // these answer item by item; see below
		}
		for node := 1; node <= 3; node++ {
			require.Equal(t, answerTo(c, node, stranger, op, there), strings.ReplaceAll(answerTo(c, node, stranger, op, missing), missing, there), op.Path())
		}
	}
	for node := 1; node <= 3; node++ {
		r := c.Send(node, stranger, "secrets/batchGetSecretValue", `{"items":[{"path":%q},{"path":%q}]}`, there, missing)
		var batch struct {
			Results []struct {
				Error struct{ Code, Message string }
			}
		}
		require.NoError(t, json.Unmarshal(r.Body, &batch))
		require.Len(t, batch.Results, 2)
		require.Equal(t, "AccessDenied", batch.Results[0].Error.Code)
		require.Equal(t, batch.Results[0].Error.Code, batch.Results[1].Error.Code)
		require.Equal(t, batch.Results[0].Error.Message, strings.ReplaceAll(batch.Results[1].Error.Message, missing, there))
		r = c.Send(node, stranger, "secrets/listSecrets", `{"prefix":"/app/e2e","recursive":true}`)
		require.NotContains(t, string(r.Body), there)
	}
}

// answerTo is an answer without what differs in every request.
func answerTo(c *localcluster.Cluster, node int, token string, op *engine.Operation, path string) string {
	r := c.Send(node, token, op.Path(), "%s", requestFor(op, map[string]string{
		"path": `"` + path + `"`, "version": "1", "kind": `"password"`, "create": "true", "value": `"eA=="`,
	}))
	var answer struct {
		Error struct {
			Code, Message string
			Details       map[string]any
		}
	}
	if err := json.Unmarshal(r.Body, &answer); err != nil {
		return err.Error()
	}
	delete(answer.Error.Details, "decisionId")
	out, err := json.Marshal(answer)
	if err != nil {
		return err.Error()
	}
	return http.StatusText(r.Status) + string(out)
}

// An access policy restricts what IAM allows. Followers hand on the address
// that they saw, and a header of the client changes nothing.
func TestAnAccessPolicyDecidesBySourceAddressOnEveryNode(t *testing.T) {
	c := suite.Shared(t)
	const path = "/app/e2e/office/secret"
	c.OK(1, "secrets/createSecret", `{"path":%q,"value":"eA=="}`, path)
	reader := c.Principal("commuter", `[{"effect":"allow","roles":["secrets-value-access","secrets-read-access"],"paths":["/app/e2e/office/**"]}]`)
	read := func(node int) localcluster.Response {
		return c.Send(node, reader, "secrets/getSecretValue", `{"path":%q}`, path)
	}
	t.Cleanup(func() { c.OK(1, "iam/deleteAccessPolicy", `{"name":"office"}`) })
	for _, step := range []struct {
		cidrs  string
		status int
	}{
		{`["127.0.0.1/32"]`, http.StatusOK}, {`["10.0.0.0/8","2001:db8::/32"]`, http.StatusForbidden},
		{`["127.0.0.0/8"]`, http.StatusOK}, {`["::1/128"]`, http.StatusForbidden}, {`["127.0.0.2/32"]`, http.StatusForbidden},
	} {
		c.OK(2, "iam/putAccessPolicy", `{"name":"office","paths":["/app/e2e/office/**"],"sourceCidrs":%s}`, step.cidrs)
		for node := 1; node <= 3; node++ {
			r := read(node)
			require.Equal(t, step.status, r.Status, "%s on node%d: %s", step.cidrs, node, r.Body)
			if step.status == http.StatusForbidden {
				require.Contains(t, string(r.Body), `"reason":"sourceAddress"`)
				require.Equal(t, http.StatusForbidden, forge(t, c, node, reader, path), "a forged header")
			}
			r = c.Send(node, reader, "secrets/describeSecret", `{"path":%q}`, path)
			require.Equal(t, http.StatusOK, r.Status, "metadata is not what it restricts: %s", r.Body)
		}
	}
	for node := 1; node <= 3; node++ {
		require.Equal(t, "127.0.0.1", c.OK(node, "iam/whoAmI", `{}`)["sourceAddress"], "every node sees the client, not the follower")
	}
}

// A token that was revoked through one node is refused by all, at once.
func TestARevokedTokenIsRefusedOnEveryNodeAtOnce(t *testing.T) {
	c := suite.Shared(t)
	c.Principal("leaver", `[{"effect":"allow","roles":["secrets-value-access"],"paths":["/app/e2e/**"]}]`)
	for round := range 9 {
		made := c.OK(1, "iam/createToken", `{"principal":"leaver"}`)
		token, id := made["token"].(string), made["tokenId"].(string)
		for node := 1; node <= 3; node++ {
			require.Equal(t, http.StatusOK, c.Send(node, token, "iam/whoAmI", `{}`).Status)
		}
		c.OK(1+round%3, "iam/revokeToken", `{"tokenId":%q}`, id)
		for node := 1; node <= 3; node++ {
			r := c.Send(node, token, "iam/whoAmI", `{}`)
			require.Equal(t, "Unauthenticated", r.Code(), "node%d: %s", node, r.Body)
		}
	}
}
