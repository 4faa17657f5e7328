package raft

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/fsm"
)

// savedState is a state with the genesis and one more command.
func savedState(t *testing.T) *fsm.State {
	t.Helper()
	m := fsm.New()
	for i, command := range [][]byte{testGenesis(t), testToken(t, "saved")} {
		result, err := m.Apply(uint64(40+i), command)
		require.NoError(t, err)
		require.Nil(t, result.Refused)
	}
	return m.State()
}

// testToken makes a token of the administrator.
func testToken(t *testing.T, id string) []byte {
	t.Helper()
	command, err := fsm.Encode(fsm.CreateToken{
		Meta:  fsm.Meta{Time: 1_750_000_001_000, Principal: "admin", RequestID: id},
		Token: fsm.Token{ID: id, Hash: append(make([]byte, 32-len(id)), id...), Principal: "admin", ExpiresAt: 1_750_000_100_000},
	})
	require.NoError(t, err)
	return command
}

func TestAClusterStartsAnewFromASavedState(t *testing.T) {
	c, l := newAuthority(t).config(t)
	self := Server{ID: "n1", Address: l.Addr().String()}
	state := savedState(t)
	now := time.Unix(1_750_000_002, 0)
	require.NoError(t, Revive(c, []Server{self}, state, [][]byte{testToken(t, "new")}, now))
	for range 2 { // and again after a restart
		n := open(t, c)
		awaitReady(t, n)
		got, err := n.ReadState(t.Context())
		require.NoError(t, err)
		require.NotNil(t, got.Token("saved"))
		require.NotNil(t, got.Token("new"), "what was to be done first is done")
		require.Greater(t, got.Index(), state.Index())
		var lost []string
		for s := range got.Sessions() {
			require.True(t, s.Lost)
			lost = append(lost, s.Node)
		}
		require.Equal(t, []string{"n1"}, lost, "who was given values after the backup is not known")
		require.Greater(t, n.raft.CurrentTerm(), uint64(now.Unix()), "no node of the cluster before outvotes it")
		shut(t, n)
		c = reopen(t, c)
	}
	require.ErrorContains(t, Revive(c, []Server{self}, state, nil, now), "belongs to a cluster already")
}

func TestReviveRefusesWhatMakesNoCluster(t *testing.T) {
	c, l := newAuthority(t).config(t)
	self := Server{ID: "n1", Address: l.Addr().String()}
	now := time.Unix(1_750_000_002, 0)
	for what, try := range map[string]func() error{
		"the state is empty":              func() error { return Revive(c, []Server{self}, fsm.New().State(), nil, now) },
		"the initial members do not name": func() error { return Revive(c, nil, savedState(t), nil, now) },
		"token":                           func() error { return Revive(c, []Server{self}, savedState(t), [][]byte{testToken(t, "saved")}, now) },
		"command 2":                       func() error { return Revive(c, []Server{self}, savedState(t), [][]byte{[]byte("garbage")}, now) },
	} {
		require.ErrorContains(t, try(), what)
	}
	done, err := Initialised(c.DataDir)
	require.NoError(t, err)
	require.False(t, done, "nothing was written")
}
