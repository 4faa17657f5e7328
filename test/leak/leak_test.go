package leak_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/engine"
	"github.com/strongroom/strongroom/test/localcluster"
)

// TestNoSecretIsFoundInAnythingThatWasWritten runs every operation of the
// table, its mistakes, the command line and the death of a leader in the middle
// of it, on a cluster that logs all it can and takes snapshots all the time.
func TestNoSecretIsFoundInAnythingThatWasWritten(t *testing.T) {
	c := suite.Fresh(t, 3)
	talkative(t, c)
	w := &traffic{t: t, c: c, core: core(), exercised: map[string]bool{}}
	w.add(mark{name: "a value", text: w.core})
	w.knownSecrets()
	control := mark{name: "the control", text: "control " + core()}
	w.add(control)

	w.ok("secrets/createSecret", `{"path":"/app/leak/control","description":"%s"}`, inJSON(control.text, false))
	w.secrets("/app/leak/s1")
	w.keys("alias/leak-1")
	w.jobs("leak-1")
	stranger := w.principals("leak-1")
	w.mistakes("/app/leak/s1", stranger)
	w.lostTokens(stranger)
	w.cluster()
	w.requireClean("before anything broke", control)

	stop := w.background("/app/leak/background")
	leader := c.Leader()
	w.secrets("/app/leak/s2")
	c.Kill(leader)
	w.secrets("/app/leak/s3")
	w.keys("alias/leak-2")
	w.jobs("leak-2")
	c.StartNode(leader)
	w.principals("leak-2")
	c.AwaitReady(leader)
	stop()
	w.wrongPIN(c.Others(c.Leader())[0])
	w.commands("/app/leak/cli")
	w.watched("/app/leak/watched")
	w.cluster()

	for _, op := range engine.Operations() {
		require.True(t, w.exercised[op.Path()], "%s was not run; give it a line in this test", op.Path())
	}
	require.Len(t, w.exercised, len(engine.Operations()))
	for node := 1; node <= 3; node++ {
		c.AwaitReady(node)
		c.Await("a snapshot of "+localcluster.Name(node), func() bool {
			found, err := filepath.Glob(filepath.Join(escapeGlob(c.NodeDir(node)), "data", "snapshots", "*", "state.bin"))
			require.NoError(t, err)
			return len(found) > 0
		})
	}
	w.requireClean("at the end", control)
}

// escapeGlob is for folders with characters that Glob would interpret.
func escapeGlob(dir string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(dir)
}

// talkative has the nodes log everything and take snapshots all the time.
func talkative(t *testing.T, c *localcluster.Cluster) {
	c.Stop()
	for node := 1; node <= c.Nodes; node++ {
		file := filepath.Join(c.NodeDir(node), "config.yaml")
		config, err := os.ReadFile(file)
		require.NoError(t, err)
		config = append(config, "raft:\n  snapshotThreshold: 16\n  snapshotInterval: 1s\nlog:\n  level: debug\n"...)
		require.NoError(t, os.WriteFile(file, config, 0o600))
	}
	c.Up()
}

// knownSecrets adds what a local cluster has from its beginning: each may be
// in the one file that is made for it.
func (w *traffic) knownSecrets() {
	w.add(mark{name: "the administrator's token", text: w.c.Token, homes: []string{"admin.token"}})
	for node := 1; node <= w.c.Nodes; node++ {
		for _, file := range []string{"hsm-pin", "hsm-so-pin"} {
			home := filepath.Join(localcluster.Name(node), file)
			pin, err := os.ReadFile(filepath.Join(w.c.Dir, home))
			require.NoError(w.t, err)
			w.add(mark{name: home, text: strings.TrimSpace(string(pin)), homes: []string{home}})
		}
	}
}

// requireClean looks everywhere. The control is metadata, which is stored in
// the clear: not to find it in each node's log would mean that the search does
// not see what is there.
func (w *traffic) requireClean(when string, control mark) {
	w.t.Helper()
	found := map[string][]string{}
	files := 0
	require.NoError(w.t, filepath.WalkDir(w.c.Dir, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) || err == nil && !d.Type().IsRegular() {
			return nil // a snapshot that was replaced meanwhile, a folder
		}
		if err != nil {
			return err
		}
		data, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		files++
		place, relErr := filepath.Rel(w.c.Dir, path)
		found[place] = w.in(place, data)
		return errors.Join(err, relErr)
	}))
	require.Greater(w.t, files, 40, "the walk must have found the cluster")
	found["the terminal"] = w.in("the terminal", []byte(w.c.Terminal()))
	w.searchProcesses(found)
	for node := 1; node <= w.c.Nodes; node++ {
		place := "metrics of " + localcluster.Name(node)
		found[place] = w.in(place, []byte(w.c.Metrics(node)))
	}
	for i, a := range w.answers {
		place := fmt.Sprintf("answer %d, %s", i, a.to)
		found[place] = w.in(place, []byte(a.body))
	}
	stored := 0
	for place, leaks := range found {
		for _, leak := range leaks {
			if strings.Contains(leak, control.name) {
				if strings.HasSuffix(place, "raft.db") {
					stored++
				}
				continue
			}
			w.t.Errorf("%s: %s", when, leak)
		}
	}
	require.GreaterOrEqual(w.t, stored, w.c.Nodes, "the control is in the log of every node and was not found there")
}

// searchProcesses looks at what the system shows of the running processes.
func (w *traffic) searchProcesses(found map[string][]string) {
	w.t.Helper()
	processes := w.c.Processes()
	require.GreaterOrEqual(w.t, len(processes), 1+2*w.c.Nodes, "supervisor, servers and HSM workers")
	for _, p := range processes {
		for _, file := range []string{"cmdline", "environ"} {
			place := fmt.Sprintf("%s of %s", file, strings.Join(p.Args[1:], " "))
			data, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", p.PID, file))
			if errors.Is(err, fs.ErrPermission) && os.Geteuid() != 0 {
				continue // a server is not dumpable, so its environment is root's to read
			}
			require.NoError(w.t, err)
			found[place] = w.in(place, data)
		}
	}
}
