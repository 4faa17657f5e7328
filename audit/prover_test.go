package audit

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/strongroom/strongroom/internal/checkpoint"
)

// cluster signs as the HSM of one does.
type cluster struct {
	private *ecdsa.PrivateKey
	key     checkpoint.Key
}

func newCluster(t testing.TB) cluster {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	der, err := x509.MarshalPKIXPublicKey(private.Public())
	require.NoError(t, err)
	keys, err := checkpoint.ParseKeys(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
	require.NoError(t, err)
	return cluster{private, keys[0]}
}

func (c cluster) trust() Trust { return Trust{Keys: []checkpoint.Key{c.key}} }

// sign signs what is on the disk of the chain by now.
func (c cluster) sign(t testing.TB, p *Prover) checkpoint.Checkpoint {
	t.Helper()
	statement, err := p.Statement(t.Context(), time.Now())
	require.NoError(t, err)
	require.NoError(t, p.Keep(c.note(t, statement), statement))
	return statement
}

func (c cluster) note(t testing.TB, statement checkpoint.Checkpoint) []byte {
	digest := statement.Digest()
	signature, err := ecdsa.SignASN1(rand.Reader, c.private, digest[:])
	require.NoError(t, err)
	text, err := statement.Note(c.key, signature)
	require.NoError(t, err)
	return text
}

func proverOf(t testing.TB, trail *Trail) *Prover {
	t.Helper()
	p, err := trail.Prove(t.Context(), "prod")
	require.NoError(t, err)
	return p
}

// settled brings all to the disk.
func settled(t testing.TB, trail *Trail) {
	t.Helper()
	require.Eventually(t, func() bool { return trail.Settled() == trail.Head() }, 20*time.Second, time.Millisecond)
}

// signedTrail writes n events, with a checkpoint after each so many, and
// answers the open trail.
func signedTrail(t testing.TB, c cluster, cfg Config, n, each int) (*Trail, *Prover) {
	t.Helper()
	trail := mustOpen(t, cfg)
	p := proverOf(t, trail)
	began := time.Now()
	for i := range n {
		e := read(fmt.Sprintf("app-%d", i))
		e.Time = began.Add(time.Duration(i) * time.Second)
		mustAppend(t, trail, e)
		if (i+1)%each == 0 {
			settled(t, trail)
			c.sign(t, p)
		}
	}
	settled(t, trail)
	return trail, p
}

// Proofs hold against the signed roots by the library's checks, which follow
// the standard; also after the tree was lost, or half of it.
func TestProofsHoldAgainstSignedRoots(t *testing.T) {
	c := newCluster(t)
	cfg := config(t)
	cfg.SegmentBytes = 20_000
	trail, p := signedTrail(t, c, cfg, 600, 150)
	check := func() {
		for _, size := range []uint64{151, 301, 601} {
			text, cp, err := p.Checkpoint(size)
			require.NoError(t, err)
			require.Equal(t, size, cp.Size)
			_, err = checkpoint.Open(text, []checkpoint.Key{c.key})
			require.NoError(t, err)
			for _, sequence := range []uint64{1, 2, 77, 150, 151} {
				line, proof, err := p.Inclusion(t.Context(), sequence, size)
				require.NoError(t, err)
				require.NoError(t, tlog.CheckRecord(proof, int64(size), cp.Root, int64(sequence-1), tlog.RecordHash(line)))
				require.Contains(t, string(line), fmt.Sprintf(`"sequence":%d,`, sequence))
			}
			_, old, err := p.Checkpoint(151)
			require.NoError(t, err)
			proof, err := p.Consistency(t.Context(), 151, size)
			require.NoError(t, err)
			require.NoError(t, tlog.CheckTree(proof, int64(size), cp.Root, 151, old.Root))
		}
	}
	check()
	leaves, _ := p.tree.path(0, 0)
	for name, damage := range map[string]func(){
		"gone":     func() { require.NoError(t, os.RemoveAll(p.tree.dir)) },
		"half":     func() { require.NoError(t, os.Truncate(leaves, 200*hashSize)) },
		"changed":  func() { overwrite(t, leaves, 300*hashSize, []byte("changed")) },
		"behind":   func() { require.NoError(t, os.Truncate(leaves, 601*hashSize-1)) },
		"too long": func() { appendBytes(t, leaves, make([]byte, 5*hashSize)) },
	} {
		damage()
		p = proverOf(t, trail)
		require.NoError(t, p.Broken(), name)
		check()
	}
	_, _, err := p.Inclusion(t.Context(), 602, 601)
	require.ErrorContains(t, err, "sequence")
	_, err = p.Consistency(t.Context(), 602, 601)
	require.ErrorContains(t, err, "fromSize")
	_, err = p.Consistency(t.Context(), 151, 300)
	require.ErrorContains(t, err, "must be the size of a checkpoint")
	_, _, err = p.Checkpoint(602)
	require.ErrorContains(t, err, "no checkpoint over 602")
}

func overwrite(t testing.TB, path string, at int64, data []byte) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	require.NoError(t, err)
	_, err = f.WriteAt(data, at)
	require.NoError(t, err)
	require.NoError(t, f.Close())
}

