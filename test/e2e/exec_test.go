package e2e_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/strongroom/strongroom/test/localcluster"
)

// daemon is a long-running command line of ours.
type daemon struct {
	*exec.Cmd
	c     *localcluster.Cluster
	mu    sync.Mutex
	err   bytes.Buffer
	ended chan struct{}
}

func (d *daemon) Write(p []byte) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.err.Write(p)
}

// log is what it and its command have printed.
func (d *daemon) log() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.err.String()
}

func (d *daemon) code() int {
	<-d.ended
	return d.ProcessState.ExitCode()
}

// runs starts the binary as somebody with a token of its own.
func runs(t *testing.T, c *localcluster.Cluster, token string, args ...string) *daemon {
	t.Helper()
	file := filepath.Join(t.TempDir(), "token")
	require.NoError(t, os.WriteFile(file, []byte(token), 0o600))
	d := &daemon{Cmd: c.Command(args...), c: c, ended: make(chan struct{})}
	d.Env = append(d.Env, "STRONGROOM_TOKEN_FILE="+file, "STRONGROOM_TOKEN=not-a-token")
	d.Stdout, d.Stderr = d, d
	d.WaitDelay = time.Second // what outlives it must not hold the test up
	d.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	require.NoError(t, d.Start())
	go func() {
		_ = d.Wait()
		close(d.ended)
	}()
	t.Cleanup(func() {
		_ = d.Process.Signal(syscall.SIGKILL) // it may have ended
		<-d.ended
		if t.Failed() {
			t.Logf("what %v printed:\n%s", args, d.log())
		}
	})
	return d
}

// content awaits a file with a content.
func content(c *localcluster.Cluster, file, want string) {
	c.Await(filepath.Base(file)+" to be "+want, func() bool {
		raw, err := os.ReadFile(file)
		return err == nil && string(raw) == want
	})
}

type consumerLine struct {
	Version, MovedTo    int
	Principal, Instance string
	Confirmed           bool
	MayHoldUntil        string
}

func consumersOf(c *localcluster.Cluster, t *testing.T, node int, path string) []consumerLine {
	t.Helper()
	var out struct{ Consumers []consumerLine }
	raw, err := json.Marshal(c.OK(node, "secrets/listConsumers", `{"path":%q}`, path))
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(raw, &out))
	return out.Consumers
}

// confirmed awaits that the cluster knows that an instance uses a version.
func confirmed(t *testing.T, c *localcluster.Cluster, node int, path, instance string, version int) {
	t.Helper()
	c.Await(fmt.Sprintf("%s to be on version %d", instance, version), func() bool {
		for _, line := range consumersOf(c, t, node, path) {
			if line.Instance == instance && line.Version == version && line.Confirmed {
				return true
			}
		}
		return false
	})
}

const readsValues = `[{"effect":"allow","roles":["secrets-read-access","secrets-value-access"],"paths":["%s/**"]}]`

// shows writes what it was given where a test can see it, and stays. At
// SIGTERM it waits for the file go, if the file wait is there.
const shows = `cd "$1"
trap 'while [ -e wait ]; do sleep 0.02; done; exit 7' TERM
trap 'echo usr1 > usr1' USR1
trap 'cat "$KEY" > hup.new; mv hup.new hup' HUP
env > env.new; mv env.new env
printf %s $$ > pid.new; mv pid.new pid
[ -z "$KEY" ] || { stat -c %a "$KEY" "$(dirname "$KEY")" > modes; cat "$KEY" > key.new; mv key.new key; }
printf %s "$DB" > db.new; mv db.new db
while :; do sleep 0.05; done`

func alive(pid int) bool { return syscall.Kill(pid, 0) == nil }

func number(t *testing.T, file string) int {
	t.Helper()
	raw, err := os.ReadFile(file)
	require.NoError(t, err)
	n, err := strconv.Atoi(string(raw))
	require.NoError(t, err)
	return n
}

