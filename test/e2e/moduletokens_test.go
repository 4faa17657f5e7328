package e2e_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/test/localcluster"
)

// nss is Mozilla's software token with a database of its own. It wants to be
// told by C_Initialize where that is.
func nss(t *testing.T, c *localcluster.Cluster) vendor {
	module := installed(t, "libnss3", "/usr/lib/*/libsoftokn3.so", "/usr/lib/*/nss/libsoftokn3.so", "/usr/lib64/libsoftokn3.so")
	dir := t.TempDir() // not the cluster's: NSS has no way to quote its '
	v := vendor{
		settings: fmt.Sprintf("  module: %q\n  initArgs: %q\n", module, fmt.Sprintf("configdir='sql:%s' dbTokenDescription='vendor'", dir)),
		pin:      "nss-pin-8461",
		cannot: []string{"Mozilla Foundation", "the enforcement of CKA_UNWRAP_TEMPLATE",
			"it unwraps keys to a readable form that the template forbids"},
	}
	pin := filepath.Join(dir, "pin")
	require.NoError(t, os.WriteFile(pin, []byte(v.pin+"\n"), 0o600))
	v.prepare = func(command) {
		require.Zero(t, c.Bash(dir, `certutil -N -d "sql:$1" -f "$2"`, dir, pin).Code)
	}
	v.contents = func() string {
		r := c.Bash(dir, `certutil -K -d "sql:$1" -f "$2" 2>&1; symkeyutil -L -d "sql:$1" -f "$2" 2>&1; sha256sum key4.db cert9.db`, dir, pin)
		require.Contains(t, r.Out, "no keys found")
		return r.Out
	}
	return v
}

// openCryptoki is IBM's software token behind a daemon, pkcsslotd.
func openCryptoki(t *testing.T, c *localcluster.Cluster) vendor {
	module := installed(t, "opencryptoki", "/usr/lib/*/pkcs11/libopencryptoki.so", "/usr/lib/*/opencryptoki/libopencryptoki.so", "/usr/lib64/opencryptoki/libopencryptoki.so")
	dir := t.TempDir()
	pid := startPkcsslotd(t, c, dir)
	v := vendor{
		settings: fmt.Sprintf("  module: %q\n", module),
		pin:      "84618461", // it takes four to eight characters
		within:   append(inNamespaces("nsenter"), "--target", pid, "--"),
		cannot:   []string{"IBM", "AES-256 key generation with CKA_UNWRAP_TEMPLATE", "CKR_ATTRIBUTE_TYPE_INVALID"},
	}
	v.prepare = func(run command) {
		soPIN := filepath.Join(dir, "so-pin")
		require.NoError(t, os.WriteFile(soPIN, []byte("87654321\n"), 0o600)) // what the token is born with
		r := run("hsm", "init-token", "--so-pin-file", soPIN)
		require.Zero(t, r.Code, r.Err)
	}
	v.contents = func() string {
		r := c.Bash(dir, `exec "$@"`, slices.Concat(v.within, []string{"pkcs11-tool", "--module", module, "--token-label", "vendor",
			"--login", "--pin", v.pin, "--list-objects"})...)
		require.Zero(t, r.Code, r.Err)
		files, err := os.ReadDir(filepath.Join("/proc", pid, "root/var/lib/opencryptoki/swtok/TOK_OBJ"))
		require.NoError(t, err)
		return r.Out + fmt.Sprint(files)
	}
	return v
}

// inNamespaces is the beginning of a command of util-linux that makes or
// enters the namespaces of the daemon. Who is not root needs a user namespace
// to be allowed to.
func inNamespaces(command string) []string {
	out := []string{command, "--mount", "--ipc"}
	switch {
	case os.Geteuid() == 0:
	case command == "unshare":
		out = append(out, "--user", "--map-root-user")
	default:
		out = append(out, "--user", "--preserve-credentials")
	}
	return out
}

// startPkcsslotd starts the daemon for the length of the test. All its paths
// were fixed when it was built, so it gets namespaces in which these are empty
// folders, a configuration with one slot, and a file of groups in which root
// is in the group pkcs11: what this machine has of openCryptoki is neither
// needed nor touched.
func startPkcsslotd(t *testing.T, c *localcluster.Cluster, dir string) (pid string) {
	for name, text := range map[string]string{
		"conf":  "version opencryptoki-3.1\nslot 3\n{\nstdll = libpkcs11_sw.so\n}\n",
		"group": "root:x:0:\npkcs11:x:0:root\n",
		"start": pkcsslotdStart,
	} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644))
	}
	line := append(inNamespaces("unshare"), "sh", filepath.Join(dir, "start"), dir)
	daemon := exec.Command(line[0], line[1:]...)
	daemon.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	said := filepath.Join(dir, "said")
	out, err := os.Create(said)
	require.NoError(t, err)
	defer out.Close()
	daemon.Stdout, daemon.Stderr = out, out
	require.NoError(t, daemon.Start())
	ended := make(chan struct{})
	go func() {
		_ = daemon.Wait() // it is killed, or has said why not
		close(ended)
	}()
	t.Cleanup(func() {
		_ = daemon.Process.Kill() // it may have ended
		<-ended
	})
	pid = strconv.Itoa(daemon.Process.Pid)
	c.Await("pkcsslotd", func() bool {
		select {
		case <-ended:
			text, err := os.ReadFile(said)
			require.NoError(t, err)
			require.FailNow(t, "pkcsslotd did not start", "it needs root, or user namespaces: %s", text)
		default:
		}
		run := filepath.Join("/proc", pid, "root/run")
		_, entered := os.Stat(filepath.Join(run, "of-this-test")) // and not the machine's
		_, listens := os.Stat(filepath.Join(run, "pkcsslotd.socket"))
		return entered == nil && listens == nil
	})
	return pid
}

const pkcsslotdStart = `set -eu
for empty in /run /dev/shm /var/log /var/lib/opencryptoki; do mount -t tmpfs none "$empty"; done
touch /run/of-this-test
mkdir -p /run/lock/opencryptoki/swtok /var/log/opencryptoki /var/lib/opencryptoki/swtok/TOK_OBJ
chmod -R 0770 /run/lock/opencryptoki /var/log/opencryptoki /var/lib/opencryptoki
mount --bind "$1/conf" /etc/opencryptoki/opencryptoki.conf
mount --bind "$1/group" /etc/group
exec /usr/sbin/pkcsslotd -f
`

// installed answers the module's path; without it the test fails, as nothing
// is skipped.
func installed(t *testing.T, pkg string, patterns ...string) string {
	t.Helper()
	for _, pattern := range patterns {
		found, err := filepath.Glob(pattern)
		require.NoError(t, err)
		if len(found) > 0 {
			return found[0]
		}
	}
	require.FailNow(t, pkg+" is not installed", "make testdeps installs it; tests with real modules are never skipped")
	return ""
}
