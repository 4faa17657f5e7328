package raft

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/internal/atrest"
	"github.com/strongroom/strongroom/internal/fault"
	"github.com/strongroom/strongroom/internal/names"
	"github.com/strongroom/strongroom/internal/pki"
	"github.com/strongroom/strongroom/internal/secret"
	"github.com/strongroom/strongroom/internal/wrapped"

	hraft "github.com/hashicorp/raft"
)

const (
	testCluster = "c1"
	patience    = 60 * time.Second
)

// authority issues certificates for one cluster.
type authority struct {
	t    *testing.T
	pair pki.Pair
	pool *x509.CertPool
}

func newAuthority(t *testing.T) *authority {
	pair, err := pki.CreateCA("test", time.Now())
	require.NoError(t, err)
	pool := x509.NewCertPool()
	require.True(t, pool.AppendCertsFromPEM(pair.Cert))
	return &authority{t: t, pair: pair, pool: pool}
}

func (a *authority) issue(cluster, node string) *tls.Certificate {
	pair, err := pki.IssueNode(a.pair, cluster, node, time.Now())
	require.NoError(a.t, err)
	cert, err := tls.X509KeyPair(pair.Cert, pair.Key)
	require.NoError(a.t, err)
	return &cert
}

func (a *authority) identity(cluster, node string) *identity {
	cert := a.issue(cluster, node)
	return &identity{
		cluster: cluster, authorities: func() *x509.CertPool { return a.pool }, member: func(string) bool { return true },
		certificate: func() (*tls.Certificate, error) { return cert, nil },
	}
}

// config answers a node n1 of a cluster with the given other members, which
// need not exist.
func (a *authority) config(t *testing.T) (Config, net.Listener) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	cert := a.issue(testCluster, "n1")
	return Config{
		NodeID: "n1", ClusterID: testCluster, DataDir: filepath.Join(t.TempDir(), "data"), LinkListener: l,
		Storage:          func(bool) (*atrest.Keys, error) { return testKeys(t, 1), nil },
		AdvertiseAddress: l.Addr().String(), APIAddress: "https://n1", Version: "test",
		Certificate: func() (*tls.Certificate, error) { return cert, nil }, Authorities: func() *x509.CertPool { return a.pool },
		Gossip: GossipConfig{BindAddress: "127.0.0.1:0", Keys: testGossipKeys(7)},
	}, l
}

// testGossipKeys answers keys that differ, one for each number.
func testGossipKeys(numbers ...byte) []secret.Bytes {
	var out []secret.Bytes
	for _, n := range numbers {
		out = append(out, secret.New(bytes.Repeat([]byte{n}, 32)))
	}
	return out
}

func testGenesis(t *testing.T) []byte {
	t.Helper()
	const keyID = "00000000-0000-4000-8000-000000000001"
	blob := func(id string) wrapped.Key {
		return wrapped.Key{ID: id, Version: 1, Spec: wrapped.AES256, Usage: "encrypt", Wrap: wrapped.RFC3394, Root: 1, Blob: []byte("b"), MAC: []byte("m")}
	}
	command, err := fsm.Encode(fsm.GenesisCommand{
		Meta: fsm.Meta{Time: 1_750_000_000_000, Principal: "init", RequestID: "genesis"},
		Genesis: fsm.Genesis{ClusterID: testCluster, Root: fsm.Root{
			Version: 1, CheckValue: []byte{1, 2, 3}, MACCheck: []byte("check"), Canary: blob("canary"), CanaryIV: []byte("iv"), CanaryBox: []byte("box"),
			Copies: []fsm.RootCopy{{NodeID: "n1", Fingerprint: []byte("f"), Wrap: "rsa-oaep-sha1", RootKey: []byte("r"), MACKey: []byte("k")}},
		}},
		DefaultKey: fsm.Key{
			ID: keyID, Spec: wrapped.AES256, Usage: "encrypt", Origin: "hsm", State: fsm.KeyActive, Current: 1,
			Aliases: []string{names.DefaultAlias}, Versions: []fsm.KeyVersion{{CreatedAt: 1_750_000_000_000, Wrapped: blob(keyID)}},
		},
		Admin:      fsm.Principal{Name: "admin", Kind: "user", Policies: []string{fsm.FullAccess}},
		AdminToken: fsm.Token{ID: "admin-token", Hash: bytes.Repeat([]byte{1}, 32), Principal: "admin", ExpiresAt: 1_750_000_100_000},
		Policies:   []fsm.Policy{{Name: fsm.FullAccess, Statements: []fsm.Statement{{Effect: "allow", Roles: []string{fsm.FullAccess}}}}},
	})
	require.NoError(t, err)
	return command
}

