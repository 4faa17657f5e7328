package kms

import (
	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/internal/fault"
)

// CheckProtect answers nil if key may make something new: encrypt, sign, a
// MAC, a data key, a new binding.
func CheckProtect(key *fsm.Key) error { return check(key, fsm.KeyProtect) }

// CheckOpen answers nil if key may be used for what exists: decrypt, verify,
// the public key, the value of an existing version.
func CheckOpen(key *fsm.Key) error { return check(key, fsm.KeyOpen) }

// check reads the one table of states, which Apply reads too.
func check(key *fsm.Key, action fsm.KeyAction) error {
	rule := fsm.RuleFor(key.State, action)
	if rule.Refused == "" {
		return nil
	}
	if rule.Refused == fault.NotFound {
		return fault.New(fault.NotFound, "keyId: the key was destroyed; describeKey tells its story")
	}
	way := "describeKey tells how it came there"
	switch key.State {
	case fsm.KeyDisabled:
		way = "enable it with enableKey"
	case fsm.KeyRetiring:
		way = "it takes nothing new; use the key that its secrets move to"
	case fsm.KeyPendingDeletion:
		way = "cancelKeyDeletion takes the deletion back"
	case fsm.KeyPendingImport:
		way = "importKeyMaterial gives it its material"
	}
	return fault.New(rule.Refused, "keyId: the key is %s; %s", key.State, way).
		With("keyId", key.ID).With("state", string(key.State))
}
