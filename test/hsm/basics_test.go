package hsm

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/internal/fault"
	"github.com/strongroom/strongroom/internal/secret"
	"github.com/strongroom/strongroom/internal/wrapped"
	"github.com/strongroom/strongroom/pkcs11"
)

func TestSealedTextComesBack(t *testing.T) {
	d, _ := rooted(t, newBox(t))
	k := newKey(t, d, "k1")
	for _, text := range []string{"", "x", "hunter2", string(make([]byte, 64<<10))} {
		iv, sealed := seal(t, d, k, text, "context")
		require.Len(t, iv, 12)
		require.Len(t, sealed, len(text)+16)
		got, err := unseal(d, k, iv, sealed, "context")
		require.NoError(t, err)
		require.Equal(t, text, got)
	}
	again, _ := seal(t, d, k, "x", "context")
	other, _ := seal(t, d, k, "x", "context")
	require.NotEqual(t, again, other, "every seal has an IV of its own")

	_, _, err := d.Seal(context.Background(), k, secret.Copy(make([]byte, pkcs11.MaxPlaintext+1)), nil)
	require.Equal(t, fault.TooLarge, fault.KindOf(err))
}

// Whatever part of what is to be opened is wrong, the answer is one and the
// same text.
func TestNothingDamagedOpens(t *testing.T) {
	d, _ := rooted(t, newBox(t))
	k, stranger := newKey(t, d, "k1"), newKey(t, d, "k2")
	iv, sealed := seal(t, d, k, "hunter2", "context")
	var texts []string
	refused := func(what string, k wrapped.Key, iv, sealed []byte, aad string) {
		t.Helper()
		got, err := unseal(d, k, iv, sealed, aad)
		require.Equal(t, fault.InvalidRequest, fault.KindOf(err), what)
		require.Empty(t, got, what)
		var public *fault.Error
		require.ErrorAs(t, err, &public)
		texts = append(texts, public.Message)
	}
	flipped := func(p []byte, i int) []byte {
		out := bytes.Clone(p)
		out[i] ^= 0x20
		return out
	}
	refused("other context", k, iv, sealed, "another")
	refused("no context", k, iv, sealed, "")
	refused("other key", stranger, iv, sealed, "context")
	refused("short", k, iv, sealed[:15], "context")
	refused("empty", k, iv, nil, "context")
	refused("extended", k, iv, append(bytes.Clone(sealed), 0), "context")
	refused("extended in front", k, iv, append([]byte{0}, sealed...), "context")
	refused("tag only", k, iv, sealed[len(sealed)-16:], "context")
	refused("zero tag", k, iv, append(bytes.Clone(sealed[:len(sealed)-16]), make([]byte, 16)...), "context")
	refused("zero iv", k, make([]byte, 12), sealed, "context")
	refused("short iv", k, iv[:11], sealed, "context")
	refused("no iv", k, nil, sealed, "context")
	refused("long iv", k, append(bytes.Clone(iv), 0), sealed, "context")
	for i := range sealed {
		refused(fmt.Sprint("box byte ", i), k, iv, flipped(sealed, i), "context")
	}
	for i := range iv {
		refused(fmt.Sprint("iv byte ", i), k, flipped(iv, i), sealed, "context")
	}
	for i := range k.Blob {
		bad := k
		bad.Blob = flipped(k.Blob, i)
		refused(fmt.Sprint("blob byte ", i), bad, iv, sealed, "context")
	}
	for i := range k.MAC {
		bad := k
		bad.MAC = flipped(k.MAC, i)
		refused(fmt.Sprint("mac byte ", i), bad, iv, sealed, "context")
	}
	for what, change := range map[string]func(*wrapped.Key){
		"id":      func(k *wrapped.Key) { k.ID = "k2" },
		"version": func(k *wrapped.Key) { k.Version++ },
		"spec":    func(k *wrapped.Key) { k.Spec = wrapped.HMAC256 },
		"usage":   func(k *wrapped.Key) { k.Usage = "sign" },
		"wrap":    func(k *wrapped.Key) { k.Wrap = "rfc5649" },
		"root":    func(k *wrapped.Key) { k.Root++ },
		"swapped": func(k *wrapped.Key) { k.Blob = stranger.Blob },
		"empty":   func(k *wrapped.Key) { *k = wrapped.Key{} },
	} {
		bad := k
		change(&bad)
		refused(what, bad, iv, sealed, "context")
	}
	slices.Sort(texts)
	require.Len(t, slices.Compact(texts), 1, "one text for all")
	require.Equal(t, pkcs11.HealthOK, d.Health().State)
	require.Equal(t, uint64(2), generationsSince(d), "no bad input may cost a worker")

	got, err := unseal(d, k, iv, sealed, "context") // the control
	require.NoError(t, err)
	require.Equal(t, "hunter2", got)
}

