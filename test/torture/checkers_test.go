package torture

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// A checker that cannot fail checks nothing. Each history below is right but
// for one thing, and that must be found; without it nothing may be.

// story is a history that is right: three versions of a secret, one destroyed,
// and reads of them.
func story() ([]op, []version) {
	ops := []op{
		{Kind: put, Version: 1, Token: "a", Call: 0, Return: 10},
		{Kind: get, Version: 1, Value: "a", Call: 11, Return: 19},
		{Kind: put, Version: 2, Token: "b", Call: 20, Return: 30},
		{Kind: get, Version: 1, Value: "a", Call: 25, Return: 28},
		{Kind: get, Version: 2, Value: "b", Call: 26, Return: 29},
		{Kind: put, Token: "c", Code: unknown, Call: 40, Return: never},
		{Kind: get, Version: 3, Value: "c", Call: 50, Return: 60},
		{Kind: describe, Version: 3, Latest: 3, Call: 61, Return: 65},
		{Kind: getOne, Version: 1, Value: "a", Call: 61, Return: 70},
		{Kind: destroy, Version: 1, Call: 66, Return: 75},
		{Kind: getOne, Version: 1, Code: "VersionNotActive", Call: 76, Return: 80},
		{Kind: put, Token: "d", Code: unknown, Call: 90, Return: never}, // never happened
		{Kind: get, Version: 3, Value: "c", Call: 100, Return: 110},
	}
	return ops, []version{{3, "c", "active"}, {2, "b", "active"}, {1, "a", "destroyed"}}
}

func checkBoth(ops []op, told []version) (linear []string, v verdict) {
	return checkSecret(ops, told), linearizable(resolve(ops, told), secretState{}, stepSecret)
}

func TestCheckersFindWhatIsWrongWithASecret(t *testing.T) {
	ops, told := story()
	found, v := checkBoth(ops, told)
	require.Empty(t, found)
	require.Equal(t, right, v)

	for what, c := range map[string]struct {
		spoil func(ops *[]op, told *[]version)
		says  string // by the linear checker, empty: it cannot know
		model bool   // porcupine finds it
	}{
		"a lost write":           {func(_ *[]op, told *[]version) { *told = append((*told)[:1], (*told)[2]) }, "version 2 was acknowledged to b and is lost", false},
		"a write by nobody":      {func(_ *[]op, told *[]version) { (*told)[0].VersionID = "x" }, "which nobody has put", true},
		"a gap":                  {func(_ *[]op, told *[]version) { (*told)[0].Version = 4 }, "version 3 is missing", true},
		"a doubled version":      {func(ops *[]op, _ *[]version) { (*ops)[2].Version = 1 }, "acknowledged twice", true},
		"a version in two lines": {func(_ *[]op, told *[]version) { *told = append(*told, (*told)[0]) }, "in the history twice", false},
		"a stale read": {func(ops *[]op, _ *[]version) {
			*ops = append(*ops, op{Kind: get, Version: 1, Value: "a", Call: 31, Return: 35})
		}, "a stale read", true},
		"a stale description": {func(ops *[]op, _ *[]version) {
			*ops = append(*ops, op{Kind: describe, Version: 1, Latest: 1, Call: 31, Return: 35})
		}, "a stale read", true},
		"an early read": {func(ops *[]op, _ *[]version) {
			*ops = append(*ops, op{Kind: get, Version: 2, Value: "b", Call: 11, Return: 12})
		}, "before it was put", true},
		"another value": {func(ops *[]op, _ *[]version) { (*ops)[1].Value = "b" }, "with the value of b", false},
		"a read of a destroyed version": {func(ops *[]op, _ *[]version) {
			*ops = append(*ops, op{Kind: getOne, Version: 1, Value: "a", Call: 76, Return: 80})
		}, "after its destruction was acknowledged", true},
		"a destroyed version that is active": {func(_ *[]op, told *[]version) { (*told)[2].State = "active" }, `and is "active"`, false},
		"numbers against time": {func(ops *[]op, told *[]version) {
			(*ops)[0].Version, (*ops)[2].Version = 2, 1
			(*told)[1].VersionID, (*told)[2].VersionID = "a", "b"
		}, "after a higher one was acknowledged", true},
		"a read of a disabled version": {func(ops *[]op, _ *[]version) {
			*ops = append(*ops, op{Kind: disable, Version: 2, Call: 111, Return: 112}, op{Kind: getOne, Version: 2, Value: "b", Call: 113, Return: 114})
		}, "", true},
		"a refusal without a reason": {func(ops *[]op, _ *[]version) {
			*ops = append(*ops, op{Kind: getOne, Version: 2, Code: "VersionNotActive", Call: 113, Return: 114})
		}, "", true},
		"a read beside an activation": {func(ops *[]op, _ *[]version) {
			*ops = append(*ops, op{Kind: activate, Version: 2, Call: 111, Return: 112}, op{Kind: get, Version: 3, Value: "c", Call: 113, Return: 114})
		}, "", true},
		"an activation of a destroyed version": {func(ops *[]op, _ *[]version) {
			*ops = append(*ops, op{Kind: activate, Version: 1, Call: 111, Return: 112})
		}, "activated version 1", true},
	} {
		t.Run(what, func(t *testing.T) {
			ops, told := story()
			c.spoil(&ops, &told)
			found, v := checkBoth(ops, told)
			if c.says != "" {
				require.Contains(t, strings.Join(found, "\n"), c.says)
			}
			if c.model {
				require.Equal(t, wrong, v)
			}
		})
	}
}

