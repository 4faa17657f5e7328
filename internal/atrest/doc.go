// Package atrest seals what a node keeps on its disk: the entries of its log,
// its snapshots, its vote. The keys for that are in a file that only this
// node's HSM opens, at start.
//
// raft/DESIGN.md has the reasons.
package atrest
