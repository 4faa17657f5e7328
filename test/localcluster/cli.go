package localcluster

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/stretchr/testify/require"
)

// Run is how a command line ended.
type Run struct {
	Out  string
	Err  string
	Code int
}

// CLI runs the binary's command line as a user of the cluster does, who has
// sourced its env file and has nothing else in the environment.
func (c *Cluster) CLI(stdin string, args ...string) Run {
	c.t.Helper()
	cmd := c.Command(args...)
	cmd.Stdin = strings.NewReader(stdin)
	return c.run(cmd)
}

// Command prepares a command line without running it.
func (c *Cluster) Command(args ...string) *exec.Cmd {
	c.t.Helper()
	cmd := exec.Command(c.Binary, args...)
	cmd.Env = c.env()
	return cmd
}

// Bash runs a script in a folder, with PATH as its whole environment.
func (c *Cluster) Bash(dir, script string, args ...string) Run {
	c.t.Helper()
	cmd := exec.Command("bash", append([]string{"-c", script, "bash"}, args...)...)
	cmd.Dir, cmd.Env = dir, []string{"PATH=" + os.Getenv("PATH")}
	return c.run(cmd)
}

func (c *Cluster) run(cmd *exec.Cmd) Run {
	c.t.Helper()
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		require.NoError(c.t, err)
	}
	return Run{out.String(), errOut.String(), cmd.ProcessState.ExitCode()}
}

// env is what a shell has after it sourced the env file.
func (c *Cluster) env() []string {
	c.t.Helper()
	cmd := exec.Command("bash", "-c", `set -eu; source "$1"; env -0`, "bash", filepath.Join(c.Dir, "env"))
	cmd.Env = []string{"PATH=" + os.Getenv("PATH")}
	out, err := cmd.Output()
	require.NoError(c.t, err)
	return strings.Split(strings.TrimSuffix(string(out), "\x00"), "\x00")
}
