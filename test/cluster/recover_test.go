package cluster_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/raft"
	"github.com/strongroom/strongroom/test/cluster"
)

func recoverOn(c *cluster.Cluster, n *cluster.Node) (raft.Recovered, error) {
	seen, err := raft.Examine(c.Config(n))
	if err != nil {
		return raft.Recovered{}, err
	}
	return raft.Recover(c.Config(n), raft.Recovery{Seen: seen, Operator: "root", Reason: "two machines burnt", Now: time.Now()})
}

// eachOf makes the faults of each node, and keeps them in out.
func eachOf(out map[string]*raft.Faults) func(string) *raft.Faults {
	return func(id string) *raft.Faults {
		out[id] = &raft.Faults{}
		return out[id]
	}
}

// survivor is a cluster of three that is down: the one node that is answered
// has "kept" and, if lag is set, has never heard of "lost".
func survivor(t *testing.T, options cluster.Options, lag bool) (*cluster.Cluster, *cluster.Node) {
	t.Helper()
	c := cluster.StartWith(t, 3, options)
	known(t, c)
	c.MustWrite("register", "kept")
	n := c.Others(c.Leader())[0]
	index := c.Leader().Raft().Local().Index()
	cluster.Await(t, "the write on the node that stays", func() bool { return n.Raft().Local().Index() >= index })
	if lag {
		c.Stop(n)
		c.MustWrite("register", "lost")
	}
	for _, other := range c.Others(n) {
		c.Kill(other)
	}
	c.Kill(n)
	return c, n
}

func recoveries(n *cluster.Node) []*fsm.Recovery {
	var out []*fsm.Recovery
	for r := range n.Raft().Local().Recoveries() {
		out = append(out, r)
	}
	return out
}

// What the node had is served again, what only others had is not; others are
// removed for good, and new nodes come to be members.
func TestAClusterGoesOnWithTheOneNodeThatIsLeft(t *testing.T) {
	c, n := survivor(t, cluster.Options{Timing: unhurried}, true)
	gone := c.Others(n)
	seen, err := raft.Examine(c.Config(n))
	require.NoError(t, err)
	require.Len(t, seen.Others, 2)
	require.Equal(t, "kept", cluster.Value(seen.State, "register"))
	require.Zero(t, seen.Missing)
	require.NotZero(t, seen.LastTerm)
	ahead, err := raft.Examine(c.Config(gone[0]))
	require.NoError(t, err)
	require.True(t, ahead.LastTerm > seen.LastTerm || ahead.LastTerm == seen.LastTerm && ahead.LastIndex > seen.LastIndex, "the others were ahead")

	done, err := recoverOn(c, n)
	require.NoError(t, err)
	require.FileExists(t, filepath.Join(done.Aside, "raft.db"))
	require.Equal(t, seen.LastIndex, done.Record.LastIndex)
	require.Greater(t, done.Record.Index, seen.LastIndex+1<<19, "an index means one state only")
	c.StartNode(n)
	require.Equal(t, n, c.LeaderAmong(n))
	require.Equal(t, "kept", c.MustRead("register"))
	require.Len(t, recoveries(n), 1)
	require.Equal(t, "two machines burnt", recoveries(n)[0].Reason)
	require.Greater(t, n.Raft().Term(), ahead.LastTerm)
	c.MustWrite("register", "alone")

	// A new node comes to have everything, and a vote.
	hurry(t, c)
	n4 := c.Add("n4", "")
	n4.Joins = true
	do(t, c, fsm.SetNode{Meta: meta(), NodeID: "n4", Address: n4.Address})
	c.StartNode(n4)
	n4.Raft().SetHealth(raft.HSMHealthy, raft.TrailOK)
	awaitRole(t, c, "n4", raft.RoleFollower)
	c.MustWrite("register", "together")
	require.Equal(t, "together", c.MustRead("register"))

	// One of the others comes back with its folder.
	c.StartNode(gone[0])
	cluster.Await(t, "the node that was cut off to fence itself", func() bool {
		err := gone[0].Raft().Standing()
		return err != nil && strings.Contains(err.Error(), "never comes back")
	})
	require.Nil(t, member(c, gone[0].ID))

	// It is stopped, and started again.
	c.Stop(gone[0])
	c.Stop(n4)
	c.Stop(n)
	c.StartNode(n)
	c.StartNode(n4)
	require.Equal(t, "together", c.MustRead("register"))
	require.Len(t, recoveries(n), 1)
}

