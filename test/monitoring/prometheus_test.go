package monitoring_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/test/localcluster"
)

// server is a Prometheus that scrapes one cluster.
type server struct {
	t    *testing.T
	base string
	c    *localcluster.Cluster
}

// prometheus starts one, with our rules, and stops it at the end of the test.
func prometheus(t *testing.T, c *localcluster.Cluster) *server {
	t.Helper()
	dir := t.TempDir()
	rules, err := filepath.Abs(filepath.Join(root, "deploy/prometheus/rules"))
	require.NoError(t, err)
	var targets []string
	for node := 1; node <= c.Nodes; node++ {
		targets = append(targets, strings.TrimPrefix(c.Addr(node), "https://"))
	}
	config := fmt.Sprintf(`global: {scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}
rule_files: [%q]
scrape_configs:
  - job_name: strongroom
    scheme: https
    tls_config: {ca_file: %q}
    static_configs: [{targets: [%s]}]
`, rules+"/*.yml", filepath.Join(c.Dir, "ca.pem"), strings.Join(targets, ", "))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "prometheus.yml"), []byte(config), 0o600))
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	addr := listener.Addr().String()
	require.NoError(t, listener.Close())
	log, err := os.Create(filepath.Join(dir, "log"))
	require.NoError(t, err)
	cmd := exec.Command("prometheus", "--config.file", filepath.Join(dir, "prometheus.yml"), "--storage.tsdb.path", filepath.Join(dir, "data"), "--web.listen-address", addr)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			raw, _ := os.ReadFile(log.Name())
			t.Logf("prometheus:\n%s", raw)
		}
		_ = log.Close()
	})
	s := &server{t: t, base: "http://" + addr, c: c}
	c.Await("Prometheus", func() bool {
		resp, err := http.Get(s.base + "/-/ready")
		if err != nil {
			return false
		}
		return resp.Body.Close() == nil && resp.StatusCode == http.StatusOK
	})
	return s
}

// get answers data of the API of Prometheus, or its error.
func (s *server) get(path string, into any) error {
	s.t.Helper()
	resp, err := http.Get(s.base + path)
	require.NoError(s.t, err)
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	require.NoError(s.t, err)
	var answer struct {
		Status, Error string
		Data          json.RawMessage
	}
	require.NoError(s.t, json.Unmarshal(raw, &answer), string(raw))
	if answer.Status != "success" {
		return fmt.Errorf("%s", answer.Error)
	}
	return json.Unmarshal(answer.Data, into)
}

// series answers how many a query has now.
func (s *server) series(expr string) (int, error) {
	var data struct{ Result []json.RawMessage }
	err := s.get("/api/v1/query?query="+url.QueryEscape(expr), &data)
	return len(data.Result), err
}

type state struct {
	Name   string
	State  string
	Health string
	Error  string `json:"lastError"`
}

func (s *server) rules() map[string]state {
	s.t.Helper()
	var data struct{ Groups []struct{ Rules []state } }
	require.NoError(s.t, s.get("/api/v1/rules", &data))
	out := map[string]state{}
	for _, g := range data.Groups {
		for _, r := range g.Rules {
			out[r.Name] = r
		}
	}
	return out
}

// busy is a cluster in which a bit of everything happens that boards show.
func busy(t *testing.T) *localcluster.Cluster {
	t.Helper()
	c := suite.Fresh(t, 3)
	c.Configure(func(node int) string {
		dir := c.NodeDir(node)
		return fmt.Sprintf("audit:\n  checkpointEvery: 1s\n  sinks:\n    - {name: siem, type: file, path: %q}\nsnapshots:\n  dir: %q\n", filepath.Join(dir, "sink.jsonl"), filepath.Join(dir, "backups"))
	})
	c.OK(1, "secrets/createSecret", `{"path":"/app/prod/web/db","value":"eA=="}`)
	c.OK(1, "kms/createKey", `{"alias":"alias/leaving"}`)
	c.OK(1, "kms/scheduleKeyDeletion", `{"keyId":"alias/leaving"}`)
	c.OK(1, "kms/createKey", `{"alias":"alias/turning"}`)
	c.OK(1, "kms/setKeyRotation", `{"keyId":"alias/turning","period":"720h"}`)
	return c
}

// work is done while Prometheus looks.
func work(c *localcluster.Cluster, round int) {
	for node := 1; node <= c.Nodes; node++ {
		c.OK(node, "secrets/getSecretValue", `{"path":"/app/prod/web/db","instance":"pod-%d"}`, node)
	}
	c.OK(1, "secrets/putSecretValue", `{"path":"/app/prod/web/db","value":"eA=="}`)
	c.Send(1, "sr_nobody", "secrets/getSecretValue", `{"path":"/app/prod/web/db%d"}`, round)
}

// Every query of every board finds something in a cluster that works, every
// rule is one that Prometheus can evaluate, what rules are about is there, and
// nothing fires at once.
func TestBoardsAndAlertsFindWhatThereIs(t *testing.T) {
	c := busy(t)
	s := prometheus(t, c)
	round := 0
	c.Await("a backup", func() bool {
		n, err := s.series("strongroom_snapshot_verified_timestamp_seconds > 0")
		return err == nil && n == c.Nodes
	})
	all := queries(t, "strongroom")
	require.Greater(t, len(all), 60)
	var empty []string
	c.Await("an answer to each query of the boards", func() bool {
		round++
		work(c, round)
		empty = nil
		for _, q := range all {
			n, err := s.series(q.expr)
			require.NoError(t, err, "%s: %s: %s", q.board, q.panel, q.expr)
			if n == 0 {
				empty = append(empty, fmt.Sprintf("%s: %s: %s", q.board, q.panel, q.expr))
			}
		}
		if len(empty) != 0 && round%10 == 0 {
			t.Logf("no data yet:\n%s", strings.Join(empty, "\n"))
		}
		return len(empty) == 0
	})
	for _, a := range alerts(t) {
		for _, name := range metric.FindAllString(a.Expr, -1) {
			n, err := s.series(name)
			require.NoError(t, err)
			require.Positive(t, n, "%s is about %s", a.Name, name)
		}
	}
	rules := s.rules()
	require.Len(t, rules, len(alerts(t)))
	for name, r := range rules {
		require.Equal(t, "ok", r.Health, "%s: %s", name, r.Error)
		if name != "StrongroomDiskHangs" { // the disk of a busy machine does, now and then
			require.NotEqual(t, "firing", r.State, name)
		}
	}
}

// A node that is gone is noticed, and that the next one would be one too many.
func TestANodeThatIsGoneIsNoticed(t *testing.T) {
	c := busy(t)
	s := prometheus(t, c)
	c.Await("all nodes", func() bool {
		n, err := s.series(`up{job="strongroom"} == 1`)
		return err == nil && n == c.Nodes
	})
	follower := slices.IndexFunc([]int{1, 2, 3}, func(node int) bool { return node != c.Leader() }) + 1
	c.Kill(follower)
	for _, name := range []string{"StrongroomNodeDown", "StrongroomOneFailureFromOutage"} {
		c.Await(name, func() bool { state := s.rules()[name].State; return state == "pending" || state == "firing" })
	}
}
