package atrest

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/strongroom/strongroom/internal/durable"
	"github.com/strongroom/strongroom/internal/fault"
	"github.com/strongroom/strongroom/internal/secret"
)

// FileName is the file of the storage keys in the data folder.
const FileName = "storage.keys"

const (
	fileFormat = "strongroom storage keys 1"
	maxFile    = 1 << 20

	// rootsRemoved is for how many generations back a rotation looks for
	// storage roots that an earlier one left in the HSM.
	rootsRemoved = 8
)

// Root is this node's HSM, as far as storage keys are concerned: it makes
// storage roots, which never leave it, by an id, and seals under them.
// AlreadyExists and NotFound say what their names say; HsmUnavailable, that
// another time may do.
type Root interface {
	CreateStorageRoot(ctx context.Context, id []byte) error
	SealStorage(ctx context.Context, id []byte, key secret.Bytes, aad []byte) (iv, box []byte, err error)
	OpenStorage(ctx context.Context, id, iv, box, aad []byte) (secret.Bytes, error)
	RemoveStorageRoot(ctx context.Context, id []byte) error
}

// Place says whose keys are meant, and where they lie.
type Place struct {
	DataDir       string
	Cluster, Node string
	Root          Root
}

func (p Place) path() string { return filepath.Join(p.DataDir, FileName) }

// The file of the storage keys. Each key is sealed under a storage root of its
// own, so that what was sealed under a key that was replaced can be opened by
// nobody once that root was removed from the HSM, whoever kept a copy of the
// file.
type file struct {
	Format  string   `json:"format"`
	Cluster string   `json:"cluster"`
	Node    string   `json:"node"`
	Keys    []sealed `json:"keys"`
}

type sealed struct {
	Generation uint32 `json:"generation"`
	IV         []byte `json:"iv"`
	Box        []byte `json:"box"`
}

// rootID names the storage root of one generation in the HSM. Nodes that
// share an HSM have different ones.
func (p Place) rootID(number uint32) []byte {
	h := sha256.Sum256(p.aad("strongroom storage root id v1", number))
	return h[:16]
}

func (p Place) aad(kind string, number uint32) []byte {
	var out []byte
	for _, part := range []string{kind, p.Cluster, p.Node} {
		out = binary.BigEndian.AppendUint32(out, uint32(len(part)))
		out = append(out, part...)
	}
	return binary.BigEndian.AppendUint32(out, number)
}

const keyKind = "strongroom storage key v1"

// Open answers the storage keys of the place. Where fresh says that nothing
// was ever stored there, the first key is made; else a file that is missing is
// an error.
func Open(ctx context.Context, p Place, fresh bool) (*Keys, error) {
	f, err := p.read()
	if errors.Is(err, os.ErrNotExist) {
		if !fresh {
			return nil, fmt.Errorf("the data folder %s has a log and no %s: it was written by a build that did not seal it, or the file is lost. "+
				"Without the file nobody can open the log; see \"A node that lost its storage key\" in docs/operations.md", p.DataDir, FileName)
		}
		return p.first(ctx)
	}
	if err != nil {
		return nil, err
	}
	return p.open(ctx, f)
}

func (p Place) first(ctx context.Context) (*Keys, error) {
	f := file{Format: fileFormat, Cluster: p.Cluster, Node: p.Node}
	if err := p.add(ctx, &f, 1); err != nil {
		return nil, err
	}
	keys, err := p.open(ctx, f)
	if err != nil {
		return nil, err
	}
	return keys, p.write(f)
}

// add makes a key of the generation, and the root that it is sealed under.
func (p Place) add(ctx context.Context, f *file, number uint32) error {
	// A root that is there already is left from an attempt that ended before
	// its file was written: nothing is sealed under it.
	if err := p.Root.CreateStorageRoot(ctx, p.rootID(number)); err != nil && !fault.Is(err, fault.AlreadyExists) {
		return fmt.Errorf("make the storage root: %w", err)
	}
	key := secret.New(make([]byte, KeyBytes))
	defer key.Wipe()
	if _, err := rand.Read(key.Expose()); err != nil {
		return err
	}
	iv, box, err := p.Root.SealStorage(ctx, p.rootID(number), key, p.aad(keyKind, number))
	if err != nil {
		return fmt.Errorf("seal the storage key: %w", err)
	}
	f.Keys = append(f.Keys, sealed{Generation: number, IV: iv, Box: box})
	return nil
}

