package matrix_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/test/localcluster"
)

// asked is how many cells of the matrix each test asks about.
const asked = 2000

// court is a cluster with a rulebook in force.
type court struct {
	*localcluster.Cluster
	t      *testing.T
	book   *rulebook
	tokens map[string]string
	from   map[string]*http.Client // by source address
	keys   map[string]string       // alias → id
}

func newCourt(t *testing.T) *court {
	c := &court{Cluster: suite.Fresh(t, 3), t: t, tokens: map[string]string{}, from: map[string]*http.Client{}, keys: map[string]string{}}
	c.book = write(20261126, time.Now())
	for _, source := range localSources {
		c.from[source] = c.clientAt(source)
	}
	for _, path := range paths {
		if !slices.Contains(absent, path) {
			tags, err := json.Marshal(c.book.tags[path])
			require.NoError(t, err)
			c.OK(1, "secrets/createSecret", `{"path":%q,"value":%q,"tags":%s}`, path, localcluster.B64("value"), strings.Replace(string(tags), "null", "{}", 1))
		}
	}
	for _, alias := range []string{"alias/matrix-a", "alias/matrix-b"} {
		c.keys[alias] = c.OK(2, "kms/createKey", `{"alias":%q}`, alias)["keyId"].(string)
	}
	c.enact()
	return c
}

// enact brings the rulebook into force.
func (c *court) enact() {
	for _, p := range c.book.policies {
		c.OK(3, "iam/putPolicy", "%s", c.text(p))
	}
	for _, p := range c.book.access {
		c.OK(1, "iam/putAccessPolicy", "%s", c.text(p))
	}
	for _, g := range []string{"ops", "pay", "night"} {
		c.OK(1, "iam/createGroup", `{"name":%q}`, g)
	}
	for _, name := range principals {
		c.OK(1, "iam/createPrincipal", `{"name":%q,"kind":"service"}`, name)
		c.tokens[name] = c.OK(2, "iam/createToken", `{"principal":%q}`, name)["token"].(string)
		for _, g := range c.book.groups[name] {
			c.OK(3, "iam/addToGroup", `{"group":%q,"principal":%q}`, g, name)
		}
		for _, p := range c.book.boundaries[name] {
			c.OK(1, "iam/attachPolicy", `{"policy":%q,"principal":%q,"mode":"boundary"}`, p, name)
		}
	}
	for holder, policies := range c.book.attached {
		for _, p := range policies {
			if group, ok := strings.CutPrefix(holder, "group "); ok {
				c.OK(1, "iam/attachPolicy", `{"policy":%q,"group":%q}`, p, group)
			} else {
				c.OK(1, "iam/attachPolicy", `{"policy":%q,"principal":%q}`, p, holder)
			}
		}
	}
}

func (c *court) text(v any) string {
	b, err := json.Marshal(v)
	require.NoError(c.t, err)
	return string(b)
}

// clientAt connects from an address of this machine: all of 127/8 is.
func (c *court) clientAt(source string) *http.Client {
	transport := c.Client().Transport.(*http.Transport).Clone()
	transport.DialContext = (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(source)}}).DialContext
	c.t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// send asks for the thing itself, from the address of the question, and
// answers "allow" or the reason of the denial.
func (c *court) send(node int, q question) string {
	operation, body := request(q)
	for {
		req, err := http.NewRequestWithContext(context.Background(), http.MethodPost, c.Addr(node)+"/api/v1/"+operation, strings.NewReader(body))
		require.NoError(c.t, err)
		req.Header.Set("Authorization", "Bearer "+c.tokens[q.principal])
		resp, err := c.from[q.source.String()].Do(req)
		require.NoError(c.t, err)
		answer, err := io.ReadAll(resp.Body)
		require.NoError(c.t, err)
		require.NoError(c.t, resp.Body.Close())
		r := localcluster.Response{Status: resp.StatusCode, Body: answer, Header: resp.Header}
		if r.Retryable() {
			continue
		}
		switch r.Code() {
		case "AccessDenied":
			var denied struct {
				Error struct {
					Details struct{ Reason string }
				}
			}
			require.NoError(c.t, json.Unmarshal(answer, &denied))
			return denied.Error.Details.Reason
		case "", "NotFound", "Conflict": // of the current version, which is not destroyed
			return "allow"
		default:
			require.Fail(c.t, "an unexpected answer", "%s %s: %s", operation, body, answer)
		}
	}
}

// request is the operation that wants the right, with as little effect as
// there can be.
func request(q question) (operation, body string) {
	service, name, _ := strings.Cut(q.action, ":")
	path := fmt.Sprintf(`"path":%q`, q.path)
	switch name {
	case "putSecretValue":
		body = path + fmt.Sprintf(`,"value":%q`, localcluster.B64("value")) // unchanged
	case "labelVersion":
		return "secrets/setVersionLabel", "{" + path + `,"version":1,"label":"blue"}`
	case "updateSecret":
		body = path + `,"description":"d"`
	case "destroyVersion":
		body = path + `,"version":1`
	case "encrypt":
		body = fmt.Sprintf(`"keyId":%q,"plaintext":"AAAA"`, q.aliases[0])
	case "describeKey":
		body = fmt.Sprintf(`"keyId":%q`, q.aliases[0])
	case "listPolicies", "status":
	default:
		body = path
	}
	return service + "/" + name, "{" + body + "}"
}

