package e2e_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/test/localcluster"
	"github.com/strongroom/strongroom/test/softtoken"
)

// bringIn imports material as a person would who follows
// getImportParameters, by way of one node after the other.
func bringIn(t *testing.T, c *localcluster.Cluster, alias, spec string, material []byte, public string) {
	t.Helper()
	c.OK(1, "kms/createKey", `{"alias":%q,"spec":%q,"origin":"imported"}`, alias, spec)
	block, _ := pem.Decode([]byte(c.OK(2, "kms/getImportParameters", `{"keyId":%q}`, alias)["publicKey"].(string)))
	require.NotNil(t, block)
	key, err := x509.ParsePKIXPublicKey(block.Bytes)
	require.NoError(t, err)
	kek := make([]byte, 32)
	_, _ = rand.Read(kek)
	head, err := rsa.EncryptOAEP(sha1.New(), rand.Reader, key.(*rsa.PublicKey), kek, nil)
	require.NoError(t, err)
	tail, err := softtoken.WrapPad(kek, material)
	require.NoError(t, err)
	body, err := json.Marshal(map[string]string{
		"keyId": alias, "algorithm": "rsa-oaep-sha1", "publicKey": public, "material": base64.StdEncoding.EncodeToString(append(head, tail...)),
	})
	require.NoError(t, err)
	require.Equal(t, "active", c.OK(3, "kms/importKeyMaterial", "%s", body)["state"])
	r := c.Send(1, c.Token, "kms/importKeyMaterial", "%s", body)
	require.Equal(t, "Conflict", r.Code(), "an import key is used once: %s", r.Body)
}

func publicPEM(t *testing.T, public any) string {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(public)
	require.NoError(t, err)
	return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
}

// TestImportedKeysAreThoseThatWereBrought: what was made outside is used
// inside on every node, with the results that Go's own cryptography expects.
func TestImportedKeysAreThoseThatWereBrought(t *testing.T) {
	c := suite.Shared(t)
	bytesOf := func(answer map[string]any, field string) []byte {
		b, err := base64.StdEncoding.DecodeString(answer[field].(string))
		require.NoError(t, err)
		return b
	}
	digest := sha256.Sum256([]byte("a message"))

	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	der, err := x509.MarshalPKCS8PrivateKey(ec)
	require.NoError(t, err)
	bringIn(t, c, "alias/brought-ec", "ec-p256", der, publicPEM(t, &ec.PublicKey))
	for node := 1; node <= 3; node++ {
		signature := bytesOf(c.OK(node, "kms/sign", `{"keyId":"alias/brought-ec","message":%q}`, message), "signature")
		require.True(t, ecdsa.VerifyASN1(&ec.PublicKey, digest[:], signature))
	}

	pair, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	der, err = x509.MarshalPKCS8PrivateKey(pair)
	require.NoError(t, err)
	bringIn(t, c, "alias/brought-rsa", "rsa-2048", der, "")
	signature := bytesOf(c.OK(2, "kms/sign", `{"keyId":"alias/brought-rsa","algorithm":"rsa-pkcs1-sha256","message":%q}`, message), "signature")
	require.NoError(t, rsa.VerifyPKCS1v15(&pair.PublicKey, crypto.SHA256, digest[:], signature))
	require.Equal(t, publicPEM(t, &pair.PublicKey), c.OK(1, "kms/getPublicKey", `{"keyId":"alias/brought-rsa"}`)["publicKey"])

	secret := make([]byte, 32)
	_, _ = rand.Read(secret)
	bringIn(t, c, "alias/brought-mac", "hmac-256", secret, "")
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte("a message"))
	require.Equal(t, mac.Sum(nil), bytesOf(c.OK(3, "kms/generateMac", `{"keyId":"alias/brought-mac","message":%q}`, message), "mac"))
}
