package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const nodes = 3

// cluster is one of strongroom dev, whose nodes are killed and started by hand.
type cluster struct {
	options
	dir     string
	dev     *exec.Cmd
	devDone chan struct{}
	byHand  map[int]*exec.Cmd
	mounts  []string
	token   string
	client  *http.Client
}

func start(ctx context.Context, o options) (*cluster, error) {
	dir, err := os.MkdirTemp("", "strongroom-failover-")
	if err != nil {
		return nil, err
	}
	if o.binary, err = filepath.Abs(o.binary); err != nil {
		return nil, err
	}
	c := &cluster{options: o, dir: dir, byHand: map[int]*exec.Cmd{}}
	if err := c.up(ctx); err != nil {
		c.stop()
		return nil, err
	}
	return c, nil
}

func (c *cluster) folder() string { return filepath.Join(c.dir, "cluster") }
func (c *cluster) nodeDir(node int) string {
	return filepath.Join(c.folder(), "node"+strconv.Itoa(node))
}
func (c *cluster) config(node int) string { return filepath.Join(c.nodeDir(node), "config.yaml") }
func (c *cluster) address(node int) string {
	return "https://127.0.0.1:" + strconv.Itoa(c.port+10*(node-1))
}
func (c *cluster) file(name string) string { return filepath.Join(c.folder(), name) }
func (c *cluster) waits() <-chan time.Time { return time.After(20 * time.Millisecond) }

func (c *cluster) up(ctx context.Context) error {
	_ = os.Remove(c.file("ready"))
	c.dev = exec.Command(c.binary, "dev", "--nodes", strconv.Itoa(nodes), "--dir", c.folder(), "--base-port", strconv.Itoa(c.port))
	var terminal bytes.Buffer
	c.dev.Stdout, c.dev.Stderr = &terminal, &terminal
	c.dev.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	if err := c.dev.Start(); err != nil {
		return err
	}
	c.devDone = make(chan struct{})
	go func(done chan struct{}, cmd *exec.Cmd) {
		_ = cmd.Wait() // how it ended is in the terminal
		close(done)
	}(c.devDone, c.dev)
	for {
		if _, err := os.Stat(c.file("ready")); err == nil {
			break
		}
		select {
		case <-c.devDone:
			return fmt.Errorf("the cluster does not start:\n%s", terminal.String())
		case <-ctx.Done():
			return ctx.Err()
		case <-c.waits():
		}
	}
	token, err := os.ReadFile(c.file("admin.token"))
	if err != nil {
		return err
	}
	ca, err := os.ReadFile(c.file("ca.pem"))
	if err != nil {
		return err
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(ca)
	c.token = strings.TrimSpace(string(token))
	c.client = &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, MaxIdleConnsPerHost: 64}}
	return c.ready(ctx)
}

func (c *cluster) down() {
	for _, cmd := range c.byHand {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
	c.byHand = map[int]*exec.Cmd{}
	if c.dev != nil && c.devDone != nil {
		_ = c.dev.Process.Signal(syscall.SIGINT)
		<-c.devDone
		c.dev = nil
	}
}

func (c *cluster) stop() {
	c.down()
	for _, mount := range c.mounts {
		_ = command("fsfreeze", "-u", mount)
		if err := command("umount", mount); err != nil {
			fmt.Fprintln(os.Stderr, "failover:", err)
		}
	}
	if err := os.RemoveAll(c.dir); err != nil {
		fmt.Fprintln(os.Stderr, "failover:", err)
	}
}

// call sends one request to a node, and does not send it again.
func (c *cluster) call(ctx context.Context, node int, operation, body string) ([]byte, int, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.address(node)+"/api/v1/"+operation, strings.NewReader(body))
	if err != nil {
		return nil, 0, err
	}
	req.Header.Set("Authorization", "Bearer "+c.token)
	resp, err := c.client.Do(req)
	if err != nil {
		return nil, 0, err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	return answer, resp.StatusCode, err
}

func (c *cluster) health(ctx context.Context, node int, what string) bool {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.address(node)+"/api/v1/health/"+what, nil)
	if err != nil {
		return false
	}
	resp, err := c.client.Do(req)
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}

// ready waits until every node is, and serves.
func (c *cluster) ready(ctx context.Context) error {
	for node := 1; node <= nodes; {
		if c.health(ctx, node, "ready") {
			node++
			continue
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-c.waits():
		}
	}
	return nil
}

func (c *cluster) leader(ctx context.Context) (int, error) {
	for {
		for node := 1; node <= nodes; node++ {
			if c.health(ctx, node, "leader") {
				return node, nil
			}
		}
		select {
		case <-ctx.Done():
			return 0, ctx.Err()
		case <-c.waits():
		}
	}
}

// killNode kills the server of a node, which it knows by its command line.
func (c *cluster) killNode(node int) error {
	if cmd := c.byHand[node]; cmd != nil {
		delete(c.byHand, node)
		err := cmd.Process.Kill()
		go func() { _ = cmd.Wait() }() // nothing is to be learnt from it
		return err
	}
	all, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		return err
	}
	for _, path := range all {
		raw, err := os.ReadFile(path)
		if args := strings.Split(string(raw), "\x00"); err != nil || len(args) < 4 || args[0] != c.binary || args[1] != "server" || args[3] != c.config(node) {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		if err != nil {
			return err
		}
		return syscall.Kill(pid, syscall.SIGKILL)
	}
	return fmt.Errorf("node %d does not run", node)
}

func (c *cluster) startNode(ctx context.Context, node int) error {
	log, err := os.OpenFile(filepath.Join(c.nodeDir(node), "log"), os.O_APPEND|os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(c.binary, "server", "--config", c.config(node))
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return err
	}
	c.byHand[node] = cmd
	return c.ready(ctx)
}

// onLoopDevices moves each node onto a file system of its own, which can be
// frozen.
func (c *cluster) onLoopDevices(ctx context.Context) error {
	c.down()
	for node := 1; node <= nodes; node++ {
		image, at := filepath.Join(c.dir, "disk"+strconv.Itoa(node)), c.nodeDir(node)
		err := errors.Join(
			command("truncate", "-s", "512M", image), command("mkfs.ext4", "-q", image),
			os.Rename(at, at+".old"), os.Mkdir(at, 0o700), command("mount", "-o", "loop", image, at),
		)
		if err != nil {
			return err
		}
		c.mounts = append(c.mounts, at)
		if err := command("cp", "-a", at+".old/.", at+"/"); err != nil {
			return err
		}
	}
	return c.up(ctx)
}

func command(name string, args ...string) error {
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, out)
	}
	return nil
}
