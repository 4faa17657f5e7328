package engine_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/api/wire"
	"github.com/strongroom/strongroom/internal/fault"
)

func raw64(b []byte) string { return base64.StdEncoding.EncodeToString(b) }

// publicOf reads a public key as a client does.
func (w *world) publicOf(key string) any {
	w.t.Helper()
	text := into[wire.GetPublicKeyResponse](w.t, w.ok("kms/getPublicKey", `{"keyId":%q}`, key)).PublicKey
	block, rest := pem.Decode([]byte(text))
	require.NotNil(w.t, block)
	require.Empty(w.t, rest)
	public, err := x509.ParsePKIXPublicKey(block.Bytes)
	require.NoError(w.t, err)
	return public
}

// TestSignaturesVerifyWithGo: each algorithm of each spec, checked by an
// independent library, of a message and of its digest.
func TestSignaturesVerifyWithGo(t *testing.T) {
	w := newWorld(t)
	message := []byte("pay 10 to alice")
	sum256, sum384, sum512 := sha256.Sum256(message), sha512.Sum384(message), sha512.Sum512(message)
	digests := map[string][]byte{"sha256": sum256[:], "sha384": sum384[:], "sha512": sum512[:]}
	hashes := map[string]crypto.Hash{"sha256": crypto.SHA256, "sha384": crypto.SHA384, "sha512": crypto.SHA512}
	for spec, algorithms := range map[string][]string{
		"ec-p256": {"ecdsa-sha256"}, "ec-p384": {"ecdsa-sha384"},
		"rsa-2048": {"rsa-pss-sha256", "rsa-pss-sha384", "rsa-pss-sha512", "rsa-pkcs1-sha256", "rsa-pkcs1-sha384", "rsa-pkcs1-sha512"},
	} {
		key := "alias/" + spec
		made := into[wire.KeyResponse](t, w.ok("kms/createKey", `{"alias":%q,"spec":%q}`, key, spec))
		require.Equal(t, "sign", made.Usage)
		require.ElementsMatch(t, algorithms, made.Algorithms)
		public := w.publicOf(key)
		for _, algorithm := range algorithms {
			hash := algorithm[len(algorithm)-6:]
			for _, input := range []string{`"message":"` + raw64(message) + `"`, `"digest":"` + raw64(digests[hash]) + `"`} {
				signed := into[wire.SignResponse](t, w.ok("kms/sign", `{"keyId":%q,"algorithm":%q,%s}`, key, algorithm, input))
				switch public := public.(type) {
				case *ecdsa.PublicKey:
					require.True(t, ecdsa.VerifyASN1(public, digests[hash], signed.Signature), algorithm)
				case *rsa.PublicKey:
					if algorithm[:7] == "rsa-pss" {
						require.NoError(t, rsa.VerifyPSS(public, hashes[hash], digests[hash], signed.Signature, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash}), algorithm)
					} else {
						require.NoError(t, rsa.VerifyPKCS1v15(public, hashes[hash], digests[hash], signed.Signature), algorithm)
					}
				}
				verified := into[wire.VerifyResponse](t, w.ok("kms/verify", `{"keyId":%q,"algorithm":%q,%s,"signature":%q}`, key, algorithm, input, raw64(signed.Signature)))
				require.True(t, verified.Valid)
				require.EqualValues(t, 1, verified.KeyVersion)
				signed.Signature[len(signed.Signature)-1] ^= 1
				require.False(t, into[wire.VerifyResponse](t, w.ok("kms/verify", `{"keyId":%q,"algorithm":%q,%s,"signature":%q}`, key, algorithm, input, raw64(signed.Signature))).Valid)
			}
		}
	}
}

func TestASignatureOutlivesRotation(t *testing.T) {
	w := newWorld(t)
	w.ok("kms/createKey", `{"alias":"alias/s","spec":"ec-p256"}`)
	signed := into[wire.SignResponse](t, w.ok("kms/sign", `{"keyId":"alias/s","message":"aGk="}`))
	require.Equal(t, "ecdsa-sha256", signed.Algorithm)
	before := w.publicOf("alias/s")
	require.EqualValues(t, 2, into[wire.KeyResponse](t, w.ok("kms/rotateKey", `{"keyId":"alias/s"}`)).CurrentVersion)
	require.NotEqual(t, before, w.publicOf("alias/s"))
	ask := func(more string) wire.VerifyResponse {
		return into[wire.VerifyResponse](t, w.ok("kms/verify", `{"keyId":"alias/s","message":"aGk=","signature":%q%s}`, raw64(signed.Signature), more))
	}
	require.Equal(t, wire.VerifyResponse{Valid: true, KeyID: signed.KeyID, KeyVersion: 1}, ask(""))
	require.True(t, ask(`,"keyVersion":1`).Valid)
	require.False(t, ask(`,"keyVersion":2`).Valid)
	_, err := w.as(w.admin, "kms/verify", fmt.Sprintf(`{"keyId":"alias/s","message":"aGk=","signature":%q,"keyVersion":3}`, raw64(signed.Signature)))
	w.refused(fault.NotFound, "keyVersion", err)
}