func (p Place) open(ctx context.Context, f file) (*Keys, error) {
	keys := map[uint32]secret.Bytes{}
	defer func() {
		for _, key := range keys {
			key.Wipe()
		}
	}()
	for _, s := range f.Keys {
		key, err := p.Root.OpenStorage(ctx, p.rootID(s.Generation), s.IV, s.Box, p.aad(keyKind, s.Generation))
		switch {
		case fault.Is(err, fault.HsmUnavailable):
			return nil, err
		case fault.Is(err, fault.NotFound):
			return nil, fmt.Errorf("the HSM has no storage root for generation %d of %s: it is another HSM than the one that this node was started with; "+
				"see \"A node that lost its storage key\" in docs/operations.md: %w", s.Generation, p.path(), err)
		case err != nil:
			return nil, fmt.Errorf("the HSM does not open generation %d of %s: the file was changed, or is of another node: %w", s.Generation, p.path(), err)
		}
		keys[s.Generation] = key
	}
	return New(p.Cluster, p.Node, keys)
}

// Rotation is the change to a new storage key. It can be begun again at any
// point: what was begun is then gone on with.
type Rotation struct {
	Keys  *Keys // the newest seals from now on
	place Place
	file  file
}

// Rotate makes a new storage key and a storage root for it, unless a rotation
// was begun and not ended. The caller seals everything anew by Keys, and then
// calls End.
func Rotate(ctx context.Context, p Place) (*Rotation, error) {
	f, err := p.read()
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("%s is not there: there is no storage key to begin with; if it is lost, add --lost", p.path())
	}
	if err != nil {
		return nil, err
	}
	if len(f.Keys) == 1 {
		if err := p.add(ctx, &f, f.Keys[0].Generation+1); err != nil {
			return nil, err
		}
	}
	keys, err := p.open(ctx, f)
	if err != nil {
		return nil, err
	}
	return &Rotation{Keys: keys, place: p, file: f}, p.write(f)
}

// Replace makes a new storage key where the old ones are lost, with the HSM or
// the file. Nothing that was sealed before opens by it. The caller makes the
// data folder fit for that, and then calls End.
func Replace(ctx context.Context, p Place) (*Rotation, error) {
	f, err := p.read()
	if errors.Is(err, os.ErrNotExist) {
		f, err = file{Format: fileFormat, Cluster: p.Cluster, Node: p.Node}, nil
	}
	if err != nil {
		return nil, err
	}
	number := uint32(1)
	for _, s := range f.Keys {
		number = max(number, s.Generation+1)
	}
	lost := f.Keys
	f.Keys = nil
	if err := p.add(ctx, &f, number); err != nil {
		return nil, err
	}
	keys, err := p.open(ctx, f)
	if err != nil {
		return nil, err
	}
	f.Keys = append(lost, f.Keys...)
	return &Rotation{Keys: keys, place: p, file: f}, nil
}

// End forgets all generations but the newest, in the file and then in the HSM.
func (r *Rotation) End(ctx context.Context) error {
	newest := r.Keys.Newest()
	f := r.file
	f.Keys = nil
	for _, s := range r.file.Keys {
		if s.Generation == newest {
			f.Keys = append(f.Keys, s)
		}
	}
	if err := r.place.write(f); err != nil {
		return err
	}
	// Also those of rotations that ended between the file and the HSM.
	for number := newest - 1; number > 0 && newest-number <= rootsRemoved; number-- {
		if err := r.place.Root.RemoveStorageRoot(ctx, r.place.rootID(number)); err != nil {
			return fmt.Errorf("everything is sealed under the new storage key, but the storage root of generation %d is still in the HSM: %w", number, err)
		}
	}
	return nil
}

func (p Place) read() (file, error) {
	var f file
	info, err := os.Stat(p.path())
	if err != nil {
		return f, err
	}
	if info.Size() > maxFile {
		return f, fmt.Errorf("%s is not a file of storage keys", p.path())
	}
	raw, err := os.ReadFile(p.path())
	if err != nil {
		return f, err
	}
	if err := json.Unmarshal(raw, &f); err != nil || f.Format != fileFormat || len(f.Keys) == 0 {
		return f, fmt.Errorf("%s is not a file of storage keys that this version can read", p.path())
	}
	if f.Cluster != p.Cluster || f.Node != p.Node {
		return f, fmt.Errorf("%s belongs to node %q of cluster %q", p.path(), f.Node, f.Cluster)
	}
	for i, s := range f.Keys {
		if s.Generation == 0 || i > 0 && s.Generation <= f.Keys[i-1].Generation {
			return f, fmt.Errorf("the generations in %s are not in order", p.path())
		}
	}
	return f, nil
}

// write replaces the file, so that a power cut leaves the old or the new one.
func (p Place) write(f file) error {
	raw, err := json.MarshalIndent(f, "", "  ")
	if err != nil {
		return err
	}
	if err := durable.Replace(p.path(), append(raw, '\n')); err != nil {
		return fmt.Errorf("write the storage keys: %w", err)
	}
	return nil
}
