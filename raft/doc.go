// Package raft is one node of the cluster: the log on disk, the link between
// nodes, who leads, and reads that are never stale. It is the only importer
// of hashicorp/raft, raft-boltdb and memberlist. DESIGN.md holds the safety
// arguments.
package raft
