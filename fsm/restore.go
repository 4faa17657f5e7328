package fsm

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"
	"strings"
)

// Restore replaces the state by the snapshot in r, which must end where the
// snapshot ends. It is all or nothing: after an error the machine is as it
// was. Errors name the place and never hold bytes of the snapshot. A *LevelError
// among them says that the snapshot needs a newer build.
func (m *Machine) Restore(r io.Reader) error {
	in := &snapshotReader{from: bufio.NewReaderSize(r, 64<<10), sum: sha256.New(), knows: m.level}
	state, err := in.read()
	if err != nil {
		return fmt.Errorf("snapshot: after %d records: %w", in.count, err)
	}
	m.state.Store(state)
	return nil
}

type snapshotReader struct {
	from  *bufio.Reader
	sum   hash.Hash
	knows uint32 // the feature level of this build
	count uint64
	buf   bytes.Buffer
	t     *txn
	last  lastRecord
}

// lastRecord is where the strict order of records has come to.
type lastRecord struct {
	kind recordType
	key  string
}

// read builds the state off to the side: nobody sees it before the trailer
// was checked.
func (in *snapshotReader) read() (*State, error) {
	header, err := in.next(headerBytes)
	if err != nil {
		return nil, err
	}
	if string(header[:len(snapshotMagic)]) != snapshotMagic {
		return nil, errors.New("this is not a snapshot of Strongroom")
	}
	header = header[len(snapshotMagic):]
	format := binary.BigEndian.Uint16(header)
	if format != snapshotFormat && format != snapshotLeveled {
		return nil, fmt.Errorf("format version %d is not known to this build, which reads %d and %d", format, snapshotFormat, snapshotLeveled)
	}
	index, time := binary.BigEndian.Uint64(header[2:]), int64(binary.BigEndian.Uint64(header[10:]))
	if time < 0 || time > maxTime {
		return nil, errors.New("its time is out of range")
	}
	state := [sha256.Size]byte(header[18:])
	level, err := in.level(format)
	if err != nil {
		return nil, err
	}
	in.t = emptyState().begin(index, Meta{Time: time})
	for {
		more, err := in.record()
		if err != nil {
			return nil, err
		}
		if !more && in.t.level() != level {
			return nil, fmt.Errorf("it says that it is of feature level %d, and holds level %d", level, in.t.level())
		}
		if !more {
			return in.t.commit().at(index, time, state), nil
		}
	}
}

// level reads the feature level, and refuses one that this build does not know
// before anything else is read.
func (in *snapshotReader) level(format uint16) (uint32, error) {
	if format == snapshotFormat {
		return FirstLevel, nil
	}
	b, err := in.next(levelBytes)
	if err != nil {
		return 0, err
	}
	level := binary.BigEndian.Uint32(b)
	if level <= FirstLevel {
		return 0, fmt.Errorf("feature level %d has another format", level)
	}
	if level > in.knows {
		return 0, &LevelError{Needs: level, Knows: in.knows}
	}
	return level, nil
}

// record reads one frame; it answers false after the trailer.
func (in *snapshotReader) record() (bool, error) {
	frame, err := in.next(frameBytes)
	if err != nil {
		return false, err
	}
	kind, length := recordType(binary.BigEndian.Uint16(frame)), binary.BigEndian.Uint32(frame[2:])
	if kind == recordTrailer {
		return false, in.trailer(length)
	}
	if length > maxRecord {
		return false, fmt.Errorf("a record of type %d claims %d bytes; at most %d are possible", kind, length, maxRecord)
	}
	payload, err := in.next(int(length))
	if err != nil {
		return false, err
	}
	key, err := in.t.restoreRecord(kind, payload)
	if err != nil {
		return false, err
	}
	if kind < in.last.kind || kind == in.last.kind && key <= in.last.key {
		return false, fmt.Errorf("a record of type %d is out of order or there twice", kind)
	}
	in.last = lastRecord{kind, key}
	in.count++
	return true, nil
}

func (in *snapshotReader) trailer(length uint32) error {
	if length != uint32(trailerBytes) {
		return fmt.Errorf("the trailer claims %d bytes", length)
	}
	b, err := in.next(8)
	if err != nil {
		return err
	}
	count, want := binary.BigEndian.Uint64(b), in.sum.Sum(nil)
	got, err := in.next(sha256.Size)
	if err != nil {
		return err
	}
	if !bytes.Equal(got, want) {
		return errors.New("its SHA-256 does not match; the file was damaged")
	}
	if count != in.count {
		return fmt.Errorf("its trailer counts %d records", count)
	}
	if _, err := in.from.ReadByte(); err == nil {
		return errors.New("there are bytes after its trailer")
	} else if !errors.Is(err, io.EOF) {
		return err
	}
	return nil
}

