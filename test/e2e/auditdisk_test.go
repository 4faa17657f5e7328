package e2e_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/test/localcluster"
)

// room is a small disk of its own under the trail of one node. It is a tmpfs,
// or where it must be one an ext4, in a mount namespace, which ends with the
// test whatever happens: nothing is left mounted on this machine. For a tmpfs
// nobody needs to be root.
type room struct {
	t      *testing.T
	c      *localcluster.Cluster
	node   int
	dir    string // of the trail
	shell  *exec.Cmd
	in     io.Writer
	out    *bufio.Reader
	within []string // a command that starts the server where the disk is
}

// withRoom moves the trail of a node to a disk of so many MiB and starts it
// again. The shell that made the disk stays, and does there what an operator
// or an accident would.
func withRoom(t *testing.T, c *localcluster.Cluster, node, mib int) *room {
	t.Helper()
	return withDisk(t, c, node, trailDir(c, node), fmt.Sprintf("mount -t tmpfs -o mode=700,size=%dm none", mib))
}

// withExt4 does the same on a file system with a journal, in a file. Only root
// may mount one.
func withExt4(t *testing.T, c *localcluster.Cluster, node, mib int) *room {
	t.Helper()
	image := filepath.Join(c.Dir, localcluster.Name(node)+".ext4")
	f, err := os.Create(image)
	require.NoError(t, err)
	require.NoError(t, errors.Join(f.Truncate(int64(mib)<<20), f.Close()))
	out, err := exec.Command("mkfs.ext4", "-q", "-m", "0", image).CombinedOutput()
	require.NoError(t, err, "%s", out)
	return withDisk(t, c, node, trailDir(c, node), fmt.Sprintf("mount -o loop,errors=remount-ro %q", image))
}

// withDisk moves a folder of a node that is stopped for that. It is told the
// beginning of a mount command; the place follows.
func withDisk(t *testing.T, c *localcluster.Cluster, node int, dir, mount string) *room {
	t.Helper()
	d := &room{t: t, c: c, node: node, dir: dir}
	c.Kill(node)
	line := append(inNamespaces("unshare"), "bash")
	d.shell = exec.Command(line[0], line[1:]...)
	d.shell.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var said bytes.Buffer
	d.shell.Stderr = &said
	in, err := d.shell.StdinPipe()
	require.NoError(t, err)
	out, err := d.shell.StdoutPipe()
	require.NoError(t, err)
	d.in, d.out = in, bufio.NewReader(out)
	require.NoError(t, d.shell.Start())
	t.Cleanup(func() {
		_ = in.Close() // it ends with its input
		_ = d.shell.Wait()
		if t.Failed() {
			t.Logf("the shell on the disk: %s", said.String())
		}
	})
	d.within = append(inNamespaces("nsenter"), "--target", strconv.Itoa(d.shell.Process.Pid))
	require.NoError(t, os.Mkdir(d.dir+".room", 0o700))
	d.do(fmt.Sprintf(`cd %q && %s "$PWD.room" && cp -a . "$PWD.room" && mount -n --move "$PWD.room" "$PWD" && cd "$PWD"`, d.dir, mount))
	d.start()
	return d
}

func (d *room) start() {
	d.t.Helper()
	d.c.StartNode(d.node, d.within...)
	d.c.AwaitReady(d.node)
}

// do runs a script in the folder of the trail, which must succeed.
func (d *room) do(script string) {
	d.t.Helper()
	_, err := fmt.Fprintf(d.in, "{ %s; } >&2; echo $?\n", script) // what it prints is not the answer
	require.NoError(d.t, err)
	code, err := d.out.ReadString('\n')
	require.NoError(d.t, err)
	require.Equal(d.t, "0\n", code, script)
}

// copyOf are the files as they are on the disk of the node, for a test that
// does not see that disk.
func (d *room) copyOf() string {
	d.t.Helper()
	dir := filepath.Join(d.t.TempDir(), "trail")
	require.NoError(d.t, os.Mkdir(dir, 0o700))
	d.do(fmt.Sprintf(`cp -a audit-* %q`, dir))
	return dir
}

