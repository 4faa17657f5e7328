package leak_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/test/localcluster"
)

// refused sends a request that must fail, to every node that runs. Its answer is one of
// those that must hold no mark.
func (w *traffic) refused(operation, format string, args ...any) {
	w.t.Helper()
	for node := 1; node <= w.c.Nodes; node++ {
		if _, runs := w.c.Server(node); !runs {
			continue
		}
		body := fmt.Sprintf(format, args...)
		r := w.c.Send(node, w.c.Token, operation, "%s", body)
		require.GreaterOrEqual(w.t, r.Status, 400, "%s %s: %s", operation, body, r.Body)
		w.answers = append(w.answers, answer{"a refused " + operation, string(r.Body)})
	}
}

// mistakes are what people do with values: bad encodings, wrong fields, too
// much, the wrong path.
func (w *traffic) mistakes(path, stranger string) {
	raw := inJSON(w.value(), false)
	for _, field := range []string{
		`"value":"%s"`, `"value":"eA==","expectedVersion":"%s"`, `"value":"eA==","expiresAt":"%s"`, `"value":"eA==","contentType":"%s\u0000"`,
		`"value":"eA==","activate":"%s"`, `"value":{"text":"%s"}`, `"value":["%s"]`, `"value":"eA==","clientToken":"%[1]s%[1]s"`,
	} {
		w.refused("secrets/putSecretValue", `{"path":%q,%s}`, path, fmt.Sprintf(field, raw))
	}
	for _, one := range []struct{ operation, body string }{
		{"secrets/createSecret", `{"path":"%s"}`}, {"secrets/createSecret", `{"path":"/app/leak/%s","value":"eA=="}`},
		{"secrets/createSecret", `{"path":"/app/leak/x","kmsKeyId":"%s"}`}, {"secrets/createSecret", `{"path":"/app/leak/x","tags":["%s"]}`},
		{"secrets/getSecretValue", `{"path":"/app/leak/s1","label":"%s"}`}, {"secrets/getSecretValue", `{"path":"/app/leak/s1","version":"%s"}`},
		{"secrets/generateSecret", `{"path":"/app/leak/s1","kind":"%s"}`}, {"secrets/generateSecret", `{"path":"/app/leak/s1","kind":"password","include":["%s"]}`},
		{"secrets/listSecrets", `{"prefix":"%s"}`}, {"secrets/listSecrets", `{"cursor":"%s"}`}, {"secrets/destroyVersion", `{"path":"/app/leak/s1","version":1,"delay":"%s"}`},
		{"secrets/copySecret", `{"path":"/app/leak/s1","toPath":"%s"}`}, {"secrets/copySecret", `{"path":"%s","toPath":"/app/leak/x"}`},
		{"secrets/getUsage", `{"prefix":"%s"}`}, {"secrets/waitForChange", `{"paths":["/app/leak/s1","%s"]}`}, {"secrets/waitForChange", `{"prefix":"/app","timeout":"%s"}`},
		{"secrets/putPathRule", `{"prefix":"/app/%s","owner":"x\u0000"}`}, {"secrets/putPathRule", `{"prefix":"/app/leak/","segments":["{%s"]}`},
		{"secrets/putPathRule", `{"prefix":"/app/leak/","keepVersions":"%s"}`}, {"secrets/lintPaths", `{"rule":{"kmsKeyId":"%s"}}`},
		{"kms/encrypt", `{"keyId":"alias/default","plaintext":"%s"}`}, {"kms/encrypt", `{"keyId":"%s","plaintext":"eA=="}`}, {"kms/decrypt", `{"ciphertext":"%s"}`},
		{"iam/createPrincipal", `{"name":"%s","kind":"user"}`}, {"iam/createPrincipal", `{"name":"x","kind":"%s"}`}, {"iam/createToken", `{"principal":"%s"}`},
		{"iam/revokeToken", `{"tokenId":"%s"}`}, {"iam/putPolicy", `{"name":"%s","statements":[]}`}, {"audit/queryEvents", `{"path":"%s"}`},
		{"audit/queryEvents", `{"outcome":"%s"}`}, {"cluster/transferLeadership", `{"to":"%s"}`},
	} {
		w.refused(one.operation, "%s", fmt.Sprintf(one.body, raw))
	}
	good := w.value64()
	w.refused("secrets/putSecretValue", `{"path":%q,"value":%q,"value":%q}`, path, good, good)
	w.refused("secrets/putSecretValue", `{"path":%q,"value":%q}{}`, path, good)
	w.refused("secrets/putSecretValue", `{"path":%q,"value":%q`, path, good)
	w.refused("secrets/putSecretValue", `{"path":%q,"value":"%s\n"}`, path, good)
	w.refused("secrets/putSecretValue", `{"path":%q,"value":%q}`, path, strings.TrimRight(good, "=")+"!")
	w.refused("secrets/putSecretValue", `{"path":"/app/leak/none","value":%q}`, good)
	w.refused("secrets/putSecretValue", `{"path":%q,"value":%q,"expectedVersion":77}`, path, good)
	w.refused("secrets/createSecret", `{"path":%q,"value":%q}`, path, good)
	w.refused("secrets/createSecret", `{"path":"/app/leak/y","value":%q,"kmsKeyId":"alias/none"}`, good)
	w.refused("kms/encrypt", `{"keyId":"alias/none","plaintext":%q}`, good)
	w.refused("kms/decrypt", `{"ciphertext":%q}`, good)
	w.refused("kms/encrypt", `{"keyId":"alias/default","plaintext":%q}`, localcluster.B64(strings.Repeat(w.core, 4096/len(w.core)+1)))
	w.refused("secrets/putSecretValue", `{"path":%q,"value":%q}`, path, localcluster.B64(strings.Repeat(w.core, 70_000/len(w.core))))
	w.refused("secrets/putSecretValue", `{"path":%q,"value":%q}`, path, localcluster.B64(strings.Repeat(w.core, 2_000_000/len(w.core))))
	r := w.c.Send(2, stranger, "secrets/putSecretValue", `{"path":%q,"value":%q}`, path, good)
	require.Equal(w.t, "AccessDenied", r.Code(), "%s", r.Body)
	w.answers = append(w.answers, answer{"a denied write", string(r.Body)})
	// The name of a field that is none is told to who sent it, and to nobody else.
	r = w.c.Send(3, w.c.Token, "secrets/createSecret", `{"path":"/app/leak/z","%s":1}`, raw)
	require.Equal(w.t, "InvalidRequest", r.Code(), "%s", r.Body)
}

