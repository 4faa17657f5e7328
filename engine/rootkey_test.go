package engine_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/api/wire"
	"github.com/strongroom/strongroom/audit"
	"github.com/strongroom/strongroom/engine"
	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/internal/fault"
	"github.com/strongroom/strongroom/internal/wrapped"
)

// firstRoot is the root of a cluster whose first member is n1, with every
// field set.
func firstRoot() fsm.Root {
	return fsm.Root{
		Version: 1, CheckValue: []byte("kcv"), MACCheck: checkOf(1),
		Canary:   wrapped.Key{ID: "canary", Version: 2, Spec: "aes-256", Usage: "encrypt", Wrap: "rfc3394", Root: 3, Blob: []byte("blob"), MAC: []byte("mac")},
		CanaryIV: []byte("iv"), CanaryBox: []byte("box"),
		Copies: []fsm.RootCopy{{NodeID: "n1", Fingerprint: transport("n1"), Wrap: "rsa-oaep-sha1", RootKey: []byte("r"), MACKey: []byte("m")}},
	}
}

func checkOf(version uint32) []byte {
	sum := sha256.Sum256(fmt.Append(nil, "check ", version))
	return sum[:]
}

// transport is the fingerprint of a node's transport key.
func transport(node string) []byte {
	sum := sha256.Sum256([]byte("transport key of " + node))
	return sum[:]
}

// hsmRoots is one node's HSM: it follows the state at once, but for the next
// root while lacks is set.
type hsmRoots struct {
	w     *world
	lacks atomic.Bool
	admit atomic.Bool

	uncopied atomic.Bool
	made     atomic.Int32
	sent     []engine.RootRecipient
}

func (h *hsmRoots) Status(_ context.Context, q engine.RootQuery) (engine.RootStatus, error) {
	roots := h.w.log.machine.State().Roots()
	out := engine.RootStatus{InUse: [][]byte{roots.Current.MACCheck}, Making: roots.Current.Version}
	h.w.token.MakeUnder(roots.Current.Version)
	if roots.Next != nil && !h.lacks.Load() {
		out.InUse = append(out.InUse, roots.Next.MACCheck)
	}
	if q.TransportKey {
		out.TransportKey, out.Wrap = []byte("transport key of n1"), wrapped.RSAOAEPSHA1
	}
	return out, nil
}

func (h *hsmRoots) MakeRoot(_ context.Context, version uint32, to []engine.RootRecipient) (fsm.Root, error) {
	h.made.Add(1)
	h.sent = to
	h.w.token.AddRoot(version)
	root := fsm.Root{Version: version, MACCheck: checkOf(version), CanaryBox: []byte("box")}
	for _, r := range to {
		sum := sha256.Sum256(r.PublicDER)
		root.Copies = append(root.Copies, fsm.RootCopy{NodeID: r.NodeID, Fingerprint: sum[:]})
	}
	return root, nil
}

func (h *hsmRoots) Rewrap(ctx context.Context, keys []wrapped.Key) ([]wrapped.Key, error) {
	if h.uncopied.Load() {
		return nil, fault.New(fault.NotFound, "this HSM has no copy of the root key")
	}
	return h.w.token.Rewrap(ctx, keys)
}

func (h *hsmRoots) Admits([]byte) bool { return h.admit.Load() }

func (w *world) withRoots() *hsmRoots {
	h := &hsmRoots{w: w}
	w.engine.Cluster.Roots = h
	return h
}

func (w *world) rotateRoot() wire.RotateRootKeyResponse {
	w.t.Helper()
	return into[wire.RotateRootKeyResponse](w.t, w.ok("cluster/rotateRootKey", `{"ratePerSecond":10000}`))
}

func (w *world) roots() *fsm.Roots { return w.log.machine.State().Roots() }

