package pkcs11

import (
	"errors"
	"time"
)

// What follows a call that failed. Network HSMs and busy ones fail a call now
// and then and are well all the same, so an error alone does not cost the
// worker its life: the device is asked first, by the canary, on a new session.
// Only a device that does not answer it is ill. Everything here is bounded
// twice, by a count and by the time at which the parent gives the worker up.

const (
	// tries is how often an operation is done, a step of the canary, the
	// opening or closing of a session. Where one call in fifty fails, two
	// calls fail four times in a row once in 400,000.
	tries = 4

	// startTries is for the steps of a start, which have up to 25 calls: of
	// those 40 in 100 fail at that rate, and all eight tries 6 in 10,000. A
	// start that fails is repeated by the supervisor.
	startTries = 8

	// maxUnlucky operations that fail in a row, each after all its tries and
	// with a canary that answers, cost the worker its life: a fresh instance
	// of the module is the one recovery that we have. It is as many as the
	// worker of two sessions holds at once, so that one bad moment, in which
	// all that is in flight fails together, is not enough.
	maxUnlucky = 8

	// maxStuck is how many objects may stay in the HSM that it would not
	// destroy, until a new worker clears them away.
	maxStuck = 64
)

// Patience is the part of a deadline during which something is begun once
// more; what is left is for finishing.
const patience = 3

// patienceFor is that of a request to the one goroutine for what is not hot.
// The supervisor gives the steps of a start loginTimeout.
func patienceFor(o op) time.Duration {
	switch o {
	case opLogin, opProbe, opUseRoot:
		return loginTimeout / patience
	default:
		return ceremonyTimeout / patience
	}
}

// persist does something up to n times, as long as its error may pass by
// itself and the time is not up.
func persist(n int, until time.Time, do func() error) error {
	for try := 1; ; try++ {
		err := do()
		if err == nil || !mayPass(err) || try == n || time.Now().After(until) {
			return err
		}
	}
}

// mayPass reports whether err is a failed call that says nothing about what
// was asked for: the same may work the next time.
func mayPass(err error) bool {
	var call *callError
	if !errors.As(err, &call) {
		return false
	}
	switch c, _ := classify(call.code, forUse); c {
	case classDevice, classSession, classGeneration:
		return true
	default:
		return false
	}
}

// blamesDevice reports whether err speaks of the device, its sessions or its
// room, rather than of what the module can do.
func blamesDevice(err error) bool {
	var call *callError
	if !errors.As(err, &call) {
		return false
	}
	c, known := classes[call.code]
	return known && c != classInput && c != classCapability
}

// verdict runs a call whose failure will be remembered, or is hoped for: it
// takes nothing for a refusal that may have been the device's bad moment. A
// code that speaks of the device is err; one that says nothing is a refusal
// when it comes each time. call needs no Init, which would poison a session.
func verdict(call func() error) (refusal, err error) {
	for range tries {
		refusal = call()
		var c *callError
		switch {
		case refusal == nil || !mayPass(refusal) && !blamesDevice(refusal):
			return refusal, nil
		case errors.As(refusal, &c) && c.code == rvKeyFunctionNotPermitted:
			// Transient while an object is destroyed, and some modules' word
			// for what a template forbids.
		case blamesDevice(refusal):
			return nil, refusal
		}
	}
	return refusal, nil
}

// newSession opens a session of ours.
func (w *worker) newSession(until time.Time) (handle uint, err error) {
	err = persist(tries, until, func() error {
		handle, err = w.openSession()
		return err
	})
	return handle, err
}

// repeated is a ceremony that leaves nothing behind when it fails, so it may
// be done again, in a new session.
func (w *worker) repeated(do func(session uint) error) error {
	return persist(startTries, w.until, func() error { return w.ceremony(do) })
}

// renew replaces the session. After any error: one that was left between Init
// and operation is poisoned for ever, and closing it also destroys what it
// had made.
func (s *hotSession) renew() error {
	if s.handle != 0 {
		s.w.mod.closeSession(s.handle)
	}
	s.handle = 0 // never a session: the number may be another's by now
	handle, err := s.w.newSession(s.until)
	if err != nil {
		return fail(statusSick, err, "the HSM gives no new session")
	}
	s.handle = handle
	return nil
}

// again runs use and decides what its failure means; it runs it again where
// the table of error classes says that this can help and the canary, on a new
// session, that the device is well. reload is called before that when handles
// are stale.
func (s *hotSession) again(use func() error, reload func()) error {
	refused := false
	for try := 1; ; try++ {
		err := use()
		var call *callError
		switch {
		case err == nil:
			s.w.lucky()
			return nil
		case !errors.As(err, &call):
			return err
		}
		if err := s.renew(); err != nil {
			return err
		}
		c, ambiguous := classify(call.code, call.why)
		switch {
		case ambiguous && refused:
			return errCannotOpen() // twice the same, and the device was well in between
		case ambiguous:
			refused = true
		case c == classInput && call.why == forOpen:
			return errCannotOpen()
		case c == classInput:
			// Too long for this HSM, say. It is no reason to end the worker:
			// a caller could end one with each request.
			return fail(statusInvalid, err, "the HSM does not take this input")
		case c == classCapability || c == classCapacity:
			return err
		case c == classGeneration:
			reload()
		}
		if try == 1 && (c == classSession || c == classGeneration) {
			continue // sessions and handles go stale on devices that are well
		}
		if err := s.canary(s.w.root.Load()); err != nil {
			return err
		}
		if try == tries || time.Now().After(s.until) {
			if ambiguous {
				return errCannotOpen()
			}
			return s.w.failedWell(call)
		}
	}
}

// failedWell is the answer for an operation that failed on a device that is
// well. The worker stays, unless nothing has worked for a while. A stranger's
// key material is no evidence: it may be what the device does not take.
func (w *worker) failedWell(call *callError) error {
	if call.why != forImport && w.unlucky.Add(1) >= maxUnlucky {
		return fail(statusSick, call, "the HSM answers its canary, and nothing else works")
	}
	return fail(statusFailed, call, "the HSM failed this operation")
}

// lucky notes that an operation succeeded.
func (w *worker) lucky() {
	if w.unlucky.Load() != 0 {
		w.unlucky.Store(0)
	}
}
