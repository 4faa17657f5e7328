package iam_test

import (
	"net"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/iam"
	"github.com/strongroom/strongroom/internal/fault"
	"github.com/strongroom/strongroom/internal/names"
)

// requirePlaced holds a refusal to its form: the caller's fault, with its
// place, and short whatever was sent.
func requirePlaced(t *testing.T, err error, places string) {
	t.Helper()
	require.True(t, fault.Is(err, fault.InvalidRequest))
	require.Regexp(t, `^InvalidRequest: (`+places+`): .`, err.Error())
	require.Less(t, len(err.Error()), 2048)
}

// between folds any number into instants of some centuries around ours.
func between(ms int64) time.Time { return time.UnixMilli(ms % 10_000_000_000_000) }

const windowPlaces = `timeWindows(\[0\]\.(days\[[0-9]+\]|from|to|timezone))?`

// FuzzTimeWindow: what is refused names its place; what is accepted is open
// when the clocks on the wall say so, and turns when it is said to turn and not
// before.
func FuzzTimeWindow(f *testing.F) {
	for i, s := range [][4]string{
		{"", "09:00", "17:30", "Europe/Madrid"}, {"mon\nfri", "22:00", "06:00", "America/New_York"}, {"sun", "00:00", "24:00", "UTC"},
		{"sat", "02:15", "02:45", "Australia/Lord_Howe"}, {"fri", "23:59:59", "00:00", "Pacific/Apia"}, {"", "00:00", "02:00", "America/Santiago"},
		{"Mon", "9:00", "24:01", "Local"}, {"mon\nmon", "24:00", "", "../../etc/passwd"}, {"", "02:30", "03:00", "Africa/Casablanca"},
	} {
		f.Add(s[0], s[1], s[2], s[3], instant(windowTimes[i%len(windowTimes)]).UnixMilli())
	}
	f.Add("", "09:00", "10:00", "Pacific/Apia", instant("2011-12-29T20:00:00Z").UnixMilli())
	f.Fuzz(func(t *testing.T, days, from, to, zone string, ms int64) {
		w := iam.TimeWindow{Days: lines(days), From: from, To: to, Timezone: zone}
		p, err := iam.CompileAccessPolicy(catalogue, iam.AccessDocument{Name: "w", Paths: list("/**"), Actions: list("*"), TimeWindows: []iam.TimeWindow{w}})
		if err != nil {
			require.Nil(t, p)
			requirePlaced(t, err, windowPlaces)
			return
		}
		at := between(ms)
		d := decideAt(p, at)
		require.Equal(t, onTheWall(w, at), d.Allowed, "%+v at %s", w, at)
		turn := d.OpensAt
		if d.Allowed {
			q := about("secrets:getSecretValue", "/a")
			q.At = at
			turn = iam.Rules{Access: iam.Accesses(p)}.ClosesAt(q)
		}
		end := turn
		if turn.IsZero() {
			require.True(t, d.Allowed, "every window opens again")
			end = at.Add(15 * 24 * time.Hour)
		} else {
			require.True(t, turn.After(at))
			require.Equal(t, !d.Allowed, onTheWall(w, turn), "%+v: from %s it is said to turn at %s", w, at, turn)
			require.Equal(t, d.Allowed, onTheWall(w, turn.Add(-time.Millisecond)), "%+v: from %s it turns before %s", w, at, turn)
		}
		for when, step := at, max(end.Sub(at)/97, time.Millisecond); when.Before(end); when = when.Add(step) {
			require.Equal(t, d.Allowed, onTheWall(w, when), "%+v: from %s it turns at %s, before %s", w, at, when, turn)
		}
	})
}

// contains is SourceAllowed by another library, with other types and without
// one form for one address.
func contains(cidrs []string, source netip.Addr) bool {
	return slices.ContainsFunc(cidrs, func(cidr string) bool {
		_, network, err := net.ParseCIDR(cidr)
		if err != nil {
			panic("a range was accepted that package net cannot read: " + err.Error())
		}
		// package net would have 10.1.2.3 inside ::/0 only by its mapped form,
		// and compares by the length of the range: an IPv4 address is in no
		// IPv6 range, as here.
		return source.IsValid() && source.Zone() == "" && network.Contains(net.IP(source.AsSlice()))
	})
}