func TestMACs(t *testing.T) {
	w := newWorld(t)
	w.ok("kms/createKey", `{"alias":"alias/m","spec":"hmac-256"}`)
	mac := into[wire.GenerateMACResponse](t, w.ok("kms/generateMac", `{"keyId":"alias/m","message":"aGk="}`))
	require.Len(t, mac.MAC, 32)
	w.ok("kms/rotateKey", `{"keyId":"alias/m"}`)
	check := func(message string, sum []byte) bool {
		return into[wire.VerifyResponse](t, w.ok("kms/verifyMac", `{"keyId":"alias/m","message":%q,"mac":%q}`, message, raw64(sum))).Valid
	}
	require.True(t, check("aGk=", mac.MAC))
	require.False(t, check("aGs=", mac.MAC))
	require.False(t, check("aGk=", mac.MAC[:16]), "a cut MAC is no MAC")
	again := into[wire.GenerateMACResponse](t, w.ok("kms/generateMac", `{"keyId":"alias/m","message":"aGk="}`))
	require.EqualValues(t, 2, again.KeyVersion)
	require.NotEqual(t, mac.MAC, again.MAC)
}

func TestRSAOpensWhatWasMadeOutsideAndInside(t *testing.T) {
	w := newWorld(t)
	w.ok("kms/createKey", `{"alias":"alias/r","spec":"rsa-2048","usage":"encrypt"}`)
	public := w.publicOf("alias/r").(*rsa.PublicKey)
	box, err := rsa.EncryptOAEP(sha1.New(), rand.Reader, public, []byte("from outside"), nil)
	require.NoError(t, err)
	open := func(body string) (string, error) {
		answer, err := w.as(w.admin, "kms/decrypt", body)
		if err != nil {
			return "", err
		}
		return string(into[wire.DecryptResponse](t, answer).Plaintext.Expose()), nil
	}
	got, err := open(fmt.Sprintf(`{"keyId":"alias/r","algorithm":"rsa-oaep-sha1","ciphertext":%q}`, raw64(box)))
	require.NoError(t, err)
	require.Equal(t, "from outside", got)
	_, err = open(fmt.Sprintf(`{"keyId":"alias/r","algorithm":"rsa-oaep-sha256","ciphertext":%q}`, raw64(box)))
	w.refused(fault.InvalidRequest, "algorithm: the HSM does rsa-oaep-sha1", err)
	other, err := rsa.EncryptOAEP(sha256.New(), rand.Reader, public, []byte("from outside"), nil)
	require.NoError(t, err)
	_, wrong := open(fmt.Sprintf(`{"keyId":"alias/r","algorithm":"rsa-oaep-sha1","ciphertext":%q}`, raw64(other)))
	w.refused(fault.InvalidRequest, "does not open", wrong)

	sealed := into[wire.EncryptResponse](t, w.ok("kms/encrypt", `{"keyId":"alias/r","plaintext":"aGk=","context":{"a":"1"}}`))
	got, err = open(fmt.Sprintf(`{"ciphertext":%q,"context":{"a":"1"}}`, raw64(sealed.Ciphertext)))
	require.NoError(t, err)
	require.Equal(t, "hi", got)
	_, err = open(fmt.Sprintf(`{"ciphertext":%q,"context":{"a":"2"}}`, raw64(sealed.Ciphertext)))
	require.Equal(t, wrong.Error(), err.Error(), "a wrong context is one more thing that does not open")
	for _, i := range []int{0, 3, 5, 20, 39, 40, 41, 42, 100, len(sealed.Ciphertext) - 1} {
		altered := append([]byte(nil), sealed.Ciphertext...)
		altered[i] ^= 1
		_, err = open(fmt.Sprintf(`{"ciphertext":%q,"context":{"a":"1"}}`, raw64(altered)))
		require.Equal(t, wrong.Error(), err.Error(), "byte %d", i)
	}
	_, err = w.as(w.admin, "kms/encrypt", fmt.Sprintf(`{"keyId":"alias/r","plaintext":%q}`, raw64(make([]byte, 200))))
	w.refused(fault.TooLarge, "plaintext", err)
}

