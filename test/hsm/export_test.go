package hsm

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/internal/fault"
	"github.com/strongroom/strongroom/pkcs11"
)

// flexible opens a device whose transport key can pass on the root of its own.
func flexible(t *testing.T, b box) (*pkcs11.Device, pkcs11.Root) {
	t.Helper()
	d := open(t, b)
	key, err := d.CreateFlexibleTransportKey(context.Background())
	require.NoError(t, err)
	require.Equal(t, pkcs11.Flexible, key.Profile)
	root, err := d.CreateRoot(context.Background(), 1, nil)
	require.NoError(t, err)
	return d, root
}

// receiver opens a device that waits for a root.
func receiver(t *testing.T, b box) (*pkcs11.Device, pkcs11.Recipient) {
	t.Helper()
	d := open(t, b)
	key, err := d.CreateTransportKey(context.Background())
	require.NoError(t, err)
	require.Equal(t, pkcs11.Strict, key.Profile)
	return d, pkcs11.Recipient{NodeID: "new", PublicDER: key.PublicDER, Wrap: key.Wrap}
}

// someReceiver is a receiver of which there is no more than the public key.
func someReceiver(t *testing.T) pkcs11.Recipient {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 3072)
	require.NoError(t, err)
	der, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	require.NoError(t, err)
	return pkcs11.Recipient{NodeID: "some", PublicDER: der}
}

func (b box) soPINFile() string { return filepath.Join(b.dir, "so-pin") }

func (b box) export(root pkcs11.Root, to pkcs11.Recipient) (pkcs11.Root, error) {
	return pkcs11.ExportRoot(context.Background(), b.cfg, pkcs11.Export{Root: root, To: to, SOPINFile: b.soPINFile()})
}

// trusted counts what an export may have left behind.
func trusted(t *testing.T, b box) int {
	t.Helper()
	return strings.Count(tool(t, b, "--list-objects", "--type", "pubkey"), "strongroom receiver")
}

// A flexible HSM whose server runs gives its root to another HSM. Nothing is
// left behind here, and there it is as good as any.
func TestRootIsExported(t *testing.T) {
	ctx := context.Background()
	boxA, boxB, boxC := newBox(t), newBox(t), newBox(t)
	a, root := flexible(t, boxA)
	s := newSealer(t, a)
	b, to := receiver(t, boxB)
	before := files(t, boxA.tokens())

	out, err := boxA.export(root, to)
	require.NoError(t, err)
	require.Len(t, out.Copies, 1)
	require.Equal(t, "new", out.Copies[0].NodeID)
	require.NotEqual(t, root.Copies[0].RootKey, out.Copies[0].RootKey)
	require.Equal(t, before, files(t, boxA.tokens()), "nothing is left behind")
	require.Zero(t, trusted(t, boxA))
	require.NoError(t, s.open(ctx), "the server goes on")

	for range 2 { // the second time nothing is left to do
		require.NoError(t, b.UseRoot(ctx, out))
		s.d = b
		require.NoError(t, s.open(ctx))
	}
	require.NoError(t, b.Close())
	again := open(t, boxB)
	require.NoError(t, again.UseRoot(ctx, root), "the cluster's own description, which has no copy for it")
	s.d = again
	require.NoError(t, s.open(ctx))

	// B is strict: the root ends here. C was fed by an export, is flexible,
	// and passes on what it has.
	_, err = boxB.export(out, someReceiver(t))
	require.Equal(t, fault.Conflict, fault.KindOf(err))
	c := open(t, boxC)
	key, err := c.CreateFlexibleTransportKey(ctx)
	require.NoError(t, err)
	forC, err := boxA.export(root, pkcs11.Recipient{NodeID: "c", PublicDER: key.PublicDER, Wrap: key.Wrap})
	require.NoError(t, err)
	require.NoError(t, c.UseRoot(ctx, forC))
	d, to := receiver(t, newBox(t))
	fromC, err := boxC.export(forC, to)
	require.NoError(t, err)
	require.NoError(t, d.UseRoot(ctx, fromC))
	s.d = d
	require.NoError(t, s.open(ctx))
}

