package e2e_test

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/api/wire"
	"github.com/strongroom/strongroom/test/localcluster"
)

// Every node of a cluster is brought to another release, one after the other,
// while applications put and get, half of them with the Go client. Old nodes
// follow new ones and new nodes old ones. No operation fails, nothing is read
// but what was put last, and no version is lost or made twice. If the release
// knows a higher feature level, that is raised when the last node runs it, and
// not before, and then there is no way back; without one there is.
func TestARollingUpgradeFailsNoOperation(t *testing.T) {
	for _, way := range upgrades(t) {
		t.Run(way.name, func(t *testing.T) {
			r := &rollout{Cluster: suite.FreshOf(t, way.from, 3), t: t, upgrade: way}
			r.level = r.gauge(1, "feature_level_known")
			r.awaitLevel(r.level, 1, 2, 3)
			l := r.startLoad()
			before := r.save("before")
			r.roll(l)
			if r.next == r.level {
				r.takeBack(l)
			}
			l.check()
			if r.next > r.level {
				r.refusesDowngrade()
				l.holds()
				r.readsBackup(before, 0, "The backup is whole, authentic, and restores.")
				r.readsBackup(r.save("after"), 1, r.tooOld())
				r.refusesOldMember(4)
			}
		})
	}
}

// A release may be installed while the old server runs. A worker that it
// starts meanwhile is still of its own build: here what was installed is no
// Strongroom at all, and would leave a mark if it ran.
func TestAWorkerIsOfTheBuildOfItsServer(t *testing.T) {
	c := suite.Fresh(t, 1)
	dir := t.TempDir()
	installed, mark := filepath.Join(dir, "strongroom"), filepath.Join(dir, "mark")
	binary, err := os.ReadFile(c.Binary)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(installed, binary, 0o700))
	r := &rollout{Cluster: c, t: t}
	r.replace(1, installed)
	next := filepath.Join(dir, "next")
	require.NoError(t, os.WriteFile(next, []byte("#!/bin/sh\n: > '"+mark+"'\n"), 0o700))
	require.NoError(t, os.Rename(next, installed))
	for range 3 {
		worker, ok := c.Worker(1)
		require.True(t, ok)
		require.NoError(t, syscall.Kill(worker.PID, syscall.SIGKILL))
		c.Await("another worker", func() bool { w, ok := c.Worker(1); return ok && w.PID != worker.PID || exists(mark) })
		require.NoFileExists(t, mark, "the server ran what is not its own build")
		c.OK(1, "kms/encrypt", `{"keyId":"alias/default","plaintext":"eA=="}`)
	}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// rollout brings a cluster from one build to another.
type rollout struct {
	*localcluster.Cluster
	upgrade
	t           *testing.T
	level, next int // feature levels that the two builds know
}

func (r *rollout) replace(node int, binary string) {
	r.t.Helper()
	r.Signal(node, syscall.SIGTERM)
	r.AwaitEnd(node)
	r.Install(node, binary)
	r.StartNode(node)
	r.AwaitReady(node)
}

// roll upgrades all nodes under load. At each stop of the way the leader is of
// the build that the stop is about, and the others follow it for a while.
func (r *rollout) roll(l *upgradeLoad) {
	r.Lead(1)
	r.replace(2, r.to)
	r.next = r.gauge(2, "feature_level_known")
	require.GreaterOrEqual(r.t, r.next, r.level)
	l.awaitMore() // the new build follows the old one
	r.heldBy(1, 1, 3)
	r.Lead(2)
	l.awaitMore() // and leads
	r.heldBy(2, 1, 3)
	r.replace(1, r.to)
	r.heldBy(1, 3)
	r.Lead(3)
	l.awaitMore() // the last one that is old leads those that are new
	r.heldBy(3, 3)
	for node := 1; node <= 3; node++ {
		require.Equal(r.t, r.level, r.gauge(node, "feature_level"), "node%d is not raised before the last member is upgraded", node)
	}
	r.replace(3, r.to)
	r.awaitLevel(r.next, 1, 2, 3)
	l.awaitMore()
	require.Empty(r.t, r.OK(1, "cluster/status", `{}`)["heldBack"])
	if r.next > r.level {
		r.raised()
	}
}

