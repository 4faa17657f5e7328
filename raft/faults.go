package raft

import "time"

// Faults makes trouble, and takes guards away, for the tests of this
// repository: every guard has a test that shows what happens without it. No
// program sets it, and no configuration file reaches it.
type Faults struct {
	// AppendReturned is called between the return of an AppendEntries to
	// peer and anybody's knowledge of it: a slow return path.
	AppendReturned func(peer string)
	// Received is called when a request of peer has arrived, before Raft
	// sees it: a slow way in.
	Received func(peer string)
	// Cut reports whether nothing goes to or comes from peer.
	Cut func(peer string) bool
	// BeforeStore is called before entries go to disk: a slow disk.
	BeforeStore func()

	// AnswerReturned is called between the arrival of the leader's answer to a
	// node that follows and anybody's knowledge of it.
	AnswerReturned func(leader string)

	// Witness is called for each command that was applied, with the hash of the
	// state behind it: what a checker of histories goes by.
	Witness func(index, term uint64, command []byte, hash [32]byte)

	// NoReadIndex has AskLeader answer what this node has applied, without a
	// question. Reads are then stale.
	NoReadIndex bool
	// VerifyLeaderReads reads by the library's VerifyLeader instead of the
	// read gate. Reads are then stale.
	VerifyLeaderReads bool
	// ReadInTransfer answers reads also while this node hands leadership
	// over, which the read gate alone must survive.
	ReadInTransfer bool
	// Silent answers how much longer a member counts as silent than it was, so
	// that autopilot finds it dead while a test runs.
	Silent func(peer string) time.Duration
	// NeverAsks makes a node that takes part without a word about its folder,
	// as those of older releases do.
	NeverAsks bool
	// NoAdmission lets a node take part without having asked.
	NoAdmission bool
	// NoBarrier lets a new leader serve before it has applied what its
	// predecessors acknowledged. Reads are then stale.
	NoBarrier bool
	// NoPreVote lets a node raise its term before anybody has said that it
	// could win. One that comes back then unseats a leader in good health.
	NoPreVote bool
	// Applied changes a command before this node applies it, as a bug or a bad
	// memory would. Replicas then part.
	Applied func(command []byte) []byte
	// MarkEvery is the distance of two marks in entries, the same on all nodes;
	// marks are then compared without much ado. 0: as released.
	MarkEvery uint64
	// NoComparison lets a node go on whose state is not that of the others.
	NoComparison bool
	// NoStallGuard lets a node with a hanging disk go on leading.
	NoStallGuard bool
	// Level, if set, is the feature level that the build of this node counts as
	// knowing.
	Level uint32
	// GossipLevel, if set, is what this node says of its level by gossip.
	GossipLevel uint32
	// RaiseUnasked has the leader raise the feature level to its own, whatever
	// members say.
	RaiseUnasked bool
	// TakesAnyLevel lets a node take entries and snapshots of a level that it
	// does not know.
	TakesAnyLevel bool
	// VoteWhileMending lets a node vote that has lost entries which it
	// acknowledged. Acknowledged writes are then lost.
	VoteWhileMending bool
	// VoteAtAnyPrice takes a vote away that the others cannot do without. The
	// cluster then stands still.
	VoteAtAnyPrice bool
	// HeedsNobody has a leader not ask members that do not follow it. A cluster
	// that was recovered elsewhere then goes on beside the recovered one.
	HeedsNobody bool
	// Recovering is called after each step of a recovery; an error ends it there,
	// as a crash would.
	Recovering func(step string) error
	// KeepUntrusted leaves connections open whose certificates are of an
	// authority that is not trusted any more.
	KeepUntrusted bool
}

func (f *Faults) cut(peer string) bool { return f.Cut != nil && f.Cut(peer) }

func (f *Faults) recovering(step string) error {
	if f.Recovering == nil {
		return nil
	}
	return f.Recovering(step)
}
