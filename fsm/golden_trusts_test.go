package fsm_test

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/fsm"
)

const (
	trustSnapshotGolden = "testdata/snapshots/v1/trusts.snapshot"
	trustHashGolden     = "testdata/snapshots/v1/trusts.hash"
)

func issuerTrust() fsm.Trust {
	return fsm.Trust{
		Name: "ci", Kind: fsm.TrustJWT, Issuer: "https://issuer.example", JWKSURL: "https://issuer.example/keys", CAPEM: "pem",
		Audiences: []string{"strongroom"}, Algorithms: []string{"RS256", "ES256"}, Claims: map[string]string{"repository": "acme/*", "ref": "refs/heads/main"},
		Principal: "svc-ci", Groups: []string{"builders"}, GroupsClaim: "groups", GroupsPrefix: "ci-", AllowedGroups: []string{"ci-*"},
		TTL: 3_600_000, ClockSkew: 30_000, ClientID: "cli", Scopes: []string{"openid"}, Reason: "builds",
	}
}

func kubernetesTrust() fsm.Trust {
	return fsm.Trust{
		Name: "cluster", Kind: fsm.TrustKubernetes, TokenReviewURL: "https://k8s.example", TokenReviewer: fsm.ReviewerSelf, Audiences: []string{"strongroom"},
		ServiceAccounts: []string{"prod/*"}, PrincipalClaim: "sub", PrincipalPrefix: "k8s-", TTL: 3_600_000,
	}
}

func certificateTrust() fsm.Trust {
	return fsm.Trust{
		Name: "mesh", Kind: fsm.TrustCertificate, CAPEM: "pem", SANs: []string{"uri:spiffe://acme/pay"}, Principal: "svc-ci", RevokedSerials: []string{"0a"},
	}
}

func loginToken(id string, epoch uint64, expires int64) fsm.Token {
	k := token(id, "svc-ci", expires)
	k.Method, k.Groups, k.Trust, k.TrustEpoch = fsm.TrustJWT, []string{"ci-web", "builders"}, "ci", epoch
	return k
}

// trustStory holds the kinds of trusts and of logins.
func trustStory() []fsm.Command {
	at := start
	meta := func() fsm.Meta {
		at += 1000
		return fsm.Meta{Time: at, Principal: "admin", RequestID: fmt.Sprintf("request-%d", at)}
	}
	narrower := issuerTrust()
	narrower.TTL = 600_000
	none := issuerTrust()
	none.Audiences = nil
	return []fsm.Command{
		genesis(start),
		fsm.CreatePrincipal{Meta: meta(), Principal: fsm.Principal{Name: "svc-ci", Kind: "service"}},
		fsm.PutTrust{Meta: meta(), Trust: issuerTrust()}, // index 3
		fsm.PutTrust{Meta: meta(), Trust: kubernetesTrust()},
		fsm.PutTrust{Meta: meta(), Trust: certificateTrust()},
		fsm.Login{Meta: meta(), Token: loginToken("t1", 3, start+3_600_000)},
		fsm.PutTrust{Meta: meta(), Trust: narrower},                          // the same epoch
		fsm.PutTrust{Meta: meta(), Trust: none},                              // refused
		fsm.Login{Meta: meta(), Token: loginToken("t2", 9, start+3_600_000)}, // refused
		fsm.DeleteTrust{Meta: meta(), Name: "mesh"},
		fsm.DeleteTrust{Meta: meta(), Name: "mesh"}, // refused
	}
}

func tellTrusts(t tester) *world {
	w := emptyWorld(t)
	for _, c := range trustStory() {
		w.do(c)
	}
	return w
}

func TestGoldenTrustSnapshot(t *testing.T) {
	w := tellTrusts(t)
	old := golden(t, trustSnapshotGolden, snapshot(t, w.m))
	m := fsm.New()
	require.NoError(t, m.Restore(bytes.NewReader(old)))
	require.Equal(t, fsm.Dump(w.m.State()), fsm.Dump(m.State()))
	state := m.State()
	ci := state.Trust("ci")
	require.EqualValues(t, 2, ci.Revision)
	require.EqualValues(t, 3, ci.Epoch)
	require.Equal(t, map[string]string{"repository": "acme/*", "ref": "refs/heads/main"}, ci.Claims)
	require.Nil(t, state.Trust("mesh"))
	require.True(t, state.Stands(state.Token("t1")))
	require.Equal(t, []string{"builders", "ci-web"}, state.Token("t1").Groups)
	require.Nil(t, state.Token("t2"))
}

func TestOldTrustLogsAreDecidedAlike(t *testing.T) {
	hash := tellTrusts(t).m.State().Hash()
	old := golden(t, trustHashGolden, []byte(hex.EncodeToString(hash[:])+"\n"))
	require.Equal(t, strings.TrimSpace(string(old)), hex.EncodeToString(hash[:]))
}
