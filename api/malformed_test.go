package api

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/internal/fault"
)

// mark stands for a value that is in a request, in base64 and as it is; no
// answer may repeat it.
const mark = "TUFSS0VELVZBTFVF"

// malformed is a request and what must be said about it.
type malformed struct {
	operation, body string
	says            string // what the message must begin with
}

// wrap puts a field into an otherwise good request of an operation.
var wrap = map[string]string{
	"secrets/createSecret": `"path":"/a/b"`, "secrets/describeSecret": `"path":"/a/b"`, "secrets/listSecrets": "",
	"secrets/deleteSecret": `"path":"/a/b"`, "secrets/restoreSecret": `"path":"/a/b"`, "secrets/putSecretValue": `"path":"/a/b","value":"` + mark + `"`,
	"secrets/generateSecret": `"path":"/a/b","kind":"uuid"`, "secrets/getSecretValue": `"path":"/a/b"`, "secrets/listSecretVersions": `"path":"/a/b"`,
	"secrets/destroyVersion": `"path":"/a/b","version":1`, "secrets/cancelDestroyVersion": `"path":"/a/b","version":1`,
	"kms/encrypt": `"keyId":"alias/default","plaintext":"` + mark + `"`, "kms/decrypt": `"ciphertext":"` + mark + `"`,
	"kms/listKeys": "", "kms/listBoundSecrets": `"keyId":"alias/default"`, "kms/describeKey": `"keyId":"alias/default"`,
	"iam/createPrincipal": `"name":"p","kind":"user"`, "iam/createToken": `"principal":"admin"`, "iam/listTokens": "",
	"iam/putPolicy": `"name":"p"`, "iam/getPolicy": `"name":"p"`,
	"iam/putAccessPolicy": `"name":"p","paths":["/a/**"],"sourceCidrs":["192.0.2.0/24"]`, "iam/describePrincipal": `"name":"p"`,
	"iam/attachPolicy": `"policy":"p","principal":"q"`, "iam/listPolicies": "", "audit/queryEvents": "",
}

// with answers a good request of operation, in which field has another value.
func with(operation, field, value string) string {
	var out []string
	for _, part := range strings.Split(wrap[operation], `,"`) {
		part = strings.TrimPrefix(part, `"`)
		if part != "" && !strings.HasPrefix(part, field+`"`) {
			out = append(out, `"`+part)
		}
	}
	return "{" + strings.Join(append(out, `"`+field+`":`+value), ",") + "}"
}

