package fsm_test

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/fsm"
)

func accessKey(id, principal string, expires int64) fsm.AccessKey {
	return fsm.AccessKey{
		ID: id, Principal: principal, Generation: 1, Description: "for " + principal, BoundCIDRs: []string{"10.0.0.0/8"}, ExpiresAt: expires,
	}
}

// credentialStory holds the life of access keys and the uses of credentials.
// It is a promise to logs like story: append to a new one for what is new.
func credentialStory() []fsm.Command {
	at := start
	meta := func() fsm.Meta {
		at += 1000
		return fsm.Meta{Time: at, Principal: "admin", RequestID: fmt.Sprintf("request-%d", at)}
	}
	use := func(id string, at int64) fsm.CredentialUse {
		return fsm.CredentialUse{ID: id, At: at, Source: "192.0.2.7"}
	}
	return []fsm.Command{
		genesis(start),
		fsm.CreatePrincipal{Meta: meta(), Principal: fsm.Principal{Name: "svc", Kind: "service"}},
		fsm.CreatePrincipal{Meta: meta(), Principal: fsm.Principal{Name: "leaver", Kind: "user"}},
		fsm.CreateAccessKey{Meta: meta(), Key: accessKey("SRAK1", "svc", start+40*day)},
		fsm.CreateAccessKey{Meta: meta(), Key: accessKey("SRAK1", "svc", start+40*day)}, // refused
		fsm.CreateAccessKey{Meta: meta(), Key: accessKey("SRAK2", "svc", start+41*day)},
		fsm.CreateAccessKey{Meta: meta(), Key: accessKey("SRAK3", "leaver", start+42*day)},
		fsm.CreateAccessKey{Meta: meta(), Key: accessKey("SRAK4", "nobody", start+42*day)}, // refused
		fsm.CreateAccessKey{Meta: meta(), Key: accessKey("SRAK5", "admin", start+day)},
		fsm.CreateToken{Meta: meta(), Token: token("t1", "svc", start+40*day)},
		fsm.CreateToken{Meta: meta(), Token: token("t2", "svc", start+40*day)},
		fsm.CreateToken{Meta: meta(), Token: token("t3", "leaver", start+40*day)},
		fsm.RecordCredentialUse{Meta: meta(), Uses: []fsm.CredentialUse{
			use("t1", start+5000), use("SRAK2", start+6000), use("SRAK1", start+7000), use("gone", start+7000), use("t2", start+90*day), use("t3", start+1),
		}},
		fsm.DeleteAccessKey{Meta: meta(), ID: "SRAK1"},
		fsm.DeleteAccessKey{Meta: meta(), ID: "SRAK1"}, // refused
		fsm.RevokeToken{Meta: meta(), TokenID: "t1"},
		fsm.RevokeTokens{Meta: meta(), Principal: "svc", AccessKeys: true},
		fsm.RevokeTokens{Meta: meta(), Principal: "nobody", AccessKeys: true}, // refused
		fsm.CreateAccessKey{Meta: meta(), Key: accessKey("SRAK6", "svc", start+100*day)},
		fsm.RecordCredentialUse{Meta: meta(), Uses: []fsm.CredentialUse{use("SRAK6", start+8000)}},
		fsm.DeletePrincipal{Meta: meta(), Name: "leaver"},
		fsm.Sweep{Meta: fsm.Meta{Time: start + 32*day}, Limit: 100}, // SRAK5 is forgotten
	}
}

func tellCredentials(t tester) *world {
	w := emptyWorld(t)
	for _, c := range credentialStory() {
		w.do(c)
	}
	return w
}

func TestGoldenCredentialSnapshot(t *testing.T) {
	w := tellCredentials(t)
	old := golden(t, credentialSnapshotGolden, snapshot(t, w.m))
	m := fsm.New()
	require.NoError(t, m.Restore(bytes.NewReader(old)))
	require.Equal(t, fsm.Dump(w.m.State()), fsm.Dump(m.State()))

	state := m.State()
	var ids []string
	for k := range state.AccessKeys("", "") {
		ids = append(ids, k.ID)
	}
	require.Equal(t, []string{"SRAK6"}, ids, "deleted, revoked, gone with its principal, long expired")
	require.Equal(t, "192.0.2.7", state.CredentialUse("SRAK6").Source)
	require.Equal(t, start+5000, state.CredentialUse("t1").At)
	require.Nil(t, state.CredentialUse("t3"), "goes with its token")
	require.Nil(t, state.CredentialUse("SRAK2"), "goes with its key")
	require.NotZero(t, state.Token("t2").RevokedAt)
}

func TestOldCredentialLogsAreDecidedAlike(t *testing.T) {
	hash := tellCredentials(t).m.State().Hash()
	old := golden(t, credentialHashGolden, []byte(hex.EncodeToString(hash[:])+"\n"))
	require.Equal(t, strings.TrimSpace(string(old)), hex.EncodeToString(hash[:]))
}

var someAccessKeys = []string{"SRAK1", "SRAK2", "SRAK3"}

// credential draws a command about access keys and uses.
func (p player) credential() fsm.Command {
	m, principal, id := p.w.meta(), pick(p, somePrincipals...), pick(p, someAccessKeys...)
	return pick(p,
		func() fsm.Command {
			return fsm.CreateAccessKey{Meta: m, Key: accessKey(id, principal, p.w.now+max(1000, p.delay()))}
		},
		func() fsm.Command { return fsm.DeleteAccessKey{Meta: m, ID: id} },
		func() fsm.Command {
			return fsm.RevokeTokens{Meta: m, Principal: principal, AccessKeys: pick(p, true, false)}
		},
		func() fsm.Command {
			return fsm.RecordCredentialUse{Meta: m, Uses: []fsm.CredentialUse{
				{ID: pick(p, slices.Concat(someAccessKeys, someTokens)...), At: p.w.now - pick(p, int64(0), 1000, -1000), Source: "::1"},
			}}
		},
	)()
}

// checkCredentials: a credential has its principal, and a use its credential.
func checkCredentials(t tester, s *fsm.State) {
	for k := range s.AccessKeys("", "") {
		require.NotNil(t, s.Principal(k.Principal), "an access key without its principal")
		owned := slices.Collect(s.AccessKeys(k.Principal, ""))
		require.Contains(t, owned, k)
		require.LessOrEqual(t, k.ExpiresAt-k.CreatedAt, 400*day)
	}
	for _, id := range slices.Concat(someAccessKeys, someTokens) {
		if u := s.CredentialUse(id); u != nil {
			require.True(t, s.Token(id) != nil || s.AccessKey(id) != nil, "a use without its credential")
			require.LessOrEqual(t, u.At, s.Time())
		}
	}
}
