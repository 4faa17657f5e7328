package torture

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
)

// node is one member, or one that may become a member.
type node struct {
	lab    *Lab
	number int
	dir    string
	netns  string
	disk   string
	// The process that runs or ran last; nil before the first start.
	cmd   *exec.Cmd
	ended chan struct{}
}

func (n *node) name() string         { return "node" + strconv.Itoa(n.number) }
func (n *node) url() string          { return "https://" + nodeAddress(n.number) + ":7400" }
func (n *node) link() string         { return nodeAddress(n.number) + ":7401" }
func (n *node) config() string       { return n.file("config.yaml") }
func (n *node) trail() string        { return filepath.Join(n.disk, "audit") }
func (n *node) file(s string) string { return filepath.Join(n.dir, s) }

// start starts the server in the node's network. It dies with us.
func (n *node) start() error {
	log, err := os.OpenFile(n.file("log"), os.O_APPEND|os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	// nsenter becomes the server, so the number of the process is the server's.
	cmd := exec.Command("nsenter", "--net="+n.netns, n.lab.binary, "server", "--config", n.config())
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return err
	}
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait() // how a killed process ends is no news
		close(ended)
	}()
	n.cmd, n.ended = cmd, ended
	return nil
}

// runs reports whether the server has not ended.
func (n *node) runs() bool {
	if n.cmd == nil {
		return false
	}
	select {
	case <-n.ended:
		return false
	default:
		return true
	}
}

func (n *node) signal(s syscall.Signal) error {
	if !n.runs() {
		return fmt.Errorf("%s does not run", n.name())
	}
	return n.cmd.Process.Signal(s)
}

// kill ends the server at once. It may have ended by itself.
func (n *node) kill() {
	if n.runs() {
		_ = n.cmd.Process.Kill()
		<-n.ended
	}
}

// stopped reports whether the process is held by SIGSTOP.
func (n *node) stopped() bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", n.cmd.Process.Pid))
	if err != nil {
		return false
	}
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	return len(fields) > 0 && fields[0] == "T"
}

// worker is the process of the node's HSM module, 0 if there is none now.
func (n *node) worker() int {
	children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", n.cmd.Process.Pid))
	if err != nil || len(children) == 0 {
		children = childrenOf(n.cmd.Process.Pid)
	}
	for _, text := range strings.Fields(string(children)) {
		pid, err := strconv.Atoi(text)
		if err != nil {
			continue
		}
		line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		if err == nil && strings.Contains(string(line), "hsm-worker") {
			return pid
		}
	}
	return 0
}

// childrenOf asks every thread: a process is the child of the thread that
// started it.
func childrenOf(pid int) []byte {
	var out []byte
	files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, file := range files {
		one, err := os.ReadFile(file)
		if err == nil {
			out = append(append(out, one...), ' ')
		}
	}
	return out
}

// healthy answers whether GET /api/v1/health/WHAT is 200.
func (n *node) healthy(what string) bool {
	resp, err := n.lab.http.Get(n.url() + "/api/v1/health/" + what)
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}

// metrics is what the node tells Prometheus, empty if it does not answer.
func (n *node) metrics() string {
	resp, err := n.lab.http.Get(n.url() + "/metrics")
	if err != nil {
		return ""
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		return ""
	}
	return string(raw)
}

// metric is the value of a metric without labels.
func (n *node) metric(name string) (string, bool) {
	m := regexp.MustCompile(`(?m)^` + name + ` (\S+)$`).FindStringSubmatch(n.metrics())
	if m == nil {
		return "", false
	}
	return m[1], true
}

// said is the node's log from a place on.
func (n *node) said(from int) string {
	raw, err := os.ReadFile(n.file("log"))
	if err != nil || from > len(raw) {
		return ""
	}
	return string(raw[from:])
}

// here is the place in the node's log where it is now.
func (n *node) here() int { return len(n.said(0)) }
