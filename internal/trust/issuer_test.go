package trust_test

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/internal/trust"
	"github.com/strongroom/strongroom/test/issuer"
)

func oidcTrust(i *issuer.Issuer) *fsm.Trust {
	return &fsm.Trust{
		Name: "staff", Epoch: 7, Kind: fsm.TrustOIDC, Issuer: i.URL, CAPEM: i.CAPEM, Audiences: []string{issuer.ClientID},
		Algorithms: []string{"RS256", "ES256"}, ClockSkew: 30_000,
	}
}

func TestARealProvidersTokenIsVerified(t *testing.T) {
	i := issuer.Start(t)
	v := trust.New(trust.Config{})
	require.NoError(t, v.Check(oidcTrust(i)))
	said, err := v.Verify(context.Background(), oidcTrust(i), []byte(i.IDToken()), time.Now())
	require.NoError(t, err)
	require.Equal(t, issuer.Person, said.Claims["sub"])
	require.Equal(t, i.URL, said.Claims["iss"])
	require.True(t, said.ExpiresAt.After(time.Now()))
	require.EqualValues(t, 1, i.Asked.Load())
	_, err = v.Verify(context.Background(), oidcTrust(i), []byte(i.IDToken()), time.Now())
	require.NoError(t, err)
	require.EqualValues(t, 1, i.Asked.Load(), "the keys are kept")
}

// TestAnIssuerThatRotatesIsFollowedAtOnce, and one who sends key ids that there
// are not makes the server ask no more often for it.
func TestAnIssuerThatRotatesIsFollowedAtOnce(t *testing.T) {
	i := issuer.Start(t)
	v := trust.New(trust.Config{})
	now := time.Now()
	ask := func(jwt string) error {
		_, err := v.Verify(context.Background(), oidcTrust(i), []byte(jwt), now)
		return err
	}
	old := i.IDToken()
	require.NoError(t, ask(old))
	i.Rotate()
	fresh := i.IDToken()
	for range 5 {
		require.EqualError(t, ask(fresh), "no key of the issuer has its key id and algorithm", "it was asked a moment ago")
	}
	require.EqualValues(t, 1, i.Asked.Load())
	now = now.Add(11 * time.Second)
	require.NoError(t, ask(fresh))
	require.EqualError(t, ask(old), "no key of the issuer has its key id and algorithm", "it was withdrawn")
	require.EqualValues(t, 2, i.Asked.Load())
}

// TestAnIssuerThatIsDownIsDoneWithoutForADay and not for longer.
func TestAnIssuerThatIsDownIsDoneWithoutForADay(t *testing.T) {
	i := issuer.Start(t)
	var logged bytes.Buffer
	v := trust.New(trust.Config{Logger: slog.New(slog.NewTextHandler(&logged, nil))})
	now := time.Now()
	jwt := i.IDToken()
	i.Down(true)
	_, err := v.Verify(context.Background(), oidcTrust(i), []byte(jwt), now)
	require.ErrorContains(t, err, "cannot be reached")
	require.Contains(t, logged.String(), "status 503")
	require.NotContains(t, logged.String(), jwt[:20])
	i.Down(false)
	now = now.Add(11 * time.Second)
	_, err = v.Verify(context.Background(), oidcTrust(i), []byte(jwt), now)
	require.NoError(t, err)
	i.Down(true)
	now = now.Add(20 * time.Minute) // the keys are old, and the JWT too
	_, err = v.Verify(context.Background(), oidcTrust(i), []byte(jwt), now.Add(-20*time.Minute))
	require.NoError(t, err)
	stale := oidcTrust(i)
	stale.Epoch++
	_, err = v.Verify(context.Background(), stale, []byte(jwt), now.Add(-20*time.Minute))
	require.ErrorContains(t, err, "cannot be reached", "keys of what the trust was before serve nobody")
}

func TestWhoIsAtAnotherURLIsNotTheIssuer(t *testing.T) {
	i, other := issuer.Start(t), issuer.Start(t)
	v := trust.New(trust.Config{})
	jwt := []byte(i.IDToken())
	for name, change := range map[string]func(k *fsm.Trust){
		"authority": func(k *fsm.Trust) { k.CAPEM = "" },
		"issuer":    func(k *fsm.Trust) { k.Issuer = other.URL },
		"slash":     func(k *fsm.Trust) { k.Issuer += "/" },
		"audience":  func(k *fsm.Trust) { k.Audiences = []string{"another"} },
		"algorithm": func(k *fsm.Trust) { k.Algorithms = []string{"ES256"} },
		"keys":      func(k *fsm.Trust) { k.JWKSURL = other.URL + "/keys" },
		"redirect":  func(k *fsm.Trust) { k.JWKSURL = strings.Replace(i.URL, "127.0.0.1", "localhost", 1) + "/nothing" },
	} {
		k := oidcTrust(i)
		k.Name = name
		change(k)
		_, err := v.Verify(context.Background(), k, jwt, time.Now())
		require.Error(t, err, name)
	}
}
