package e2e_test

import (
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/test/localcluster"
)

// withDataRoom moves the data folder of a node to a disk of 48 MiB, of which 8
// must be free.
func withDataRoom(t *testing.T, c *localcluster.Cluster, node int) *room {
	t.Helper()
	d := withDisk(t, c, node, filepath.Join(c.NodeDir(node), "data"), "mount -t tmpfs -o mode=700,size=48m none")
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(c.Metrics(node))
		}
	})
	return d
}

// leave fills the disk but for so many KiB.
func (d *room) leave(kib int) {
	d.t.Helper()
	d.do(fmt.Sprintf(`rm -f filler; head -c $(( $(df --output=avail -B1 . | tail -1) - %d*1024 )) /dev/zero > filler`, kib))
}

func raftRoom(int) string {
	return "\naudit:\n  minFreeBytes: 0\nraft:\n  minFreeBytes: 8388608\n"
}

// The disk below the leader's log fills up under load. Another one leads; the
// node goes on as a follower, and, when there is still less room, as one that
// takes no entries, without a restart. With room again it is in step by itself.
func TestALeaderWhoseDataFolderHasNoRoomHandsOverAndGoesOn(t *testing.T) {
	c := suite.Fresh(t, 3)
	c.Configure(raftRoom)
	d := withDataRoom(t, c, 1)
	c.Lead(1)
	server, _ := c.Server(1)
	w := startWriters(t, c, "/app/e2e/room", 6, 2)
	l := applications(t, c, "/app/e2e/room-applications")
	w.awaitMore(50)

	d.leave(6 << 10)
	awaitOther(c, 1)
	w.awaitMore(50)
	require.Empty(t, why(t, c, 1), "it serves reads, and hands writes on")

	d.leave(2 << 10)
	c.Await("the node to say that it takes no entries", func() bool { return strings.Contains(c.Log(1), "this node takes no writes") })
	w.awaitMore(200)
	l.awaitMore(c, 20)
	again, _ := c.Server(1)
	require.Equal(t, server.PID, again.PID, "it did not end")

	d.do("rm -f filler")
	w.halt()
	l.halt()
	require.Empty(t, l.errs, "an application saw this")
	require.Empty(t, l.refused)
	c.Lead(1)
	again, _ = c.Server(1)
	require.Equal(t, server.PID, again.PID, "without a restart")
	for node := 1; node <= 3; node++ {
		w.check(t, node)
	}
}

// The negative control: without the bound the disk fills up to its last byte,
// and the node's process ends.
func TestWithoutABoundAFullDiskEndsTheNode(t *testing.T) {
	c := suite.Fresh(t, 3)
	c.Configure(func(int) string { return "\naudit:\n  minFreeBytes: 0\nraft:\n  minFreeBytes: 0\n" })
	d := withDataRoom(t, c, 1)
	c.Lead(2)
	w := startWriters(t, c, "/app/e2e/room", 6, 2)
	w.awaitMore(20)
	d.do("! dd if=/dev/zero of=filler bs=64k && ! dd if=/dev/zero of=filler2 bs=1k")
	c.AwaitEnd(1)
	require.Contains(t, c.Log(1), "this node must stop")
	w.awaitMore(20)
	d.do("rm -f filler filler2")
	d.start()
	w.halt()
	w.check(t, 1)
}

// No node has room: writes are refused, with what to do, and metadata is
// served; with room on two of the three everything goes on.
func TestNoNodeHasRoom(t *testing.T) {
	c := suite.Fresh(t, 3)
	c.Configure(raftRoom)
	c.OK(1, "secrets/createSecret", `{"path":"/app/e2e/full","value":%q}`, localcluster.B64("kept"))
	var disks []*room
	for node := 1; node <= 3; node++ {
		disks = append(disks, withDataRoom(t, c, node))
	}
	c.Leader()
	for _, d := range disks {
		d.leave(6 << 10)
	}
	var said string
	tries := 0
	c.Await("a write to be refused", func() bool {
		tries++ // the value that is there would be no write
		r := c.Send(1, c.Token, "secrets/putSecretValue", `{"path":"/app/e2e/full","value":%q}`, localcluster.B64(fmt.Sprint(tries)))
		said = r.Message()
		return r.Code() == "NoLeader" && strings.Contains(said, "make room there")
	})
	require.Contains(t, said, "bytes free, and 8388608 are required")
	for node := 1; node <= 3; node++ {
		r := c.Send(node, c.Token, "secrets/describeSecret", `{"path":"/app/e2e/full"}`)
		require.Equal(t, http.StatusOK, r.Status, "%s", r.Body)
	}
	disks[0].do("rm -f filler")
	disks[1].do("rm -f filler")
	c.OK(1, "secrets/putSecretValue", `{"path":"/app/e2e/full","value":%q}`, localcluster.B64("more"))
}
