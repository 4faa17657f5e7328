package torture

import (
	"bytes"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
)

// patience is how long the lab waits for what must come. It is for loaded
// machines, where a false alarm costs more than a late one; what is promised
// about times is measured, not asserted.
const patience = 4 * time.Minute

// members is how many nodes the cluster begins with.
const members = 3

// Lab is a cluster of processes, each in a network of its own and on a disk of
// its own, in the hands of one test. Its methods are for the test's goroutine.
type Lab struct {
	t       testing.TB
	dir     string
	binary  string
	module  string // the faulty module, which stands before SoftHSM
	softHSM string
	cluster string // its id
	token   string // the administrator's
	nodes   []*node
	in      []int // numbers of the members now
	spare   int   // number of the next node that may join
	http    *http.Client
	roots   *x509.CertPool
}

// labShape is what a lab is made of.
type labShape struct {
	clients int
	spares  int
	diskMiB int
}

// newLab makes a cluster, starts it, and waits until it is ready.
func newLab(t testing.TB, binary string, shape labShape) *Lab {
	t.Helper()
	l := &Lab{t: t, dir: t.TempDir(), binary: binary, cluster: uuid.NewString(), spare: members + 1}
	require.NoError(t, os.Chmod(l.dir, 0o700))
	l.softHSM = findSoftHSM(t)
	l.module = filepath.Join(l.dir, "faulty.so")
	require.NoError(t, run("gcc", "-shared", "-fPIC", "-O1", "-I", "../../pkcs11", "-o", l.module, "../hsm/testdata/faulty.c", "-ldl"))
	require.NoError(t, makeBridge(shape.clients))
	l.authorities()
	for number := 1; number <= members+shape.spares; number++ {
		n := &node{lab: l, number: number, dir: filepath.Join(l.dir, fmt.Sprintf("node%d", number))}
		require.NoError(t, os.Mkdir(n.dir, 0o700))
		l.nodes = append(l.nodes, n)
		if number <= members {
			l.in = append(l.in, number)
		}
		require.NoError(t, errors.Join(n.makeNamespace(), n.makeDisk(shape.diskMiB)))
		t.Cleanup(func() {
			n.kill()
			_ = errors.Join(run("umount", "-l", n.disk), run("umount", n.netns)) // what fails here ends with this process
		})
	}
	transport := l.makeNodes()
	args := []string{"init", "--config", l.node(1).config(), "--admin-token-file", filepath.Join(l.dir, "admin.token"), "--admin-ttl", "720h"}
	for number := 1; number <= members; number++ {
		args = append(args, "--transport-key", fmt.Sprintf("%s=%s", l.node(number).name(), transport[number]))
	}
	l.cli(args...)
	token, err := os.ReadFile(filepath.Join(l.dir, "admin.token"))
	require.NoError(t, err)
	l.token = strings.TrimSpace(string(token))
	for number := 1; number <= members; number++ {
		require.NoError(t, l.node(number).start())
	}
	l.awaitReady()
	return l
}

func findSoftHSM(t testing.TB) string {
	for _, pattern := range []string{"/usr/lib/softhsm/libsofthsm2.so", "/usr/lib/*/softhsm/libsofthsm2.so", "/usr/lib64/pkcs11/libsofthsm2.so", "/usr/local/lib/softhsm/libsofthsm2.so"} {
		if found, _ := filepath.Glob(pattern); len(found) > 0 {
			return found[0]
		}
	}
	require.FailNow(t, "SoftHSM was not found; make deps installs it")
	return ""
}

func (l *Lab) authorities() {
	for _, name := range []string{"ca", "cluster-ca"} {
		l.cli("tls", "create-ca", "--name", "torture "+name, "--cert", filepath.Join(l.dir, name+".pem"), "--key", filepath.Join(l.dir, name+"-key.pem"))
	}
	pem, err := os.ReadFile(filepath.Join(l.dir, "ca.pem"))
	require.NoError(l.t, err)
	l.roots = x509.NewCertPool()
	require.True(l.t, l.roots.AppendCertsFromPEM(pem))
	l.http = &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: l.roots}}}
	key := make([]byte, 32)
	_, _ = rand.Read(key)
	require.NoError(l.t, os.WriteFile(filepath.Join(l.dir, "gossip.key"), []byte(base64.StdEncoding.EncodeToString(key)+"\n"), 0o600))
}

