package pkcs11

import (
	"context"
	"errors"
	"time"

	"github.com/strongroom/strongroom/internal/fault"
)

// Deadlines of operations that are not hot, from handing over to the worker.
const (
	loadTimeout     = 5 * time.Second
	loginTimeout    = 10 * time.Second
	generateTimeout = 10 * time.Second
	ceremonyTimeout = 60 * time.Second // an RSA-4096 pair takes a slow HSM a while
)

func (d *Device) timeout(o op) time.Duration {
	switch o {
	case opGenerateKey, opCreateStorage, opSealStorage, opOpenStorage, opRemoveStorage:
		return max(generateTimeout, d.cfg.OperationTimeout)
	case opGeneratePair, opImportKey, opCreateTransport, opTransport, opCreateRoot, opInitToken, opUseRoot, opImportRoot, opRewrap, opRemoveRoot:
		return max(ceremonyTimeout, d.cfg.OperationTimeout)
	default:
		return d.cfg.OperationTimeout
	}
}

// repeatable reports whether o may be sent to a second worker when the first
// one went away with it. A hot call changes nothing that outlives its worker
// (a key that was being made died with it; a second signature is as good as
// the first); a ceremony does. An import changes nothing either, but it may
// be what the first worker died of: see ImportKey.
func (o op) repeatable() bool {
	switch o {
	case opGenerateKey, opGeneratePair, opSeal, opOpen, opMAC, opRandom, opSign, opKeyMAC, opDecryptRSA, opCheckKey, opTransport, opMakeUnder, opRewrap,
		opSealStorage, opOpenStorage:
		return true
	default:
		return false
	}
}

// request sends o to the worker in service, waits for one while it is being
// replaced, reads the answer with get, and wipes both payloads.
func (d *Device) request(ctx context.Context, o op, payload []byte, get func(*decoder)) error {
	defer clear(payload)
	defer d.metrics.begun()()
	start := time.Now()
	err := d.attempts(ctx, o, payload, get)
	d.metrics.observe(o, time.Since(start), err)
	return err
}

func (d *Device) attempts(ctx context.Context, o op, payload []byte, get func(*decoder)) error {
	for attempt := 0; ; attempt++ {
		c, err := d.worker(ctx)
		if err != nil {
			return err
		}
		answer, err := c.roundTrip(ctx, o, payload, d.timeout(o))
		if err == nil {
			err = read(answer, get)
			var failure *opError
			if !errors.As(err, &failure) || failure.status != statusSick && failure.status != statusCredential {
				return asFault(err)
			}
			c.fail(err)
		}
		if c.reason() != nil {
			d.leave(c)
		}
		switch {
		case ctx.Err() != nil:
			return unavailable(ctx.Err())
		case attempt > 0 || !o.repeatable():
			return asFault(err)
		}
		d.log.Warn("hsm request repeated on a new worker", "operation", o.String(), "error", err)
	}
}

// leave takes a worker that failed out of service at once, so that the next
// look finds none and waits for its successor.
func (d *Device) leave(c *workerConn) {
	d.change(func(s *deviceState) {
		if s.conn == c {
			s.conn, s.down = nil, nil
		}
	})
}

// worker answers the worker in service. While it is being replaced it waits;
// when the last start failed it says at once why.
func (d *Device) worker(ctx context.Context) (*workerConn, error) {
	var c *workerConn
	var down error
	err := d.await(ctx, func(s *deviceState) bool {
		c, down = s.conn, s.down
		return !s.closed && (c != nil || down != nil)
	})
	if err != nil {
		return nil, err
	}
	if c == nil {
		return nil, unavailable(down)
	}
	return c, nil
}

// read decodes an answer and wipes it.
func read(f frame, get func(*decoder)) error {
	defer f.wipe()
	d := &decoder{b: f.payload}
	if status(f.kind) != statusOK {
		failure := &opError{status: status(f.kind), text: d.text()}
		if detail := d.text(); detail != "" {
			failure.cause = errors.New(detail)
		}
		if err := d.done(); err != nil {
			return fail(statusSick, err, "the HSM worker answered nonsense")
		}
		return failure
	}
	get(d)
	if err := d.done(); err != nil {
		return fail(statusSick, err, "the HSM worker answered nonsense")
	}
	return nil
}

// fault is how callers see a failure of the worker half.
func (e *opError) fault() *fault.Error {
	switch e.status {
	case statusInvalid:
		return fault.Wrap(fault.InvalidRequest, e.cause, "%s", e.text)
	case statusAbsent:
		return fault.Wrap(fault.NotFound, e.cause, "%s", e.text)
	case statusExists:
		return fault.Wrap(fault.AlreadyExists, e.cause, "%s", e.text)
	default:
		return unavailable(e)
	}
}

func asFault(err error) error {
	if err == nil {
		return nil
	}
	var e *opError
	if errors.As(err, &e) {
		return e.fault()
	}
	return unavailable(err)
}

// unavailable is the one public text for an HSM that cannot serve now; the
// reason is in the cause and in Health.
func unavailable(cause error) *fault.Error {
	return fault.Wrap(fault.HsmUnavailable, cause, "the HSM of this node cannot serve now")
}
