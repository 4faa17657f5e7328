package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/api/wire"
	"github.com/strongroom/strongroom/engine"
	"github.com/strongroom/strongroom/internal/fault"
)

// cluster is a server that answers as a test says and keeps what it was
// asked.
type cluster struct {
	t       *testing.T
	asked   []string // operations
	bodies  []string
	answers map[string]string // by operation; an error body is answered with 409
	dir     string
}

func fakeCluster(t *testing.T, answers map[string]string) *cluster {
	t.Helper()
	c := &cluster{t: t, answers: answers, dir: t.TempDir()}
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil || r.Header.Get("Authorization") != "Bearer srt_test" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		op := strings.TrimPrefix(r.URL.Path, "/api/v1/")
		c.asked = append(c.asked, op)
		c.bodies = append(c.bodies, string(body))
		answer := c.answers[op]
		if strings.HasPrefix(answer, `{"error"`) {
			w.WriteHeader(http.StatusConflict)
		}
		_, _ = io.WriteString(w, answer)
	}))
	t.Cleanup(s.Close)
	ca, token := filepath.Join(c.dir, "ca.pem"), filepath.Join(c.dir, "token")
	require.NoError(t, os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}), 0o600))
	require.NoError(t, os.WriteFile(token, []byte("srt_test\n"), 0o600))
	t.Setenv(envAddr, s.URL)
	t.Setenv(envFallback, "")
	t.Setenv(envCACert, ca)
	t.Setenv(envTokenFile, token)
	t.Setenv(envToken, "")
	return c
}

// run runs a command line; words are separated by one space.
func (c *cluster) run(stdin, line string) (code int, stdout, stderr string) {
	c.t.Helper()
	var out, errOut bytes.Buffer
	code = execute(context.Background(), strings.Split(line, " "), strings.NewReader(stdin), &out, &errOut)
	return code, out.String(), errOut.String()
}

// last is the last request, decoded.
func (c *cluster) last() map[string]any {
	c.t.Helper()
	require.NotEmpty(c.t, c.bodies)
	out := map[string]any{}
	require.NoError(c.t, json.Unmarshal([]byte(c.bodies[len(c.bodies)-1]), &out))
	delete(out, "clientToken")
	return out
}

func everyCommand(cmd *cobra.Command, visit func(*cobra.Command)) {
	visit(cmd)
	for _, sub := range cmd.Commands() {
		everyCommand(sub, visit)
	}
}

func TestEveryOperationIsACommandWithItsFieldsAsFlags(t *testing.T) {
	root := newRoot()
	for _, op := range engine.Operations() {
		cmd, rest, err := root.Find([]string{op.Service, kebab(op.Name)})
		require.NoError(t, err)
		require.Empty(t, rest, op.Path())
		require.Contains(t, cmd.Long, "/api/v1/"+op.Path())
		require.Contains(t, cmd.Long, op.Event)
		for _, field := range newRequestFlags(op, nil).fields {
			if strings.HasPrefix(field.doc, "not in this release") {
				continue
			}
			name := kebab(field.name)
			if field.text == nil {
				name += "-file"
			}
			require.NotNil(t, cmd.Flags().Lookup(name), "%s --%s", op.Path(), name)
		}
	}
}

func TestEveryCommandAndFlagHasHelp(t *testing.T) {
	count := 0
	everyCommand(newRoot(), func(cmd *cobra.Command) {
		count++
		require.NotEmpty(t, cmd.Short, cmd.CommandPath())
		require.NotRegexp(t, `\.$`, cmd.Short, cmd.CommandPath())
		cmd.Flags().VisitAll(func(f *pflag.Flag) { require.NotEmpty(t, f.Usage, "%s --%s", cmd.CommandPath(), f.Name) })
	})
	require.Greater(t, count, 60)
}

func TestKebab(t *testing.T) {
	for in, want := range map[string]string{
		"getSecretValue": "get-secret-value", "kmsKeyId": "kms-key-id", "whoAmI": "who-am-i", "status": "status", "boundCidrs": "bound-cidrs",
	} {
		require.Equal(t, want, kebab(in))
	}
}

