package matrix_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"time"
)

// What is written, as it is sent.
type (
	window struct {
		Days     []string `json:"days,omitempty"`
		From     string   `json:"from"`
		To       string   `json:"to"`
		Timezone string   `json:"timezone"`
	}
	conditions struct {
		SourceCIDRs []string            `json:"sourceCidrs,omitempty"`
		TimeWindows []window            `json:"timeWindows,omitempty"`
		NotBefore   string              `json:"notBefore,omitempty"`
		NotAfter    string              `json:"notAfter,omitempty"`
		AuthMethods []string            `json:"authMethods,omitempty"`
		Groups      []string            `json:"groups,omitempty"`
		Tags        map[string][]string `json:"tags,omitempty"`
	}
	statement struct {
		Effect     string      `json:"effect"`
		Actions    []string    `json:"actions,omitempty"`
		Roles      []string    `json:"roles,omitempty"`
		Paths      []string    `json:"paths,omitempty"`
		Keys       []string    `json:"keys,omitempty"`
		Conditions *conditions `json:"conditions,omitempty"`
	}
	policy struct {
		Name       string      `json:"name"`
		Statements []statement `json:"statements"`
		ReportOnly bool        `json:"reportOnly,omitempty"`
	}
	accessPolicy struct {
		Name        string   `json:"name"`
		Paths       []string `json:"paths"`
		Actions     []string `json:"actions,omitempty"`
		Principals  []string `json:"principals,omitempty"`
		SourceCIDRs []string `json:"sourceCidrs,omitempty"`
		TimeWindows []window `json:"timeWindows,omitempty"`
		NotBefore   string   `json:"notBefore,omitempty"`
		NotAfter    string   `json:"notAfter,omitempty"`
	}
)

// rulebook is all that is written for one run.
type rulebook struct {
	now        time.Time
	policies   map[string]policy
	access     []accessPolicy
	attached   map[string][]string // principal, or "group NAME" → policies
	boundaries map[string][]string // principal → policies
	groups     map[string][]string // principal → groups
	tags       map[string]map[string]string
}

// question is one cell of the matrix.
type question struct {
	principal, action, path, key string
	aliases                      []string
	source                       netip.Addr
	at                           time.Time
}

// roles as docs/policies.md lists them, as far as the questions go.
var roles = map[string][]string{
	"secrets-read-access":    {"describeSecret", "listSecretVersions", "listConsumers"},
	"secrets-value-access":   {"getSecretValue"},
	"secrets-write-access":   {"putSecretValue", "labelVersion", "updateSecret"},
	"secrets-destroy-access": {"destroyVersion"},
	"secrets-full-access":    {"describeSecret", "listSecretVersions", "listConsumers", "getSecretValue", "putSecretValue", "labelVersion", "updateSecret", "destroyVersion"},
}

// guarded are the actions that an access policy is about when it names none.
var guarded = []string{"secrets:getSecretValue", "secrets:putSecretValue", "secrets:labelVersion", "secrets:destroyVersion"}

func (s statement) covers(action string) bool {
	service, name, _ := strings.Cut(action, ":")
	if slices.Contains(s.Actions, "*") || slices.Contains(s.Actions, service+":*") || slices.Contains(s.Actions, action) {
		return true
	}
	return slices.ContainsFunc(s.Roles, func(role string) bool {
		return role == "full-access" || service == "secrets" && slices.Contains(roles[role], name)
	})
}

func (s statement) reaches(q question) bool {
	switch service, _, _ := strings.Cut(q.action, ":"); {
	case len(s.Paths)+len(s.Keys) == 0:
		return true
	case service == "secrets":
		return pathMatches(s.Paths, q.path)
	case service == "kms":
		return slices.ContainsFunc(s.Keys, func(k string) bool { return k == "*" || k == q.key || slices.Contains(q.aliases, k) })
	}
	return false
}

func pathMatches(patterns []string, path string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool {
		rest := ""
		if body, ok := strings.CutSuffix(p, "/**"); ok {
			p, rest = body, "(/[^/]+)+"
		}
		return regexp.MustCompile("^" + strings.ReplaceAll(regexp.QuoteMeta(p), `\*`, "[^/]*") + rest + "$").MatchString(path)
	})
}

func inAny(cidrs []string, source netip.Addr) bool {
	return slices.ContainsFunc(cidrs, func(c string) bool { return netip.MustParsePrefix(c).Contains(source.Unmap()) })
}