// syntax are bodies that are no JSON object of any operation.
func syntax() []malformed {
	deep := func(n int) string {
		return `{"a":` + strings.Repeat("[", n-1) + `"` + mark + `"` + strings.Repeat("]", n-1) + "}"
	}
	wide := `{"path":"/a","tags":{` + strings.TrimSuffix(strings.Repeat(`"k":"v",`, 3), ",") + `}}`
	var many strings.Builder
	for i := range 1001 {
		fmt.Fprintf(&many, `"k%d":"v",`, i)
	}
	bodies := map[string]string{
		``: "body: is empty", ` `: "body: is empty", "\n\t ": "body: is empty", `null`: "body: must be a JSON object", `true`: "body: must be a JSON object",
		`7`: "body: must be a JSON object", `[]`: "body: must be a JSON object", `[{"path":"/a"}]`: "body: must be a JSON object",
		`"` + mark + `"`: "body: must be a JSON object", mark: "body: is not well-formed", `{`: "body: ", `}`: "body: is not well-formed",
		`{"path"`: "body: ", `{"path":`: "body: ", `{"path":"/a"`: "body: ", `{"path":"/a",}`: "body: is not well-formed", `{"path":"/a" "value":1}`: "body: is not well-formed",
		`{,}`: "body: is not well-formed", `{path:"/a"}`: "body: is not well-formed", `{'path':'` + mark + `'}`: "body: is not well-formed",
		`{"value":` + mark + `}`: "body: is not well-formed", `{"value":NaN}`: "body: is not well-formed", `{"value":Infinity}`: "body: is not well-formed",
		`{"version":01}`: "body: is not well-formed", `{"version":+1}`: "body: is not well-formed", `{"version":.5}`: "body: is not well-formed", `{"version":0x10}`: "body: is not well-formed",
		`{"path":"a` + "\n" + `b"}`: "body: is not well-formed", `{"path":"\x41"}`: "body: is not well-formed", `{"path":"\u12"}`: "body: is not well-formed",
		`{"path":"/a"/*c*/}`: "body: is not well-formed", "{\"path\":\"/a\"}//" + mark: "body: is not well-formed", `{"path":"/a"}{}`: "body: has trailing bytes",
		`{"path":"/a"}[]`: "body: has trailing bytes", `{"path":"/a"},`: "body: is not well-formed", `{"path":"/a"}` + mark: "body: is not well-formed", "{\"path\":\"/a\"}\x00": "body: is not well-formed",
		"\xef\xbb\xbf{\"path\":\"/a\"}": "body: is not well-formed", "{\"path\":\"/\xff\"}": "body: is not well-formed", "{\"p\xc3\":1}": "body: is not well-formed",
		`{"path":"\ud800"}`: "body: is not well-formed", `{"path":"\udc00\ud800"}`: "body: is not well-formed", "{\"path\":\"\xed\xa0\x80\"}": "body: is not well-formed",
		"{\"path\":\"\xc0\xaf\"}": "body: is not well-formed", "\x1f\x8b\x08\x00": "body: is not well-formed",
		`{"path":"/a","path":"/b"}`: "path: is given twice", `{"path":"/a","p\u0061th":"/b"}`: "path: is given twice", `{"x":1,"x":2}`: "x: is given twice", wide: "tags.k: is given twice",
		deep(17): "body: is nested deeper than 16", deep(5000): "body: is nested deeper than 16",
		`{` + many.String() + `"z":1}`:                   "body: one object or array has more than 1000",
		`{"tags":[` + strings.Repeat("1,", 1001) + `1]}`: "body: one object or array has more than 1000",
		`{"Path":"/a/b"}`:                                "Path: is not a field", `{"PATH":"/a/b"}`: "PATH: is not a field", `{"path ":"/a/b"}`: `"path ": is not a field`,
		`{"paths":["/a/b"]}`: "paths: is not a field", `{"":"/a/b"}`: `"": is not a field`, `{"__proto__":{}}`: "__proto__: is not a field",
		"{\"\u212aey\":\"x\"}": `"\u212aey": is not a field`, "{\"pa\u017fh\":\"x\"}": `"pa\u017fh": is not a field`,
		`{"` + strings.Repeat("n", 100) + `":1}`: "\"" + strings.Repeat("n", 64) + `\u2026": is not a field`,
	}
	var out []malformed
	for body, says := range bodies {
		out = append(out, malformed{"secrets/getSecretValue", body, says})
	}
	return out
}

// paths are texts that are no path, for every operation that takes one.
func paths() []malformed {
	long := "/" + strings.Repeat("a", 128)
	bad := map[string]string{
		`""`: "path: must not be empty", `"a"`: "path: must start with", `"a/b"`: "path: must start with", `"/"`: "path: segment 1 is empty", `"//"`: "path: segment 1 is empty",
		`"/a//b"`: "path: segment 2 is empty", `"/a/"`: "path: segment 2 is empty", `"/./a"`: "path: segment 1 is", `"/a/.."`: "path: segment 2 is", `"/../a"`: "path: segment 1 is",
		`"/a b"`: "path: segment 1 has the byte 0x20", `"/a\\b"`: "path: segment 1 has the byte 0x5c", `"/a%2fb"`: "path: segment 1 has the byte 0x25", `"/a\u0000"`: "path: segment 1 has the byte 0x00",
		`"/a\n"`: "path: segment 1 has the byte 0x0a", `"/é"`: "path: segment 1 has the byte 0xc3", `"/a*"`: "path: segment 1 has the byte 0x2a", `"/**"`: "path: segment 1 has the byte 0x2a",
		`"/a?b"`: "path: segment 1 has the byte 0x3f", `"/a#b"`: "path: segment 1 has the byte 0x23", `"` + long + `a"`: "path: segment 1 has 129 bytes",
		`"` + strings.Repeat("/a", 17) + `"`: "path: has 17 segments", `"` + strings.Repeat(long, 4) + `"`: "path: has 516 bytes",
		`7`: "path: must be a string", `["/a"]`: "path: must be a string", `{"a":"b"}`: "path: must be a string", `true`: "path: must be a string",
	}
	var out []malformed
	for operation, fields := range wrap {
		if !strings.Contains(fields, `"path":`) {
			continue
		}
		for path, says := range bad {
			out = append(out, malformed{operation, with(operation, "path", path), says})
		}
	}
	return out
}

