// Package hsm tests the pkcs11 floor against real SoftHSM tokens, one token
// directory for each. A machine without SoftHSM fails these tests: nothing is
// skipped.
package hsm

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/internal/secret"
	"github.com/strongroom/strongroom/internal/wrapped"
	"github.com/strongroom/strongroom/pkcs11"
)

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "hsm-worker" {
		os.Exit(pkcs11.WorkerMain())
	}
	if len(os.Args) > 1 && os.Args[1] == "hsm-parent" {
		os.Exit(parentMain())
	}
	if len(os.Args) > 1 && os.Args[1] == "hsm-export" {
		os.Exit(exportMain())
	}
	os.Exit(m.Run())
}

const (
	label   = "strongroom"
	userPIN = "user-pin-8461"
	soPIN   = "so-pin-2973"
	patient = 60 * time.Second // for what happens at once on an idle machine
)

// softHSM answers the module's path; a distribution puts it in one of these.
func softHSM(t testing.TB) string {
	t.Helper()
	for _, path := range []string{os.Getenv("STRONGROOM_TEST_SOFTHSM"), "/usr/lib/softhsm/libsofthsm2.so",
		"/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so", "/usr/lib64/softhsm/libsofthsm2.so", "/usr/lib64/pkcs11/libsofthsm2.so"} {
		if path == "" {
			continue
		}
		if _, err := os.Stat(path); err == nil {
			return path
		}
	}
	require.FailNow(t, "SoftHSM is not installed", "install the package softhsm2; HSM tests are never skipped")
	return ""
}

// box is one "HSM": a directory with a SoftHSM configuration and its tokens.
type box struct {
	dir string
	cfg pkcs11.Config
}

func (b box) tokens() string { return filepath.Join(b.dir, "tokens") }

// newBox makes a box with one initialised token.
func newBox(t testing.TB) box {
	t.Helper()
	b := emptyBox(t)
	require.NoError(t, pkcs11.InitToken(context.Background(), b.cfg, filepath.Join(b.dir, "so-pin")))
	return b
}

func emptyBox(t testing.TB) box {
	t.Helper()
	dir := t.TempDir()
	b := box{dir: dir}
	require.NoError(t, os.Mkdir(b.tokens(), 0o700))
	conf := filepath.Join(dir, "softhsm2.conf")
	write(t, conf, fmt.Sprintf("directories.tokendir = %s\nobjectstore.backend = file\nlog.level = ERROR\n", b.tokens()))
	write(t, filepath.Join(dir, "pin"), userPIN+"\n")
	write(t, filepath.Join(dir, "so-pin"), soPIN+"\n")
	b.cfg = pkcs11.Config{Module: softHSM(t), TokenLabel: label, PINFile: filepath.Join(dir, "pin"),
		Env: []string{"SOFTHSM2_CONF=" + conf}, SyncDir: b.tokens()}
	return b
}

func write(t testing.TB, path, text string) {
	t.Helper()
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
}

// open opens a device on b and closes it with the test.
func open(t testing.TB, b box) *pkcs11.Device {
	t.Helper()
	d, err := pkcs11.Open(context.Background(), b.cfg)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, d.Close()) })
	return d
}

// rooted opens a device with a transport key and a root of its own.
func rooted(t testing.TB, b box) (*pkcs11.Device, pkcs11.Root) {
	t.Helper()
	d := open(t, b)
	require.Equal(t, pkcs11.HealthDegraded, d.Health().State, d.Health().Reason)
	own, err := d.CreateTransportKey(context.Background())
	require.NoError(t, err)
	root, err := d.CreateRoot(context.Background(), 1, []pkcs11.Recipient{{NodeID: "one", PublicDER: own.PublicDER, Wrap: own.Wrap}})
	require.NoError(t, err)
	require.Equal(t, pkcs11.HealthOK, d.Health().State, d.Health().Reason)
	return d, root
}

func newKey(t testing.TB, d *pkcs11.Device, id string) wrapped.Key {
	t.Helper()
	k, err := d.GenerateKey(context.Background(), id, 1, wrapped.AES256, pkcs11.UsageEncrypt)
	require.NoError(t, err)
	return k
}

func seal(t testing.TB, d *pkcs11.Device, k wrapped.Key, text, aad string) (iv, sealed []byte) {
	t.Helper()
	iv, sealed, err := d.Seal(context.Background(), k, secret.Copy([]byte(text)), []byte(aad))
	require.NoError(t, err)
	return iv, sealed
}

// unseal answers the text, for comparison in tests only.
func unseal(d *pkcs11.Device, k wrapped.Key, iv, sealed []byte, aad string) (string, error) {
	out, err := d.Open(context.Background(), k, iv, sealed, []byte(aad))
	defer out.Wipe()
	return string(out.Expose()), err
}

// tool runs pkcs11-tool on b with the user's PIN.
func tool(t *testing.T, b box, args ...string) string {
	t.Helper()
	cmd := exec.Command("pkcs11-tool", append([]string{"--module", b.cfg.Module, "--token-label", label, "--login", "--pin", userPIN}, args...)...)
	cmd.Env = append(os.Environ(), b.cfg.Env...)
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, string(out))
	return string(out)
}
