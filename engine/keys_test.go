package engine_test

import (
	"encoding/base64"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/api/wire"
	"github.com/strongroom/strongroom/internal/fault"
)

func TestAKeyInUseCannotBeDisabled(t *testing.T) {
	w := newWorld(t)
	key := into[wire.KeyResponse](t, w.ok("kms/createKey", `{"alias":"alias/pay"}`))
	w.ok("secrets/createSecret", `{"path":"/app/prod/pay/db","kmsKeyId":"alias/pay","value":%q}`, b64("one"))
	w.ok("secrets/putSecretValue", `{"path":"/app/prod/pay/db","value":%q}`, b64("two"))

	for _, ref := range []string{key.KeyID, "alias/pay"} {
		_, err := w.as(w.admin, "kms/disableKey", fmt.Sprintf(`{"keyId":%q}`, ref))
		w.refused(fault.KeyInUse, "", err)
		var f *fault.Error
		require.ErrorAs(t, err, &f)
		require.Equal(t, map[string]any{"count": uint64(1), "paths": []string{"/app/prod/pay/db"}}, f.Details["boundSecrets"])
	}
	bound := into[wire.ListBoundSecretsResponse](t, w.ok("kms/listBoundSecrets", `{"keyId":"alias/pay"}`))
	require.Equal(t, []wire.BoundSecret{{Path: "/app/prod/pay/db", Versions: 2}}, bound.Secrets)

	// A principal that may disable keys but sees no secret learns the count only.
	token := w.principal("keys", `[{"effect":"allow","roles":["kms-admin-access"],"keys":["*"]}]`)
	_, err := w.as(token, "kms/disableKey", `{"keyId":"alias/pay"}`)
	var f *fault.Error
	require.ErrorAs(t, err, &f)
	require.Equal(t, map[string]any{"count": uint64(1), "paths": []string{}}, f.Details["boundSecrets"])

	w.ok("secrets/deleteSecret", `{"path":"/app/prod/pay/db"}`)
	_, err = w.as(w.admin, "kms/disableKey", `{"keyId":"alias/pay"}`)
	w.refused(fault.KeyInUse, "", err) // it can still be restored
	w.ok("secrets/deleteSecret", `{"path":"/app/prod/pay/db","force":true}`)
	disabled := into[wire.KeyResponse](t, w.ok("kms/disableKey", `{"keyId":"alias/pay"}`))
	require.Equal(t, "disabled", disabled.State)
	require.Zero(t, disabled.BoundSecrets)

	_, err = w.as(w.admin, "kms/encrypt", fmt.Sprintf(`{"keyId":"alias/pay","plaintext":%q}`, b64("x")))
	w.refused(fault.KeyNotActive, "disabled", err)
	_, err = w.as(w.admin, "secrets/createSecret", fmt.Sprintf(`{"path":"/app/prod/pay/new","kmsKeyId":"alias/pay","value":%q}`, b64("x")))
	w.refused(fault.KeyNotActive, "kmsKeyId", err)
	w.ok("kms/enableKey", `{"keyId":"alias/pay"}`)
	w.ok("kms/encrypt", `{"keyId":"alias/pay","plaintext":%q}`, b64("x"))
}

func TestCiphertextsOpenOnlyWholeAndInContext(t *testing.T) {
	w := newWorld(t)
	w.ok("kms/createKey", `{"alias":"alias/one"}`)
	w.ok("kms/createKey", `{"alias":"alias/two"}`)
	sealed := into[wire.EncryptResponse](t, w.ok("kms/encrypt", `{"keyId":"alias/one","plaintext":%q,"context":{"a":"1","b":"2"}}`, b64("hello")))
	blob := []byte(sealed.Ciphertext)
	open := func(blob []byte, more string) (string, error) {
		return w.as(w.admin, "kms/decrypt", fmt.Sprintf(`{"ciphertext":%q%s}`, base64.StdEncoding.EncodeToString(blob), more))
	}
	answer, err := open(blob, `,"context":{"b":"2","a":"1"},"keyId":"alias/one"`)
	require.NoError(t, err)
	require.Equal(t, "hello", string(into[wire.DecryptResponse](t, answer).Plaintext.Expose()))

	_, err = open(blob, `,"context":{"a":"1","b":"2"},"keyId":"alias/two"`)
	w.refused(fault.InvalidRequest, "keyId", err)
	_, wrong := open(blob, `,"context":{"a":"1"}`)
	w.refused(fault.InvalidRequest, "does not open", wrong)
	for i := range blob {
		altered := append([]byte(nil), blob...)
		altered[i] ^= 1
		_, err := open(altered, `,"context":{"a":"1","b":"2"}`)
		if i >= 20 && i < 36 {
			// Another key's id: the administrator may use all keys, and still
			// learns nothing but that it does not open.
			require.Equal(t, wrong.Error(), err.Error(), "byte %d", i)
			continue
		}
		require.Equal(t, wrong.Error(), err.Error(), "byte %d", i)
	}
	for n := range blob {
		_, err := open(blob[:n], `,"context":{"a":"1","b":"2"}`)
		require.Equal(t, fault.InvalidRequest, fault.KindOf(err), "cut at %d", n)
	}
	other := newWorld(t)
	_, err = other.as(other.admin, "kms/decrypt", fmt.Sprintf(`{"ciphertext":%q}`, base64.StdEncoding.EncodeToString(blob)))
	require.Equal(t, wrong.Error(), err.Error(), "another cluster's blob")
}