// bootstrapped answers the configuration of a cluster of n1 alone.
func bootstrapped(t *testing.T) Config {
	t.Helper()
	c, l := newAuthority(t).config(t)
	require.NoError(t, Bootstrap(c, []Server{{ID: "n1", Address: l.Addr().String()}}, testGenesis(t)))
	return c
}

func open(t *testing.T, c Config) *Node {
	t.Helper()
	n, err := Open(context.Background(), c, fsm.New())
	require.NoError(t, err)
	t.Cleanup(func() { shut(t, n) })
	return n
}

func shut(t *testing.T, n *Node) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	require.NoError(t, n.Close(ctx))
}

// reopen gives c a new listener on its address.
func reopen(t *testing.T, c Config) Config {
	t.Helper()
	l, err := net.Listen("tcp", c.AdvertiseAddress)
	require.NoError(t, err)
	c.LinkListener = l
	return c
}

func awaitReady(t *testing.T, n *Node) {
	t.Helper()
	require.Eventually(t, func() bool { _, self, _ := n.Leader(); return self }, patience, time.Millisecond)
}

func TestGenesisIsTheSecondEntryAndAppliedOnce(t *testing.T) {
	c := bootstrapped(t)
	done, err := Initialised(c.DataDir)
	require.NoError(t, err)
	require.True(t, done)
	n := open(t, c)
	awaitReady(t, n)
	state, err := n.ReadState(context.Background())
	require.NoError(t, err)
	require.NotNil(t, state.Genesis())
	require.Equal(t, uint64(2), state.Index())
	var e hraft.Log
	require.NoError(t, n.data.logs.GetLog(2, &e))
	require.Equal(t, hraft.LogCommand, e.Type)
	require.Equal(t, uint64(1), e.Term)
}

func TestBootstrapHappensOnce(t *testing.T) {
	c := bootstrapped(t)
	servers := []Server{{ID: "n1", Address: c.AdvertiseAddress}}
	require.ErrorContains(t, Bootstrap(c, servers, testGenesis(t)), "belongs to a cluster already")
	// Nor without the marker, as after a crash before it was written.
	require.NoError(t, os.Remove(filepath.Join(c.DataDir, markerFile)))
	require.ErrorContains(t, Bootstrap(c, servers, testGenesis(t)), "belongs to a cluster already")
	n := open(t, c)
	awaitReady(t, n)
	done, err := Initialised(c.DataDir)
	require.NoError(t, err)
	require.True(t, done, "the marker that was missed is made up for")
}

func TestBootstrapRefusesWhatWouldMakeNoCluster(t *testing.T) {
	c, l := newAuthority(t).config(t)
	self := Server{ID: "n1", Address: l.Addr().String()}
	require.NoError(t, l.Close())
	for name, attempt := range map[string]func() error{
		"no genesis":      func() error { return Bootstrap(c, []Server{self}, nil) },
		"garbage genesis": func() error { return Bootstrap(c, []Server{self}, []byte("garbage")) },
		"without self":    func() error { return Bootstrap(c, []Server{{ID: "n2", Address: "a:1"}}, testGenesis(t)) },
		"nobody":          func() error { return Bootstrap(c, nil, testGenesis(t)) },
		"one id twice":    func() error { return Bootstrap(c, []Server{self, {ID: "n1", Address: "a:1"}}, testGenesis(t)) },
		"one address":     func() error { return Bootstrap(c, []Server{self, {ID: "n2", Address: self.Address}}, testGenesis(t)) },
		"no address":      func() error { return Bootstrap(c, []Server{self, {ID: "n2"}}, testGenesis(t)) },
	} {
		require.Error(t, attempt(), name)
		done, err := Initialised(c.DataDir)
		require.NoError(t, err)
		require.False(t, done, name)
	}
}

func TestBlankNodeWaitsAndLeadsNobody(t *testing.T) {
	c, l := newAuthority(t).config(t)
	c.InitialMembers = []Server{{ID: "n1", Address: l.Addr().String()}}
	c.Timing = Timing{Heartbeat: 20 * time.Millisecond, Election: 20 * time.Millisecond, Lease: 10 * time.Millisecond}
	n := open(t, c)
	_, err := n.ReadState(context.Background())
	require.True(t, fault.Is(err, fault.NoLeader))
	_, err = n.Propose(context.Background(), testGenesis(t))
	require.True(t, fault.Is(err, fault.NoLeader))
	_, _, known := n.Leader()
	require.False(t, known)
	require.Equal(t, hraft.Follower, n.raft.State())
	done, err := Initialised(c.DataDir)
	require.NoError(t, err)
	require.False(t, done)
}

