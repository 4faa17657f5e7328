package sigv4

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/stretchr/testify/require"
)

const (
	suiteSecret = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY" // of the public test suite
	testKey     = "SRAKABCDEFGHIJKLMNOP"
)

// arrived reads a request as a server does.
func arrived(t testing.TB, text string) *http.Request {
	t.Helper()
	r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(strings.ReplaceAll(text, "\n", "\r\n"))))
	require.NoError(t, err)
	return r
}

// TestVectorsOfTheSuite takes those of the published test suite that fit: no
// query, and a URI that is its own canonical form.
func TestVectorsOfTheSuite(t *testing.T) {
	at := time.Date(2015, 8, 30, 12, 36, 0, 0, time.UTC)
	for name, one := range map[string]struct{ head, names, signature string }{
		"get-vanilla":              {"GET / HTTP/1.1\nHost:example.amazonaws.com\nX-Amz-Date:20150830T123600Z\n\n", "host;x-amz-date", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"},
		"post-vanilla":             {"POST / HTTP/1.1\nHost:example.amazonaws.com\nX-Amz-Date:20150830T123600Z\n\n", "host;x-amz-date", "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"},
		"get-header-value-trim":    {"GET / HTTP/1.1\nHost:example.amazonaws.com\nMy-Header1: value1\nMy-Header2: \"a   b   c\"\nX-Amz-Date:20150830T123600Z\n\n", "host;my-header1;my-header2;x-amz-date", "acc3ed3afb60bb290fc8d2dd0098b9911fcaa05412b367055dee359757a9c736"},
		"get-header-key-duplicate": {"GET / HTTP/1.1\nHost:example.amazonaws.com\nMy-Header1:value2\nMy-Header1:value2\nMy-Header1:value1\nX-Amz-Date:20150830T123600Z\n\n", "host;my-header1;x-amz-date", "c9d5ea9f3f72853aea855b47ea873832890dbdd183b4468f858259531a5138ea"},
		"get-header-value-order":   {"GET / HTTP/1.1\nHost:example.amazonaws.com\nMy-Header1:value4\nMy-Header1:value1\nMy-Header1:value3\nMy-Header1:value2\nX-Amz-Date:20150830T123600Z\n\n", "host;my-header1;x-amz-date", "08c7e5a9acfcfeb3ab6b2185e75ce8b1deb5e634ec47601a50643f830c755c01"},
		"post-header-key-sort":     {"POST / HTTP/1.1\nHost:example.amazonaws.com\nMy-Header1:value1\nX-Amz-Date:20150830T123600Z\n\n", "host;my-header1;x-amz-date", "c5410059b04c1ee005303aed430f6e6645f61f4dc9e1461ec8f8916fdf18852c"},
	} {
		r := &Request{Region: "us-east-1", Time: at, Head: head(arrived(t, one.head), strings.Split(one.names, ";"))}
		got := r.sign(DateKey([]byte(suiteSecret), r.Date()), "service", nil)
		require.Equal(t, one.signature, hex.EncodeToString(got[:]), name)
	}
}

// bySDK signs with the independent implementation.
func bySDK(t testing.TB, id, secret, body string, at time.Time, change func(r *http.Request)) *http.Request {
	t.Helper()
	r, err := http.NewRequest(http.MethodPost, "https://node1.example:7400/api/v1/iam/whoAmI", strings.NewReader(body))
	require.NoError(t, err)
	r.Header.Set("Content-Type", "application/json")
	if change != nil {
		change(r)
	}
	sum := sha256.Sum256([]byte(body))
	require.NoError(t, v4.NewSigner().SignHTTP(context.Background(), aws.Credentials{AccessKeyID: id, SecretAccessKey: secret}, r, hex.EncodeToString(sum[:]), Service, "eu-central-1", at))
	var wire bytes.Buffer
	require.NoError(t, r.Write(&wire))
	out, err := http.ReadRequest(bufio.NewReader(&wire))
	require.NoError(t, err)
	return out
}

var moment = time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)

func TestWhatAnotherImplementationSignsIsAccepted(t *testing.T) {
	for name, change := range map[string]func(r *http.Request){
		"plain":  nil,
		"spaces": func(r *http.Request) { r.Header.Set("X-Note", "  a   b  c ") },
		"many":   func(r *http.Request) { r.Header["X-Note"] = []string{"b", " a", "c  d"} },
	} {
		r, err := Parse(bySDK(t, testKey, suiteSecret, `{}`, moment, change))
		require.NoError(t, err, name)
		require.True(t, r.Is("POST", "/api/v1/iam/whoAmI"))
		require.True(t, r.SignedBy(DateKey([]byte(suiteSecret), r.Date()), []byte(`{}`)), name)
		require.False(t, r.SignedBy(DateKey([]byte(suiteSecret), r.Date()), []byte(`{} `)), name)
		require.False(t, r.SignedBy(DateKey([]byte(suiteSecret+"x"), r.Date()), []byte(`{}`)), name)
		require.NoError(t, r.Check())
	}
}

