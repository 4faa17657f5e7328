package leak_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/test/localcluster"
)

// commands runs the command line: what it prints beside an asked-for value,
// and what other users see of it while it runs, must hold no mark.
func (w *traffic) commands(path string) {
	value := w.value()
	quiet := func(r localcluster.Run, code int, line string) {
		w.t.Helper()
		require.Equal(w.t, code, r.Code, "%s: %s", line, r.Err)
		w.answers = append(w.answers, answer{"terminal of " + line, r.Out + r.Err})
	}
	quiet(w.c.CLI(value, "secret", "put", path, "--create"), 0, "put")
	quiet(w.c.CLI(value, "secret", "put", path, "-o", "json"), 0, "put again")
	quiet(w.c.CLI(value, "secret", "put", path+"/none/there"), 1, "put without a secret")
	quiet(w.c.CLI(value, "secret", "put", path, value), 2, "a value as an argument")
	quiet(w.c.CLI(value, "secret", "put", path, "--value="+value), 2, "a value as a flag")
	quiet(w.c.CLI(strings.Repeat(value, 200_000/len(value)), "secret", "put", path), 1, "a value that is too large")
	quiet(w.c.CLI("{"+value, "secrets", "put-secret-value", "--json", "-"), 2, "a value that should be a request")
	quiet(w.c.CLI("", "secret", "versions", path), 0, "versions")
	quiet(w.c.CLI("", "secret", "describe", path), 0, "describe")
	quiet(w.c.CLI("", "audit", "query", "--path", path, "-o", "json"), 0, "query")
	quiet(w.c.CLI("", "secret", "generate", path, "--kind", "password"), 0, "generate")
	read := w.c.CLI("", "secret", "get", path, "--version", "1")
	require.Equal(w.t, value, read.Out)
	w.answers = append(w.answers, answer{"standard error of get", read.Err})

	file := filepath.Join(w.t.TempDir(), "token")
	quiet(w.c.CLI("", "token", "create", "admin", "--out", file), 0, "token create")
	token, err := os.ReadFile(file)
	require.NoError(w.t, err)
	w.add(mark{name: "a token made by the command line", text: strings.TrimSpace(string(token))})
	quiet(w.c.CLI("", "whoami", "--token-file", file), 0, "whoami")
	quiet(w.c.CLI(value, "token", "revoke", strings.TrimSpace(string(token))), 1, "a token for its id")
}

// watched runs a put that has read its value and waits for the end of its
// input, and answers what everybody can see of the process meanwhile.
func (w *traffic) watched(path string) {
	cmd := w.c.Command("secret", "put", path, "--create")
	in, err := cmd.StdinPipe()
	require.NoError(w.t, err)
	var terminal bytes.Buffer
	cmd.Stdout, cmd.Stderr = &terminal, &terminal
	require.NoError(w.t, cmd.Start())
	_, err = in.Write([]byte(w.value()))
	require.NoError(w.t, err)
	for _, file := range []string{"cmdline", "environ"} {
		seen, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", cmd.Process.Pid, file))
		require.NoError(w.t, err)
		require.NotEmpty(w.t, seen)
		w.answers = append(w.answers, answer{file + " of secret put", string(seen)})
	}
	require.NoError(w.t, in.Close())
	require.NoError(w.t, cmd.Wait(), terminal.String())
	w.answers = append(w.answers, answer{"terminal of secret put", terminal.String()})
}

// wrongPIN starts a node with a PIN that the token refuses. The node says so,
// and goes on when it has the right one.
func (w *traffic) wrongPIN(node int) {
	file := filepath.Join(w.c.NodeDir(node), "hsm-pin")
	right, err := os.ReadFile(file)
	require.NoError(w.t, err)
	wrong := mark{name: "a wrong PIN", text: "wrong-" + w.core, homes: []string{localcluster.Name(node) + "/hsm-pin"}}
	w.add(wrong)
	w.c.Signal(node, syscall.SIGTERM)
	w.c.AwaitEnd(node)
	before := len(w.c.Log(node))
	require.NoError(w.t, os.WriteFile(file, []byte(wrong.text+"\n"), 0o600))
	w.c.StartNode(node)
	w.c.Await("the node to say that its PIN is refused", func() bool { return strings.Contains(w.c.Log(node)[before:], "CKR_PIN_INCORRECT") })
	w.c.Kill(node)
	require.NoError(w.t, os.WriteFile(file, right, 0o600))
	w.c.StartNode(node)
	w.c.AwaitReady(node)
}
