package pkcs11

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// workerConn is the parent's end of one worker: the process, the socket, and
// the requests that it holds. It serves until its first failure; then the
// process is killed and everything pending fails.
type workerConn struct {
	cmd  *exec.Cmd
	sock net.Conn

	slots   chan struct{} // requests in flight, bounded; callers queue here, where they can give up
	sending chan struct{} // a mutex that can be waited for with a context
	dead    chan struct{} // closed by the first failure
	exited  chan struct{} // closed when the process has been waited for and nobody reads the socket
	quiet   chan struct{} // closed when nobody pings any more

	mu      sync.Mutex
	pending map[uint64]*pendingRequest
	next    uint64
	failure error

	long   atomic.Int32  // requests in flight with a deadline of their own
	loaded atomic.Uint32 // keys in the worker's cache, as it last said
	ill    atomic.Pointer[string]
	stderr tail
	roots  []Root // that it was started with; set before it serves
}

type pendingRequest struct {
	answer    chan frame // of one
	timer     *time.Timer
	slot      bool
	long      bool
	abandoned bool // the caller has gone; the answer is wiped
}

var errWorkerGone = errors.New("the HSM worker ended")

// spawn starts a worker process from the file program, with command as its
// arguments, the first of which is the name that it is shown by. It must run on a thread that lives as long
// as the worker: the kernel sends the parent-death signal when the thread
// that started the child ends.
func spawn(program string, command, env []string, inFlight int) (*workerConn, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("socketpair: %w", err)
	}
	ours, theirs := os.NewFile(uintptr(fds[0]), "hsm-worker"), os.NewFile(uintptr(fds[1]), "parent")
	defer ours.Close()
	defer theirs.Close()
	sock, err := net.FileConn(ours)
	if err != nil {
		return nil, fmt.Errorf("socketpair: %w", err)
	}
	c := &workerConn{sock: sock, slots: make(chan struct{}, inFlight), sending: make(chan struct{}, 1),
		dead: make(chan struct{}), exited: make(chan struct{}), quiet: make(chan struct{}),
		pending: make(map[uint64]*pendingRequest)}
	c.cmd = exec.Command(program, command[1:]...)
	c.cmd.Args[0] = command[0]
	c.cmd.Env = append([]string{}, env...)
	c.cmd.ExtraFiles = []*os.File{theirs} // becomes workerFD
	c.cmd.Stderr = &c.stderr
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := c.cmd.Start(); err != nil {
		return nil, errors.Join(fmt.Errorf("the HSM worker cannot be started: %w", err), sock.Close())
	}
	reading := make(chan struct{})
	go c.read(reading)
	go c.wait(reading)
	return c, nil
}

func (c *workerConn) pid() int { return c.cmd.Process.Pid }

func (c *workerConn) wait(reading <-chan struct{}) {
	err := c.cmd.Wait()
	c.fail(fmt.Errorf("%w: %v", errWorkerGone, err))
	<-reading
	close(c.exited)
}

// fail ends the worker; the first reason stays.
func (c *workerConn) fail(reason error) {
	c.mu.Lock()
	if c.failure != nil {
		c.mu.Unlock()
		return
	}
	c.failure = reason
	close(c.dead)
	for id, p := range c.pending {
		p.timer.Stop()
		delete(c.pending, id)
	}
	c.mu.Unlock()
	// SIGKILL also ends a stopped process and one whose threads hang in the
	// module. Both calls may find their object gone already.
	_ = c.cmd.Process.Kill()
	_ = c.sock.Close()
}

func (c *workerConn) reason() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.failure
}

func (c *workerConn) trouble() string {
	if p := c.ill.Load(); p != nil {
		return *p
	}
	return ""
}

func (c *workerConn) read(done chan<- struct{}) {
	defer close(done)
	for {
		f, err := readFrame(c.sock)
		if err != nil {
			c.fail(fmt.Errorf("%w: %v", errWorkerGone, err))
			return
		}
		c.deliver(f)
	}
}