// inWindow compares wall clocks: what a clock on the wall of the zone shows
// at the instant, on the day that it shows or the evening before.
func inWindow(w window, at time.Time) bool {
	zone, err := time.LoadLocation(w.Timezone)
	if err != nil {
		panic(err)
	}
	local := at.In(zone)
	clock := local.Format("15:04:05.000")
	on := func(day time.Weekday) bool {
		return len(w.Days) == 0 || slices.Contains(w.Days, strings.ToLower(day.String()[:3]))
	}
	today, yesterday := local.Weekday(), (local.Weekday()+6)%7
	if w.From < w.To { // 24:00 is after every clock
		return on(today) && clock >= w.From && clock < w.To
	}
	return on(today) && clock >= w.From || on(yesterday) && clock < w.To
}

func inTime(windows []window, notBefore, notAfter string, at time.Time) bool {
	if notBefore != "" && at.Before(instant(notBefore)) || notAfter != "" && !at.Before(instant(notAfter)) {
		return false
	}
	return len(windows) == 0 || slices.ContainsFunc(windows, func(w window) bool { return inWindow(w, at) })
}

func instant(text string) time.Time {
	at, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		panic(err)
	}
	return at
}

func (b *rulebook) holds(s statement, q question) bool {
	c := s.Conditions
	if c == nil {
		return true
	}
	if len(c.SourceCIDRs) > 0 && !inAny(c.SourceCIDRs, q.source) || !inTime(c.TimeWindows, c.NotBefore, c.NotAfter, q.at) {
		return false
	}
	if len(c.AuthMethods) > 0 && !slices.Contains(c.AuthMethods, "token") {
		return false
	}
	if len(c.Groups) > 0 && !slices.ContainsFunc(c.Groups, func(g string) bool { return slices.Contains(b.groups[q.principal], g) }) {
		return false
	}
	for name, values := range c.Tags {
		have, there := b.tags[q.path+q.key][name]
		if !there || !slices.ContainsFunc(values, func(v string) bool { return v == "*" || v == have }) {
			return false
		}
	}
	return true
}

// says is what one list of policies says.
func (b *rulebook) says(names []string, q question) (allowed, denied bool) {
	for _, name := range names {
		p := b.policies[name]
		if p.ReportOnly {
			continue
		}
		for _, s := range p.Statements {
			if s.covers(q.action) && s.reaches(q) && b.holds(s, q) {
				allowed = allowed || s.Effect == "allow"
				denied = denied || s.Effect == "deny"
			}
		}
	}
	return allowed, denied
}

// answer is "allow", or the reason of the denial.
func (b *rulebook) answer(q question) string {
	names := slices.Clone(b.attached[q.principal])
	for _, g := range append(slices.Clone(b.groups[q.principal]), "everyone") {
		names = append(names, b.attached["group "+g]...)
	}
	allowed, denied := b.says(names, q)
	if denied || !allowed {
		return "iam"
	}
	for _, name := range b.boundaries[q.principal] {
		if a, d := b.says([]string{name}, q); d || !a {
			return "boundary"
		}
	}
	reason := "allow"
	for _, p := range b.access {
		about := q.path != "" && pathMatches(p.Paths, q.path) && (len(p.Principals) == 0 || slices.Contains(p.Principals, q.principal))
		actions := p.Actions
		if len(actions) == 0 {
			actions = guarded
		}
		if !about || !(statement{Actions: actions}).covers(q.action) {
			continue
		}
		if len(p.SourceCIDRs) > 0 && !inAny(p.SourceCIDRs, q.source) {
			return "sourceAddress"
		}
		if !inTime(p.TimeWindows, p.NotBefore, p.NotAfter, q.at) {
			reason = "timeWindow"
		}
	}
	return reason
}