// What nobody was answered about may have happened, at any time or never.
func TestUnknownOutcomesAreAllowedBothWays(t *testing.T) {
	begin := []op{
		{Kind: put, Version: 1, Token: "a", Call: 0, Return: 10},
		{Kind: put, Version: 2, Token: "b", Call: 11, Return: 20},
		{Kind: disable, Version: 1, Code: unknown, Call: 21, Return: never},
	}
	served := op{Kind: getOne, Version: 1, Value: "a", Call: 30, Return: 40}
	refused := op{Kind: getOne, Version: 1, Code: "VersionNotActive", Call: 50, Return: 60}
	for _, ops := range [][]op{{served}, {refused}, {served, refused}} {
		require.Equal(t, right, linearizable(append(begin[:3:3], ops...), secretState{}, stepSecret))
	}
	// Once seen, it has happened.
	late := served
	late.Call, late.Return = 70, 80
	require.Equal(t, wrong, linearizable(append(begin[:3:3], refused, late), secretState{}, stepSecret))
}

func TestCheckersFindWhatIsWrongWithAKey(t *testing.T) {
	ops := []op{
		{Kind: use, Call: 0, Return: 5},
		{Kind: disable, Call: 10, Return: 20},
		{Kind: use, Call: 15, Return: 18},
		{Kind: use, Code: "KeyNotActive", Call: 16, Return: 17},
		{Kind: use, Code: "KeyNotActive", Call: 21, Return: 25},
		{Kind: enable, Call: 30, Return: 40},
		{Kind: use, Call: 41, Return: 45},
	}
	require.Equal(t, right, linearizable(ops, true, stepKey))
	require.Equal(t, wrong, linearizable(append(ops[:7:7], op{Kind: use, Call: 22, Return: 24}), true, stepKey), "a disabled key that was used")
	require.Equal(t, wrong, linearizable(append(ops[:7:7], op{Kind: use, Code: "KeyNotActive", Call: 42, Return: 44}), true, stepKey))
}

func TestCheckersFindWhatIsWrongWithAToken(t *testing.T) {
	ops := []op{
		{Kind: put, Call: 0, Return: 1},
		{Kind: use, Call: 2, Return: 3},
		{Kind: use, Call: 4, Return: 12},
		{Kind: revoke, Call: 5, Return: 10},
		{Kind: use, Code: "Unauthenticated", Call: 6, Return: 7},
		{Kind: use, Code: "Unauthenticated", Call: 11, Return: 13},
	}
	require.Empty(t, checkToken(ops))
	require.Contains(t, strings.Join(checkToken(append(ops[:6:6], op{Kind: use, Call: 11, Return: 12})), ""), "after its revocation was acknowledged")
	require.Contains(t, strings.Join(checkToken(append(ops[:6:6], op{Kind: use, Code: "Unauthenticated", Call: 2, Return: 3})), ""), "that nobody had revoked")
}

// Porcupine's work on a history is bounded: what would take the memory of the
// machine is given up, and said to be.
func TestTheModelGivesUpInTime(t *testing.T) {
	ops := []op{{Kind: put, Version: 1, Token: "a", Call: 0, Return: 1}, {Kind: put, Version: 2, Token: "b", Call: 2, Return: 3}}
	for i := range 40 {
		ops = append(ops, op{Client: i, Kind: []kind{disable, enable, activate, destroy}[i%4], Version: 1 + i%2, Code: unknown, Call: int64(10 + i), Return: never})
	}
	for i := range 40 {
		ops = append(ops, op{Kind: getOne, Version: 1 + i%2, Call: int64(100 + 2*i), Return: int64(101 + 2*i), Code: []string{"", "VersionNotActive"}[i/2%2]})
	}
	require.NotEqual(t, right, linearizable(append(ops, op{Kind: describe, Version: 1, Latest: 7, Call: 1000, Return: 1001}), secretState{}, stepSecret))
}

// An answer whose event is not in a trail, or is another one, is found.
func TestTheWitnessFindsWhatIsNotInTheTrail(t *testing.T) {
	file := filepath.Join(t.TempDir(), "audit-1.jsonl")
	require.NoError(t, os.WriteFile(file, []byte(
		`{"requestId":"r1","event":"secrets.create","path":"/s","outcome":"ok"}`+"\n"+
			`{"requestId":"r2","event":"secrets.get_value","path":"/s","outcome":"ok"}`+"\n"+
			`{"requestId":"r3","event":"secrets.get_value","path":"/other","outcome":"ok"}`+"\n"+
			`{"requestId":"r4","event":"secrets.get_value","path":"/s","outcome":"failed","code":"VersionNotActive"}`+"\n"), 0o600))
	missing := func(ops ...op) string {
		w := newWitness()
		w.remember(&object{class: "small", name: "/s", ops: append([]op{{Kind: put, RequestID: "r1"}}, ops...)})
		require.NoError(t, w.readFile(file))
		return strings.Join(w.missing(), "\n")
	}
	require.Empty(t, missing(op{Kind: get, RequestID: "r2"}, op{Kind: getOne, RequestID: "r4", Code: "VersionNotActive"}))
	require.Contains(t, missing(op{Kind: get, RequestID: "r5"}), "r5")
	require.Contains(t, missing(op{Kind: get, RequestID: "r3"}), "r3", "the event is of another path")
	require.Contains(t, missing(op{Kind: get, RequestID: "r4"}), "r4", "the event says that it was refused")
	require.Contains(t, missing(op{Kind: put, RequestID: "r2"}), "r2", "it is another event, and given twice or not")
	require.Contains(t, missing(op{Kind: get, RequestID: "r2"}, op{Kind: get, RequestID: "r2"}), "given twice")
}