// heldBy waits until status, asked of a node, says that these members, and no
// others, hold the raise back. If the node is of the newer build and leads, a
// command of the next level is refused, with their names.
func (r *rollout) heldBy(ask int, nodes ...int) {
	r.t.Helper()
	if r.next == r.level {
		return
	}
	var want, names []any
	for _, node := range nodes {
		want = append(want, fmt.Sprintf("%s knows level %d", localcluster.Name(node), r.level))
		names = append(names, fmt.Sprintf("%s (level %d)", localcluster.Name(node), r.level))
	}
	r.Await("status to name who holds the raise back", func() bool {
		status := r.Send(ask, r.Token, "cluster/status", `{}`)
		return status.Status == http.StatusOK && fmt.Sprint(status.Object(r.Cluster)["heldBack"]) == fmt.Sprint(want)
	})
	if leader := r.Leader(); r.gauge(leader, "feature_level_known") > r.level {
		answer := r.Send(leader, r.Token, "cluster/rehearse", `{}`)
		require.Equal(r.t, "Conflict", answer.Code(), "%s", answer.Body)
		require.Contains(r.t, answer.Message(), fmt.Sprintf("this needs feature level %d, and the cluster is at level %d", r.next, r.level))
		for _, name := range names {
			require.Contains(r.t, answer.Message(), name)
		}
	}
}

// raised: the level is in the state, one event tells of it, and a command of
// that level is committed and applied on every node.
func (r *rollout) raised() {
	r.t.Helper()
	require.EqualValues(r.t, r.next, r.OK(1, "cluster/status", `{}`)["level"])
	r.Await("the event", func() bool {
		n := len(r.OK(1, "audit/queryEvents", `{"event":"cluster.raise_level"}`)["events"].([]any))
		require.LessOrEqual(r.t, n, 1)
		return n == 1
	})
	answer := r.Send(r.Leader(), r.Token, "cluster/rehearse", `{}`)
	require.Equal(r.t, http.StatusOK, answer.Status, "%s", answer.Body)
	index := answer.Object(r.Cluster)["index"].(float64)
	r.Await("every node to have applied it", func() bool {
		for _, node := range r.OK(1, "cluster/status", `{}`)["nodes"].([]any) {
			if applied, _ := node.(map[string]any)["appliedIndex"].(float64); applied < index {
				return false
			}
		}
		return true
	})
}

// takeBack: as long as the level is that of the older build, a node may go back.
func (r *rollout) takeBack(l *upgradeLoad) {
	r.t.Helper()
	r.replace(1, r.from)
	r.Lead(1)
	l.awaitMore()
	r.replace(1, r.to)
}

// refusesDowngrade: the whole cluster is stopped and started with the older
// build, which ends on each node with the reason and sets nothing aside. The
// newer one goes on with what there was: nobody was left to give it again.
func (r *rollout) refusesDowngrade() {
	r.t.Helper()
	for node := 1; node <= 3; node++ {
		r.Signal(node, syscall.SIGTERM)
		r.AwaitEnd(node)
	}
	for node := 1; node <= 3; node++ {
		data := filepath.Join(r.NodeDir(node), "data")
		before, said := contents(r.t, data), len(r.Log(node))
		r.Install(node, r.from)
		r.StartNode(node)
		require.Equal(r.t, 1, r.Ended(node))
		r.AwaitEnd(node)
		require.Contains(r.t, r.Log(node)[said:], r.tooOld()+": run the release that the other members run, or a newer one; a level that was raised is never lowered")
		requireIntact(r.t, data, before)
	}
	for node := 1; node <= 3; node++ {
		r.Install(node, r.to)
		r.StartNode(node)
	}
	for node := 1; node <= 3; node++ {
		r.AwaitReady(node)
	}
}