// fields are values of one field that its type or its bounds refuse.
func fields() []malformed {
	base64 := []string{`"_-8="`, `"AA-_"`, `"QQ"`, `"QQ="`, `"Q==="`, `"QQ==\n"`, `" QQ=="`, `"QQ ==" `, `"QR=="`, `"AAB="`, `"Q\u0051=="`, `"é==="`, `"=QQ="`, `7`, `["QQ=="]`, `{}`, `true`}
	version := []string{`-1`, `1.5`, `1e3`, `18446744073709551616`, `99999999999999999999999`, `"1"`, `true`, `[1]`, `{}`}
	duration := []string{`"1w"`, `"d"`, `"30 d"`, `"-30d"`, `"1.5d"`, `"99999999d"`, `"1h1"`, `"9999999999h"`, `"-1s"`, `""`, `720`, `{}`, `["1h"]`}
	moment := []string{`"2026-01-02"`, `"2026-01-02T03:04:05"`, `"2026-01-02T03:04:05+00:00"`, `"2026-01-02T03:04:05.0001Z"`, `"2026-01-02t03:04:05z"`, `"2026-02-30T00:00:00Z"`,
		`"2026-01-02T24:00:00Z"`, `"2026-01-02T03:04:60Z"`, `"1969-12-31T23:59:59Z"`, `"10000-01-01T00:00:00Z"`, `"2026-01-02T03:04:05,5Z"`, `"2026-01-02T3:04:05Z"`,
		`"2026-01-02T03:04:05.1234Z"`, `"2026-01-02T03:04:05.1230Z"`, `" 2026-01-02T03:04:05Z"`, `""`, `"now"`, `1700000000`, `{}`, `[]`}
	limit := []string{`0`, `-1`, `1001`, `1.5`, `"10"`, `true`, `99999999999999999999`}
	name := []string{`""`, `"a b"`, `"-a"`, `".."`, `"a/b"`, `"é"`, `"a\u0000"`, `"` + strings.Repeat("n", 129) + `"`, `7`, `["a"]`}
	cidrs := []string{`["10.0.0.0"]`, `["10.0.0.1/8"]`, `["10.0.0.0/33"]`, `["010.0.0.0/8"]`, `["fe80::1%eth0/64"]`, `["::ffff:10.0.0.0/80"]`, `["any"]`, `[""]`, `"10.0.0.0/8"`, `[7]`, `{}`}
	var out []malformed
	add := func(field string, values []string, operations ...string) {
		for _, operation := range operations {
			for _, v := range values {
				out = append(out, malformed{operation, with(operation, field, v), field})
			}
		}
	}
	add("value", base64, "secrets/putSecretValue", "secrets/createSecret")
	add("plaintext", base64, "kms/encrypt")
	add("ciphertext", base64, "kms/decrypt")
	add("version", append(version, "0"), "secrets/getSecretValue", "secrets/destroyVersion", "secrets/cancelDestroyVersion")
	add("expectedVersion", version, "secrets/putSecretValue", "secrets/generateSecret")
	add("ttl", append(duration, `"0s"`, `"367d"`), "iam/createToken")
	add("recoveryWindow", append(duration, `"6d"`, `"91d"`), "secrets/deleteSecret")
	add("delay", append(duration, `"91d"`), "secrets/destroyVersion")
	add("expiresAt", moment, "secrets/putSecretValue")
	add("notBefore", moment, "iam/putAccessPolicy")
	add("from", moment, "audit/queryEvents")
	add("limit", limit, "secrets/listSecrets", "secrets/listSecretVersions", "kms/listKeys", "kms/listBoundSecrets", "iam/listTokens", "iam/listPolicies", "audit/queryEvents")
	add("cursor", []string{`"x"`, `"1.="`, `"2.YQ"`, `"1.YR"`, `7`}, "secrets/listSecrets", "secrets/listSecretVersions", "kms/listKeys", "iam/listTokens", "audit/queryEvents")
	add("name", name, "iam/createPrincipal", "iam/putPolicy", "iam/getPolicy", "iam/putAccessPolicy", "iam/describePrincipal")
	add("principal", name[1:], "iam/createToken", "iam/attachPolicy", "iam/listTokens")
	add("boundCidrs", cidrs, "iam/createToken")
	add("sourceCidrs", cidrs, "iam/putAccessPolicy")
	add("keyId", []string{`""`, `"alias/"`, `"alias/a b"`, `"ALIAS/x"`, `"00000000-0000-4000-8000-00000000000G"`, `"00000000-0000-4000-8000-0000000000AA"`, `7`}, "kms/describeKey", "kms/encrypt", "kms/listBoundSecrets")
	add("prefix", []string{`"a"`, `"//"`, `"/a//"`, `"/a*"`, `"/../"`, `7`}, "secrets/listSecrets")
	add("tags", []string{`[]`, `"a"`, `{"a":1}`, `{"a b":"c"}`, `{"":"c"}`, `{"a":"\u0007"}`, `{"a":"` + strings.Repeat("v", 257) + `"}`}, "secrets/createSecret")
	add("context", []string{`[]`, `"a"`, `{"a":1}`, `{"":"c"}`}, "kms/encrypt")
	add("kind", []string{`""`, `"rot13"`, `7`, `"UUID"`}, "secrets/generateSecret")
	add("statements", []string{`{}`, `[]`, `[{}]`, `["allow"]`, `[{"effect":"allow","actions":["*"],"conditions":{}}]`, `[{"effect":"allow","actions":[""]}]`}, "iam/putPolicy")
	add("consistency", []string{`"strong"`, `{"minIndex":-1}`, `{"maxStale":"x"}`, `{"minIndex":1,"maxStale":"1s"}`, `{"other":1}`}, "secrets/describeSecret")
	add("activate", []string{`"yes"`, `1`, `[]`}, "secrets/putSecretValue")
	add("clientToken", []string{`"a b"`, `"é"`, `"` + strings.Repeat("t", 65) + `"`, `7`}, "secrets/restoreSecret", "iam/createPrincipal")
	return out
}