// explain asks what would be answered at the time of the question.
func (c *court) explain(node int, q question) string {
	ask := map[string]string{
		"principal": q.principal, "action": q.action, "sourceAddress": q.source.String(), "at": q.at.UTC().Format("2006-01-02T15:04:05.000Z07:00"),
	}
	if q.path != "" {
		ask["path"] = q.path
	}
	if len(q.aliases) > 0 {
		ask["keyId"] = q.aliases[0]
	}
	out := c.OK(node, "iam/explain", "%s", c.text(ask))
	if out["decision"] == "allow" {
		return "allow"
	}
	return out["reason"].(string)
}

// steady waits until no rule changes its answer soon, so that a question means
// the same on the way and here.
func (b *rulebook) steady(q question) bool {
	later := q
	later.at = q.at.Add(5 * time.Second)
	return b.answer(q) == b.answer(later)
}

// TestTheClusterAnswersAsItIsWritten asks for the things themselves, at the
// time that it is, from five addresses, through every node.
func TestTheClusterAnswersAsItIsWritten(t *testing.T) {
	c := newCourt(t)
	d := dice{rand.New(rand.NewPCG(1, 1))}
	seen, wrong := map[string]int{}, 0
	for i := range asked {
		q := c.book.ask(d, localSources, time.Now)
		for !c.book.steady(q) {
			q = c.book.ask(d, localSources, time.Now)
		}
		want, node := c.book.answer(q), 1+i%3
		got := c.send(node, q)
		if got != want {
			wrong++
			t.Errorf("node%d: %s: the answer is %s, and should be %s", node, describe(q), got, want)
		}
		seen[want]++
		require.Less(t, wrong, 5)
	}
	t.Logf("%d questions: %v", asked, seen)
	requireAll(t, seen)
}

// TestExplainAnswersAsItIsWritten asks about any time, also the edges of days
// and of daylight saving, and any address.
func TestExplainAnswersAsItIsWritten(t *testing.T) {
	c := newCourt(t)
	d := dice{rand.New(rand.NewPCG(2, 2))}
	times := edges()
	seen, wrong := map[string]int{}, 0
	for i := range asked {
		q := c.book.ask(d, slices.Concat(localSources, otherSources), func() time.Time {
			if d.chance(60) {
				return one(d, times)
			}
			return c.book.now.Add(time.Duration(d.Int64N(int64(400*24*time.Hour))) - 200*24*time.Hour).Truncate(time.Millisecond)
		})
		want, node := c.book.answer(q), 1+i%3
		got := c.explain(node, q)
		if got != want {
			wrong++
			t.Errorf("node%d: %s: the answer is %s, and should be %s", node, describe(q), got, want)
		}
		seen[want]++
		require.Less(t, wrong, 5)
	}
	t.Logf("%d questions: %v", asked, seen)
	requireAll(t, seen)
}

func requireAll(t *testing.T, seen map[string]int) {
	for _, answer := range []string{"allow", "iam", "boundary", "sourceAddress", "timeWindow"} {
		require.Greater(t, seen[answer], 10, answer)
	}
}

func describe(q question) string {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s %s %s%s from %s at %s", q.principal, q.action, q.path, strings.Join(q.aliases, ""), q.source, q.at.UTC().Format(time.RFC3339Nano))
	return b.String()
}

// edges are the instants around which wall clocks jump, days begin, and
// windows open and close.
func edges() []time.Time {
	var out []time.Time
	around := func(at time.Time) {
		for _, by := range []time.Duration{-time.Hour, -30 * time.Minute, -time.Millisecond, 0, time.Millisecond, 30 * time.Minute, time.Hour, 90 * time.Minute} {
			out = append(out, at.Add(by))
		}
	}
	for _, at := range []string{ // both changes of four zones, in UTC
		"2026-10-25T01:00:00Z", "2027-03-28T01:00:00Z", // Europe/Madrid
		"2026-11-01T06:00:00Z", "2027-03-14T07:00:00Z", // America/New_York
		"2026-10-03T15:30:00Z", "2027-04-03T15:00:00Z", // Australia/Lord_Howe, by half an hour
		"2026-09-06T04:00:00Z", "2027-04-04T03:00:00Z", // America/Santiago, at midnight
	} {
		around(instant(at))
	}
	for _, zone := range zones {
		location, err := time.LoadLocation(zone)
		if err != nil {
			panic(err)
		}
		for day := range 7 {
			for _, clock := range []time.Duration{0, 90 * time.Minute, 9 * time.Hour, 17*time.Hour + 30*time.Minute, 24*time.Hour - time.Millisecond} {
				at := time.Date(2026, 12, 7+day, 0, 0, 0, 0, location).Add(clock)
				out = append(out, at, at.Add(-time.Millisecond))
			}
		}
	}
	return out
}
