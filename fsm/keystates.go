package fsm

import (
	"github.com/strongroom/strongroom/internal/fault"
)

// KeyAction is what somebody wants of a key: a column of the state table.
type KeyAction string

// The columns.
const (
	// KeyProtect makes something new: encrypt, sign, generateMac, a data key,
	// a new binding.
	KeyProtect KeyAction = "protect"
	// KeyOpen reads what exists: decrypt, verify, verifyMac, getPublicKey,
	// the value of an existing version.
	KeyOpen KeyAction = "open"

	KeyDisable          KeyAction = "disable"
	KeyEnable           KeyAction = "enable"
	KeyRetire           KeyAction = "retire"
	KeyScheduleDeletion KeyAction = "scheduleDeletion"
	KeyCancelDeletion   KeyAction = "cancelDeletion"
	KeyRotate           KeyAction = "rotate"
	KeyImport           KeyAction = "import"
)

// KeyActions lists the columns in the order of the documentation.
var KeyActions = []KeyAction{
	KeyProtect, KeyOpen, KeyDisable, KeyEnable, KeyRetire, KeyScheduleDeletion, KeyCancelDeletion, KeyRotate, KeyImport,
}

// KeyStates lists the rows in the order of the documentation.
var KeyStates = []KeyState{KeyActive, KeyRetiring, KeyDisabled, KeyPendingDeletion, KeyPendingImport, KeyDestroyed}

// KeyRule is one cell of the state table.
type KeyRule struct {
	// Refused is the error code, empty for what is allowed.
	Refused fault.Kind
	// To is the state that the key is in afterwards; empty: it stays.
	To KeyState
	// IfUnbound: only while no live version is bound to the key, KeyInUse
	// otherwise.
	IfUnbound bool
}

// Cells of the table.
var (
	yes         = KeyRule{}
	notUsable   = KeyRule{Refused: fault.KeyNotActive}
	clash       = KeyRule{Refused: fault.Conflict}
	gone        = KeyRule{Refused: fault.NotFound}
	moveTo      = func(s KeyState) KeyRule { return KeyRule{To: s} }
	onceUnbound = func(s KeyState) KeyRule { return KeyRule{To: s, IfUnbound: true} }
)

// keyTable is the table "States" of the design. Apply, the kms floor, the
// documentation and the tests read this one copy. What is not in it is
// refused.
var keyTable = map[KeyState]map[KeyAction]KeyRule{
	KeyActive: {
		KeyProtect: yes, KeyOpen: yes,
		KeyDisable: onceUnbound(KeyDisabled), KeyEnable: yes, KeyRetire: moveTo(KeyRetiring),
		KeyScheduleDeletion: onceUnbound(KeyPendingDeletion), KeyCancelDeletion: clash, KeyRotate: yes, KeyImport: clash,
	},
	KeyRetiring: {
		KeyProtect: notUsable, KeyOpen: yes,
		KeyDisable: onceUnbound(KeyDisabled), KeyEnable: moveTo(KeyActive), KeyRetire: yes,
		KeyScheduleDeletion: onceUnbound(KeyPendingDeletion), KeyCancelDeletion: clash, KeyRotate: notUsable, KeyImport: clash,
	},
	KeyDisabled: {
		KeyProtect: notUsable, KeyOpen: notUsable,
		KeyDisable: yes, KeyEnable: moveTo(KeyActive), KeyRetire: notUsable,
		KeyScheduleDeletion: onceUnbound(KeyPendingDeletion), KeyCancelDeletion: clash, KeyRotate: notUsable, KeyImport: clash,
	},
	KeyPendingDeletion: {
		KeyProtect: notUsable, KeyOpen: notUsable,
		KeyDisable: clash, KeyEnable: clash, KeyRetire: notUsable,
		KeyScheduleDeletion: clash, KeyCancelDeletion: moveTo(KeyDisabled), KeyRotate: notUsable, KeyImport: clash,
	},
	KeyPendingImport: {
		KeyProtect: notUsable, KeyOpen: notUsable,
		KeyDisable: moveTo(KeyDisabled), KeyEnable: clash, KeyRetire: notUsable,
		KeyScheduleDeletion: moveTo(KeyPendingDeletion), KeyCancelDeletion: clash, KeyRotate: clash, KeyImport: moveTo(KeyActive),
	},
	KeyDestroyed: {
		KeyProtect: gone, KeyOpen: gone, KeyDisable: gone, KeyEnable: gone, KeyRetire: gone,
		KeyScheduleDeletion: gone, KeyCancelDeletion: gone, KeyRotate: gone, KeyImport: gone,
	},
}

// RuleFor answers the cell for a key in state. A state that the table does
// not know allows nothing.
func RuleFor(state KeyState, action KeyAction) KeyRule {
	rule, known := keyTable[state][action]
	if !known {
		return KeyRule{Refused: fault.KeyNotActive}
	}
	return rule
}

// refusedKey is the refusal of a rule, in words that say the way out.
func refusedKey(field string, key *Key, action KeyAction, rule KeyRule) *Refusal {
	if rule.Refused == fault.NotFound {
		return notFound("%s: the key was destroyed; describeKey tells its story", field)
	}
	way := "describeKey tells how it came there"
	switch key.State {
	case KeyDisabled:
		way = "enableKey makes it active"
	case KeyRetiring:
		way = "it takes nothing new; enableKey makes it active again"
	case KeyPendingDeletion:
		way = "cancelKeyDeletion takes the deletion back"
	case KeyPendingImport:
		way = "importKeyMaterial gives it its material"
	case KeyActive:
		way = "it is active"
	}
	if action == KeyProtect || action == KeyOpen {
		return refuse(fault.New(rule.Refused, "%s: the key is %s; %s", field, key.State, way)).
			with("keyId", key.ID).with("state", string(key.State))
	}
	return refuse(fault.New(rule.Refused, "%s: %s does not go with a key that is %s; %s", field, action.words(), key.State, way)).
		with("keyId", key.ID).with("state", string(key.State))
}

// words is the action as a person says it.
func (a KeyAction) words() string {
	switch a {
	case KeyScheduleDeletion:
		return "deletion"
	case KeyCancelDeletion:
		return "taking a deletion back"
	case KeyImport:
		return "an import"
	}
	return string(a)
}
