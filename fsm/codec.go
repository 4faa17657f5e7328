package fsm

import (
	"encoding/binary"
	"fmt"

	"github.com/fxamacker/cbor/v2"

	"github.com/strongroom/strongroom/internal/fault"
)

// MaxCommandBytes bounds one encoded command. It is far above what the
// configuration lets through (a value of at most 1 MiB), and is here so that
// no log entry can make a node allocate without bound.
const MaxCommandBytes = 4 << 20

// commandFormat is the format version that Encode writes. A change of the
// payload that an older build would misread gets a new one.
const commandFormat = 1

// commandHeader is the length of kind and format version.
const commandHeader = 3

// Bounds of one CBOR item. Whatever a command may hold also goes into one
// snapshot record, so the same bounds serve both: a record that grows over
// many commands must be bounded by Apply (see maxAttached).
const (
	maxDepth = 12
	maxArray = 4096
	maxMap   = 1024
)

// codec holds the two modes: RFC 8949, section 4.2 (core deterministic
// encoding) out; strict in, so that one meaning has one reading on all nodes.
var codec = newCodec()

type codecModes struct {
	enc cbor.EncMode
	dec cbor.DecMode
}

func newCodec() codecModes {
	options := cbor.CoreDetEncOptions()
	options.TagsMd = cbor.TagsForbidden
	enc, err := options.EncMode()
	if err != nil {
		panic(fmt.Sprintf("fsm: encoding options: %v", err))
	}
	dec, err := cbor.DecOptions{
		DupMapKey:         cbor.DupMapKeyEnforcedAPF,
		MaxNestedLevels:   maxDepth,
		MaxArrayElements:  maxArray,
		MaxMapPairs:       maxMap,
		IndefLength:       cbor.IndefLengthForbidden,
		TagsMd:            cbor.TagsForbidden,
		ExtraReturnErrors: cbor.ExtraDecErrorUnknownField,
		UTF8:              cbor.UTF8RejectInvalid,
		FieldNameMatching: cbor.FieldNameMatchingCaseSensitive,
		BignumTag:         cbor.BignumTagForbidden,
		BinaryUnmarshaler: cbor.BinaryUnmarshalerNone,
	}.DecMode()
	if err != nil {
		panic(fmt.Sprintf("fsm: decoding options: %v", err))
	}
	return codecModes{enc: enc, dec: dec}
}

// HaltError says that this build cannot apply a log entry, so that the node
// must stop: going on would let its state part from the others'. It never
// holds bytes of the entry.
type HaltError struct {
	Kind   Kind // 0 if the entry is too short to have one
	Index  uint64
	Length int
	Reason string // one of a few fixed texts
}

// Error names kind, index and length.
func (e *HaltError) Error() string {
	return fmt.Sprintf("fsm: the log entry at index %d (kind %d, %d bytes) cannot be applied: %s; the node must stop, run a build that knows this kind",
		e.Index, e.Kind, e.Length, e.Reason)
}

// The reasons of a HaltError.
const (
	haltShort   = "it is shorter than its header"
	haltLong    = "it is longer than a command may be"
	haltKind    = "its kind is unknown"
	haltFormat  = "its format version is unknown"
	haltPayload = "its payload is unreadable"
	haltIndex   = "its index is not above the last applied one"
	haltResult  = "its result cannot be encoded"
	haltLevel   = "it raises the cluster to a feature level above that of this build"
)

// Encode answers the bytes of c for the log:
//
//	kind uint16 | format uint8 | payload, deterministic CBOR
//	big endian  | 1            | RFC 8949, section 4.2; integer keys
//
// What it answers, Decode of the same build reads: a command that would stop
// the nodes (bad UTF-8, over a bound) is refused here, with
// fault.InvalidRequest or fault.TooLarge, before it can reach the log.
func Encode(c Command) ([]byte, error) {
	if c == nil {
		return nil, fault.New(fault.Internal, "no command to encode")
	}
	out := binary.BigEndian.AppendUint16(make([]byte, 0, 512), uint16(c.Kind()))
	out = append(out, commandFormat)
	payload, err := codec.enc.Marshal(c)
	if err != nil {
		return nil, fault.Wrap(fault.Internal, err, "the command cannot be encoded")
	}
	out = append(out, payload...)
	if len(out) > MaxCommandBytes {
		return nil, fault.New(fault.TooLarge, "the request makes a log entry of %d bytes; at most %d are allowed", len(out), MaxCommandBytes)
	}
	if _, halt := decode(out); halt != nil {
		return nil, fault.New(fault.InvalidRequest, "the request does not fit into a log entry: texts must be UTF-8, lists have at most %d items and maps at most %d", maxArray, maxMap)
	}
	return out, nil
}

// Decode reads what Encode wrote. It never panics; its error is a *HaltError
// with Index 0. Unknown fields, duplicate keys, tags, indefinite lengths,
// invalid UTF-8 and trailing bytes are errors.
func Decode(b []byte) (Command, error) {
	c, halt := decode(b)
	if halt != nil {
		return nil, halt
	}
	return c.command, nil
}

func decode(b []byte) (change, *HaltError) {
	halt := &HaltError{Length: len(b)}
	if len(b) < commandHeader {
		halt.Reason = haltShort
		return change{}, halt
	}
	halt.Kind = Kind(binary.BigEndian.Uint16(b))
	e, known := kinds[halt.Kind]
	switch {
	case len(b) > MaxCommandBytes:
		halt.Reason = haltLong
	case !known:
		halt.Reason = haltKind
	case b[2] != commandFormat:
		halt.Reason = haltFormat
	default:
		c, err := e.decode(b[commandHeader:])
		if err == nil {
			c.level = e.needs(c.command)
			return c, nil
		}
		// The library's text may quote the payload: it is dropped.
		halt.Reason = haltPayload
	}
	return change{}, halt
}
