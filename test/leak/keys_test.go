package leak_test

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1" // what SoftHSM has of OAEP; it does not rest on collisions
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/test/localcluster"
	"github.com/strongroom/strongroom/test/softtoken"
)

// keys makes keys of the name and has each of them do what it is for. The
// plaintexts and data keys that the answers reveal are marks from then on.
func (w *traffic) keys(alias string) {
	id := w.ok("kms/createKey", `{"alias":%q,"description":"leak"}`, alias)["keyId"].(string)
	sealed := w.ok("kms/encrypt", `{"keyId":%q,"plaintext":%q,"context":{"app":"leak"}}`, alias, w.value64())["ciphertext"].(string)
	w.ok("kms/decrypt", `{"ciphertext":%q,"context":{"app":"leak"}}`, sealed)
	w.ok("kms/reEncrypt", `{"ciphertext":%q,"context":{"app":"leak"},"toKeyId":"alias/default"}`, sealed)
	w.reveal("a data key", w.ok("kms/generateDataKey", `{"keyId":%q}`, alias)["plaintext"])
	w.reveal("random bytes", w.ok("kms/generateRandom", `{"bytes":32}`)["random"])
	w.ok("kms/generateDataKeyWithoutPlaintext", `{"keyId":%q}`, alias)
	w.ok("kms/describeKey", `{"keyId":%q}`, id)
	w.ok("kms/updateKey", `{"keyId":%q,"description":"leak, updated"}`, id)
	w.ok("kms/listKeys", `{}`)
	w.ok("kms/getKeyHealth", `{}`)
	w.ok("kms/rotateKey", `{"keyId":%q}`, id)
	w.ok("kms/setKeyRotation", `{"keyId":%q,"period":"90d"}`, id)
	w.ok("kms/listKeyVersions", `{"keyId":%q}`, id)
	w.ok("kms/listBoundSecrets", `{"keyId":"alias/default"}`)
	w.ok("kms/disableKey", `{"keyId":%q}`, id)
	w.refused("kms/encrypt", `{"keyId":%q,"plaintext":%q}`, id, w.value64())
	w.refused("kms/decrypt", `{"ciphertext":%q,"context":{"app":"leak"}}`, sealed)
	w.ok("kms/enableKey", `{"keyId":%q}`, id)

	w.ok("kms/createAlias", `{"alias":"%s-too","keyId":%q}`, alias, id)
	w.ok("kms/updateAlias", `{"alias":"%s-too","keyId":"alias/default"}`, alias)
	w.ok("kms/listAliases", `{}`)
	w.ok("kms/deleteAlias", `{"alias":"%s-too"}`, alias)
	w.ok("kms/scheduleKeyDeletion", `{"keyId":%q,"reason":"leak"}`, id)
	w.refused("kms/encrypt", `{"keyId":%q,"plaintext":%q}`, id, w.value64())
	w.ok("kms/cancelKeyDeletion", `{"keyId":%q}`, id)
	w.pairs(alias)
	w.imported(alias + "-imported")
}

// reveal takes what an answer is there to reveal for a mark.
func (w *traffic) reveal(name string, base64Text any) {
	w.t.Helper()
	raw, err := base64.StdEncoding.DecodeString(base64Text.(string))
	require.NoError(w.t, err)
	require.NotEmpty(w.t, raw)
	w.add(mark{name: name, text: string(raw)})
}

// pairs has keys sign and authenticate marked messages.
func (w *traffic) pairs(alias string) {
	w.ok("kms/createKey", `{"alias":"%s-sign","spec":"ec-p256","usage":"sign"}`, alias)
	message := w.value64()
	signature := w.ok("kms/sign", `{"keyId":"%s-sign","message":%q}`, alias, message)["signature"]
	w.ok("kms/verify", `{"keyId":"%s-sign","message":%q,"signature":%q}`, alias, message, signature)
	w.ok("kms/getPublicKey", `{"keyId":"%s-sign"}`, alias)
	w.ok("kms/createKey", `{"alias":"%s-mac","spec":"hmac-256"}`, alias)
	mac := w.ok("kms/generateMac", `{"keyId":"%s-mac","message":%q}`, alias, message)["mac"]
	w.ok("kms/verifyMac", `{"keyId":"%s-mac","message":%q,"mac":%q}`, alias, message, mac)
}

// imported brings marked material into the HSM.
func (w *traffic) imported(alias string) {
	w.ok("kms/createKey", `{"alias":%q,"origin":"imported"}`, alias)
	text := w.ok("kms/getImportParameters", `{"keyId":%q}`, alias)["publicKey"].(string)
	block, _ := pem.Decode([]byte(text))
	require.NotNil(w.t, block, text)
	public, err := x509.ParsePKIXPublicKey(block.Bytes)
	require.NoError(w.t, err)
	material, kek := []byte(w.value())[:32], make([]byte, 32)
	_, _ = rand.Read(kek)
	w.add(mark{name: "imported material", text: string(material)})
	head, err := rsa.EncryptOAEP(sha1.New(), rand.Reader, public.(*rsa.PublicKey), kek, nil)
	require.NoError(w.t, err)
	tail, err := softtoken.WrapPad(kek, material)
	require.NoError(w.t, err)
	body := fmt.Sprintf(`"keyId":%q,"algorithm":"rsa-oaep-sha1"`, alias)
	w.refused("kms/importKeyMaterial", `{%s,"material":%q}`, body, localcluster.B64(string(material)))
	w.ok("kms/importKeyMaterial", `{%s,"material":%q}`, body, localcluster.B64(string(head)+string(tail)))
}

// jobs moves secrets from key to key.
func (w *traffic) jobs(name string) {
	from, to := "alias/"+name+"-from", "alias/"+name+"-to"
	w.ok("kms/createKey", `{"alias":%q}`, from)
	w.ok("kms/createKey", `{"alias":%q}`, to)
	for i := range 3 {
		path := fmt.Sprintf("/app/leak/%s/%d", name, i)
		w.ok("secrets/createSecret", `{"path":%q,"kmsKeyId":%q,"value":%q}`, path, from, w.value64())
	}
	w.ok("secrets/bindKey", `{"path":"/app/leak/%s/0","kmsKeyId":%q}`, name, to)
	job := w.ok("kms/migrateBoundSecrets", `{"fromKeyId":%q,"toKeyId":%q,"ratePerSecond":1}`, from, to)["jobId"]
	w.ok("cluster/pauseJob", `{"jobId":%q}`, job)
	w.ok("cluster/listJobs", `{}`)
	w.ok("cluster/describeJob", `{"jobId":%q}`, job)
	w.ok("cluster/resumeJob", `{"jobId":%q}`, job)
	w.ok("cluster/cancelJob", `{"jobId":%q}`, job)
	w.ok("kms/retireKey", `{"keyId":%q,"toKeyId":%q}`, from, to)
}

// rotateRoot brings everything under a new root key and removes the old one.
// The HSM of every node has to be there.
func (w *traffic) rotateRoot() {
	started := w.ok("cluster/rotateRootKey", `{"ratePerSecond":10000}`)
	w.c.Await("root key rotated", func() bool {
		return w.ok("cluster/describeJob", `{"jobId":%q}`, started["jobId"])["state"] == "done"
	})
	w.ok("cluster/removeRootKey", `{"version":%d}`, int(started["version"].(float64))-1)
}
