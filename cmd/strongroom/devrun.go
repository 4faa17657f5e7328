package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// devStop is how long stopping may take before the rest is killed. It is
// more than a server gives itself.
const devStop = 27 * time.Second

// devNode is one server process of ours.
type devNode struct {
	number int
	cmd    *exec.Cmd // nil: somebody else runs this node
	ended  chan struct{}
	err    error // of Wait, once ended is closed
}

// supervise starts the nodes, says when they are ready, and stays until ctx
// ends. A node that dies is told and left to the user: the cluster is there
// to play with failures, and one that heals itself shows none.
func (d *devCluster) supervise(ctx context.Context) error {
	client, err := d.client()
	if err != nil {
		return err
	}
	nodes := make([]*devNode, 0, d.nodes)
	deaths := make(chan *devNode, d.nodes)
	for number := 1; number <= d.nodes; number++ {
		n, err := d.startNode(ctx, client, number, deaths)
		if err != nil {
			return errors.Join(err, d.stopNodes(nodes))
		}
		nodes = append(nodes, n)
	}
	ready := make(chan error, 1)
	waiting, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() { ready <- d.awaitReady(waiting, client) }()
	for waitingForReady := true; ; {
		select {
		case n := <-deaths:
			d.tellDeath(n)
		case err := <-ready:
			if ctx.Err() == nil && err != nil {
				fmt.Fprintln(d.out, "The cluster is not usable:", err)
			}
			ready, waitingForReady = nil, false
		case <-ctx.Done():
			cancel()
			if waitingForReady {
				<-ready
			}
			fmt.Fprintln(d.out, "Stopping …")
			err := d.stopNodes(nodes)
			d.tellStrangers(client)
			return err
		}
	}
}

// tellStrangers names the nodes that somebody started by hand: they are not
// ours to stop, and would surprise the next run.
func (d *devCluster) tellStrangers(client *http.Client) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	for number := 1; number <= d.nodes; number++ {
		if _, err := d.get(ctx, client, number, "health/live"); err == nil {
			fmt.Fprintf(d.out, "%s was started by hand and still runs.\n", nodeName(number))
		}
	}
}