// TestTheRootKeyIsRotated: everything moves, nothing is lost, and what rests
// on the root without naming it (fingerprints, retries) goes on as before.
func TestTheRootKeyIsRotated(t *testing.T) {
	w := newWorld(t)
	h := w.withRoots()
	w.bound(3)
	for range 2 * engine.MaxRewrap {
		w.ok("kms/rotateKey", `{"keyId":"alias/new"}`)
	}
	waiting := into[wire.KeyResponse](t, w.ok("kms/createKey", `{"alias":"alias/waits","origin":"imported"}`))
	w.ok("kms/getImportParameters", `{"keyId":"alias/waits"}`)
	pair := into[wire.KeyResponse](t, w.ok("kms/createKey", `{"alias":"alias/pair","spec":"ec-p256","usage":"sign"}`))
	signature := into[map[string]any](t, w.ok("kms/sign", `{"keyId":"alias/pair","message":%q}`, b64("m")))["signature"]
	blob := into[map[string]any](t, w.ok("kms/encrypt", `{"keyId":"alias/new","plaintext":%q}`, b64("kept")))["ciphertext"]
	write := fmt.Sprintf(`{"path":"/app/dev/web/s000","value":%q,"clientToken":"before-the-rotation"}`, b64("three"))
	first := w.ok("secrets/putSecretValue", "%s", write)
	total := w.log.machine.State().MaterialUnder(1)

	started := w.rotateRoot()
	require.EqualValues(t, 2, started.Version)
	require.Equal(t, []engine.RootRecipient{{NodeID: "n1", PublicDER: []byte("transport key of n1"), Wrap: wrapped.RSAOAEPSHA1}}, h.sent)
	w.lead()
	job := w.jobBecomes(started.JobID, "done")
	require.Equal(t, total, job.Total)
	require.Equal(t, total, job.Done)
	require.EqualValues(t, 2, job.RootVersion)
	require.NotZero(t, job.EmptyIndex)
	require.Equal(t, "rotateRootKey", job.Kind)
	require.Zero(t, w.log.machine.State().MaterialUnder(1))
	require.Equal(t, total, w.log.machine.State().MaterialUnder(2))

	w.token.RemoveRoot(1)
	require.Equal(t, "three", w.value("/app/dev/web/s000"))
	require.Equal(t, b64("kept"), into[map[string]any](t, w.ok("kms/decrypt", `{"ciphertext":%q}`, blob))["plaintext"])
	require.True(t, into[wire.VerifyResponse](t, w.ok("kms/verify", `{"keyId":"alias/pair","message":%q,"signature":%q}`, b64("m"), signature)).Valid)
	require.Equal(t, pair.KeyID, w.key("alias/pair").ID)
	require.EqualValues(t, 2, w.log.machine.State().Key(waiting.KeyID).ImportKey.Root)
	require.True(t, into[wire.PutSecretValueResponse](t, w.ok("secrets/putSecretValue", `{"path":"/app/dev/web/s000","value":%q}`, b64("three"))).Unchanged)
	require.Equal(t, first, w.ok("secrets/putSecretValue", "%s", write), "a retry from before the rotation")
	w.ok("kms/createKey", `{"alias":"alias/later"}`)
	require.EqualValues(t, 2, w.key("alias/later").Versions[0].Wrapped.Root)

	// The trail tells the whole story under one request.
	asked := w.named("cluster.rotate_root_key")[0]
	require.EqualValues(t, 2, asked.Version)
	require.Len(t, w.events(audit.Filter{Events: []string{"cluster.switch_root_key"}, RequestID: asked.RequestID}), 1)
	require.Len(t, w.events(audit.Filter{Events: []string{"kms.rewrap_key"}, RequestID: asked.RequestID}), int(total))
	require.NotEmpty(t, w.events(audit.Filter{Events: []string{"cluster.rotate_root_key_step"}, RequestID: asked.RequestID}))

	for version, want := range map[string]fault.Kind{"0": fault.InvalidRequest, "2": fault.Conflict, "7": fault.Conflict} {
		_, err := w.as(w.admin, "cluster/removeRootKey", `{"version":`+version+`}`)
		w.refused(want, "version", err)
	}
	w.ok("cluster/removeRootKey", `{"version":1}`)
	require.NotZero(t, w.roots().Retired[0].RemovedAt)
}

