package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/internal/config"
	"github.com/strongroom/strongroom/pkcs11"
	"github.com/strongroom/strongroom/raft"
)

// TestMain serves as the HSM worker too: a Device starts its own binary.
func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == "hsm-worker" {
		os.Exit(pkcs11.WorkerMain())
	}
	os.Exit(m.Run())
}

func TestExitCodes(t *testing.T) {
	dir := t.TempDir()
	broken := filepath.Join(dir, "broken.yaml")
	require.NoError(t, os.WriteFile(broken, []byte("node: {idd: x}"), 0o600))
	for _, c := range []struct {
		args string
		want int
	}{
		{"config defaults", exitDone},
		{"config check --config " + broken, exitFailed},
		{"config check --config " + filepath.Join(dir, "none"), exitFailed},
		{"config check", exitUsage},
		{"config check extra", exitUsage},
		{"config chek", exitUsage},
		{"nothing", exitUsage},
		{"server --nothing", exitUsage},
		{"server", exitUsage},
		{"tls create-ca", exitUsage},
		{"init", exitUsage},
		{"dev --nodes 0 --dir " + dir, exitUsage},
		{"dev --base-port 80 --dir " + dir, exitUsage},
	} {
		require.Equal(t, c.want, execute(context.Background(), strings.Fields(c.args), strings.NewReader(""), io.Discard, io.Discard), c.args)
	}
}

func TestTransportKeyTravelsAsTextAndIsPEMForOthers(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	require.NoError(t, err)
	text := formatTransportKey("node2", pkcs11.TransportKey{PublicDER: der, Fingerprint: []byte{1}, Wrap: "rsa-oaep-sha256"})
	got, err := parseTransportKey("node2", text)
	require.NoError(t, err)
	require.Equal(t, pkcs11.Recipient{NodeID: "node2", PublicDER: der, Wrap: "rsa-oaep-sha256"}, got)
	_, bare, _ := bytes.Cut(text, []byte("-----BEGIN"))
	got, err = parseTransportKey("node2", append([]byte("-----BEGIN"), bare...))
	require.NoError(t, err)
	require.Empty(t, got.Wrap, "a bare PEM works too")
	for _, wrong := range [][]byte{nil, []byte("x"), append(text, text...)} {
		_, err = parseTransportKey("node2", wrong)
		require.Error(t, err)
	}
}

func TestInitWantsATransportKeyOfEveryMember(t *testing.T) {
	cfg := config.Config{Node: config.Node{ID: "node1"}}
	cfg.Cluster.InitialMembers = []config.Member{{ID: "node1"}, {ID: "node2"}, {ID: "node3"}}
	_, err := readRecipients(cfg, nil)
	require.ErrorContains(t, err, "missing for node2, node3")
	_, err = readRecipients(cfg, []string{"node4=/x"})
	require.ErrorContains(t, err, `"node4"`)
	_, err = readRecipients(cfg, []string{"node2"})
	require.ErrorContains(t, err, "NODE=FILE")
}

func TestShellQuote(t *testing.T) {
	for _, s := range []string{"/plain/path.yaml", "with space", "it's", "$(boom)", "", "a;b", "ü"} {
		out, err := exec.Command("sh", "-c", "printf %s "+shellQuote(s)).Output()
		require.NoError(t, err)
		require.Equal(t, s, string(out))
	}
}

func localCluster(t *testing.T, dir string) *devCluster {
	t.Helper()
	d := &devCluster{dir: dir, nodes: 2, basePort: 41000, profile: pkcs11.Strict, out: io.Discard}
	require.NoError(t, d.prepare())
	return d
}