func (c *workerConn) deliver(f frame) {
	c.mu.Lock()
	p, ok := c.pending[f.id]
	if ok {
		delete(c.pending, f.id)
		p.timer.Stop()
		c.release(p)
		if !p.abandoned {
			p.answer <- f
		}
	}
	c.mu.Unlock()
	if !ok || p.abandoned {
		f.wipe()
	}
	if !ok {
		c.fail(fmt.Errorf("%w: it answered request %d, which nobody made", errWorkerGone, f.id))
	}
}

// release frees what p held of the bounds.
func (c *workerConn) release(p *pendingRequest) {
	if p.slot {
		<-c.slots
	}
	if p.long {
		c.long.Add(-1)
	}
}

// roundTrip hands one request to the worker and waits for its answer. The
// deadline runs from handing over; passing it means that the worker hangs,
// and costs it its life. A caller whose ctx ends leaves; the request stays,
// with its place and its deadline.
func (c *workerConn) roundTrip(ctx context.Context, o op, payload []byte, deadline time.Duration) (frame, error) {
	slot := o != opPing && o != opCanary
	if slot {
		select {
		case c.slots <- struct{}{}:
		case <-ctx.Done():
			return frame{}, ctx.Err()
		case <-c.dead:
			return frame{}, c.reason()
		}
	}
	p := &pendingRequest{answer: make(chan frame, 1), slot: slot, long: deadline >= generateTimeout}
	if p.long {
		c.long.Add(1)
	}
	id, err := c.send(ctx, o, payload, deadline, p)
	if err != nil {
		return frame{}, err
	}
	select {
	case f := <-p.answer:
		return f, nil
	case <-c.dead:
		return frame{}, c.reason()
	case <-ctx.Done():
		c.abandon(id, p)
		return frame{}, ctx.Err()
	}
}

func (c *workerConn) send(ctx context.Context, o op, payload []byte, deadline time.Duration, p *pendingRequest) (uint64, error) {
	select {
	case c.sending <- struct{}{}:
		defer func() { <-c.sending }()
	case <-ctx.Done():
		c.release(p)
		return 0, ctx.Err()
	case <-c.dead:
		return 0, c.reason()
	}
	c.mu.Lock()
	if c.failure != nil {
		c.mu.Unlock()
		return 0, c.reason()
	}
	c.next++
	id := c.next
	c.pending[id] = p
	// The timer is armed before the write: a stopped worker does not read,
	// and then it is this that ends the write.
	p.timer = time.AfterFunc(deadline, func() {
		c.fail(fmt.Errorf("the HSM worker did not answer %v within %v", o, deadline))
	})
	c.mu.Unlock()
	if err := writeFrame(c.sock, frame{kind: uint8(o), id: id, payload: payload}); err != nil {
		if errors.Is(err, errFrameSize) {
			c.forget(id)
			return 0, fail(statusInvalid, err, "the request is too large for the HSM")
		}
		c.fail(fmt.Errorf("%w: %v", errWorkerGone, err))
		return 0, c.reason()
	}
	return id, nil
}

// forget takes back a request of which no byte was sent.
func (c *workerConn) forget(id uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if p, ok := c.pending[id]; ok {
		delete(c.pending, id)
		p.timer.Stop()
		c.release(p)
	}
}

func (c *workerConn) abandon(id uint64, p *pendingRequest) {
	c.mu.Lock()
	_, waiting := c.pending[id]
	p.abandoned = waiting
	c.mu.Unlock()
	if waiting {
		return
	}
	select { // answered between the caller's leaving and now
	case f := <-p.answer:
		f.wipe()
	default:
	}
}

// tail keeps the last words of a worker's standard error for the log: the
// trace of a crash. Nothing of ours writes values there.
type tail struct {
	mu   sync.Mutex
	text []byte
}

const tailBytes = 4096

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text = append(t.text, p...)
	if over := len(t.text) - tailBytes; over > 0 {
		t.text = append(t.text[:0], t.text[over:]...)
	}
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.text)
}
