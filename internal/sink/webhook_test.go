package sink

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// hook is a real HTTPS server that takes batches.
type hook struct {
	*httptest.Server
	t   *testing.T
	dir string
	key []byte

	mu       sync.Mutex
	lines    []string
	requests int
	sizes    []int
	answer   func(n int, body []byte, w http.ResponseWriter) (taken bool)
}

func newHook(t *testing.T) *hook {
	h := &hook{t: t, dir: t.TempDir(), key: bytes.Repeat([]byte("k"), 40)}
	h.Server = httptest.NewTLSServer(h)
	t.Cleanup(h.Close)
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: h.Certificate().Raw})
	require.NoError(t, os.WriteFile(h.path("ca.pem"), ca, 0o600))
	require.NoError(t, os.WriteFile(h.path("key"), []byte(base64.StdEncoding.EncodeToString(h.key)+"\n"), 0o600))
	return h
}

func (h *hook) path(name string) string { return filepath.Join(h.dir, name) }

// verified is what a receiver does, written down without ours.
func (h *hook) verified(r *http.Request, body []byte) error {
	mac := hmac.New(sha256.New, h.key)
	mac.Write([]byte(r.Header.Get("Strongroom-Timestamp") + "." + string(body)))
	if !hmac.Equal([]byte("v1="+hex.EncodeToString(mac.Sum(nil))), []byte(r.Header.Get("Strongroom-Signature"))) {
		return errors.New("signature")
	}
	stamp, err := strconv.ParseInt(r.Header.Get("Strongroom-Timestamp"), 10, 64)
	if err != nil || time.Since(time.Unix(stamp, 0)).Abs() > 5*time.Minute {
		return errors.New("too old")
	}
	return nil
}

func (h *hook) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.requests++
	if err != nil || h.verified(r, body) != nil {
		w.WriteHeader(401)
		return
	}
	batch := strings.SplitAfter(strings.TrimSuffix(string(body), "\n"), "\n")
	for i := range batch {
		batch[i] = strings.TrimSuffix(batch[i], "\n")
	}
	h.sizes = append(h.sizes, len(batch))
	if r.Method != "POST" || r.Header.Get("Content-Type") != "application/x-ndjson" || r.Header.Get("Strongroom-Sink") != "one" || !bytes.HasSuffix(body, []byte("\n")) ||
		r.Header.Get("Strongroom-First-Sequence") != strconv.FormatUint(sequenceOf(h.t, batch[0]), 10) ||
		r.Header.Get("Strongroom-Last-Sequence") != strconv.FormatUint(sequenceOf(h.t, batch[len(batch)-1]), 10) {
		h.t.Errorf("a request that is not as documented: %v", r.Header)
	}
	if h.answer == nil || h.answer(h.requests, body, w) {
		h.lines = append(h.lines, batch...)
	}
}

func (h *hook) got() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]string(nil), h.lines...)
}

func (h *hook) count() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.requests
}

func (h *hook) follow(change func(*Settings)) *world {
	s := Settings{Type: "webhook", Name: "one", URL: h.URL + "/in?to=siem", SigningKeyFile: h.path("key"), CAFile: h.path("ca.pem"), BatchEvents: 16}
	if change != nil {
		change(&s)
	}
	return newWorld(h.t, s)
}

func TestAWebhookGetsSignedBatches(t *testing.T) {
	h := newHook(t)
	w := h.follow(nil)
	last := w.happen(70)
	w.start()
	w.done(last)
	require.Equal(t, w.native(0), h.got(), "byte for byte")
	require.LessOrEqual(t, h.count(), 6, "in batches")
	require.Equal(t, 71.0, w.metric("strongroom_audit_sink_sent_total", "one"))
}

