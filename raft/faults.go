package raft

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

	// VerifyLeaderReads reads by the library's VerifyLeader instead of the
	// read gate. Reads are then stale.
	VerifyLeaderReads bool
	// ReadInTransfer answers reads also while this node hands leadership
	// over, which the read gate alone must survive.
	ReadInTransfer bool
	// NoStallGuard lets a node with a hanging disk go on leading.
	NoStallGuard bool
}

func (f *Faults) cut(peer string) bool { return f.Cut != nil && f.Cut(peer) }
