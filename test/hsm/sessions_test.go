package hsm

import (
	"context"
	"errors"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/internal/dialect"
	"github.com/strongroom/strongroom/internal/fault"
	"github.com/strongroom/strongroom/internal/wrapped"
	"github.com/strongroom/strongroom/pkcs11"
)

const ckrPINIncorrect = 0xA0

// perSession opens a rooted device on a module that wants a log-in in each
// session. It pings rarely, so that the counts of log-ins stand still.
func perSession(t *testing.T) (box, faults, *pkcs11.Device) {
	t.Helper()
	b := newBox(t)
	f := faulty(t, &b)
	f.quirks(loginPerSession)
	b.cfg.Dialect.LoginPerSession = true
	b.cfg.ProbeInterval = time.Second
	d, _ := rooted(t, b)
	return b, f, d
}

func TestLoginInEachSession(t *testing.T) {
	_, f, d := perSession(t)
	k := newKey(t, d, "k1")
	sealsAndOpens(t, d, k, 12)
	importsSecret(t, d)
	keyOf(t, d, wrapped.ECP256, wrapped.Sign)
	require.GreaterOrEqual(t, f.calls(ckLogin), f.calls(ckOpenSession), "one for each session, at least")

	// A session that goes bad is replaced by one that is logged in.
	pid := d.Health().WorkerPID
	s := newSealer(t, d)
	f.fail(ckDecryptInit, ckrSessionHandleInvalid, 1)
	require.NoError(t, s.open(context.Background()))
	require.Equal(t, pid, d.Health().WorkerPID)
}

// Modules that take one log-in for all forgive the others.
func TestLoginInEachSessionWhereNoneIsNeeded(t *testing.T) {
	b := newBox(t)
	b.cfg.Dialect.LoginPerSession = true
	d, _ := rooted(t, b)
	require.NoError(t, newSealer(t, d).open(context.Background()))
}

func TestMissingLoginPerSessionIsNamed(t *testing.T) {
	b := newBox(t)
	f := faulty(t, &b)
	f.quirks(loginPerSession)
	h := open(t, b).Health()
	require.Equal(t, pkcs11.HealthDown, h.State)
	require.Contains(t, h.Reason, "hsm.loginPerSession")
	require.Contains(t, h.Reason, "set it to true")
}

// The PIN is changed in the HSM while the worker serves: the first session
// that is refused is the last that tries, whoever asks for what.
func TestPINRefusedToASessionIsTriedOnce(t *testing.T) {
	for name, ask := range map[string]func(d *pkcs11.Device, s sealer, f faults) error{
		"a session that is replaced": func(d *pkcs11.Device, s sealer, f faults) error {
			f.fail(ckDecryptInit, ckrSessionHandleInvalid, 1)
			return s.open(context.Background())
		},
		"a ceremony": func(d *pkcs11.Device, _ sealer, _ faults) error {
			_, err := d.TransportKey(context.Background())
			return err
		},
		"a pair": func(d *pkcs11.Device, _ sealer, _ faults) error {
			_, err := d.GenerateKey(context.Background(), "k", 1, wrapped.ECP256, wrapped.Sign)
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			b, f, d := perSession(t)
			s := newSealer(t, d)
			logins := f.calls(ckLogin)
			f.fail(ckLogin, ckrPINIncorrect, -1)
			require.Equal(t, fault.HsmUnavailable, fault.KindOf(ask(d, s, f)))
			require.Eventually(t, func() bool { return d.Health().State == pkcs11.HealthDown }, patient, ping)
			require.Contains(t, d.Health().Reason, "until a person acts: put the right PIN into "+b.cfg.PINFile)
			for range 3 {
				require.Equal(t, fault.HsmUnavailable, fault.KindOf(s.open(context.Background())))
				_, err := d.TransportKey(context.Background())
				require.Equal(t, fault.HsmUnavailable, fault.KindOf(err))
				require.Error(t, d.UseRoot(context.Background(), aRoot()))
			}
			since := time.Now().Add(2 * b.cfg.ProbeInterval)
			require.Eventually(t, func() bool { return time.Now().After(since) }, patient, ping)
			require.Equal(t, logins+1, f.calls(ckLogin), "the PIN was tried again without a person")

			f.fail(ckLogin, 0, 0)
			write(t, b.cfg.PINFile, userPIN)
			require.Eventually(t, func() bool { return d.Health().State == pkcs11.HealthOK }, patient, ping)
			require.NoError(t, s.open(context.Background()))
		})
	}
}

