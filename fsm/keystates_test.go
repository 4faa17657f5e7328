package fsm_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/internal/fault"
)

// matrix is the table "States" of the design, written down a second time:
// what each action answers, and the state afterwards. "=": no change.
// "unbound STATE": KeyInUse while something live is bound.
var matrix = map[fsm.KeyState]map[fsm.KeyAction]string{
	fsm.KeyActive: {
		fsm.KeyProtect: "=", fsm.KeyOpen: "=", fsm.KeyDisable: "unbound disabled", fsm.KeyEnable: "=", fsm.KeyRetire: "retiring",
		fsm.KeyScheduleDeletion: "unbound pendingDeletion", fsm.KeyCancelDeletion: "Conflict", fsm.KeyRotate: "=", fsm.KeyImport: "Conflict",
	},
	fsm.KeyRetiring: {
		fsm.KeyProtect: "KeyNotActive", fsm.KeyOpen: "=", fsm.KeyDisable: "unbound disabled", fsm.KeyEnable: "active", fsm.KeyRetire: "=",
		fsm.KeyScheduleDeletion: "unbound pendingDeletion", fsm.KeyCancelDeletion: "Conflict", fsm.KeyRotate: "KeyNotActive", fsm.KeyImport: "Conflict",
	},
	fsm.KeyDisabled: {
		fsm.KeyProtect: "KeyNotActive", fsm.KeyOpen: "KeyNotActive", fsm.KeyDisable: "=", fsm.KeyEnable: "active", fsm.KeyRetire: "KeyNotActive",
		fsm.KeyScheduleDeletion: "unbound pendingDeletion", fsm.KeyCancelDeletion: "Conflict", fsm.KeyRotate: "KeyNotActive", fsm.KeyImport: "Conflict",
	},
	fsm.KeyPendingDeletion: {
		fsm.KeyProtect: "KeyNotActive", fsm.KeyOpen: "KeyNotActive", fsm.KeyDisable: "Conflict", fsm.KeyEnable: "Conflict", fsm.KeyRetire: "KeyNotActive",
		fsm.KeyScheduleDeletion: "Conflict", fsm.KeyCancelDeletion: "disabled", fsm.KeyRotate: "KeyNotActive", fsm.KeyImport: "Conflict",
	},
	fsm.KeyPendingImport: {
		fsm.KeyProtect: "KeyNotActive", fsm.KeyOpen: "KeyNotActive", fsm.KeyDisable: "disabled", fsm.KeyEnable: "Conflict", fsm.KeyRetire: "KeyNotActive",
		fsm.KeyScheduleDeletion: "pendingDeletion", fsm.KeyCancelDeletion: "Conflict", fsm.KeyRotate: "Conflict", fsm.KeyImport: "active",
	},
	fsm.KeyDestroyed: {
		fsm.KeyProtect: "NotFound", fsm.KeyOpen: "NotFound", fsm.KeyDisable: "NotFound", fsm.KeyEnable: "NotFound", fsm.KeyRetire: "NotFound",
		fsm.KeyScheduleDeletion: "NotFound", fsm.KeyCancelDeletion: "NotFound", fsm.KeyRotate: "NotFound", fsm.KeyImport: "NotFound",
	},
}

// TestTheWholeStateMatrix runs the command of each action against a key in
// each state, with and without something live bound to it.
func TestTheWholeStateMatrix(t *testing.T) {
	require.Len(t, matrix, len(fsm.KeyStates))
	for _, state := range fsm.KeyStates {
		require.Len(t, matrix[state], len(fsm.KeyActions), state)
		for _, action := range fsm.KeyActions {
			want := matrix[state][action]
			for _, bound := range []bool{false, true} {
				t.Run(string(state)+"/"+string(action), func(t *testing.T) {
					checkCell(t, state, action, want, bound)
				})
			}
		}
	}
}

