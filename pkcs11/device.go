// Package pkcs11 is an HSM token as a small Go value. The PKCS#11 module runs
// in a child process of the same binary, so that a crash or a hang of the
// vendor's code costs a restart of that process and never the node; a Device
// starts it, watches it and speaks with it. Everything above sees operations,
// never a session or a handle.
//
// DESIGN.md has the reasons.
package pkcs11

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/strongroom/strongroom/internal/dialect"
	"github.com/strongroom/strongroom/internal/fault"
	"github.com/strongroom/strongroom/internal/secret"
	"github.com/strongroom/strongroom/internal/wrapped"
)

// Bounds of what one operation takes.
const (
	MaxPlaintext = 64 << 10  // bytes of Seal; Open answers no more
	MaxAAD       = 64 << 10  // bytes of associated data
	MaxMessage   = 256 << 10 // bytes of MAC
	MaxRandom    = 64 << 10  // bytes of Random
)

// maxKeyRoom bounds a wrapped key in a request: an RSA-4096 pair needs 3 KiB.
const maxKeyRoom = 4096

// maxInFlight bounds the requests that one worker holds, whatever Sessions
// says.
const maxInFlight = 256

// workerArgument is how a binary is told to be the worker.
const workerArgument = "hsm-worker"

// Config says which token to use and how. Module, TokenLabel and PINFile have
// no default.
type Config struct {
	Module      string   // absolute path of the PKCS#11 library
	InitArgs    string   // for C_Initialize (pReserved), for modules that want it; no secret
	TokenLabel  string   // the token is found by label
	TokenSerial string   // and by serial, when set
	PINFile     string   // user PIN; mode 0600 or 0400, owned by us or root; read by the worker only
	Env         []string // the worker's whole environment (SOFTHSM2_CONF=…); nothing is inherited
	SyncDir     string   // synced after token objects were made (SoftHSM's token directory); empty: none

	Dialect dialect.Dialect // what the module does differently; the zero value follows the standard

	Sessions         int           // worker sessions, default 2, at most 64; more do not make software tokens faster
	Handles          int           // keys kept loaded, default 1024
	OperationTimeout time.Duration // from handing a request to the worker, default 1500 ms
	ProbeInterval    time.Duration // of ping and canary, default 1 s

	Worker     []string              // command of the worker, default: the file of this process with "hsm-worker"
	Logger     *slog.Logger          // default: discards
	Registerer prometheus.Registerer // nil: no metrics
}

