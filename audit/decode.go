package audit

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"time"
)

// record is a line as encoding/json reads it. What that reader forgives
// (case, duplicates, unknown fields, spaces) is refused by decodeLine, which
// encodes what it read again and compares.
type record struct {
	V              int         `json:"v"`
	Node           string      `json:"node"`
	Sequence       uint64      `json:"sequence"`
	Prev           string      `json:"prev"`
	Time           string      `json:"time"`
	RequestID      string      `json:"requestId"`
	Event          string      `json:"event"`
	Outcome        string      `json:"outcome"`
	Code           string      `json:"code"`
	Principal      string      `json:"principal"`
	CredentialID   string      `json:"credentialId"`
	SourceAddress  string      `json:"sourceAddress"`
	Via            string      `json:"via"`
	Path           string      `json:"path"`
	KeyID          string      `json:"keyId"`
	Version        uint64      `json:"version"`
	DecisionID     string      `json:"decisionId"`
	Reason         string      `json:"reason"`
	Index          uint64      `json:"index"`
	Cached         bool        `json:"cached"`
	KMS            []kmsRecord `json:"kms"`
	ApprovalID     string      `json:"approvalId"`
	DurationMicros int64       `json:"durationMicros"`

	Consumer *consumerRecord `json:"consumer"`
	Decision *decisionRecord `json:"decision"`

	BreakGlassID string `json:"breakGlassId"`
}

type consumerRecord struct {
	Session   uint64 `json:"session"`
	Instance  string `json:"instance"`
	Stamp     int64  `json:"stamp"`
	HoldUntil int64  `json:"holdUntil"`
	Uses      uint64 `json:"uses"`
	UsesStamp int64  `json:"usesStamp"`
}

type kmsRecord struct {
	Event      string `json:"event"`
	KeyID      string `json:"keyId"`
	KeyVersion uint32 `json:"keyVersion"`
	Sequence   uint64 `json:"sequence"`
	Cached     bool   `json:"cached"`
}

// decodeLine reads one line without its newline, and the hash it carries of
// the line before. It accepts exactly what the encoder writes.
func decodeLine(line []byte) (Event, [sha256.Size]byte, error) {
	var prev [sha256.Size]byte
	if err := checkCRC(line); err != nil {
		return Event{}, prev, err
	}
	var r record
	if err := json.Unmarshal(line, &r); err != nil {
		return Event{}, prev, fmt.Errorf("is not a JSON object of an event: %w", err)
	}
	if r.V != formatVersion {
		return Event{}, prev, fmt.Errorf("has format version %d; this release reads version %d", r.V, formatVersion)
	}
	if n, err := hex.Decode(prev[:], []byte(r.Prev[:min(len(r.Prev), hashChars)])); err != nil || n != len(prev) {
		return Event{}, prev, errors.New("prev is not a SHA-256 in hex")
	}
	at, err := time.Parse(timeLayout, r.Time)
	if err != nil {
		return Event{}, prev, errors.New("time is not in RFC 3339, UTC, milliseconds")
	}
	e := r.event(at)
	if err := e.check(); err != nil {
		return Event{}, prev, err
	}
	again := appendCRC(appendBody(appendPrefix(make([]byte, 0, len(line)), e.Node, e.Sequence, prev), &e), 0)
	if !bytes.Equal(line, again) {
		return Event{}, prev, errors.New("is not in the form that the trail writes")
	}
	return e, prev, nil
}

func (r *record) event(at time.Time) Event {
	e := Event{
		Node: r.Node, Sequence: r.Sequence, Time: at, RequestID: r.RequestID, Event: r.Event, Outcome: r.Outcome, Code: r.Code,
		Principal: r.Principal, CredentialID: r.CredentialID, SourceAddress: r.SourceAddress, Via: r.Via, Path: r.Path, KeyID: r.KeyID,
		Version: r.Version, DecisionID: r.DecisionID, Reason: r.Reason, Index: r.Index, Cached: r.Cached, DurationMicros: r.DurationMicros,
		BreakGlassID: r.BreakGlassID,
		ApprovalID:   r.ApprovalID,
	}
	for _, k := range r.KMS {
		e.KMS = append(e.KMS, KMSEvent(k))
	}
	if c := r.Consumer; c != nil {
		e.Consumer = &Consumer{
			Instance: c.Instance, Session: c.Session, Stamp: c.Stamp, HoldUntil: c.HoldUntil, Uses: c.Uses, UsesStamp: c.UsesStamp,
		}
	}
	e.Decision = r.Decision.decision()
	return e
}

// checkCRC checks the end of a line.
func checkCRC(line []byte) error {
	if len(line) < crcBytes {
		return errors.New("is too short for an event")
	}
	start := len(line) - crcBytes
	var buf [crcBytes]byte
	sum := crc32.ChecksumIEEE(line[:start])
	want := append(buf[:0], crcField...)
	want = hex.AppendEncode(want, []byte{byte(sum >> 24), byte(sum >> 16), byte(sum >> 8), byte(sum)})
	want = append(want, `"}`...)
	if !bytes.Equal(line[start:], want) {
		return errors.New("has a wrong checksum: its bytes were changed")
	}
	return nil
}