func TestAForgedBatchDoesNotVerify(t *testing.T) {
	h := newHook(t)
	key := h.key
	body := []byte("{}\n")
	request := func(stamp int64, signature string) *http.Request {
		r := httptest.NewRequest("POST", "/", nil)
		r.Header.Set("Strongroom-Timestamp", strconv.FormatInt(stamp, 10))
		r.Header.Set("Strongroom-Signature", "v1="+signature)
		return r
	}
	now := time.Now().Unix()
	good := signature(key, now, body)
	require.NoError(t, h.verified(request(now, good), body))
	require.Error(t, h.verified(request(now, good), []byte("{} \n")))
	require.Error(t, h.verified(request(now+1, good), body), "the time is signed, too")
	require.Error(t, h.verified(request(now-3600, signature(key, now-3600, body)), body), "an old one sent again")
	require.Error(t, h.verified(request(now, signature(bytes.Repeat([]byte("x"), 40), now, body)), body))
}

// Away for long, failing in every way, and up again: everything arrives in
// order. Nothing is given up at an answer that looks final.
func TestAWebhookThatFailsMissesNothing(t *testing.T) {
	h := newHook(t)
	codes := []int{500, 503, 400, 404, 401, 429, 302, 204, 410, 0, 200, 422}
	h.answer = func(n int, _ []byte, w http.ResponseWriter) bool {
		code := 200
		if n <= len(codes) {
			code = codes[n-1]
		}
		if code == 0 {
			panic(http.ErrAbortHandler) // the connection breaks
		}
		if code == 302 {
			w.Header().Set("Location", "/elsewhere")
		}
		w.WriteHeader(code)
		return code/100 == 2
	}
	h.Config.ErrorLog = nil
	w := h.follow(nil)
	last := w.happen(100)
	w.start()
	w.done(last)
	requireAtLeastOnce(t, w.native(0), h.got())
	require.Equal(t, 10.0, w.metric("strongroom_audit_sink_errors_total", "one"))
	require.Contains(t, w.log.String(), "takes events again")
	require.NotContains(t, w.log.String(), "to=siem", "a URL may hold what is not for the log")
}

func TestTheServerThatIsDownIsWaitedFor(t *testing.T) {
	h := newHook(t)
	h.CloseClientConnections()
	listener := h.Listener
	address := listener.Addr().String()
	require.NoError(t, listener.Close())
	w := h.follow(func(s *Settings) { s.URL = "https://" + address + "/in" })
	last := w.happen(40)
	w.start()
	w.eventually("attempts", func() bool { return w.metric("strongroom_audit_sink_errors_total", "one") > 3 })
	require.Contains(t, w.log.String(), "the receiver could not be reached")
	require.Equal(t, 0.0, w.metric("strongroom_audit_sink_sent_total", "one"))
	require.Equal(t, float64(last), w.metric("strongroom_audit_sink_lag_events", "one"))
	w.stop()
	w.cfg.Sinks[0].URL = ""
	again := newHook(t)
	w.cfg.Sinks[0].URL, w.cfg.Sinks[0].CAFile = again.URL, again.path("ca.pem")
	w.start()
	w.done(last)
	require.Equal(t, w.native(0), again.got())
}

// 413 halves the batch until it is taken; afterwards it grows again.
func TestABatchThatIsTooLargeIsHalved(t *testing.T) {
	h := newHook(t)
	h.answer = func(_ int, body []byte, w http.ResponseWriter) bool {
		if bytes.Count(body, []byte("\n")) > 5 {
			w.WriteHeader(413)
			return false
		}
		return true
	}
	w := h.follow(nil)
	last := w.happen(64)
	w.start()
	w.done(last)
	require.Equal(t, w.native(0), h.got())
	require.Greater(t, slices.Max(h.sizes), 5)
	require.Less(t, len(h.sizes), 65, "not one by one")
	require.Equal(t, 0.0, w.metric("strongroom_audit_sink_errors_total", "one"), "it is no trouble of anybody")
}

