package e2e_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/test/localcluster"
)

// withDurability starts a cluster of three whose trails answer so.
func withDurability(t *testing.T, durability string) *localcluster.Cluster {
	t.Helper()
	c := suite.Fresh(t, 3)
	c.Stop()
	for node := 1; node <= c.Nodes; node++ {
		name := filepath.Join(c.NodeDir(node), "config.yaml")
		raw, err := os.ReadFile(name)
		require.NoError(t, err)
		require.NotContains(t, string(raw), "audit:")
		require.NoError(t, os.WriteFile(name, append(raw, "\naudit:\n  durability: "+durability+"\n"...), 0o600))
	}
	c.Up()
	return c
}

func trailDir(c *localcluster.Cluster, node int) string {
	var found string
	_ = filepath.WalkDir(c.NodeDir(node), func(path string, _ os.DirEntry, _ error) error {
		if found == "" && filepath.Base(path) == "audit.lock" {
			found = filepath.Dir(path)
		}
		return nil
	})
	return found
}

// copiesOf are the folders of the copies that a node has of another's chains.
func copiesOf(c *localcluster.Cluster, holder, of int) []string {
	found, _ := filepath.Glob(filepath.Join(escaped(trailDir(c, holder)), "copies", localcluster.Name(of), "*"))
	return found
}

func escaped(path string) string {
	return strings.NewReplacer("[", "\\[", "*", "\\*", "?", "\\?").Replace(path)
}

// chainBytes are the files of a chain, one after the other.
func chainBytes(t *testing.T, dir string) string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(escaped(dir), "audit-*.jsonl"))
	require.NoError(t, err)
	slices.Sort(names)
	var out bytes.Buffer
	for _, name := range names {
		b, err := os.ReadFile(name)
		require.NoError(t, err)
		fmt.Fprintf(&out, "%s %d\n", filepath.Base(name), len(b))
		out.Write(b)
	}
	return out.String()
}

// awaitCopied waits until a node's chain is at another one as it is at home.
func awaitCopied(t *testing.T, c *localcluster.Cluster, holder, of int) {
	t.Helper()
	c.Await(fmt.Sprintf("the copy of %d at %d", of, holder), func() bool {
		home := chainBytes(t, trailDir(c, of))
		return slices.ContainsFunc(copiesOf(c, holder, of), func(dir string) bool { return chainBytes(t, dir) == home })
	})
}

// answered reads values until stop, and notes the ids of what was answered.
type answered struct {
	stop    context.CancelFunc
	running sync.WaitGroup
	mu      sync.Mutex
	ids     []string
	last    map[int]string // newest answer of each node that was no success
}

func startReaders(t *testing.T, c *localcluster.Cluster, nodes ...int) *answered {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	r := &answered{stop: stop, last: map[int]string{}}
	t.Cleanup(r.halt)
	for _, node := range nodes {
		for i := range 3 {
			r.running.Go(func() {
				for ctx.Err() == nil {
					got, err := c.Do(context.Background(), node, c.Token, "secrets/getSecretValue", fmt.Sprintf(`{"path":"/app/copies/s%d"}`, i))
					r.mu.Lock()
					if err == nil && got.Status == http.StatusOK {
						r.ids = append(r.ids, got.RequestID())
					} else {
						r.last[node] = fmt.Sprint(string(got.Body), err)
					}
					r.mu.Unlock()
				}
			})
		}
	}
	return r
}

func (r *answered) halt() {
	r.stop()
	r.running.Wait()
}

func (r *answered) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.ids)
}

func (r *answered) awaitMore(c *localcluster.Cluster, n int) {
	want := r.count() + n
	c.Await(fmt.Sprintf("%d more answers", n), func() bool { return r.count() >= want })
}

func makeSecrets(c *localcluster.Cluster) {
	for i := range 3 {
		c.OK(1, "secrets/createSecret", `{"path":"/app/copies/s%d","value":"eA=="}`, i)
	}
}

