package engine

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/strongroom/strongroom/api/wire"
	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/internal/fault"
	"github.com/strongroom/strongroom/internal/wrapped"
)

// rootTimeout bounds a question to another member about its root keys.
const rootTimeout = 2 * time.Second

// RootKeys is this node's HSM as far as root keys go; the command that wires
// the floors fills it in.
type RootKeys interface {
	// Status answers what the HSM serves with, and, if asked for, the public
	// half of its transport key.
	Status(ctx context.Context, q RootQuery) (RootStatus, error)
	// MakeRoot makes version of the root key in the HSM, wrapped to the
	// transport keys of to. Nothing stays behind in the HSM.
	MakeRoot(ctx context.Context, version uint32, to []RootRecipient) (fsm.Root, error)
	// Rewrap answers keys, at most MaxRewrap, wrapped under the root that new
	// keys are made under. All or none. fault.NotFound: this HSM has no copy
	// of their root, and the HSM of another node has to do it.
	Rewrap(ctx context.Context, keys []wrapped.Key) ([]wrapped.Key, error)
	// Admits reports whether this node's operator lets the HSM with this
	// transport key (SHA-256 of its PKIX form) receive root keys, although
	// it holds none yet.
	Admits(fingerprint []byte) bool
}

// MaxRewrap bounds the keys of one RootKeys.Rewrap.
const MaxRewrap = 16

// RootQuery asks for a RootStatus.
type RootQuery struct {
	TransportKey bool `json:"transportKey,omitempty"`
}

// RootStatus is what one node's HSM does with root keys.
type RootStatus struct {
	InUse        [][]byte `json:"inUse"`  // MAC checks of the roots it serves with
	Making       uint32   `json:"making"` // version that new keys are wrapped under
	TransportKey []byte   `json:"transportKey,omitempty"`
	Wrap         string   `json:"wrap,omitempty"` // of the transport key
}

// RootRecipient is a node that shall receive a root key.
type RootRecipient struct {
	NodeID    string
	PublicDER []byte // of its transport key, PKIX
	Wrap      string
}

// rootOperations are about the root key.
func rootOperations() []*Operation {
	return []*Operation{
		operation(row[wire.RootKeyRequest, wire.RootKeyResponse]{
			service: "cluster", name: "getRootKey", event: "cluster.get_root_key",
			summary: "Describe the root key, for passing it on to another HSM.",
			scope:   func(*call, *wire.RootKeyRequest) (scope, error) { return scope{}, nil },
			run:     getRootKey,
		}),
		operation(row[wire.RotateRootKeyRequest, wire.RotateRootKeyResponse]{
			service: "cluster", name: "rotateRootKey", event: "cluster.rotate_root_key", write: true,
			summary: "Make a new root key in the HSM, give it to the HSM of every member, and wrap all key material under it.",
			scope:   func(*call, *wire.RotateRootKeyRequest) (scope, error) { return scope{}, nil },
			run:     rotateRootKey,
		}),
		operation(row[wire.RemoveRootKeyRequest, wire.RemoveRootKeyResponse]{
			service: "cluster", name: "removeRootKey", event: "cluster.remove_root_key", write: true,
			summary: "Destroy a root key that was replaced, in the HSM of every member. Snapshots of the time before cannot be read after that.",
			scope: func(_ *call, r *wire.RemoveRootKeyRequest) (scope, error) {
				if r.Version == 0 {
					return scope{}, fault.Invalid("version", "must be the version of a root key that was replaced")
				}
				return scope{subject: fmt.Sprintf("root key v%d", r.Version), version: uint64(r.Version)}, nil
			},
			run: removeRootKey,
		}),
	}
}

func rotateRootKey(ctx context.Context, c *call, r *wire.RotateRootKeyRequest) (*wire.RotateRootKeyResponse, error) {
	rate, err := jobRate(r.RatePerSecond)
	if err != nil {
		return nil, err
	}
	meta, err := c.meta(ctx, r.ClientToken, r)
	if err != nil {
		return nil, err
	}
	if done, err := c.replayed(meta); err != nil {
		return nil, err
	} else if done != nil {
		return &wire.RotateRootKeyResponse{JobID: done.JobID, Version: done.RootVersion}, nil
	}
	roots := c.state.Roots()
	if roots.JobID != "" {
		// Apply decides it again; here it saves making a root for nothing.
		return nil, fault.New(fault.Conflict, "a rotation of the root key is on its way: job %s", roots.JobID).With("jobId", roots.JobID)
	}
	to, err := c.engine.rootRecipients(ctx, roots)
	if err != nil {
		return nil, err
	}
	root, err := c.engine.Cluster.Roots.MakeRoot(ctx, roots.Newest()+1, to)
	if err != nil {
		return nil, err
	}
	command := fsm.StartRootRotation{Meta: meta, Root: root, Job: fsm.Job{ID: uuid.NewString(), Rate: rate}}
	if c.state.FingerprintKey() == nil {
		key, err := c.engine.KMS.GenerateFingerprintKey(ctx)
		if err != nil {
			return nil, err
		}
		command.FingerprintKey = &key
	}
	result, err := c.commit(ctx, command)
	if err != nil {
		return nil, err
	}
	c.event.Version = uint64(result.RootVersion)
	c.event.Reason = "job " + result.JobID
	return &wire.RotateRootKeyResponse{JobID: result.JobID, Version: result.RootVersion}, nil
}

