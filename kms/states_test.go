package kms_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/internal/fault"
	"github.com/strongroom/strongroom/internal/secret"
	"github.com/strongroom/strongroom/internal/wrapped"
	"github.com/strongroom/strongroom/kms"
)

// TestStatesAreCheckedBeforeTheHSMIsAsked: each use of a key, in each state.
// The HSM is away, so whatever gets that far says so.
func TestStatesAreCheckedBeforeTheHSMIsAsked(t *testing.T) {
	w := newWorld(t)
	aes, mac, sign, rsa := w.key("aes-256", "encrypt"), w.key("hmac-256", "mac"), w.key("ec-p256", "sign"), w.key("rsa-2048", "encrypt")
	other := w.key("aes-256", "encrypt")
	blob, rsaBlob := w.encrypt(aes, "x", nil), w.encrypt(rsa, "x", nil)
	value := w.seal(aes, someID, "x")
	digest := make([]byte, 32)
	ctx := t.Context()
	uses := map[string]struct {
		key  *fsm.Key
		kind fsm.KeyAction
		do   func(*fsm.Key) error
	}{
		"encrypt":         {aes, fsm.KeyProtect, func(k *fsm.Key) error { _, _, err := w.Encrypt(ctx, k, secret.Copy([]byte("x")), nil); return err }},
		"data key":        {aes, fsm.KeyProtect, func(k *fsm.Key) error { _, _, _, err := w.GenerateDataKey(ctx, k, 32, nil); return err }},
		"seal":            {aes, fsm.KeyProtect, func(k *fsm.Key) error { _, err := w.SealValue(ctx, k, someID, secret.Copy([]byte("x"))); return err }},
		"decrypt":         {aes, fsm.KeyOpen, func(k *fsm.Key) error { _, _, err := w.Decrypt(ctx, k, blob, nil); return err }},
		"open":            {aes, fsm.KeyOpen, func(k *fsm.Key) error { _, err := w.OpenValue(ctx, k, someID, value); return err }},
		"rewrap from":     {aes, fsm.KeyOpen, func(k *fsm.Key) error { _, _, err := w.Rewrap(ctx, k, other, someID, value.DataKey); return err }},
		"rewrap to":       {aes, fsm.KeyProtect, func(k *fsm.Key) error { _, _, err := w.Rewrap(ctx, other, k, someID, value.DataKey); return err }},
		"re-encrypt from": {aes, fsm.KeyOpen, func(k *fsm.Key) error { _, _, err := w.ReEncrypt(ctx, k, other, blob, nil, nil); return err }},
		"re-encrypt to":   {aes, fsm.KeyProtect, func(k *fsm.Key) error { _, _, err := w.ReEncrypt(ctx, other, k, blob, nil, nil); return err }},
		"RSA encrypt":     {rsa, fsm.KeyProtect, func(k *fsm.Key) error { _, _, err := w.Encrypt(ctx, k, secret.Copy([]byte("x")), nil); return err }},
		"RSA decrypt":     {rsa, fsm.KeyOpen, func(k *fsm.Key) error { _, _, err := w.Decrypt(ctx, k, rsaBlob, nil); return err }},
		"RSA raw": {rsa, fsm.KeyOpen, func(k *fsm.Key) error {
			_, _, err := w.DecryptRaw(ctx, k, 0, wrapped.RSAOAEPSHA1, make([]byte, 256))
			return err
		}},
		"MAC":        {mac, fsm.KeyProtect, func(k *fsm.Key) error { _, _, err := w.GenerateMAC(ctx, k, []byte("x")); return err }},
		"verify MAC": {mac, fsm.KeyOpen, func(k *fsm.Key) error { _, _, err := w.VerifyMAC(ctx, k, 0, []byte("x"), digest); return err }},
		"sign":       {sign, fsm.KeyProtect, func(k *fsm.Key) error { _, _, err := w.Sign(ctx, k, wrapped.ECDSASHA256, digest); return err }},
		"verify": {sign, fsm.KeyOpen, func(k *fsm.Key) error {
			_, _, err := w.Verify(ctx, k, 0, wrapped.ECDSASHA256, digest, digest)
			return err
		}},
		"public key": {sign, fsm.KeyOpen, func(k *fsm.Key) error { _, _, err := w.PublicKey(ctx, k, 0); return err }},
	}
	for name, use := range uses {
		for _, state := range append(fsm.KeyStates, "ofALaterBuild") {
			key := *use.key
			key.State = state
			w.token.Down.Store(true)
			err := use.do(&key)
			want := fsm.RuleFor(state, use.kind).Refused
			if want == "" {
				require.NotEqual(t, fault.KeyNotActive, fault.KindOf(err), "%s with a key that is %s: %v", name, state, err)
				require.NotEqual(t, fault.NotFound, fault.KindOf(err), "%s with a key that is %s: %v", name, state, err)
				continue
			}
			require.Equal(t, want, fault.KindOf(err), "%s with a key that is %s: %v", name, state, err)
		}
	}
}

func TestRefusalSaysTheStateAndTheWayOut(t *testing.T) {
	disabled := &fsm.Key{ID: "k1", State: fsm.KeyDisabled}
	var f *fault.Error
	require.ErrorAs(t, kms.CheckOpen(disabled), &f)
	require.Equal(t, "keyId: the key is disabled; enable it with enableKey", f.Message)
	require.Equal(t, map[string]any{"keyId": "k1", "state": "disabled"}, f.Details)
	require.ErrorAs(t, kms.CheckProtect(&fsm.Key{ID: "k1", State: fsm.KeyPendingDeletion}), &f)
	require.Equal(t, "keyId: the key is pendingDeletion; cancelKeyDeletion takes the deletion back", f.Message)
	require.ErrorAs(t, kms.CheckOpen(&fsm.Key{ID: "k1", State: fsm.KeyDestroyed}), &f)
	require.Equal(t, "keyId: the key was destroyed; describeKey tells its story", f.Message)
}

// The state comes first also before the ciphertext is looked at: a wrong one
// is not told apart under a key that may not be used.
func TestStateIsCheckedBeforeTheCiphertext(t *testing.T) {
	w := newWorld(t)
	key := w.aes(1)
	key.State = fsm.KeyDisabled
	_, _, err := w.Decrypt(t.Context(), key, []byte("no ciphertext"), nil)
	require.Equal(t, fault.KeyNotActive, fault.KindOf(err))
}
