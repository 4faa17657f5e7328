package iam_test

import (
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/iam"
)

// behindGlass are rules under which readers of /a break glass, and those of
// usual do not.
func behindGlass(t *testing.T, usual *iam.Policy, access ...iam.AccessDocument) iam.Rules {
	grants := []iam.Grant{{Policy: compile(t, "emergency", allow(list("secrets:*"), "/a/**")), BreakGlass: session}}
	if usual != nil {
		grants = append(grants, iam.Grant{Policy: usual})
	}
	r := iam.Rules{Policies: iam.NewPolicySet(grants)}
	r.Access = written{access: access}.compile(t).Access
	return r
}

var (
	shutNow  = iam.AccessDocument{Name: "shut", Paths: list("/**"), Actions: list("*"), NotAfter: noon}
	openNow  = iam.AccessDocument{Name: "open", Paths: list("/**"), Actions: list("*"), NotAfter: noon.Add(time.Hour)}
	inside10 = iam.AccessDocument{Name: "net", Paths: list("/**"), Actions: list("*"), SourceCIDRs: list("10.0.0.0/8")}
)

func TestASessionOpensAWindowAndNothingElse(t *testing.T) {
	q := about("secrets:getSecretValue", "/a/b")
	r := behindGlass(t, nil, shutNow, inside10)
	d := iam.Decide(r, q)
	require.True(t, d.Allowed)
	require.Equal(t, session, d.BreakGlass)
	require.False(t, d.Timed, "no time has a say")
	require.Equal(t, iam.Step{
		Policy: "shut", Access: true, Effect: iam.Waived, Action: "*", Matched: "path /**", Unmet: "notAfter", BreakGlass: session,
	}, d.Chain[1])
	require.Equal(t, iam.Allow, d.Chain[2].Effect)

	away := q
	away.Source = netip.MustParseAddr("192.0.2.1")
	d = iam.Decide(r, away)
	require.Equal(t, iam.ReasonSource, d.Reason)
	require.Empty(t, d.BreakGlass, "nothing came of it")

	denied := behindGlass(t, compile(t, "never", deny(list("secrets:getSecretValue"), "/a/b")), shutNow)
	require.Equal(t, iam.ReasonIAM, iam.Decide(denied, q).Reason)
	capped := behindGlass(t, nil, shutNow)
	capped.Boundaries = []*iam.PolicySet{iam.Set(compile(t, "cap", allow(list("secrets:getSecretValue"), "/b/**")))}
	require.Equal(t, iam.ReasonBoundary, iam.Decide(capped, q).Reason)
	require.Equal(t, iam.ReasonIAM, iam.Decide(r, about("secrets:getSecretValue", "/b")).Reason)
}

// A right that somebody has anyhow needs the session only while the window is
// shut, and only for what the session is about.
func TestASessionIsNeededWhereTheWindowIsShut(t *testing.T) {
	usual := compile(t, "usual", allow(list("secrets:*"), "/**"))
	d := iam.Decide(behindGlass(t, usual, shutNow), about("secrets:getSecretValue", "/a/b"))
	require.True(t, d.Allowed)
	require.Equal(t, session, d.BreakGlass)
	d = iam.Decide(behindGlass(t, usual, openNow), about("secrets:getSecretValue", "/a/b"))
	require.True(t, d.Allowed)
	require.Empty(t, d.BreakGlass)
	require.Equal(t, session, d.Covered, "if the clock is right")
	require.Empty(t, iam.Decide(behindGlass(t, usual), about("secrets:getSecretValue", "/a/b")).Covered, "no time has a say")
	d = iam.Decide(behindGlass(t, usual, shutNow), about("secrets:getSecretValue", "/b"))
	require.Equal(t, iam.ReasonWindow, d.Reason)
	require.True(t, d.Timed)
}

// Who waits because of a session waits past windows.
func TestAWaivedWindowEndsNoWait(t *testing.T) {
	usual := compile(t, "usual", allow(list("secrets:*"), "/**"))
	r := behindGlass(t, usual, openNow)
	require.Zero(t, r.ClosesAt(about("secrets:describeSecret", "/a/b")))
	require.Equal(t, noon.Add(time.Hour), r.ClosesAt(about("secrets:describeSecret", "/b")))
	q := about("secrets:describeSecret", "")
	q.Resource = iam.Resource{Below: "/a/"}
	require.Zero(t, r.ClosesAt(q))
	q.Resource.Below = "/"
	require.Equal(t, noon.Add(time.Hour), r.ClosesAt(q))
}

func TestWhatAllowsByASessionSaysSo(t *testing.T) {
	usual := compile(t, "usual", allow(list("secrets:describeSecret"), "/b"))
	r := behindGlass(t, usual)
	require.Equal(t, session, iam.BreakGlassAnywhere(r, "secrets:getSecretValue"))
	require.Empty(t, iam.BreakGlassAnywhere(r, "secrets:describeSecret"))
	require.Empty(t, iam.BreakGlassAnywhere(r, "kms:encrypt"))
	d := iam.Decide(r, about("secrets:getSecretValue", "/a/b"))
	require.Equal(t, list(iam.ConditionBreakGlass), iam.ConditionsOf(r, d.Chain[0]))
	d = iam.Decide(r, about("secrets:describeSecret", "/b"))
	require.Empty(t, iam.ConditionsOf(r, d.Chain[0]))
	require.Equal(t, list(iam.ConditionBreakGlass), iam.Reaches(r)[0].If)
}
