package e2e_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/client"
	"github.com/strongroom/strongroom/test/localcluster"
)

// consumerVariable makes the test's binary an application: a process that
// reads a secret through the cache, and moves to a new version when it is
// told to.
const consumerVariable = "STRONGROOM_E2E_CONSUMER"

// application is the other end of that process.
type application struct {
	instance string
	cmd      *exec.Cmd
	in       io.WriteCloser
	out      *bufio.Scanner
}

const rotatedPath = "/app/e2e/consumers/db"

// consume is main of an application: instance, authority and token come as
// the first lines of standard input.
func consume(addresses string) error {
	in := bufio.NewScanner(os.Stdin)
	line := func() string { in.Scan(); return in.Text() }
	instance, ca, token := line(), line(), line()
	c, err := client.New(client.Config{
		Addresses: strings.Split(addresses, ","), CAFile: ca, AttemptTimeout: 3 * time.Second,
		Token: client.TokenFunc(func() ([]byte, error) { return []byte(token), nil }),
	})
	if err != nil {
		return err
	}
	cache, err := client.NewCache(c, client.CacheConfig{Instance: instance, ConfirmManually: true})
	if err != nil {
		return err
	}
	defer cache.Close()
	cache.OnChange(rotatedPath, func(v *client.Value) error {
		defer v.Wipe()
		fmt.Printf("sees %d\n", v.Version())
		return nil
	})
	for in.Scan() { // each line: take what is there, and use nothing else from now on
		v, err := cache.Get(context.Background(), rotatedPath)
		if err != nil {
			return err
		}
		used := v.Version()
		v.Wipe()
		if err := cache.Confirm(context.Background(), rotatedPath, used); err != nil {
			return err
		}
		fmt.Printf("uses %d\n", used)
	}
	return nil
}

func startApplication(t *testing.T, c *localcluster.Cluster, instance, token string) *application {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), consumerVariable+"="+strings.Join([]string{c.Addr(1), c.Addr(2), c.Addr(3)}, ","))
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() { _ = in.Close(); _ = cmd.Wait() })
	_, err = fmt.Fprintf(in, "%s\n%s\n%s\n", instance, filepath.Join(c.Dir, "ca.pem"), token)
	require.NoError(t, err)
	return &application{instance: instance, cmd: cmd, in: in, out: bufio.NewScanner(out)}
}

func (a *application) tell(t *testing.T) {
	t.Helper()
	_, err := fmt.Fprintln(a.in, "move")
	require.NoError(t, err)
}

func (a *application) says(t *testing.T, want string) {
	t.Helper()
	for a.out.Scan() {
		if a.out.Text() == want {
			return
		}
	}
	require.Failf(t, "the application ended", "%s was to say %q: %v", a.instance, want, a.out.Err())
}

type consumerLines struct {
	Consumers []struct {
		Version   uint64
		Instance  string
		Confirmed bool
	}
	Unknown *struct{ Nodes []string }
}

// holders answers who may hold a version, as a node lists it, unless it says
// that it does not know all.
func holders(c *localcluster.Cluster, node int, version uint64) ([]string, bool) {
	body := fmt.Sprintf(`{"path":%q,"version":%d,"holding":true,"limit":1000}`, rotatedPath, version)
	r, err := c.Do(context.Background(), node, c.Token, "secrets/listConsumers", body)
	var lines consumerLines
	if err != nil || r.Status != 200 || json.Unmarshal(r.Body, &lines) != nil || lines.Unknown != nil {
		return nil, false
	}
	out := []string{}
	for _, one := range lines.Consumers {
		out = append(out, one.Instance)
	}
	return out, true
}

// destroyer tries to destroy the version all the time, on all nodes, until
// it succeeds, and says so.
func destroyer(ctx context.Context, c *localcluster.Cluster, version uint64) (done chan error, refused *atomic.Int64) {
	done, refused = make(chan error, 1), &atomic.Int64{}
	go func() {
		for node := 1; ctx.Err() == nil; node = node%3 + 1 {
			r, err := c.Do(ctx, node, c.Token, "secrets/destroyVersion", fmt.Sprintf(`{"path":%q,"version":%d}`, rotatedPath, version))
			switch {
			case err != nil || r.Retryable():
			case r.Status == 200, r.Code() == "VersionNotActive": // an answer that was lost with its leader
				done <- nil
				return
			case r.Code() == "VersionInUse":
				refused.Add(1)
			default:
				done <- fmt.Errorf("%d %s", r.Status, r.Body)
				return
			}
		}
		done <- ctx.Err()
	}()
	return done, refused
}

