package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
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
	health, err := d.healthClient()
	if err != nil {
		return err
	}
	nodes, left := make([]*devNode, 0, d.nodes), 0
	deaths := make(chan *devNode, d.nodes)
	for number := 1; number <= d.nodes; number++ {
		n, err := d.startNode(ctx, health, number, deaths)
		if err != nil {
			return errors.Join(err, d.stopNodes(nodes))
		}
		nodes = append(nodes, n)
		if n.cmd != nil {
			left++
		}
	}
	ready := make(chan error, 1)
	waiting, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() { ready <- d.awaitReady(waiting, health) }()
	for waitingForReady := true; ; {
		select {
		case n := <-deaths:
			d.tellDeath(n)
			if left--; left == 0 {
				cancel()
				if waitingForReady {
					<-ready
				}
				return d.allGone(health)
			}
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
			d.strangers(health)
			return err
		}
	}
}

// strangers names the nodes that somebody started by hand, and counts them:
// they are not ours to stop, and would surprise the next run.
func (d *devCluster) strangers(health *http.Client) int {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	count := 0
	for number := 1; number <= d.nodes; number++ {
		if _, err := d.get(ctx, health, number, "health/live"); err == nil {
			fmt.Fprintf(d.out, "%s was started by hand and still runs.\n", nodeName(number))
			count++
		}
	}
	return count
}

// startNode starts a server in a process group of its own, so that Ctrl-C in
// the terminal reaches the supervisor only. A node that already answers was
// started by hand and is left alone.
func (d *devCluster) startNode(ctx context.Context, health *http.Client, number int, deaths chan<- *devNode) (*devNode, error) {
	n := &devNode{number: number, ended: make(chan struct{})}
	if _, err := d.get(ctx, health, number, "health/live"); err == nil {
		fmt.Fprintf(d.out, "%s runs already; it was started by hand and stays so.\n", nodeName(number))
		return n, nil
	}
	log, err := os.OpenFile(d.nodePath(number, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	n.cmd = exec.Command(d.binary, "server", "--config", d.nodePath(number, "config.yaml"), "--"+supervisedFlag)
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
	return n, nil
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

// removePID removes the pid file of a process that could not do so itself.
func (d *devCluster) removePID(n *devNode) {
	removePIDFile(d.nodePath(n.number, "pid"), n.cmd.Process.Pid)
}

// allGone ends a supervisor that has nothing left to supervise, so that the
// next one can have the folder.
func (d *devCluster) allGone(health *http.Client) error {
	fmt.Fprintf(d.out, "\nAll nodes that were started here have ended. strongroom dev starts them again; the data stays in %s.\n", d.dir)
	if d.strangers(health) == 0 {
		return errors.Join(errAllGone, removeIfThere(d.path("ready")))
	}
	return errAllGone
}

var errAllGone = errors.New("all nodes have ended")

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