func TestOneEventThatIsTooLargeIsTold(t *testing.T) {
	h := newHook(t)
	refuse := true
	h.answer = func(_ int, _ []byte, w http.ResponseWriter) bool {
		if refuse {
			w.WriteHeader(413)
		}
		return !refuse
	}
	w := h.follow(nil)
	last := w.happen(20)
	w.start()
	w.eventually("an error", func() bool { return w.metric("strongroom_audit_sink_errors_total", "one") > 2 })
	require.Contains(t, w.log.String(), "one event by itself too large (413)")
	h.mu.Lock()
	refuse = false
	h.mu.Unlock()
	w.done(last)
	require.Equal(t, w.native(0), h.got())
}

func TestRetryAfterIsRead(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"": 0, "7": 7 * time.Second, "-1": 0, "soon": 0, "99999999": time.Hour, "Mon, 01 Jan 2001 00:00:00 GMT": 0,
		time.Now().Add(90 * time.Second).UTC().Format(http.TimeFormat): 90 * time.Second,
	} {
		err := judge(&http.Response{StatusCode: 503, Header: http.Header{"Retry-After": {text}}})
		require.ErrorContains(t, err, "the receiver answered 503")
		var asked retryAfter
		errors.As(err, &asked)
		require.InDelta(t, want, asked.wait, float64(2*time.Second), text)
	}
}

func TestKeysAreReadAgainAndNeverShown(t *testing.T) {
	h := newHook(t)
	const token = "Bearer MARKED-TOKEN"
	require.NoError(t, os.WriteFile(h.path("token"), []byte(token+"\n"), 0o600))
	seen := make(chan string, 100)
	inner := h.Config.Handler
	h.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen <- r.Header.Get("Authorization")
		inner.ServeHTTP(w, r)
	})
	w := h.follow(func(s *Settings) { s.AuthorizationFile = h.path("token") })
	w.start()
	w.done(w.happen(1))
	require.Equal(t, token, <-seen)

	key := bytes.Repeat([]byte("MARKED"), 10)
	h.mu.Lock()
	h.key = key
	h.mu.Unlock()
	last := w.happen(1)
	w.eventually("a refusal", func() bool { return strings.Contains(w.log.String(), "the receiver answered 401") })
	require.NoError(t, os.WriteFile(h.path("key"), []byte(base64.StdEncoding.EncodeToString(key)), 0o600))
	w.done(last)

	for _, bad := range []string{"", "MARKED", base64.StdEncoding.EncodeToString([]byte("MARKED short")), "!!!" + strings.Repeat("MARKED==", 10)} {
		require.NoError(t, os.WriteFile(h.path("key"), []byte(bad), 0o600))
		w.stop()
		w.start()
		w.happen(1)
		w.eventually("an error", func() bool { return w.metric("strongroom_audit_sink_errors_total", "one") > 0 })
		require.Contains(t, w.log.String(), "must hold 32 bytes or more in base64")
	}
	require.NoError(t, os.WriteFile(h.path("key"), []byte(base64.StdEncoding.EncodeToString(key)), 0o600))
	require.NoError(t, os.WriteFile(h.path("token"), []byte("MARKED\nX-Evil: 1"), 0o600))
	w.eventually("an error", func() bool { return strings.Contains(w.log.String(), "one line of printable ASCII") })
	require.NotContains(t, w.log.String(), "MARKED")
	require.NotContains(t, w.log.String(), base64.StdEncoding.EncodeToString(key))
	require.NotContains(t, w.log.String(), "to=siem", "nor the URL")
}

func TestAWebhookGoesOnlyWhereItMay(t *testing.T) {
	for _, c := range []struct{ url, want string }{
		{"https://169.254.169.254/", "a link-local address"},
		{"https://[fd00:ec2::254]/", "a metadata service"},
	} {
		h := newHook(t)
		w := h.follow(func(s *Settings) { s.URL = c.url })
		w.happen(1)
		w.start()
		w.eventually(c.want, func() bool { return strings.Contains(w.log.String(), c.want) })
		w.stop()
	}
	h := newHook(t)
	w := h.follow(func(s *Settings) { s.CAFile = "" })
	w.happen(1)
	w.start()
	w.eventually("a refusal", func() bool { return strings.Contains(w.log.String(), "name it as caFile") })
	require.Zero(t, h.count())
}
