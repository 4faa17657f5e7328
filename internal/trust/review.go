package trust

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/strongroom/strongroom/engine"
	"github.com/strongroom/strongroom/fsm"
)

const reviewPath = "/apis/authentication.k8s.io/v1/tokenreviews"

// tokenReview is what is sent and answered of the TokenReview of Kubernetes
// (authentication.k8s.io/v1).
type tokenReview struct {
	APIVersion string       `json:"apiVersion"`
	Kind       string       `json:"kind"`
	Spec       reviewSpec   `json:"spec"`
	Status     reviewStatus `json:"status,omitzero"`
}

type reviewSpec struct {
	Token     string   `json:"token"`
	Audiences []string `json:"audiences"`
}

type reviewStatus struct {
	Authenticated bool     `json:"authenticated"`
	Audiences     []string `json:"audiences,omitzero"`
	Error         string   `json:"error,omitzero"`
	User          struct {
		Username string   `json:"username"`
		Groups   []string `json:"groups,omitzero"`
	} `json:"user,omitzero"`
}

// review lets a Kubernetes API decide. It knows what no signature tells: that
// the pod, the secret or the service account of the token is gone. What the
// API says of the user is believed, and of the JWT only when it expires.
func (v *Verifier) review(ctx context.Context, t *fsm.Trust, k token, jwt []byte, now time.Time) (engine.Assertion, error) {
	expires, there, ok := k.time("exp")
	if !ok || there && !now.Before(expires) {
		return engine.Assertion{}, notAnyMore
	}
	select {
	case v.reviews <- struct{}{}:
		defer func() { <-v.reviews }()
	case <-ctx.Done():
		return engine.Assertion{}, ctx.Err()
	}
	answer, err := v.askReview(ctx, t, jwt)
	if errors.Is(err, statusError(http.StatusUnauthorized)) && t.TokenReviewer == fsm.ReviewerSelf {
		return engine.Assertion{}, notReviewed // who asks is the one who is asked about
	}
	if err != nil {
		v.cfg.Logger.Warn("Kubernetes could not be asked for a review", "trust", t.Name, "error", err)
		return engine.Assertion{}, err
	}
	status := answer.Status
	if answer.Kind != "TokenReview" || !status.Authenticated || status.Error != "" {
		return engine.Assertion{}, notReviewed
	}
	// An API that knows nothing of audiences answers none: then the token may
	// have been made for another service.
	if !slices.ContainsFunc(status.Audiences, func(a string) bool { return slices.Contains(t.Audiences, a) }) {
		return engine.Assertion{}, notAudience
	}
	return engine.Assertion{Claims: reviewed(status), ExpiresAt: expires}, nil
}

// reviewed answers what the API says in the form that a JWT of it has, so that
// a trust is written in the same way for both.
func reviewed(status reviewStatus) map[string]any {
	groups := make([]any, len(status.User.Groups))
	for i, group := range status.User.Groups {
		groups[i] = group
	}
	claims := map[string]any{"sub": status.User.Username, "groups": groups}
	if parts := strings.Split(status.User.Username, ":"); len(parts) == 4 {
		claims["kubernetes.io"] = map[string]any{"namespace": parts[2], "serviceaccount": map[string]any{"name": parts[3]}}
	}
	return claims
}

func (v *Verifier) askReview(ctx context.Context, t *fsm.Trust, jwt []byte) (tokenReview, error) {
	ctx, cancel := context.WithTimeout(ctx, fetchTime)
	defer cancel()
	reviewer := string(jwt)
	if t.TokenReviewer == fsm.ReviewerFile {
		// Read each time: Kubernetes renews it.
		raw, err := os.ReadFile(v.cfg.ReviewerFile)
		if err != nil || len(bytes.TrimSpace(raw)) == 0 {
			return tokenReview{}, errors.New("login.tokenReviewerFile of this server is not set, or cannot be read")
		}
		reviewer = string(bytes.TrimSpace(raw))
		clear(raw)
	}
	body, err := json.Marshal(tokenReview{
		APIVersion: "authentication.k8s.io/v1", Kind: "TokenReview", Spec: reviewSpec{Token: string(jwt), Audiences: t.Audiences},
	})
	if err != nil {
		return tokenReview{}, errors.New("the review cannot be written")
	}
	defer clear(body)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, strings.TrimSuffix(t.TokenReviewURL, "/")+reviewPath, bytes.NewReader(body))
	if err != nil {
		return tokenReview{}, errors.New("the URL cannot be read")
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json")
	req.Header.Set("Authorization", "Bearer "+reviewer)
	raw, err := send(t, req, http.StatusOK, http.StatusCreated)
	if err != nil {
		return tokenReview{}, err
	}
	defer clear(raw)
	var answer tokenReview
	if err := json.Unmarshal(raw, &answer); err != nil {
		return tokenReview{}, errors.New("the answer is no TokenReview")
	}
	return answer, nil
}
