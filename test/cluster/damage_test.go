package cluster_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	hraft "github.com/hashicorp/raft"
	boltstore "github.com/hashicorp/raft-boltdb/v2"
	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/raft"
	"github.com/strongroom/strongroom/test/cluster"
)

// forgetful is a cluster of which only a minority holds an acknowledged write:
// n1, which is down, and n2, in whose log it is damaged. n3 never heard of it.
func forgetful(t *testing.T, faults *raft.Faults) (c *cluster.Cluster, one, two, three *cluster.Node) {
	t.Helper()
	c = cluster.StartWith(t, 3, cluster.Options{Faults: func(id string) *raft.Faults {
		return &raft.Faults{VoteWhileMending: faults.VoteWhileMending}
	}})
	c.MustWrite("register", "before")
	one = c.Leader()
	two, three = c.Others(one)[0], c.Others(one)[1]
	c.Stop(three)
	c.MustWrite("register", "acknowledged")
	one = c.LeaderAmong(one, two)
	if two == one {
		two = c.Others(one)[0]
	}
	if two == three {
		two = c.Others(one)[1]
	}
	index := one.Raft().Local().Index()
	cluster.Await(t, "the write on the other", func() bool { return two.Raft().Local().Index() >= index })
	c.Kill(two)
	c.Kill(one)
	two.DamageEntry(t, index)
	c.StartNode(two)
	c.StartNode(three)
	return c, one, two, three
}

// A node that has lost what it acknowledged does not help to elect a leader
// that never had it. When it has been given it again, it votes.
func TestANodeWithADamagedLogDoesNotVoteBeforeItIsWhole(t *testing.T) {
	c, one, two, three := forgetful(t, &raft.Faults{})
	require.True(t, two.Raft().Mending())
	require.Never(t, func() bool {
		for _, n := range []*cluster.Node{two, three} {
			if _, self, _ := n.Raft().Leader(); self {
				return true
			}
		}
		return false
	}, 2*time.Second, 10*time.Millisecond, "without the node that holds the write there is no leader")
	c.StartNode(one)
	require.Equal(t, "acknowledged", c.MustRead("register"))
	cluster.Await(t, "the log to be whole", func() bool { return !two.Raft().Mending() })
	require.FileExists(t, filepath.Join(two.DataDir, "damaged", "raft.db"))

	c.Kill(one)
	c.MustWrite("register", "by the other two")
	require.Equal(t, "by the other two", c.MustRead("register"))
	c.Stop(two)
	c.StartNode(two)
	require.False(t, two.Raft().Mending())
}

// The negative control: a node that votes all the same loses the write.
func TestWithoutTheGuardADamagedLogLosesAnAcknowledgedWrite(t *testing.T) {
	c, one, two, three := forgetful(t, &raft.Faults{VoteWhileMending: true})
	c.LeaderAmong(two, three)
	require.Equal(t, "before", c.MustRead("register"))
	c.StartNode(one)
	c.MustWrite("other", "x")
	require.Equal(t, "before", c.MustRead("register"), "it is lost for good")
}

// Whatever part of log and snapshots of one node is damaged, the others give
// it to the node again, while they serve.
func TestDamageOfOneNodeIsMended(t *testing.T) {
	// Snapshots are taken at each look, and nearly nothing stays in the log.
	c := cluster.StartWith(t, 3, cluster.Options{Snapshot: raft.SnapshotConfig{Threshold: 8, Interval: 20 * time.Millisecond, Trailing: 4}})
	value := 0
	write := func(n int) {
		for range n {
			value++
			c.MustWrite("register", fmt.Sprint("v", value))
		}
	}
	write(40)
	newest := func(n *cluster.Node) string {
		found, err := filepath.Glob(filepath.Join(n.DataDir, "snapshots", "*", "state.bin"))
		require.NoError(t, err)
		require.NotEmpty(t, found)
		return found[len(found)-1]
	}
	flip := func(path string) {
		raw, err := os.ReadFile(path)
		require.NoError(t, err)
		raw[len(raw)/2] ^= 1
		require.NoError(t, os.WriteFile(path, raw, 0o600))
	}
	for what, damage := range map[string]func(n *cluster.Node){
		"last entry":  func(n *cluster.Node) { _, last := n.LogRange(t); n.DamageEntry(t, last) },
		"first entry": func(n *cluster.Node) { first, _ := n.LogRange(t); n.DamageEntry(t, first) },
		"all entries": func(n *cluster.Node) {
			first, last := n.LogRange(t)
			for i := first; i <= last; i++ {
				n.DamageEntry(t, i) // or there is none, where a snapshot was installed
			}
		},
		"newest snapshot":   func(n *cluster.Node) { flip(newest(n)) },
		"members of one":    func(n *cluster.Node) { renameMember(t, filepath.Join(filepath.Dir(newest(n)), "meta.json")) },
		"newest, cut short": func(n *cluster.Node) { require.NoError(t, os.Truncate(newest(n), 40)) },
		"every snapshot": func(n *cluster.Node) {
			found, err := filepath.Glob(filepath.Join(n.DataDir, "snapshots", "*", "state.bin"))
			require.NoError(t, err)
			for _, path := range found {
				flip(path)
			}
		},
	} {
		n := c.Others(c.Leader())[0]
		cluster.Await(t, "a snapshot", func() bool { return n.Snapshots() > 0 })
		c.Kill(n)
		damage(n)
		write(5)
		c.StartNode(n)
		write(5)
		index := c.Leader().Raft().Local().Index()
		cluster.Await(t, what+" to be mended", func() bool { return n.Raft().Local().Index() >= index && !n.Raft().Mending() })
		require.Equal(t, fmt.Sprint("v", value), cluster.Value(n.Raft().Local(), "register"), what)
	}
}