// Two of three come back with their folders: the majority of the cluster as it
// was. They do not go on beside the recovered one.
func TestAForgottenMajorityEndsWhenItReachesTheRecoveredNode(t *testing.T) {
	faults := map[string]*raft.Faults{}
	c, n := survivor(t, cluster.Options{Timing: unhurried, Faults: eachOf(faults)}, false)
	_, err := recoverOn(c, n)
	require.NoError(t, err)
	for _, f := range faults {
		f.NeverAsks = true // as they would if they heard of a leader at once
	}
	c.StartNode(n)
	c.LeaderAmong(n)
	old := c.Others(n)
	for _, o := range old {
		c.StartNode(o)
	}
	cluster.Await(t, "whoever led the others to fence itself", func() bool {
		for _, o := range old {
			if err := o.Raft().Standing(); err != nil {
				return strings.Contains(err.Error(), n.ID+" says: ") && strings.Contains(err.Error(), "never comes back")
			}
		}
		return false
	})
	cluster.Await(t, "the others to have no leader", func() bool {
		for _, o := range old {
			if _, self, _ := o.Raft().Leader(); self {
				return false
			}
		}
		return true
	})
	require.Equal(t, "kept", c.MustRead("register"))
}

// The negative control: nobody asks, and two clusters serve under one name.
func TestWithoutTheQuestionAForgottenMajorityServesBesideTheRecoveredNode(t *testing.T) {
	faults := map[string]*raft.Faults{}
	c, n := survivor(t, cluster.Options{Timing: unhurried, Faults: eachOf(faults)}, false)
	_, err := recoverOn(c, n)
	require.NoError(t, err)
	for _, f := range faults {
		f.NeverAsks, f.HeedsNobody = true, true
	}
	c.StartNode(n)
	c.LeaderAmong(n)
	old := c.Others(n)
	for _, o := range old {
		c.StartNode(o)
	}
	write := func(by *cluster.Node, value string) {
		cluster.Await(t, "a write by "+by.ID, func() bool { return by.Write(t.Context(), "register", value) == nil })
	}
	other := c.LeaderAmong(old...)
	write(other, "by the others")
	write(n, "by the recovered node")
	require.Equal(t, "by the others", cluster.Value(other.Raft().Local(), "register"))
	require.Equal(t, "by the recovered node", cluster.Value(n.Raft().Local(), "register"))
}

// A node that was admitted in the part that is lost comes with a folder of
// which this history knows nothing.
func TestAFolderOfTheLostHistoryIsNotLetIn(t *testing.T) {
	c := cluster.StartWith(t, 3, cluster.Options{Timing: unhurried})
	known(t, c)
	n := c.Others(c.Leader())[0]
	n4 := c.Add("n4", "")
	do(t, c, fsm.SetNode{Meta: meta(), NodeID: "n4", Address: n4.Address})
	announced := c.Leader().Raft().Local().Index()
	cluster.Await(t, "the announcement on the node that stays", func() bool { return n.Raft().Local().Index() >= announced })
	c.Stop(n)
	c.StartNode(n4)
	awaitRole(t, c, "n4", raft.RoleNonVoter)
	c.MustWrite("register", "lost")
	cluster.Await(t, "the write on n4", func() bool { return cluster.Value(n4.Raft().Local(), "register") == "lost" })
	for _, o := range c.Nodes {
		c.Kill(o)
	}
	_, err := recoverOn(c, n)
	require.NoError(t, err)
	c.StartNode(n)
	c.LeaderAmong(n)
	require.NotNil(t, n.Raft().Local().ClusterNode("n4"))
	require.False(t, n.Raft().Local().ClusterNode("n4").Removed(), "it never took part, as far as this history goes")
	c.StartNode(n4)
	said := ""
	cluster.Await(t, "n4 to be told that its folder is of another history", func() bool {
		// It knows only members that are gone; an operator tells it where to ask.
		if err := n4.Raft().Standing(); err != nil {
			said = err.Error()
		}
		return strings.Contains(said, "another history")
	})
	require.Nil(t, member(c, "n4"))
	c.Stop(n4)
	c.Wipe(n4)
	c.StartNode(n4)
	awaitRole(t, c, "n4", raft.RoleNonVoter)
}

var errStopped = errors.New("stopped here")

