package hsm

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/internal/fault"
	"github.com/strongroom/strongroom/internal/wrapped"
	"github.com/strongroom/strongroom/pkcs11"
)

const ping = 20 * time.Millisecond // between looks at a state that is waited for

// back is how soon a lost worker must be replaced.
const back = 2 * time.Second

// sealer has a text sealed and proves that it opens.
type sealer struct {
	d          *pkcs11.Device
	k          wrapped.Key
	iv, sealed []byte
}

func newSealer(t *testing.T, d *pkcs11.Device) sealer {
	t.Helper()
	s := sealer{d: d, k: newKey(t, d, "k1")}
	s.iv, s.sealed = seal(t, d, s.k, "hunter2", "aad")
	return s
}

func (s sealer) open(ctx context.Context) error {
	out, err := s.d.Open(ctx, s.k, s.iv, s.sealed, []byte("aad"))
	defer out.Wipe()
	if err == nil && string(out.Expose()) != "hunter2" {
		return fmt.Errorf("opened something else")
	}
	return err
}

// Under load the worker is killed or stopped: every request succeeds or fails
// clean, and a new worker serves within two seconds.
func TestLostWorkerUnderLoad(t *testing.T) {
	for name, signal := range map[string]syscall.Signal{"kill": syscall.SIGKILL, "stop": syscall.SIGSTOP} {
		t.Run(name, func(t *testing.T) {
			d, _ := rooted(t, newBox(t))
			s := newSealer(t, d)
			stop := make(chan struct{})
			var load sync.WaitGroup
			errs := make(chan error, 8)
			for range cap(errs) {
				load.Go(func() {
					for {
						select {
						case <-stop:
							return
						default:
						}
						ctx, cancel := context.WithTimeout(context.Background(), patient)
						err := s.open(ctx)
						cancel()
						if err != nil && !fault.Is(err, fault.HsmUnavailable) {
							errs <- err
							return
						}
					}
				})
			}
			for range 3 {
				replaced(t, d, signal, s)
			}
			close(stop)
			load.Wait()
			select {
			case err := <-errs:
				require.NoError(t, err)
			default:
			}
		})
	}
}

// Nobody asks for anything, and still the worker is replaced.
func TestLostWorkerWhileIdle(t *testing.T) {
	for name, signal := range map[string]syscall.Signal{"kill": syscall.SIGKILL, "stop": syscall.SIGSTOP} {
		t.Run(name, func(t *testing.T) {
			d, _ := rooted(t, newBox(t))
			s := newSealer(t, d)
			pid := d.Health().WorkerPID
			require.NoError(t, syscall.Kill(pid, signal))
			start := time.Now()
			require.Eventually(t, func() bool {
				h := d.Health()
				return h.WorkerPID != 0 && h.WorkerPID != pid
			}, patient, ping)
			require.Less(t, time.Since(start), back)
			require.NoError(t, s.open(context.Background()))
		})
	}
}

// replaced sends signal to the worker and waits for the next one to serve.
func replaced(t *testing.T, d *pkcs11.Device, signal syscall.Signal, s sealer) {
	t.Helper()
	var pid int
	require.Eventually(t, func() bool { pid = d.Health().WorkerPID; return pid != 0 }, patient, ping)
	require.NoError(t, syscall.Kill(pid, signal))
	start := time.Now()
	require.Eventually(t, func() bool { h := d.Health(); return h.WorkerPID != 0 && h.WorkerPID != pid }, patient, ping)
	require.NoError(t, s.open(context.Background()))
	require.Less(t, time.Since(start), back)
}

// A token that went away finds nothing, with CKR_OK. Nothing may be created
// then, and it must serve again when it is back.
func TestTokenGoesAwayAndComesBack(t *testing.T) {
	b := newBox(t)
	b.cfg.ProbeInterval = 200 * time.Millisecond
	d, _ := rooted(t, b)
	s := newSealer(t, d)
	before := files(t, b.tokens())
	away := b.tokens() + ".away"
	require.NoError(t, os.Rename(b.tokens(), away))
	require.NoError(t, os.Mkdir(b.tokens(), 0o700))
	require.Eventually(t, func() bool { return d.Health().State == pkcs11.HealthDown }, patient, ping)
	ctx := context.Background()
	require.Equal(t, fault.HsmUnavailable, fault.KindOf(s.open(ctx)))
	_, err := d.GenerateKey(ctx, "k2", 1, wrapped.AES256, pkcs11.UsageEncrypt)
	require.Equal(t, fault.HsmUnavailable, fault.KindOf(err))
	_, err = d.TransportKey(ctx)
	require.Equal(t, fault.HsmUnavailable, fault.KindOf(err), "away is not absent")
	require.Empty(t, files(t, b.tokens()), "nothing is created in the absence of the token")

	require.NoError(t, os.Remove(b.tokens()))
	require.NoError(t, os.Rename(away, b.tokens()))
	require.Eventually(t, func() bool { return d.Health().State == pkcs11.HealthOK }, patient, ping)
	require.NoError(t, s.open(ctx))
	require.Equal(t, before, files(t, b.tokens()))
}