// next reads n bytes, which are good until the call after. The buffer grows
// with what arrives, not with what a length claims.
func (in *snapshotReader) next(n int) ([]byte, error) {
	in.buf.Reset()
	got, err := io.CopyN(&in.buf, in.from, int64(n))
	if errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("it ends in the middle, %d bytes are missing: %w", int64(n)-got, io.ErrUnexpectedEOF)
	}
	if err != nil {
		return nil, err
	}
	in.sum.Write(in.buf.Bytes())
	return in.buf.Bytes(), nil
}

// restoreRecord adds one record with the indexes that follow from it, and
// answers its key. The SHA-256 guards against damage; what is checked here
// guards the indexes against a snapshot that a faulty build wrote.
func (t *txn) restoreRecord(kind recordType, payload []byte) (string, error) {
	switch kind {
	case recordGenesis:
		return read(kind, payload, t.restoreGenesis)
	case recordKey:
		return read(kind, payload, t.restoreKey)
	case recordPolicy:
		return read(kind, payload, func(p *Policy) (string, error) {
			t.policies.put([]byte(p.Name), p)
			return p.Name, nil
		})
	case recordAccess:
		return read(kind, payload, func(p *AccessPolicy) (string, error) {
			t.access.put([]byte(p.Name), p)
			return p.Name, nil
		})
	case recordPrincipal:
		return read(kind, payload, t.restorePrincipal)
	case recordToken:
		return read(kind, payload, t.restoreToken)
	case recordSecret:
		return read(kind, payload, t.restoreSecretRecord)
	case recordVersion:
		return read(kind, payload, t.restoreVersion)
	case recordWrite:
		return read(kind, payload, t.restoreWrite)
	case recordJob:
		return read(kind, payload, t.restoreJob)
	case recordRoots:
		return read(kind, payload, t.restoreRoots)
	case recordPathRule:
		return read(kind, payload, t.restorePathRule)
	case recordGroup:
		return read(kind, payload, func(g *Group) (string, error) { return restoreGroupRecord(t, g) })
	case recordMember:
		return read(kind, payload, func(m *Membership) (string, error) { return restoreMembership(t, m) })
	case recordRevision:
		return read(kind, payload, t.restoreRevision)
	case recordAccessKey:
		return read(kind, payload, t.restoreAccessKey)
	case recordCredUse:
		return read(kind, payload, t.restoreCredentialUse)
	case recordTrust:
		return read(kind, payload, t.restoreTrust)
	case recordRateLimit:
		return read(kind, payload, t.restoreRateLimit)
	case recordSession:
		return read(kind, payload, t.restoreSession)
	case recordConsumer:
		return read(kind, payload, t.restoreConsumer)
	case recordRead:
		return read(kind, payload, t.restoreRead)
	case recordHorizon:
		return read(kind, payload, func(p *PastHorizon) (string, error) {
			if p.Horizon <= 0 || p.Horizon > maxHorizon || p.Until <= 0 || p.Until > maxTime {
				return "", errors.New("a past horizon is of no time")
			}
			t.horizons.put([]byte(p.Prefix), p)
			return p.Prefix, nil
		})
	case recordApproval:
		return read(kind, payload, t.restoreApproval)
	case recordGlass:
		return read(kind, payload, t.restoreGlass)
	case recordDetectors:
		return read(kind, payload, t.restoreDetectors)
	case recordCanary:
		return read(kind, payload, t.restoreCanary)
	case recordAnchor:
		return read(kind, payload, t.restoreAnchor)
	case recordCosigned:
		return read(kind, payload, t.restoreCosignature)
	case recordNode:
		return read(kind, payload, t.restoreNode)
	case recordJoinToken:
		return read(kind, payload, t.restoreJoinToken)
	case recordAutopilot:
		return read(kind, payload, t.restoreAutopilot)
	case recordLevel:
		return read(kind, payload, t.restoreLevel)
	case recordRecovery:
		return read(kind, payload, t.restoreRecovery)
	default:
		return "", fmt.Errorf("records of type %d are not known to this build", kind)
	}
}