// Wherever a recovery is interrupted, the folder is as it was or recovered, and
// the command, called again, finishes it.
func TestARecoveryThatIsInterrupted(t *testing.T) {
	snapshots := raft.SnapshotConfig{Threshold: 8, Interval: 20 * time.Millisecond, Trailing: 4}
	c, n := survivor(t, cluster.Options{Timing: unhurried, Snapshot: snapshots, Faults: func(string) *raft.Faults { return &raft.Faults{} }}, false)
	original := n.DataDir
	steps := []string{"copied", "kept", "term", "announced", "decided", "emptied", "alone", "whole", "finished"}
	at := 0
	for i, stop := range steps {
		t.Run(stop, func(t *testing.T) {
			at = 0
			n.DataDir = copied(t, original)
			config := c.Config(n)
			faults := *config.Faults
			faults.Recovering = func(step string) error {
				require.Equal(t, steps[at], step, "the steps are all there")
				at++
				if step == stop {
					return errStopped
				}
				return nil
			}
			config.Faults = &faults
			seen, err := raft.Examine(config)
			require.NoError(t, err)
			order := raft.Recovery{Seen: seen, Operator: "root", Reason: "two machines burnt", Now: time.Now()}
			_, err = raft.Recover(config, order)
			require.ErrorIs(t, err, errStopped)
			require.Equal(t, i+1, at)
			decided := i >= 4
			interrupted := n.DataDir

			// A start takes it as the one or the other.
			n.DataDir = copied(t, interrupted)
			c.StartNode(n)
			if decided {
				require.Len(t, recoveries(n), 1)
				require.Equal(t, "kept", c.MustRead("register"))
				require.Len(t, n.Raft().Members(), 1)
			} else {
				require.Empty(t, recoveries(n))
				require.Len(t, n.Raft().Members(), 3)
			}
			c.Stop(n)
			if stop == "announced" {
				// A start forgets what was not decided; the order can be given again.
				_, err := recoverOn(c, n)
				require.NoError(t, err)
				c.StartNode(n)
				require.Equal(t, "kept", c.MustRead("register"))
				c.Stop(n)
			}

			// The command finishes it.
			n.DataDir = interrupted
			done, err := recoverOn(c, n)
			if stop == "finished" {
				require.ErrorContains(t, err, "nothing to recover")
			} else {
				require.NoError(t, err)
				require.Equal(t, "two machines burnt", done.Record.Reason)
			}
			c.StartNode(n)
			require.Len(t, recoveries(n), 1)
			require.Equal(t, "kept", c.MustRead("register"))
			c.MustWrite("register", "on")
			c.Stop(n)
			c.StartNode(n)
			require.Equal(t, "on", c.MustRead("register"))
			c.Stop(n)
		})
	}
	n.DataDir = original
}

func copied(t *testing.T, folder string) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "copy")
	require.NoError(t, os.CopyFS(to, os.DirFS(folder)))
	return to
}

// A recovery that was begun and not decided takes nothing from the cluster that
// was not lost after all.
func TestARecoveryThatWasNotDecidedLeavesAMember(t *testing.T) {
	faults := map[string]*raft.Faults{}
	c, n := survivor(t, cluster.Options{Timing: unhurried, Faults: eachOf(faults)}, true)
	faults[n.ID].Recovering = func(step string) error {
		if step == "announced" {
			return errStopped
		}
		return nil
	}
	_, err := recoverOn(c, n)
	require.ErrorIs(t, err, errStopped)
	for _, o := range c.Nodes {
		c.StartNode(o)
	}
	require.Equal(t, "lost", c.MustRead("register"), "nothing is")
	c.MustWrite("register", "by all")
	sameHashes(t, c)
	require.Empty(t, recoveries(n))
}

