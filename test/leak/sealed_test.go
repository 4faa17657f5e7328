package leak_test

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/internal/atrest"
	"github.com/strongroom/strongroom/internal/config"
	"github.com/strongroom/strongroom/pkcs11"
	"github.com/strongroom/strongroom/raft"
	"github.com/strongroom/strongroom/test/localcluster"
)

// requireSealedClean looks for marks in what the data folders hold sealed, and
// therefore ends the cluster. The control is metadata, which the log is full
// of: not to find it in each node's log would mean that the search does not
// see what is there.
func (w *traffic) requireSealedClean(control mark) {
	w.t.Helper()
	w.c.Stop()
	for node := 1; node <= w.c.Nodes; node++ {
		stored := 0
		w.inspect(node, func(what string, data []byte) error {
			for _, leak := range w.in(localcluster.Name(node)+" "+what, data) {
				if strings.Contains(leak, control.name) {
					stored++
				} else {
					w.t.Errorf("under the seal: %s", leak)
				}
			}
			return nil
		})
		require.Positive(w.t, stored, "the control is in the log or the snapshots of every node and was not found in those of node%d", node)
	}
}

// inspect opens a data folder by the node's HSM.
func (w *traffic) inspect(node int, each func(string, []byte) error) {
	w.t.Helper()
	cfg, err := config.Load(filepath.Join(w.c.NodeDir(node), "config.yaml"))
	require.NoError(w.t, err)
	device := pkcs11.Config{
		Module: cfg.HSM.Module, TokenLabel: cfg.HSM.TokenLabel, PINFile: cfg.HSM.PINFile, SyncDir: cfg.HSM.SyncDir,
		Dialect: cfg.HSM.Dialect(), Worker: []string{w.c.Binary, "hsm-worker"},
	}
	for name, value := range cfg.HSM.Env {
		device.Env = append(device.Env, name+"="+value)
	}
	ctx := context.Background()
	d, err := pkcs11.Open(ctx, device)
	require.NoError(w.t, err)
	defer func() { require.NoError(w.t, d.Close()) }()
	place := atrest.Place{DataDir: cfg.Node.DataDir, Cluster: cfg.Cluster.ID, Node: cfg.Node.ID, Root: d}
	rc := raft.Config{
		NodeID: cfg.Node.ID, ClusterID: cfg.Cluster.ID, DataDir: cfg.Node.DataDir,
		Storage: func(fresh bool) (*atrest.Keys, error) { return atrest.Open(ctx, place, fresh) },
	}
	require.NoError(w.t, raft.Inspect(rc, each))
}

// requireNamesSealed looks for names and paths in the data folders, but for
// the audit trails, which are in the clear.
func (w *traffic) requireNamesSealed(names ...string) {
	w.t.Helper()
	trails := map[string]bool{} // that the search finds a name in
	for node := 1; node <= w.c.Nodes; node++ {
		seen, files := map[string]bool{}, 0
		require.NoError(w.t, filepath.WalkDir(filepath.Join(w.c.NodeDir(node), "data"), func(path string, d fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) || err == nil && !d.Type().IsRegular() {
				return nil
			}
			raw, readErr := os.ReadFile(path)
			if errors.Is(readErr, fs.ErrNotExist) {
				return nil // a snapshot that was replaced meanwhile
			}
			inTrail := slices.Contains(strings.Split(path, string(filepath.Separator)), "audit")
			for _, name := range names {
				switch found := bytes.Contains(raw, []byte(name)); {
				case found && inTrail:
					seen[name] = true
				case found:
					w.t.Errorf("%q is in the clear in %s", name, path)
				}
			}
			if !inTrail {
				files++
			}
			return errors.Join(err, readErr)
		}))
		require.Greater(w.t, files, 3, "the walk must have found the data folder")
		for _, name := range names {
			trails[name] = trails[name] || seen[name]
		}
	}
	for _, name := range names {
		require.True(w.t, trails[name], "%q is in no audit trail: the search does not see what is there", name)
	}
}
