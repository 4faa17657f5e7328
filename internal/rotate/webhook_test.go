package rotate

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/api/wire"
	"github.com/strongroom/strongroom/engine"
	"github.com/strongroom/strongroom/internal/fault"
	"github.com/strongroom/strongroom/internal/secret"
)

const hookKey = "a key of the signature, 32 bytes."

// receiver is a real TLS listener that answers as a test says.
type receiver struct {
	*httptest.Server
	ca     string
	got    []hookBody
	answer func(w http.ResponseWriter, body hookBody)
}

func receive(t *testing.T) *receiver {
	r := &receiver{answer: func(w http.ResponseWriter, _ hookBody) { w.WriteHeader(http.StatusNoContent) }}
	r.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		raw, err := io.ReadAll(req.Body)
		if err != nil {
			t.Errorf("body: %v", err)
		}
		var body hookBody
		if err := json.Unmarshal(raw, &body); err != nil {
			t.Errorf("body: %v", err)
		}
		// As the documentation tells receivers to.
		at, err := strconv.ParseInt(req.Header.Get("Strongroom-Timestamp"), 10, 64)
		if err != nil || time.Since(time.Unix(at, 0)).Abs() > 5*time.Minute || at != body.Timestamp {
			t.Errorf("timestamp %d: %v", at, err)
		}
		if req.Header.Get("Strongroom-Signature") != "v1="+Signature([]byte(hookKey), at, raw) {
			t.Error("the signature does not match")
		}
		r.got = append(r.got, body)
		r.answer(w, body)
	}))
	r.Config.ErrorLog = log.New(io.Discard, "", 0)
	r.StartTLS()
	t.Cleanup(r.Close)
	r.ca = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: r.Certificate().Raw}))
	return r
}

func (r *receiver) host() string { return strings.TrimPrefix(r.URL, "https://") }

func (r *receiver) rotator() *webhook {
	return New(Config{WebhookAllow: []string{r.host()}, ClusterID: "c1"})["webhook"].(*webhook)
}

func (r *receiver) task() engine.RotationTask {
	open := func(text string) func(context.Context) (secret.Bytes, error) {
		return func(context.Context) (secret.Bytes, error) { return secret.Copy([]byte(text)), nil }
	}
	return engine.RotationTask{
		Settings: wire.RotationSettings{Kind: "webhook", URL: r.URL + "/rotate", CA: r.ca, SigningSecret: "/app/key"},
		Path:     "/app/prod/api-key", RotationID: "run-1", Attempt: 2, Version: 7, Current: 6,
		OpenSigning: open(hookKey), OpenCurrent: open("MARKED"), OpenPending: open("MARKED"),
		Generate: func(context.Context) (engine.NewValue, error) {
			return engine.NewValue{Value: secret.Copy([]byte("generated"))}, nil
		},
	}
}

func TestEachStepIsPostedWithASignature(t *testing.T) {
	r := receive(t)
	hook, task := r.rotator(), r.task()
	require.NoError(t, hook.Check(task.Settings))
	made, err := hook.Create(t.Context(), task)
	require.NoError(t, err)
	require.Equal(t, "generated", string(made.Value.Expose()), "the receiver leaves it to the server")
	require.NoError(t, hook.Set(t.Context(), task))
	require.NoError(t, hook.Test(t.Context(), task))
	require.NoError(t, hook.Tell(t.Context(), task))
	_, err = hook.RollBack(t.Context(), task)
	require.NoError(t, err)
	var steps []string
	for _, body := range r.got {
		steps = append(steps, body.Step)
		body.Step, body.Timestamp = "", 0
		require.Equal(t, hookBody{
			Event: "secrets.rotation", ClusterID: "c1", RotationID: "run-1", Attempt: 2, Path: "/app/prod/api-key", PendingVersion: 7, CurrentVersion: 6,
		}, body, "and no value")
	}
	require.Equal(t, []string{"create", "set", "test", "finish", "rollBack"}, steps)
}

