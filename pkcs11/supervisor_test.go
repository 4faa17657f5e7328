package pkcs11

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/internal/fault"
)

const (
	patient = 60 * time.Second
	look    = 5 * time.Millisecond
)

// stage is a device whose workers play.
type stage struct {
	t   *testing.T
	p   play
	cfg Config
	d   *Device
}

func newStage(t *testing.T, p play) *stage {
	dir := t.TempDir()
	p.Count, p.Stage = filepath.Join(dir, "count"), filepath.Join(dir, "behave")
	script, err := json.Marshal(p)
	require.NoError(t, err)
	pin := filepath.Join(dir, "pin")
	require.NoError(t, os.WriteFile(pin, []byte("1234"), 0o600))
	return &stage{t: t, p: p, cfg: Config{Module: "/no/module.so", TokenLabel: "play", PINFile: pin,
		Worker:           []string{os.Args[0], "playing-worker", string(script)},
		OperationTimeout: 300 * time.Millisecond, ProbeInterval: 200 * time.Millisecond}}
}

func (s *stage) open() *Device {
	d, err := Open(context.Background(), s.cfg)
	require.NoError(s.t, err)
	s.t.Cleanup(func() { require.NoError(s.t, d.Close()) })
	s.d = d
	return d
}

// behave lets every worker from now on behave.
func (s *stage) behave() { require.NoError(s.t, os.WriteFile(s.p.Stage, nil, 0o600)) }

// spoilt reports whether a worker has spoilt its operation.
func (s *stage) spoilt() bool {
	_, err := os.Stat(s.p.Stage + ".spoilt")
	return err == nil
}

func (s *stage) starts() int {
	info, err := os.Stat(s.p.Count)
	if err != nil {
		return 0
	}
	return int(info.Size())
}

// A worker that spoils a request costs the request one repetition, then it
// fails clean; the ceremony, which must not be repeated, none.
func TestSpoiledRequestIsRepeatedOnce(t *testing.T) {
	for _, spoiled := range []string{"exit", "hang", "garbage", "stranger", "nonsense", how(statusSick)} {
		t.Run(spoiled, func(t *testing.T) {
			s := newStage(t, play{Op: opMAC, How: spoiled})
			d := s.open()
			_, err := d.MAC(context.Background(), []byte("m"))
			require.Equal(t, fault.HsmUnavailable, fault.KindOf(err))
			require.Eventually(t, func() bool { return s.starts() == 3 }, patient, look, "two workers spoilt, the third waits")
			s.behave()
			out, err := d.MAC(context.Background(), []byte("m"))
			require.NoError(t, err)
			require.Equal(t, "answer", string(out))
		})
	}
}

func TestCeremonyIsNotRepeated(t *testing.T) {
	s := newStage(t, play{Op: opCreateTransport, How: "exit"})
	d := s.open()
	_, err := d.CreateTransportKey(context.Background())
	require.Equal(t, fault.HsmUnavailable, fault.KindOf(err))
	require.Eventually(t, func() bool { return d.Health().WorkerPID != 0 }, patient, look)
	require.Equal(t, 2, s.starts(), "one worker lost, one in its place")
}

// The repetition is what saves a request when only one worker was bad.
func TestRequestSurvivesOneLostWorker(t *testing.T) {
	s := newStage(t, play{Op: opMAC, How: "hang"})
	d := s.open()
	done := make(chan error, 1)
	go func() {
		_, err := d.MAC(context.Background(), []byte("m"))
		done <- err
	}()
	require.Eventually(t, s.spoilt, patient, look)
	s.behave()
	require.NoError(t, <-done)
	require.Equal(t, 2, s.starts())
}

