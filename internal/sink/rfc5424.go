package sink

import (
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/strongroom/strongroom/audit"
)

// facilities by their names in the configuration (RFC 5424, 6.2.1).
var facilities = map[string]int{
	"user": 1, "daemon": 3, "auth": 4, "authpriv": 10, "audit": 13,
	"local0": 16, "local1": 17, "local2": 18, "local3": 19, "local4": 20, "local5": 21, "local6": 22, "local7": 23,
}

// Severities (RFC 5424, 6.2.1).
const (
	sevAlert   = 1
	sevError   = 3
	sevWarning = 4
	sevNotice  = 5
	sevInfo    = 6
)

// header is what the messages of a sink have in common.
type header struct {
	facility int
	appName  string
	sdID     string // "strongroom@32473"
}

// Bounds of RFC 5424, 6.
const (
	maxHostname = 255
	maxMsgID    = 32
)

// frame appends a record as RFC 5425 frames it: length, space, message.
//
//	<PRI>1 TIME NODE APP-NAME - EVENT [strongroom@PEN field="value" …] BODY
//
// The body is ASCII in every format, so there is no byte order mark.
func (h header) frame(b []byte, r record) []byte {
	message := h.message(r)
	b = strconv.AppendInt(b, int64(len(message)), 10)
	b = append(b, ' ')
	return append(b, message...)
}

func (h header) message(r record) []byte {
	b := make([]byte, 0, len(r.body)+512)
	b = append(b, '<')
	b = strconv.AppendInt(b, int64(h.facility*8+severityOf(r)), 10)
	b = append(b, ">1 "...)
	if r.known {
		b = r.event.Time.UTC().AppendFormat(b, "2006-01-02T15:04:05.000Z")
	} else {
		b = append(b, '-')
	}
	for _, part := range []string{token(r.event.Node, maxHostname), h.appName, "-", token(r.event.Event, maxMsgID)} {
		b = append(append(b, ' '), part...)
	}
	b = append(b, ' ', '[')
	b = append(b, h.sdID...)
	b = appendParam(b, "sequence", strconv.FormatUint(r.at.sequence, 10))
	e := r.event
	for _, p := range [][2]string{
		{"event", e.Event}, {"outcome", e.Outcome}, {"code", e.Code}, {"principal", e.Principal}, {"source", e.SourceAddress},
		{"path", e.Path}, {"keyId", e.KeyID}, {"requestId", e.RequestID},
	} {
		if p[1] != "" {
			b = appendParam(b, p[0], p[1])
		}
	}
	return append(append(b, "] "...), r.body...)
}

func severityOf(r record) int {
	switch {
	case !r.known:
		return sevError
	case strings.HasPrefix(r.event.Event, "alert."):
		return sevAlert
	case r.event.Outcome == audit.Denied:
		return sevWarning
	case r.event.Outcome == audit.Failed:
		return sevNotice
	}
	return sevInfo
}

// token makes a field of the header: printable ASCII without spaces, "-" if
// there is none.
func token(s string, limit int) string {
	s = strings.Map(func(r rune) rune {
		if r < 33 || r > 126 {
			return '_'
		}
		return r
	}, s)
	if s == "" {
		return "-"
	}
	return s[:min(len(s), limit)]
}

// appendParam writes ` name="value"`: quote, backslash and closing bracket are
// escaped (RFC 5424, 6.3.3); control characters, which many receivers act on,
// and what is not UTF-8 become U+FFFD.
func appendParam(b []byte, name, value string) []byte {
	b = append(append(append(b, ' '), name...), '=', '"')
	for _, r := range value {
		switch {
		case r == '"' || r == '\\' || r == ']':
			b = append(b, '\\', byte(r))
		case r < 32 || r >= 0x7f && r < 0xa0 || r == 0x2028 || r == 0x2029:
			b = utf8.AppendRune(b, utf8.RuneError)
		default:
			b = utf8.AppendRune(b, r)
		}
	}
	return append(b, '"')
}