// A chain that somebody made anew, or cut, is not signed any more.
func TestARewrittenChainIsNotSigned(t *testing.T) {
	c := newCluster(t)
	trail, _ := signedTrail(t, c, config(t), 20, 10)
	require.NoError(t, trail.Close())
	for name, rewrite := range map[string]func(e *evidence){
		"cut": func(e *evidence) { e.lines[0] = e.lines[0][:15] },
		"made anew from 5": func(e *evidence) {
			for sequence := uint64(5); sequence <= uint64(e.events()); sequence++ {
				forged := read("mallory")
				file, line := e.at(sequence)
				var prev [32]byte
				if sequence > 1 {
					prev = sum(bytes.TrimSuffix(e.lines[file][line-1], []byte("\n")))
				}
				out := appendPrefix(nil, "n1", sequence, prev)
				e.lines[file][line] = append(appendCRC(appendBody(out, &forged), 0), '\n')
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			e := collect(t, trail.cfg.Dir).clone()
			rewrite(&e)
			cfg := trail.cfg
			cfg.Dir = e.write(t)
			copyFile(t, filepath.Join(trail.cfg.Dir, notesName), cfg.Dir)
			_, err := Verify(cfg.Dir)
			require.NoError(t, err, "the links alone do not tell")
			report, err := VerifySigned(cfg.Dir, c.trust())
			var broken *BrokenError
			require.ErrorAs(t, err, &broken)
			if name == "cut" {
				require.Equal(t, uint64(16), broken.Sequence)
				require.Equal(t, uint64(11), report.Signed)
			} else {
				require.Equal(t, uint64(1), broken.Sequence, "no checkpoint before vouches for the first ones")
			}
			again := mustOpen(t, cfg)
			p := proverOf(t, again)
			var mismatch *MismatchError
			require.ErrorAs(t, p.Broken(), &mismatch)
			_, err = p.Statement(t.Context(), time.Now())
			require.ErrorAs(t, err, &mismatch)
			n, err := p.Prune(t.Context(), 20, time.Now())
			require.NoError(t, err)
			require.Zero(t, n, "evidence is not removed")
		})
	}
}

func TestVerifySignedFindsWhatTheKeyDidNotSign(t *testing.T) {
	c := newCluster(t)
	trail, p := signedTrail(t, c, config(t), 25, 10)
	report, err := VerifySigned(trail.cfg.Dir, c.trust(), trail.Head())
	require.NoError(t, err)
	require.Equal(t, 2, report.Checkpoints)
	require.Equal(t, uint64(21), report.Signed)
	require.Equal(t, uint64(26), report.Events)
	_, err = VerifySigned(trail.cfg.Dir, newCluster(t).trust())
	require.ErrorContains(t, err, "line 1: no signature in it is of the public key")
	// One signed by somebody else, over what is there.
	statement, err := p.Statement(t.Context(), time.Now())
	require.NoError(t, err)
	require.NoError(t, p.Keep(newCluster(t).noteOf(t, statement), statement))
	_, err = VerifySigned(trail.cfg.Dir, c.trust())
	require.ErrorContains(t, err, "line 3: no signature in it")
	none := config(t)
	mustOpen(t, none)
	_, err = VerifySigned(none.Dir, c.trust())
	require.ErrorContains(t, err, "there is no signed checkpoint")
	require.Error(t, p.Keep([]byte("x"), checkpoint.Checkpoint{Cluster: "prod", Node: "n2", Size: 1}))
}

func (c cluster) noteOf(t testing.TB, statement checkpoint.Checkpoint) []byte {
	return c.note(t, statement)
}