// The world of the matrix.
var (
	principals = []string{"ann", "bob", "cleo", "web", "batch", "ci", "audit", "idle"}
	paths      = []string{
		"/app/prod/web/db", "/app/prod/web/db-2", "/app/prod/web/key", "/app/prod/pay/db", "/app/dev/web/db", "/app/dev/pay/token",
		"/app/prod/webx/db", "/APP/prod/web/db", "/infra/dns", "/infra/dns/key", "/app/prod/web/absent", "/app/none/x/y",
	}
	absent   = []string{"/app/prod/web/absent", "/app/none/x/y"}
	patterns = []string{
		"/app/prod/web/*", "/app/prod/web/db-*", "/app/prod/web/db", "/app/prod/**", "/app/*/web/**", "/app/*/*/db", "/**", "/infra/*",
		"/infra/**", "/app/dev/**", "/app/prod/we*/db", "/APP/**", "/*/dns", "/app/none/**",
	}
	questions = []string{
		"secrets:getSecretValue", "secrets:getSecretValue", "secrets:describeSecret", "secrets:listSecretVersions", "secrets:listConsumers",
		"secrets:putSecretValue", "secrets:labelVersion", "secrets:updateSecret", "secrets:destroyVersion", "kms:encrypt", "kms:describeKey",
		"iam:listPolicies", "cluster:status",
	}
	zones = []string{"Europe/Madrid", "America/New_York", "Australia/Lord_Howe", "America/Santiago", "Asia/Kolkata", "UTC"}
	days  = []string{"mon", "tue", "wed", "thu", "fri", "sat", "sun"}
	// sources of real requests are addresses of this machine; all of 127/8 is.
	localSources = []string{"127.0.0.1", "127.0.0.2", "127.0.1.1", "127.1.0.1", "127.2.3.4"}
	otherSources = []string{"10.1.2.3", "192.0.2.77", "::ffff:10.1.2.3", "2001:db8::1", "2001:db9::1", "127.0.0.2", "::1"}
	cidrs        = []string{"127.0.0.0/8", "127.0.0.0/24", "127.0.0.2/32", "127.1.0.0/16", "10.0.0.0/8", "::/0", "2001:db8::/32", "0.0.0.0/0"}
)

type dice struct{ *rand.Rand }

func one[T any](d dice, of []T) T { return of[d.IntN(len(of))] }