// TestARotationWaitsForEveryHSM, over a change of leader, and can be cancelled
// until nothing is in its way any more.
func TestARotationWaitsForEveryHSM(t *testing.T) {
	w := newWorld(t)
	h := w.withRoots()
	peer := engine.RootStatus{TransportKey: []byte("transport key of n2"), Wrap: wrapped.RSAOAEPSHA1}
	var ready, dead atomic.Bool
	w.engine.Cluster.Members = func() []wire.NodeStatus { return []wire.NodeStatus{{NodeID: "n1"}, {NodeID: "n2"}} }
	w.engine.Cluster.PeerRoots = func(_ context.Context, node string, _ engine.RootQuery) (engine.RootStatus, error) {
		require.Equal(t, "n2", node)
		if dead.Load() {
			return engine.RootStatus{}, errors.New("connection refused")
		}
		s, roots := peer, w.roots()
		s.InUse = [][]byte{roots.Current.MACCheck}
		if ready.Load() && roots.Next != nil {
			s.InUse = append(s.InUse, roots.Next.MACCheck)
		}
		return s, nil
	}
	// n2's HSM has never held a root key: somebody has to vouch for it.
	_, err := w.as(w.admin, "cluster/rotateRootKey", `{}`)
	w.refused(fault.Conflict, "n2", err)
	require.ErrorContains(t, err, "hsm.admitTransportKeys of n1")
	require.ErrorContains(t, err, fmt.Sprintf("%x", transport("n2")))
	dead.Store(true)
	h.admit.Store(true)
	_, err = w.as(w.admin, "cluster/rotateRootKey", `{}`)
	w.refused(fault.Conflict, "n2", err)
	require.ErrorContains(t, err, "cannot be reached")
	require.NotContains(t, publicText(t, err), "connection refused")
	require.Zero(t, h.made.Load())
	dead.Store(false)

	started := w.rotateRoot()
	require.Len(t, h.sent, 2)
	stop := w.lead()
	require.Never(t, func() bool { return w.roots().Next == nil }, 1200*time.Millisecond, 50*time.Millisecond)
	w.ok("kms/createKey", `{"alias":"alias/meanwhile"}`)
	require.EqualValues(t, 1, w.key("alias/meanwhile").Versions[0].Wrapped.Root)
	w.ok("cluster/cancelJob", `{"jobId":%q}`, started.JobID)
	require.Nil(t, w.roots().Next)
	stop()

	started = w.rotateRoot()
	require.EqualValues(t, 3, started.Version, "no number is used twice")
	ready.Store(true)
	w.lead() // another leader
	w.jobBecomes(started.JobID, "done")
	_, err = w.as(w.admin, "cluster/cancelJob", fmt.Sprintf(`{"jobId":%q}`, started.JobID))
	w.refused(fault.Conflict, "done", err)
}

// A node that becomes a member while a rotation waits got no copy of the new
// root, and has none in use: the rotation does not wait for what cannot come.
// One that serves with the old root, by an export, is waited for.
func TestARotationDoesNotWaitForWhoCameLater(t *testing.T) {
	w := newWorld(t)
	h := w.withRoots()
	h.lacks.Store(true)
	started := w.rotateRoot()
	require.Len(t, h.sent, 1)
	var exported atomic.Bool
	exported.Store(true)
	w.engine.Cluster.Members = func() []wire.NodeStatus { return []wire.NodeStatus{{NodeID: "n1"}, {NodeID: "n2"}} }
	w.engine.Cluster.PeerRoots = func(context.Context, string, engine.RootQuery) (engine.RootStatus, error) {
		if exported.Load() {
			return engine.RootStatus{InUse: [][]byte{checkOf(1)}}, nil
		}
		return engine.RootStatus{}, nil
	}
	w.lead()
	h.lacks.Store(false)
	require.Never(t, func() bool { return w.roots().Next == nil }, 1200*time.Millisecond, 50*time.Millisecond)
	exported.Store(false)
	w.jobBecomes(started.JobID, "done")
}