// holdsPlaintext reports whether t can hold a value or a credential.
func holdsPlaintext(t reflect.Type) bool {
	switch t.Kind() {
	case reflect.Pointer, reflect.Slice, reflect.Map:
		return holdsPlaintext(t.Elem())
	case reflect.Struct:
		if t == reflect.TypeFor[wire.Value]() || t == reflect.TypeFor[wire.Text]() {
			return true
		}
		for i := range t.NumField() {
			if t.Field(i).IsExported() && holdsPlaintext(t.Field(i).Type) {
				return true
			}
		}
	}
	return false
}

// What is on a command line is in the shell's history and in the list of
// processes: no field that may hold plaintext has a flag or argument for it.
func TestNoValueCanBeGivenOnTheCommandLine(t *testing.T) {
	plaintext := 0
	for _, op := range engine.Operations() {
		for _, field := range newRequestFlags(op, nil).fields {
			if holdsPlaintext(field.typ) {
				plaintext++
				require.Nil(t, field.text, "%s: %s", op.Path(), field.name)
				require.Contains(t, []reflect.Type{reflect.TypeFor[*wire.Value](), reflect.TypeFor[*wire.Text]()}, field.typ, "%s: %s", op.Path(), field.name)
			}
		}
	}
	require.GreaterOrEqual(t, plaintext, 3, "the check must have found the fields")
	everyCommand(newRoot(), func(cmd *cobra.Command) {
		for _, name := range []string{"value", "plaintext", "token", "password", "pin"} {
			require.Nil(t, cmd.Flags().Lookup(name), "%s --%s", cmd.CommandPath(), name)
		}
	})
	c := fakeCluster(t, nil)
	for _, line := range []string{
		"secret put /a/b MARK", "secret put /a/b --value MARK", "secret put /a/b --value=MARK", "secrets put-secret-value --path /a/b MARK",
		"secret create /a/b --value=MARK", "key encrypt alias/x MARK", "key encrypt alias/x --plaintext=MARK",
	} {
		code, out, errOut := c.run("", line)
		require.Equal(t, exitUsage, code, line)
		require.NotContains(t, out+errOut, "MARK", line)
	}
	require.Empty(t, c.asked)
}

const putAnswer = `{"path":"/a/b","version":3,"versionId":"v","unchanged":false,"labels":["current"]}`

func TestPutTakesTheValueFromStandardInputAsItIs(t *testing.T) {
	c := fakeCluster(t, map[string]string{"secrets/putSecretValue": putAnswer})
	code, out, _ := c.run("first\x00\n second", "secret put /a/b --expected-version 2 --expires-at 2030-01-02T03:04:05Z --content-type text/plain")
	require.Equal(t, exitDone, code)
	require.Contains(t, out, "version:     3")
	require.Equal(t, map[string]any{
		"path": "/a/b", "value": base64.StdEncoding.EncodeToString([]byte("first\x00\n second")), "expectedVersion": 2.0,
		"expiresAt": "2030-01-02T03:04:05Z", "contentType": "text/plain",
	}, c.last())

	_, _, errOut := c.run("echoed\n", "secrets put-secret-value --path /a/b --activate=false")
	require.Contains(t, errOut, "line feed")
	require.Equal(t, map[string]any{"path": "/a/b", "value": base64.StdEncoding.EncodeToString([]byte("echoed\n")), "activate": false}, c.last())

	file := filepath.Join(c.dir, "value")
	require.NoError(t, os.WriteFile(file, []byte("from a file\n"), 0o600))
	_, _, errOut = c.run("not this", "secret put /a/b --value-file "+file)
	require.Empty(t, errOut)
	require.Equal(t, base64.StdEncoding.EncodeToString([]byte("from a file\n")), c.last()["value"])

	asked := len(c.asked)
	code, _, errOut = c.run("", "secret put /a/b")
	require.Equal(t, exitUsage, code)
	require.Contains(t, errOut, "standard input is empty")
	code, _, _ = c.run(strings.Repeat("x", maxInput+1), "secret put /a/b")
	require.Equal(t, exitFailed, code)
	require.Len(t, c.asked, asked)
}