// A command is given new versions by a restart, is counted as moved only when
// it has moved, and outlives the leader and the whole cluster.
func TestExecMovesACommandFromVersionToVersion(t *testing.T) {
	c := suite.Fresh(t, 3)
	const db, tls = "/app/e2e/exec/db", "/app/e2e/exec/tls"
	c.OK(1, "secrets/createSecret", `{"path":%q,"value":%q}`, db, localcluster.B64("hush-one"))
	c.OK(1, "secrets/createSecret", `{"path":%q,"value":%q}`, tls, localcluster.B64(`{"key":"line\none","n":7}`))
	token := c.Principal("exec", fmt.Sprintf(readsValues, "/app/e2e/exec"))
	dir := t.TempDir()
	wait := filepath.Join(dir, "wait")
	require.NoError(t, os.WriteFile(wait, nil, 0o600))
	d := runs(t, c, token, "exec", "--instance", "web-1", "--splay", "0s", "--stop-timeout", "60s",
		"--env", "DB="+db, "--env", "N="+tls+"#n", "--file", "KEY="+tls+"#key", "--", "sh", "-c", shows, "sh", dir)
	content(c, filepath.Join(dir, "db"), "hush-one")
	content(c, filepath.Join(dir, "key"), "line\none")
	env, err := os.ReadFile(filepath.Join(dir, "env"))
	require.NoError(t, err)
	require.Contains(t, "\n"+string(env), "\nN=7\n")
	require.NotContains(t, string(env), "STRONGROOM_TOKEN")
	content(c, filepath.Join(dir, "modes"), "600\n700\n")
	confirmed(t, c, 1, db, "web-1", 1)

	// The command has been told to stop and has not ended: it has version 1.
	first := number(t, filepath.Join(dir, "pid"))
	c.OK(1, "secrets/putSecretValue", `{"path":%q,"value":%q}`, db, localcluster.B64("hush-two"))
	c.Await("the command to be stopped", func() bool { return strings.Contains(d.log(), "the command is stopped") })
	require.Equal(t, "VersionInUse", c.Send(1, c.Token, "secrets/destroyVersion", `{"path":%q,"version":1,"reason":"rotated"}`, db).Code())
	for _, line := range consumersOf(c, t, 1, db) {
		require.Zero(t, line.MovedTo, "it was confirmed as moved with the old version in its environment: %+v", line)
	}
	require.True(t, alive(first))
	require.NoError(t, os.Remove(wait))
	content(c, filepath.Join(dir, "db"), "hush-two")
	confirmed(t, c, 1, db, "web-1", 2)
	c.OK(1, "secrets/destroyVersion", `{"path":%q,"version":1,"reason":"rotated"}`, db)

	// No value in any command line or line of the log.
	for _, pid := range []int{d.Process.Pid, number(t, filepath.Join(dir, "pid"))} {
		raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		require.NoError(t, err)
		require.NotContains(t, string(raw), "hush-")
	}
	require.NotContains(t, d.log(), "hush-")

	leader := c.Leader()
	c.Kill(leader)
	other := c.Others(leader)[0]
	c.OK(other, "secrets/putSecretValue", `{"path":%q,"value":%q}`, db, localcluster.B64("hush-three"))
	content(c, filepath.Join(dir, "db"), "hush-three")
	confirmed(t, c, other, db, "web-1", 3)

	for _, node := range c.Others(leader) {
		c.Kill(node)
	}
	second := number(t, filepath.Join(dir, "pid"))
	require.True(t, alive(second))
	late := c.Command("exec", "--timeout", "1s", "--env", "DB="+db, "--", "touch", filepath.Join(dir, "late"))
	out, err := late.CombinedOutput()
	require.Error(t, err, "a new start without the cluster is refused")
	require.Contains(t, string(out), db)
	require.NoFileExists(t, filepath.Join(dir, "late"))
	c.Revive()
	require.True(t, alive(second), "the command went on")
	c.OK(1, "secrets/putSecretValue", `{"path":%q,"value":%q}`, db, localcluster.B64("hush-four"))
	content(c, filepath.Join(dir, "db"), "hush-four")
	confirmed(t, c, 1, db, "web-1", 4)

	key := ""
	for line := range strings.Lines(string(env)) {
		if name, ok := strings.CutPrefix(line, "KEY="); ok {
			key = strings.TrimSpace(name)
		}
	}
	require.FileExists(t, key)
	require.NoError(t, d.Process.Signal(syscall.SIGTERM))
	require.Equal(t, 7, d.code(), "the code is the command's")
	require.NoDirExists(t, filepath.Dir(key))
}

