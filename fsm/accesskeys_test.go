package fsm_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/fsm"
)

func TestAccessKeysThatCannotBeAreRefused(t *testing.T) {
	w := tellCredentials(t)
	many := make([]string, 257)
	for name, c := range map[string]struct {
		key  func(k *fsm.AccessKey)
		says string
	}{
		"no id":         {func(k *fsm.AccessKey) { k.ID = "" }, "accessKeyId"},
		"a token's id":  {func(k *fsm.AccessKey) { k.ID = "t1" }, "is the id of a token"},
		"nobody's":      {func(k *fsm.AccessKey) { k.Principal = "nobody" }, "there is no principal"},
		"no generation": {func(k *fsm.AccessKey) { k.Generation = 0 }, "generation"},
		"many networks": {func(k *fsm.AccessKey) { k.BoundCIDRs = many }, "boundCidrs"},
		"over already":  {func(k *fsm.AccessKey) { k.ExpiresAt = start }, "ttl"},
		"taken":         {func(k *fsm.AccessKey) { k.ID = "SRAK6" }, "is taken"},
	} {
		k := accessKey("SRAKNEW", "svc", start+90*day)
		c.key(&k)
		before := fsm.Dump(w.m.State())["accessKeys"]
		result := w.do(fsm.CreateAccessKey{Meta: w.meta(), Key: k})
		require.NotNil(t, result.Refused, name)
		require.Contains(t, result.Refused.Message, c.says, name)
		require.Equal(t, before, fsm.Dump(w.m.State())["accessKeys"])
	}
	for i := range 99 {
		require.Nil(t, w.do(fsm.CreateAccessKey{Meta: w.meta(), Key: accessKey(fmt.Sprintf("SRAKX%d", i), "svc", start+90*day)}).Refused)
	}
	refused := w.do(fsm.CreateAccessKey{Meta: w.meta(), Key: accessKey("SRAKY", "svc", start+90*day)}).Refused
	require.NotNil(t, refused)
	require.Contains(t, refused.Message, "has 100 access keys")
}

// TestUsesMerge: a batch that comes twice, or after a later one, ends alike.
func TestUsesMerge(t *testing.T) {
	w := tellCredentials(t)
	use := func(at int64, source string) int {
		return w.do(fsm.RecordCredentialUse{Meta: w.meta(), Uses: []fsm.CredentialUse{{ID: "SRAK6", At: at, Source: source}}}).Done
	}
	now := w.m.State().Time()
	require.Equal(t, 1, use(now-2, "192.0.2.9"))
	require.Equal(t, 0, use(now-2, "192.0.2.9"))
	require.Equal(t, 0, use(now-3, "192.0.2.8"))
	require.Equal(t, 0, use(now+1_000_000_000, "192.0.2.8"), "in the future")
	require.Equal(t, "192.0.2.9", w.m.State().CredentialUse("SRAK6").Source)
	before := w.m.State().AccessKey("SRAK6")
	require.Equal(t, 1, use(now, "::1"))
	require.Same(t, before, w.m.State().AccessKey("SRAK6"), "a use leaves the credential what it is")
}