// Fifty processes use a password. Whatever dies meanwhile, the old one is not
// destroyed while one of them has not moved, and is once the last has.
func TestARotationWaitsForFiftyConsumersWhileLeadersAreKilled(t *testing.T) {
	const count = 50
	c := suite.Fresh(t, 3)
	c.OK(1, "secrets/createSecret", `{"path":%q,"value":%q}`, rotatedPath, localcluster.B64("one"))
	token := c.Principal("consumers", `[{"effect":"allow","roles":["secrets-read-access","secrets-value-access"],"paths":["/app/e2e/consumers/*"]}]`)
	var apps []*application
	waiting := []string{}
	for i := range count {
		a := startApplication(t, c, fmt.Sprintf("pod-%02d", i), token)
		a.tell(t)
		apps = append(apps, a)
		waiting = append(waiting, a.instance)
	}
	for _, a := range apps {
		a.says(t, "uses 1")
	}
	listed, ok := holders(c, 2, 1)
	require.True(t, ok)
	require.Equal(t, waiting, listed)

	c.OK(1, "secrets/putSecretValue", `{"path":%q,"value":%q}`, rotatedPath, localcluster.B64("two"))
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	done, refused := destroyer(ctx, c, 1)
	for _, a := range apps {
		a.says(t, "sees 2") // they have it, and still use the other one
	}
	for i, a := range apps {
		select {
		case err := <-done:
			require.Failf(t, "destroyed too early", "%d have not moved: %v", len(waiting), err)
		default:
		}
		if i == 15 || i == 35 {
			leader := c.Leader()
			c.Signal(leader, syscall.SIGKILL)
			c.AwaitEnd(leader)
			c.StartNode(leader)
		}
		before := refused.Load()
		a.tell(t)
		a.says(t, "uses 2")
		waiting = slices.Delete(waiting, 0, 1)
		// At each moment the list holds exactly those who have not moved, or says
		// that a node which was killed has not told yet what it knew.
		c.Await("the list to be exact", func() bool {
			listed, ok := holders(c, 1+i%3, 1)
			require.True(t, !ok || slices.Equal(waiting, listed), "waiting: %v, listed: %v", waiting, listed)
			return ok
		})
		if i < count-1 {
			c.Await("a refusal", func() bool { return refused.Load() > before })
		}
	}
	require.NoError(t, <-done)
	state := c.OK(3, "secrets/listSecretVersions", `{"path":%q}`, rotatedPath)["versions"].([]any)[1].(map[string]any)["state"]
	require.Equal(t, "destroyed", state)
	t.Logf("%d destructions were refused", refused.Load())
	for _, a := range apps {
		a.tell(t)
		a.says(t, "uses 2") // and the new one is read by all
	}
}

// The command that people use.
func TestRotateWaitsShowsWhoMovesAndDestroys(t *testing.T) {
	c := suite.Shared(t)
	const path = "/app/e2e/rotate/db"
	c.OK(1, "secrets/createSecret", `{"path":%q,"value":%q}`, path, localcluster.B64("one"))
	token := c.Principal("rotate-web", `[{"effect":"allow","roles":["secrets-value-access"],"paths":["/app/e2e/rotate/*"]}]`)
	read := func(instance string) {
		require.Equal(t, 200, c.Send(1, token, "secrets/getSecretValue", `{"path":%q,"instance":%q}`, path, instance).Status)
	}
	read("pod-1")
	read("pod-2")

	refused := c.CLI("", "secret", "destroy", path, "--version", "1")
	require.Equal(t, 1, refused.Code)
	require.Contains(t, refused.Err, "current")
	gaveUp := c.CLI("", "secret", "rotate", path, "--wait", "--wait-for", "1s")
	require.Equal(t, 1, gaveUp.Code, gaveUp.Err)
	require.Contains(t, gaveUp.Err, "version 2 of "+path+" is current")
	require.Contains(t, gaveUp.Err, "0 of 2 consumers have moved to version 2; waiting for rotate-web/pod-1 until ")
	require.Contains(t, gaveUp.Err, "was not destroyed")
	refused = c.CLI("", "secret", "destroy", path, "--version", "1")
	require.Equal(t, 1, refused.Code)
	require.Contains(t, refused.Err, "in use by:   rotate-web/pod-2 until ")

	read("pod-3") // version 2
	finished := make(chan localcluster.Run, 1)
	go func() { finished <- c.CLI("three", "secret", "rotate", path, "--value-file", "-", "--wait") }()
	c.Await("version 3", func() bool {
		return c.OK(1, "secrets/describeSecret", `{"path":%q}`, path)["currentVersion"] == float64(3)
	})
	for _, instance := range []string{"pod-1", "pod-2", "pod-3"} {
		require.Equal(t, 200, c.Send(2, token, "secrets/confirmVersion", `{"path":%q,"version":3,"instance":%q}`, path, instance).Status)
	}
	run := <-finished
	require.Equal(t, 0, run.Code, run.Err)
	require.Contains(t, run.Err, "nobody holds version 2 any more; it is destroyed")
	listed := c.CLI("", "secret", "consumers", path, "--version", "3")
	require.Contains(t, listed.Out, "pod-3")
	require.Equal(t, 0, c.CLI("", "secret", "destroy", path, "--version", "1").Code)
	value := c.CLI("", "secret", "get", path)
	require.Equal(t, "three", strings.TrimSpace(value.Out))

	// With settings for rotations it is the cluster that makes the value.
	c.OK(1, "secrets/updateSecret", `{"path":%q,"rotation":{"kind":"generate","generate":{"kind":"hex","length":16}}}`, path)
	refused = c.CLI("four", "secret", "rotate", path, "--value-file", "-")
	require.Equal(t, 2, refused.Code, refused.Err)
	require.Contains(t, refused.Err, "rotated by its settings (generate)")
	run = c.CLI("", "secret", "rotate", path)
	require.Equal(t, 0, run.Code, run.Err)
	require.Contains(t, run.Err, "version 4 of "+path+" is current")
	value = c.CLI("", "secret", "get", path)
	require.Len(t, strings.TrimSpace(value.Out), 32)
}