const notFound = `{"error":{"code":"NotFound","message":"there is none","requestId":"r-7"}}`

func TestPutMakesASecretOnlyWhenTold(t *testing.T) {
	c := fakeCluster(t, map[string]string{"secrets/putSecretValue": notFound, "secrets/createSecret": `{"path":"/a/b","secretId":"s","version":1,"versionId":"v"}`})
	code, _, errOut := c.run("x", "secret put /a/b")
	require.Equal(t, exitFailed, code)
	require.Contains(t, errOut, "--create")
	require.Contains(t, errOut, "r-7")
	require.Equal(t, []string{"secrets/putSecretValue"}, c.asked)

	code, out, _ := c.run("x", "secret put /a/b --create --kms-key-id alias/pay")
	require.Equal(t, exitDone, code)
	require.Contains(t, out, "version:     1")
	require.Equal(t, map[string]any{"path": "/a/b", "value": "eA==", "kmsKeyId": "alias/pay"}, c.last())
}

func TestGetPrintsTheBytesAndNothingElse(t *testing.T) {
	plain := "line\n\x00\xff"
	c := fakeCluster(t, map[string]string{"secrets/getSecretValue": `{"path":"/a/b","version":1,"value":"` + base64.StdEncoding.EncodeToString([]byte(plain)) + `"}`})
	code, out, errOut := c.run("", "secret get /a/b --version 1")
	require.Equal(t, exitDone, code)
	require.Equal(t, plain, out)
	require.Empty(t, errOut)
	require.Equal(t, map[string]any{"path": "/a/b", "version": 1.0}, c.last())
	_, out, _ = c.run("", "secret get /a/b -o json")
	require.True(t, json.Valid([]byte(out)))
	require.Contains(t, out, base64.StdEncoding.EncodeToString([]byte(plain)))
	_, out, _ = c.run("", "secrets get-secret-value --path /a/b")
	require.Contains(t, out, "base64:")
	require.NotContains(t, out, "\x00")
}

func TestFailuresSayWhatToDo(t *testing.T) {
	c := fakeCluster(t, map[string]string{
		"secrets/getSecretValue": `{"error":{"code":"AccessDenied","message":"not \u001b[31mallowed","requestId":"r-1","details":{"decisionId":"d-1","reason":"iam"}}}`,
	})
	code, out, errOut := c.run("", "secret get /a/b")
	require.Equal(t, exitFailed, code)
	require.Empty(t, out)
	for _, want := range []string{"AccessDenied: ", "r-1", "d-1", "what to do:"} {
		require.Contains(t, errOut, want)
	}
	require.NotContains(t, errOut, "\x1b", "a server cannot steer the terminal")
}

func TestMistakesInTheCommandLineAreUsageErrors(t *testing.T) {
	c := fakeCluster(t, nil)
	for line, want := range map[string]string{
		"secret get":                                       "PATH is missing",
		"secret get /a /b":                                 "at most 1",
		"secret get /a --version one":                      "whole number",
		"secret get /a --nothing":                          "unknown flag",
		"secret get /a -o xml":                             "table or json",
		"secret gett /a":                                   "not a command",
		"secret destroy /a":                                "--version is required",
		"iam create-principal":                             "--name, --kind are required",
		"iam create-token --principal x --ttl 3":           "duration",
		"audit query --from yesterday":                     "distance from now",
		"policy put p --statements {":                      "JSON",
		`policy put p --statements [{"efect":"allow"}]`:    "efect",
		"policy put p --statements [] --statements-file x": "exclude each other",
		"secret create /a --tags novalue":                  "NAME=VALUE",
		"key decrypt --ciphertext !!":                      "base64",
		"whoami --timeout 0s":                              "--timeout",
		"whoami --addr http://127.0.0.1:1":                 "https://",
		"secret put /a --json - --value-file -":            "one flag only",
	} {
		code, _, errOut := c.run("{}", line)
		require.Equal(t, exitUsage, code, "%s: %s", line, errOut)
		require.Contains(t, errOut, want, line)
	}
	require.Empty(t, c.asked)
	t.Setenv(envAddr, "")
	code, _, errOut := c.run("", "whoami")
	require.Equal(t, exitUsage, code)
	require.Contains(t, errOut, envAddr)
}