// A root key in use is not extractable in either profile.
func TestRootOfAFlexibleHSMStaysInsideToo(t *testing.T) {
	b := newBox(t)
	d, root := flexible(t, b)
	out := tool(t, b, "--list-objects", "--type", "secrkey")
	require.Equal(t, 2, strings.Count(out, "label:"), out)
	require.NotContains(t, strings.ReplaceAll(out, "never extractable", ""), "extractable")
	require.NoError(t, d.Close())
	again := open(t, b)
	require.NoError(t, again.UseRoot(context.Background(), root))
	key, err := again.TransportKey(context.Background())
	require.NoError(t, err)
	require.Equal(t, pkcs11.Flexible, key.Profile, "the HSM itself remembers")
}

// A strict HSM refuses in words that say the way out, before the security
// officer's PIN is looked at.
func TestStrictHSMExportsNothing(t *testing.T) {
	b := newBox(t)
	_, root := rooted(t, b)
	f := faulty(t, &b)
	require.NoError(t, os.Remove(b.soPINFile()))
	_, err := b.export(root, someReceiver(t))
	require.Equal(t, fault.Conflict, fault.KindOf(err))
	require.ErrorContains(t, err, "root rotation that names the new HSM as a recipient")
	require.Equal(t, 1, f.calls(ckLogin), "the user only")
	require.Zero(t, f.calls(ckWrapKey)-wrapsOfAStart(t, b, f), "nothing of the root was wrapped")
}

// wrapsOfAStart is how often a worker wraps that only finds the transport key.
func wrapsOfAStart(t *testing.T, b box, f faults) int {
	t.Helper()
	before := f.calls(ckWrapKey)
	d := open(t, b)
	_, err := d.TransportKey(context.Background())
	require.NoError(t, err)
	return f.calls(ckWrapKey) - before
}

// The security officer's PIN is tried once, is in no message, and a careless
// file is not read at all.
func TestWrongOfficersPINIsTriedOnce(t *testing.T) {
	b := newBox(t)
	_, root := flexible(t, b)
	to := someReceiver(t)
	f := faulty(t, &b)
	write(t, b.soPINFile(), "not-the-pin")
	_, err := b.export(root, to)
	require.Equal(t, fault.HsmUnavailable, fault.KindOf(err))
	require.ErrorContains(t, err, "refused the security officer's PIN in "+b.soPINFile())
	require.NotContains(t, err.Error(), "not-the-pin")
	require.Equal(t, 2, f.calls(ckLogin), "the user's rehearsal, and one try")
	require.Zero(t, trusted(t, b))

	require.NoError(t, os.Chmod(b.soPINFile(), 0o644))
	before := f.calls(ckLogin)
	_, err = b.export(root, to)
	require.ErrorContains(t, err, "chmod 600")
	require.Equal(t, 1, f.calls(ckLogin)-before, "the user's rehearsal")

	require.NoError(t, os.Chmod(b.soPINFile(), 0o600))
	write(t, b.soPINFile(), soPIN)
	_, err = b.export(root, to)
	require.NoError(t, err)
}

