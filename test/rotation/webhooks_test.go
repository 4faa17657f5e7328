package rotation_test

import (
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/api/wire"
	"github.com/strongroom/strongroom/internal/rotate"
)

const signingKey = "the key of the signature, 32 bytes"

// hooks is a receiver as the documentation tells to write one: it verifies
// the signature, reads the pending version itself, and takes each delivery
// for done that it has seen.
type hooks struct {
	*httptest.Server
	t  *testing.T
	w  *world
	mu sync.Mutex
	// fail says how many times a step fails before it works; lost, how many
	// times it works and the answer is lost.
	fail, lost map[string]int
	steps      []string
	inForce    string
	issue      string // made by the receiver in create
	read       func(version uint64) string
}

type delivery struct {
	RotationID, Step, Path         string
	Attempt                        uint32
	PendingVersion, CurrentVersion uint64
	Timestamp                      int64
}

func listen(t *testing.T) *hooks {
	h := &hooks{t: t, fail: map[string]int{}, lost: map[string]int{}, inForce: "first"}
	h.Server = httptest.NewUnstartedServer(h)
	h.Config.ErrorLog = log.New(io.Discard, "", 0)
	h.StartTLS()
	t.Cleanup(h.Close)
	host := strings.TrimPrefix(h.URL, "https://")
	h.w = newWorldWith(t, &server{kind: "webhook"}, rotate.Config{WebhookAllow: []string{host}})
	h.w.put("/infra/key", signingKey)
	h.w.put(dbPath, "first")
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: h.Certificate().Raw})
	h.w.ok("secrets/updateSecret", `{"path":%q,"rotation":{"kind":"webhook","interval":"1d","url":"%s/rotate","ca":%q,"signingSecret":"/infra/key"}}`, dbPath, h.URL, ca)
	h.read = func(version uint64) string {
		var got wire.GetSecretValueResponse
		require.NoError(t, wire.Decode([]byte(h.w.ok("secrets/getSecretValue", `{"path":%q,"version":%d}`, dbPath, version)), &got))
		return string(got.Value.Expose())
	}
	return h
}

// ServeHTTP does one step.
func (h *hooks) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h.mu.Lock()
	defer h.mu.Unlock()
	raw, err := io.ReadAll(r.Body)
	var d delivery
	if err != nil || json.Unmarshal(raw, &d) != nil || r.Header.Get("Strongroom-Signature") != "v1="+rotate.Signature([]byte(signingKey), d.Timestamp, raw) {
		h.t.Errorf("a delivery that nobody signed: %s", raw)
		w.WriteHeader(http.StatusForbidden)
		return
	}
	if h.fail[d.Step] > 0 {
		h.fail[d.Step]--
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	h.steps = append(h.steps, d.Step)
	switch d.Step {
	case "create":
		if h.issue != "" {
			fmt.Fprintf(w, `{"value":%q}`, base64.StdEncoding.EncodeToString([]byte(h.issue)))
			return
		}
	case "set":
		h.inForce = h.read(d.PendingVersion)
	case "test":
		if h.inForce != h.read(d.PendingVersion) {
			w.WriteHeader(http.StatusConflict)
			return
		}
	case "rollBack":
		h.inForce = h.read(d.CurrentVersion)
	}
	if h.lost[d.Step] > 0 {
		h.lost[d.Step]--
		panic(http.ErrAbortHandler) // the connection breaks off
	}
	w.WriteHeader(http.StatusNoContent)
}

func (h *hooks) value() string {
	var got wire.GetSecretValueResponse
	require.NoError(h.t, wire.Decode([]byte(h.w.ok("secrets/getSecretValue", `{"path":%q}`, dbPath)), &got))
	return string(got.Value.Expose())
}

// await moves the clock until the rotation has ended.
func (h *hooks) await(state string) wire.RotationStatus {
	return h.w.becomes(func(s wire.RotationStatus) bool {
		if s.NextAttemptAt != nil && s.RotationID != "" && s.NextAttemptAt.After(h.w.now()) {
			h.w.later(s.NextAttemptAt.Sub(h.w.now()))
		}
		return s.State == state && s.RotationID == ""
	})
}

func TestAWebhookIsTakenThroughItsSteps(t *testing.T) {
	h := listen(t)
	h.w.lead(h.w.engine)
	h.w.rotate()
	h.await("idle")
	require.Equal(t, []string{"create", "set", "test", "finish"}, h.steps)
	require.Equal(t, h.value(), h.inForce)
	require.Len(t, h.inForce, 32)
	h.issue = "made by the provider"
	h.w.rotate()
	h.await("idle")
	require.Equal(t, "made by the provider", h.value())
	require.Equal(t, "made by the provider", h.inForce)
}

// TestEachStepOfAWebhookMayFail, or be delivered twice because its answer was
// lost.
func TestEachStepOfAWebhookMayFail(t *testing.T) {
	for _, step := range []string{"create", "set", "test", "finish"} {
		h := listen(t)
		h.w.lead(h.w.engine)
		h.fail[step], h.lost[step] = 2, 1
		h.w.rotate()
		h.await("idle")
		require.Equal(t, h.value(), h.inForce, step)
		require.NotEqual(t, "first", h.inForce)
		twice := 0
		for _, done := range h.steps {
			if done == step {
				twice++
			}
		}
		require.Equal(t, 2, twice, "%s came again", step)
	}
}

func TestAWebhookThatFailsForGoodIsRolledBack(t *testing.T) {
	for _, step := range []string{"create", "set", "test"} {
		h := listen(t)
		h.w.lead(h.w.engine)
		h.fail[step], h.lost["rollBack"] = 1000, 1
		h.w.rotate()
		status := h.await("failed")
		require.Equal(t, step+": the receiver answered 503", status.LastError)
		require.Equal(t, "first", h.inForce)
		require.Equal(t, "first", h.value())
		require.Equal(t, "rollBack", h.steps[len(h.steps)-1])
	}
}

// TestAReceiverThatIsNotAllowedAnyMoreHearsNothing: the operator's list is
// looked at each time.
func TestAReceiverThatIsNotAllowedAnyMoreHearsNothing(t *testing.T) {
	h := listen(t)
	h.w.rotator.Rotator = rotate.New(rotate.Config{})["webhook"]
	h.w.lead(h.w.engine)
	h.w.rotate()
	status := h.w.becomes(func(s wire.RotationStatus) bool { return s.Attempts == 1 })
	require.Contains(t, status.LastError, "rotation.webhookAllow must list it")
	require.Empty(t, h.steps)
	_, err := h.w.do("secrets/updateSecret", `{"path":%q,"rotation":{"kind":"webhook","url":"https://169.254.169.254/latest","signingSecret":"/infra/key"}}`, dbPath)
	require.Error(t, err)
}
