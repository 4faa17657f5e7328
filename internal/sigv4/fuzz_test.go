package sigv4

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// FuzzBySDK: whatever the independent implementation signs and a server can
// read is good, for the body and the headers that were signed and no others.
func FuzzBySDK(f *testing.F) {
	f.Add("secret", `{}`, "application/json", "a", "b", int64(0))
	f.Add(suiteSecret, ``, "text/plain; charset=utf-8", "  a   b ", "c  d", int64(1<<31))
	f.Add("s", "\x00", "", "\"a  b\"", "", int64(-1))
	f.Fuzz(func(t *testing.T, secret, body, contentType, first, second string, seconds int64) {
		control := func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }
		if secret == "" || strings.ContainsFunc(contentType+first+second, control) {
			return // no server of ours gets to read it
		}
		for _, text := range []string{contentType, first, second} {
			if strings.TrimSpace(text) != strings.Trim(text, " \t") {
				// That SDK also trims the spaces of Unicode. We do not: the bytes that
				// arrive are those that are signed, and such a request is refused.
				return
			}
		}
		at := moment.Add(time.Duration(seconds%(1<<31)) * time.Second)
		sent := bySDK(t, testKey, secret, body, at, func(r *http.Request) {
			r.Header.Set("Content-Type", contentType)
			r.Header["X-Note"] = []string{first, second}
		})
		signed, err := Parse(sent)
		if err != nil {
			require.Regexp(t, `^Authorization: the signed headers are too long|^Authorization: .*(content-type|x-note)`, err.Error())
			return
		}
		key := DateKey([]byte(secret), signed.Date())
		require.True(t, signed.SignedBy(key, []byte(body)), "%q %q %q", contentType, first, second)
		require.False(t, signed.SignedBy(key, []byte(body+" ")))
		require.False(t, signed.SignedBy(DateKey([]byte(secret+"x"), signed.Date()), []byte(body)))
		for name, values := range map[string][]string{"X-Note": {first + "x", second}, "Content-Type": {contentType + "x"}} {
			other := sent.Clone(t.Context())
			other.Header[name] = values
			again, err := Parse(other)
			require.True(t, err != nil || !again.SignedBy(key, []byte(body)), "%s is another one", name)
		}
	})
}
