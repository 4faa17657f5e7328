package agent

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/internal/config"
)

func TestCommandsHaveNoShellNoCredentialAndAnEnd(t *testing.T) {
	t.Setenv("STRONGROOM_TOKEN", "secret")
	dir := private(t)
	run := func(timeout time.Duration, argv ...string) error {
		return OnChange{Command: argv, Timeout: config.Duration(timeout)}.react(context.Background())
	}
	require.NoError(t, run(time.Minute, "/bin/sh", "-c", `test -z "$STRONGROOM_TOKEN"`))
	require.NoError(t, run(time.Minute, "/usr/bin/touch", filepath.Join(dir, "$(id); x")))
	require.FileExists(t, filepath.Join(dir, "$(id); x"))
	err := run(time.Minute, "/bin/sh", "-c", "echo hush; exit 3")
	require.ErrorContains(t, err, "exit status 3")
	require.NotContains(t, err.Error(), "hush;", "arguments are not shown")
	require.ErrorContains(t, run(50*time.Millisecond, "/bin/sh", "-c", "sleep 1000 & wait"), "onChange.timeout")
	require.NoError(t, OnChange{}.react(context.Background()))
}

func TestASignalGoesOnlyToWhomTheFileMayName(t *testing.T) {
	dir := private(t)
	in := func(name string) string { return filepath.Join(dir, name) }
	cmd := exec.Command("/bin/sleep", "1000")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	require.NoError(t, cmd.Start())
	pid := fmt.Sprintln(cmd.Process.Pid)
	for name, content := range map[string]string{"garbage": "x", "init": "1\n", "group": "-5", "empty": "", "open": pid, "pid": pid} {
		require.NoError(t, os.WriteFile(in(name), []byte(content), 0o600))
	}
	require.NoError(t, os.Chmod(in("open"), 0o666))
	require.NoError(t, os.Symlink(in("pid"), in("link")))
	for _, name := range []string{"garbage", "init", "group", "empty", "open", "link", "none"} {
		require.ErrorContains(t, (&PIDSignal{in(name), "HUP"}).send(), "pidFile", name)
	}
	// Not HUP: who runs the tests under nohup has it ignored in all processes.
	require.NoError(t, (&PIDSignal{in("pid"), "SIGUSR1"}).send())
	require.Error(t, cmd.Wait())
	require.Equal(t, syscall.SIGUSR1, cmd.ProcessState.Sys().(syscall.WaitStatus).Signal())
	require.ErrorContains(t, (&PIDSignal{in("pid"), "HUP"}).send(), "does not run")
}
