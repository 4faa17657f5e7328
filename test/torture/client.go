package torture

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"time"
)

// attemptTime is how long a client waits for one answer before it asks
// another node. It is longer than most pauses, so that requests are still
// there when a process that was stopped goes on.
const attemptTime = 5 * time.Second

// client is one of many who use the cluster at the same time, by plain HTTP:
// nothing is cached or mended on the way.
type client struct {
	number int
	lab    *Lab
	random *rand.Rand
	http   *http.Client
	nodes  []*node // that it may ask: the first members
	begun  time.Time
}

func newClient(l *Lab, number int, seed uint64, begun time.Time) *client {
	dialer := &net.Dialer{Timeout: 2 * time.Second, LocalAddr: &net.TCPAddr{IP: net.ParseIP(clientAddress(number))}}
	return &client{
		number: number, lab: l, random: rand.New(rand.NewPCG(seed, uint64(1000+number))), begun: begun, nodes: l.nodes[:members],
		http: &http.Client{Timeout: attemptTime, Transport: &http.Transport{
			TLSClientConfig: &tls.Config{RootCAs: l.roots}, DialContext: dialer.DialContext, MaxIdleConnsPerHost: 2,
		}},
	}
}

// now is a moment of the history: nanoseconds since its beginning, by the
// monotonic clock of the one process that all clients are in.
func (c *client) now() int64 { return int64(time.Since(c.begun)) }

// answer is what a client was told.
type answer struct {
	node      int
	status    int
	code      string // empty: it succeeded
	body      []byte
	requestID string
}

// again are the codes that ask a client to come again.
var again = map[string]bool{"NoLeader": true, "Uncertain": true, "HsmUnavailable": true, "AuditUnavailable": true, "RateLimited": true}

// ask sends one request to one node. The error says that there was no answer.
func (c *client) ask(n *node, token, operation, body string) (answer, error) {
	req, err := http.NewRequestWithContext(context.Background(), http.MethodPost, n.url()+"/api/v1/"+operation, strings.NewReader(body))
	if err != nil {
		return answer{}, err
	}
	req.Header.Set("Authorization", "Bearer "+token)
	resp, err := c.http.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		return answer{}, err
	}
	a := answer{node: n.number, status: resp.StatusCode, body: raw, requestID: resp.Header.Get("Strongroom-Request-Id")}
	if resp.StatusCode != http.StatusOK {
		var failed struct{ Error struct{ Code string } }
		if err := json.Unmarshal(raw, &failed); err != nil || failed.Error.Code == "" {
			return answer{}, fmt.Errorf("status %d: %q", resp.StatusCode, raw)
		}
		a.code = failed.Error.Code
	}
	return a, nil
}

// persist sends the same bytes to nodes in turn until one gives an answer that
// is final, at most so many times; attempts says how often it was. Writes
// carry a clientToken, so all attempts are one write.
func (c *client) persist(token, operation, body string, most int) (a answer, attempts int, final bool) {
	first := c.random.IntN(len(c.nodes))
	for attempts < most {
		n := c.nodes[(first+attempts)%len(c.nodes)]
		attempts++
		a, err := c.ask(n, token, operation, body)
		if err == nil && !again[a.code] {
			return a, attempts, true
		}
		<-time.After(time.Duration(5+c.random.IntN(40)) * time.Millisecond)
	}
	return answer{}, attempts, false
}

// insist is persist that does not give up before the patience of the lab ends.
func (c *client) insist(token, operation, body string) (answer, error) {
	late := time.Now().Add(patience)
	for time.Now().Before(late) {
		if a, _, final := c.persist(token, operation, body, 20); final {
			return a, nil
		}
	}
	return answer{}, fmt.Errorf("no answer to %s within %v", operation, patience)
}
