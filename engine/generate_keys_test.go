package engine_test

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"math"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/api/wire"
	"github.com/strongroom/strongroom/internal/fault"
	"github.com/strongroom/strongroom/internal/wordlist"
)

// decodePEM answers what a PEM text of one block of the type holds.
func decodePEM(t *testing.T, text, blockType string) []byte {
	t.Helper()
	block, rest := pem.Decode([]byte(text))
	require.NotNil(t, block)
	require.Equal(t, blockType, block.Type)
	require.Empty(t, block.Headers)
	require.Empty(t, rest)
	return block.Bytes
}

func TestGeneratedKeysAreOfTheKindAskedFor(t *testing.T) {
	w := newWorld(t)
	w.ok("secrets/createSecret", `{"path":"/a/b"}`)
	for fields, want := range map[string]struct {
		bits  float64
		check func(key any)
	}{
		`"kind":"rsa","bits":2048`: {112, func(key any) {
			private := key.(*rsa.PrivateKey)
			require.Equal(t, 2048, private.N.BitLen())
			require.NoError(t, private.Validate())
		}},
		`"kind":"ec"`:                {128, func(key any) { require.Equal(t, "P-256", key.(*ecdsa.PrivateKey).Curve.Params().Name) }},
		`"kind":"ec","curve":"p256"`: {128, func(key any) { require.Equal(t, "P-256", key.(*ecdsa.PrivateKey).Curve.Params().Name) }},
		`"kind":"ec","curve":"p384"`: {192, func(key any) { require.Equal(t, "P-384", key.(*ecdsa.PrivateKey).Curve.Params().Name) }},
		`"kind":"ed25519"`:           {128, func(key any) { require.Len(t, key.(ed25519.PrivateKey).Seed(), 32) }},
	} {
		hidden := w.ok("secrets/generateSecret", `{"path":"/a/b",%s}`, fields)
		require.NotContains(t, hidden, `"value"`)
		require.NotContains(t, hidden, "PRIVATE")
		got := w.generate(`{"path":"/a/b","reveal":true,` + fields + `}`)
		require.Equal(t, want.bits, got.EntropyBits, fields)
		key, err := x509.ParsePKCS8PrivateKey(decodePEM(t, string(got.Value.Expose()), "PRIVATE KEY"))
		require.NoError(t, err)
		want.check(key)
		public, err := x509.ParsePKIXPublicKey(decodePEM(t, got.PublicKey, "PUBLIC KEY"))
		require.NoError(t, err)
		require.Equal(t, publicOf(t, key), public, "the public half is of this key")
		stored := into[wire.GetSecretValueResponse](t, w.ok("secrets/getSecretValue", `{"path":"/a/b"}`))
		require.Equal(t, "application/x-pem-file", stored.ContentType)
		require.Equal(t, string(got.Value.Expose()), string(stored.Value.Expose()))
	}
}

func publicOf(t *testing.T, key any) any {
	t.Helper()
	switch key := key.(type) {
	case *rsa.PrivateKey:
		return &key.PublicKey
	case *ecdsa.PrivateKey:
		return &key.PublicKey
	case ed25519.PrivateKey:
		return key.Public()
	}
	require.Fail(t, "no private key")
	return nil
}

