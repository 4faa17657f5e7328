package pkcs11

import (
	"errors"
	"fmt"
)

// refusedPIN reports whether a worker said that the HSM refused the PIN. A
// worker in service says it too: where the module wants a log-in in each
// session, the PIN is used as often as sessions are made.
func refusedPIN(err error) bool {
	var failure *opError
	return errors.As(err, &failure) && failure.status == statusCredential
}

// heldBy takes down a device whose worker ended because the HSM refused the
// PIN, until a person acts: the next worker would try the same PIN again.
// The PIN file is the one that this worker logged in with: it uses no other.
func (s *supervision) heldBy(reason error) bool {
	if !refusedPIN(reason) {
		return false
	}
	s.held = true
	down := s.untilAPersonActs(reason)
	s.d.change(func(state *deviceState) { state.held, state.conn, state.down = true, nil, down })
	s.d.log.Error("hsm PIN refused to a worker in service", "error", down)
	return true
}

func (s *supervision) untilAPersonActs(reason error) error {
	return fmt.Errorf("the PIN is not tried again until a person acts: put the right PIN into %s: %w", s.d.cfg.PINFile, reason)
}