// why is what a node says that it is not ready for, empty if it is ready.
func why(t *testing.T, c *localcluster.Cluster, node int) string {
	t.Helper()
	resp, err := c.Client().Get(c.Addr(node) + "/api/v1/health/ready")
	require.NoError(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	if resp.StatusCode == http.StatusOK {
		return ""
	}
	return string(body)
}

// awaitOther waits until a node that is not this one leads.
func awaitOther(c *localcluster.Cluster, than int) {
	c.Await("another leader", func() bool { return c.Leader() != than })
}

// applications are Go clients under whose load something happens.
func applications(t *testing.T, c *localcluster.Cluster, path string) *load {
	t.Helper()
	l := startLoad(t, c, path, []int{1, 2, 3})
	l.awaitMore(c, 20)
	return l
}

// The disk of the leader's trail is filled to its last byte under load. From
// then on it answers nothing, another node leads, and applications see
// retries at most. With room again the node takes events in the same process,
// says so in the trail, and can lead.
func TestALeaderWhoseTrailHasNoRoomAnswersNothingAndHandsOver(t *testing.T) {
	for _, v := range []struct {
		name   string
		least  int // minFreeBytes
		fill   string
		says   string
		rounds int
	}{
		{"to the last byte", 0, `! dd if=/dev/zero of=filler bs=64k && ! dd if=/dev/zero of=filler2 bs=1k`, "no space left on device", 2},
		{"to what must stay free", 8 << 20, `dd if=/dev/zero of=filler bs=1M count=17`, "bytes free, and 8388608 are required", 1},
	} {
		t.Run(v.name, func(t *testing.T) {
			c := suite.Fresh(t, 3)
			c.Configure(func(int) string { return fmt.Sprintf("\naudit:\n  minFreeBytes: %d\n", v.least) })
			d := withRoom(t, c, 1, 24)
			j := startJudge(t, c, "/app/e2e/room", 6, 1)
			l := applications(t, c, "/app/e2e/room-applications")
			for range v.rounds {
				c.Lead(1)
				server, _ := c.Server(1)
				j.awaitMore(100)

				d.do(v.fill)
				awaitOther(c, 1)
				c.Await("the reason", func() bool { return strings.Contains(why(t, c, 1), v.says) })
				require.Contains(t, c.Metrics(1), "strongroom_audit_failed 1\n")
				j.awaitMore(100)
				l.awaitMore(c, 20)

				d.do("rm -f filler filler2")
				c.AwaitReady(1)
				require.Contains(t, c.Metrics(1), "strongroom_audit_failed 0\n")
				again, _ := c.Server(1)
				require.Equal(t, server.PID, again.PID, "without a restart")
			}
			c.Lead(1)
			j.awaitMore(100)
			j.halt()
			l.halt()
			require.Empty(t, l.errs, "an application saw this")
			require.Empty(t, l.refused)

			r := c.Send(2, c.Token, "audit/queryEvents", `{"event":"audit.recovered"}`)
			require.Contains(t, string(r.Body), `"node1"`, "%s", r.Body)
			trails := map[string][]written{}
			c.Stop()
			readTrail(t, d.copyOf(), trails)
			for _, node := range []int{2, 3} {
				readTrail(t, trailDir(c, node), trails)
			}
			j.hold(t, trails)
		})
	}
}

// A file system that is read-only keeps a node from being started, which says
// why; the others serve. Once it can be written the node is started as always.
func TestANodeDoesNotStartOnATrailThatCannotBeWritten(t *testing.T) {
	c := suite.Fresh(t, 3)
	d := withRoom(t, c, 1, 96)
	j := startJudge(t, c, "/app/e2e/readonly", 4, 1)
	j.awaitMore(100)
	c.Kill(1)
	d.do("mount -o remount,ro .")
	from := len(c.Log(1))
	c.StartNode(1, d.within...)
	c.Await("the reason", func() bool { return strings.Contains(c.Log(1)[from:], "read-only file system") })
	c.AwaitEnd(1)
	require.Contains(t, c.Log(1)[from:], "audit trail: ")
	j.awaitMore(100)

	d.do("mount -o remount,rw .")
	d.start()
	c.Lead(1)
	j.awaitMore(100)
	j.halt()
	trails := map[string][]written{}
	c.Stop()
	readTrail(t, d.copyOf(), trails)
	for _, node := range []int{2, 3} {
		readTrail(t, trailDir(c, node), trails)
	}
	j.hold(t, trails)
}

// Somebody removes the folder of the leader's trail. It answers nothing more,
// says why, and another node leads; it does not begin a trail of its own
// accord, also when a folder of that name is there again, until a person has
// started it.
func TestALeaderWhoseTrailIsRemovedAnswersNothingUntilItIsStarted(t *testing.T) {
	c := suite.Fresh(t, 3)
	j := startJudge(t, c, "/app/e2e/removed", 6, 1)
	l := applications(t, c, "/app/e2e/removed-applications")
	c.Lead(1)
	j.awaitMore(100)
	dir := trailDir(c, 1)
	require.NoError(t, os.Rename(dir, dir+".gone")) // what the node sees of it is as if it were removed
	awaitOther(c, 1)
	c.Await("the reason", func() bool { return strings.Contains(why(t, c, 1), "its file was changed from outside") })
	require.Regexp(t, `msg="the audit trail takes no events" .*needsRestart=true`, c.Log(1))
	require.NoError(t, os.Mkdir(dir, 0o700))
	j.awaitMore(100)
	l.awaitMore(c, 20)
	require.Contains(t, why(t, c, 1), "its file was changed from outside", "no room and no folder heals that")
	require.Contains(t, c.Metrics(1), "strongroom_audit_failed 1\n")
	files, err := filepath.Glob(filepath.Join(escaped(dir), "audit-*.jsonl"))
	require.NoError(t, err)
	require.Empty(t, files, "no trail is begun behind anybody's back")

	l.halt()
	require.Empty(t, l.errs, "an application saw this")
	require.Empty(t, l.refused)

	// The person puts back what was taken away.
	c.Kill(1)
	require.NoError(t, os.RemoveAll(dir))
	require.NoError(t, os.Rename(dir+".gone", dir))
	c.StartNode(1)
	c.AwaitReady(1)
	c.Lead(1)
	j.awaitMore(100)
	j.halt()
	c.Stop()
	j.hold(t, chains(t, c))
}

// Two of three nodes have no room for their trails. The leader, the second of
// them, passes the one that says so and hands leadership to the third, which
// serves; cluster status shows which trails are down.
func TestLeadershipLandsWhereTheTrailCanBeWritten(t *testing.T) {
	c := suite.Fresh(t, 3)
	c.Configure(func(int) string { return "\naudit:\n  minFreeBytes: 8388608\n" })
	first, second := withRoom(t, c, 1, 24), withRoom(t, c, 2, 24)
	l := applications(t, c, "/app/e2e/third")
	c.Lead(1)
	from := len(c.Log(1))
	second.do("dd if=/dev/zero of=filler bs=1M count=17")
	c.Await("the leader to hear of it", func() bool { return trails(t, c)["node2"] == "down" })
	require.Equal(t, map[string]string{"node1": "ok", "node2": "down", "node3": "ok"}, trails(t, c))
	require.Equal(t, 1, c.Leader(), "a follower's trail is in nobody's way")
	require.NotContains(t, c.Log(1)[from:], `msg="handing leadership on"`)

	first.do("dd if=/dev/zero of=filler bs=1M count=17")
	c.Await("node3 to lead", func() bool { return c.Leader() == 3 })
	l.awaitMore(c, 20)
	require.Regexp(t, `msg="handing leadership on" node=node1 to=node3 reason="audit trail`, c.Log(1)[from:])
	require.NotRegexp(t, `msg="handing leadership on" node=node1 to=node2`, c.Log(1)[from:], "node2 had said that it cannot")
	require.NotContains(t, c.Log(2), `msg="handing leadership on"`, "it never had it")
	run := c.CLI("", "cluster", "status")
	require.Zero(t, run.Code, run.Err)
	require.Contains(t, run.Out, "down", run.Out)
	l.halt()
	require.Empty(t, l.errs, "an application saw this")
	require.Empty(t, l.refused)

	for _, d := range []*room{first, second} {
		d.do("rm -f filler")
	}
	c.Await("all trails to be well", func() bool {
		return maps.Equal(trails(t, c), map[string]string{"node1": "ok", "node2": "ok", "node3": "ok"})
	})
}

// trails is what the leader hears of the trail of each node.
func trails(t *testing.T, c *localcluster.Cluster) map[string]string {
	t.Helper()
	r := c.Send(c.Leader(), c.Token, "cluster/status", `{}`)
	var got struct {
		Nodes []struct{ NodeID, Audit string }
	}
	require.NoError(t, json.Unmarshal(r.Body, &got), "%s", r.Body)
	out := map[string]string{}
	for _, n := range got.Nodes {
		out[n.NodeID] = n.Audit
	}
	return out
}

// The folder of the leader's trail becomes read-only while it runs. When the
// next file is due it answers nothing more, says why, and another node leads;
// once the folder can be written again it goes on in the same process.
//
// No test remounts the file system itself: the kernel refuses that while the
// trail is open for writing.
func TestALeaderWhoseTrailBecomesReadOnlyHandsOverAndHeals(t *testing.T) {
	c := suite.Fresh(t, 3)
	c.Configure(func(int) string { return "\naudit:\n  segmentBytes: 1048576\n  compress: false\n" })
	d := withRoom(t, c, 1, 128)
	j := startJudge(t, c, "/app/e2e/turned", 6, 1)
	l := applications(t, c, "/app/e2e/turned-applications")
	c.Lead(1)
	server, _ := c.Server(1)
	j.awaitMore(100)
	d.do("! mount -o remount,ro .") // busy
	d.do(`mount -n --bind "$PWD" "$PWD" && mount -n -o remount,bind,ro "$PWD" && ! touch "$PWD/probe"`)
	awaitOther(c, 1)
	c.Await("the reason", func() bool { return strings.Contains(why(t, c, 1), "no new file: read-only file system") })
	require.Contains(t, c.Metrics(1), "strongroom_audit_failed 1\n")
	j.awaitMore(100)
	l.awaitMore(c, 20)

	d.do(`umount -n -l "$PWD"`) // others may just be reading there
	c.AwaitReady(1)
	again, _ := c.Server(1)
	require.Equal(t, server.PID, again.PID, "without a restart")
	c.Lead(1)
	j.awaitMore(100)
	j.halt()
	l.halt()
	require.Empty(t, l.errs, "an application saw this")
	require.Empty(t, l.refused)
	d.holdAll(j)
}

// holdAll stops the cluster and holds the answers against the trails.
func (d *room) holdAll(j *judge) {
	d.t.Helper()
	found := map[string][]written{}
	d.c.Stop()
	readTrail(d.t, d.copyOf(), found)
	for _, node := range d.c.Others(d.node) {
		readTrail(d.t, trailDir(d.c, node), found)
	}
	j.hold(d.t, found)
}

// The disk under the leader's trail stops to answer. Requests wait no longer
// than they may, after five seconds the node refuses and another one leads; it
// goes on by itself, in the same process, when the disk does.
func TestALeaderWhoseDiskHangsHandsOverAndHeals(t *testing.T) {
	c := suite.Fresh(t, 3)
	d, hang, goOn := withSlowDisk(t, c, 1)
	j := startJudge(t, c, "/app/e2e/hung", 6, 1)
	l := applications(t, c, "/app/e2e/hung-applications")
	c.Lead(1)
	server, _ := c.Server(1)
	j.awaitMore(100)
	from := len(c.Log(1))
	hang()
	awaitOther(c, 1)
	c.Await("the reason", func() bool { return strings.Contains(why(t, c, 1), "the disk does not answer") })
	require.Contains(t, c.Metrics(1), "strongroom_audit_failed 1\n")
	j.awaitMore(100)
	l.awaitMore(c, 20)
	require.Regexp(t, `msg="handing leadership on" node=node1 to=node[23] reason="audit trail`, c.Log(1)[from:])

	goOn()
	c.AwaitReady(1)
	require.Contains(t, c.Metrics(1), "strongroom_audit_failed 0\n")
	again, _ := c.Server(1)
	require.Equal(t, server.PID, again.PID, "without a restart")
	c.Lead(1)
	j.awaitMore(100)
	j.halt()
	l.halt()
	require.Empty(t, l.errs, "an application saw this")
	require.Empty(t, l.refused)
	d.holdAll(j)
}

// withSlowDisk gives a node a disk that can be made to hang: as root an ext4
// that is frozen; else each write to the trail is held by a tracer.
func withSlowDisk(t *testing.T, c *localcluster.Cluster, node int) (d *room, hang, goOn func()) {
	t.Helper()
	if os.Geteuid() == 0 {
		d = withExt4(t, c, node, 96)
		d.do(`trap 'fsfreeze -u . 2>/dev/null' EXIT`) // no process could be killed that waits for it
		return d, func() { d.do("fsfreeze -f .") }, func() { d.do("fsfreeze -u .") }
	}
	d = withRoom(t, c, node, 96)
	return d, func() {
			server, _ := c.Server(node)
			d.do(fmt.Sprintf(`strace -f -qq -o /dev/null -e trace=write,fsync -e inject=write,fsync:delay_enter=60s -P "$(ls "$PWD"/audit-*.jsonl | tail -1)" -p %d & held=$!`, server.PID))
		}, func() {
			d.do(`kill -INT $held && { wait $held || true; }`)
		}
}

// The file system under the leader's trail meets an error, and the kernel
// makes it read-only, for good. The node answers nothing more and another one
// leads. An operator stops it, checks the file system and mounts it again;
// then the node goes on with the same chain. Only root may do that to a file
// system.
func TestALeaderWhoseFileSystemFailsGoesOnAfterItIsMended(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Log("not root: the kernel is not made to give a file system up; the other cases are tested")
		return
	}
	c := withDurability(t, "synced")
	d := withExt4(t, c, 1, 96)
	j := startJudge(t, c, "/app/e2e/failed", 6, 1)
	l := applications(t, c, "/app/e2e/failed-applications")
	c.Lead(1)
	j.awaitMore(100)
	d.do(`device="$(basename "$(findmnt -n -o SOURCE "$PWD")")" && echo 1 >"/sys/fs/ext4/$device/trigger_fs_error"`)
	awaitOther(c, 1)
	c.Await("the reason", func() bool { return strings.Contains(why(t, c, 1), "audit trail cannot be written") })
	require.Contains(t, c.Metrics(1), "strongroom_audit_failed 1\n")
	j.awaitMore(100)
	l.awaitMore(c, 20)
	l.halt()
	require.Empty(t, l.errs, "an application saw this")
	require.Empty(t, l.refused)

	c.Kill(1)
	d.do(fmt.Sprintf(`cd / && umount %q && { e2fsck -fp %q || [ $? = 1 ]; } && mount -o loop %[2]q %[1]q && cd %[1]q`, d.dir, filepath.Join(c.Dir, "node1.ext4")))
	d.start()
	c.Lead(1)
	j.awaitMore(100)
	j.halt()
	require.Len(t, currentChains(t, c)["node1"], 1, "it is the chain of before")
	d.holdAll(j)
}

