package torture

import (
	"fmt"
	"strconv"
	"syscall"
	"time"
)

func processFamilies() []family {
	both := []target{leader, follower}
	return []family{
		{"kill", []target{leader, follower, all}, 0, 3 * time.Second, 4, kill},
		{"pause", both, 700 * time.Millisecond, 10 * time.Second, 4, pause},
		{"kill of the HSM worker", both, 0, time.Second, 1, killWorker},
		{"stop", both, 0, 2 * time.Second, 2, stop},
		{"rolling restart", []target{all}, 0, 0, 1, rollingRestart},
		{"transfer storm", []target{all}, 3 * time.Second, 10 * time.Second, 2, transferStorm},
	}
}

// kill is signal 9, for all at once as when the mains fail. The nodes stay
// away for as long as the fault is held.
func kill(l *Lab, s step) (fault, error) {
	nodes := l.members()
	if s.On != all {
		n, err := l.pick(s)
		if err != nil {
			return fault{}, err
		}
		nodes = []*node{n}
	}
	for _, n := range nodes {
		if err := n.signal(syscall.SIGKILL); err != nil {
			return fault{}, err
		}
	}
	for _, n := range nodes {
		<-n.ended
	}
	return fault{disarm: func() error { return each(nodes, (*node).start) }}, nil
}

// pause holds the process; requests and heartbeats that come meanwhile wait in
// its sockets, and it knows nothing of the time that has passed.
func pause(l *Lab, s step) (fault, error) {
	n, err := l.pick(s)
	if err != nil {
		return fault{}, err
	}
	if err := n.signal(syscall.SIGSTOP); err != nil {
		return fault{}, err
	}
	return fault{
		verify: func() error { return l.await(n.name()+" to stand still", n.stopped) },
		disarm: func() error { return n.signal(syscall.SIGCONT) },
	}, nil
}

// killWorker ends the process that the HSM's module runs in.
func killWorker(l *Lab, s step) (fault, error) {
	n, err := l.pick(s)
	if err != nil {
		return fault{}, err
	}
	worker := n.worker()
	if worker == 0 {
		return fault{}, fmt.Errorf("%s has no HSM worker", n.name())
	}
	if err := syscall.Kill(worker, syscall.SIGKILL); err != nil {
		return fault{}, err
	}
	return fault{
		verify: func() error {
			return l.await("another worker", func() bool { now := n.worker(); return now != 0 && now != worker })
		},
		disarm: func() error { return nil },
	}, nil
}

// stop ends the server as a service manager does.
func stop(l *Lab, s step) (fault, error) {
	n, err := l.pick(s)
	if err != nil {
		return fault{}, err
	}
	return l.stopNode(n)
}

func (l *Lab) stopNode(n *node) (fault, error) {
	if err := n.signal(syscall.SIGTERM); err != nil {
		return fault{}, err
	}
	return fault{
		verify: func() error { return l.await(n.name()+" to end", func() bool { return !n.runs() }) },
		disarm: func() error { n.kill(); return n.start() },
	}, nil
}

// rollingRestart is what an upgrade does, each node when the one before is
// ready.
func rollingRestart(l *Lab, _ step) (fault, error) {
	for _, n := range l.members() {
		if err := n.signal(syscall.SIGTERM); err != nil {
			return fault{}, err
		}
		if err := l.await(n.name()+" to end", func() bool { return !n.runs() }); err != nil {
			return fault{}, err
		}
		if err := n.start(); err != nil {
			return fault{}, err
		}
		if err := l.await(n.name()+" to be ready", func() bool { return n.healthy("ready") }); err != nil {
			return fault{}, err
		}
	}
	return fault{disarm: func() error { return nil }}, nil
}

// transferStorm hands leadership around, one transfer right after the other.
func transferStorm(l *Lab, s step) (fault, error) {
	before := l.term()
	stop, done := make(chan struct{}), make(chan struct{})
	nodes := l.members()
	go func() {
		defer close(done)
		c := newClient(l, 0, uint64(s.Number), time.Now())
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			case <-time.After(100 * time.Millisecond):
			}
			// A refusal is as good: it means that another one is going on.
			_, _ = c.ask(nodes[i%len(nodes)], l.token, "cluster/transferLeadership", fmt.Sprintf(`{"to":%q}`, nodes[(i+1)%len(nodes)].name()))
		}
	}()
	return fault{
		verify: func() error {
			return l.await("three terms to pass", func() bool { return l.term() >= before+3 })
		},
		disarm: func() error { close(stop); <-done; return nil },
	}, nil
}

// term is the highest term that a member tells.
func (l *Lab) term() int {
	highest := 0
	for _, n := range l.members() {
		text, _ := n.metric("strongroom_raft_term")
		term, err := strconv.ParseFloat(text, 64)
		if err == nil {
			highest = max(highest, int(term))
		}
	}
	return highest
}
