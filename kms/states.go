package kms

import (
	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/internal/fault"
)

// use is what a key is wanted for.
type use int

const (
	// protect makes something new: encrypt, a data key, a new binding.
	protect use = iota
	// open reads what exists: decrypt, the value of an existing version.
	open
)

// allowed is the table "States" of the design: what each replicated state of
// a key lets happen. A state that is not in it allows nothing.
var allowed = map[fsm.KeyState]map[use]bool{
	fsm.KeyActive:   {protect: true, open: true},
	fsm.KeyRetiring: {open: true},
}

// CheckProtect answers nil if key may make something new.
func CheckProtect(key *fsm.Key) error { return check(key, protect) }

// CheckOpen answers nil if key may open what exists.
func CheckOpen(key *fsm.Key) error { return check(key, open) }

func check(key *fsm.Key, u use) error {
	if allowed[key.State][u] {
		return nil
	}
	if key.State == fsm.KeyDestroyed {
		return fault.New(fault.NotFound, "keyId: the key was destroyed; describeKey tells its story")
	}
	way := "enable it with enableKey"
	if key.State != fsm.KeyDisabled {
		way = "describeKey tells how it came there"
	}
	return fault.New(fault.KeyNotActive, "keyId: the key is %s; %s", key.State, way).
		With("keyId", key.ID).With("state", string(key.State))
}