// What is wrong with a request is found before anything is trusted.
func TestExportLooksBeforeItTrusts(t *testing.T) {
	b := newBox(t)
	_, root := flexible(t, b)
	other, foreign := flexible(t, newBox(t))
	require.NoError(t, other.Close())
	small, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	der, err := x509.MarshalPKIXPublicKey(&small.PublicKey)
	require.NoError(t, err)
	f := faulty(t, &b)
	changed := func(change func(r *pkcs11.Root)) pkcs11.Root {
		r := root
		r.Copies = slices.Clone(root.Copies)
		change(&r)
		return r
	}
	to := someReceiver(t)
	for name, c := range map[string]struct {
		root pkcs11.Root
		to   pkcs11.Recipient
		want string
	}{
		"another cluster's":   {foreign, to, "is not in the HSM token"},
		"no copy for this":    {changed(func(r *pkcs11.Root) { r.Copies = nil }), to, "was not wrapped to this HSM's transport key"},
		"another's copy":      {changed(func(r *pkcs11.Root) { r.Copies[0].RootKey = foreign.Copies[0].RootKey }), to, "does not take its copy"},
		"a copy swapped":      {changed(func(r *pkcs11.Root) { r.Copies[0].MACKey = r.Copies[0].RootKey }), to, "is not the root key v1"},
		"a foreign canary":    {changed(func(r *pkcs11.Root) { r.Canary = foreign.Canary }), to, "the canary"},
		"another version":     {changed(func(r *pkcs11.Root) { r.Version = 2 }), to, "is not in the HSM token"},
		"nothing":             {pkcs11.Root{}, to, "is not the description of a root key"},
		"a short key":         {root, pkcs11.Recipient{NodeID: "s", PublicDER: der}, "not an RSA key of 3072 bits"},
		"no key":              {root, pkcs11.Recipient{NodeID: "s", PublicDER: []byte("x")}, "cannot be read"},
		"a wrap of others":    {root, pkcs11.Recipient{NodeID: "s", PublicDER: to.PublicDER, Wrap: "rsa-oaep-sha256"}, "lacks the wrap rsa-oaep-sha256"},
		"a wrap of no module": {root, pkcs11.Recipient{NodeID: "s", PublicDER: to.PublicDER, Wrap: "rot13"}, "unknown wrap"},
	} {
		before := f.calls(ckLogin)
		_, err := b.export(c.root, c.to)
		require.ErrorContains(t, err, c.want, name)
		require.LessOrEqual(t, f.calls(ckLogin)-before, 1, "%s: the security officer was logged in", name)
	}
	require.Zero(t, trusted(t, b))
}

// When the wrapping fails the trust is taken back; when that fails too, it is
// said, and the next export does it first of all.
func TestTrustEndsWithTheExport(t *testing.T) {
	b := newBox(t)
	_, root := flexible(t, b)
	f := faulty(t, &b)
	const deviceError = 0x30
	f.failAfter(ckLogin, 2, deviceError) // the user, the officer
	_, err := b.export(root, someReceiver(t))
	require.Equal(t, fault.HsmUnavailable, fault.KindOf(err))
	require.Equal(t, 4, f.calls(ckLogin))
	require.Zero(t, trusted(t, b))

	f.failAfter(ckLogin, 3, deviceError)
	_, err = b.export(root, someReceiver(t))
	require.ErrorContains(t, err, "may still be trusted")
	require.Equal(t, 1, trusted(t, b), "the control: this is what can be left")
	_, err = b.export(root, someReceiver(t))
	require.NoError(t, err)
	require.Zero(t, trusted(t, b))

	// The security officer's half fails after it made the key.
	synced := b.cfg.SyncDir
	b.cfg.SyncDir = synced + ".none"
	_, err = b.export(root, someReceiver(t))
	require.ErrorContains(t, err, "cannot be synced")
	require.Zero(t, trusted(t, b))
}

// exportJob is an export in a process that a test kills.
type exportJob struct {
	Module, PINFile, SyncDir string
	Env                      []string
	Export                   pkcs11.Export
}

