package cluster

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/internal/fault"
	"github.com/strongroom/strongroom/internal/names"
	"github.com/strongroom/strongroom/internal/wrapped"
)

// Tests use policies as registers: one command each, with a value that can
// be read back.

// Genesis answers an encoded genesis command. Nothing in it was made by an
// HSM.
func Genesis(t testing.TB) []byte {
	t.Helper()
	sum := sha256.Sum256([]byte("token"))
	blob := func(id string) wrapped.Key {
		return wrapped.Key{
			ID: id, Version: 1, Spec: wrapped.AES256, Usage: "encrypt", Wrap: wrapped.RFC3394, Root: 1,
			Blob: []byte("blob"), MAC: []byte("mac"),
		}
	}
	const keyID = "00000000-0000-4000-8000-000000000001"
	now := time.Now().UnixMilli()
	command, err := fsm.Encode(fsm.GenesisCommand{
		Meta: fsm.Meta{Time: now, Principal: "init", RequestID: "genesis"},
		Genesis: fsm.Genesis{ClusterID: ID, Root: fsm.Root{
			Version: 1, CheckValue: []byte{1, 2, 3}, MACCheck: []byte("check"),
			Canary: blob("canary"), CanaryIV: []byte("iv"), CanaryBox: []byte("box"),
			Copies: []fsm.RootCopy{{NodeID: "n1", Fingerprint: []byte("f"), Wrap: "rsa-oaep-sha1", RootKey: []byte("r"), MACKey: []byte("k")}},
		}},
		DefaultKey: fsm.Key{
			ID: keyID, Spec: wrapped.AES256, Usage: "encrypt", Origin: "hsm", State: fsm.KeyActive, Current: 1,
			Aliases: []string{names.DefaultAlias}, Versions: []fsm.KeyVersion{{CreatedAt: now, Wrapped: blob(keyID)}},
		},
		Admin:      fsm.Principal{Name: "admin", Kind: "user", Policies: []string{fsm.FullAccess}},
		AdminToken: fsm.Token{ID: "admin-token", Hash: sum[:], Principal: "admin", Description: "first", ExpiresAt: now + 86_400_000},
		Policies:   []fsm.Policy{{Name: fsm.FullAccess, Statements: []fsm.Statement{{Effect: "allow", Roles: []string{fsm.FullAccess}}}}},
	})
	require.NoError(t, err)
	return command
}

// Write sets a register on node, which must lead. The error is that of
// Propose.
func (n *Node) Write(ctx context.Context, register, value string) error {
	return n.WriteAt(ctx, register, value, time.Now())
}

// WriteAt is Write with a command of another time.
func (n *Node) WriteAt(ctx context.Context, register, value string, at time.Time) error {
	r := n.Raft()
	if r == nil {
		return fault.New(fault.NoLeader, "the node is down")
	}
	command, err := fsm.Encode(fsm.PutPolicy{
		Meta: fsm.Meta{Time: at.UnixMilli(), Principal: "admin", RequestID: value},
		Name: register, Statements: []fsm.Statement{{Effect: "allow", Actions: []string{value}, Paths: []string{"/x/*"}}},
	})
	if err != nil {
		return err
	}
	result, err := r.Propose(ctx, command)
	if err != nil {
		return err
	}
	if result.Refused != nil {
		return fmt.Errorf("refused: %s", result.Refused.Message)
	}
	return nil
}

// Read answers a register by a consistent read on node.
func (n *Node) Read(ctx context.Context, register string) (string, error) {
	r := n.Raft()
	if r == nil {
		return "", fault.New(fault.NoLeader, "the node is down")
	}
	state, err := r.ReadState(ctx)
	if err != nil {
		return "", err
	}
	return Value(state, register), nil
}

// Follow answers a register by a read that node, which does not lead, serves
// itself.
func (n *Node) Follow(ctx context.Context, register string) (string, error) {
	r := n.Raft()
	if r == nil {
		return "", fault.New(fault.NoLeader, "the node is down")
	}
	reading, err := r.AskLeader(ctx, nil)
	if err != nil {
		return "", err
	}
	return Value(reading.State, register), nil
}

// Value answers a register in a state, empty if it was never written.
func Value(state *fsm.State, register string) string {
	p := state.Policy(register)
	if p == nil {
		return ""
	}
	return p.Statements[0].Actions[0]
}

// MustWrite writes through whichever node leads, until it is acknowledged.
func (c *Cluster) MustWrite(register, value string) {
	c.t.Helper()
	Await(c.t, "a write", func() bool {
		return c.tryAll(func(ctx context.Context, n *Node) error { return n.Write(ctx, register, value) })
	})
}

// MustRead reads through whichever node leads.
func (c *Cluster) MustRead(register string) string {
	c.t.Helper()
	var out string
	Await(c.t, "a read", func() bool {
		return c.tryAll(func(ctx context.Context, n *Node) error {
			value, err := n.Read(ctx, register)
			out = value
			return err
		})
	})
	return out
}

func (c *Cluster) tryAll(do func(context.Context, *Node) error) bool {
	for _, n := range c.Nodes {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		err := do(ctx, n)
		cancel()
		if err == nil {
			return true
		}
		if f := (*fault.Error)(nil); !errors.As(err, &f) {
			c.t.Errorf("not a fault: %v", err)
		}
	}
	return false
}