func TestOneRotationAtATime(t *testing.T) {
	w := newWorld(t)
	h := w.withRoots()
	body := `{"clientToken":"r-1"}`
	first := into[wire.RotateRootKeyResponse](t, w.ok("cluster/rotateRootKey", "%s", body))
	require.Equal(t, first, into[wire.RotateRootKeyResponse](t, w.ok("cluster/rotateRootKey", "%s", body)))
	_, err := w.as(w.admin, "cluster/rotateRootKey", `{}`)
	w.refused(fault.Conflict, first.JobID, err)
	require.EqualValues(t, 1, h.made.Load(), "neither a retry nor a refusal makes a root")
	_, err = w.as(w.admin, "cluster/rotateRootKey", `{"ratePerSecond":0}`)
	w.refused(fault.InvalidRequest, "ratePerSecond", err)

	keeper := w.principal("keeper", `[{"effect":"allow","roles":["kms-admin-access"],"keys":["*"]}]`)
	for _, operation := range []string{"rotateRootKey", "removeRootKey"} {
		_, err = w.as(keeper, "cluster/"+operation, `{"version":1}`)
		require.Error(t, err)
	}
	_, err = w.as(keeper, "cluster/rotateRootKey", `{}`)
	w.refused(fault.AccessDenied, "", err)
}

// TestDamagedMaterialStopsTheRotationAndIsNamed: to go on without it would
// lose the key with the old root.
func TestDamagedMaterialStopsTheRotationAndIsNamed(t *testing.T) {
	w := newWorld(t)
	w.withRoots()
	w.bound(1)
	bad := w.key("alias/old")
	good := bad.Versions[0].Wrapped.MAC[0]
	bad.Versions[0].Wrapped.MAC[0] ^= 1
	started := w.rotateRoot()
	w.lead()
	failed := w.jobBecomes(started.JobID, "failed")
	require.Contains(t, failed.Error, bad.ID)
	require.EqualValues(t, 1, w.roots().Previous.Version, "the old root stays")
	require.NotZero(t, w.log.machine.State().MaterialUnder(1))
	// The event follows the state that it is about.
	require.Eventually(t, func() bool { return len(w.named("cluster.job_failed")) == 1 }, 30*time.Second, 10*time.Millisecond)
	bad.Versions[0].Wrapped.MAC[0] = good
	w.ok("cluster/resumeJob", `{"jobId":%q}`, started.JobID)
	w.jobBecomes(started.JobID, "done")
	require.Equal(t, "two of /app/dev/web/s000", w.value("/app/dev/web/s000"))
}

// TestARotationWaitsForTheHSM.
func TestARotationWaitsForTheHSM(t *testing.T) {
	w := newWorld(t)
	w.withRoots()
	w.bound(1)
	started := w.rotateRoot()
	w.token.Down.Store(true)
	w.lead()
	require.Eventually(t, func() bool { return w.roots().Previous != nil }, 30*time.Second, 10*time.Millisecond)
	require.Never(t, func() bool {
		return w.roots().Previous == nil || w.log.machine.State().Job(started.JobID).State != fsm.JobRunning
	}, 300*time.Millisecond, 20*time.Millisecond)
	w.token.Down.Store(false)
	w.jobBecomes(started.JobID, "done")
}

// TestALeaderWhoseHSMHasNoCopyHandsOver: it was fed by an export, so it can
// serve with the old root and cannot wrap keys anew from it.
func TestALeaderWhoseHSMHasNoCopyHandsOver(t *testing.T) {
	w := newWorld(t)
	h := w.withRoots()
	h.uncopied.Store(true)
	handed := make(chan string, 100)
	w.engine.Cluster.StepDown = func(reason string) { handed <- reason }
	started := w.rotateRoot()
	stop := w.lead()
	require.Contains(t, <-handed, "no copy of the root key")
	stop()
	require.Equal(t, fsm.JobRunning, w.log.machine.State().Job(started.JobID).State)
	h.uncopied.Store(false)
	w.lead() // another node
	w.jobBecomes(started.JobID, "done")
}