func read[T any](kind recordType, payload []byte, add func(*T) (string, error)) (string, error) {
	r := new(T)
	if err := codec.dec.Unmarshal(payload, r); err != nil {
		// The library's text may quote the payload: it is dropped.
		return "", fmt.Errorf("a record of type %d is unreadable", kind)
	}
	key, err := add(r)
	if err == nil && key == "" {
		err = fmt.Errorf("a record of type %d has no key", kind)
	}
	return key, err
}

func (t *txn) restoreGenesis(g *Genesis) (string, error) {
	if t.genesis != nil {
		return "", errors.New("there is more than one genesis")
	}
	t.genesis, t.roots = g, &Roots{Current: g.Root}
	return g.ClusterID, nil
}

func (t *txn) restoreKey(k *Key) (string, error) {
	for _, alias := range k.Aliases {
		if t.aliases.value([]byte(alias)) != "" {
			return "", errors.New("two keys share an alias")
		}
	}
	if k.DeletionAt < 0 || k.DeletionAt > maxTime || k.NextRotationAt < 0 || k.NextRotationAt > maxTime {
		return "", errors.New("a key is due at a time out of range")
	}
	if t.keys.value([]byte(k.ID)) != nil {
		return "", errors.New("a key is there twice")
	}
	t.putKey(k)
	return k.ID, nil
}

func (t *txn) restoreJob(j *Job) (string, error) {
	switch {
	case j.FinishedAt < 0 || j.FinishedAt > maxTime:
		return "", errors.New("a job ended at a time out of range")
	case j.Kind == JobRotateRoot:
		if j.RootVersion == 0 {
			return "", errors.New("a rotation of the root key is to no version")
		}
	case t.keys.value([]byte(j.From)) == nil || t.keys.value([]byte(j.To)) == nil:
		return "", errors.New("a job is about a key that is not there")
	}
	t.putJob(j)
	return j.ID, nil
}

func (t *txn) restoreRoots(r *Roots) (string, error) {
	job := t.jobs.value([]byte(r.JobID))
	switch {
	case t.genesis == nil || r.Current.Version == 0 || r.first():
		return "", errors.New("the root keys are of no cluster, or tell nothing")
	case (r.Next != nil || r.Previous != nil) && (job == nil || job.FinishedAt != 0):
		return "", errors.New("a rotation of the root key has no job")
	case r.Next != nil && r.Previous != nil:
		return "", errors.New("two rotations of the root key are on their way")
	}
	t.roots = r
	return "roots", nil
}

func (t *txn) restorePathRule(rule *PathRule) (string, error) {
	if checkPathRule(rule) != nil || rule.Revision == 0 {
		return "", errors.New("a path rule is none that could have been put")
	}
	if rule.WalkAt < 0 || rule.WalkAt > maxTime {
		return "", errors.New("a path rule is being walked at a time out of range")
	}
	t.putRule(rule)
	return rule.Prefix, nil
}

func (t *txn) restorePrincipal(p *Principal) (string, error) {
	for _, policy := range p.Policies {
		if t.policies.value([]byte(policy)) == nil {
			return "", errors.New("a principal has a policy that is not there")
		}
	}
	if err := t.checkRestoredAttached(p.Name, p.Attached); err != nil {
		return "", err
	}
	if err := p.Quarantine.sound(); err != nil {
		return "", err
	}
	t.putPrincipal(p)
	return p.Name, nil
}

func (t *txn) restoreToken(k *Token) (string, error) {
	switch {
	case t.principals.value([]byte(k.Principal)) == nil:
		return "", errors.New("a token is of a principal that is not there")
	case len(k.Hash) != sha256.Size || t.tokenHashes.value(k.Hash) != nil:
		return "", errors.New("a token has no hash of its own")
	case k.ExpiresAt < 0 || k.ExpiresAt > maxTime:
		return "", errors.New("a token expires at a time out of range")
	}
	t.putToken(k)
	return k.ID, nil
}

func (t *txn) restoreWrite(w *write) (string, error) {
	for _, part := range []string{w.Principal, w.Operation, w.Token} {
		if strings.IndexByte(part, 0) >= 0 {
			return "", errors.New("a remembered write has a name with a zero byte")
		}
	}
	if w.Operation == "" || w.Token == "" || len(w.Hash) == 0 {
		return "", errors.New("a remembered write has no name or no hash")
	}
	if t.writeIndexes.value(w.indexKey()) != nil || w.Result.Index > t.index || w.Time < 0 || w.Time > maxTime {
		return "", errors.New("two remembered writes share an index, or one lies in the future")
	}
	t.putWrite(w)
	return string(w.key()), nil
}
