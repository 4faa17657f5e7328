package sink

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"time"

	"github.com/strongroom/strongroom/internal/outbound"
)

// syslogTarget sends messages of RFC 5424 over TLS, as RFC 5425 has it. The
// protocol has no answer. Taken is what the other machine has acknowledged to
// ours (TCP), on a connection that the receiver has kept open for a moment
// after that. Where the connection then ends otherwise than by a receiver that
// has read it to its end, what was sent last goes back to be sent again.
// Whether the receiver's program has kept what it has read, nobody is told.
type syslogTarget struct {
	settings Settings
	host     string
	header   header
	// How long a receiver has to close a connection after the first messages,
	// or after others, for them not to count. With TLS 1.3 it refuses a
	// certificate of ours after we could write, and others close at a message
	// that they cannot read.
	first, later time.Duration

	conn *syslogConn
	sent []sentBatch // on conn, the oldest first
}

// sentBatch is a batch that was acknowledged and may not have been read.
type sentBatch struct {
	before cursor
	size   int
}

// maxUnread is what the other side may hold unread: more than the buffers of
// receivers are.
const maxUnread = 8 << 20

func newSyslog(s Settings) (*syslogTarget, error) {
	host, _, err := net.SplitHostPort(s.Address)
	if err != nil {
		return nil, err
	}
	facility, ok := facilities[s.Facility]
	if !ok {
		return nil, fmt.Errorf("its facility %q is not known", s.Facility)
	}
	return &syslogTarget{settings: s, host: host, header: header{
		facility: facility, appName: s.AppName, sdID: "strongroom@" + strconv.Itoa(s.EnterpriseNumber),
	}, first: time.Second, later: 100 * time.Millisecond}, nil
}

// syslogConn is one connection. Its reader learns that the receiver has closed
// it, so that the next batch is not written to nobody.
type syslogConn struct {
	*tls.Conn
	raw  *net.TCPConn
	gone chan struct{} // closed when the connection has ended
	read bool          // set before that: the receiver has read all there was, and closed
}

// deliver implements target.
func (t *syslogTarget) deliver(ctx context.Context, records []record) (int, error) {
	if t.conn != nil && t.conn.closed() {
		if err := t.drop(errors.New("the receiver broke the connection off")); err != nil {
			return 0, err
		}
	}
	if t.conn == nil {
		conn, err := t.dial(ctx)
		if err != nil {
			return 0, fmt.Errorf("the receiver could not be reached: %w", explain(err))
		}
		t.conn = conn
	}
	var b []byte
	for _, r := range records {
		b = t.header.frame(b, r)
	}
	moment := t.first
	if len(t.sent) > 0 {
		moment = t.later
	}
	if err := t.conn.send(ctx, b, t.settings.Timeout, moment); err != nil {
		err = fmt.Errorf("the receiver has not taken the messages: %w", explain(err))
		return 0, errors.Join(err, t.drop(err))
	}
	t.remember(sentBatch{records[0].prev, len(b)})
	return len(records), nil
}

// remember keeps the batches that the receiver may not have read.
func (t *syslogTarget) remember(batch sentBatch) {
	t.sent = append(t.sent, batch)
	size := 0
	for i := len(t.sent) - 1; i >= 0; i-- {
		if size += t.sent[i].size; size > maxUnread {
			t.sent = t.sent[i:]
			return
		}
	}
}

// drop lets go of a connection that has ended or does not work. Its error goes
// back to where the receiver may not have read any more, and is nil if it has
// read everything.
func (t *syslogTarget) drop(why error) error {
	clean := t.conn.closed() && t.conn.read
	var err error
	if !clean && len(t.sent) > 0 {
		err = rewind{why, t.sent[0].before}
	}
	t.reload()
	return err
}

func (t *syslogTarget) dial(ctx context.Context) (*syslogConn, error) {
	cfg, err := tlsConfig(t.settings, t.host)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, t.settings.Timeout)
	defer cancel()
	raw, err := outbound.Dialer(t.host, t.settings.Timeout)(ctx, "tcp", t.settings.Address)
	if err != nil {
		return nil, err
	}
	conn := &syslogConn{Conn: tls.Client(raw, cfg), raw: raw.(*net.TCPConn), gone: make(chan struct{})}
	if err := conn.HandshakeContext(ctx); err != nil {
		return nil, errors.Join(err, raw.Close())
	}
	go conn.watch() // ends when the connection is closed, which reload waits for
	return conn, nil
}

// watch waits for the end of the connection. A kernel that closes one with
// bytes that its program has not read says so: it resets it. So an orderly end
// of TLS and of TCP means that everything was read.
func (c *syslogConn) watch() {
	defer close(c.gone)
	_, err := io.Copy(io.Discard, c.Conn)
	if err != nil || c.raw.SetReadDeadline(time.Now().Add(endTime)) != nil {
		return
	}
	_, err = io.Copy(io.Discard, c.raw)
	c.read = err == nil
}

// endTime is how long the end of TCP may come after that of TLS.
const endTime = time.Second

// send writes all of b, waits until the other machine has acknowledged it, and
// a moment longer for the connection to stay.
func (c *syslogConn) send(ctx context.Context, b []byte, timeout, moment time.Duration) error {
	deadline := time.Now().Add(timeout)
	if err := c.SetWriteDeadline(deadline); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = c.raw.Close() }) // ends a write that blocks
	defer stop()
	if _, err := c.Write(b); err != nil {
		return err
	}
	for {
		left, err := unacknowledged(c.raw)
		if err != nil {
			return err
		}
		if left == 0 {
			return c.stays(ctx, moment)
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("its machine did not acknowledge within %v", timeout)
		}
		if err := c.stays(ctx, 2*time.Millisecond); err != nil {
			return err
		}
	}
}

// stays waits, and answers an error if the receiver closes meanwhile.
func (c *syslogConn) stays(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-c.gone:
		return errors.New("it closed the connection: see its log, whether it accepts clientCertFile, and frames of RFC 5425 (octet counting)")
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (c *syslogConn) closed() bool {
	select {
	case <-c.gone:
		return true
	default:
		return false
	}
}

// reload implements target.
func (t *syslogTarget) reload() {
	if t.conn == nil {
		return
	}
	_ = t.conn.Close() // what was delivered was acknowledged
	<-t.conn.gone
	t.conn, t.sent = nil, nil
}

// close implements target.
func (t *syslogTarget) close() error {
	t.reload()
	return nil
}
