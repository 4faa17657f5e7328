package main

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/api/wire"
	"github.com/strongroom/strongroom/test/issuer"
)

// loginCluster answers logins and what is told about them; it takes no token
// for either.
type loginCluster struct {
	t     *testing.T
	how   wire.DescribeLoginResponse
	token string // the file
	jwts  []string
}

func startLoginCluster(t *testing.T) *loginCluster {
	c := &loginCluster{t: t, token: filepath.Join(t.TempDir(), "token")}
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil || r.Header.Get("Authorization") != "" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		if strings.HasSuffix(r.URL.Path, "/describeLogin") {
			_ = wire.Encode(w, c.how)
			return
		}
		var in struct{ JWT string }
		_ = json.Unmarshal(body, &in)
		c.jwts = append(c.jwts, in.JWT)
		_, _ = io.WriteString(w, `{"token":"srt_new","tokenId":"t1","expiresAt":"2026-01-02T03:04:05Z"}`)
	}))
	t.Cleanup(s.Close)
	ca := filepath.Join(t.TempDir(), "ca.pem")
	require.NoError(t, os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}), 0o600))
	for name, value := range map[string]string{envAddr: s.URL, envFallback: "", envCACert: ca, envTokenFile: c.token, envToken: ""} {
		t.Setenv(name, value)
	}
	return c
}

// run runs a command line and calls said with each piece that it writes for
// people.
func (c *loginCluster) run(stdin, line string, said func(string)) (code int, out, errOut string) {
	c.t.Helper()
	var stdout bytes.Buffer
	told := &telling{said: said}
	code = execute(context.Background(), strings.Split(line, " "), strings.NewReader(stdin), &stdout, told)
	return code, stdout.String(), told.all.String()
}

type telling struct {
	all  bytes.Buffer
	said func(string)
}

func (w *telling) Write(p []byte) (int, error) {
	if w.said != nil {
		w.said(string(p))
	}
	return w.all.Write(p)
}

var code = regexp.MustCompile(`confirm the code (\S+)`)

func TestALoginWritesTheTokenAndShowsItToNobody(t *testing.T) {
	c := startLoginCluster(t)
	idp := issuer.Start(t)
	c.how = wire.DescribeLoginResponse{Trust: "staff", Kind: "oidc", Issuer: idp.URL, ClientID: issuer.ClientID, CAPEM: idp.CAPEM}
	require.NoError(t, os.WriteFile(c.token, []byte("srt_old\n"), 0o600))
	status, out, errOut := c.run("", "login --trust staff", func(text string) {
		if m := code.FindStringSubmatch(text); m != nil {
			idp.Confirm(m[1])
		}
	})
	require.Zero(t, status, errOut)
	require.NotContains(t, out+errOut, "srt_")
	kept, err := os.ReadFile(c.token)
	require.NoError(t, err)
	require.Equal(t, "srt_new\n", string(kept))
	left, err := os.ReadDir(filepath.Dir(c.token))
	require.NoError(t, err)
	require.Len(t, left, 1, "nothing else stays behind")

	jwt := filepath.Join(t.TempDir(), "jwt")
	require.NoError(t, os.WriteFile(jwt, []byte(" a.b.c\n"), 0o600))
	status, _, errOut = c.run("", "login --trust ci --jwt-file "+jwt, nil)
	require.Zero(t, status, errOut)
	status, _, errOut = c.run("d.e.f\n", "iam login --trust ci", nil)
	require.Zero(t, status, errOut)
	require.Equal(t, []string{"a.b.c", "d.e.f"}, c.jwts[1:])
}

func TestALoginThatFailsTakesNoTokenAway(t *testing.T) {
	c := startLoginCluster(t)
	idp := issuer.Start(t)
	how := wire.DescribeLoginResponse{Trust: "staff", Kind: "oidc", Issuer: idp.URL, ClientID: issuer.ClientID, CAPEM: idp.CAPEM}
	require.NoError(t, os.WriteFile(c.token, []byte("srt_old\n"), 0o600))
	failed := func(says, stdin, line string, said func(string)) {
		t.Helper()
		status, out, errOut := c.run(stdin, line, said)
		require.NotZero(t, status, out)
		require.Contains(t, errOut, says)
		kept, err := os.ReadFile(c.token)
		require.NoError(t, err)
		require.Equal(t, "srt_old\n", string(kept))
	}
	failed("--trust is missing", "", "login", nil)
	failed("exclude each other", "", "login --trust a --kubernetes --jwt-file x", nil)
	failed("is empty", "\n", "login --trust a --jwt-file -", nil)
	failed("has more than", strings.Repeat("x", 65<<10), "login --trust a --jwt-file -", nil)
	failed("no such file", "", "login --trust a --jwt-file /nowhere/jwt", nil)
	failed("has no clientId", "", "login --trust a", nil)
	c.how = how
	failed("the issuer refuses: access_denied", "", "login --trust staff", func(text string) {
		if m := code.FindStringSubmatch(text); m != nil {
			idp.Deny(m[1])
		}
	})
	c.how.ClientID = "nobody"
	failed("the issuer", "", "login --trust staff", nil)
	c.how = how
	c.how.CAPEM = ""
	failed("certificate", "", "login --trust staff", nil)
	c.how = how
	c.how.Issuer += "/"
	failed("is not the one of this issuer", "", "login --trust staff", nil)
	c.how = how
	idp.Down(true)
	failed("status 503", "", "login --trust staff", nil)
	require.Empty(t, c.jwts)

	t.Setenv(envTokenFile, "")
	failed("no file for the token", "", "login --trust staff", nil)
	link := filepath.Join(t.TempDir(), "link")
	require.NoError(t, os.Symlink(c.token, link))
	failed("is no regular file", "a.b.c", fmt.Sprintf("login --trust a --jwt-file - --token-file %s", link), nil)
	failed("go together", "", "whoami --client-cert x", nil)
	failed("no credential", "", "whoami", nil)
}
