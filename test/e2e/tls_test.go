package e2e_test

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/api/wire"
	"github.com/strongroom/strongroom/test/localcluster"
)

// rotating is a cluster of which every node has its own file of authorities and
// of gossip keys, as on machines of their own, so that one may be a step ahead.
type rotating struct{ newcomers }

func (r rotating) bundle(node int) string { return filepath.Join(r.NodeDir(node), "cluster-ca.pem") }
func (r rotating) ring(node int) string   { return filepath.Join(r.NodeDir(node), "gossip.key") }

func newRotating(t *testing.T) rotating {
	t.Helper()
	c := suite.Fresh(t, 3)
	r := rotating{newNewcomers(t, c)}
	c.Stop()
	for node := 1; node <= 3; node++ {
		r.copy(filepath.Join(c.Dir, "cluster-ca.pem"), r.bundle(node))
		r.copy(filepath.Join(c.Dir, "gossip.key"), r.ring(node))
		text := readFile(t, r.config(node))
		for _, file := range []string{"cluster-ca.pem", "gossip.key"} {
			here := regexp.MustCompile(`"[^"\n]*/` + regexp.QuoteMeta(file) + `"`)
			require.Len(t, here.FindAllString(text, -1), 1)
			text = here.ReplaceAllLiteralString(text, strconv.Quote(filepath.Join(r.NodeDir(node), file)))
		}
		// Only a connection that does not come back may cost the leader its
		// office here, not a machine that is busy.
		// What gossip refuses stands in the log at this level only.
		text += "log: {level: debug}\nraft: {heartbeat: 12s, election: 12s, lease: 6s, stallMax: 24s, stallFatal: 60s}\n"
		r.write(r.config(node), text)
	}
	for _, authority := range []string{"new-api", "new-link"} {
		r.run(0, "tls", "create-ca", "--cert", r.file(authority+".pem"), "--key", r.file(authority+"-key.pem"), "--name", authority)
	}
	// Clients come to trust the new authority of the API first.
	r.run(0, "tls", "add-ca", "--bundle", filepath.Join(c.Dir, "ca.pem"), "--ca-cert", r.file("new-api.pem"))
	c.Up()
	return r
}

func (r rotating) write(path, text string) {
	r.t.Helper()
	require.NoError(r.t, os.WriteFile(path, []byte(text), 0o600))
}

func (r rotating) copy(from, to string) { r.t.Helper(); r.write(to, readFile(r.t, from)) }

// reload has a node read its files, and waits until it has.
func (r rotating) reload(node int) {
	r.t.Helper()
	const line = "reloading certificates, authorities and gossip keys"
	before := strings.Count(r.Log(node), line)
	r.Signal(node, syscall.SIGHUP)
	r.Await(localcluster.Name(node)+" to reload", func() bool { return strings.Count(r.Log(node), line) > before })
}

// tls is what the members show and trust.
func (r rotating) tls() (wire.TLSResponse, map[string]wire.MemberTLS) {
	r.t.Helper()
	var out wire.TLSResponse
	answer := r.Send(1, r.Token, "cluster/tls", `{}`)
	require.Equal(r.t, http.StatusOK, answer.Status, "%s", answer.Body)
	require.NoError(r.t, json.Unmarshal(answer.Body, &out))
	members := map[string]wire.MemberTLS{}
	for _, m := range out.Members {
		members[m.NodeID] = m
	}
	return out, members
}

// takes reloads a node and waits until it says that it is what is wanted.
func (r rotating) takes(node int, what string, is func(m wire.MemberTLS) bool) {
	r.t.Helper()
	r.reload(node)
	r.Await(localcluster.Name(node)+" "+what, func() bool {
		_, members := r.tls()
		m := members[localcluster.Name(node)]
		return m.Error == "" && len(m.Refused) == 0 && is(m)
	})
}

// refuses spoils a file of a node, and sees it go on with what it had and say
// so. Then the file is as it was.
func (r rotating) refuses(node int, of, path, content, says string) {
	r.t.Helper()
	good := readFile(r.t, path)
	_, before := r.tls()
	name := localcluster.Name(node)
	r.write(path, content)
	r.reload(node)
	r.Await(name+" to refuse "+path, func() bool {
		_, members := r.tls()
		return strings.Contains(members[name].Refused[of], says)
	})
	_, after := r.tls()
	m := after[name]
	m.Refused = nil
	require.Equal(r.t, before[name], m, "what was in use stays")
	require.Contains(r.t, r.Metrics(node), `strongroom_tls_file_refused{of="`+of+`"} 1`)
	r.Await("the log to name the file", func() bool {
		return strings.Contains(r.Log(node), filepath.Base(path)) && strings.Contains(r.Log(node), "goes on with what it had")
	})
	r.write(path, good)
	r.takes(node, "to use the file again", func(wire.MemberTLS) bool { return true })
}