// asked is a question of a fuzz target: any caller, from anywhere, about any
// path that there can be.
func asked(action, path, principal, groups, source string, ms int64) (iam.Question, bool) {
	parsed, err := names.ParsePath(path)
	if err != nil {
		return iam.Question{}, false
	}
	q := iam.Question{Principal: principal, Action: iam.Action(action), Resource: iam.Resource{Path: parsed}, At: between(ms), Groups: lines(groups)}
	q.Source, _ = netip.ParseAddr(source)
	return q, slices.Contains(everyAction(), q.Action) && strings.HasPrefix(action, "secrets:")
}

// FuzzAccessPolicy: a document is refused with its place, or restricts exactly
// what is written in it: whoever reads it by hand comes to the same answers.
func FuzzAccessPolicy(f *testing.F) {
	at := noon.UnixMilli()
	f.Add("office", "/app/**", "", "", "", "10.0.0.0/8\n2001:db8::/32", int64(0), int64(0), "secrets:getSecretValue", "/app/a", "web", "", "10.1.2.3", at)
	f.Add("mapped", "/**", "secrets:*", "web", "", "::ffff:10.0.0.0/104", int64(0), int64(0), "secrets:putSecretValue", "/a", "web", "", "::ffff:10.1.2.3", at)
	f.Add("dates", "/a*/b\n/c", "*", "", "ops\nnight", "", at, at+1000, "secrets:describeSecret", "/ax/b", "ann", "night", "", at+1000)
	f.Add("", "//", "kms:encrypt", "\x00", "a b", "10.0.0.1/8", int64(2), int64(1), "secrets:getSecretValue", "/a", "", "", "fe80::1%eth0", int64(0))
	f.Fuzz(func(t *testing.T, name, paths, actions, principals, groups, cidrs string, from, to int64, action, path, who, in, source string, ms int64) {
		d := iam.AccessDocument{Name: name, Paths: lines(paths), Actions: lines(actions), Principals: lines(principals), Groups: lines(groups), SourceCIDRs: lines(cidrs)}
		if from != 0 {
			d.NotBefore = between(from)
		}
		if to != 0 {
			d.NotAfter = between(to)
		}
		p, err := iam.CompileAccessPolicy(catalogue, d)
		if err != nil {
			require.Nil(t, p)
			requirePlaced(t, err, `name|notAfter|(paths|actions|principals|groups|sourceCidrs)(\[[0-9]+\])?`)
			return
		}
		q, sound := asked(action, path, who, in, source, ms)
		if !sound {
			return
		}
		decision := iam.Decide(iam.Rules{Policies: rules(policyOfAll).Policies, Access: iam.Accesses(p)}, q)
		requireConsistent(t, decision)
		require.Equal(t, !restrictedByHand(d, q), decision.Allowed, "%+v on %+v", d, q)
		if !decision.OpensAt.IsZero() {
			q.At = decision.OpensAt
			require.False(t, restrictedByHand(d, q))
		}
	})
}

// revealOrChange are the actions that a policy without any is about, as the
// manual has them.
var revealOrChange = strings.Fields("secrets:getSecretValue secrets:createSecret secrets:putSecretValue secrets:generateSecret secrets:labelVersion secrets:updateVersion " +
	"secrets:destroyVersion secrets:deleteSecret secrets:restoreSecret secrets:purgeSecret secrets:forceDestroyVersion secrets:bindKey secrets:rotateSecret")