func TestNodeThatKnowsNobodyIsRefused(t *testing.T) {
	c, _ := newAuthority(t).config(t)
	_, err := Open(context.Background(), c, fsm.New())
	require.ErrorContains(t, err, "initial members")
}

func TestLostLogRefusesToStart(t *testing.T) {
	for name, lose := range map[string]func(path string) error{
		"removed":   os.Remove,
		"truncated": func(path string) error { return os.Truncate(path, 0) },
		"emptied": func(path string) error {
			if err := os.Remove(path); err != nil {
				return err
			}
			s, err := openLogStore(path, time.Second, testKeys(t, 1), false)
			if err != nil {
				return err
			}
			return s.close()
		},
	} {
		c := bootstrapped(t)
		require.NoError(t, lose(filepath.Join(c.DataDir, storeFile)), name)
		_, err := Open(context.Background(), c, fsm.New())
		require.ErrorContains(t, err, "the log of this node is lost", name)
	}
}

func TestCutDatabaseRefusesToStart(t *testing.T) {
	c := bootstrapped(t)
	path := filepath.Join(c.DataDir, storeFile)
	require.NoError(t, os.Truncate(path, 4096))
	_, err := Open(context.Background(), c, fsm.New())
	require.Error(t, err)
}

func TestFlippedByteRefusesToStart(t *testing.T) {
	c := bootstrapped(t)
	damage(t, filepath.Join(c.DataDir, storeFile), 2)
	_, err := Open(context.Background(), c, fsm.New())
	var corrupt *CorruptError
	require.ErrorAs(t, err, &corrupt)
	require.Equal(t, uint64(2), corrupt.Index)
}

func TestFolderOfAnotherNodeIsRefused(t *testing.T) {
	c := bootstrapped(t)
	raw, err := os.ReadFile(filepath.Join(c.DataDir, markerFile))
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(c.DataDir, markerFile), bytes.Replace(raw, []byte("n1"), []byte("n9"), 1), 0o600))
	_, err = Open(context.Background(), c, fsm.New())
	require.ErrorContains(t, err, `belongs to node "n9"`)
}

func TestFolderIsUsedByOneProcessOnly(t *testing.T) {
	c := bootstrapped(t)
	open(t, c)
	c.LinkListener = nil
	c.BindAddress = "127.0.0.1:0"
	_, err := Open(context.Background(), c, fsm.New())
	require.ErrorContains(t, err, "in use")
}

func TestEverythingOnDiskIsPrivate(t *testing.T) {
	c := bootstrapped(t)
	n := open(t, c)
	awaitReady(t, n)
	require.NoError(t, n.raft.Snapshot().Error())
	snapshots := 0
	err := filepath.WalkDir(c.DataDir, func(path string, d fs.DirEntry, err error) error {
		require.NoError(t, err)
		info, err := d.Info()
		require.NoError(t, err)
		if d.IsDir() {
			require.Equal(t, fs.FileMode(0o700), info.Mode().Perm(), path)
		} else {
			require.Equal(t, fs.FileMode(0o600), info.Mode().Perm(), path)
		}
		if d.Name() == "state.bin" {
			snapshots++
		}
		return nil
	})
	require.NoError(t, err)
	require.Equal(t, 1, snapshots)
}

func TestUnreadableSnapshotDoesNotRollTheStateBack(t *testing.T) {
	c := bootstrapped(t)
	c.Snapshot.Trailing = 1
	n := open(t, c)
	awaitReady(t, n)
	require.NoError(t, n.raft.Snapshot().Error())
	for range 8 {
		require.NoError(t, n.raft.Barrier(time.Minute).Error())
	}
	_, err := n.Propose(context.Background(), sweep(t))
	require.NoError(t, err)
	require.NoError(t, n.raft.Snapshot().Error())
	shut(t, n)
	newest, err := n.data.snaps.List()
	require.NoError(t, err)
	require.Len(t, newest, 2)
	flipAt(t, filepath.Join(c.DataDir, "snapshots", newest[0].ID, "state.bin"), 100)
	_, err = Open(context.Background(), reopen(t, c), fsm.New())
	require.ErrorContains(t, err, "entries between are lost")
}

// flipAt changes one bit of a file.
func flipAt(t *testing.T, path string, at int) {
	t.Helper()
	raw, err := os.ReadFile(path)
	require.NoError(t, err)
	raw[at] ^= 0x10
	require.NoError(t, os.WriteFile(path, raw, 0o600))
}