// letsIn reports whether a node's link takes a certificate: it then answers the
// question whether the node may take part.
func (r rotating) letsIn(node int, cert tls.Certificate) bool {
	r.t.Helper()
	conn, err := tls.Dial("tcp", r.link(node), &tls.Config{
		Certificates: []tls.Certificate{cert}, NextProtos: []string{"strongroom-join/1"}, MinVersion: tls.VersionTLS13,
		InsecureSkipVerify: true, // who is there is not what is asked
	})
	if err != nil {
		return false
	}
	defer conn.Close()
	require.NoError(r.t, conn.SetDeadline(time.Now().Add(localcluster.Patience)))
	question := `{"address":"127.0.0.1:1","folder":"AAAA"}`
	_, _ = conn.Write(append([]byte{0, byte(len(question))}, question+"\x00\x00"...)) // who is refused may be gone already
	_, err = conn.Read(make([]byte, 1))
	return err == nil
}

func (r rotating) pair(node int) tls.Certificate {
	r.t.Helper()
	cert, err := tls.LoadX509KeyPair(filepath.Join(r.NodeDir(node), "node.pem"), filepath.Join(r.NodeDir(node), "node-key.pem"))
	require.NoError(r.t, err)
	return cert
}

// Certificates, both authorities and the gossip key are replaced in three steps
// while clients read and write: nothing is restarted, no operation fails, and
// the leader stays. Afterwards what is old opens nothing.
func TestEverythingOnTheWireRotatesUnderLoad(t *testing.T) {
	r := newRotating(t)
	leader := r.Leader()
	term := metric(t, r.Metrics(leader), "strongroom_raft_term")
	servers := map[int]int{}
	for node := 1; node <= 3; node++ {
		p, runs := r.Server(node)
		require.True(t, runs)
		servers[node] = p.PID
	}
	oldPair, oldKey := r.pair(2), readFile(t, r.ring(1))
	_, members := r.tls()
	oldAuthority, oldGossip := members["node1"].Authority, members["node1"].GossipKeys[0]
	require.Len(t, oldAuthority, 64)
	require.True(t, r.letsIn(1, oldPair), "or its refusal at the end shows nothing")

	done, stop := r.load(1, 2, 3)
	goOn := func() {
		t.Helper()
		more := done.Load() + 40
		r.Await("operations to go on", func() bool { return done.Load() > more })
	}
	goOn()

	t.Log("step 1: trust both")
	r.run(0, "tls", "gossip-key", "add", "--file", r.ring(1))
	for node := 1; node <= 3; node++ {
		if node == 2 {
			r.refuses(node, "authorities", r.bundle(node), readFile(t, r.bundle(node))[:200], "its end is missing")
			r.refuses(node, "gossip", r.ring(node), oldKey+"AAAA\n", "key 2 is not 32 bytes")
		}
		r.run(0, "tls", "add-ca", "--bundle", r.bundle(node), "--ca-cert", r.file("new-link.pem"))
		if node > 1 {
			r.copy(r.ring(1), r.ring(node))
		}
		r.takes(node, "to trust both", func(m wire.MemberTLS) bool { return len(m.Trusts) == 2 && len(m.GossipKeys) == 2 })
		all, _ := r.tls()
		for _, a := range all.Authorities {
			require.Equal(t, node == 3 || a.Fingerprint == oldAuthority, a.MayIssue, "when all trust it")
		}
		goOn()
	}
	_, members = r.tls()
	newGossip := members["node1"].GossipKeys[1]

	t.Log("step 2: use the new")
	r.run(0, "tls", "gossip-key", "use", "--file", r.ring(1), "--fingerprint", newGossip)
	for node := 1; node <= 3; node++ {
		dir := r.NodeDir(node)
		if node == 2 {
			r.refuses(node, "authorities", r.bundle(node), readFile(t, r.file("new-link.pem")), "lacks the authority of this node's certificate")
			r.refuses(node, "link", filepath.Join(dir, "node.pem"), readFile(t, filepath.Join(r.NodeDir(3), "node.pem")), "private key does not match")
			r.refuses(node, "api", filepath.Join(dir, "api-key.pem"), "no key", "failed to find any PEM data")
		}
		r.run(0, "tls", "issue-node", "--replace", "--ca-cert", r.file("new-link.pem"), "--ca-key", r.file("new-link-key.pem"), "--config", r.config(node))
		r.run(0, "tls", "issue-server", "--replace", "--ca-cert", r.file("new-api.pem"), "--ca-key", r.file("new-api-key.pem"), "--host", "127.0.0.1",
			"--cert", filepath.Join(dir, "api.pem"), "--key", filepath.Join(dir, "api-key.pem"))
		if node > 1 {
			r.copy(r.ring(1), r.ring(node))
		}
		r.takes(node, "to show the new certificates", func(m wire.MemberTLS) bool {
			return m.Authority != oldAuthority && m.GossipKeys[0] == newGossip && strings.Contains(m.APIIssuer, "new-api")
		})
		all, _ := r.tls()
		for _, a := range all.Authorities {
			require.Equal(t, node == 3 && a.Fingerprint == oldAuthority, a.MayDrop, "when nobody needs it")
		}
		goOn()
	}

	t.Log("step 3: trust the new alone")
	r.run(0, "tls", "gossip-key", "drop", "--file", r.ring(1), "--fingerprint", oldGossip)
	for node := 1; node <= 3; node++ {
		if node == 2 {
			r.refuses(node, "authorities", r.bundle(node), "", "holds no certificate")
			r.refuses(node, "gossip", r.ring(node), "", "holds no key")
		}
		r.run(0, "tls", "drop-ca", "--bundle", r.bundle(node), "--fingerprint", oldAuthority[:16])
		if node > 1 {
			r.copy(r.ring(1), r.ring(node))
		}
		r.takes(node, "to trust the new alone", func(m wire.MemberTLS) bool { return len(m.Trusts) == 1 && len(m.GossipKeys) == 1 })
		goOn()
	}

	require.False(t, r.letsIn(1, oldPair), "the old authority is worth nothing")
	require.True(t, r.letsIn(1, r.pair(2)), "the control")
	cut := 0.0
	r.Await("connections from before to be cut", func() bool {
		cut = 0
		for node := 1; node <= 3; node++ {
			cut += metric(t, r.Metrics(node), "strongroom_raft_untrusted_connections_total")
		}
		return cut > 0
	})
	goOn()
	require.NoError(t, stop(), "of %d operations", done.Load())
	t.Logf("%d operations, %v connections cut", done.Load(), cut)
	require.Equal(t, leader, r.Leader())
	require.Equal(t, term, metric(t, r.Metrics(leader), "strongroom_raft_term"), "nobody stood for election")
	for node, pid := range servers {
		p, runs := r.Server(node)
		require.True(t, runs && p.PID == pid, "nothing was restarted")
		require.NotContains(t, r.Log(node), strings.TrimSpace(oldKey))
	}
	r.oldGossipKeyIsRefused(oldKey)
}