// restrictedByHand is naiveForbids for any range and any action.
func restrictedByHand(d iam.AccessDocument, q iam.Question) bool {
	if len(d.Actions) == 0 && !slices.Contains(revealOrChange, string(q.Action)) {
		return false
	}
	cidrs := d.SourceCIDRs
	d.SourceCIDRs = nil
	if len(d.Actions) == 0 {
		d.Actions = list("*")
	}
	inTime := !naiveForbids(d, q)
	d.NotBefore, d.NotAfter = time.Time{}, time.Unix(-1<<40, 0) // past: is it about the question at all?
	about := naiveForbids(d, q)
	return about && (!inTime || len(cidrs) > 0 && !contains(cidrs, q.Source))
}

// FuzzConditions: a statement under conditions holds for exactly the questions
// that satisfy each kind of them, read by hand; a deny takes away exactly what
// the allow under the same words gives where all is known.
func FuzzConditions(f *testing.F) {
	at := noon.UnixMilli()
	f.Add("10.0.0.0/8", "oidc\ntoken", "ops", "tier", "pro*\n*", int64(0), int64(0), "10.1.2.3", "oidc", "ops\nx", "prod", true, at)
	f.Add("", "", "", "", "", at, at+1, "", "", "", "", false, at)
	f.Add("::/0", "password", "", "tier", "", int64(0), at, "2001:db8::1", "certificate", "", "", true, at)
	f.Add("::ffff:1.2.3.4/128", "accessKey", "a\nb", "t", "*a*b*", int64(0), int64(0), "1.2.3.4", "accessKey", "b", "xaxb", true, at)
	f.Fuzz(func(t *testing.T, cidrs, methods, groups, tag, patterns string, from, to int64, source, method, in, value string, tagged bool, ms int64) {
		if !utf8.ValidString(patterns + value) {
			return // neither the wire nor the state lets it through
		}
		c := &iam.Conditions{SourceCIDRs: lines(cidrs), AuthMethods: lines(methods), Groups: lines(groups)}
		if tag != "" {
			c.Tags = map[string][]string{tag: lines(patterns)}
		}
		if from != 0 {
			c.NotBefore = between(from)
		}
		if to != 0 {
			c.NotAfter = between(to)
		}
		s := allow(list("secrets:getSecretValue"), "/a")
		s.Conditions = c
		p, _, err := iam.CompilePolicy(catalogue, "p", 1, []iam.Statement{s})
		if err != nil {
			require.Nil(t, p)
			requirePlaced(t, err, `statements\[0\]\.conditions(\.(sourceCidrs|authMethods|groups|notAfter|tags)([.\[].*)?)?`)
			return
		}
		q, _ := asked("secrets:getSecretValue", "/a", "web", in, source, ms)
		q.AuthMethod = method
		if tagged {
			q.Resource.Tags = map[string]string{tag: value}
		}
		want := conditionsByHand(c, q, tag)
		require.Equal(t, want, allowed(rules(p), q), "%+v on %+v", c, q)
		s.Effect = iam.Deny
		denied := !allowed(rules(policyOfAll, compile(t, "no", s)), q)
		if q.Source.IsValid() && q.Source.Zone() == "" {
			require.Equal(t, want, denied, "%+v on %+v", c, q)
		} else if want {
			require.True(t, denied, "what cannot be known is decided against the caller")
		}
	})
}

func conditionsByHand(c *iam.Conditions, q iam.Question, tag string) bool {
	meets := func(given []string, fn func(string) bool) bool {
		return len(given) == 0 || slices.ContainsFunc(given, fn)
	}
	value, there := q.Resource.Tags[tag]
	return (len(c.SourceCIDRs) == 0 || contains(c.SourceCIDRs, q.Source)) &&
		meets(c.AuthMethods, func(m string) bool { return m == q.AuthMethod }) &&
		meets(c.Groups, func(g string) bool { return slices.Contains(q.Groups, g) }) &&
		meets(c.Tags[tag], func(p string) bool {
			return there && regexp.MustCompile(`(?s)^`+strings.ReplaceAll(regexp.QuoteMeta(p), `\*`, `.*`)+`$`).MatchString(value)
		}) &&
		(c.NotBefore.IsZero() || !q.At.Before(c.NotBefore)) && (c.NotAfter.IsZero() || q.At.Before(c.NotAfter))
}
