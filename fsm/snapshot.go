package fsm

import (
	"bufio"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash"
	"io"
	"iter"

	"github.com/strongroom/strongroom/internal/names"
)

// A snapshot file, all numbers big endian:
//
//	magic "STRGSNAP" | format uint16 = 1 or 2
//	last index uint64 | time int64 | state hash [32]
//	format 2: feature level uint32
//	record *  =  type uint16 | length uint32 | payload
//	trailer   =  type uint16 = 0 | length uint32 = 40 | count uint64 | SHA-256 [32]
//
// The payload of a record is CBOR as in a command. Records come by rising
// type, then by rising key, each once. count is the number of records; the
// SHA-256 is over every byte before it. Indexes are not stored: they follow
// from the records. Without the trailer there is no telling a file that was
// cut at the end of a record from a whole one, so nothing is restored
// without it.
//
// Format 1 is that of a cluster at the first feature level. Above that the
// level stands ahead of all records, so that a build that does not know it
// refuses the snapshot before it meets what it cannot read.
const (
	snapshotMagic   = "STRGSNAP"
	snapshotFormat  = 1
	snapshotLeveled = 2

	headerBytes  = len(snapshotMagic) + 2 + 8 + 8 + sha256.Size
	levelBytes   = 4
	frameBytes   = 2 + 4
	trailerBytes = 8 + sha256.Size

	// maxRecord bounds one payload: no record is larger than the command
	// that made it and what Apply adds.
	maxRecord = 2 * MaxCommandBytes
)

// recordType numbers the kinds of records: append-only, never reused.
type recordType uint16

const (
	recordTrailer   recordType = 0
	recordGenesis   recordType = 1
	recordKey       recordType = 2
	recordPolicy    recordType = 3
	recordAccess    recordType = 4
	recordPrincipal recordType = 5
	recordToken     recordType = 6
	recordSecret    recordType = 7
	recordVersion   recordType = 8
	recordWrite     recordType = 9
	recordJob       recordType = 10
	recordRoots     recordType = 11
	recordPathRule  recordType = 12
	recordGroup     recordType = 13
	recordMember    recordType = 14
	recordRevision  recordType = 15
	recordTrust     recordType = 16
	recordAccessKey recordType = 17
	recordCredUse   recordType = 18
	recordRateLimit recordType = 19
	recordSession   recordType = 21
	recordConsumer  recordType = 22
	recordRead      recordType = 23
	recordHorizon   recordType = 24
	recordApproval  recordType = 25
	recordGlass     recordType = 26
	recordDetectors recordType = 28
	recordCanary    recordType = 29
	recordAnchor    recordType = 27
	recordCosigned  recordType = 34
	recordNode      recordType = 30
	recordJoinToken recordType = 31
	recordAutopilot recordType = 32
	recordLevel     recordType = 35
	recordRecovery  recordType = 36
)

// versionRecord is a version with the path that it belongs to.
type versionRecord struct {
	Path    names.Path `cbor:"1,keyasint,omitempty"`
	Version *Version   `cbor:"2,keyasint,omitempty"`
}

// readRecord is when a version was last read.
type readRecord struct {
	Path    names.Path `cbor:"1,keyasint,omitempty"`
	Version uint64     `cbor:"2,keyasint,omitempty"`
	At      int64      `cbor:"3,keyasint,omitempty"`
}

// Snapshot is the state at one index, ready to be written. It costs nothing
// to take and holds up no Apply.
type Snapshot struct{ state *State }

// Snapshot answers the current state as a snapshot.
func (m *Machine) Snapshot() *Snapshot { return &Snapshot{state: m.State()} }

// Snapshot answers the state as a snapshot.
func (s *State) Snapshot() *Snapshot { return &Snapshot{state: s} }

// Index answers the index of the last command in the snapshot.
func (s *Snapshot) Index() uint64 { return s.state.index }

// WriteTo writes the snapshot. The same state gives the same bytes on every
// node. Syncing and closing is the caller's.
func (s *Snapshot) WriteTo(w io.Writer) (int64, error) {
	out := &snapshotWriter{to: bufio.NewWriterSize(w, 64<<10), sum: sha256.New()}
	out.write(s.state.header())
	s.writeRecords(out)
	out.trailer()
	return out.written, out.err
}