// makeNodes makes what each node needs before its first start, and answers the
// files of the transport keys. The spares' are admitted in everybody's
// configuration, so that they can be given the root key by a rotation.
func (l *Lab) makeNodes() map[int]string {
	transport := map[int]string{}
	var admitted []string
	// Spares first, since the configuration of all others names them.
	for _, n := range slices.Backward(l.nodes) {
		for _, dir := range []string{n.file("tokens"), filepath.Join(n.disk, "data")} {
			require.NoError(l.t, os.Mkdir(dir, 0o700))
		}
		n.write("softhsm2.conf", fmt.Sprintf("directories.tokendir = %s\nobjectstore.backend = file\nlog.level = ERROR\n", n.file("tokens")))
		n.write("hsm-pin", rand.Text()+"\n")
		n.write("hsm-so-pin", rand.Text()+"\n")
		n.write("faults", string(make([]byte, controlBytes)))
		n.write("config.yaml", l.configuration(n, admitted))
		l.cli("tls", "issue-server", "--ca-cert", filepath.Join(l.dir, "ca.pem"), "--ca-key", filepath.Join(l.dir, "ca-key.pem"), "--host", nodeAddress(n.number), "--cert", n.file("api.pem"), "--key", n.file("api-key.pem"))
		l.cli("tls", "issue-node", "--ca-cert", filepath.Join(l.dir, "cluster-ca.pem"), "--ca-key", filepath.Join(l.dir, "cluster-ca-key.pem"), "--config", n.config())
		l.cli("hsm", "init-token", "--config", n.config(), "--so-pin-file", n.file("hsm-so-pin"))
		transport[n.number] = n.file("transport-key.pem")
		l.cli("hsm", "create-transport-key", "--config", n.config(), "--out", transport[n.number])
		if n.number > members {
			admitted = append(admitted, fmt.Sprintf("%q", fingerprint(l.t, l.cli("hsm", "transport-key", "--config", n.config()))))
		}
	}
	return transport
}

func (n *node) write(name, content string) {
	require.NoError(n.lab.t, os.WriteFile(n.file(name), []byte(content), 0o600))
}

// node is the one with that number, from 1.
func (l *Lab) node(number int) *node { return l.nodes[number-1] }

// members are the nodes that belong to the cluster now.
func (l *Lab) members() []*node {
	var out []*node
	for _, number := range l.in {
		out = append(out, l.node(number))
	}
	return out
}

// cli runs the binary without a server, which must succeed.
func (l *Lab) cli(args ...string) string {
	l.t.Helper()
	out, err := l.try(args...)
	require.NoError(l.t, err)
	return out
}

// try is cli that may fail.
func (l *Lab) try(args ...string) (string, error) {
	cmd := exec.Command(l.binary, args...)
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("strongroom %s: %w: %s", strings.Join(args, " "), err, said.String())
	}
	return out.String(), nil
}

// await polls until done. It answers an error, for those who still have
// something to take back.
func (l *Lab) await(what string, done func() bool) error {
	late := time.After(patience)
	for !done() {
		select {
		case <-late:
			return fmt.Errorf("waited %v in vain for %s", patience, what)
		case <-time.After(20 * time.Millisecond):
		}
	}
	return nil
}

// awaitReady waits until every member is ready; one that has ended by itself,
// as a node does whose disk cannot be written, is started again.
func (l *Lab) awaitReady() {
	l.t.Helper()
	for _, n := range l.members() {
		require.NoError(l.t, l.await(n.name()+" to be ready", func() bool {
			if !n.runs() {
				require.NoError(l.t, n.start())
			}
			return n.healthy("ready")
		}))
	}
}

// leader is the member that leads, waiting until one does.
func (l *Lab) leader() (*node, error) {
	var found *node
	err := l.await("a leader", func() bool {
		for _, n := range l.members() {
			if n.runs() && !n.stopped() && n.healthy("leader") {
				found = n
				return true
			}
		}
		return false
	})
	return found, err
}

// awaitOther waits until a member that is not this one leads.
func (l *Lab) awaitOther(than *node) error {
	return l.await("another leader than "+than.name(), func() bool {
		for _, n := range l.others(than) {
			if n.runs() && n.healthy("leader") {
				return true
			}
		}
		return false
	})
}

// others are the members but one.
func (l *Lab) others(than *node) []*node {
	return slices.DeleteFunc(l.members(), func(n *node) bool { return n == than })
}