func inFlight(d *Device) []uint64 {
	c := d.snapshot().conn
	if c == nil {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []uint64
	for id, p := range c.pending {
		if p.slot {
			out = append(out, id)
		}
	}
	return out
}

// What a worker holds is bounded, and those who queue for it can leave.
func TestRequestsInFlightAreBounded(t *testing.T) {
	s := newStage(t, play{Op: opRandom, How: "hang"})
	s.cfg.OperationTimeout = patient
	s.cfg.Sessions = 1
	d := s.open()
	ctx, cancel := context.WithCancel(context.Background())
	const callers = 30
	errs := make(chan error, callers)
	for range callers {
		go func() {
			_, err := d.Random(ctx, 8)
			errs <- err
		}()
	}
	require.Eventually(t, func() bool { return len(inFlight(d)) == 4 }, patient, look)
	cancel()
	for range callers {
		err := <-errs
		require.Equal(t, fault.HsmUnavailable, fault.KindOf(err))
		require.ErrorIs(t, err, context.Canceled)
	}
	require.Len(t, inFlight(d), 4, "what was handed over keeps its place and its deadline")
	require.Equal(t, 1, s.starts())
}

// The outcome of the worker's refusals, as callers see them.
func TestRefusalsHaveTheirKind(t *testing.T) {
	for answer, kind := range map[status]fault.Kind{
		statusInvalid: fault.InvalidRequest, statusAbsent: fault.NotFound, statusExists: fault.AlreadyExists,
		statusRefused: fault.HsmUnavailable, statusBusy: fault.HsmUnavailable, statusCredential: fault.HsmUnavailable,
	} {
		s := newStage(t, play{Op: opMAC, How: how(answer), Text: "the words"})
		_, err := s.open().MAC(context.Background(), nil)
		require.Equal(t, kind, fault.KindOf(err))
		require.ErrorContains(t, err, "the words")
		require.Equal(t, 1, s.starts(), "a refusal costs no worker")
	}
}

// A worker that dies in C_Login may have cost a try of the PIN.
func TestSilentLoginsEndWithAPerson(t *testing.T) {
	s := newStage(t, play{Op: opLogin, How: "exit"})
	d := s.open()
	require.Eventually(t, func() bool { return d.snapshot().held }, patient, look)
	require.Equal(t, maxSilentLogins, s.starts())
	require.Contains(t, d.Health().Reason, "until a person acts")
	s.behave()
	require.NoError(t, os.WriteFile(s.cfg.PINFile, []byte("another"), 0o600))
	require.Eventually(t, func() bool { return d.Health().WorkerPID != 0 }, patient, look)
}

// A worker that cannot be started at all is tried again, ever more slowly,
// and the reason is told.
func TestWorkerThatCannotStart(t *testing.T) {
	s := newStage(t, play{})
	s.cfg.Worker = []string{"/no/such/binary"}
	d := s.open()
	require.Eventually(t, func() bool { return d.Health().State == HealthDown }, patient, look)
	require.Contains(t, d.Health().Reason, "cannot be started")
	_, err := d.Random(context.Background(), 1)
	require.Equal(t, fault.HsmUnavailable, fault.KindOf(err))
}

func TestImpossibleConfigsAreRefused(t *testing.T) {
	good := Config{Module: "/m.so", TokenLabel: "l", PINFile: "/pin"}
	_, err := good.withDefaults()
	require.NoError(t, err)
	for field, spoil := range map[string]func(*Config){
		"hsm.module":   func(c *Config) { c.Module = "m.so" },
		"hsm.token":    func(c *Config) { c.TokenLabel = "" },
		"hsm.pinFile":  func(c *Config) { c.PINFile = "" },
		"hsm.sessions": func(c *Config) { c.Sessions = 65 },
		"hsm":          func(c *Config) { c.ProbeInterval = -1 },
	} {
		c := good
		spoil(&c)
		_, err := Open(context.Background(), c)
		require.Equal(t, fault.InvalidRequest, fault.KindOf(err), field)
		require.ErrorContains(t, err, field+":")
	}
}

// Closed devices answer, and leave neither metrics nor workers behind.
func TestCloseLeavesNothing(t *testing.T) {
	s := newStage(t, play{})
	registry := prometheus.NewRegistry()
	s.cfg.Registerer = registry
	for range 2 { // the second Open registers the same names again
		d, err := Open(context.Background(), s.cfg)
		require.NoError(t, err)
		_, err = d.MAC(context.Background(), nil)
		require.NoError(t, err)
		families, err := registry.Gather()
		require.NoError(t, err)
		require.NotEmpty(t, families)
		c := d.snapshot().conn
		require.NoError(t, d.Close())
		<-c.exited
		require.Equal(t, HealthDown, d.Health().State)
		_, err = d.MAC(context.Background(), nil)
		require.ErrorIs(t, err, errClosed)
	}
	families, err := registry.Gather()
	require.NoError(t, err)
	require.Empty(t, families)
}
