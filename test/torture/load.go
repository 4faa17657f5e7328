package torture

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
)

// slot is a place for one object, which is replaced when it is worn.
type slot struct {
	class   string
	number  int
	mu      sync.Mutex
	current *object
	made    int
}

// load is what all clients do together.
type load struct {
	lab     *Lab
	clients []*client
	slots   []*slot
	pace    time.Duration // mean time that a client waits between two operations
	stop    context.CancelFunc
	running sync.WaitGroup

	served atomic.Int64 // operations that were answered for good
	// lastCall is the call of the operation that was called last among those
	// that succeeded.
	lastCall atomic.Int64

	mu      sync.Mutex
	objects []*object // every one that is not checked yet
	strange []string  // answers that no fault excuses
}

// classes are the objects of a run. Many versions of few secrets and a few
// operations each on many: the checkers want both.
var classes = []string{"plain", "plain", "plain", "small", "small", "small", "small", "key", "key", "token", "token", "token"}

// startLoad makes the objects and starts the clients, which go on until halt.
func startLoad(t testing.TB, l *Lab, clients int, pace time.Duration, seed uint64) *load {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	d := &load{lab: l, pace: pace, stop: stop}
	begun := time.Now()
	for i := range clients {
		d.clients = append(d.clients, newClient(l, i, seed, begun))
	}
	first := d.clients[0]
	for _, request := range [][2]string{
		{"iam/createPrincipal", `{"name":"torture","kind":"service"}`},
		{"cluster/setAutopilot", `{"stabilization":"1s"}`},
	} {
		a, err := first.insist(l.token, request[0], request[1])
		require.NoError(t, err)
		require.Equal(t, "", a.code, "%s: %s", request[0], a.body)
	}
	for i, class := range classes {
		s := &slot{class: class, number: i}
		d.slots = append(d.slots, s)
		require.NoError(t, d.renew(first, s))
	}
	for _, c := range d.clients {
		d.running.Go(func() {
			for ctx.Err() == nil {
				d.step(ctx, c)
			}
		})
	}
	t.Cleanup(d.halt)
	return d
}

// halt ends the load; each client finishes the operation that it is at.
func (d *load) halt() {
	d.stop()
	d.running.Wait()
}

func (d *load) step(ctx context.Context, c *client) {
	s := d.slots[c.random.IntN(len(d.slots))]
	s.mu.Lock()
	o := s.current
	if o.worn() {
		o.retire()
		if err := d.renew(c, s); err != nil {
			d.complain("%v", err)
		}
		o = s.current
	}
	s.mu.Unlock()
	if o.begin() {
		d.perform(c, o)
	}
	select {
	case <-ctx.Done():
	case <-time.After(time.Duration(c.random.Int64N(int64(2 * d.pace)))):
	}
}

func (d *load) complain(format string, args ...any) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.strange = append(d.strange, fmt.Sprintf(format, args...))
}

// renew puts a new object into a slot, which the caller holds.
func (d *load) renew(c *client, s *slot) error {
	s.made++
	o := &object{class: s.class}
	made := op{Client: c.number, Kind: put, Version: 1, Call: c.now()}
	token := strings.ReplaceAll(uuid.NewString(), "-", "")
	var operation, body string
	switch s.class {
	case "key":
		operation, body = "kms/createKey", fmt.Sprintf(`{"clientToken":%q}`, token)
	case "token":
		// What reveals is answered once: without a clientToken each attempt
		// makes a token, and nobody has the others.
		operation, body = "iam/createToken", `{"principal":"torture","ttl":"24h"}`
	default:
		o.name = fmt.Sprintf("/torture/%s/s%d-%d", s.class, s.number, s.made)
		operation, body = "secrets/createSecret", fmt.Sprintf(`{"path":%q,"value":%q,"clientToken":%q}`, o.name, sealed(token), token)
		made.Token = token
	}
	a, err := c.insist(d.lab.token, operation, body)
	if err != nil {
		return err
	}
	var got struct {
		KeyID, Token, TokenID, VersionID string
		Version                          int
	}
	if err := json.Unmarshal(a.body, &got); err != nil || a.code != "" {
		return fmt.Errorf("%s: %s %w", operation, a.body, err)
	}
	switch s.class {
	case "key":
		o.name = got.KeyID
	case "token":
		o.name, o.value = got.TokenID, got.Token
	}
	made.Node, made.Return, made.RequestID = a.node, c.now(), a.requestID
	o.ops, o.top = append(o.ops, made), 1
	s.current = o
	d.mu.Lock()
	defer d.mu.Unlock()
	d.objects = append(d.objects, o)
	return nil
}

// mark begins every value, so that a value is told from what is none.
const mark = "torture:"

// sealed is the value of a put as it is sent.
func sealed(token string) string { return base64.StdEncoding.EncodeToString([]byte(mark + token)) }

// note counts an operation that was answered for good.
func (d *load) note(o op) {
	if o.Code == unknown || o.Kind == "" {
		return
	}
	d.served.Add(1)
	if !o.ok() {
		return
	}
	for {
		last := d.lastCall.Load()
		if o.Call <= last || d.lastCall.CompareAndSwap(last, o.Call) {
			return
		}
	}
}

// take hands over the objects that are not checked yet; with settled only those
// whose histories are whole.
func (d *load) take(settled bool) []*object {
	d.mu.Lock()
	defer d.mu.Unlock()
	var out, rest []*object
	for _, o := range d.objects {
		if !settled || o.settled() {
			out = append(out, o)
		} else {
			rest = append(rest, o)
		}
	}
	d.objects = rest
	return out
}