// TestARetryAnswersThePublicKeyOfWhatIsStored: the second request could make
// another key, and must not answer the public half of that.
func TestARetryAnswersThePublicKeyOfWhatIsStored(t *testing.T) {
	w := newWorld(t)
	body := `{"path":"/a/b","kind":"ed25519","create":true,"clientToken":"g-1"}`
	first, again := w.generate(body), w.generate(body)
	require.NotEmpty(t, first.PublicKey)
	require.Equal(t, first, again)
	body = `{"path":"/a/c","generate":{"kind":"ec"},"clientToken":"c-1"}`
	made := into[wire.CreateSecretResponse](t, w.ok("secrets/createSecret", "%s", body))
	require.NotEmpty(t, made.PublicKey)
	require.Equal(t, made, into[wire.CreateSecretResponse](t, w.ok("secrets/createSecret", "%s", body)))
	stored := into[wire.GetSecretValueResponse](t, w.ok("secrets/getSecretValue", `{"path":"/a/c"}`))
	require.Equal(t, "application/x-pem-file", stored.ContentType)
	key, err := x509.ParsePKCS8PrivateKey(decodePEM(t, string(stored.Value.Expose()), "PRIVATE KEY"))
	require.NoError(t, err)
	public, err := x509.ParsePKIXPublicKey(decodePEM(t, made.PublicKey, "PUBLIC KEY"))
	require.NoError(t, err)
	require.Equal(t, publicOf(t, key), public)

	w.put("/a/b", "another value")
	w.ok("secrets/disableVersion", `{"path":"/a/b","version":1}`)
	require.Empty(t, w.generate(`{"path":"/a/b","kind":"ed25519","create":true,"clientToken":"g-1"}`).PublicKey, "what may not be read is not opened")
	w.ok("secrets/createSecret", `{"path":"/a/d","contentType":"text/plain","generate":{"kind":"ec"}}`)
	require.Equal(t, "text/plain", into[wire.GetSecretValueResponse](t, w.ok("secrets/getSecretValue", `{"path":"/a/d"}`)).ContentType)
}

func TestPassphrases(t *testing.T) {
	w := newWorld(t)
	w.ok("secrets/createSecret", `{"path":"/a/b"}`)
	known := map[string]bool{}
	for _, word := range wordlist.Words() {
		known[word] = true
	}
	for fields, want := range map[string]struct {
		words     int
		separator string
		capital   bool
	}{
		`"separator":"."`:                              {6, ".", false},
		`"words":4,"separator":" "`:                    {4, " ", false},
		`"words":64,"separator":"_","capitalize":true`: {64, "_", true},
	} {
		got := w.generate(`{"path":"/a/b","kind":"passphrase","reveal":true,` + fields + `}`)
		words := strings.Split(string(got.Value.Expose()), want.separator)
		require.Len(t, words, want.words)
		for _, word := range words {
			require.Equal(t, want.capital, word != strings.ToLower(word), word)
			require.True(t, known[strings.ToLower(word)], word)
		}
		require.Equal(t, math.Floor(10*float64(want.words)*math.Log2(7776))/10, got.EntropyBits)
	}
	require.GreaterOrEqual(t, strings.Count(string(w.generate(`{"path":"/a/b","kind":"passphrase","reveal":true}`).Value.Expose()), "-"), 5)
}

func TestGenerateRefusesWhatAKindDoesNotTake(t *testing.T) {
	w := newWorld(t)
	w.ok("secrets/createSecret", `{"path":"/a/b"}`)
	for body, says := range map[string]string{
		`"kind":"passphrase","words":3`:        "words: must be 4 to 64",
		`"kind":"passphrase","words":65`:       "words:",
		`"kind":"passphrase","separator":"--"`: "separator:",
		`"kind":"passphrase","separator":"a"`:  "separator:",
		`"kind":"passphrase","separator":"7"`:  "separator:",
		`"kind":"passphrase","separator":"\n"`: "separator:",
		`"kind":"passphrase","separator":"é"`:  "separator:",
		`"kind":"passphrase","length":30`:      "length: is not for the kind passphrase",
		`"kind":"password","words":6`:          "words:",
		`"kind":"uuid","capitalize":true`:      "capitalize:",
		`"kind":"hex","separator":"-"`:         "separator:",
		`"kind":"rsa","bits":1024`:             "bits: must be 2048, 3072 or 4096",
		`"kind":"rsa","bits":8192`:             "bits:",
		`"kind":"rsa","length":2048`:           "length:",
		`"kind":"rsa","curve":"p256"`:          "curve:",
		`"kind":"ec","curve":"p521"`:           "curve: must be p256 or p384",
		`"kind":"ec","curve":"P256"`:           "curve:",
		`"kind":"ec","bits":256`:               "bits:",
		`"kind":"ed25519","curve":"p256"`:      "curve:",
		`"kind":"ed25519","require":["lower"]`: "require:",
		`"kind":"bytes","bits":2048`:           "bits:",
	} {
		_, err := w.as(w.admin, "secrets/generateSecret", `{"path":"/a/b",`+body+`}`)
		w.refused(fault.InvalidRequest, says, err)
	}
}