func TestSetUpOfALocalClusterIsMadeOnceAndAgainIfItWasCutShort(t *testing.T) {
	d := localCluster(t, filepath.Join(t.TempDir(), "with space 'and quote"))
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	release, err := d.lock()
	require.NoError(t, err)
	defer release()
	require.Error(t, d.setUp(ctx), "a set-up that is interrupted")
	require.NoFileExists(t, d.path(markComplete))
	half, err := os.ReadFile(d.path("ca.pem"))
	require.NoError(t, err, "the interruption came in the middle")

	require.NoError(t, d.setUp(context.Background()))
	whole, err := os.ReadFile(d.path("ca.pem"))
	require.NoError(t, err)
	require.NotEqual(t, half, whole)
	for node := 1; node <= 2; node++ {
		_, err := loadConfig(d.nodePath(node, "config.yaml"))
		require.NoError(t, err)
	}
	done, err := raft.Initialised(d.nodePath(1, "data"))
	require.NoError(t, err)
	require.True(t, done)
	done, err = raft.Initialised(d.nodePath(2, "data"))
	require.NoError(t, err)
	require.False(t, done)

	require.NoError(t, d.setUp(context.Background()))
	again, err := os.ReadFile(d.path("ca.pem"))
	require.NoError(t, err)
	require.Equal(t, whole, again, "what is complete is left alone")

	cfg, err := loadConfig(d.nodePath(1, "config.yaml"))
	require.NoError(t, err)
	before, err := os.ReadFile(d.path("admin.token"))
	require.NoError(t, err)
	err = initCluster(context.Background(), cfg, initOptions{tokenFile: d.path("second.token"), ttl: devAdminTTL,
		transportKeys: []string{"node2=" + d.nodePath(2, "transport-key.pem")}}, io.Discard)
	require.ErrorContains(t, err, "once in the life of a cluster")
	require.NoFileExists(t, d.path("second.token"))
	after, err := os.ReadFile(d.path("admin.token"))
	require.NoError(t, err)
	require.Equal(t, before, after)

	other := *d
	other.nodes = 3
	require.ErrorContains(t, other.setUp(context.Background()), "--nodes 2 --base-port 41000")
}

func TestFilesOfALocalClusterAreOursOnly(t *testing.T) {
	d := localCluster(t, filepath.Join(t.TempDir(), "c"))
	release, err := d.lock()
	require.NoError(t, err)
	defer release()
	require.NoError(t, d.setUp(context.Background()))
	require.NoError(t, filepath.WalkDir(d.dir, func(path string, entry os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		require.Zero(t, info.Mode().Perm()&0o077, path)
		return err
	}))
}

func TestAFolderOfSomebodyElseIsNotEmptied(t *testing.T) {
	dir := t.TempDir()
	precious := filepath.Join(dir, "thesis.tex")
	require.NoError(t, os.WriteFile(precious, []byte("x"), 0o600))
	d := localCluster(t, dir)
	_, err := d.lock()
	require.ErrorContains(t, err, "neither empty nor a local cluster")
	require.FileExists(t, precious)
}

func TestASecondSupervisorIsRefused(t *testing.T) {
	dir := t.TempDir()
	d := localCluster(t, dir)
	release, err := d.lock()
	require.NoError(t, err)
	_, err = localCluster(t, dir).lock()
	require.ErrorContains(t, err, "another strongroom dev")
	release()
	release, err = localCluster(t, dir).lock()
	require.NoError(t, err)
	release()
}

// A pid file names a process only if that process is a server of this folder
// that a supervisor started: numbers of processes are used again, and what
// somebody started by hand is theirs.
func TestOnlyOrphansOfThisFolderAreStopped(t *testing.T) {
	d := localCluster(t, t.TempDir())
	require.NoError(t, os.MkdirAll(d.nodePath(1), 0o700))
	for _, pid := range []string{"", "x", "1", "-1", "999999999"} {
		require.NoError(t, os.WriteFile(d.nodePath(1, "pid"), []byte(pid), 0o600))
		require.NoError(t, d.stopOrphans(context.Background()), pid)
	}
	start := func(args ...string) (*exec.Cmd, io.Closer) {
		cmd := exec.Command("sh", append([]string{"-c", "read x"}, args...)...)
		in, err := cmd.StdinPipe()
		require.NoError(t, err)
		require.NoError(t, cmd.Start())
		require.NoError(t, writeFile(d.nodePath(1, "pid"), []byte(strconv.Itoa(cmd.Process.Pid))))
		return cmd, in
	}
	config := d.nodePath(1, "config.yaml")
	for _, args := range [][]string{{"--config", config}, {"--config", config + "2", "--" + supervisedFlag}, {}} {
		cmd, in := start(args...)
		require.NoError(t, d.stopOrphans(context.Background()))
		require.NoError(t, in.Close())
		var exit *exec.ExitError
		require.ErrorAs(t, cmd.Wait(), &exit)
		require.Equal(t, 1, exit.ExitCode(), "it read the end of its input, and was not killed: %v", args)
	}
	cmd, in := start("--config", config, "--"+supervisedFlag)
	defer in.Close()
	waited := make(chan error, 1)
	go func() { waited <- cmd.Wait() }()
	require.NoError(t, d.stopOrphans(context.Background()))
	require.ErrorContains(t, <-waited, "terminated")
}

func TestSoftHSMThatIsMissingIsNamedWithItsPackage(t *testing.T) {
	_, err := findSoftHSM("/nowhere/libsofthsm2.so")
	require.ErrorContains(t, err, "apt-get install softhsm2")
}
