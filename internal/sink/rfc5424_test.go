package sink

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/strongroom/strongroom/audit"
)

// parsed is a message as an independent reader of RFC 5424 sees it.
type parsed struct {
	pri                              int
	stamp, host, app, proc, id, sdID string
	params                           map[string]string
	body                             string
}

// readFrame reads one frame of RFC 5425: digits, a space, so many bytes.
func readFrame(r *bufio.Reader) (string, error) {
	length, err := r.ReadString(' ')
	if err != nil {
		return "", err
	}
	if !regexp.MustCompile(`^[1-9][0-9]* $`).MatchString(length) {
		return "", fmt.Errorf("%q is no MSG-LEN", length)
	}
	n, err := strconv.Atoi(strings.TrimSuffix(length, " "))
	if err != nil {
		return "", err
	}
	message := make([]byte, n)
	_, err = io.ReadFull(r, message)
	return string(message), err
}

var headerForm = regexp.MustCompile(`^<(0|[1-9][0-9]{0,2})>1 (-|\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{1,6}Z) ([!-~]{1,255}) ([!-~]{1,48}) ([!-~]{1,128}) ([!-~]{1,32}) `)

// parse follows the grammar of RFC 5424, 6, character by character.
func parse(message string) (parsed, error) {
	m := headerForm.FindStringSubmatch(message)
	if m == nil {
		return parsed{}, fmt.Errorf("no header: %q", message)
	}
	out := parsed{stamp: m[2], host: m[3], app: m[4], proc: m[5], id: m[6], params: map[string]string{}}
	out.pri, _ = strconv.Atoi(m[1])
	if out.pri > 191 {
		return out, fmt.Errorf("PRI %d", out.pri)
	}
	rest := message[len(m[0]):]
	if !strings.HasPrefix(rest, "[") {
		return out, fmt.Errorf("no structured data: %q", rest)
	}
	end := strings.IndexAny(rest, " ]")
	out.sdID, rest = rest[1:end], rest[end:]
	if !regexp.MustCompile(`^[^=\] "@]+@[1-9][0-9.]*$`).MatchString(out.sdID) {
		return out, fmt.Errorf("SD-ID %q", out.sdID)
	}
	for strings.HasPrefix(rest, " ") {
		name, after, ok := strings.Cut(rest[1:], `="`)
		if !ok || !regexp.MustCompile(`^[!#-<>-\\^-~]{1,32}$`).MatchString(name) {
			return out, fmt.Errorf("PARAM-NAME %q", name)
		}
		var value strings.Builder
		i := 0
		for ; i < len(after) && after[i] != '"'; i++ {
			if after[i] == ']' {
				return out, fmt.Errorf("a bare ]")
			}
			if after[i] == '\\' && i+1 < len(after) && strings.IndexByte(`"\]`, after[i+1]) >= 0 {
				i++
			}
			value.WriteByte(after[i])
		}
		if i == len(after) || !utf8.ValidString(value.String()) {
			return out, fmt.Errorf("PARAM-VALUE %q", after)
		}
		out.params[name], rest = value.String(), after[i+1:]
	}
	if !strings.HasPrefix(rest, "] ") {
		return out, fmt.Errorf("after the structured data: %q", rest)
	}
	out.body = rest[2:]
	return out, nil
}

var testHeader = header{facility: 16, appName: "strongroom", sdID: "strongroom@32473"}

func TestAMessageSaysWhatTheEventSays(t *testing.T) {
	r := recordsOf(t, event("secrets.get_value", audit.Denied))[0]
	frame := string(testHeader.frame(nil, r))
	require.Regexp(t, `^\d+ <132>1 \d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z n1 strongroom - secrets\.get_value \[strongroom@32473 sequence="2" event="secrets\.get_value" outcome="denied" principal="app" source="192\.0\.2\.7" path="/app/db" requestId="r1"\] \{"v":1,"node":"n1",.*\}$`, frame)
	for _, c := range []struct {
		event, outcome string
		severity       int
	}{{"iam.login", audit.OK, 6}, {"iam.login", audit.Failed, 5}, {"iam.login", audit.Denied, 4}, {"alert.read_volume", audit.OK, 1}} {
		require.Equal(t, c.severity, severityOf(record{event: event(c.event, c.outcome), known: true}))
	}
	require.Equal(t, 3, severityOf(record{}))
}

// clean is what becomes of a value: control characters and what is not UTF-8
// are replaced.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if r < 32 || r >= 0x7f && r < 0xa0 || r == 0x2028 || r == 0x2029 {
			return utf8.RuneError
		}
		return r
	}, s)
}

func checkFrames(t require.TestingT, values [][3]string) {
	var stream []byte
	for i, v := range values {
		e := audit.Event{Node: "n1", Event: "iam.login", Outcome: audit.Denied, Principal: v[0], Path: v[1], Time: time.UnixMilli(int64(i))}
		stream = testHeader.frame(stream, record{at: cursor{sequence: uint64(i + 1)}, event: e, known: true, body: []byte(v[2])})
	}
	in := bufio.NewReader(bytes.NewReader(stream))
	for i, v := range values {
		message, err := readFrame(in)
		require.NoError(t, err)
		require.NotContains(t, strings.TrimSuffix(message, v[2]), "\n")
		got, err := parse(message)
		require.NoError(t, err)
		require.Equal(t, strconv.Itoa(i+1), got.params["sequence"])
		require.Equal(t, clean(v[0]), got.params["principal"])
		require.Equal(t, clean(v[1]), got.params["path"])
		require.Equal(t, v[2], got.body)
		require.Equal(t, "strongroom@32473", got.sdID)
	}
	_, err := in.ReadByte()
	require.ErrorIs(t, err, io.EOF)
}

// Whatever strangers put into an event, a reader of the RFC finds the same
// values, and the next message where it begins.
func TestFramesAreReadByAnIndependentParser(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.OneOf(rapid.String(), rapid.StringOf(rapid.SampledFrom([]rune("]\\\"= \n\r\x00\u2028é\U0001F511<>[1"))))
		checkFrames(t, rapid.SliceOfN(rapid.Custom(func(t *rapid.T) [3]string {
			return [3]string{text.Draw(t, "principal"), text.Draw(t, "path"), text.Draw(t, "body")}
		}), 1, 5).Draw(t, "values"))
	})
}

func FuzzFrames(f *testing.F) {
	f.Add(`a"]\`, "/app\n<1>1", "body")
	f.Add("\xff\x00", "\x7f\u0085", "]")
	f.Fuzz(func(t *testing.T, principal, path, body string) {
		checkFrames(t, [][3]string{{principal, path, body}, {path, principal, body}})
	})
}

func TestFieldsOfTheHeaderAreTokens(t *testing.T) {
	require.Equal(t, "-", token("", 5))
	require.Equal(t, "a_b_c", token("a b\nc", 9))
	require.Equal(t, "abcde", token("abcdef", 5))
	got, err := parse(string(testHeader.message(record{at: cursor{sequence: 9}, body: []byte("torn")})))
	require.NoError(t, err)
	require.Equal(t, []string{"-", "-", "-", "torn"}, []string{got.stamp, got.host, got.id, got.body})
}