func exportMain() int {
	var job exportJob
	if err := json.NewDecoder(os.Stdin).Decode(&job); err != nil {
		return 2
	}
	cfg := pkcs11.Config{Module: job.Module, TokenLabel: label, PINFile: job.PINFile, SyncDir: job.SyncDir, Env: job.Env}
	if _, err := pkcs11.ExportRoot(context.Background(), cfg, job.Export); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// Killed in the middle, nobody can take anything back. The next export, to
// whomever, does.
func TestKilledExportIsSweptByTheNext(t *testing.T) {
	b := newBox(t)
	d, root := flexible(t, b)
	lost, to := someReceiver(t), someReceiver(t)
	slow := b
	f := faulty(t, &slow)
	f.hangAfter(ckLogin, 2)
	job, err := json.Marshal(exportJob{Module: slow.cfg.Module, PINFile: slow.cfg.PINFile, SyncDir: slow.cfg.SyncDir, Env: slow.cfg.Env,
		Export: pkcs11.Export{Root: root, To: lost, SOPINFile: b.soPINFile()}})
	require.NoError(t, err)
	process := exec.Command(os.Args[0], "hsm-export")
	process.Stdin = bytes.NewReader(job)
	require.NoError(t, process.Start())
	require.Eventually(t, func() bool { return f.calls(ckLogin) == 3 }, patient, ping)
	require.NoError(t, process.Process.Kill())
	_ = process.Wait() // killed: an error that is meant
	require.Equal(t, 1, trusted(t, b), "the control: it was killed in the middle")

	_, err = b.export(root, to)
	require.NoError(t, err)
	require.Zero(t, trusted(t, b))
	require.Equal(t, pkcs11.HealthOK, d.Health().State)
}

// A description that was changed on its way is refused before anything is
// made in the token, and so is nothing in the way of the right one.
func TestChangedExportIsNotImported(t *testing.T) {
	ctx := context.Background()
	boxA, boxB := newBox(t), newBox(t)
	_, root := flexible(t, boxA)
	b, to := receiver(t, boxB)
	out, err := boxA.export(root, to)
	require.NoError(t, err)
	// Who knows the public half can wrap a root of his own to it.
	_, another := flexible(t, newBox(t))
	third, hers := flexible(t, newBox(t))
	require.NoError(t, third.Close())
	flipped := func(p []byte) []byte {
		p = bytes.Clone(p)
		p[len(p)/2] ^= 0x10
		return p
	}
	before := files(t, boxB.tokens())
	for name, change := range map[string]func(r *pkcs11.Root){
		"root key":          func(r *pkcs11.Root) { r.Copies[0].RootKey = flipped(r.Copies[0].RootKey) },
		"MAC key":           func(r *pkcs11.Root) { r.Copies[0].MACKey = flipped(r.Copies[0].MACKey) },
		"both the same":     func(r *pkcs11.Root) { r.Copies[0].RootKey = r.Copies[0].MACKey },
		"MAC check":         func(r *pkcs11.Root) { r.MACCheck = flipped(r.MACCheck) },
		"version":           func(r *pkcs11.Root) { r.Version++ },
		"canary key":        func(r *pkcs11.Root) { r.Canary.Blob = flipped(r.Canary.Blob) },
		"canary key's MAC":  func(r *pkcs11.Root) { r.Canary.MAC = flipped(r.Canary.MAC) },
		"canary":            func(r *pkcs11.Root) { r.CanaryBox = flipped(r.CanaryBox) },
		"another's names":   func(r *pkcs11.Root) { copies := r.Copies; *r = another; r.Copies = copies },
		"another's copy":    func(r *pkcs11.Root) { r.Copies = hers.Copies },
		"another's cleanly": func(r *pkcs11.Root) { *r = another },
		"wrap":              func(r *pkcs11.Root) { r.Copies[0].Wrap = "rot13" },
	} {
		bad := out
		bad.Copies = slices.Clone(out.Copies)
		change(&bad)
		require.Error(t, b.UseRoot(ctx, bad), name)
		require.Equal(t, before, files(t, boxB.tokens()), "%s: something was made in the token", name)
	}
	require.NoError(t, b.UseRoot(ctx, out))
}

// A module that forgets what binds the root is found out when the pair is
// made, and the pair is taken away.
func TestModuleThatForgetsTheBondsGetsNoTransportKey(t *testing.T) {
	ctx := context.Background()
	for name, c := range map[string]struct {
		quirk        int32
		flexibleOnly bool
	}{"CKA_UNWRAP_TEMPLATE": {forgetPairTemplate, false}, "CKA_WRAP_WITH_TRUSTED": {forgetTrusted, true}} {
		b := newBox(t)
		f := faulty(t, &b)
		d := open(t, b)
		f.set(ckFunctions, wordCalls, c.quirk)
		_, err := d.CreateFlexibleTransportKey(ctx)
		require.ErrorContains(t, err, "CKA_UNWRAP_TEMPLATE", name)
		require.NotContains(t, tool(t, b, "--list-objects"), "strongroom transport", name)
		_, err = d.CreateTransportKey(ctx)
		if c.flexibleOnly {
			require.NoError(t, err)
			continue
		}
		require.ErrorContains(t, err, "CKA_UNWRAP_TEMPLATE", name)
		require.NotContains(t, tool(t, b, "--list-objects"), "strongroom transport", name)
	}
}
