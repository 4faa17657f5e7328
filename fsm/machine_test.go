package fsm_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/internal/fault"
)

func TestGenesisIsFirstAndOnce(t *testing.T) {
	w := emptyWorld(t)
	require.Nil(t, w.m.State().Genesis())
	w.refused(fault.Conflict, fsm.CreatePrincipal{Meta: w.meta(), Principal: fsm.Principal{Name: "x", Kind: "user"}}, "strongroom init")
	w.refused(fault.Conflict, fsm.Sweep{Meta: w.meta(), Limit: 1}, "strongroom init")

	g := genesis(w.now)
	g.Admin.Policies, g.DefaultKey.Aliases = nil, nil
	result := w.ok(g)
	require.Equal(t, fsm.Result{Index: w.index, KeyID: defaultKey, Name: "admin", TokenID: "admin-token"}, result)
	state := w.m.State()
	require.Equal(t, "c1", state.Genesis().ClusterID)
	require.Equal(t, g.Genesis.Root, state.Genesis().Root)
	require.Equal(t, defaultKey, state.KeyByRef("alias/default").ID)
	require.Equal(t, []string{fsm.FullAccess}, state.Principal("admin").Policies)
	require.Equal(t, "admin", state.TokenByHash(hashOf("admin-token")).Principal)
	require.Equal(t, uint64(1), state.Policy(fsm.FullAccess).Revision)

	again := genesis(w.now)
	again.Genesis.ClusterID = "c2"
	again.DefaultKey = key(keyID(2))
	w.refused(fault.Conflict, again, "already")
}

func TestGenesisRefusesWhatWouldLockEverybodyOut(t *testing.T) {
	for name, change := range map[string]func(*fsm.GenesisCommand){
		"no cluster id":        func(g *fsm.GenesisCommand) { g.Genesis.ClusterID = "" },
		"no key":               func(g *fsm.GenesisCommand) { g.DefaultKey = fsm.Key{} },
		"key without material": func(g *fsm.GenesisCommand) { g.DefaultKey.Versions[0].Wrapped.Blob = nil },
		"no full access":       func(g *fsm.GenesisCommand) { g.Policies = nil },
		"empty policy":         func(g *fsm.GenesisCommand) { g.Policies[0].Statements = nil },
		"no administrator":     func(g *fsm.GenesisCommand) { g.Admin.Name = "" },
		"token of another":     func(g *fsm.GenesisCommand) { g.AdminToken.Principal = "other" },
		"expired token":        func(g *fsm.GenesisCommand) { g.AdminToken.ExpiresAt = start },
	} {
		t.Run(name, func(t *testing.T) {
			w := emptyWorld(t)
			g := genesis(w.now)
			change(&g)
			w.refused(fault.InvalidRequest, g)
			require.Nil(t, w.m.State().Genesis())
			w.ok(genesis(w.now)) // and it can be done right afterwards
		})
	}
	w := emptyWorld(t)
	g := genesis(w.now)
	g.Admin.Policies = []string{"none"}
	w.refused(fault.NotFound, g)
	g = genesis(w.now)
	g.Policies = append(g.Policies, g.Policies[0])
	w.refused(fault.AlreadyExists, g)
}

func TestTimeNeverRunsBackwards(t *testing.T) {
	w := newWorld(t)
	at := func(time int64) int64 {
		w.do(fsm.Sweep{Meta: fsm.Meta{Time: time}, Limit: 1})
		return w.m.State().Time()
	}
	require.Equal(t, start+1000, at(start+1000))
	require.Equal(t, start+1000, at(start))
	require.Equal(t, start+1000, at(0))
	for _, absurd := range []int64{-1, 1 << 62, 253402300800000} {
		w.refused(fault.InvalidRequest, fsm.Sweep{Meta: fsm.Meta{Time: absurd}, Limit: 1}, "clock")
		require.Equal(t, start+1000, w.m.State().Time(), "an absurd stamp does not move the clock")
	}
	require.Equal(t, start+1001, at(start+1001))

	w = emptyWorld(t)
	g := genesis(0)
	w.ok(g)
	require.Equal(t, int64(1), w.m.State().Genesis().CreatedAt, "0 means: not set")
}

