package fsm_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/internal/fault"
	"github.com/strongroom/strongroom/internal/names"
	"github.com/strongroom/strongroom/internal/wrapped"
)

const (
	day        = int64(24 * 60 * 60 * 1000)
	start      = int64(1_750_000_000_000)
	defaultKey = "00000000-0000-4000-8000-000000000001"
)

// tester is what tests, fuzz targets and rapid checks have in common.
type tester interface {
	require.TestingT
	Helper()
}

// world is a machine with a log: every command gets the next index and a
// millisecond more on the clock.
type world struct {
	t     tester
	m     *fsm.Machine
	index uint64
	now   int64
	log   [][]byte
}

// newWorld answers a cluster after genesis.
func newWorld(t tester) *world {
	w := emptyWorld(t)
	w.ok(genesis(w.now))
	return w
}

func emptyWorld(t tester) *world { return &world{t: t, m: fsm.New(), now: start} }

func (w *world) meta() fsm.Meta {
	return fsm.Meta{Time: w.now, Principal: "admin", RequestID: fmt.Sprintf("request-%d", w.index+1)}
}

// do applies a command, whatever its outcome.
func (w *world) do(c fsm.Command) fsm.Result {
	w.t.Helper()
	b, err := fsm.Encode(c)
	require.NoError(w.t, err)
	w.index++
	w.now++
	w.log = append(w.log, b)
	result, err := w.m.Apply(w.index, b)
	require.NoError(w.t, err)
	require.Equal(w.t, w.index, w.m.State().Index())
	return result
}

// ok applies a command that must not be refused.
func (w *world) ok(c fsm.Command) fsm.Result {
	w.t.Helper()
	result := w.do(c)
	require.Nil(w.t, result.Refused, "%+v", result.Refused)
	if !result.Replayed {
		require.Equal(w.t, w.index, result.Index)
	}
	return result
}

// refused applies a command that must be refused with code, changing
// nothing, and with a message that holds each of the texts.
func (w *world) refused(code fault.Kind, c fsm.Command, texts ...string) *fsm.Refusal {
	w.t.Helper()
	before := records(w.t, w.m)
	result := w.do(c)
	require.NotNil(w.t, result.Refused, "must be refused: %+v", c)
	require.Equal(w.t, string(code), result.Refused.Code, result.Refused.Message)
	for _, text := range texts {
		require.Contains(w.t, result.Refused.Message, text)
	}
	require.Equal(w.t, fsm.Result{Index: w.index, Refused: result.Refused}, result)
	require.Equal(w.t, before, records(w.t, w.m), "a refused command changed the state")
	return result.Refused
}

// secret makes a secret with n versions, the last one current.
func (w *world) secret(path string, n int) {
	w.t.Helper()
	w.ok(fsm.CreateSecret{Meta: w.meta(), Path: path, SecretID: "id" + fmt.Sprint(w.index), KeyID: defaultKey})
	for range n {
		w.ok(w.put(path))
	}
}

// put is the command that adds the next version of path.
func (w *world) put(path string) fsm.PutVersion {
	s := w.m.State().Secret(names.Path(path))
	require.NotNil(w.t, s)
	return fsm.PutVersion{
		Meta: w.meta(), Path: path, SecretID: s.ID, Activate: true,
		Version: newVersion(s.Latest+1, s.KeyID),
	}
}

func (w *world) destroy(path string, version uint64) fsm.DestroyVersion {
	return fsm.DestroyVersion{Meta: w.meta(), Path: path, Version: version, Reason: "no longer used"}
}

func (w *world) get(path string) *fsm.Secret {
	w.t.Helper()
	s := w.m.State().Secret(names.Path(path))
	require.NotNil(w.t, s)
	return s
}

func (w *world) version(path string, n uint64) *fsm.Version {
	w.t.Helper()
	v := w.m.State().Version(names.Path(path), n)
	require.NotNil(w.t, v)
	return v
}

func (w *world) sweep() fsm.Result {
	w.t.Helper()
	return w.ok(fsm.Sweep{Meta: fsm.Meta{Time: w.now}, Limit: 1000})
}

func newVersion(number uint64, keyID string) fsm.NewVersion {
	return fsm.NewVersion{
		Number: number, VersionID: fmt.Sprintf("version-%d", number), Size: 9, ContentType: "text/plain",
		KeyID: keyID, KeyVersion: 1,
		Sealed: []byte("sealed value"), DataKey: []byte("wrapped data key"), Fingerprint: []byte("fingerprint"),
	}
}

func key(id string, aliases ...string) fsm.Key {
	return fsm.Key{
		ID: id, Spec: wrapped.AES256, Usage: "encrypt", Origin: "hsm", State: fsm.KeyActive, Current: 1,
		Description: "a key", Tags: map[string]string{"team": "payments"}, Aliases: aliases,
		Versions: []fsm.KeyVersion{{CreatedAt: start, Wrapped: wrapped.Key{
			ID: id, Version: 1, Spec: wrapped.AES256, Usage: "encrypt", Wrap: wrapped.RFC3394, Root: 1,
			Blob: []byte("blob of " + id), MAC: []byte("mac"),
		}}},
	}
}

