package e2e_test

import (
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/test/localcluster"
)

// A place in CK_FUNCTION_LIST, and return values of PKCS #11.
const (
	ckDecrypt = 34

	ckrDeviceError, ckrObjectHandleInvalid, ckrSessionHandleInvalid = 0x30, 0x82, 0xB3
)

// sickHSMs is the table of test/hsm/testdata/faulty.c before each node's
// SoftHSM; the file of a node is its worker's memory, too.
type sickHSMs struct {
	t     *testing.T
	files []*os.File
	all   int // the last rule, for all functions together, by chance
}

// ruleBytes is what a rule has: calls, pass, fail, rv, hang, every; the last
// one: failed, open sessions, calls, rv, nothing, one in.
const ruleBytes = 6 * 4

// functions answers how many functions PKCS #11 has, which is where the table
// has its two last rules: a rule in the wrong place is one of nothing.
func functions(t *testing.T) int {
	t.Helper()
	header, err := os.ReadFile("../../pkcs11/ck.h")
	require.NoError(t, err)
	found := regexp.MustCompile(`\bCK_FUNCTIONS = (\d+)`).FindSubmatch(header)
	require.NotNil(t, found)
	n, err := strconv.Atoi(string(found[1]))
	require.NoError(t, err)
	return n
}

// sicken puts the faulty module before the real one, on every node of c.
func sicken(t *testing.T, c *localcluster.Cluster) *sickHSMs {
	t.Helper()
	library := filepath.Join(t.TempDir(), "faulty.so")
	out, err := exec.Command("gcc", "-shared", "-fPIC", "-O1", "-I", "../../pkcs11", "-o", library, "../hsm/testdata/faulty.c", "-ldl").CombinedOutput()
	require.NoError(t, err, string(out))
	module := regexp.MustCompile(`(?m)^(  module: )"(.+)"$`)
	c.Stop()
	s := &sickHSMs{t: t, all: functions(t) + 1}
	for node := 1; node <= c.Nodes; node++ {
		control := filepath.Join(t.TempDir(), "control")
		require.NoError(t, os.WriteFile(control, make([]byte, (s.all+1)*ruleBytes), 0o600))
		file, err := os.OpenFile(control, os.O_RDWR, 0)
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, file.Close()) })
		s.files = append(s.files, file)

		path := filepath.Join(c.NodeDir(node), "config.yaml")
		config, err := os.ReadFile(path)
		require.NoError(t, err)
		real := module.FindSubmatch(config)
		require.NotNil(t, real)
		config = module.ReplaceAll(config, fmt.Appendf(nil, `${1}%q`, library))
		config = regexp.MustCompile(`(?m)^  env:$`).ReplaceAll(config, fmt.Appendf(nil, "  env:\n    FAULTY_REAL: %q\n    FAULTY_CONTROL: %q", real[2], control))
		// What is served from memory meets no fault.
		config = append(config, "kms:\n  cachedDataKeys: 0\n"...)
		require.NoError(t, os.WriteFile(path, config, 0o600))
	}
	c.Up()
	return s
}

func (s *sickHSMs) word(node, function, word int) uint32 {
	var b [4]byte
	_, err := s.files[node-1].ReadAt(b[:], int64(function*ruleBytes+4*word))
	require.NoError(s.t, err)
	return binary.NativeEndian.Uint32(b[:])
}

// failEach makes each call of function whose number n divides answer rv, on
// all nodes; 0 ends that.
func (s *sickHSMs) failEach(function int, rv, n uint32) {
	for _, file := range s.files {
		for word, value := range map[int]uint32{3: rv, 5: n} {
			_, err := file.WriteAt(binary.NativeEndian.AppendUint32(nil, value), int64(function*ruleBytes+4*word))
			require.NoError(s.t, err)
		}
	}
}

func (s *sickHSMs) decrypted(node int) int { return int(s.word(node, ckDecrypt, 0)) }

// failed answers how many calls the rules have made fail, on all nodes.
func (s *sickHSMs) failed() (n int) {
	for node := range s.files {
		n += int(s.word(node+1, s.all, 0))
	}
	return n
}

