package wire_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/api/wire"
	"github.com/strongroom/strongroom/internal/fault"
)

// mark stands for a value; no message may repeat it.
const mark = "TUFSS0VELVZBTFVF"

func TestDecodeRefusesAndNamesTheFault(t *testing.T) {
	deep := strings.Repeat(`{"a":`, 17) + "1" + strings.Repeat("}", 17)
	wide := `{"items":[` + strings.TrimSuffix(strings.Repeat("1,", 1001), ",") + `]}`
	for _, c := range []struct{ name, body, says string }{
		{"empty", ``, "body: is empty"},
		{"white space only", "  \n", "body: is empty"},
		{"array", `[]`, "body: must be a JSON object"},
		{"string", `"` + mark + `"`, "body: must be a JSON object"},
		{"null", `null`, "body: must be a JSON object"},
		{"two objects", `{}{}`, "body: has trailing bytes"},
		{"trailing text", `{} ` + mark, "body: is not well-formed JSON"},
		{"cut", `{"path":"/a"`, "body:"},
		{"unquoted", `{path:1}`, "body: is not well-formed JSON"},
		{"single quotes", `{'path':'` + mark + `'}`, "body: is not well-formed JSON"},
		{"unknown member", `{"pathh":"/a"}`, "pathh: is not a field of this operation"},
		{"other case", `{"Path":"/a"}`, "Path: is not a field of this operation"},
		{"kelvin sign", "{\"\u212aind\":\"x\"}", `is not a field`},
		{"duplicate", `{"path":"/a","path":"/b"}`, "path: is given twice"},
		{"escaped duplicate", `{"path":"/a","p\u0061th":"/b"}`, "path: is given twice"},
		{"duplicate in a map", `{"tags":{"a":"1","a":"2"}}`, "tags.a: is given twice"},
		{"invalid UTF-8", "{\"path\":\"/a\xff\"}", "body: is not well-formed JSON in UTF-8"},
		{"lone surrogate", `{"path":"\ud800"}`, "body: is not well-formed JSON in UTF-8"},
		{"too deep", deep, "nested deeper than 16"},
		{"too wide", wide, "more than 1000 members"},
		{"number for a string", `{"path":7}`, "path: must be a string"},
		{"string for a bool", `{"activate":"yes"}`, "activate: must be true or false"},
		{"string for a number", `{"expectedVersion":"` + mark + `"}`, "expectedVersion: must be a whole number"},
		{"negative", `{"expectedVersion":-1}`, "expectedVersion: must be a whole number"},
		{"fraction", `{"expectedVersion":1.5}`, "expectedVersion: must be a whole number"},
		{"huge", `{"expectedVersion":99999999999999999999}`, "expectedVersion: must be a whole number"},
		{"array for a map", `{"tags":["a"]}`, "tags: must be an object"},
		{"number in a map", `{"tags":{"a":1}}`, "tags.a: must be a string"},
		{"base64 URL alphabet", `{"value":"_-8="}`, "value: must be standard base64"},
		{"base64 without padding", `{"value":"` + mark + `QQ"}`, "value: must be standard base64"},
		{"base64 with newline", `{"value":"AAAB\n"}`, "value: must be standard base64"},
		{"base64 with space", `{"value":"AA AB"}`, "value: must be standard base64"},
		{"base64 with stray bits", `{"value":"AAB="}`, "value: must be standard base64"},
		{"number for base64", `{"value":12}`, "value: must be a base64 string"},
		{"time without zone", `{"expiresAt":"2026-01-02T03:04:05"}`, "expiresAt: must be a time"},
		{"time in another zone", `{"expiresAt":"2026-01-02T03:04:05+01:00"}`, "expiresAt: must be a time"},
		{"time with microseconds", `{"expiresAt":"2026-01-02T03:04:05.000001Z"}`, "expiresAt: must be a time"},
		{"time as a number", `{"expiresAt":1700000000}`, "expiresAt: must be a time"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var into struct {
				wire.PutSecretValueRequest
				Tags  map[string]string `json:"tags,omitzero"`
				Items []int             `json:"items,omitzero"`
			}
			err := wire.Decode([]byte(c.body), &into)
			require.ErrorContains(t, err, c.says)
			require.Equal(t, fault.InvalidRequest, fault.KindOf(err))
			require.NotContains(t, err.Error(), mark, "a message repeats what may be a value")
		})
	}
}