// auditKey is the cluster's own, which signs checkpoints.
func auditKey(id string) fsm.Key {
	k := key(id)
	k.Spec, k.Usage, k.Purpose, k.Description, k.Tags = wrapped.ECP256, wrapped.Sign, fsm.PurposeAudit, "", nil
	k.Versions[0].Wrapped.Spec, k.Versions[0].Wrapped.Usage, k.Versions[0].Wrapped.Public = k.Spec, k.Usage, []byte("public")
	return k
}

func keyID(n int) string { return fmt.Sprintf("00000000-0000-4000-8000-%012d", n) }

// copiedVersion is version number of a source, whose sealed data key is
// dataKey, sealed anew.
func copiedVersion(number uint64, dataKey []byte) fsm.CopiedVersion {
	return fsm.CopiedVersion{
		Source: number, Old: hashOf(string(dataKey)), VersionID: fmt.Sprintf("copy-%d", number), KeyVersion: 1,
		Sealed: []byte("sealed anew"), DataKey: fmt.Appendf(nil, "wrapped anew %d", number), Fingerprint: []byte("fingerprint anew"),
	}
}

// copies are all live versions of the secret at path, sealed anew.
func (w *world) copies(path string) []fsm.CopiedVersion {
	var out []fsm.CopiedVersion
	for v := range w.m.State().Versions(names.Path(path)) {
		if v.State != fsm.VersionDestroyed {
			out = append([]fsm.CopiedVersion{copiedVersion(v.Number, v.DataKey)}, out...)
		}
	}
	return out
}

func hashOf(text string) []byte {
	sum := sha256.Sum256([]byte(text))
	return sum[:]
}

func token(id, principal string, expires int64) fsm.Token {
	return fsm.Token{
		ID: id, Hash: hashOf(id), Principal: principal, Description: "for " + principal,
		BoundCIDRs: []string{"10.0.0.0/8"}, ExpiresAt: expires,
	}
}

func genesis(now int64) fsm.GenesisCommand {
	return fsm.GenesisCommand{
		Meta: fsm.Meta{Time: now, Principal: "init", RequestID: "genesis"},
		Genesis: fsm.Genesis{ClusterID: "c1", Root: fsm.Root{
			Version: 1, CheckValue: []byte{1, 2, 3}, MACCheck: []byte("mac check"),
			Canary:   wrapped.Key{ID: "canary", Version: 1, Spec: wrapped.AES256, Usage: "encrypt", Wrap: wrapped.RFC3394, Root: 1, Blob: []byte("b"), MAC: []byte("m")},
			CanaryIV: []byte("iv"), CanaryBox: []byte("box"),
			Copies: []fsm.RootCopy{{NodeID: "node1", Fingerprint: []byte("f"), Wrap: "rsa-oaep-sha1", RootKey: []byte("r"), MACKey: []byte("k")}},
		}},
		DefaultKey: key(defaultKey, names.DefaultAlias),
		Admin:      fsm.Principal{Name: "admin", Kind: "user", Policies: []string{fsm.FullAccess}},
		AdminToken: token("admin-token", "admin", now+day),
		Policies:   []fsm.Policy{{Name: fsm.FullAccess, Statements: []fsm.Statement{{Effect: "allow", Roles: []string{fsm.FullAccess}}}}},
	}
}

// snapshot answers the bytes of the machine's snapshot.
func snapshot(t tester, m *fsm.Machine) []byte {
	t.Helper()
	var out bytes.Buffer
	n, err := m.Snapshot().WriteTo(&out)
	require.NoError(t, err)
	require.EqualValues(t, out.Len(), n)
	return out.Bytes()
}

// records answers everything in the machine but index, time and hash.
func records(t tester, m *fsm.Machine) []byte {
	b := snapshot(t, m)
	return b[headerBytes : len(b)-sha256.Size]
}

// Parts of the snapshot format, written down a second time.
const (
	headerBytes  = 8 + 2 + 8 + 8 + 32
	trailerBytes = 2 + 4 + 8 + 32
)

// replay applies a log to a new machine.
func replay(t tester, log [][]byte) *fsm.Machine {
	m := fsm.New()
	for i, b := range log {
		_, err := m.Apply(uint64(i)+1, b)
		require.NoError(t, err)
	}
	return m
}

// raw makes a command of any kind and payload.
func raw(kind uint16, format byte, payload []byte) []byte {
	return append(append(binary.BigEndian.AppendUint16(nil, kind), format), payload...)
}

// reader answers the machine's snapshot, ready to be restored.
func (w *world) reader() *bytes.Reader { return bytes.NewReader(snapshot(w.t, w.m)) }

// keyVersion is material for version number of a key.
func keyVersion(id string, number uint32) fsm.KeyVersion {
	return fsm.KeyVersion{Wrapped: wrapped.Key{
		ID: id, Version: number, Spec: wrapped.AES256, Usage: "encrypt", Wrap: wrapped.RFC3394, Root: 1,
		Blob: fmt.Appendf(nil, "blob %d of %s", number, id), MAC: []byte("mac"),
	}}
}
