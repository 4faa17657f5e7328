package leak_test

import (
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
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
	w.requireNamesSealed("/app/leak", "leak-1")
	w.requireSealedClean(control)
}

// escapeGlob is for folders with characters that Glob would interpret.
func escapeGlob(dir string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(dir)
}

// talkative has the nodes log everything, take snapshots all the time, and
// hand on their trails in every format.
func talkative(t *testing.T, c *localcluster.Cluster) {
	for node := 1; node <= c.Nodes; node++ {
		key := base64.StdEncoding.EncodeToString([]byte(core() + core()))
		require.NoError(t, os.WriteFile(filepath.Join(c.NodeDir(node), sinkKey), []byte(key), 0o600))
	}
	c.Configure(func(node int) string {
		at := func(name string) string { return strconv.Quote(filepath.Join(c.NodeDir(node), name)) }
		return "snapshots:\n  dir: " + at("saved") + "\n  every: 1m\nraft:\n  snapshotThreshold: 16\n  snapshotInterval: 1s\nlog:\n  level: debug\naudit:\n  witnesses: [" + strconv.Quote(leakWitness+"+"+base64.StdEncoding.EncodeToString(witnessKey().Public().(ed25519.PublicKey))) + "]\n  sinks:\n" +
			"    - {name: native, type: file, path: " + at("sink.native") + "}\n" +
			"    - {name: ecs, type: file, format: ecs, path: " + at("sink.ecs") + "}\n" +
			"    - {name: ocsf, type: file, format: ocsf, path: " + at("sink.ocsf") + "}\n" +
			"    - {name: out, type: stdout}\n" +
			"    - {name: hook, type: webhook, url: \"https://127.0.0.1:1/\", signingKeyFile: " + at(sinkKey) + "}\n"
	})
}

// leakWitness cosigns checkpoints; its key is nobody's secret.
const leakWitness = "w.leak.example"

func witnessKey() ed25519.PrivateKey { return ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize)) }

// sinkKey is the file of the key of a sink's signatures.
const sinkKey = "sink.key"

// knownSecrets adds what a local cluster has from its beginning: each may be
// in the one file that is made for it.
func (w *traffic) knownSecrets() {
	w.add(mark{name: "the administrator's token", text: w.c.Token, homes: []string{"admin.token"}})
	for node := 1; node <= w.c.Nodes; node++ {
		key, err := os.ReadFile(filepath.Join(w.c.NodeDir(node), sinkKey))
		require.NoError(w.t, err)
		key, err = base64.StdEncoding.DecodeString(string(key))
		require.NoError(w.t, err)
		w.add(mark{name: "the key of a sink", text: string(key), homes: []string{filepath.Join(localcluster.Name(node), sinkKey)}})
		for _, file := range []string{"hsm-pin", "hsm-so-pin"} {
			home := filepath.Join(localcluster.Name(node), file)
			pin, err := os.ReadFile(filepath.Join(w.c.Dir, home))
			require.NoError(w.t, err)
			w.add(mark{name: home, text: strings.TrimSpace(string(pin)), homes: []string{home}})
		}
	}
}

// requireClean looks everywhere. The control is metadata, which is sealed on
// the disk and is no leak elsewhere.
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
	for place, leaks := range found {
		for _, leak := range leaks {
			sealed := strings.HasSuffix(place, "raft.db") || strings.HasSuffix(place, "state.bin")
			if strings.Contains(leak, control.name) && !sealed {
				continue
			}
			w.t.Errorf("%s: %s", when, leak)
		}
	}
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