func TestFlagsBecomeFields(t *testing.T) {
	c := fakeCluster(t, map[string]string{
		"secrets/createSecret": `{"path":"/a","secretId":"s"}`, "iam/putPolicy": `{"name":"p","revision":1,"warnings":[]}`,
		"iam/putAccessPolicy": `{"name":"p","revision":1}`, "iam/createToken": `{"token":"srt_new","tokenId":"t","expiresAt":"2030-01-02T03:04:05Z"}`,
		"kms/encrypt": `{"ciphertext":"AAEC","keyId":"k","keyVersion":1}`, "kms/decrypt": `{"plaintext":"eHl6","keyId":"k","keyVersion":1}`,
	})
	for _, step := range []struct{ stdin, line, want, out string }{
		{"", `secret create /a --tags team=pay --tags note=a=b --generate {"kind":"hex","length":8} --reuse-retired-path`,
			`{"path":"/a","tags":{"team":"pay","note":"a=b"},"generate":{"kind":"hex","length":8},"reuseRetiredPath":true}`, "secret id:"},
		{"", `policy put p --statements [{"effect":"allow","roles":["full-access"]}]`, `{"name":"p","statements":[{"effect":"allow","roles":["full-access"]}]}`, "revision:"},
		{`[{"effect":"deny"}]`, `iam put-policy --name p --statements-file -`, `{"name":"p","statements":[{"effect":"deny"}]}`, "revision:"},
		{`{"name":"p","statements":[]}`, `iam put-policy --json -`, `{"name":"p","statements":[]}`, "revision:"},
		{`{"name":"p","statements":[{"effect":"deny"}]}`, `iam put-policy --json - --name q`, `{"name":"q","statements":[{"effect":"deny"}]}`, ""},
		{"", "access-policy put p --paths /a/**,/b/** --paths /c --source-cidrs 10.0.0.0/8", `{"name":"p","paths":["/a/**","/b/**","/c"],"sourceCidrs":["10.0.0.0/8"]}`, ""},
		{"", "token create web --ttl 30d", `{"principal":"web","ttl":"30d"}`, "srt_new\n"},
		{"abc", "key encrypt alias/x --context a=b", `{"keyId":"alias/x","plaintext":"YWJj","context":{"a":"b"}}`, "AAEC\n"},
		{"AAEC\n", "key decrypt --context a=b", `{"ciphertext":"AAEC","context":{"a":"b"}}`, "xyz"},
		{"", "key decrypt --ciphertext AAEC", `{"ciphertext":"AAEC"}`, "xyz"},
	} {
		code, out, errOut := c.run(step.stdin, step.line)
		require.Equal(t, exitDone, code, "%s: %s", step.line, errOut)
		got, err := json.Marshal(c.last())
		require.NoError(t, err)
		require.JSONEq(t, step.want, string(got), step.line)
		require.Contains(t, out, step.out, step.line)
	}
}

func TestTimesMayBeDistancesFromNow(t *testing.T) {
	now := time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
	for text, want := range map[string]string{"-1h": "2030-01-02T02:04:05Z", "+30d": "2030-02-01T03:04:05Z", "2026-01-02T15:04:05Z": "2026-01-02T15:04:05Z"} {
		got, err := parseTime(text, now)
		require.NoError(t, err)
		require.Equal(t, want, got.String())
	}
	for _, text := range []string{"", "-", "+", "1h", "--1h", "2026-01-02", "2026-01-02T15:04:05+01:00"} {
		_, err := parseTime(text, now)
		require.Error(t, err, text)
	}
}