func TestExecPassesSignalsAndRenewsFiles(t *testing.T) {
	c := suite.Shared(t)
	const path = "/app/e2e/exec-signal/key"
	c.OK(1, "secrets/createSecret", `{"path":%q,"value":%q}`, path, localcluster.B64("one"))
	token := c.Principal("exec-signal", fmt.Sprintf(readsValues, "/app/e2e/exec-signal"))
	dir := t.TempDir()
	d := runs(t, c, token, "exec", "--instance", "sig-1", "--splay", "0s", "--on-change", "signal:HUP", "--file", "KEY="+path, "--", "sh", "-c", shows, "sh", dir)
	content(c, filepath.Join(dir, "db"), "")
	pid := number(t, filepath.Join(dir, "pid"))
	require.NoError(t, d.Process.Signal(syscall.SIGUSR1))
	content(c, filepath.Join(dir, "usr1"), "usr1\n")
	c.OK(1, "secrets/putSecretValue", `{"path":%q,"value":%q}`, path, localcluster.B64("two"))
	content(c, filepath.Join(dir, "hup"), "two")
	confirmed(t, c, 1, path, "sig-1", 2)
	require.Equal(t, pid, number(t, filepath.Join(dir, "pid")), "the same process")
	second := runs(t, c, token, "exec", "--instance", "sig-1", "--file", "KEY="+path, "--", "true")
	require.Equal(t, 1, second.code(), "two would speak for each other")
	require.Contains(t, second.log(), "--instance")
	require.NoError(t, d.Process.Signal(syscall.SIGTERM))
	require.Equal(t, 7, d.code())
}

// With a signal only files can be renewed: what is in the environment stays,
// and the cluster is not told otherwise.
func TestExecDoesNotSpeakForAnOldEnvironment(t *testing.T) {
	c := suite.Shared(t)
	const path = "/app/e2e/exec-env/db"
	c.OK(1, "secrets/createSecret", `{"path":%q,"value":%q}`, path, localcluster.B64("one"))
	token := c.Principal("exec-env", fmt.Sprintf(readsValues, "/app/e2e/exec-env"))
	dir := t.TempDir()
	d := runs(t, c, token, "exec", "--instance", "env-1", "--splay", "0s", "--max-age", "3s", "--on-change", "none", "--env", "DB="+path, "--", "sh", "-c", shows, "sh", dir)
	content(c, filepath.Join(dir, "db"), "one")
	confirmed(t, c, 1, path, "env-1", 1)
	reads := func(version int) int {
		r := c.Send(1, c.Token, "audit/queryEvents", `{"path":%q,"event":"secrets.get_value","limit":1000}`, path)
		return len(regexp.MustCompile(fmt.Sprintf(`"version":%d[,}]`, version)).FindAll(r.Body, -1))
	}
	before := reads(1)
	c.OK(1, "secrets/putSecretValue", `{"path":%q,"value":%q}`, path, localcluster.B64("two"))
	c.Await("the change to be told", func() bool { return strings.Contains(d.log(), "keeps the old version") })
	// It goes on asking for what is current, and for what is in use.
	c.Await("both versions to be asked for", func() bool { return reads(1) > before && reads(2) > 2 })
	for _, line := range consumersOf(c, t, 1, path) {
		require.Zero(t, line.MovedTo, "%+v", line)
	}
	require.Equal(t, "VersionInUse", c.Send(1, c.Token, "secrets/destroyVersion", `{"path":%q,"version":1,"reason":"rotated"}`, path).Code())

	// Denied meanwhile, it goes on too; a new one is refused.
	c.OK(1, "iam/detachPolicy", `{"policy":"exec-env","principal":"exec-env"}`)
	refused := runs(t, c, token, "exec", "--env", "DB="+path, "--", "touch", filepath.Join(dir, "no"))
	require.Equal(t, 1, refused.code())
	require.Contains(t, refused.log(), path)
	require.Contains(t, refused.log(), "secrets:getSecretValue")
	require.NoFileExists(t, filepath.Join(dir, "no"))
	pid := number(t, filepath.Join(dir, "pid"))
	require.True(t, alive(pid))

	// If it is killed, the command does not go on without it.
	require.NoError(t, d.Process.Kill())
	c.Await("the end of the command", func() bool { return !alive(pid) })
}

// terminal opens a pseudo-terminal.
func terminal(t *testing.T) (master, slave *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	require.NoError(t, err)
	t.Cleanup(func() { master.Close() })
	require.NoError(t, unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0))
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	require.NoError(t, err)
	slave, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|syscall.O_NOCTTY, 0)
	require.NoError(t, err)
	t.Cleanup(func() { slave.Close() })
	return master, slave
}