// requireIntact: to open a log touches the pages of its file that say so, and
// the trail notes that it was opened. All else is as it was.
func requireIntact(t *testing.T, dir string, before map[string]string) {
	t.Helper()
	after := contents(t, dir)
	require.Equal(t, slices.Sorted(maps.Keys(before)), slices.Sorted(maps.Keys(after)), "nothing is set aside or added")
	for name, was := range before {
		switch {
		case name == "raft.db":
			require.Len(t, after[name], len(was))
		case strings.HasPrefix(name, "audit/"):
			require.True(t, strings.HasPrefix(after[name], was), "%s only grows", name)
		default:
			require.True(t, after[name] == was, "%s is as it was", name)
		}
	}
}

// save saves a backup of the running cluster.
func (r *rollout) save(name string) string {
	r.t.Helper()
	path := filepath.Join(r.t.TempDir(), name+".age")
	run := r.CLI("", "snapshot", "save", path)
	require.Equal(r.t, 0, run.Code, "%s", run.Err)
	return path
}

// readsBackup has the older build verify a backup: it is the way back.
func (r *rollout) readsBackup(path string, code int, says string) {
	r.t.Helper()
	run := r.CLI("", "snapshot", "verify", path, "--config", filepath.Join(r.NodeDir(1), "config.yaml"))
	require.Equal(r.t, code, run.Code, "%s%s", run.Out, run.Err)
	require.Contains(r.t, run.Out+run.Err, says)
}

func (r *rollout) tooOld() string {
	return fmt.Sprintf("the cluster is at feature level %d, and this build knows level %d at most", r.next, r.level)
}

// refusesOldMember: a node of the older build that was announced is told why it
// may not take part, stays up to say so, and is admitted with the newer one.
func (r *rollout) refusesOldMember(node int) {
	r.t.Helper()
	n := newNewcomers(r.t, r.Cluster)
	n.prepare(node, "")
	name := localcluster.Name(node)
	n.run(0, "cluster", "add", name, n.link(node))
	r.StartNode(node)
	r.Await("the refusal in its log", func() bool { return strings.Contains(r.Log(node), r.tooOld()) })
	r.Await("the refusal in its health", func() bool {
		resp, err := r.Client().Get(r.Addr(node) + "/api/v1/health/ready")
		if err != nil {
			return false
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		return err == nil && resp.StatusCode == http.StatusServiceUnavailable && strings.Contains(string(body), r.tooOld())
	})
	require.Equal(r.t, "joining", n.members(1)[name].Role)
	r.Await("the refusal in the trail", func() bool {
		return strings.Contains(fmt.Sprint(r.OK(1, "audit/queryEvents", `{"event":"cluster.admit_member"}`)["events"]), r.tooOld())
	})
	r.Signal(node, syscall.SIGTERM)
	r.AwaitEnd(node)
	r.Install(node, r.to)
	r.StartNode(node)
	n.awaitMember(1, name, "to be a member", func(m wire.Member) bool { return m.Role == "nonVoter" })
}

var gaugeLine = regexp.MustCompile(`(?m)^strongroom_raft_(\w+) ([0-9.]+)$`)

// gauge answers a metric of the consensus layer that has no labels.
func (r *rollout) gauge(node int, name string) int {
	r.t.Helper()
	for _, m := range gaugeLine.FindAllStringSubmatch(r.Metrics(node), -1) {
		if m[1] == name {
			n, err := strconv.Atoi(m[2])
			require.NoError(r.t, err)
			return n
		}
	}
	require.FailNow(r.t, "node"+strconv.Itoa(node)+" has no metric "+name)
	return 0
}

func (r *rollout) awaitLevel(level int, nodes ...int) {
	r.t.Helper()
	for _, node := range nodes {
		r.Await(fmt.Sprintf("node%d at level %d", node, level), func() bool { return r.gauge(node, "feature_level") == level })
	}
}

// contents answers what is in the files of a folder.
func contents(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	require.NoError(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		raw, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		name, err := filepath.Rel(dir, path)
		out[name] = string(raw)
		return err
	}))
	require.Contains(t, out, "raft.db")
	return out
}