func TestMalformedRequestsAreRefusedByName(t *testing.T) {
	n := single(t, nil)
	n.ok("secrets/createSecret", `{"path":"/a/b","value":"`+mark+`"}`)
	cases := append(append(syntax(), paths()...), fields()...)
	require.Greater(t, len(cases), 400)
	before := n.log.machine.State().Index()
	for _, c := range cases {
		r := n.call(c.operation, c.body)
		require.Equal(t, http.StatusBadRequest, r.status, "%s %.200s: %s", c.operation, c.body, r.body)
		e := r.failed(t)
		require.Equal(t, string(fault.InvalidRequest), e.Code)
		require.True(t, strings.HasPrefix(e.Message, c.says), "%s %.200s: %s", c.operation, c.body, e.Message)
		require.NotContains(t, r.body, mark, "%s %.200s", c.operation, c.body)
		require.NotContains(t, r.body, "MARKED-VALUE")
	}
	require.Equal(t, before, n.log.machine.State().Index(), "none of them may have done anything")
	require.NotContains(t, n.logged.String(), mark)
	require.NotContains(t, n.logged.String(), "MARKED-VALUE")
}

func TestJustWithinTheBoundsIsAccepted(t *testing.T) {
	n := single(t, nil)
	for _, body := range []string{
		`{"path":"/a` + strings.Repeat("/a", 15) + `"}`, `{"path":"/` + strings.Repeat("a", 128) + `"}`,
		`{"path":"/A.z_0-9+=@"}`, `{"path":"/...","expiresAt":null}`, ` { "path" : "\/x" } ` + "\r\n\t",
		`{"path":"/v","value":"` + mark + `","expiresAt":"2999-12-31T23:59:59.999Z"}`,
	} {
		n.ok("secrets/createSecret", body)
	}
}