func (d dice) some(of []string, most int) []string {
	var out []string
	for range 1 + d.IntN(most) {
		if s := one(d, of); !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	return out
}

func (d dice) chance(percent int) bool { return d.IntN(100) < percent }

func (d dice) window() window {
	w := window{Timezone: one(d, zones)}
	if d.chance(60) {
		w.Days = d.some(days, 5)
	}
	clock := func() string {
		return one(d, []string{"00:00", "01:30", "02:00", "02:30", "03:00", "09:00", "12:15", "17:30", "23:00", "23:59"})
	}
	for w.From == w.To {
		w.From, w.To = clock(), clock()
		if d.chance(15) {
			w.To = "24:00"
		}
	}
	return w
}

func (b *rulebook) bound(d dice) string {
	return b.now.Add(one(d, []time.Duration{-1000, -24, -3, 3, 24, 1000}) * time.Hour).UTC().Format(time.RFC3339)
}

func (b *rulebook) conditions(d dice, tagged bool) *conditions {
	c := &conditions{}
	switch n := d.IntN(7); {
	case n == 0:
		c.SourceCIDRs = d.some(cidrs, 3)
	case n == 1:
		c.TimeWindows = []window{d.window(), d.window()}
	case n == 2:
		c.NotBefore = b.bound(d)
	case n == 3:
		c.NotAfter = b.bound(d)
	case n == 4:
		c.AuthMethods = d.some([]string{"token", "oidc", "certificate"}, 2)
	case n == 5 || !tagged:
		c.Groups = d.some([]string{"ops", "pay", "night"}, 2)
	default:
		c.Tags = map[string][]string{one(d, []string{"tier", "team"}): d.some([]string{"1", "2", "pay", "*"}, 2)}
	}
	return c
}

func (b *rulebook) statement(d dice, effects ...string) statement {
	s := statement{Effect: one(d, effects)}
	switch n := d.IntN(10); {
	case n < 7:
		s.Paths = d.some(patterns, 3)
		if d.chance(50) {
			s.Roles = d.some([]string{"secrets-read-access", "secrets-value-access", "secrets-write-access", "secrets-destroy-access", "secrets-full-access"}, 2)
		} else {
			s.Actions = d.some([]string{"secrets:getSecretValue", "secrets:describeSecret", "secrets:listSecretVersions", "secrets:putSecretValue", "secrets:*"}, 3)
		}
	case n < 9:
		s.Keys, s.Actions = d.some([]string{"*", "alias/matrix-a", "alias/matrix-b"}, 2), d.some([]string{"kms:encrypt", "kms:describeKey", "kms:*"}, 2)
	default:
		s.Actions = d.some([]string{"iam:listPolicies", "iam:*", "cluster:status", "cluster:*"}, 2)
	}
	if d.chance(40) {
		s.Conditions = b.conditions(d, len(s.Paths)+len(s.Keys) > 0)
	}
	return s
}

// write makes a rulebook from a seed.
func write(seed uint64, now time.Time) *rulebook {
	d := dice{rand.New(rand.NewPCG(seed, 5))}
	b := &rulebook{
		now: now, policies: map[string]policy{}, attached: map[string][]string{}, boundaries: map[string][]string{}, groups: map[string][]string{},
		tags: map[string]map[string]string{},
	}
	for i := range 24 {
		p := policy{Name: fmt.Sprintf("matrix-%d", i), ReportOnly: i == 23}
		for range 1 + d.IntN(4) {
			p.Statements = append(p.Statements, b.statement(d, "allow", "allow", "allow", "allow", "allow", "deny"))
		}
		b.policies[p.Name] = p
	}
	b.policies["matrix-cap"] = policy{Name: "matrix-cap", Statements: []statement{
		{Effect: "allow", Roles: []string{"secrets-full-access"}, Paths: []string{"/app/*/web/**", "/infra/**"}},
		{Effect: "allow", Actions: []string{"kms:*"}, Keys: []string{"alias/matrix-a"}},
	}}
	for _, p := range principals[:len(principals)-1] { // the last one has nothing
		for range 1 + d.IntN(4) {
			b.attach(p, fmt.Sprintf("matrix-%d", d.IntN(24)))
		}
	}
	for _, g := range []string{"ops", "pay", "night"} {
		b.attach("group "+g, fmt.Sprintf("matrix-%d", d.IntN(24)))
		for _, p := range principals[:len(principals)-1] {
			if d.chance(35) {
				b.groups[p] = append(b.groups[p], g)
			}
		}
	}
	b.attach("group everyone", "matrix-everyone")
	b.policies["matrix-everyone"] = policy{Name: "matrix-everyone", Statements: []statement{
		{Effect: "deny", Actions: []string{"secrets:*"}, Paths: []string{"/app/prod/web/key"}, Conditions: &conditions{SourceCIDRs: []string{"127.2.0.0/16"}}},
		{Effect: "allow", Roles: []string{"secrets-read-access"}, Paths: []string{"/infra/dns"}},
	}}
	b.boundaries["web"], b.boundaries["bob"] = []string{"matrix-cap"}, []string{"matrix-cap"}
	for i := range 14 {
		b.access = append(b.access, b.accessPolicy(d, i))
	}
	for i, path := range paths {
		if !slices.Contains(absent, path) && i%2 == 0 {
			b.tags[path] = map[string]string{"tier": one(d, []string{"1", "2"}), "team": one(d, []string{"pay", "web"})}
		}
	}
	return b
}

func (b *rulebook) attach(holder, policy string) {
	if !slices.Contains(b.attached[holder], policy) {
		b.attached[holder] = append(b.attached[holder], policy)
	}
}

func (b *rulebook) accessPolicy(d dice, i int) accessPolicy {
	p := accessPolicy{Name: fmt.Sprintf("matrix-%d", i), Paths: d.some(patterns, 2)}
	if slices.Contains(p.Paths, "/**") && d.chance(70) {
		p.Paths = []string{"/app/dev/**"}
	}
	if d.chance(30) {
		p.Actions = d.some([]string{"secrets:getSecretValue", "secrets:describeSecret", "secrets:*"}, 2)
	}
	if d.chance(50) {
		p.Principals = d.some(principals, 4)
	}
	switch d.IntN(4) {
	case 0, 1:
		p.SourceCIDRs = d.some(cidrs[1:5], 2)
	case 2:
		p.TimeWindows = []window{d.window(), d.window(), d.window()}
	default:
		p.NotBefore = b.bound(d)
	}
	if d.chance(20) {
		p.NotBefore, p.NotAfter = "", b.bound(d)
	}
	return p
}

// ask draws a cell at a time. Most cells are denied because nothing allows
// them, and are all alike: of those it draws again, now and then.
func (b *rulebook) ask(d dice, sources []string, at func() time.Time) question {
	for {
		q := d.cell(sources)
		q.at = at()
		if b.answer(q) != "iam" || d.chance(15) {
			return q
		}
	}
}

func (d dice) cell(sources []string) question {
	q := question{principal: one(d, principals), action: one(d, questions), source: netip.MustParseAddr(one(d, sources))}
	switch service, _, _ := strings.Cut(q.action, ":"); service {
	case "secrets":
		q.path = one(d, paths)
	case "kms":
		q.aliases = []string{one(d, []string{"alias/matrix-a", "alias/matrix-b"})}
	}
	return q
}