// upgradeLoad is applications that put and get, each on a path of its own.
type upgradeLoad struct {
	r       *rollout
	stop    context.CancelFunc
	running sync.WaitGroup
	done    atomic.Int64
	failed  atomic.Pointer[error]
	puts    []int
}

const upgradeClients = 16

func upgradePath(i int) string { return fmt.Sprintf("/app/e2e/upgrade/c%d", i) }

// startLoad has every other application use the Go client, and the others plain
// HTTP and each node in turn, going on to the next with the same bytes when
// an answer says that they may.
func (r *rollout) startLoad() *upgradeLoad {
	r.t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	l := &upgradeLoad{r: r, stop: stop, puts: make([]int, upgradeClients)}
	r.t.Cleanup(l.halt)
	for i := range upgradeClients {
		r.OK(1, "secrets/createSecret", `{"path":%q}`, upgradePath(i))
		putAndGetOnce := func(want string) error { return r.plainPutAndGet(i, want) }
		if i%2 == 0 {
			application := goClient(r.t, r.Cluster)
			putAndGetOnce = func(want string) error { return putAndGet(application, upgradePath(i), want) }
		}
		l.running.Go(func() {
			for ctx.Err() == nil {
				if err := putAndGetOnce(fmt.Sprintf("%d of %d", l.puts[i], i)); err != nil {
					err = fmt.Errorf("application %d: %w", i, err)
					l.failed.CompareAndSwap(nil, &err)
					return
				}
				l.puts[i]++
				l.done.Add(1)
			}
		})
	}
	l.awaitMore()
	return l
}

func (r *rollout) plainPutAndGet(i int, want string) error {
	ctx, cancel := context.WithTimeout(context.Background(), localcluster.Patience)
	defer cancel()
	nodes := []int{1 + i/2%3, 1 + (i/2+1)%3, 1 + (i/2+2)%3}
	body := fmt.Sprintf(`{"path":%q,"value":%q,"clientToken":%q}`, upgradePath(i), localcluster.B64(want), uuid.NewString())
	put, _, err := r.Persist(ctx, nodes, "secrets/putSecretValue", body)
	if err != nil || put.Status != http.StatusOK {
		return fmt.Errorf("put: status %d, %s, %w", put.Status, put.Code(), err)
	}
	get, _, err := r.Persist(ctx, nodes, "secrets/getSecretValue", fmt.Sprintf(`{"path":%q}`, upgradePath(i)))
	if err != nil {
		return fmt.Errorf("get: %w", err)
	}
	if value, err := get.Value(); err != nil || value != want {
		return fmt.Errorf("get: status %d, %s, not what was put last", get.Status, get.Code())
	}
	return nil
}

// awaitMore waits until the applications have gone on for a while.
func (l *upgradeLoad) awaitMore() {
	l.r.t.Helper()
	from := l.done.Load()
	l.r.Await("all to go on", func() bool { return l.done.Load() >= from+4*upgradeClients || l.failed.Load() != nil })
	if err := l.failed.Load(); err != nil {
		require.NoError(l.r.t, *err)
	}
}

func (l *upgradeLoad) halt() {
	l.stop()
	l.running.Wait()
}

// check ends the load: nothing failed.
func (l *upgradeLoad) check() {
	l.r.t.Helper()
	l.halt()
	if err := l.failed.Load(); err != nil {
		require.NoError(l.r.t, *err)
	}
	l.holds()
	l.r.t.Logf("%d puts, each read back", l.done.Load())
}

// holds: each put made one version, and the last one is read.
func (l *upgradeLoad) holds() {
	l.r.t.Helper()
	application := goClient(l.r.t, l.r.Cluster)
	for i, puts := range l.puts {
		var got wire.GetSecretValueResponse
		require.NoError(l.r.t, application.Do(l.r.t.Context(), "secrets", "getSecretValue", &wire.GetSecretValueRequest{Path: upgradePath(i)}, &got))
		require.EqualValues(l.r.t, puts, got.Version, "each put of application %d made one version, and none was lost", i)
		require.Equal(l.r.t, fmt.Sprintf("%d of %d", puts-1, i), string(got.Value.Expose()))
	}
}