func TestOurOwnSignatureIsWhatWeAccept(t *testing.T) {
	r, err := http.NewRequest(http.MethodPost, "https://[::1]:7400/api/v1/iam/whoAmI", strings.NewReader(`{}`))
	require.NoError(t, err)
	r.Header.Set("Content-Type", "application/json")
	require.NoError(t, Sign(r, testKey, []byte(suiteSecret), []byte(`{}`), moment))
	var wire bytes.Buffer
	require.NoError(t, r.Write(&wire))
	back, err := http.ReadRequest(bufio.NewReader(&wire))
	require.NoError(t, err)
	signed, err := Parse(back)
	require.NoError(t, err)
	require.True(t, signed.SignedBy(DateKey([]byte(suiteSecret), "20260304"), []byte(`{}`)))
	require.Error(t, Sign(r, "AKIA", []byte(suiteSecret), nil, moment))
	require.Error(t, Sign(r, testKey, nil, nil, moment))
}

func TestWhatCouldBeReadInTwoWaysIsRefused(t *testing.T) {
	replace := func(old, text string) func(r *http.Request) {
		return func(r *http.Request) {
			a := r.Header.Get("Authorization")
			if !strings.Contains(a, old) {
				panic(old)
			}
			r.Header.Set("Authorization", strings.Replace(a, old, text, 1))
		}
	}
	set := func(name string, values ...string) func(r *http.Request) {
		return func(r *http.Request) { r.Header[name] = values }
	}
	for name, c := range map[string]struct {
		change func(r *http.Request)
		says   string
	}{
		"another algorithm":    {replace("AWS4-HMAC-SHA256", "AWS4-ECDSA-P256-SHA256"), "Authorization:"},
		"another service":      {replace("/strongroom/", "/secretsmanager/"), "for the service"},
		"kms":                  {replace("/strongroom/", "/kms/"), "for the service"},
		"another end":          {replace("aws4_request", "aws5_request"), "end in"},
		"region":               {replace("eu-central-1", "eu central"), "Credential must be"},
		"no region":            {replace("eu-central-1", ""), "Credential must be"},
		"another key":          {replace("SRAK", "AKIA"), "Credential must be"},
		"another day":          {replace("20260304", "20260305"), "X-Amz-Date:"},
		"order":                {replace("Credential=", "Signature="), "Authorization:"},
		"twice":                {replace(", Signature=", ", Signature=00, Signature="), "Authorization:"},
		"upper case":           {replace("host", "Host"), "SignedHeaders"},
		"names out of order":   {replace("content-type;host", "host;content-type"), "SignedHeaders"},
		"names twice":          {replace("host;", "host;host;"), "SignedHeaders"},
		"empty name":           {replace("host;", "host;;"), "SignedHeaders"},
		"no host":              {replace("host;", ""), "must name host"},
		"no content type":      {replace("content-type;", ""), "must name content-type"},
		"no date signed":       {replace(";x-amz-date", ""), "x-amz-"},
		"absent header":        {replace("x-amz-date", "x-amz-date;x-none"), "does not have"},
		"itself":               {replace("content-length", "authorization"), "cannot be signed"},
		"short signature":      {replace("Signature=", "Signature=0"), "64 hexadecimal"},
		"date twice":           {set("X-Amz-Date", "20260304T050607Z", "20260304T050607Z"), "X-Amz-Date:"},
		"no date":              {set("X-Amz-Date"), "X-Amz-Date:"},
		"date in another form": {set("X-Amz-Date", "2026-03-04T05:06:07Z"), "X-Amz-Date:"},
		"no such day":          {set("X-Amz-Date", "20260304T250607Z"), "X-Amz-Date:"},
		"unsigned payload":     {set("X-Amz-Content-Sha256", "UNSIGNED-PAYLOAD"), "X-Amz-Content-Sha256:"},
		"streaming":            {set("X-Amz-Content-Sha256", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"), "X-Amz-Content-Sha256:"},
		"session":              {set("X-Amz-Security-Token", "t"), "X-Amz-Security-Token:"},
		"an amz header added":  {set("X-Amz-Target", "t"), "x-amz-"},
		"long":                 {set("Content-Type", strings.Repeat("a", maxHead)), "too long"},
	} {
		r := bySDK(t, testKey, suiteSecret, `{}`, moment, nil)
		c.change(r)
		_, err := Parse(r)
		require.ErrorContains(t, err, c.says, name)
		require.NotContains(t, err.Error(), r.Header.Get("Authorization"))
	}
}

// FuzzParse: whatever is accepted has one reading. Signed again from that, it
// is the same request.
func FuzzParse(f *testing.F) {
	r := bySDK(f, testKey, suiteSecret, `{}`, moment, nil)
	f.Add(r.Header.Get("Authorization"), "20260304T050607Z", "application/json", "node:7400")
	f.Add("AWS4-HMAC-SHA256 Credential=a/b/c/d/e, SignedHeaders=host, Signature=00", "", "", "")
	f.Fuzz(func(t *testing.T, authorization, date, contentType, host string) {
		r := &http.Request{Method: "POST", RequestURI: "/api/v1/iam/whoAmI", Host: host, Header: http.Header{
			"Authorization": {authorization}, "X-Amz-Date": {date}, "Content-Type": {contentType},
		}}
		signed, err := Parse(r)
		if err != nil {
			return
		}
		require.NoError(t, signed.Check())
		require.True(t, signed.Is("POST", r.RequestURI))
		require.LessOrEqual(t, len(signed.Head), maxHead)
		require.Equal(t, date, signed.Time.Format(timeForm))
		require.Contains(t, authorization, "Credential="+signed.KeyID+"/"+signed.scope(Service)+",")
		require.True(t, strings.HasSuffix(authorization, hex.EncodeToString(signed.Signature[:])))
		require.False(t, signed.SignedBy(DateKey([]byte("not the secret"), signed.Date()), nil))
	})
}