// What is pruned is gone, and what is left verifies as before, from the files
// alone and by proofs.
func TestPrunedTrailVerifies(t *testing.T) {
	c := newCluster(t)
	cfg := config(t)
	cfg.SegmentBytes, cfg.KeepPlain = 10_000, false
	trail, p := signedTrail(t, c, cfg, 400, 100)
	awaitSealed(t, trail)
	now := time.Now().Add(400 * time.Second)
	n, err := trail.Expired(Retention{}, now)
	require.NoError(t, err)
	require.Zero(t, n)
	n, err = trail.Expired(Retention{For: 200 * time.Second}, now)
	require.NoError(t, err)
	require.Greater(t, n, uint64(150))
	require.LessOrEqual(t, n, uint64(205))
	bySize, err := trail.Expired(Retention{Bytes: 1}, now)
	require.NoError(t, err)
	require.Greater(t, bySize, n, "all but the newest file")
	before := all(t, trail, Filter{})
	gone, err := p.Prune(t.Context(), n, now)
	require.NoError(t, err)
	require.Equal(t, n, gone)
	for range 3 { // also after a restart, and another
		left := all(t, trail, Filter{})
		require.Equal(t, before[n:], left[:len(before)-int(n)])
		_, err = trail.Lines(t.Context(), n-1, 100)
		require.ErrorContains(t, err, "not kept any more")
		report, err := VerifySigned(cfg.Dir, c.trust(), trail.Head())
		require.NoError(t, err)
		require.Equal(t, n, report.Pruned)
		text, cp, err := p.Checkpoint(401)
		require.NoError(t, err)
		require.NotEmpty(t, text)
		for _, sequence := range []uint64{n + 1, n + 2, 401} {
			line, proof, err := p.Inclusion(t.Context(), sequence, cp.Size)
			require.NoError(t, err)
			require.NoError(t, tlog.CheckRecord(proof, int64(cp.Size), cp.Root, int64(sequence-1), tlog.RecordHash(line)))
		}
		require.NoError(t, trail.Close())
		require.NoError(t, os.RemoveAll(filepath.Join(cfg.Dir, treeName)))
		trail = mustOpen(t, cfg)
		p = proverOf(t, trail)
		require.NoError(t, p.Broken())
	}
	_, _, err = p.Inclusion(t.Context(), n, 401)
	require.ErrorContains(t, err, "not kept any more")
	// Again, further on; no more than a checkpoint is over.
	more, err := p.Prune(t.Context(), 1<<40, now)
	require.NoError(t, err)
	require.Greater(t, more, n)
	require.LessOrEqual(t, more, uint64(401))
	_, err = VerifySigned(cfg.Dir, c.trust())
	require.NoError(t, err)
}

// The base is evidence as the events are: any change of it is found.
func TestAForgedBaseIsFound(t *testing.T) {
	c := newCluster(t)
	cfg := config(t)
	cfg.SegmentBytes, cfg.KeepPlain = 10_000, false
	trail, p := signedTrail(t, c, cfg, 200, 50)
	awaitSealed(t, trail)
	_, err := p.Prune(t.Context(), 120, time.Now())
	require.NoError(t, err)
	require.NoError(t, trail.Close())
	path := filepath.Join(cfg.Dir, prunedName)
	whole, err := os.ReadFile(path)
	require.NoError(t, err)
	for i := range whole {
		changed := bytes.Clone(whole)
		changed[i] ^= 1
		require.NoError(t, os.WriteFile(path, changed, 0o600))
		if _, err := VerifySigned(cfg.Dir, c.trust()); err == nil {
			// The time of the last event that is gone is for people only.
			require.True(t, strings.Contains(string(whole[max(0, i-40):i+1]), `"time":"`), "byte %d of %s", i, whole)
		}
	}
	require.NoError(t, os.Remove(path))
	_, err = VerifySigned(cfg.Dir, c.trust())
	require.ErrorContains(t, err, "a file is missing")
}

// Killed between the base and the removal of files: the rest is removed at
// the next start.
func TestPruningSurvivesAKill(t *testing.T) {
	c := newCluster(t)
	cfg := config(t)
	cfg.SegmentBytes, cfg.KeepPlain = 10_000, false
	trail, p := signedTrail(t, c, cfg, 200, 50)
	awaitSealed(t, trail)
	saved := copyDir(t, cfg.Dir)
	gone, err := p.Prune(t.Context(), 120, time.Now())
	require.NoError(t, err)
	require.NoError(t, trail.Close())
	for _, path := range files(t, saved) {
		if firstOf(filepath.Base(path)) <= gone {
			copyFile(t, path, cfg.Dir)
		}
	}
	again := mustOpen(t, cfg)
	require.Equal(t, gone+1, firstOf(filepath.Base(files(t, cfg.Dir)[0])))
	require.NoError(t, proverOf(t, again).Broken())
	_, err = VerifySigned(cfg.Dir, c.trust())
	require.NoError(t, err)
}