func removeRootKey(ctx context.Context, c *call, r *wire.RemoveRootKeyRequest) (*wire.RemoveRootKeyResponse, error) {
	meta, err := c.meta(ctx, r.ClientToken, r)
	if err != nil {
		return nil, err
	}
	if _, err := c.commit(ctx, fsm.RemoveRoot{Meta: meta, Version: r.Version}); err != nil {
		return nil, err
	}
	return &wire.RemoveRootKeyResponse{Version: r.Version}, nil
}

// rootRecipients answers the transport key of every member's HSM. The key
// comes over the link, from a member that proved who it is; but a member's
// host is not its HSM, and a new root must not go to a key that somebody made
// in software there. So the HSM must be one that the root key went to before,
// in a ceremony, or be named in this node's configuration.
func (e *Engine) rootRecipients(ctx context.Context, roots *fsm.Roots) ([]RootRecipient, error) {
	if e.Cluster.Roots == nil {
		return nil, fault.New(fault.Internal, "this node cannot make root keys")
	}
	statuses, failures := e.askRoots(ctx, RootQuery{TransportKey: true})
	for _, node := range slices.Sorted(maps.Keys(failures)) {
		return nil, fault.New(fault.Conflict, "the HSM of %s does not answer: %v; every member must receive the new root key, so bring it back first", node, publicReason(failures[node])).
			With("nodeId", node)
	}
	var out []RootRecipient
	for _, node := range slices.Sorted(maps.Keys(statuses)) {
		s := statuses[node]
		sum := sha256.Sum256(s.TransportKey)
		had := slices.ContainsFunc(roots.Current.Copies, func(c fsm.RootCopy) bool { return bytes.Equal(c.Fingerprint, sum[:]) })
		if len(s.TransportKey) == 0 || !had && !e.Cluster.Roots.Admits(sum[:]) {
			return nil, fault.New(fault.Conflict, "the transport key of %s has the fingerprint %x, which no root key went to so far; compare it with strongroom hsm transport-key on that node, and name it in hsm.admitTransportKeys of %s",
				node, sum, e.Node).With("nodeId", node)
		}
		out = append(out, RootRecipient{NodeID: node, PublicDER: s.TransportKey, Wrap: s.Wrap})
	}
	return out, nil
}

// publicReason is what a caller may be told about a member that failed.
func publicReason(err error) string {
	if f := asFault(err); f != nil && f.Kind != fault.Internal {
		return f.Message
	}
	return "the node cannot be reached"
}

// LocalRoots answers for this node. It does not authorise: the caller is this
// node, or another member over the node link.
func (e *Engine) LocalRoots(ctx context.Context, q RootQuery) (RootStatus, error) {
	if e.Cluster.Roots == nil {
		return RootStatus{}, fault.New(fault.Internal, "this node has no HSM to ask")
	}
	return e.Cluster.Roots.Status(ctx, q)
}

// askRoots asks every member, this one included, at the same time.
func (e *Engine) askRoots(ctx context.Context, q RootQuery) (map[string]RootStatus, map[string]error) {
	ctx, cancel := context.WithTimeout(ctx, rootTimeout)
	defer cancel()
	var mu sync.Mutex
	var wg sync.WaitGroup
	statuses, failures := map[string]RootStatus{}, map[string]error{}
	ask := func(node string, query func() (RootStatus, error)) {
		s, err := query()
		mu.Lock()
		defer mu.Unlock()
		if err != nil {
			failures[node] = err
			return
		}
		statuses[node] = s
	}
	wg.Go(func() { ask(e.Node, func() (RootStatus, error) { return e.LocalRoots(ctx, q) }) })
	if e.Cluster.Members != nil && e.Cluster.PeerRoots != nil {
		for _, member := range e.Cluster.Members() {
			if node := member.NodeID; node != e.Node {
				wg.Go(func() { ask(node, func() (RootStatus, error) { return e.Cluster.PeerRoots(ctx, node, q) }) })
			}
		}
	}
	wg.Wait()
	return statuses, failures
}

// withoutRoot answers the members that do not serve with root, for a person.
//
// A member that came after root was made got no copy of it, and never will: the
// next rotation gives it one. While it serves with no root key at all it has no
// vote and opens nothing, so nothing waits for it. One that serves with an
// older root, which was exported to it, would lose what it can open, and is
// waited for: a person decides.
func (e *Engine) withoutRoot(ctx context.Context, root *fsm.Root) string {
	statuses, failures := e.askRoots(ctx, RootQuery{})
	var missing []string
	for node, err := range failures {
		missing = append(missing, node+" ("+publicReason(err)+")")
	}
	for node, s := range statuses {
		late := !slices.ContainsFunc(root.Copies, func(c fsm.RootCopy) bool { return c.NodeID == node })
		if late && len(s.InUse) == 0 {
			continue
		}
		if !slices.ContainsFunc(s.InUse, func(check []byte) bool { return bytes.Equal(check, root.MACCheck) }) {
			missing = append(missing, node)
		}
	}
	slices.Sort(missing)
	return strings.Join(missing, ", ")
}