func TestATokenIsShownOnceAndGoesToAFileOfOnesOwn(t *testing.T) {
	c := fakeCluster(t, map[string]string{"iam/createToken": `{"token":"srt_new","tokenId":"t-1","expiresAt":"2030-01-02T03:04:05Z"}`})
	file := filepath.Join(c.dir, "new.token")
	code, out, errOut := c.run("", "token create web --out "+file)
	require.Equal(t, exitDone, code)
	require.NotContains(t, out+errOut, "srt_new")
	require.Contains(t, errOut, "t-1")
	info, err := os.Stat(file)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
	raw, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Equal(t, "srt_new\n", string(raw))
}

func TestACredentialThatOthersCanReadIsNotUsed(t *testing.T) {
	c := fakeCluster(t, nil)
	require.NoError(t, os.Chmod(filepath.Join(c.dir, "token"), 0o644))
	code, _, errOut := c.run("", "whoami")
	require.Equal(t, exitFailed, code)
	require.Contains(t, errOut, "chmod 600")
	require.Empty(t, c.asked)
	t.Setenv(envTokenFile, "")
	t.Setenv(envToken, "srt_test")
	c.answers = map[string]string{"iam/whoAmI": `{"principal":"admin"}`}
	code, out, _ := c.run("", "whoami")
	require.Equal(t, exitDone, code)
	require.Contains(t, out, "admin")
}

func TestListsAreFollowedToTheirEnd(t *testing.T) {
	c := fakeCluster(t, nil)
	pages := map[string]string{
		"":  `{"folders":["/a/"],"secrets":[{"path":"/b","currentVersion":1}],"nextCursor":"c"}`,
		"c": `{"folders":[],"secrets":[{"path":"/d","currentVersion":2}],"nextCursor":"e"}`,
		"e": `{"folders":[],"secrets":[{"path":"/f\u001b[2J","currentVersion":3}]}`,
	}
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var req struct{ Cursor string }
		if err := json.NewDecoder(r.Body).Decode(&req); err != nil {
			panic(http.ErrAbortHandler)
		}
		c.asked = append(c.asked, req.Cursor)
		_, _ = io.WriteString(w, pages[req.Cursor])
	}))
	defer server.Close()
	require.NoError(t, os.WriteFile(os.Getenv(envCACert), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}), 0o600))
	t.Setenv(envAddr, server.URL)
	code, out, errOut := c.run("", "secret ls")
	require.Equal(t, exitDone, code, errOut)
	require.Equal(t, []string{"", "c", "e"}, c.asked)
	lines := strings.Split(strings.TrimSpace(out), "\n")
	require.Len(t, lines, 5, out)
	require.Equal(t, []string{"PATH", "VERSION"}, strings.Fields(lines[0]))
	require.Equal(t, "/a/", strings.TrimSpace(lines[1]))
	require.NotContains(t, out, "\x1b")

	code, out, errOut = c.run("", "secret ls --limit 2")
	require.Equal(t, exitDone, code)
	require.NotContains(t, out, "/d")
	require.Contains(t, errOut, "--cursor c")
}

// The reference is generated; a change of an operation must renew it.
func TestTheAPIReferenceIsUpToDate(t *testing.T) {
	raw, err := os.ReadFile("../../docs/api.md")
	require.NoError(t, err)
	_, generated, found := strings.Cut(string(raw), "<!-- generated from here on; make docs renews it -->\n\n")
	require.True(t, found)
	var b strings.Builder
	writeReference(&b)
	require.Equal(t, strings.TrimSpace(b.String()), strings.TrimSpace(generated), "run: make docs")
	for _, kind := range []fault.Kind{
		fault.InvalidRequest, fault.Unauthenticated, fault.AccessDenied, fault.NotFound, fault.AlreadyExists, fault.Conflict, fault.VersionNotActive,
		fault.KeyNotActive, fault.KeyInUse, fault.VersionInUse, fault.TooLarge, fault.RateLimited, fault.Internal, fault.HsmUnavailable,
		fault.NoLeader, fault.Uncertain, fault.AuditUnavailable,
	} {
		require.Contains(t, string(raw), "`"+string(kind)+"`")
	}
}

