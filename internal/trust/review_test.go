package trust_test

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/pem"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	jose "github.com/go-jose/go-jose/v4"
	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/internal/trust"
)

// kubernetes answers reviews as the API of Kubernetes does.
type kubernetes struct {
	*httptest.Server
	status   map[string]any
	code     int
	asked    []string // Authorization of each request
	reviewed []string
}

func startKubernetes(t *testing.T) *kubernetes {
	k := &kubernetes{code: http.StatusCreated}
	k.Server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var in struct {
			APIVersion string `json:"apiVersion"`
			Kind       string `json:"kind"`
			Spec       struct {
				Token     string   `json:"token"`
				Audiences []string `json:"audiences"`
			} `json:"spec"`
		}
		if err := json.NewDecoder(r.Body).Decode(&in); err != nil || r.URL.Path != "/apis/authentication.k8s.io/v1/tokenreviews" || r.Method != http.MethodPost || in.Kind != "TokenReview" {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		k.asked, k.reviewed = append(k.asked, r.Header.Get("Authorization")), append(k.reviewed, in.Spec.Token)
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(k.code)
		if k.code == http.StatusUnauthorized {
			_ = json.NewEncoder(w).Encode(map[string]any{"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "Unauthorized", "code": 401})
			return
		}
		_ = json.NewEncoder(w).Encode(map[string]any{
			"kind": "TokenReview", "apiVersion": "authentication.k8s.io/v1", "metadata": map[string]any{"creationTimestamp": nil}, "spec": in.Spec, "status": k.status,
		})
	}))
	t.Cleanup(k.Close)
	k.status = k.user("system:serviceaccount:prod:web")
	return k
}

func (k *kubernetes) user(name string) map[string]any {
	return map[string]any{
		"authenticated": true, "audiences": []string{"strongroom"},
		"user": map[string]any{"username": name, "uid": "u1", "groups": []string{"system:serviceaccounts"}, "extra": map[string]any{"a": []string{"b"}}},
	}
}

func (k *kubernetes) trust(reviewer string) *fsm.Trust {
	return &fsm.Trust{
		Name: "cluster", Epoch: 1, Kind: fsm.TrustKubernetes, TokenReviewURL: k.URL, TokenReviewer: reviewer, Audiences: []string{"strongroom"},
		CAPEM: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: k.Certificate().Raw})),
	}
}

func TestKubernetesReviewsATokenOfItsOwn(t *testing.T) {
	k := startKubernetes(t)
	jwt := sign(t, jose.RS256, newKeys(t).rsa, nil, payload)
	file := filepath.Join(t.TempDir(), "reviewer")
	require.NoError(t, os.WriteFile(file, []byte("reviewers-own\n"), 0o600))
	v := trust.New(trust.Config{ReviewerFile: file})
	said, err := v.Verify(context.Background(), k.trust(fsm.ReviewerSelf), []byte(jwt), time.Now())
	require.NoError(t, err)
	require.Equal(t, map[string]any{
		"sub": "system:serviceaccount:prod:web", "groups": []any{"system:serviceaccounts"},
		"kubernetes.io": map[string]any{"namespace": "prod", "serviceaccount": map[string]any{"name": "web"}},
	}, said.Claims)
	require.EqualValues(t, 4000000000, said.ExpiresAt.Unix())
	_, err = v.Verify(context.Background(), k.trust(fsm.ReviewerFile), []byte(jwt), time.Now())
	require.NoError(t, err)
	require.Equal(t, []string{"Bearer " + jwt, "Bearer reviewers-own"}, k.asked)
	require.Equal(t, []string{jwt, jwt}, k.reviewed)
}

func TestWhatKubernetesDoesNotTakeIsNotTaken(t *testing.T) {
	k := startKubernetes(t)
	keys := newKeys(t)
	jwt := sign(t, jose.RS256, keys.rsa, nil, payload)
	var logged bytes.Buffer
	v := trust.New(trust.Config{Logger: slog.New(slog.NewTextHandler(&logged, nil))})
	refused := func(says, reviewer, jwt string) {
		t.Helper()
		_, err := v.Verify(context.Background(), k.trust(reviewer), []byte(jwt), time.Now())
		require.ErrorContains(t, err, says)
	}
	refused("it has expired", fsm.ReviewerSelf, sign(t, jose.RS256, keys.rsa, nil, `{"exp":1000}`))
	refused("no signed JWT", fsm.ReviewerSelf, "opaque")
	require.Empty(t, k.asked, "none of them is worth a question")
	k.status = map[string]any{"authenticated": false, "error": "invalid bearer token"}
	refused("Kubernetes does not take it", fsm.ReviewerSelf, jwt)
	k.status = k.user("system:serviceaccount:prod:web")
	k.status["audiences"] = []string{"https://kubernetes.default.svc"}
	refused("for another audience", fsm.ReviewerSelf, jwt)
	delete(k.status, "audiences")
	refused("for another audience", fsm.ReviewerSelf, jwt)
	k.code = http.StatusUnauthorized
	refused("Kubernetes does not take it", fsm.ReviewerSelf, jwt)
	require.Empty(t, logged.String(), "who is not let in fills no log")
	refused("login.tokenReviewerFile", fsm.ReviewerFile, jwt)
	k.code = http.StatusForbidden
	refused("status 403", fsm.ReviewerSelf, jwt)
	require.NotContains(t, logged.String(), jwt[:20])
	k.Close()
	refused("connection refused", fsm.ReviewerSelf, jwt)
}
