package fsm

import (
	"bufio"
	"crypto/sha256"
	"io"
)

// recordNames say in words what a part of the state is, for those who read
// where two replicas differ.
var recordNames = map[recordType]string{
	recordGenesis: "genesis", recordKey: "keys", recordPolicy: "policies", recordAccess: "accessPolicies", recordPrincipal: "principals",
	recordToken: "tokens", recordSecret: "secrets", recordVersion: "versions", recordWrite: "clientTokens", recordJob: "jobs",
	recordRoots: "rootKeys", recordPathRule: "pathRules", recordGroup: "groups", recordMember: "groupMembers", recordRevision: "revisions",
	recordTrust: "trusts", recordAccessKey: "accessKeys", recordCredUse: "credentialUses", recordRateLimit: "rateLimits",
	recordSession: "sessions", recordConsumer: "consumers", recordRead: "reads", recordHorizon: "horizons", recordApproval: "approvals",
	recordGlass: "breakGlass", recordDetectors: "detectors", recordCanary: "canaries", recordAnchor: "anchors", recordCosigned: "cosignatures",
	recordNode: "nodes", recordJoinToken: "joinTokens", recordAutopilot: "autopilot", recordLevel: "level",
}

// Parts answers a SHA-256 for each kind of record that the state has, by its
// name: over the type, length and payload of all of them, in the order of a
// snapshot. The state hash tells whether two replicas were given the same
// commands and decided them alike; this tells whether they hold the same. It
// costs what writing a snapshot costs.
func (s *Snapshot) Parts() (map[string][sha256.Size]byte, error) {
	parts := map[string][sha256.Size]byte{}
	var kind recordType
	out := &snapshotWriter{to: bufio.NewWriter(io.Discard), sum: sha256.New()}
	end := func() {
		if kind != recordTrailer {
			parts[recordNames[kind]] = [sha256.Size]byte(out.sum.Sum(nil))
		}
	}
	out.begins = func(next recordType) {
		if next != kind {
			end()
			out.sum.Reset()
			kind = next
		}
	}
	s.writeRecords(out)
	end()
	return parts, out.err
}