func sweep(t *testing.T) []byte {
	command, err := fsm.Encode(fsm.Sweep{Meta: fsm.Meta{Time: 1_750_000_000_001}, Limit: 10})
	require.NoError(t, err)
	return command
}

func TestCommandThatThisBuildCannotReadStopsTheNode(t *testing.T) {
	c := bootstrapped(t)
	fatal := make(chan error, 1)
	c.Fatal = func(err error) { fatal <- err }
	n := open(t, c)
	awaitReady(t, n)
	before := n.Local()
	unreadable := []byte{0xff, 0xfe, 1, 's', 'e', 'c', 'r', 'e', 't'}
	_, err := n.Propose(context.Background(), unreadable)
	require.True(t, fault.Is(err, fault.Conflict), "a node proposes nothing that it cannot read: %v", err)
	future := n.raft.Apply(unreadable, patience) // a later release would
	require.NoError(t, future.Error())
	out, is := future.Response().(outcome)
	require.True(t, is)
	require.True(t, fault.Is(n.proposalError(nil, out.err), fault.Uncertain), "%v", out.err)
	err = <-fatal
	var halt *fsm.HaltError
	require.ErrorAs(t, err, &halt)
	require.NotContains(t, err.Error(), "secret")
	require.Same(t, before, n.Local())
	_, err = n.ReadState(context.Background())
	require.True(t, fault.Is(err, fault.NoLeader), "a node that has stopped applying must not answer: %v", err)
	require.Error(t, n.raft.Snapshot().Error(), "a snapshot would claim an index that was not applied")
}

func TestProposeBounds(t *testing.T) {
	c := bootstrapped(t)
	c.MaxCommandBytes = 1024
	n := open(t, c)
	awaitReady(t, n)
	_, err := n.Propose(context.Background(), make([]byte, 1025))
	require.True(t, fault.Is(err, fault.TooLarge), "%v", err)
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	_, err = n.Propose(ended, sweep(t))
	require.True(t, fault.Is(err, fault.NoLeader), "%v", err)
	_, err = n.ReadState(ended)
	require.True(t, err == nil || fault.Is(err, fault.NoLeader), "%v", err)
}

func TestConfigIsChecked(t *testing.T) {
	good, l := newAuthority(t).config(t)
	require.NoError(t, l.Close())
	require.NoError(t, good.withDefaults().check())
	for name, change := range map[string]func(*Config){
		"node":       func(c *Config) { c.NodeID = "" },
		"cluster":    func(c *Config) { c.ClusterID = "" },
		"folder":     func(c *Config) { c.DataDir = "" },
		"cert":       func(c *Config) { c.Certificate = nil },
		"authority":  func(c *Config) { c.Authorities = nil },
		"gossip key": func(c *Config) { c.Gossip.Keys = []secret.Bytes{secret.New(make([]byte, 16))} },
		"gossip":     func(c *Config) { c.Gossip.BindAddress = ":1" },
		"lease":      func(c *Config) { c.Timing.Lease = 200 * time.Millisecond },
		"election":   func(c *Config) { c.Timing.Election = 100 * time.Millisecond },
		"stall":      func(c *Config) { c.Timing.StallMax = time.Millisecond },
		"storage":    func(c *Config) { c.Storage = nil },
		"fatal":      func(c *Config) { c.Timing.StallFatal = time.Second },
		"command":    func(c *Config) { c.MaxCommandBytes = fsm.MaxCommandBytes + 1 },
	} {
		c := good
		change(&c)
		require.Error(t, c.withDefaults().check(), name)
	}
}

func TestNodeCanBeOpenedAgainWithTheSameMetrics(t *testing.T) {
	c := bootstrapped(t)
	registry := prometheus.NewRegistry()
	c.Registerer = registry
	n := open(t, c)
	awaitReady(t, n)
	families, err := registry.Gather()
	require.NoError(t, err)
	require.NotEmpty(t, families)
	shut(t, n)
	again := open(t, reopen(t, c))
	awaitReady(t, again)
	_, err = again.ReadState(context.Background())
	require.NoError(t, err)
}

// hidesPreVote is what a wrapper with a transport as a plain field, or as an
// interface, would be.
type hidesPreVote struct{ hraft.Transport }

func TestTransportKeepsPreVote(t *testing.T) {
	n := open(t, bootstrapped(t))
	require.NoError(t, checkPreVote(n.guard))
	require.Error(t, checkPreVote(hidesPreVote{n.guard}))
	_, err := n.guard.AppendEntriesPipeline("n1", "a:1")
	require.ErrorIs(t, err, hraft.ErrPipelineReplicationNotSupported)
}
