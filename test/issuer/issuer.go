// Package issuer runs a real OpenID provider in a test: zitadel's, on a TLS
// listener of this machine, with keys that the test rotates and a person who
// confirms whatever device asks.
package issuer

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"encoding/pem"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	jose "github.com/go-jose/go-jose/v4"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"github.com/zitadel/oidc/v3/example/server/storage"
	"github.com/zitadel/oidc/v3/pkg/oidc"
	"github.com/zitadel/oidc/v3/pkg/op"
)

// ClientID is a public client that may log in by device.
const ClientID = "strongroom-cli"

// Person is the subject of who confirms.
const Person = "id1"

// Issuer is a running provider.
type Issuer struct {
	t      testing.TB
	server *httptest.Server
	store  *store
	down   atomic.Bool

	// URL is the issuer, and CAPEM the authority of its TLS.
	URL, CAPEM string
	// Asked counts requests for its keys.
	Asked atomic.Int64
}

// Start runs a provider until the end of the test.
func Start(t testing.TB) *Issuer {
	t.Helper()
	i := &Issuer{t: t}
	var provider atomic.Pointer[op.Provider]
	i.server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/keys" {
			i.Asked.Add(1)
		}
		if i.down.Load() {
			http.Error(w, "down", http.StatusServiceUnavailable)
			return
		}
		provider.Load().ServeHTTP(w, r)
	}))
	t.Cleanup(i.server.Close)
	i.URL = i.server.URL
	i.CAPEM = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: i.server.Certificate().Raw}))
	inner := storage.NewStorageWithClients(storage.NewUserStore(i.URL), map[string]*storage.Client{ClientID: storage.NativeClient(ClientID)})
	i.store = &store{Storage: inner}
	i.Rotate()
	made, err := op.NewProvider(&op.Config{
		CryptoKeyId: "test", SupportedScopes: []string{"openid", "profile", "email"},
		DeviceAuthorization: op.DeviceAuthorizationConfig{Lifetime: time.Minute, PollInterval: time.Second, UserFormPath: "/device", UserCode: op.UserCodeBase20},
	}, i.store, op.StaticIssuer(i.URL), op.WithLogger(slog.New(slog.DiscardHandler)))
	require.NoError(t, err)
	provider.Store(made)
	return i
}

// Rotate signs with a new key from now on; the old one is not published any
// more.
func (i *Issuer) Rotate() {
	i.t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(i.t, err)
	i.store.mu.Lock()
	defer i.store.mu.Unlock()
	i.store.key = signingKey{id: uuid.NewString(), key: key}
}

// Down makes it answer nothing of use, or what it should again.
func (i *Issuer) Down(down bool) { i.down.Store(down) }

// Confirm is the person who opens the page and confirms the code.
func (i *Issuer) Confirm(userCode string) {
	i.t.Helper()
	require.NoError(i.t, i.store.CompleteDeviceAuthorization(context.Background(), userCode, Person))
}

// Deny is the person who says no.
func (i *Issuer) Deny(userCode string) {
	i.t.Helper()
	require.NoError(i.t, i.store.DenyDeviceAuthorization(context.Background(), userCode))
}

// IDToken goes the way of a device and answers the JWT at its end.
func (i *Issuer) IDToken() string {
	i.t.Helper()
	var device struct {
		DeviceCode string `json:"device_code"`
		UserCode   string `json:"user_code"`
	}
	i.post("/device_authorization", url.Values{"client_id": {ClientID}, "scope": {"openid profile email"}}, &device)
	i.Confirm(device.UserCode)
	var tokens struct {
		IDToken string `json:"id_token"`
	}
	i.post("/oauth/token", url.Values{"client_id": {ClientID}, "device_code": {device.DeviceCode}, "grant_type": {string(oidc.GrantTypeDeviceCode)}}, &tokens)
	require.NotEmpty(i.t, tokens.IDToken)
	return tokens.IDToken
}

func (i *Issuer) post(path string, form url.Values, answer any) {
	i.t.Helper()
	resp, err := i.server.Client().PostForm(i.URL+path, form)
	require.NoError(i.t, err)
	defer resp.Body.Close()
	require.Equal(i.t, http.StatusOK, resp.StatusCode, path)
	require.NoError(i.t, json.NewDecoder(resp.Body).Decode(answer))
}

// store is zitadel's example with a key that is rotated, and a client without
// a secret that may log in by device.
type store struct {
	*storage.Storage
	mu  sync.Mutex
	key signingKey
}

func (s *store) current() signingKey {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.key
}

// SigningKey implements op.Storage.
func (s *store) SigningKey(context.Context) (op.SigningKey, error) { return s.current(), nil }

// KeySet implements op.Storage.
func (s *store) KeySet(context.Context) ([]op.Key, error) {
	return []op.Key{publicKey{s.current()}}, nil
}

// GetClientByClientID implements op.Storage.
func (s *store) GetClientByClientID(ctx context.Context, id string) (op.Client, error) {
	c, err := s.Storage.GetClientByClientID(ctx, id)
	return deviceClient{c}, err
}

type deviceClient struct{ op.Client }

// GrantTypes implements op.Client.
func (deviceClient) GrantTypes() []oidc.GrantType { return []oidc.GrantType{oidc.GrantTypeDeviceCode} }

type signingKey struct {
	id  string
	key *rsa.PrivateKey
}

// SignatureAlgorithm implements op.SigningKey.
func (k signingKey) SignatureAlgorithm() jose.SignatureAlgorithm { return jose.RS256 }

// Key implements op.SigningKey.
func (k signingKey) Key() any { return k.key }

// ID implements op.SigningKey.
func (k signingKey) ID() string { return k.id }

type publicKey struct{ signingKey }

// Algorithm implements op.Key.
func (k publicKey) Algorithm() jose.SignatureAlgorithm { return jose.RS256 }

// Use implements op.Key.
func (k publicKey) Use() string { return "sig" }

// Key implements op.Key.
func (k publicKey) Key() any { return k.key.Public() }
