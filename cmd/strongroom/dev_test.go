package main

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/pem"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/api/wire"
)

// nodeThatAnswers is a node1 that is ready, with an administrator's token
// that ends at a given time, or is not valid at all.
func nodeThatAnswers(t *testing.T, expires time.Time) *devCluster {
	t.Helper()
	d := &devCluster{dir: t.TempDir(), nodes: 1, out: &bytes.Buffer{}}
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/api/v1/health/ready":
		case expires.IsZero() || r.Header.Get("Authorization") != "Bearer srt_old":
			w.WriteHeader(http.StatusUnauthorized)
			_, _ = io.WriteString(w, `{"error":{"code":"Unauthenticated","message":"no","requestId":"r"}}`)
		case r.URL.Path == "/api/v1/iam/whoAmI":
			_, _ = io.WriteString(w, `{"principal":"admin","expiresAt":"`+wire.Time{Time: expires}.String()+`"}`)
		case r.URL.Path == "/api/v1/iam/createToken":
			var req struct{ Principal, TTL string }
			if err := json.NewDecoder(r.Body).Decode(&req); err != nil || req.Principal != "admin" || req.TTL != "365d" {
				w.WriteHeader(http.StatusBadRequest)
				return
			}
			_, _ = io.WriteString(w, `{"token":"srt_new","tokenId":"t","expiresAt":"2040-01-02T03:04:05Z"}`)
		}
	}))
	t.Cleanup(s.Close)
	d.basePort = s.Listener.Addr().(*net.TCPAddr).Port
	require.NoError(t, os.WriteFile(d.path("ca.pem"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}), 0o600))
	require.NoError(t, os.WriteFile(d.path("admin.token"), []byte("srt_old\n"), 0o600))
	return d
}

func adminToken(t *testing.T, d *devCluster) string {
	t.Helper()
	raw, err := os.ReadFile(d.path("admin.token"))
	require.NoError(t, err)
	return string(raw)
}

func TestTheAdministratorsTokenIsRenewedBeforeItEnds(t *testing.T) {
	d := nodeThatAnswers(t, time.Now().Add(100*24*time.Hour))
	health, err := d.healthClient()
	require.NoError(t, err)
	require.NoError(t, d.tryNode(context.Background(), health, 1))
	require.Equal(t, "srt_old\n", adminToken(t, d))

	d = nodeThatAnswers(t, time.Now().Add(80*24*time.Hour))
	health, err = d.healthClient()
	require.NoError(t, err)
	require.NoError(t, d.tryNode(context.Background(), health, 1))
	require.Equal(t, "srt_new\n", adminToken(t, d))
	info, err := os.Stat(d.path("admin.token"))
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
	require.NotContains(t, d.out.(*bytes.Buffer).String(), "srt_")
}

func TestATokenThatIsNotValidAnyMoreIsNotWaitedFor(t *testing.T) {
	d := nodeThatAnswers(t, time.Time{})
	health, err := d.healthClient()
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	err = d.awaitReady(ctx, health)
	require.ErrorContains(t, err, "admin.token is not valid any more")
	require.NoFileExists(t, d.path("ready"))
}

func TestASupervisorEndsWithTheLastOfItsNodes(t *testing.T) {
	d := localCluster(t, filepath.Join(t.TempDir(), "c"))
	require.NoError(t, d.makeFiles())
	require.NoError(t, writeFile(d.path("ready"), nil))
	var out bytes.Buffer
	d.out = &out
	var err error
	d.binary, err = exec.LookPath("false")
	require.NoError(t, err)
	require.ErrorIs(t, d.supervise(context.Background()), errAllGone)
	require.NoFileExists(t, d.path("ready"))
	for _, want := range []string{"node1 died", "node2 died", "start it again with", "All nodes"} {
		require.Contains(t, out.String(), want)
	}
}

// env is read by shells, and by curl users who take the address as it is.
func TestEnvIsForTheShell(t *testing.T) {
	d := &devCluster{dir: filepath.Join(t.TempDir(), "it's here"), nodes: 3, basePort: 7400}
	out, err := exec.Command("sh", "-c", d.env()+`printf '%s\n' "$STRONGROOM_ADDR" "$STRONGROOM_FALLBACK_ADDRS" "$STRONGROOM_CACERT" "$STRONGROOM_TOKEN_FILE"`).Output()
	require.NoError(t, err)
	require.Equal(t, "https://127.0.0.1:7400\nhttps://127.0.0.1:7410,https://127.0.0.1:7420\n"+d.path("ca.pem")+"\n"+d.path("admin.token")+"\n", string(out))
}
