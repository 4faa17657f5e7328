package e2e_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/audit"
	"github.com/strongroom/strongroom/test/localcluster"
)

// answer is one that a client got, in the words that its event must have.
type answer struct{ ID, Event, Outcome, Code, Principal, Path string }

// question is a request and what is expected of it.
type question struct {
	token, operation, body           string
	event, principal, path, expected string // expected is the code, empty: it succeeds
}

// judge sends requests of many kinds and keeps a list of the answers, which no
// part of the server sees. The trails are held against that list.
type judge struct {
	c       *localcluster.Cluster
	asks    []question
	stop    context.CancelFunc
	running sync.WaitGroup

	mu      sync.Mutex
	answers []answer
	again   int      // answers that say that the client may come again, and broken connections
	wrong   []string // what a client must never be told
}

// startJudge makes what is asked for below prefix and starts n clients.
func startJudge(t *testing.T, c *localcluster.Cluster, prefix string, n int, seed uint64) *judge {
	t.Helper()
	// The name of a principal is the last part of the prefix.
	reader := filepath.Base(prefix)
	token := c.Principal(reader, fmt.Sprintf(`[{"effect":"allow","roles":["secrets-value-access"],"paths":[%q]}]`, prefix+"/open/**"))
	open, closed, absent := prefix+"/open/s", prefix+"/closed/s", prefix+"/open/none"
	for _, path := range []string{open, closed} {
		c.OK(1, "secrets/createSecret", `{"path":%q,"value":"eA=="}`, path)
	}
	get := func(path string) string { return fmt.Sprintf(`{"path":%q}`, path) }
	ctx, stop := context.WithCancel(context.Background())
	j := &judge{c: c, stop: stop, asks: []question{
		{token, "secrets/getSecretValue", get(open), "secrets.get_value", reader, open, ""},
		{c.Token, "secrets/getSecretValue", get(closed), "secrets.get_value", "admin", closed, ""},
		{token, "secrets/getSecretValue", get(closed), "secrets.get_value", reader, closed, "AccessDenied"},
		{c.Token, "secrets/getSecretValue", get(absent), "secrets.get_value", "admin", absent, "NotFound"},
		{c.Token, "secrets/putSecretValue", fmt.Sprintf(`{"path":%q,"value":"eA=="}`, closed), "secrets.put_value", "admin", closed, ""},
		{token, "secrets/putSecretValue", fmt.Sprintf(`{"path":%q,"value":"eA=="}`, closed), "secrets.put_value", reader, closed, "AccessDenied"},
		{c.Token, "kms/encrypt", `{"keyId":"alias/default","plaintext":"eA=="}`, "kms.encrypt", "admin", "", ""},
		{c.Token, "secrets/describeSecret", get(open), "secrets.describe", "admin", open, ""},
	}}
	t.Cleanup(j.halt)
	for i := range n {
		random := rand.New(rand.NewPCG(seed, uint64(i)))
		j.running.Go(func() {
			for ctx.Err() == nil {
				j.ask(j.asks[random.IntN(len(j.asks))], 1+random.IntN(c.Nodes))
			}
		})
	}
	return j
}