func (s *sickHSMs) sessions(node int) int { return int(s.word(node, s.all, 1)) }

// tally is what the nodes have noticed so far.
type tally struct {
	requests, failed int         // of all nodes, those included that their clients repeat
	workers          map[int]int // process of each node's worker
	sessions         map[int]int // open in each node's HSM
	handed           int         // times that a node gave up leadership by itself
}

func (s *sickHSMs) tally(c *localcluster.Cluster) tally {
	out := tally{workers: map[int]int{}, sessions: map[int]int{}}
	served := regexp.MustCompile(`(?m)^strongroom_requests_total\{code="(\w+)",.*\} (\d+)$`)
	for node := 1; node <= c.Nodes; node++ {
		for _, row := range served.FindAllStringSubmatch(c.Metrics(node), -1) {
			n, err := strconv.Atoi(row[2])
			require.NoError(s.t, err)
			out.requests += n
			switch row[1] {
			case "ok", "NoLeader", "Uncertain": // of the last two a busy machine makes some
			default:
				out.failed += n
			}
		}
		worker, _ := c.Worker(node)
		out.workers[node], out.sessions[node] = worker.PID, s.sessions(node)
		out.handed += strings.Count(c.Log(node), "handing leadership on")
	}
	return out
}

// TestSixtyFourClientsOnASickHSM: on every node one decryption in fifty meets
// a session or a handle that went bad, and then one call in fifty, of any
// function, an error of the device. An application sees no error and no wrong
// value; fewer than one request in a thousand fails, even before clients
// repeat it; no worker is lost to it and no leader gives up; and afterwards
// nothing is left of it: no session, no caller that waits.
func TestSixtyFourClientsOnASickHSM(t *testing.T) {
	c := suite.Fresh(t, 3)
	s := sicken(t, c)
	const clients = 64
	loads := make([]*load, 0, clients/4)
	for i := range cap(loads) { // four applications each, and four that ask one node without a client
		loads = append(loads, startLoad(t, c, fmt.Sprintf("/app/e2e/sick%d", i), []int{1, 2, 3}))
	}
	more := func(n int) { // of each
		targets := make([]int, len(loads))
		for i, l := range loads {
			targets[i] = l.count() + n
		}
		c.Await(fmt.Sprintf("%d more requests of each", n), func() bool {
			for i, l := range loads {
				if l.count() < targets[i] {
					return false
				}
			}
			return true
		})
	}
	more(4)
	for _, fault := range []struct {
		name     string
		function int
		rv       uint32
	}{
		{"session", ckDecrypt, ckrSessionHandleInvalid}, {"handle", ckDecrypt, ckrObjectHandleInvalid}, {"device", s.all, ckrDeviceError},
	} {
		leader, before := c.Leader(), s.tally(c)
		decrypted, injected := s.decrypted(leader), s.failed()
		s.failEach(fault.function, fault.rv, 50)
		more(12)
		s.failEach(fault.function, 0, 0)
		more(2)
		after := s.tally(c)
		requests, failed := after.requests-before.requests, after.failed-before.failed
		injected = s.failed() - injected
		t.Logf("%s: %d of %d requests failed, by %d calls that did", fault.name, failed, requests, injected)
		require.Greater(t, s.decrypted(leader), decrypted+1000, fault.name)
		require.Greater(t, injected, 10, "%s: no fault hit", fault.name)
		require.Less(t, failed*1000, requests, fault.name)
		require.Equal(t, before.workers, after.workers, fault.name)
		require.Equal(t, before.sessions, after.sessions, "%s: a session leaked", fault.name)
		require.Equal(t, before.handed, after.handed, "%s: leadership wandered", fault.name)
	}
	served := 0
	for _, l := range loads {
		l.halt()
		require.Empty(t, l.errs, "an application saw this")
		require.Empty(t, l.refused)
		served += l.count()
	}
	t.Logf("%d pairs of put and get were served", served)
	for node := 1; node <= 3; node++ {
		c.AwaitReady(node)
		c.OK(node, "kms/encrypt", `{"keyId":"alias/default","plaintext":"eA=="}`)
	}
}