// Under quorum a node may burn down, disk and all: what it answered is with
// the others, event by event. It comes back under its name with another chain,
// and the old one is still asked.
func TestUnderQuorumABurntNodeLosesNoAnsweredEvent(t *testing.T) {
	c := withDurability(t, "quorum")
	makeSecrets(c)
	leader := c.Leader()
	others := c.Others(leader)
	r := startReaders(t, c, leader)
	r.awaitMore(c, 200)
	c.Kill(leader)
	r.halt()
	trail := trailDir(c, leader)
	require.NotEmpty(t, trail)
	require.NoError(t, os.RemoveAll(trail))
	var kept strings.Builder
	for _, node := range others {
		for _, dir := range append(copiesOf(c, node, leader), trailDir(c, node)) {
			kept.WriteString(chainBytes(t, dir))
		}
	}
	missing := 0
	for _, id := range r.ids {
		if !strings.Contains(kept.String(), id) {
			missing++
		}
	}
	require.Zero(t, missing, "of %d answers", len(r.ids))

	// All of it is found by a search, too, once each, through either node, also
	// while nobody can be asked for it.
	ids := sample(r.ids, 5)
	c.Await("another leader", func() bool { return c.Leader() != 0 && c.Leader() != leader })
	for _, node := range others {
		for _, id := range ids {
			found, copies, unreachable := searched(t, c, node, id)
			require.Equal(t, 1, found["secrets.get_value"], "%s through %d", id, node)
			require.Contains(t, copies, localcluster.Name(leader))
			require.Empty(t, unreachable)
		}
	}

	c.StartNode(leader)
	c.AwaitReady(leader)
	for _, node := range others {
		awaitCopied(t, c, node, leader)
		require.Len(t, copiesOf(c, node, leader), 2, "the old chain stays beside the new one")
	}
	c.Await("its own old chain to be back at it", func() bool { return len(copiesOf(c, leader, leader)) == 1 })
	for node := 1; node <= 3; node++ {
		found, _, _ := searched(t, c, node, ids[0])
		require.Equal(t, 1, found["secrets.get_value"])
	}
	c.Await("the event of the new chain", func() bool {
		return len(c.OK(others[0], "audit/queryEvents", `{"event":"audit.new_chain"}`)["events"].([]any)) == 1
	})
	run := c.CLI("", "audit", "chains")
	require.Zero(t, run.Code, run.Err)
	require.Equal(t, 2, strings.Count(run.Out, localcluster.Name(leader)+" "), run.Out)
}

func sample(all []string, n int) []string {
	var out []string
	for i := range n {
		out = append(out, all[i*(len(all)-1)/(n-1)])
	}
	return out
}

// searched answers how often which event of a request was found, and what
// answered for whom.
func searched(t *testing.T, c *localcluster.Cluster, node int, id string) (found map[string]int, copies, unreachable []string) {
	t.Helper()
	var got struct {
		Events      []event
		FromCopies  []struct{ Node string }
		Unreachable []string
	}
	c.Await("an answer", func() bool {
		r := c.Send(node, c.Token, "audit/queryEvents", `{"requestId":%q}`, id)
		return r.Status == http.StatusOK && json.Unmarshal(r.Body, &got) == nil
	})
	found = map[string]int{}
	for _, e := range got.Events {
		found[e.Event]++
	}
	for _, f := range got.FromCopies {
		copies = append(copies, f.Node)
	}
	return found, copies, got.Unreachable
}

// Without a majority that takes its events a node answers nothing, and says
// why. It goes on by itself.
func TestUnderQuorumNothingIsAnsweredWithoutAMajority(t *testing.T) {
	c := withDurability(t, "quorum")
	makeSecrets(c)
	leader := c.Leader()
	others := c.Others(leader)
	r := startReaders(t, c, leader)
	r.awaitMore(c, 20)
	c.Signal(others[0], syscall.SIGSTOP)
	r.awaitMore(c, 20)
	c.Signal(others[1], syscall.SIGSTOP)
	c.Await("a refusal", func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		return r.last[leader] != ""
	})
	before := r.count()
	c.Signal(others[0], syscall.SIGCONT)
	c.Await("answers again", func() bool {
		got, err := c.Do(context.Background(), others[0], c.Token, "secrets/getSecretValue", `{"path":"/app/copies/s1"}`)
		return err == nil && got.Status == http.StatusOK
	})
	c.Signal(others[1], syscall.SIGCONT)
	for node := 1; node <= 3; node++ {
		c.AwaitReady(node)
	}
	r.halt()
	require.GreaterOrEqual(t, r.count(), before)
}