func (j *judge) ask(a question, node int) {
	r, err := j.c.Do(context.Background(), node, a.token, a.operation, a.body)
	if err != nil || r.Retryable() {
		// Nobody is to be told that nobody is there as fast as it can be said.
		<-time.After(5 * time.Millisecond)
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	switch {
	case err != nil || r.Retryable():
		j.again++
	case r.Code() != a.expected || r.RequestID() == "":
		j.wrong = append(j.wrong, fmt.Sprintf("node%d, %s: %d %s", node, a.operation, r.Status, r.Body))
	default:
		outcome := "ok"
		switch r.Code() {
		case "":
		case "AccessDenied":
			outcome = "denied"
		default:
			outcome = "failed"
		}
		j.answers = append(j.answers, answer{r.RequestID(), a.event, outcome, r.Code(), a.principal, a.path})
	}
}

func (j *judge) halt() {
	j.stop()
	j.running.Wait()
}

func (j *judge) count() int {
	j.mu.Lock()
	defer j.mu.Unlock()
	return len(j.answers)
}

func (j *judge) awaitMore(n int) {
	want := j.count() + n
	j.c.Await(fmt.Sprintf("%d more answers", n), func() bool { return j.count() >= want })
}

// written is what a line of a trail says, read without the server's decoder.
type written struct {
	Node, RequestID, Event, Outcome, Code, Principal, Path string
	Sequence                                               uint64
	KMS                                                    []struct {
		Event    string
		Sequence uint64
	}
}

// readTrail verifies a trail whole and adds its events to those of their request,
// and its starts to those of audit.EventOpen.
func readTrail(t *testing.T, dir string, into map[string][]written) {
	t.Helper()
	_, err := audit.Verify(dir)
	require.NoError(t, err, dir)
	names, err := filepath.Glob(filepath.Join(escaped(dir), "audit-*.jsonl"))
	require.NoError(t, err)
	require.NotEmpty(t, names, dir)
	for _, name := range names {
		f, err := os.Open(name)
		require.NoError(t, err)
		lines := bufio.NewScanner(f)
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			var e written
			require.NoError(t, json.Unmarshal(lines.Bytes(), &e))
			id := e.RequestID
			if e.Event == audit.EventOpen {
				id = audit.EventOpen // of a start, whatever its id
			}
			into[id] = append(into[id], e)
		}
		require.NoError(t, lines.Err())
		require.NoError(t, f.Close())
	}
}

// hold holds every answer against the trails: its event is there, once, with
// its name, outcome, principal and path; and whoever got a value has under the
// same id the use of the key that opened it, before it in the same trail.
//
// A leader may be killed between its event and its answer. The node that handed
// a read on then asks the next leader, which can be the same one, started
// again. So once means once for each process that served.
func (j *judge) hold(t *testing.T, trails map[string][]written) {
	t.Helper()
	require.Empty(t, j.wrong, "a client was told this")
	ids, kinds := map[string]bool{}, map[string]int{}
	for _, a := range j.answers {
		require.False(t, ids[a.ID], "a request id was given twice: %s", a.ID)
		ids[a.ID] = true
		kinds[a.Event+" "+a.Outcome]++
		own := map[string]written{} // by process
		for _, e := range trails[a.ID] {
			if e.Event != a.Event || (answer{e.RequestID, e.Event, e.Outcome, e.Code, e.Principal, e.Path}) != a {
				continue
			}
			process := fmt.Sprintf("%s, start %d", e.Node, startsBefore(trails, e))
			require.NotContains(t, own, process, "two events of one answer: %+v", a)
			own[process] = e
		}
		require.NotEmpty(t, own, "answered without its event: %+v; under its id there is %+v", a, trails[a.ID])
		if a.Event == "secrets.get_value" && a.Outcome == "ok" {
			for _, e := range own {
				requireOpened(t, e, trails[a.ID])
			}
		}
		if a.Outcome != "ok" {
			for _, e := range trails[a.ID] {
				require.NotEqual(t, "kms.decrypt", e.Event, "a key was used for who got nothing: %+v", a)
			}
		}
	}
	require.NotEmpty(t, trails[audit.EventOpen], "each start of a node is an event")
	require.Len(t, kinds, 7, "every kind of request must have been answered: %v", kinds)
	t.Logf("%d answers, each with its event, and %d that said to come again: %v", len(j.answers), j.again, kinds)
}

// startsBefore is how often a node had been started when it wrote an event.
func startsBefore(trails map[string][]written, e written) (n int) {
	for _, o := range trails[audit.EventOpen] {
		if o.Node == e.Node && o.Sequence < e.Sequence {
			n++
		}
	}
	return n
}

// requireOpened asserts that the event of a read points at the use of the key.
func requireOpened(t *testing.T, read written, story []written) {
	t.Helper()
	require.Len(t, read.KMS, 1, "%+v", read)
	require.True(t, slices.ContainsFunc(story, func(e written) bool {
		return e.Node == read.Node && e.Event == "kms.decrypt" && e.Outcome == "ok" && e.Principal == read.Principal &&
			e.Sequence == read.KMS[0].Sequence && e.Sequence < read.Sequence
	}), "a value without the use of its key: %+v among %+v", read, story)
}

// chains are the trails of a cluster that does not run.
func chains(t *testing.T, c *localcluster.Cluster) map[string][]written {
	t.Helper()
	out := map[string][]written{}
	for node := 1; node <= c.Nodes; node++ {
		readTrail(t, trailDir(c, node), out)
	}
	return out
}