// A PIN file that changed has not proven itself: a worker in service does not
// try it, a fresh one does, once.
func TestChangedPINFileIsForAFreshWorker(t *testing.T) {
	b, f, d := perSession(t)
	s := newSealer(t, d)
	write(t, b.cfg.PINFile, "not-the-pin")
	pid, logins := d.Health().WorkerPID, f.calls(ckLogin)
	f.fail(ckDecryptInit, ckrSessionHandleInvalid, 1)
	require.Equal(t, fault.HsmUnavailable, fault.KindOf(s.open(context.Background())))
	require.Eventually(t, func() bool { return d.Health().State == pkcs11.HealthDown }, patient, ping)
	require.Contains(t, d.Health().Reason, "until a person acts")
	require.NotContains(t, d.Health().Reason, "not-the-pin")
	require.Equal(t, logins+1, f.calls(ckLogin), "the new worker tried it, and only once")

	write(t, b.cfg.PINFile, userPIN)
	require.Eventually(t, func() bool { return d.Health().State == pkcs11.HealthOK }, patient, ping)
	require.NotEqual(t, pid, d.Health().WorkerPID)
	require.NoError(t, s.open(context.Background()))
}

// The PIN is nowhere to be found in a worker that logs in again and again.
func TestPINIsNotKeptForTheNextSession(t *testing.T) {
	b, f, d := perSession(t)
	var log lockedBuffer
	require.NoError(t, d.Close())
	b.cfg.Logger = log.logger()
	d = open(t, b)
	require.NoError(t, os.Chmod(b.cfg.PINFile, 0o644)) // a file that the worker refuses
	logins := f.calls(ckLogin)
	_, err := d.TransportKey(context.Background())
	require.Equal(t, fault.HsmUnavailable, fault.KindOf(err))
	require.Equal(t, logins, f.calls(ckLogin), "without the file there is no PIN to log in with")
	require.NoError(t, os.Chmod(b.cfg.PINFile, 0o600))
	_, err = d.TransportKey(context.Background())
	require.NoError(t, err)
	require.NotContains(t, log.String(), userPIN)
}

// A node never opens more sessions than the sum says: at exactly that limit
// all works at once, and the module would refuse one more.
func TestSessionLimit(t *testing.T) {
	for _, serving := range []int{1, 2} {
		b := newBox(t)
		f := faulty(t, &b)
		need := dialect.NeededSessions(serving)
		f.sessions(int32(need), int32(need), 0)
		b.cfg.Sessions, b.cfg.Dialect.MaxSessions = serving, need
		d, _ := rooted(t, b)
		require.EqualValues(t, need, d.Health().Profile.TokenSessions)
		s, pid := newSealer(t, d), d.Health().WorkerPID
		errs := make(chan error, 8)
		for i := range cap(errs) {
			go func() {
				if i%2 == 0 {
					_, err := d.GenerateKey(context.Background(), "k", 1, wrapped.ECP256, wrapped.Sign)
					errs <- err
					return
				}
				_, err := d.TransportKey(context.Background())
				errs <- errors.Join(err, s.open(context.Background()))
			}()
		}
		for range cap(errs) {
			require.NoError(t, <-errs)
		}
		importsSecret(t, d)
		require.Equal(t, pid, d.Health().WorkerPID)
	}
}

func TestTooFewSessionsAreRefused(t *testing.T) {
	b := newBox(t)
	f := faulty(t, &b)
	b.cfg.Sessions = 4
	for name, told := range map[string][2]int32{"in all": {5, 0}, "read/write": {0, 5}, "the smaller counts": {9, 5}} {
		f.sessions(0, told[0], told[1])
		h := open(t, b).Health()
		require.Equal(t, pkcs11.HealthDown, h.State, name)
		require.Contains(t, h.Reason, "hsm.sessions: 4 that serve, 1 that holds the log-in and the keys and 1 for ceremonies make 6 sessions; "+
			"the token says (C_GetTokenInfo) that it allows 5; make hsm.sessions at most 3", name)
	}
	for _, unknown := range []int32{0, -1, -2} { // infinite, not available, and what openCryptoki says
		f.sessions(0, unknown, 0)
		d := open(t, b)
		require.NotEqual(t, pkcs11.HealthDown, d.Health().State, d.Health().Reason)
		require.Zero(t, d.Health().Profile.TokenSessions)
	}

	b.cfg.Dialect.MaxSessions = 5
	_, err := pkcs11.Open(context.Background(), b.cfg)
	require.Equal(t, fault.InvalidRequest, fault.KindOf(err))
	require.ErrorContains(t, err, "hsm.sessions: 4 that serve")

	b.cfg.Dialect.MaxSessions = 0
	f.sessions(4, 0, 0) // a limit that nobody tells
	h := open(t, b).Health()
	require.Equal(t, pkcs11.HealthDown, h.State)
	require.Contains(t, h.Reason, "this worker may need 6: lower hsm.sessions")
}
