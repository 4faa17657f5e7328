package raft

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/strongroom/strongroom/internal/durable"
)

// Whether this node may take part. A node whose folder is empty may have been
// wiped: it would have forgotten its votes and what it acknowledged, so it
// asks before it stores or votes for anything (join.go). What it was told is
// kept in the folder:
//
//	folder     "strongroom 1\n<id in hexadecimal>\n", made with the folder
//	admitted   the same id: the cluster lets the node take part with it
const (
	folderFile   = "folder"
	admittedFile = "admitted"
	folderBytes  = 16
)

// openFolderID answers the id of the data folder, making one for a folder that
// has none.
func openFolderID(dir string) ([]byte, error) {
	path := filepath.Join(dir, folderFile)
	id, err := readFolderID(path)
	if !errors.Is(err, os.ErrNotExist) {
		return id, err
	}
	id = make([]byte, folderBytes)
	if _, err := rand.Read(id); err != nil {
		return nil, fmt.Errorf("data folder: %w", err)
	}
	return id, writeFolderID(dir, folderFile, id)
}

func readFolderID(path string) ([]byte, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("data folder: %w", err)
	}
	head, text, _ := strings.Cut(strings.TrimSuffix(string(raw), "\n"), "\n")
	id, err := hex.DecodeString(text)
	if head != markerHead || err != nil || len(id) != folderBytes {
		return nil, fmt.Errorf("data folder: %s is not one that this version can read", path)
	}
	return id, nil
}

func writeFolderID(dir, name string, id []byte) error {
	if err := durable.Replace(filepath.Join(dir, name), []byte(markerHead+"\n"+hex.EncodeToString(id)+"\n")); err != nil {
		return fmt.Errorf("data folder: %w", err)
	}
	return nil
}

// openStanding reads the id of the folder and whether it was admitted. A
// folder with entries is one that took part before there were such files, or
// that has lost the second.
func (d *dataDir) openStanding() error {
	var err error
	if d.folder, err = openFolderID(d.path); err != nil {
		return err
	}
	admitted, err := readFolderID(filepath.Join(d.path, admittedFile))
	switch {
	case errors.Is(err, os.ErrNotExist):
		d.admitted.Store(d.marked)
		return nil
	case err != nil:
		return err
	case string(admitted) != string(d.folder):
		return fmt.Errorf("data folder %s: %s and %s are of two folders", d.path, folderFile, admittedFile)
	}
	d.admitted.Store(true)
	return nil
}

// admit notes, before anything is stored, that this folder takes part.
func (d *dataDir) admit() error {
	if d.admitted.Load() {
		return nil
	}
	if err := d.before(admittedFile); err != nil {
		return fmt.Errorf("data folder: %w", err)
	}
	if err := writeFolderID(d.path, admittedFile, d.folder); err != nil {
		return err
	}
	d.admitted.Store(true)
	return nil
}

// Standing answers nil if this node may take part in the cluster, and why not
// otherwise: it waits to be admitted, or was removed or refused.
func (n *Node) Standing() error {
	if why := n.refused.Load(); why != nil {
		return errors.New(*why)
	}
	if !n.data.admitted.Load() && !n.cfg.Faults.NoAdmission && !n.cfg.Faults.NeverAsks {
		e := &waitingError{strange: n.strange.Load()}
		if why := n.waiting.Load(); why != nil {
			e.why = ": " + *why
		}
		return e
	}
	return nil
}

// waitingError is what a node says that waits to be admitted.
type waitingError struct {
	why     string
	strange bool
}

func (e *waitingError) Error() string { return "this node waits to be admitted to the cluster" + e.why }

// IsStranger reports whether err, of Standing, says that the cluster knows
// nothing of the node: somebody must announce it or make a join token.
func IsStranger(err error) bool {
	var e *waitingError
	return errors.As(err, &e) && e.strange
}

// refuse fences this node: the cluster has said that it must not take part.
// Nothing but another start, with what was wrong put right, undoes it.
func (n *Node) refuse(why string) {
	if n.refused.Swap(&why) == nil {
		n.cfg.Logger.Error("this node takes no part in the cluster", "reason", why)
	}
}