// startNode starts a server in a process group of its own, so that Ctrl-C in
// the terminal reaches the supervisor only. A node that already answers was
// started by hand and is left alone.
func (d *devCluster) startNode(ctx context.Context, client *http.Client, number int, deaths chan<- *devNode) (*devNode, error) {
	n := &devNode{number: number, ended: make(chan struct{})}
	if _, err := d.get(ctx, client, number, "health/live"); err == nil {
		fmt.Fprintf(d.out, "%s runs already; it was started by hand and stays so.\n", nodeName(number))
		return n, nil
	}
	log, err := os.OpenFile(d.nodePath(number, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	n.cmd = exec.Command(d.binary, "server", "--config", d.nodePath(number, "config.yaml"))
	n.cmd.Stdout, n.cmd.Stderr = log, log
	n.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := errors.Join(n.cmd.Start(), log.Close()); err != nil {
		return nil, fmt.Errorf("%s: %w", nodeName(number), err)
	}
	go func() {
		n.err = n.cmd.Wait()
		close(n.ended)
		deaths <- n
	}()
	return n, writeFile(d.nodePath(number, "pid"), []byte(strconv.Itoa(n.cmd.Process.Pid)+"\n"))
}

// tellDeath says what happened and what to do about it.
func (d *devCluster) tellDeath(n *devNode) {
	d.removePID(n)
	how := "ended"
	if n.err != nil {
		how = "died: " + n.err.Error()
	}
	fmt.Fprintf(d.out, "\n%s %s\n", nodeName(n.number), how)
	if last := lastLines(d.nodePath(n.number, "log"), 3); last != "" && n.err != nil {
		fmt.Fprintf(d.out, "  end of %s:\n%s", d.nodePath(n.number, "log"), last)
	}
	fmt.Fprintf(d.out, "  start it again with: %s server --config %s\n", shellQuote(d.binary), shellQuote(d.nodePath(n.number, "config.yaml")))
}

// removePID removes the pid file if it is still of that process.
func (d *devCluster) removePID(n *devNode) {
	path := d.nodePath(n.number, "pid")
	raw, err := os.ReadFile(path)
	if err == nil && strings.TrimSpace(string(raw)) == strconv.Itoa(n.cmd.Process.Pid) {
		_ = os.Remove(path)
	}
}

// stopNodes ends our servers and waits for them.
func (d *devCluster) stopNodes(nodes []*devNode) error {
	errs := []error{removeIfThere(d.path("ready"))}
	for _, n := range nodes {
		if n.cmd != nil {
			_ = n.cmd.Process.Signal(syscall.SIGTERM) // it may be gone already
		}
	}
	timeout := time.After(devStop)
	for _, n := range nodes {
		if n.cmd == nil {
			continue
		}
		select {
		case <-n.ended:
		case <-timeout:
			for _, late := range nodes {
				if late.cmd != nil {
					_ = late.cmd.Process.Kill()
				}
			}
			errs = append(errs, fmt.Errorf("%s did not stop within %v and was killed; its log is %s", nodeName(n.number), devStop, d.nodePath(n.number, "log")))
			<-n.ended
		}
		d.removePID(n)
	}
	fmt.Fprintf(d.out, "Stopped. The data stays in %s.\n", d.dir)
	return errors.Join(errs...)
}

// awaitReady waits for every node, sends a real request through each, and
// then writes env and ready.
func (d *devCluster) awaitReady(ctx context.Context, client *http.Client) error {
	started := time.Now()
	told := started
	for number := 1; number <= d.nodes; number++ {
		for {
			why := d.tryNode(ctx, client, number)
			if why == nil {
				break
			}
			if time.Since(told) > 15*time.Second {
				told = time.Now()
				fmt.Fprintf(d.out, "Still waiting for %s: %v\n", nodeName(number), why)
			}
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(50 * time.Millisecond):
			}
		}
	}
	if err := errors.Join(replaceFile(d.path("env"), []byte(d.env())), replaceFile(d.path("ready"), []byte(time.Now().UTC().Format(time.RFC3339)+"\n"))); err != nil {
		return err
	}
	d.tellReady(time.Since(started))
	return nil
}

// tellReady says where the cluster is and what to do first.
func (d *devCluster) tellReady(took time.Duration) {
	var addresses []string
	for number := 1; number <= d.nodes; number++ {
		addresses = append(addresses, nodeName(number)+" "+d.url(number))
	}
	fmt.Fprintf(d.out, `
Ready (%.1f s): %s

In another terminal:
  source %s
  export PATH=%s:$PATH
  strongroom cluster status
  strongroom secret generate /app/dev/web/db-password --kind password --create
  strongroom secret get /app/dev/web/db-password

Logs: %s
Ctrl-C stops all nodes; the data stays.
`, took.Seconds(), strings.Join(addresses, "  "), shellQuote(d.path("env")), shellQuote(dirOf(d.binary)), d.path("node*", "log"))
}

// tryNode answers nil when a node is ready and serves the administrator.
func (d *devCluster) tryNode(ctx context.Context, client *http.Client, number int) error {
	if _, err := d.get(ctx, client, number, "health/ready"); err != nil {
		return err
	}
	token, err := os.ReadFile(d.path("admin.token"))
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, d.url(number)+"/api/v1/iam/whoAmI", strings.NewReader("{}"))
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	_, err = ask(client, req)
	return err
}

func (d *devCluster) url(number int) string { return "https://" + d.apiAddress(number) }

func (d *devCluster) get(ctx context.Context, client *http.Client, number int, what string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, d.url(number)+"/api/v1/"+what, nil)
	if err != nil {
		return "", err
	}
	return ask(client, req)
}

// ask answers the body of a 200, and makes an error of everything else.
func ask(client *http.Client, req *http.Request) (string, error) {
	resp, err := client.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if err != nil {
		return "", err
	}
	if resp.StatusCode == http.StatusOK {
		return string(body), nil
	}
	var failed struct {
		Error struct{ Code, Message string }
	}
	if json.Unmarshal(body, &failed) == nil && failed.Error.Code != "" {
		return "", fmt.Errorf("%s: %s", failed.Error.Code, failed.Error.Message)
	}
	return "", fmt.Errorf("%s: %s", resp.Status, strings.TrimSpace(string(body)))
}

// client trusts this cluster's authority and no other.
func (d *devCluster) client() (*http.Client, error) {
	pem, err := os.ReadFile(d.path("ca.pem"))
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s holds no certificate", d.path("ca.pem"))
	}
	return &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}, Proxy: nil,
	}}, nil
}

// env is for the shell's source. STRONGROOM_ADDR is one address, so that it
// also serves curl; the command line goes on to the others when that node is
// down.
func (d *devCluster) env() string {
	var others []string
	for number := 2; number <= d.nodes; number++ {
		others = append(others, d.url(number))
	}
	return fmt.Sprintf("export %s=%s\nexport %s=%s\nexport %s=%s\nexport %s=%s\n",
		envAddr, d.url(1), envFallback, strings.Join(others, ","),
		envCACert, shellQuote(d.path("ca.pem")), envTokenFile, shellQuote(d.path("admin.token")))
}
