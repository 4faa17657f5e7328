package e2e_test

import (
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/test/localcluster"
)

// Places in CK_FUNCTION_LIST, and return values of PKCS #11.
const (
	ckOpenSession, ckCloseSession, ckDecrypt, ckFunctions = 12, 13, 34, 68

	ckrDeviceError, ckrObjectHandleInvalid, ckrSessionHandleInvalid = 0x30, 0x82, 0xB3
)

// sickHSMs is the table of test/hsm/testdata/faulty.c before each node's
// SoftHSM; the file of a node is its worker's memory, too.
type sickHSMs struct {
	t     *testing.T
	files []*os.File
}

const ruleBytes = 6 * 4 // calls, pass, fail, rv, hang, every

// sicken puts the faulty module before the real one, on every node of c. The
// nodes' own probes are put off: one that meets a fault rightly ends the
// worker, and this is about what callers meet.
func sicken(t *testing.T, c *localcluster.Cluster) *sickHSMs {
	t.Helper()
	library := filepath.Join(t.TempDir(), "faulty.so")
	out, err := exec.Command("gcc", "-shared", "-fPIC", "-O1", "-I", "../../pkcs11", "-o", library, "../hsm/testdata/faulty.c", "-ldl").CombinedOutput()
	require.NoError(t, err, string(out))
	module := regexp.MustCompile(`(?m)^(  module: )"(.+)"$`)
	c.Stop()
	s := &sickHSMs{t: t}
	for node := 1; node <= c.Nodes; node++ {
		control := filepath.Join(t.TempDir(), "control")
		require.NoError(t, os.WriteFile(control, make([]byte, (ckFunctions+1)*ruleBytes), 0o600))
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
		config = regexp.MustCompile(`(?m)^  env:$`).ReplaceAll(config, fmt.Appendf(nil, "  probeInterval: 1m\n  env:\n    FAULTY_REAL: %q\n    FAULTY_CONTROL: %q", real[2], control))
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

func (s *sickHSMs) calls(node, function int) int { return int(s.word(node, function, 0)) }

// TestSixtyFourClientsOnASickHSM: on every node one decryption in fifty meets
// a session or a handle that went bad, and later one in a thousand a device
// error. An application sees no error and no wrong value; bad sessions and
// handles cost no worker; and afterwards nothing is left of it: no session, no
// caller that waits. Device errors are rarer here because each costs a worker:
// at one in fifty a node serves hardly anything (pkcs11/DESIGN.md).
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
		name         string
		rv, every    uint32
		costsWorkers bool
	}{
		{"session", ckrSessionHandleInvalid, 50, false}, {"handle", ckrObjectHandleInvalid, 50, false}, {"device", ckrDeviceError, 1000, true},
	} {
		leader := c.Leader()
		worker, _ := c.Worker(leader)
		decrypted := s.calls(leader, ckDecrypt)
		open := s.calls(leader, ckOpenSession) - s.calls(leader, ckCloseSession)
		s.failEach(ckDecrypt, fault.rv, fault.every)
		more(12)
		s.failEach(ckDecrypt, 0, 0)
		more(2)
		require.Greater(t, s.calls(leader, ckDecrypt), decrypted+1000, "%s: the faults hit", fault.name)
		if now, _ := c.Worker(leader); !fault.costsWorkers {
			require.Equal(t, worker.PID, now.PID, fault.name)
			require.Equal(t, open, s.calls(leader, ckOpenSession)-s.calls(leader, ckCloseSession), "%s: a session leaked", fault.name)
		} else {
			require.NotEqual(t, worker.PID, now.PID, "a worker whose device fails is replaced")
		}
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