func (s *Snapshot) writeRecords(out *snapshotWriter) {
	if s.state.genesis != nil {
		out.record(recordGenesis, s.state.genesis)
	}
	records(out, recordKey, s.state.Keys(""))
	records(out, recordPolicy, s.state.Policies(""))
	records(out, recordAccess, s.state.AccessPolicies(""))
	records(out, recordPrincipal, s.state.Principals(""))
	records(out, recordToken, s.state.Tokens("", ""))
	records(out, recordSecret, s.state.Secrets(""))
	for key, v := range scan(s.state.versions.Root(), nil, nil) {
		if out.err != nil {
			break
		}
		path, _ := splitVersionKey(key)
		out.record(recordVersion, versionRecord{Path: path, Version: v})
	}
	records(out, recordWrite, values(scan(s.state.writes.Root(), nil, nil)))
	records(out, recordJob, s.state.Jobs(""))
	if s.state.genesis != nil && !s.state.roots.first() {
		out.record(recordRoots, s.state.roots)
	}
	records(out, recordPathRule, s.state.PathRules(""))
	records(out, recordGroup, s.state.Groups(""))
	records(out, recordMember, values(scan(s.state.members.Root(), nil, nil)))
	records(out, recordRevision, values(scan(s.state.revisions.Root(), nil, nil)))
	records(out, recordTrust, s.state.Trusts(""))
	records(out, recordAccessKey, s.state.AccessKeys("", ""))
	records(out, recordCredUse, values(scan(s.state.credentialUses.Root(), nil, nil)))
	records(out, recordRateLimit, s.state.RateLimits(""))
	records(out, recordSession, s.state.Sessions())
	records(out, recordConsumer, values(scan(s.state.consumers.Root(), nil, nil)))
	for key, at := range scan(s.state.reads.Root(), nil, nil) {
		if out.err != nil {
			break
		}
		path, number := splitVersionKey(key)
		out.record(recordRead, readRecord{Path: path, Version: number, At: at})
	}
	records(out, recordHorizon, values(scan(s.state.horizons.Root(), nil, nil)))
	records(out, recordApproval, s.state.Approvals(""))
	for session := range s.state.BreakGlassSessions("", "") {
		out.record(recordGlass, glassRecord{Session: session})
		for read := range s.state.GlassReads(session.ID) {
			out.record(recordGlass, glassRecord{Read: read})
		}
	}
	records(out, recordAnchor, s.state.Anchors())
	records(out, recordDetectors, values(scan(s.state.detectors.Root(), nil, nil)))
	records(out, recordCanary, s.state.canaryRecords())
	records(out, recordNode, s.state.ClusterNodes(""))
	records(out, recordJoinToken, s.state.JoinTokens(""))
	records(out, recordAutopilot, values(scan(s.state.autopilot.Root(), nil, nil)))
	records(out, recordCosigned, s.state.allCosignatures())
	records(out, recordLevel, values(scan(s.state.levels.Root(), nil, nil)))
	records(out, recordRecovery, s.state.Recoveries())
}

func (s *State) header() []byte {
	level := s.Level()
	format := uint16(snapshotFormat)
	if level > FirstLevel {
		format = snapshotLeveled
	}
	header := binary.BigEndian.AppendUint16([]byte(snapshotMagic), format)
	header = binary.BigEndian.AppendUint64(header, s.index)
	header = binary.BigEndian.AppendUint64(header, uint64(s.time))
	header = append(header, s.hash[:]...)
	if level > FirstLevel {
		header = binary.BigEndian.AppendUint32(header, level)
	}
	return header
}

// SnapshotHead is how many bytes of a snapshot SnapshotLevel looks at.
const SnapshotHead = headerBytes + levelBytes

// SnapshotLevel answers the feature level that a snapshot which begins with
// head needs. What is no snapshot, or too short, needs the first: Restore says
// what is wrong with it.
func SnapshotLevel(head []byte) uint32 {
	if len(head) < headerBytes || string(head[:len(snapshotMagic)]) != snapshotMagic {
		return FirstLevel
	}
	switch format := binary.BigEndian.Uint16(head[len(snapshotMagic):]); {
	case format <= snapshotFormat:
		return FirstLevel
	case format == snapshotLeveled && len(head) >= SnapshotHead:
		return binary.BigEndian.Uint32(head[headerBytes:])
	}
	return unknownLevel
}

func records[T any](out *snapshotWriter, kind recordType, all iter.Seq[T]) {
	for r := range all {
		if out.err != nil {
			return
		}
		out.record(kind, r)
	}
}

// snapshotWriter keeps the first error, so that the layout reads straight.
type snapshotWriter struct {
	to      *bufio.Writer
	sum     hash.Hash
	count   uint64
	written int64
	err     error
	begins  func(recordType) // called before each record, if set
}

func (w *snapshotWriter) write(b []byte) {
	if w.err != nil {
		return
	}
	n, err := w.to.Write(b)
	w.written += int64(n)
	if err != nil {
		w.err = fmt.Errorf("snapshot: %w", err)
		return
	}
	w.sum.Write(b)
}

func (w *snapshotWriter) record(kind recordType, r any) {
	payload, err := codec.enc.Marshal(r)
	switch {
	case w.err != nil:
		return
	case err != nil:
		w.err = fmt.Errorf("snapshot: record %d of type %d: %w", w.count+1, kind, err)
	case len(payload) > maxRecord:
		w.err = fmt.Errorf("snapshot: record %d of type %d has %d bytes; at most %d can be restored", w.count+1, kind, len(payload), maxRecord)
	default:
		if w.begins != nil {
			w.begins(kind)
		}
		w.frame(kind, len(payload))
		w.write(payload)
		w.count++
	}
}

func (w *snapshotWriter) frame(kind recordType, length int) {
	frame := binary.BigEndian.AppendUint16(nil, uint16(kind))
	w.write(binary.BigEndian.AppendUint32(frame, uint32(length)))
}

func (w *snapshotWriter) trailer() {
	w.frame(recordTrailer, trailerBytes)
	w.write(binary.BigEndian.AppendUint64(nil, w.count))
	w.write(w.sum.Sum(nil))
	if w.err != nil {
		return
	}
	if err := w.to.Flush(); err != nil {
		w.err = fmt.Errorf("snapshot: %w", err)
	}
}