// So is the table of the states of keys.
func TestThePageOfKeyStatesIsUpToDate(t *testing.T) {
	raw, err := os.ReadFile("../../docs/key-states.md")
	require.NoError(t, err)
	_, generated, found := strings.Cut(string(raw), "<!-- generated from here on; make docs renews it -->\n\n")
	require.True(t, found)
	var b strings.Builder
	writeKeyStates(&b)
	require.Equal(t, strings.TrimSpace(b.String()), strings.TrimSpace(generated), "run: make docs")
}

// TestAWaitHasATimeoutOfItsOwn: the flag of that name is the request's there,
// and how long to try is something else.
func TestAWaitHasATimeoutOfItsOwn(t *testing.T) {
	c := fakeCluster(t, map[string]string{"secrets/waitForChange": `{"changes":[{"path":"/app/x","currentVersion":2,"index":7}],"index":7}`})
	code, stdout, stderr := c.run("", "secrets wait-for-change --prefix /app --after-index 3 --timeout 5s -o json")
	require.Zero(t, code, stderr)
	require.Contains(t, stdout, `"/app/x"`)
	require.Equal(t, map[string]any{"prefix": "/app", "afterIndex": 3.0, "timeout": "5s"}, c.last())
	code, _, stderr = c.run("", "secrets wait-for-change --prefix /app")
	require.Zero(t, code, stderr)
	code, _, _ = c.run("", "secrets get-usage --timeout 0s")
	require.Equal(t, 2, code, "elsewhere it is how long to try")
}

// An access key signs; its secret comes from a file and is nowhere in what is
// sent.
func TestACommandIsSignedWithAnAccessKey(t *testing.T) {
	c := fakeCluster(t, nil)
	const id, secret = "SRAKABCDEFGHIJKLMNOP", "srs_test-secret"
	var sent string
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		sent = r.Header.Get("Authorization") + " " + r.Header.Get("X-Amz-Date")
		_, _ = io.WriteString(w, `{"principal":"web"}`)
	}))
	t.Cleanup(server.Close)
	ca, file := filepath.Join(c.dir, "other.pem"), filepath.Join(c.dir, "secret")
	require.NoError(t, os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}), 0o600))
	require.NoError(t, os.WriteFile(file, []byte(secret+"\n"), 0o600))
	t.Setenv(envAddr, server.URL)
	t.Setenv(envCACert, ca)
	run := func(says string, want int, line string) {
		t.Helper()
		sent = ""
		code, _, errOut := c.run("", line)
		require.Equal(t, want, code, errOut)
		require.Contains(t, errOut, says)
	}
	flags := " --access-key-id " + id + " --secret-access-key-file " + file
	run("", exitDone, "whoami"+flags) // goes before the token in the environment
	require.Contains(t, sent, "AWS4-HMAC-SHA256 Credential="+id+"/")
	require.NotContains(t, sent, secret)
	run("needs both", exitUsage, "whoami --access-key-id "+id)
	run("needs both", exitUsage, "whoami --secret-access-key-file "+file)
	run("two credentials", exitUsage, "whoami --token-file "+file+flags)
	run("access key id must begin", exitUsage, "whoami --access-key-id AKIA --secret-access-key-file "+file)

	t.Setenv(envAccessKeyID, id)
	t.Setenv(envSecretAccessKeyFile, file)
	run("two credentials in the environment", exitUsage, "whoami")
	require.Empty(t, sent)
	t.Setenv(envTokenFile, "")
	run("", exitDone, "whoami")
	require.Contains(t, sent, "AWS4-HMAC-SHA256")
	require.NoError(t, os.Chmod(file, 0o644))
	run("chmod 600", exitFailed, "whoami")
	require.Empty(t, sent)
}