func checkCell(t *testing.T, state fsm.KeyState, action fsm.KeyAction, want string, bound bool) {
	w := newWorld(t)
	w.ok(fsm.CreateKey{Meta: w.meta(), Key: key(keyID(2))})
	w.ok(fsm.CreateKey{Meta: w.meta(), Key: key(keyID(3))})
	w.ok(fsm.CreateSecret{Meta: w.meta(), Path: "/app/empty", SecretID: "e", KeyID: keyID(2)})
	if bound {
		w.ok(fsm.CreateSecret{Meta: w.meta(), Path: "/app/a", SecretID: "s", KeyID: keyID(2), First: keyed(newVersion(1, keyID(2)), 1)})
	}
	fsm.ForceKeyState(w.m, keyID(2), state)
	if action == fsm.KeyOpen {
		// Nothing is opened here; the kms floor asks the same table.
		refused := fsm.RuleFor(state, action).Refused
		require.Equal(t, want == "=", refused == "")
		require.True(t, want == "=" || want == string(refused))
		return
	}
	c := actionCommand(w, action)
	after, unbound := "", false
	switch want {
	case "=":
		after = string(state)
	case "Conflict", "KeyNotActive", "NotFound":
		w.refused(fault.Kind(want), c)
		return
	default:
		after = want
		if len(want) > 8 && want[:8] == "unbound " {
			after, unbound = want[8:], true
		}
	}
	if unbound && bound {
		r := w.refused(fault.KeyInUse, c, "1 secret has")
		require.EqualValues(t, 1, r.Count)
		require.Equal(t, []string{"/app/a"}, r.Paths)
		return
	}
	before := w.m.State().Key(keyID(2))
	w.ok(c)
	require.Equal(t, fsm.KeyState(after), w.m.State().Key(keyID(2)).State)
	if want == "=" && (action == fsm.KeyDisable || action == fsm.KeyEnable) {
		require.Same(t, before, w.m.State().Key(keyID(2)), "no change is no change")
	}
}

// actionCommand is the command behind a column.
func actionCommand(w *world, action fsm.KeyAction) fsm.Command {
	switch action {
	case fsm.KeyProtect:
		return fsm.CreateSecret{Meta: w.meta(), Path: "/app/new", SecretID: "n", KeyID: keyID(2)}
	case fsm.KeyDisable:
		return fsm.SetKeyState{Meta: w.meta(), KeyID: keyID(2), State: fsm.KeyDisabled}
	case fsm.KeyEnable:
		return fsm.SetKeyState{Meta: w.meta(), KeyID: keyID(2), State: fsm.KeyActive}
	case fsm.KeyRetire:
		return fsm.RetireKey{Meta: w.meta(), KeyID: keyID(2), Job: fsm.Job{ID: "j", To: keyID(3), Rate: 1}}
	case fsm.KeyScheduleDeletion:
		return fsm.ScheduleKeyDeletion{Meta: w.meta(), KeyID: keyID(2), DueAt: w.now + 8*day}
	case fsm.KeyCancelDeletion:
		fsm.ForceDeletionAt(w.m, keyID(2), w.now+day)
		return fsm.CancelKeyDeletion{Meta: w.meta(), KeyID: keyID(2)}
	case fsm.KeyRotate:
		return fsm.RotateKey{Meta: w.meta(), KeyID: keyID(2), Version: keyVersion(keyID(2), 2)}
	case fsm.KeyImport:
		return fsm.ImportMaterial{Meta: w.meta(), KeyID: keyID(2), Version: keyVersion(keyID(2), 1)}
	}
	return nil
}

// TestAStateOfALaterBuildAllowsNothing: fail closed.
func TestAStateOfALaterBuildAllowsNothing(t *testing.T) {
	for _, action := range fsm.KeyActions {
		require.NotEmpty(t, fsm.RuleFor("ofALaterBuild", action).Refused)
	}
	require.NotEmpty(t, fsm.RuleFor(fsm.KeyActive, "ofALaterBuild").Refused)
}