func TestReEncryptMovesAndShowsNothing(t *testing.T) {
	w := newWorld(t)
	w.ok("kms/createKey", `{"alias":"alias/one"}`)
	w.ok("kms/createKey", `{"alias":"alias/two"}`)
	sealed := into[wire.EncryptResponse](t, w.ok("kms/encrypt", `{"keyId":"alias/one","plaintext":%q,"context":{"a":"1"}}`, b64("hello")))
	body := fmt.Sprintf(`{"ciphertext":%q,"context":{"a":"1"},"toKeyId":"alias/two","toContext":{"b":"2"}}`, raw64(sealed.Ciphertext))
	answer := w.ok("kms/reEncrypt", "%s", body)
	require.NotContains(t, answer, b64("hello"))
	moved := into[wire.EncryptResponse](t, answer)
	opened := into[wire.DecryptResponse](t, w.ok("kms/decrypt", `{"ciphertext":%q,"context":{"b":"2"},"keyId":"alias/two"}`, raw64(moved.Ciphertext)))
	require.Equal(t, "hello", string(opened.Plaintext.Expose()))

	// The right on one of the two keys is not enough.
	for _, key := range []string{"alias/one", "alias/two"} {
		token := w.principal("half-"+key[6:], fmt.Sprintf(`[{"effect":"allow","actions":["kms:reEncrypt"],"keys":[%q]}]`, key))
		_, err := w.as(token, "kms/reEncrypt", body)
		w.refused(fault.AccessDenied, "", err)
	}
	both := w.principal("both", `[{"effect":"allow","actions":["kms:reEncrypt"],"keys":["alias/one","alias/two"]}]`)
	_, err := w.as(both, "kms/reEncrypt", body)
	require.NoError(t, err)
}

func TestDataKeysOpenToWhatWasShown(t *testing.T) {
	w := newWorld(t)
	made := into[wire.GenerateDataKeyResponse](t, w.ok("kms/generateDataKey", `{"keyId":"alias/default","context":{"a":"1"}}`))
	require.Equal(t, 32, made.Plaintext.Len())
	opened := into[wire.DecryptResponse](t, w.ok("kms/decrypt", `{"ciphertext":%q,"context":{"a":"1"}}`, raw64(made.Ciphertext)))
	require.True(t, made.Plaintext.Equal(opened.Plaintext.Bytes))
	without := w.ok("kms/generateDataKeyWithoutPlaintext", `{"keyId":"alias/default","bytes":64}`)
	require.NotContains(t, without, "plaintext\":\"")
	sealed := into[wire.GenerateDataKeyResponse](t, without)
	opened = into[wire.DecryptResponse](t, w.ok("kms/decrypt", `{"ciphertext":%q}`, raw64(sealed.Ciphertext)))
	require.Equal(t, 64, opened.Plaintext.Len())

	a := into[wire.GenerateRandomResponse](t, w.ok("kms/generateRandom", `{}`)).Random
	b := into[wire.GenerateRandomResponse](t, w.ok("kms/generateRandom", `{"bytes":32}`)).Random
	require.Equal(t, 32, a.Len())
	require.False(t, a.Equal(b.Bytes))
}

