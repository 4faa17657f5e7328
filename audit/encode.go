package audit

import (
	"crypto/sha256"
	"encoding/hex"
	"hash/crc32"
	"strconv"
	"time"
	"unicode/utf8"
)

// A line of the trail is one JSON object and a newline:
//
//	{"v":1,"node":N,"sequence":S,"prev":P,"time":T,…the event's fields…,"crc":C}
//
// v is the version of this format. prev is the SHA-256 of the line before,
// without its newline, in hex; zeros before the first. crc is the CRC-32
// (IEEE) of all bytes before `,"crc"`, in hex: it finds a damaged last line,
// which no later line vouches for, and protects against nobody.
//
// The encoding is canonical: fields in a fixed order, zero fields left out,
// and every byte that is not printable ASCII escaped. So a line is compared
// byte by byte, no string of a caller can begin a line of its own or steer
// the terminal of who reads the file, and there is one encoding per event.
const (
	formatVersion = 1
	timeLayout    = "2006-01-02T15:04:05.000Z"
	hashChars     = 2 * sha256.Size
	crcField      = `,"crc":"`
	crcBytes      = len(crcField) + 8 + len(`"}`)
)

// appendPrefix writes a line up to and with the opening quote of time: what
// only the trail knows.
func appendPrefix(b []byte, node string, sequence uint64, prev [sha256.Size]byte) []byte {
	b = append(b, `{"v":`...)
	b = strconv.AppendInt(b, formatVersion, 10)
	b = append(b, `,"node":`...)
	b = appendString(b, node)
	b = append(b, `,"sequence":`...)
	b = strconv.AppendUint(b, sequence, 10)
	b = append(b, `,"prev":"`...)
	b = hex.AppendEncode(b, prev[:])
	return append(b, `","time":"`...)
}

// appendBody writes the rest of the line but its checksum: what the event
// knows.
func appendBody(b []byte, e *Event) []byte {
	b = e.Time.UTC().Truncate(time.Millisecond).AppendFormat(b, timeLayout)
	b = append(b, '"')
	b = appendField(b, "requestId", e.RequestID)
	b = appendField(b, "event", e.Event)
	b = appendField(b, "outcome", e.Outcome)
	b = appendField(b, "code", e.Code)
	b = appendField(b, "principal", e.Principal)
	b = appendField(b, "credentialId", e.CredentialID)
	b = appendField(b, "sourceAddress", e.SourceAddress)
	b = appendField(b, "via", e.Via)
	b = appendField(b, "path", e.Path)
	b = appendField(b, "keyId", e.KeyID)
	b = appendNumber(b, "version", e.Version)
	b = appendField(b, "decisionId", e.DecisionID)
	b = appendField(b, "reason", e.Reason)
	b = appendNumber(b, "index", e.Index)
	if e.Cached {
		b = append(b, `,"cached":true`...)
	}
	b = appendKMS(b, e.KMS)
	b = appendField(b, "approvalId", e.ApprovalID)
	b = appendConsumer(b, e.Consumer)
	b = appendField(b, "breakGlassId", e.BreakGlassID)
	b = appendDecision(b, e.Decision)
	if e.DurationMicros != 0 {
		b = append(b, `,"durationMicros":`...)
		b = strconv.AppendInt(b, e.DurationMicros, 10)
	}
	return b
}

func appendKMS(b []byte, events []KMSEvent) []byte {
	if len(events) == 0 {
		return b
	}
	b = append(b, `,"kms":[`...)
	for i, k := range events {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, `{"event":`...)
		b = appendString(b, k.Event)
		b = append(b, `,"keyId":`...)
		b = appendString(b, k.KeyID)
		b = append(b, `,"keyVersion":`...)
		b = strconv.AppendUint(b, uint64(k.KeyVersion), 10)
		b = appendNumber(b, "sequence", k.Sequence)
		if k.Cached {
			b = append(b, `,"cached":true`...)
		}
		b = append(b, '}')
	}
	return append(b, ']')
}

func appendConsumer(b []byte, c *Consumer) []byte {
	if c == nil {
		return b
	}
	b = append(b, `,"consumer":{"session":`...)
	b = strconv.AppendUint(b, c.Session, 10)
	b = appendField(b, "instance", c.Instance)
	b = appendNumber(b, "stamp", uint64(c.Stamp))
	b = appendNumber(b, "holdUntil", uint64(c.HoldUntil))
	b = appendNumber(b, "uses", c.Uses)
	b = appendNumber(b, "usesStamp", uint64(c.UsesStamp))
	return append(b, '}')
}

// appendCRC ends the line that starts at b[start:], without a newline.
func appendCRC(b []byte, start int) []byte {
	sum := crc32.ChecksumIEEE(b[start:])
	b = append(b, crcField...)
	b = hex.AppendEncode(b, []byte{byte(sum >> 24), byte(sum >> 16), byte(sum >> 8), byte(sum)})
	return append(b, `"}`...)
}

func appendField(b []byte, name, value string) []byte {
	if value == "" {
		return b
	}
	b = append(b, ',', '"')
	b = append(b, name...)
	b = append(b, `":`...)
	return appendString(b, value)
}

func appendNumber(b []byte, name string, value uint64) []byte {
	if value == 0 {
		return b
	}
	b = append(b, ',', '"')
	b = append(b, name...)
	b = append(b, `":`...)
	return strconv.AppendUint(b, value, 10)
}

// appendString writes a JSON string in ASCII without control characters.
// Bytes that are not UTF-8 become U+FFFD.
func appendString(b []byte, s string) []byte {
	b = append(b, '"')
	for i := 0; i < len(s); {
		c := s[i]
		switch {
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
			i++
		case c >= 0x20 && c < 0x7f:
			b = append(b, c)
			i++
		default:
			r, size := utf8.DecodeRuneInString(s[i:])
			b = appendEscaped(b, r)
			i += size
		}
	}
	return append(b, '"')
}

func appendEscaped(b []byte, r rune) []byte {
	const digits = "0123456789abcdef"
	unit := func(b []byte, u rune) []byte {
		return append(b, '\\', 'u', digits[u>>12&15], digits[u>>8&15], digits[u>>4&15], digits[u&15])
	}
	if r < 0x10000 {
		return unit(b, r)
	}
	r -= 0x10000
	return unit(unit(b, 0xd800+r>>10), 0xdc00+r&0x3ff)
}
