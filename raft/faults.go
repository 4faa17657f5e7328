package raft

// Faults makes trouble, and takes guards away, for the tests of this
// repository: every guard has a test that shows what happens without it. No
// program sets it, and no configuration file reaches it.
type Faults struct {
	// AppendReturned is called between the return of an AppendEntries to
	// peer and anybody's knowledge of it: a slow return path.
	AppendReturned func(peer string)
	// BeforeStore is called before entries go to disk: a slow disk.
	BeforeStore func()
	// VerifyLeaderReads reads by the library's VerifyLeader instead of the
	// read gate. Reads are then stale.
	VerifyLeaderReads bool
	// NoStallGuard lets a node with a hanging disk go on leading.
	NoStallGuard bool
}