func TestAReceiverMayMakeTheValueItself(t *testing.T) {
	r := receive(t)
	r.answer = func(w http.ResponseWriter, _ hookBody) {
		_, _ = io.WriteString(w, `{"value":"bWFkZSB0aGVyZQ==","contentType":"text/plain"}`)
	}
	made, err := r.rotator().Create(t.Context(), r.task())
	require.NoError(t, err)
	require.Equal(t, "made there", string(made.Value.Expose()))
	require.Equal(t, "text/plain", made.ContentType)
	r.answer = func(w http.ResponseWriter, _ hookBody) { _, _ = io.WriteString(w, `{"value":"SECRET?"}`) }
	_, err = r.rotator().Create(t.Context(), r.task())
	require.ErrorContains(t, err, "neither empty nor")
	require.NotContains(t, err.Error(), "SECRET")
}

// TestWhatAReceiverMayNotDo: each failure names the step and its cause in our
// words, and nothing that the receiver sent.
func TestWhatAReceiverMayNotDo(t *testing.T) {
	r := receive(t)
	for says, answer := range map[string]func(w http.ResponseWriter, _ hookBody){
		"set: the receiver answered 500": func(w http.ResponseWriter, _ hookBody) { http.Error(w, "MARKED", http.StatusInternalServerError) },
		"redirect (302), which is not followed": func(w http.ResponseWriter, _ hookBody) {
			w.Header().Set("Location", r.URL)
			w.WriteHeader(http.StatusFound)
		},
		"redirect (307)": func(w http.ResponseWriter, _ hookBody) {
			w.Header().Set("Location", "http://169.254.169.254/")
			w.WriteHeader(http.StatusTemporaryRedirect)
		},
		fmt.Sprintf("more than %d bytes", maxHookAnswer): func(w http.ResponseWriter, _ hookBody) { _, _ = w.Write(make([]byte, maxHookAnswer+1)) },
	} {
		before := len(r.got)
		r.answer = answer
		err := r.rotator().Set(t.Context(), r.task())
		require.ErrorContains(t, err, says)
		require.NotContains(t, err.Error(), "MARKED")
		require.Len(t, r.got, before+1, "one request and no other")
	}
}

func TestAReceiverIsKnownByItsCertificate(t *testing.T) {
	r := receive(t)
	task := r.task()
	task.Settings.CA = ""
	require.ErrorContains(t, r.rotator().Set(t.Context(), task), "not signed by an authority that is trusted")
	require.Empty(t, r.got)
	r.Close()
	err := r.rotator().Set(t.Context(), r.task())
	require.ErrorContains(t, err, "could not be reached")
	require.NotContains(t, err.Error(), "/rotate")
}

func TestTheKeyOfASignatureIsLongEnough(t *testing.T) {
	r := receive(t)
	task := r.task()
	task.OpenSigning = func(context.Context) (secret.Bytes, error) { return secret.Copy([]byte("short")), nil }
	require.ErrorContains(t, r.rotator().Set(t.Context(), task), "has 5 bytes; a key has 32 or more")
	require.Empty(t, r.got)
}

func TestSettingsOfWebhooks(t *testing.T) {
	hook := New(Config{WebhookAllow: []string{"hooks.example.com"}})["webhook"]
	good := wire.RotationSettings{URL: "https://hooks.example.com/rotate?team=pay", SigningSecret: "/a"}
	require.NoError(t, hook.Check(good))
	for _, u := range []string{
		"", "http://hooks.example.com", "HTTPS://other.example", "https://user@hooks.example.com", "https://hooks.example.com#x", "https:hooks.example.com",
		"https://hooks.example.com:8443", "https://169.254.169.254", "file:///etc/passwd", "https://hooks.example.com\\@evil.example", "https://[::1]",
	} {
		bad := good
		bad.URL = u
		err := hook.Check(bad)
		require.Equal(t, fault.InvalidRequest, fault.KindOf(err), u)
		require.ErrorContains(t, err, "url: ", u)
	}
	bad := good
	bad.SigningSecret = ""
	require.ErrorContains(t, hook.Check(bad), "signingSecret: is missing")
	bad = good
	bad.CA = "no certificate"
	require.ErrorContains(t, hook.Check(bad), "ca: must hold certificates")
	bad = good
	bad.Usernames = []string{"a"}
	require.ErrorContains(t, hook.Check(bad), "are for databases")
}