// currentChains are the ids of the chains of each node, by what a node
// answers.
func currentChains(t *testing.T, c *localcluster.Cluster) map[string][]string {
	t.Helper()
	r := c.Send(c.Leader(), c.Token, "audit/listChains", `{}`)
	var got struct {
		Chains []struct{ Node, Chain string }
	}
	require.NoError(t, json.Unmarshal(r.Body, &got), "%s", r.Body)
	out := map[string][]string{}
	for _, chain := range got.Chains {
		out[chain.Node] = append(out[chain.Node], chain.Chain)
	}
	return out
}

// Somebody deletes the folder of the leader's trail for good, and the node is
// started without it: it begins another chain. What it had answered is in the
// copies on the others, which verify; a search finds it, and audit chains
// shows both.
func TestALeaderWhoseTrailIsDeletedBeginsAnotherChain(t *testing.T) {
	c := withDurability(t, "quorum")
	j := startJudge(t, c, "/app/e2e/deleted", 6, 1)
	l := applications(t, c, "/app/e2e/deleted-applications")
	c.Lead(1)
	j.awaitMore(100)
	dir := trailDir(c, 1)
	// The node still makes folders for its copies while it is emptied.
	r := c.Bash(c.Dir, `until rm -rf "$1" && ! [ -e "$1" ]; do :; done`, dir)
	require.Zero(t, r.Code, r.Err)
	awaitOther(c, 1)
	c.Await("the reason", func() bool { return strings.Contains(why(t, c, 1), "its file was changed from outside") })
	j.awaitMore(100)
	l.awaitMore(c, 20)
	l.halt()
	require.Empty(t, l.errs, "an application saw this")
	require.Empty(t, l.refused)

	c.Kill(1)
	c.StartNode(1)
	c.AwaitReady(1)
	c.Lead(1)
	j.awaitMore(100)
	j.halt()
	c.Await("the new chain to be known", func() bool { return len(currentChains(t, c)["node1"]) == 2 })
	c.Await("the event of it", func() bool {
		return strings.Contains(string(c.Send(2, c.Token, "audit/queryEvents", `{"event":"audit.new_chain"}`).Body), `"node1"`)
	})
	run := c.CLI("", "audit", "chains")
	require.Zero(t, run.Code, run.Err)
	require.Equal(t, 2, strings.Count(run.Out, "node1 "), run.Out)
	for _, holder := range []int{2, 3} {
		awaitCopied(t, c, holder, 1)
		require.Len(t, copiesOf(c, holder, 1), 2, "the old chain stays beside the new one")
	}
	c.Stop()
	found := chains(t, c)
	for _, holder := range []int{2, 3} {
		for _, copied := range copiesOf(c, holder, 1) {
			more := map[string][]written{}
			readTrail(t, copied, more) // it verifies
			for id, events := range more {
				for _, e := range events {
					if !slices.ContainsFunc(found[id], func(o written) bool { return o.Node == e.Node && o.Sequence == e.Sequence }) {
						found[id] = append(found[id], e)
					}
				}
			}
		}
	}
	j.hold(t, found)
}