// What a folder had once and is damaged is told, and given up.
func TestARecoveryOnAFolderThatIsDamaged(t *testing.T) {
	c, n := survivor(t, cluster.Options{Timing: unhurried}, false)
	whole, err := raft.Examine(c.Config(n))
	require.NoError(t, err)
	n.DamageEntry(t, whole.LastIndex)
	for what, before := range map[string]func(){
		"damaged": func() {},
		"mending": func() { c.StartNode(n); require.True(t, n.Raft().Mending()); c.Kill(n) },
	} {
		t.Run(what, func(t *testing.T) {
			original := n.DataDir
			defer func() { n.DataDir = original }()
			n.DataDir = copied(t, original)
			before()
			seen, err := raft.Examine(c.Config(n))
			require.NoError(t, err)
			require.Equal(t, whole.LastIndex-1, seen.LastIndex)
			require.Equal(t, whole.LastIndex, seen.Missing)
			done, err := recoverOn(c, n)
			require.NoError(t, err)
			require.Equal(t, whole.LastIndex, done.Record.Missing)
			c.StartNode(n)
			require.False(t, n.Raft().Mending())
			c.MustWrite("register", "on")
			require.Equal(t, "on", c.MustRead("register"))
			c.Stop(n)
		})
	}
}

// content answers the bytes of everything that is stored in a folder.
func content(t *testing.T, folder string) map[string]string {
	t.Helper()
	out := map[string]string{}
	require.NoError(t, filepath.WalkDir(folder, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		raw, err := os.ReadFile(path)
		out[path] = string(raw)
		return err
	}))
	return out
}

func TestARecoveryThatIsRefusedChangesNothing(t *testing.T) {
	c, n := survivor(t, cluster.Options{Timing: unhurried}, false)
	before := content(t, n.DataDir)
	seen, err := raft.Examine(c.Config(n))
	require.NoError(t, err)
	require.Equal(t, before, content(t, n.DataDir), "a look changes nothing")

	other := seen
	other.LastIndex++
	_, err = raft.Recover(c.Config(n), raft.Recovery{Seen: other, Operator: "root", Reason: "x", Now: time.Now()})
	require.ErrorContains(t, err, "has changed since")
	_, err = raft.Recover(c.Config(n), raft.Recovery{Seen: seen, Operator: "root", Now: time.Now()})
	require.ErrorContains(t, err, "reason")
	again, err := raft.Examine(c.Config(n))
	require.NoError(t, err)
	require.Equal(t, seen.LastIndex, again.LastIndex)
	require.Len(t, again.Others, 2)

	keys := n.StorageKeys
	n.StorageKeys = map[uint32][]byte{1: cluster.NewStorageKey(t)}
	_, err = recoverOn(c, n)
	require.Error(t, err, "under another key")
	n.StorageKeys = keys

	require.NoError(t, os.WriteFile(filepath.Join(n.DataDir, "parted"), []byte("strongroom 1\nat entry 7\n"), 0o600))
	_, err = recoverOn(c, n)
	require.ErrorContains(t, err, "not the one of the majority")
	require.NoError(t, os.Remove(filepath.Join(n.DataDir, "parted")))

	empty := n.DataDir
	n.DataDir = t.TempDir()
	_, err = recoverOn(c, n)
	require.ErrorContains(t, err, "holds nothing of a cluster")
	n.DataDir = empty

	c.StartNode(n)
	_, err = recoverOn(c, n)
	require.ErrorContains(t, err, "in use")
}

// It can happen twice. A cluster of one that is whole has nothing to recover.
func TestAClusterIsRecoveredTwice(t *testing.T) {
	c, n := survivor(t, cluster.Options{Timing: unhurried}, false)
	_, err := recoverOn(c, n)
	require.NoError(t, err)
	_, err = recoverOn(c, n)
	require.ErrorContains(t, err, "nothing to recover")
	c.StartNode(n)
	c.LeaderAmong(n)
	hurry(t, c)
	n4 := c.Add("n4", "")
	do(t, c, fsm.SetNode{Meta: meta(), NodeID: "n4", Address: n4.Address})
	c.StartNode(n4)
	n4.Raft().SetHealth(raft.HSMHealthy, raft.TrailOK)
	awaitRole(t, c, "n4", raft.RoleFollower)
	c.MustWrite("register", "of two")
	index := c.Leader().Raft().Local().Index()
	cluster.Await(t, "the write on n4", func() bool { return n4.Raft().Local().Index() >= index })
	c.Kill(n4)
	c.Kill(n)
	_, err = recoverOn(c, n4)
	require.NoError(t, err)
	c.StartNode(n4)
	require.Equal(t, "of two", c.MustRead("register"))
	all := recoveries(n4)
	require.Len(t, all, 2)
	require.Equal(t, []string{n.ID, "n4"}, []string{all[0].NodeID, all[1].NodeID})
	require.Contains(t, fmt.Sprint(all[1].CutOff), n.ID)
}