// A token whose root objects were removed stays down: the root is not
// imported a second time by itself.
func TestLostRootIsNotReplacedByItself(t *testing.T) {
	b := newBox(t)
	b.cfg.ProbeInterval = 200 * time.Millisecond
	d, root := rooted(t, b)
	for _, name := range []string{"strongroom root v1", "strongroom root mac v1"} {
		tool(t, b, "--delete-object", "--type", "secrkey", "--label", name)
	}
	require.Eventually(t, func() bool { return strings.Contains(d.Health().Reason, "nothing was created") }, patient, ping)
	require.Equal(t, pkcs11.HealthDown, d.Health().State)
	require.NotContains(t, tool(t, b, "--list-objects", "--type", "secrkey"), "strongroom root")

	require.NoError(t, d.UseRoot(context.Background(), root), "a person may feed it again")
	require.Equal(t, pkcs11.HealthOK, d.Health().State)
}

func files(t *testing.T, dir string) []string {
	t.Helper()
	var out []string
	require.NoError(t, filepath.WalkDir(dir, func(path string, entry os.DirEntry, err error) error {
		if err == nil && !entry.IsDir() {
			out = append(out, filepath.Base(path))
		}
		return err
	}))
	return out
}

// A wrong PIN costs one try, whatever restarts in between, until the file
// changes.
func TestWrongPINIsTriedOnce(t *testing.T) {
	b := newBox(t)
	f := faulty(t, &b)
	b.cfg.ProbeInterval = 50 * time.Millisecond
	write(t, b.cfg.PINFile, "not-the-pin")
	d := open(t, b)
	h := d.Health()
	require.Equal(t, pkcs11.HealthDown, h.State)
	require.Contains(t, h.Reason, "until a person acts")
	require.Contains(t, h.Reason, b.cfg.PINFile)
	require.NotContains(t, h.Reason, "not-the-pin")
	require.Equal(t, 1, f.calls(ckLogin))
	for range 5 {
		_, err := d.Random(context.Background(), 8)
		require.Equal(t, fault.HsmUnavailable, fault.KindOf(err))
		require.Equal(t, fault.HsmUnavailable, fault.KindOf(d.UseRoot(context.Background(), aRoot())))
	}
	touched := time.Now().Add(3 * b.cfg.ProbeInterval)
	require.Eventually(t, func() bool { return time.Now().After(touched) }, patient, ping)
	require.Equal(t, 1, f.calls(ckLogin), "the PIN was tried again without a person")

	write(t, b.cfg.PINFile, userPIN)
	require.Eventually(t, func() bool { return d.Health().WorkerPID != 0 }, patient, ping)
	require.Equal(t, 2, f.calls(ckLogin))
}

func aRoot() pkcs11.Root {
	return pkcs11.Root{Version: 1, MACCheck: make([]byte, 32), CanaryBox: make([]byte, 32)}
}

func TestCarelessPINFileIsRefused(t *testing.T) {
	for name, spoil := range map[string]func(path string) error{
		"mode 0644": func(path string) error { return os.Chmod(path, 0o644) },
		"mode 0640": func(path string) error { return os.Chmod(path, 0o640) },
		"empty":     func(path string) error { return os.Truncate(path, 0) },
		"missing":   os.Remove,
	} {
		t.Run(name, func(t *testing.T) {
			b := newBox(t)
			f := faulty(t, &b)
			require.NoError(t, spoil(b.cfg.PINFile))
			d := open(t, b)
			require.Equal(t, pkcs11.HealthDown, d.Health().State)
			require.Contains(t, d.Health().Reason, b.cfg.PINFile)
			require.Zero(t, f.calls(ckLogin))
		})
	}
}