// At a terminal, Ctrl-C reaches the command once: from the terminal itself.
func TestExecAtATerminalLeavesItsSignalsToIt(t *testing.T) {
	c := suite.Shared(t)
	const path = "/app/e2e/exec-tty/db"
	c.OK(1, "secrets/createSecret", `{"path":%q,"value":%q}`, path, localcluster.B64("one"))
	dir := t.TempDir()
	master, slave := terminal(t)
	cmd := c.Command("exec", "--quiet", "--env", "DB="+path, "--", "sh", "-c", `cd "$1"; trap 'echo int >> ints' INT; trap 'exit 7' TERM
test -t 0 && echo ready > ready; while :; do sleep 0.02; done`, "sh", dir)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true, Ctty: 0, Pdeathsig: syscall.SIGKILL}
	require.NoError(t, cmd.Start())
	content(c, filepath.Join(dir, "ready"), "ready\n")
	for _, want := range []string{"int\n", "int\nint\n"} {
		_, err := master.Write([]byte{3})
		require.NoError(t, err)
		content(c, filepath.Join(dir, "ints"), want)
	}
	require.NoError(t, cmd.Process.Signal(syscall.SIGTERM))
	require.Error(t, cmd.Wait())
	require.Equal(t, 7, cmd.ProcessState.ExitCode())
	content(c, filepath.Join(dir, "ints"), "int\nint\n")
}

func TestExecEndsAsItsCommandDoes(t *testing.T) {
	c := suite.Shared(t)
	const prefix = "/app/e2e/exec-codes"
	c.OK(1, "secrets/createSecret", `{"path":%q,"value":%q}`, prefix+"/db-password", localcluster.B64("one"))
	c.OK(1, "secrets/createSecret", `{"path":%q,"value":%q}`, prefix+"/in/api.key", localcluster.B64("two"))
	run := func(want int, args ...string) string {
		t.Helper()
		r := c.CLI("", append([]string{"exec", "--quiet", "--splay", "0s"}, args...)...)
		require.Equal(t, want, r.Code, "%v: %s", args, r.Err)
		return r.Out + r.Err
	}
	db := "DB=" + prefix + "/db-password"
	require.Equal(t, "one", run(0, "--env", db, "--", "sh", "-c", `printf %s "$DB"`))
	require.Equal(t, "one two", run(0, "--env-prefix", prefix+"/", "--", "sh", "-c", `printf %s "$DB_PASSWORD $API_KEY"`))
	require.Equal(t, "kept", run(0, "--keep-token", "--env", db, "--", "sh", "-c", `printf %s "${STRONGROOM_TOKEN_FILE:+kept}"`))
	run(42, "--env", db, "--", "sh", "-c", "exit 42")
	run(128+9, "--env", db, "--", "sh", "-c", "kill -9 $$")
	require.Contains(t, run(127, "--env", db, "--", "/nowhere/command"), "/nowhere/command")
	run(126, "--env", db, "--", "/etc/passwd")
	require.Contains(t, run(1, "--env", "DB="+prefix+"/none", "--", "true"), prefix+"/none: NotFound")
	require.Contains(t, run(1, "--env", db+"#f", "--", "true"), `no field "f"`)
	require.Contains(t, run(1, "--env", db, "--file", "DB="+prefix+"/in/api.key", "--", "true"), "the variable DB")
	require.Contains(t, run(2, "--env", "DB=hunter2", "--", "true"), "--env DB=")
	require.NotContains(t, run(2, "--env", "hunter2", "--", "true"), "hunter2")
	run(2, "--env", db, "true")
	run(2, "--", "true")
	run(2, "--env", db, "--on-change", "signal:NONSENSE", "--", "true")

	// What a command leaves behind ends with it: it has the values too.
	dir := t.TempDir()
	run(0, "--env", db, "--", "sh", "-c", `setsid sh -c 'printf %s $$ > "$1/pid"; exec sleep 100000' sh "$1" & while [ ! -s "$1/pid" ]; do sleep 0.02; done`, "sh", dir)
	require.False(t, alive(number(t, filepath.Join(dir, "pid"))))

	d := runs(t, c, c.Token, "exec", "--splay", "0s", "--on-change", "exit", "--env", db, "--", "sh", "-c", shows, "sh", dir)
	content(c, filepath.Join(dir, "db"), "one")
	c.OK(1, "secrets/putSecretValue", `{"path":%q,"value":%q}`, prefix+"/db-password", localcluster.B64("two"))
	require.Equal(t, 7, d.code())
}