func TestKeysDoOnlyWhatTheyAreFor(t *testing.T) {
	w := newWorld(t)
	for alias, spec := range map[string]string{"alias/aes": "aes-256", "alias/mac": "hmac-256", "alias/ec": "ec-p256"} {
		w.ok("kms/createKey", `{"alias":%q,"spec":%q}`, alias, spec)
	}
	w.ok("kms/createKey", `{"alias":"alias/rsa","spec":"rsa-2048","usage":"encrypt"}`)
	for _, c := range []struct {
		operation, body string
		says            string
	}{
		{"kms/sign", `{"keyId":"alias/aes","message":"aGk="}`, "for encrypt, not for sign"},
		{"kms/sign", `{"keyId":"alias/rsa","message":"aGk=","algorithm":"rsa-pss-sha256"}`, "for encrypt, not for sign"},
		{"kms/sign", `{"keyId":"alias/ec","message":"aGk=","algorithm":"ecdsa-sha384"}`, "algorithm: a key of spec ec-p256 signs by ecdsa-sha256"},
		{"kms/sign", `{"keyId":"alias/ec","message":"aGk=","algorithm":"sha256"}`, "algorithm"},
		{"kms/sign", `{"keyId":"alias/ec"}`, "message"},
		{"kms/sign", `{"keyId":"alias/ec","message":"aGk=","digest":"aGk="}`, "message"},
		{"kms/sign", `{"keyId":"alias/ec","digest":"aGk="}`, "digest: has 2 bytes; ecdsa-sha256 signs 32"},
		{"kms/verify", `{"keyId":"alias/ec","message":"aGk="}`, "signature"},
		{"kms/verify", `{"keyId":"alias/mac","message":"aGk=","signature":"aGk="}`, "for mac, not for sign"},
		{"kms/generateMac", `{"keyId":"alias/ec","message":"aGk="}`, "for sign, not for mac"},
		{"kms/generateMac", `{"keyId":"alias/mac"}`, "message"},
		{"kms/verifyMac", `{"keyId":"alias/mac","message":"aGk="}`, "mac"},
		{"kms/encrypt", `{"keyId":"alias/ec","plaintext":"aGk="}`, "for sign, not for encrypt"},
		{"kms/generateDataKey", `{"keyId":"alias/rsa"}`, "aes-256"},
		{"kms/generateDataKey", `{"keyId":"alias/aes","bytes":0}`, "bytes"},
		{"kms/generateDataKey", `{"keyId":"alias/aes","bytes":1025}`, "bytes"},
		{"kms/generateRandom", `{"bytes":4097}`, "bytes"},
		{"kms/getPublicKey", `{"keyId":"alias/aes"}`, "no public half"},
		{"kms/decrypt", `{"algorithm":"rsa-oaep-sha256","ciphertext":"aGk="}`, "keyId"},
		{"kms/decrypt", `{"algorithm":"rsa","keyId":"alias/rsa","ciphertext":"aGk="}`, "algorithm"},
		{"kms/decrypt", `{"algorithm":"rsa-oaep-sha256","keyId":"alias/rsa","ciphertext":"aGk=","context":{"a":"1"}}`, "context"},
		{"kms/decrypt", `{"algorithm":"rsa-oaep-sha256","keyId":"alias/aes","ciphertext":"aGk="}`, "needs rsa-2048"},
		{"kms/decrypt", `{"keyVersion":1,"ciphertext":"aGk="}`, "keyVersion"},
		{"kms/createKey", `{"spec":"ec-p256","usage":"encrypt"}`, "usage: a key of spec ec-p256 is for sign"},
		{"kms/createKey", `{"spec":"rsa-3072","usage":"import"}`, "usage"},
		{"kms/createKey", `{"spec":"ec-p521"}`, "spec: must be one of"},
		{"kms/createKey", `{"origin":"stolen"}`, "origin"},
		{"secrets/createSecret", `{"path":"/a/b","kmsKeyId":"alias/rsa","value":"aGk="}`, "aes-256"},
		{"secrets/createSecret", `{"path":"/a/b","kmsKeyId":"alias/ec"}`, "aes-256"},
	} {
		_, err := w.as(w.admin, c.operation, c.body)
		w.refused(fault.InvalidRequest, c.says, err)
	}
}

// TestAStoredPublicKeyIsTrustedOnlyFromTheHSM: whoever can write to the store
// must not be able to hand out a public key of his own.
func TestAStoredPublicKeyIsTrustedOnlyFromTheHSM(t *testing.T) {
	w := newWorld(t)
	for _, spec := range []string{"ec-p256", "rsa-2048"} {
		usage := map[string]string{"ec-p256": "sign", "rsa-2048": "encrypt"}[spec]
		mine := into[wire.KeyResponse](t, w.ok("kms/createKey", `{"spec":%q,"usage":%q}`, spec, usage))
		theirs := into[wire.KeyResponse](t, w.ok("kms/createKey", `{"spec":%q,"usage":%q}`, spec, usage))
		state := w.log.machine.State()
		state.Key(mine.KeyID).Versions[0].Wrapped.Public = state.Key(theirs.KeyID).Versions[0].Wrapped.Public
		for _, request := range []string{
			`kms/getPublicKey {"keyId":%q}`,
			map[string]string{"sign": `kms/verify {"keyId":%q,"message":"aGk=","signature":"aGk="}`, "encrypt": `kms/encrypt {"keyId":%q,"plaintext":"aGk="}`}[usage],
		} {
			var operation string
			_, err := fmt.Sscan(request, &operation)
			require.NoError(t, err)
			_, err = w.as(w.admin, operation, fmt.Sprintf(request[len(operation)+1:], mine.KeyID))
			require.Equal(t, fault.Internal, fault.KindOf(err), operation)
		}
	}
}