func TestValueRoundTripIsTheOnlyWayOut(t *testing.T) {
	var got wire.PutSecretValueRequest
	require.NoError(t, wire.Decode([]byte(`{"path":"/a/b","value":"`+mark+`"}`), &got))
	require.Equal(t, "MARKED-VALUE", string(got.Value.Expose()))

	var out bytes.Buffer
	require.NoError(t, wire.Encode(&out, wire.GetSecretValueResponse{Path: "/a/b", Value: got.Value}))
	require.Contains(t, out.String(), `"value":"`+mark+`"`)

	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		printed := fmt.Sprintf(verb, got)
		require.NotContains(t, printed, "MARKED", verb)
		require.NotContains(t, printed, "4d41524b4544", verb)
		require.NotContains(t, fmt.Sprintf(verb, got.Value), "MARKED", verb)
	}
}

func TestEscapedSlashInBase64IsTheSameString(t *testing.T) {
	var got wire.PutSecretValueRequest
	require.NoError(t, wire.Decode([]byte(`{"value":"\/\/\/\/"}`), &got))
	require.Equal(t, []byte{0xff, 0xff, 0xff}, got.Value.Expose())
}

func TestTextTravelsAsItIs(t *testing.T) {
	var out bytes.Buffer
	var in wire.CreateTokenResponse
	require.NoError(t, wire.Decode([]byte(`{"token":"srt_abc","tokenId":"x","expiresAt":"2026-01-02T03:04:05.1Z"}`), &in))
	require.Equal(t, "srt_abc", string(in.Token.Expose()))
	require.NoError(t, wire.Encode(&out, in))
	require.JSONEq(t, `{"token":"srt_abc","tokenId":"x","expiresAt":"2026-01-02T03:04:05.1Z"}`, out.String())
	require.NotContains(t, fmt.Sprintf("%+v", in), "srt_abc")
}

func TestDurations(t *testing.T) {
	for in, want := range map[string]time.Duration{"30d": 720 * time.Hour, "720h": 720 * time.Hour, "90s": 90 * time.Second, "0s": 0} {
		got, err := wire.ParseDuration(in)
		require.NoError(t, err, in)
		require.Equal(t, wire.Duration(want), got)
	}
	for _, in := range []string{"", "d", "-1h", "1.5d", "-3d", "99999d", "1w", "30 d", "1e3d"} {
		_, err := wire.ParseDuration(in)
		require.Error(t, err, in)
	}
	text, err := wire.Duration(48 * time.Hour).MarshalText()
	require.NoError(t, err)
	require.Equal(t, "2d", string(text))
}

func TestBatchResultIsAnAnswerOrAnError(t *testing.T) {
	var out bytes.Buffer
	require.NoError(t, wire.Encode(&out, wire.BatchGetSecretValueResponse{Results: []wire.BatchResult{
		{Path: "/a", Error: &wire.ItemError{Code: "NotFound", Message: "no"}},
		{Path: "/b", GetSecretValueResponse: &wire.GetSecretValueResponse{Path: "/b", Version: 3}},
	}}))
	require.Contains(t, out.String(), `{"path":"/a","error":{"code":"NotFound","message":"no"}}`)
	require.Equal(t, 1, strings.Count(out.String(), `"path":"/b"`))
	require.Contains(t, out.String(), `"version":3`)
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"path":"/a/b","value":"AAAA","expiresAt":"2026-01-02T03:04:05Z","activate":false}`))
	f.Add([]byte(`{"path":"\u0000","tags":{"":""}}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		var in, again wire.PutSecretValueRequest
		if wire.Decode(body, &in) != nil {
			return
		}
		var out bytes.Buffer
		require.NoError(t, wire.Encode(&out, in))
		require.NoError(t, wire.Decode(out.Bytes(), &again), "what was accepted must be encodable and accepted again")
	})
}
