package localcluster

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// Suite is what the tests of one package share: the binary, built once, and a
// cluster for tests that leave it as they found it. The zero value is ready;
// TestMain calls Run.
type Suite struct {
	binary string
	dir    string
	shared *machine
}

// Run builds the binary, runs the tests, and stops the shared cluster. It
// answers the exit code.
func (s *Suite) Run(m *testing.M) int {
	var err error
	if s.dir, err = os.MkdirTemp("", "strongroom-test-"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(s.dir)
	s.binary = os.Getenv("STRONGROOM_BINARY")
	if s.binary == "" {
		s.binary = filepath.Join(s.dir, "strongroom")
		out, err := exec.Command("go", "build", "-o", s.binary, "github.com/strongroom/strongroom/cmd/strongroom").CombinedOutput()
		if err != nil {
			fmt.Fprintf(os.Stderr, "%v\n%s", err, out)
			return 1
		}
	}
	code := m.Run()
	if s.shared != nil {
		if err := s.shared.stop(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	return code
}

// Dir answers a folder that is removed after the last test of the package.
func (s *Suite) Dir() string { return s.dir }

// Binary answers the path of the binary.
func (s *Suite) Binary() string { return s.binary }

// Shared answers the cluster of the package, with every node ready. Whoever
// takes a node down starts it again; tests that use it are not parallel.
func (s *Suite) Shared(t testing.TB) *Cluster {
	t.Helper()
	if s.shared == nil {
		m := newMachine(t, s.binary, filepath.Join(s.dir, folder), 3)
		s.shared = m
		c := m.of(t)
		c.Up()
		return c
	}
	c := s.shared.of(t)
	c.Revive()
	return c
}

// Fresh starts a cluster of so many nodes for one test, which stops when the
// test ends. flags are more of those of strongroom dev.
func (s *Suite) Fresh(t testing.TB, nodes int, flags ...string) *Cluster {
	t.Helper()
	return s.FreshOf(t, s.binary, nodes, flags...)
}

// FreshOf is Fresh with another binary.
func (s *Suite) FreshOf(t testing.TB, binary string, nodes int, flags ...string) *Cluster {
	t.Helper()
	m := newMachine(t, binary, filepath.Join(t.TempDir(), folder), nodes)
	m.flags = flags
	c := m.of(t)
	t.Cleanup(func() {
		if err := m.stop(); err != nil {
			t.Error(err)
		}
	})
	c.Up()
	return c
}

// folder is a name that a program which forgets to quote stumbles over.
const folder = "a 'local' cluster"