// oldGossipKeyIsRefused: a member that knows only the old key is not heard of
// until it has the new one, and is a member all the same.
func (r rotating) oldGossipKeyIsRefused(oldKey string) {
	node := r.Others(r.Leader())[1]
	name, fresh := localcluster.Name(node), readFile(r.t, r.ring(node))
	alive := func() bool {
		for _, m := range r.members(r.Leader()) {
			if m.NodeID == name {
				return m.Alive
			}
		}
		return false
	}
	r.Await(name+" to be heard of", alive)
	r.Kill(node)
	r.Await(name+" not to be heard of", func() bool { return !alive() })
	r.write(r.ring(node), oldKey)
	before := len(r.Log(node))
	r.StartNode(node)
	r.AwaitReady(node)
	r.Await("gossip to be refused", func() bool {
		return strings.Contains(r.Log(node)[before:], "o installed keys could decrypt the message")
	})
	require.False(r.t, alive(), "it speaks, and nobody listens")
	r.write(r.ring(node), fresh)
	r.reload(node)
	r.Await(name+" to be heard of again", alive)
}

// metric answers a value without labels.
func metric(t *testing.T, text, name string) float64 {
	t.Helper()
	for line := range strings.Lines(text) {
		if value, found := strings.CutPrefix(line, name+" "); found {
			v, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
			require.NoError(t, err)
			return v
		}
	}
	require.Fail(t, fmt.Sprintf("no metric %s", name))
	return 0
}