func (c Config) withDefaults() (Config, error) {
	switch {
	case !filepath.IsAbs(c.Module):
		return c, fault.Invalid("hsm.module", "must be the absolute path of a PKCS#11 library")
	case c.TokenLabel == "" || len(c.TokenLabel) > 32:
		return c, fault.Invalid("hsm.token", "must be the label of a token, 1 to 32 bytes")
	case c.PINFile == "":
		return c, fault.Invalid("hsm.pinFile", "must name the file with the user PIN")
	case c.Sessions < 0 || c.Sessions > maxInFlight/4:
		return c, fault.Invalid("hsm.sessions", "must be between 1 and %d", maxInFlight/4)
	case c.Handles < 0 || c.OperationTimeout < 0 || c.ProbeInterval < 0:
		return c, fault.Invalid("hsm", "bounds and times must not be negative")
	}
	if c.Sessions == 0 {
		c.Sessions = 2
	}
	if faults := c.Dialect.Faults(c.Sessions); len(faults) > 0 {
		return c, fault.Invalid(faults[0].Setting, "%s", faults[0].Text)
	}
	if c.Handles == 0 {
		c.Handles = 1024
	}
	if c.OperationTimeout == 0 {
		c.OperationTimeout = 1500 * time.Millisecond
	}
	if c.ProbeInterval == 0 {
		c.ProbeInterval = time.Second
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c, nil
}

// Device is one HSM token. It is safe for concurrent use.
type Device struct {
	cfg     Config
	log     *slog.Logger
	metrics *metrics

	ceremonies sync.Mutex    // one at a time
	making     chan struct{} // of one: the request that is served apart

	cancel context.CancelFunc
	done   chan struct{} // closed when the supervisor has ended
	kick   chan struct{} // a restart is wanted

	mu    sync.Mutex
	state deviceState
}

// deviceState is what the supervisor says and callers wait for.
type deviceState struct {
	conn        *workerConn // the worker in service, nil: none
	generation  uint64      // of the last worker started
	profile     Profile
	down        error // why there is no worker; nil while one is just being replaced
	held        bool  // down until a person acts
	closed      bool
	roots       []Root // what the next worker starts with; the one in service has these, and may have more
	making      uint32 // version of the one that new keys are wrapped under
	allowImport bool
	started     uint64 // attempts to start a worker, begun and ended
	finished    uint64
	wanted      uint64 // attempt that a restart waits for
	lastOK      time.Time
	changed     chan struct{} // closed at every change
}

// change runs do under the lock and wakes everybody who waits.
func (d *Device) change(do func(s *deviceState)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	do(&d.state)
	close(d.state.changed)
	d.state.changed = make(chan struct{})
}

func (d *Device) snapshot() deviceState {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.state
}

// Open starts the worker and waits until it serves or it is clear why it does
// not, or ctx has ended. It fails on an impossible Config only: an HSM that is away
// is Health's to tell and comes back by itself.
func Open(ctx context.Context, cfg Config) (*Device, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	if len(os.Args) > 1 && os.Args[1] == workerArgument {
		// A program that does not run WorkerMain for this argument would
		// start itself over and over.
		return nil, fault.New(fault.Internal, "main must run pkcs11.WorkerMain for the argument %q", workerArgument)
	}
	m, err := newMetrics(cfg.Registerer)
	if err != nil {
		return nil, fmt.Errorf("pkcs11: metrics: %w", err)
	}
	life, cancel := context.WithCancel(context.WithoutCancel(ctx))
	d := &Device{cfg: cfg, log: cfg.Logger, metrics: m, cancel: cancel,
		done: make(chan struct{}), kick: make(chan struct{}, 1), making: make(chan struct{}, 1)}
	d.state.changed = make(chan struct{})
	go d.supervise(life)
	_ = d.await(ctx, func(s *deviceState) bool { return s.conn != nil || s.down != nil })
	return d, nil
}

// await waits until is holds, ctx ends or the device closes.
func (d *Device) await(ctx context.Context, is func(*deviceState) bool) error {
	for {
		s := d.snapshot()
		if is(&s) {
			return nil
		}
		if s.closed {
			return unavailable(errClosed)
		}
		select {
		case <-s.changed:
		case <-ctx.Done():
			return unavailable(ctx.Err())
		}
	}
}

// Close ends the worker and waits for it. Requests in flight fail.
func (d *Device) Close() error {
	d.cancel()
	<-d.done
	d.finishMaking()
	d.metrics.unregister()
	return nil
}

// Health is what the device is able to do now.
type Health struct {
	State      string // "ok"; "degraded": being replaced, or no root key in use; "down"
	Reason     string // for a person, empty when ok
	LastOK     time.Time
	Generation uint64 // of the worker: how many were started
	WorkerPID  int    // 0: none in service
	Profile    Profile
}

// The states of Health.
const (
	HealthOK       = "ok"
	HealthDegraded = "degraded"
	HealthDown     = "down"
)

// Health never waits.
func (d *Device) Health() Health {
	s := d.snapshot()
	h := Health{State: HealthOK, LastOK: s.lastOK, Generation: s.generation, Profile: s.profile}
	switch {
	case s.closed:
		h.State, h.Reason = HealthDown, "closed"
	case s.conn != nil:
		h.WorkerPID = s.conn.pid()
		if len(s.roots) == 0 {
			h.State, h.Reason = HealthDegraded, "no root key is in use yet"
		} else if trouble := s.conn.trouble(); trouble != "" {
			h.State, h.Reason = HealthDegraded, trouble
		}
	case s.down != nil:
		h.State, h.Reason = HealthDown, s.down.Error()
	default:
		h.State, h.Reason = HealthDegraded, "the HSM worker is being started"
	}
	return h
}

// Seal encrypts plaintext, at most MaxPlaintext bytes, under k by AES-256-GCM
// inside the HSM, with a random IV and a tag of 128 bits, bound to aad. The IV
// has 12 bytes, or 16 where the HSM makes it so (Health().Profile.IVBytes).
// It leaves plaintext to the caller. A k that is not one of ours, whole, is
// InvalidRequest.
//
// Random IVs bound how often one key may seal (2^32 times, SP 800-38D): the
// caller counts.
func (d *Device) Seal(ctx context.Context, k wrapped.Key, plaintext secret.Bytes, aad []byte) (iv, box []byte, err error) {
	if plaintext.Len() > MaxPlaintext || len(aad) > MaxAAD {
		return nil, nil, fault.New(fault.TooLarge, "plaintext and context may have %d bytes each", MaxPlaintext)
	}
	if keyRoom(k) > maxKeyRoom {
		return nil, nil, errCannotUse().fault()
	}
	e := newEncoder(keyRoom(k) + plaintext.Len() + len(aad))
	putKey(e, k)
	e.bytes(plaintext.Expose())
	e.bytes(aad)
	err = d.request(ctx, opSeal, e.b, func(in *decoder) {
		iv, box = append([]byte(nil), in.bytes()...), append([]byte(nil), in.bytes()...)
	})
	return iv, box, err
}

// Open decrypts what Seal made. Whatever does not open, for whatever reason,
// is InvalidRequest with one and the same text. The caller wipes the result.
func (d *Device) Open(ctx context.Context, k wrapped.Key, iv, box, aad []byte) (secret.Bytes, error) {
	if len(iv) > 64 || len(box) > MaxPlaintext+tagBytes || len(aad) > MaxAAD || keyRoom(k) > maxKeyRoom {
		return secret.Bytes{}, errCannotOpen().fault()
	}
	e := newEncoder(keyRoom(k) + len(iv) + len(box) + len(aad))
	putKey(e, k)
	e.bytes(iv)
	e.bytes(box)
	e.bytes(aad)
	var out secret.Bytes
	err := d.request(ctx, opOpen, e.b, func(in *decoder) { out = secret.Copy(in.bytes()) })
	if err != nil {
		out.Wipe()
		return secret.Bytes{}, err
	}
	return out, nil
}

// MAC answers the HMAC-SHA-256 of message, at most MaxMessage bytes, under
// the root MAC key, after a fixed domain string: it can never be taken for
// the MAC of a wrapped key. It changes with the root that new keys are made
// under: nothing that is kept may rest on it.
func (d *Device) MAC(ctx context.Context, message []byte) ([]byte, error) {
	if len(message) > MaxMessage {
		return nil, fault.New(fault.TooLarge, "a message may have %d bytes", MaxMessage)
	}
	e := newEncoder(len(message))
	e.bytes(message)
	var out []byte
	err := d.request(ctx, opMAC, e.b, func(in *decoder) { out = append([]byte(nil), in.bytes()...) })
	return out, err
}

// Random answers n bytes, 1 to MaxRandom, of the HSM's generator.
func (d *Device) Random(ctx context.Context, n int) ([]byte, error) {
	if n < 1 || n > MaxRandom {
		return nil, fault.Invalid("bytes", "must be between 1 and %d", MaxRandom)
	}
	e := newEncoder(4)
	e.u32(uint32(n))
	var out []byte
	err := d.request(ctx, opRandom, e.b, func(in *decoder) { out = append([]byte(nil), in.bytes()...) })
	return out, err
}

var errClosed = errors.New("the device is closed")