// generationsSince answers the workers used since the device was opened, less
// those that the ceremonies of rooted replaced (transport key, import).
func generationsSince(d *pkcs11.Device) uint64 { return d.Health().Generation - 1 }

func TestOnlyKnownSpecsAreMade(t *testing.T) {
	d, _ := rooted(t, newBox(t))
	for _, c := range [][2]string{{"aes-128", "encrypt"}, {wrapped.AES256, "sign"}, {"", ""}} {
		_, err := d.GenerateKey(context.Background(), "k", 1, c[0], c[1])
		require.Equal(t, fault.InvalidRequest, fault.KindOf(err))
	}
}

// More keys than handles: all stay usable, the loaded ones stay bounded.
func TestLoadedKeysAreBounded(t *testing.T) {
	b := newBox(t)
	b.cfg.Handles = 4
	registry := prometheus.NewRegistry()
	b.cfg.Registerer = registry
	d, _ := rooted(t, b)
	type sealedText struct {
		k          wrapped.Key
		iv, sealed []byte
	}
	var all []sealedText
	for i := range 20 {
		k := newKey(t, d, fmt.Sprint("k", i))
		iv, sealed := seal(t, d, k, fmt.Sprint("text ", i), "")
		all = append(all, sealedText{k, iv, sealed})
	}
	errs := make(chan error, 8)
	for range cap(errs) {
		go func() {
			errs <- func() error {
				for round := range 40 {
					i := round * 7 % len(all)
					got, err := unseal(d, all[i].k, all[i].iv, all[i].sealed, "")
					if err != nil {
						return err
					}
					if got != fmt.Sprint("text ", i) {
						return fmt.Errorf("key %d opened %q", i, got)
					}
				}
				return nil
			}()
		}()
	}
	for range cap(errs) {
		require.NoError(t, <-errs)
	}
	require.Eventually(t, func() bool { return metric(t, registry, "strongroom_hsm_handles_loaded") == 4 }, patient, ping)
}

// metric sums the samples of a counter or gauge.
func metric(t *testing.T, r *prometheus.Registry, name string) float64 {
	t.Helper()
	families, err := r.Gather()
	require.NoError(t, err)
	var sum float64
	for _, family := range families {
		if family.GetName() == name {
			for _, m := range family.GetMetric() {
				sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	return sum
}

// A client that sends ciphertexts that do not open must not be able to eat
// the memory of the worker.
func TestFailingDecryptsDoNotGrowMemory(t *testing.T) {
	d, _ := rooted(t, newBox(t))
	k := newKey(t, d, "k1")
	iv, sealed := seal(t, d, k, string(make([]byte, 4096)), "")
	sealed[0] ^= 1
	pid := d.Health().WorkerPID
	fail := func(n int) {
		for range n {
			_, err := unseal(d, k, iv, sealed, "")
			require.Equal(t, fault.InvalidRequest, fault.KindOf(err))
		}
	}
	fail(4000)
	before := residentKiB(t, pid)
	fail(20000)
	after := residentKiB(t, pid)
	require.Equal(t, pid, d.Health().WorkerPID)
	// A leak of the 4 KiB buffer would be 80 MiB.
	require.Less(t, after-before, 16<<10, "KiB grown by 20000 failing decrypts")
}

func residentKiB(t *testing.T, pid int) int {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	require.NoError(t, err)
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			n, err := strconv.Atoi(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")))
			require.NoError(t, err)
			return n
		}
	}
	require.FailNow(t, "no VmRSS")
	return 0
}