// lostTokens sends a token to where it does not belong.
func (w *traffic) lostTokens(token string) {
	for node := 1; node <= w.c.Nodes; node++ {
		for _, one := range []struct {
			method, path, body string
			authorization      []string
		}{
			{http.MethodPost, "iam/revokeToken", `{"tokenId":"` + token + `"}`, []string{"Bearer " + w.c.Token}},
			{http.MethodPost, "iam/whoAmI", `{}`, []string{"Basic " + token}},
			{http.MethodPost, "iam/whoAmI", `{}`, []string{token}},
			{http.MethodPost, "iam/whoAmI", `{}`, []string{"Bearer " + token, "Bearer " + token}},
			{http.MethodPost, "iam/whoAmI?token=" + token, `{}`, nil},
			{http.MethodPost, token, `{}`, []string{"Bearer " + token}},
			{http.MethodGet, "iam/whoAmI", "", []string{"Bearer " + token}},
			{http.MethodPost, "iam/whoAmI", `"` + token + `"`, []string{"Bearer " + token}},
		} {
			r := w.odd(node, one.method, one.path, one.body, one.authorization)
			w.answers = append(w.answers, answer{"a lost token at " + strings.ReplaceAll(one.path, token, "…"), r})
		}
	}
}

// odd sends what Do does not.
func (w *traffic) odd(node int, method, path, body string, authorization []string) string {
	w.t.Helper()
	req, err := http.NewRequestWithContext(context.Background(), method, w.c.Addr(node)+"/api/v1/"+path, strings.NewReader(body))
	require.NoError(w.t, err)
	req.Header["Authorization"] = authorization
	resp, err := w.c.Client().Do(req)
	require.NoError(w.t, err)
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	require.NoError(w.t, err)
	require.GreaterOrEqual(w.t, resp.StatusCode, 400, "%s %s", method, path)
	return string(answer)
}