// renameMember changes who is a member in a snapshot's meta.json, which the
// library believes.
func renameMember(t *testing.T, path string) {
	t.Helper()
	raw, err := os.ReadFile(path)
	require.NoError(t, err)
	changed := bytes.ReplaceAll(raw, []byte(`"n3"`), []byte(`"n4"`))
	require.NotEqual(t, raw, changed)
	require.NoError(t, os.WriteFile(path, changed, 0o600))
}

// A vote that was changed is not made up for by anybody.
func TestANodeThatCannotTellHowItVotedIsRefused(t *testing.T) {
	c := cluster.Start(t, 3)
	c.MustWrite("register", "v1")
	n := c.Others(c.Leader())[0]
	c.Stop(n)
	db, err := boltstore.NewBoltStore(filepath.Join(n.DataDir, "raft.db"))
	require.NoError(t, err)
	raw, err := db.Get([]byte("CurrentTerm"))
	require.NoError(t, err)
	raw[len(raw)-1]--
	require.NoError(t, db.Set([]byte("CurrentTerm"), raw))
	require.NoError(t, db.Close())
	require.ErrorContains(t, c.RefusesToStart(n), "cannot tell how it voted")
}

// Alone nobody can give anything again: the log is not touched.
func TestDamageOfTheOnlyNodeIsRefused(t *testing.T) {
	c := cluster.Start(t, 1)
	c.MustWrite("register", "v1")
	n := c.Nodes[0]
	c.Stop(n)
	_, before := n.LogRange(t)
	n.DamageEntry(t, 2)
	require.ErrorContains(t, c.RefusesToStart(n), "names no other voter")
	n.DamageEntry(t, 2) // the bit is right again
	_, after := n.LogRange(t)
	require.Equal(t, before, after)
	c.StartNode(n)
	require.Equal(t, "v1", c.MustRead("register"))
}

// Entries and snapshots of another node, or of the time before a rotation, are
// no entries and snapshots here.
func TestANodeWithTheWrongStorageKeyIsRefusedAndNothingIsTouched(t *testing.T) {
	c := cluster.Start(t, 3)
	c.MustWrite("register", "v1")
	n := c.Others(c.Leader())[0]
	c.Stop(n)
	right := n.StorageKeys
	n.StorageKeys = map[uint32][]byte{2: cluster.NewStorageKey(t)}
	require.ErrorContains(t, c.RefusesToStart(n), "a storage key that this node does not have")
	n.StorageKeys = map[uint32][]byte{1: cluster.NewStorageKey(t)}
	require.Error(t, c.RefusesToStart(n))
	n.StorageKeys = right
	c.StartNode(n)
	require.False(t, n.Raft().Mending(), "nothing was cut")
}

// A folder is sealed under a new key while the node is down, and what was
// written before is there afterwards, under that key alone.
func TestResealedFolderOpensByTheNewKeyAlone(t *testing.T) {
	c := cluster.StartWith(t, 1, cluster.Options{Snapshot: raft.SnapshotConfig{Threshold: 8, Interval: 20 * time.Millisecond, Trailing: 4}})
	n := c.Nodes[0]
	for i := range 40 {
		c.MustWrite("register", fmt.Sprint("v", i))
	}
	cluster.Await(t, "a snapshot", func() bool { return n.Snapshots() > 0 })
	c.Stop(n)
	old := n.StorageKeys
	n.StorageKeys = map[uint32][]byte{1: old[1], 2: cluster.NewStorageKey(t)}
	interrupted := errors.New("interrupted")
	require.ErrorIs(t, raft.Reseal(c.Config(n), func() error { return interrupted }), interrupted)
	done := 0
	require.NoError(t, raft.Reseal(c.Config(n), func() error { done++; return nil }))
	require.Equal(t, 1, done)
	newest := n.StorageKeys[2]
	n.StorageKeys = old
	require.ErrorContains(t, c.RefusesToStart(n), "a storage key that this node does not have")
	n.StorageKeys = map[uint32][]byte{2: newest}
	c.StartNode(n)
	require.Equal(t, "v39", c.MustRead("register"))
	require.ErrorContains(t, raft.Reseal(c.Config(n), nil), "in use")
}