// TestDecryptDoesNotOpenDataKeys: the right to use a key, with a stolen copy
// of the store, must not read the secrets bound to it.
func TestDecryptDoesNotOpenDataKeys(t *testing.T) {
	w := newWorld(t)
	w.ok("secrets/createSecret", `{"path":"/a/b","value":%q}`, b64("v"))
	v := w.log.machine.State().Version("/a/b", 1)
	s := w.log.machine.State().Secret("/a/b")
	dataKey := append([]byte(nil), v.DataKey...)
	for _, kind := range []byte{2, 1} {
		dataKey[3] = kind
		_, err := w.as(w.admin, "kms/decrypt", fmt.Sprintf(`{"ciphertext":%q,"context":{"path":"/a/b","secretId":%q,"version":"1"}}`,
			base64.StdEncoding.EncodeToString(dataKey), s.ID))
		w.refused(fault.InvalidRequest, "does not open", err)
	}
}

func TestKeyOperationsRefuseBadInput(t *testing.T) {
	w := newWorld(t)
	big := base64.StdEncoding.EncodeToString(make([]byte, 4097))
	for _, c := range []struct {
		operation, body string
		kind            fault.Kind
		says            string
	}{
		{"kms/createKey", `{"alias":"pay"}`, fault.InvalidRequest, "alias"},
		{"kms/createKey", `{"alias":"alias/"}`, fault.InvalidRequest, "alias"},
		{"kms/createKey", `{"alias":"alias/default"}`, fault.AlreadyExists, "alias"},
		{"kms/createKey", `{"spec":"aes-128"}`, fault.InvalidRequest, "spec"},
		{"kms/createKey", `{"usage":"sign"}`, fault.InvalidRequest, "usage"},
		{"kms/describeKey", `{}`, fault.InvalidRequest, "keyId"},
		{"kms/describeKey", `{"keyId":"nonsense"}`, fault.InvalidRequest, "keyId"},
		{"kms/describeKey", `{"keyId":"alias/none"}`, fault.NotFound, "keyId"},
		{"kms/describeKey", `{"keyId":"00000000-0000-4000-8000-000000000000"}`, fault.NotFound, "keyId"},
		{"kms/encrypt", `{"keyId":"alias/default"}`, fault.InvalidRequest, "plaintext"},
		{"kms/encrypt", `{"keyId":"alias/default","plaintext":""}`, fault.InvalidRequest, "plaintext"},
		{"kms/encrypt", `{"keyId":"alias/default","plaintext":"` + big + `"}`, fault.TooLarge, "plaintext"},
		{"kms/decrypt", `{}`, fault.InvalidRequest, "ciphertext"},
		{"kms/decrypt", `{"ciphertext":"AAAA"}`, fault.InvalidRequest, "ciphertext"},
		{"kms/listKeys", `{"limit":0}`, fault.InvalidRequest, "limit"},
		{"kms/listKeys", `{"limit":1001}`, fault.InvalidRequest, "limit"},
		{"kms/listKeys", `{"cursor":"zzz"}`, fault.InvalidRequest, "cursor"},
		{"kms/listKeys", `{"consistency":{"minIndex":999999}}`, fault.Conflict, "minIndex"},
	} {
		_, err := w.as(w.admin, c.operation, c.body)
		w.refused(c.kind, c.says, err)
	}
}