func TestUnreadableCommandsHalt(t *testing.T) {
	w := newWorld(t)
	good, err := fsm.Encode(fsm.Sweep{Meta: w.meta(), Limit: 1})
	require.NoError(t, err)
	before := w.m.State()
	for name, b := range map[string][]byte{
		"nothing":         {},
		"short":           {0, 20},
		"unknown kind":    raw(999, 1, good[3:]),
		"kind 0":          raw(0, 1, good[3:]),
		"unknown format":  raw(20, 2, good[3:]),
		"format 0":        raw(20, 0, good[3:]),
		"no payload":      raw(20, 1, nil),
		"trailing byte":   append(append([]byte{}, good...), 0),
		"cut":             good[:len(good)-1],
		"secret in it":    raw(20, 1, []byte("hunter2-hunter2")),
		"too long":        make([]byte, fsm.MaxCommandBytes+1),
		"unknown field":   raw(20, 1, []byte{0xa1, 0x18, 0x63, 0x01}),
		"a newer policy":  raw(14, 1, []byte{0xa1, 0x03, 0x81, 0xa1, 0x18, 0x63, 0x01}), // a field of a statement
		"named field":     raw(20, 1, []byte{0xa1, 0x65, 'L', 'i', 'm', 'i', 't', 0x01}),
		"field twice":     raw(20, 1, []byte{0xa2, 0x02, 0x01, 0x02, 0x02}),
		"indefinite":      raw(20, 1, []byte{0xbf, 0x02, 0x01, 0xff}),
		"tag":             raw(20, 1, []byte{0xa1, 0x02, 0xc1, 0x01}),
		"bad UTF-8":       raw(6, 1, []byte{0xa1, 0x02, 0x61, 0xff}),
		"wrong type":      raw(20, 1, []byte{0xa1, 0x02, 0x61, 'x'}),
		"a float":         raw(20, 1, []byte{0xa1, 0x02, 0xf9, 0x3c, 0x00}),
		"number too big":  raw(20, 1, []byte{0xa1, 0x02, 0x1b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}),
		"not a map":       raw(20, 1, []byte{0x80}),
		"deep":            raw(14, 1, deep(40)),
		"list too long":   raw(14, 1, append([]byte{0xa1, 0x03, 0x99, 0x10, 0x01}, bytes.Repeat([]byte{0xa0}, 4097)...)),
		"length is a lie": raw(3, 1, []byte{0xa1, 0x04, 0xa1, 0x07, 0x5a, 0xff, 0xff, 0xff, 0xff}),
	} {
		t.Run(name, func(t *testing.T) {
			_, err := w.m.Apply(w.index+1, b)
			var halt *fsm.HaltError
			require.ErrorAs(t, err, &halt)
			require.Equal(t, w.index+1, halt.Index)
			require.Equal(t, len(b), halt.Length)
			require.NotContains(t, err.Error(), "hunter2")
			require.Same(t, before, w.m.State(), "nothing changed")
			_, err = fsm.Decode(b)
			require.ErrorAs(t, err, &halt)
		})
	}
	for _, index := range []uint64{0, w.index - 1, w.index} {
		_, err := w.m.Apply(index, good)
		var halt *fsm.HaltError
		require.True(t, errors.As(err, &halt), "index %d was applied already", index)
		require.Equal(t, fsm.KindSweep, halt.Kind)
	}
	_, err = w.m.Apply(w.index+10, good)
	require.NoError(t, err, "indexes may have gaps: not every log entry is a command")
}

func deep(n int) []byte {
	b := []byte{0xa1, 0x03}
	for range n {
		b = append(b, 0x81)
	}
	return append(b, 0x00)
}

func TestEncodeRefusesWhatWouldStopTheNodes(t *testing.T) {
	_, err := fsm.Encode(nil)
	require.True(t, fault.Is(err, fault.Internal))
	_, err = fsm.Encode(fsm.RestoreSecret{Path: "\xff"})
	require.True(t, fault.Is(err, fault.InvalidRequest), "%v", err)
	tags := map[string]string{}
	for i := range 1025 {
		tags[keyID(i)] = ""
	}
	_, err = fsm.Encode(fsm.CreateSecret{Tags: tags})
	require.True(t, fault.Is(err, fault.InvalidRequest), "%v", err)
	_, err = fsm.Encode(fsm.CreateSecret{First: &fsm.NewVersion{Sealed: make([]byte, fsm.MaxCommandBytes)}})
	require.True(t, fault.Is(err, fault.TooLarge), "%v", err)
	value, err := fsm.Encode(fsm.RestoreSecret{Path: "/a"})
	require.NoError(t, err)
	pointer, err := fsm.Encode(&fsm.RestoreSecret{Path: "/a"})
	require.NoError(t, err)
	require.Equal(t, value, pointer)
}

func TestExpectedZeroSurvivesTheEncoding(t *testing.T) {
	zero := uint64(0)
	for _, expected := range []*uint64{nil, &zero} {
		b, err := fsm.Encode(fsm.PutVersion{Expected: expected})
		require.NoError(t, err)
		c, err := fsm.Decode(b)
		require.NoError(t, err)
		require.Equal(t, expected, c.(fsm.PutVersion).Expected)
	}
}

func TestAKindStandsInTheTableOnce(t *testing.T) {
	require.Panics(t, fsm.RegisterTwice)
}

func TestHashTellsHistoriesApart(t *testing.T) {
	a, b := newWorld(t), newWorld(t)
	require.Equal(t, a.m.State().Hash(), b.m.State().Hash())
	a.secret("/a", 1)
	b.secret("/a", 1)
	require.Equal(t, a.m.State().Hash(), b.m.State().Hash())
	// A refused command is part of history, too: replicas that decided it
	// differently have parted.
	a.do(a.destroy("/a", 1))
	b.do(b.destroy("/a", 2))
	require.NotEqual(t, a.m.State().Hash(), b.m.State().Hash())
}