// A node whose storage key is lost begins with an empty log, and knows how it
// voted; what it holds comes from the others.
func TestANodeThatLostItsStorageKeyStartsOver(t *testing.T) {
	c := cluster.Start(t, 3)
	c.MustWrite("register", "v1")
	n := c.Others(c.Leader())[0]
	cluster.Await(t, "the write", func() bool { return cluster.Value(n.Raft().Local(), "register") == "v1" })
	c.Stop(n)
	_, last := n.LogRange(t)
	n.StorageKeys = map[uint32][]byte{2: cluster.NewStorageKey(t)}
	interrupted := errors.New("interrupted")
	require.ErrorIs(t, raft.StartOver(c.Config(n), func() error { return interrupted }), interrupted)
	n.StorageKeys = map[uint32][]byte{2: cluster.NewStorageKey(t)} // that key was lost too
	require.NoError(t, raft.StartOver(c.Config(n), func() error { return nil }))
	_, left := n.LogRange(t)
	require.Zero(t, left)
	c.StartNode(n)
	require.True(t, n.Raft().Mending() || n.Raft().Local().Index() > 0)
	cluster.Await(t, "the log to be whole", func() bool { return !n.Raft().Mending() && cluster.Value(n.Raft().Local(), "register") == "v1" })
	c.Stop(n)
	_, now := n.LogRange(t)
	require.GreaterOrEqual(t, now, last)

	alone := cluster.Start(t, 1)
	alone.Stop(alone.Nodes[0])
	require.ErrorContains(t, raft.StartOver(alone.Config(alone.Nodes[0]), nil), "the only member")
}

// holders answers the files below dir that hold text.
func holders(t *testing.T, dir, text string) []string {
	t.Helper()
	var out []string
	files := 0
	require.NoError(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		files++
		raw, err := os.ReadFile(path)
		if bytes.Contains(raw, []byte(text)) {
			out = append(out, path)
		}
		return err
	}))
	require.Positive(t, files)
	return out
}

// The names that the state is full of are on no disk, neither in the log nor
// in snapshots, one's own or a received one.
func TestAStolenDiskShowsNoName(t *testing.T) {
	const name = "a-name-that-tells-much"
	var off atomic.Bool
	c := cluster.StartWith(t, 3, cluster.Options{
		Snapshot: raft.SnapshotConfig{Threshold: 8, Interval: 20 * time.Millisecond, Trailing: 2},
		Faults: func(id string) *raft.Faults {
			return &raft.Faults{Cut: func(string) bool { return off.Load() && id == "n3" }}
		},
	})
	c.MustWrite(name, name+"-before")
	off.Store(true) // n3 falls behind what the others keep of the log
	writer := c.LeaderAmong(c.Nodes[0], c.Nodes[1])
	for i := range 60 {
		c.MustWrite(name, fmt.Sprint(name, "-", i))
	}
	cluster.Await(t, "a snapshot", func() bool { return writer.Snapshots() > 0 })
	off.Store(false)
	index := c.Leader().Raft().Local().Index()
	for _, n := range c.Nodes {
		cluster.Await(t, n.ID+" to have all", func() bool { return n.Raft().Local().Index() >= index })
		cluster.Await(t, "a snapshot of "+n.ID, func() bool { return n.Snapshots() > 0 })
		require.Empty(t, holders(t, n.DataDir, name), n.ID)
	}

	// The control: the same search finds what the library would have written.
	plain := t.TempDir()
	db, err := boltstore.NewBoltStore(filepath.Join(plain, "raft.db"))
	require.NoError(t, err)
	require.NoError(t, db.StoreLog(&hraft.Log{Index: 1, Term: 1, Data: []byte("put " + name)}))
	require.NoError(t, db.Close())
	state, err := os.Create(filepath.Join(plain, "state.bin"))
	require.NoError(t, err)
	m := fsm.New()
	command, err := fsm.Encode(fsm.PutPolicy{
		Meta: fsm.Meta{Time: time.Now().UnixMilli(), Principal: "admin", RequestID: "r"},
		Name: name, Statements: []fsm.Statement{{Effect: "allow", Actions: []string{"a"}, Paths: []string{"/x/*"}}},
	})
	require.NoError(t, err)
	for i, command := range [][]byte{cluster.Genesis(t), command} {
		result, err := m.Apply(uint64(i+2), command)
		require.NoError(t, err)
		require.Nil(t, result.Refused)
	}
	_, err = m.Snapshot().WriteTo(state)
	require.NoError(t, errors.Join(err, state.Close()))
	require.Len(t, holders(t, plain, name), 2)
}