// A node that copies may die at any moment, and may for a while be unable to
// write copies: in the end it has the same files as the one it copies, and it
// served all the time.
func TestCopiesGoOnFromWhereTheyWere(t *testing.T) {
	c := suite.Shared(t)
	makeSecrets(c)
	leader := c.Leader()
	others := c.Others(leader)
	r := startReaders(t, c, leader)
	for range 4 {
		r.awaitMore(c, 60)
		c.Kill(others[0])
		r.awaitMore(c, 30)
		c.StartNode(others[0])
		c.AwaitReady(others[0])
	}
	r.halt()
	for holder := 1; holder <= 3; holder++ {
		for of := 1; of <= 3; of++ {
			if holder != of {
				awaitCopied(t, c, holder, of)
			}
		}
	}
	copied := copiesOf(c, others[0], leader)
	require.Len(t, copied, 1)
	run := c.CLI("", "audit", "verify", copied[0])
	require.Zero(t, run.Code, "%s%s", run.Out, run.Err)

	c.Kill(others[0])
	place := filepath.Dir(copied[0])
	require.NoError(t, os.RemoveAll(place))
	require.NoError(t, os.WriteFile(place, nil, 0o600))
	from := len(c.Log(others[0]))
	c.StartNode(others[0])
	c.AwaitReady(others[0])
	c.Await("the log to say that it is not copied", func() bool {
		return strings.Contains(c.Log(others[0])[from:], "the audit trail of a member is not copied")
	})
	c.OK(others[0], "secrets/getSecretValue", `{"path":"/app/copies/s1"}`)
	require.NoError(t, os.Remove(place))
	awaitCopied(t, c, others[0], leader)
}

// Whoever cuts the end of a trail at home, or writes it anew, is found out by
// those who hold copies, and by what went through Raft. Their copies stay.
func TestATrailThatWasCutAtHomeIsRefusedAndSaid(t *testing.T) {
	c := suite.Fresh(t, 3)
	makeSecrets(c)
	cut := c.Others(c.Leader())[0]
	for range 5 {
		c.OK(cut, "secrets/listSecrets", `{"prefix":"/app/"}`)
	}
	c.Kill(cut)
	c.StartNode(cut) // its own chain has an event more
	c.AwaitReady(cut)
	var others []int
	for _, node := range c.Others(cut) {
		awaitCopied(t, c, node, cut)
		others = append(others, node)
	}
	c.Await("the head to be anchored", func() bool {
		for _, one := range c.OK(others[0], "audit/listChains", `{}`)["chains"].([]any) {
			if chain := one.(map[string]any); chain["node"] == localcluster.Name(cut) && chain["anchored"] == chain["sequence"] {
				return true
			}
		}
		return false
	})
	c.Kill(cut)
	before := map[int]string{}
	for _, node := range others {
		before[node] = chainBytes(t, copiesOf(c, node, cut)[0])
	}
	files, err := filepath.Glob(filepath.Join(escaped(trailDir(c, cut)), "audit-*.jsonl"))
	require.NoError(t, err)
	newest := slices.Max(files)
	raw, err := os.ReadFile(newest)
	require.NoError(t, err)
	end := bytes.LastIndexByte(raw[:len(raw)-1], '\n') + 1
	require.NoError(t, os.Truncate(newest, int64(end)))
	c.StartNode(cut)
	c.AwaitReady(cut)
	for _, node := range others {
		c.Await("the metric of a broken copy", func() bool {
			return strings.Contains(c.Metrics(node), `strongroom_audit_copy_broken{member="`+localcluster.Name(cut)+`"} 1`)
		})
		require.Equal(t, before[node], chainBytes(t, copiesOf(c, node, cut)[0]))
	}
	c.Await("the events of it", func() bool {
		return len(c.OK(others[0], "audit/queryEvents", `{"event":"audit.copy_broken"}`)["events"].([]any)) == 2 &&
			len(c.OK(others[0], "audit/queryEvents", `{"event":"audit.anchor_mismatch"}`)["events"].([]any)) >= 1
	})
	require.Contains(t, c.Metrics(cut), `strongroom_audit_anchor_mismatch{member="`+localcluster.Name(cut)+`"} 1`)
	run := c.CLI("", "audit", "chains")
	require.Zero(t, run.Code, run.Err)
	c.OK(cut, "secrets/getSecretValue", `{"path":"/app/copies/s1"}`)
}
