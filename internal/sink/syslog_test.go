package sink

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/internal/pki"
)

// syslogServer is a receiver of RFC 5425 with real sockets and certificates.
type syslogServer struct {
	t        *testing.T
	dir      string
	address  string
	listener net.Listener
	cfg      *tls.Config

	mu    sync.Mutex
	got   []parsed
	conns []net.Conn
	quit  func(int) bool  // close the connection after so many messages of it
	deaf  bool            // connections are not read
	held  []chan struct{} // of those
	wg    sync.WaitGroup
}

func newSyslogServer(t *testing.T) *syslogServer {
	s := &syslogServer{t: t, dir: t.TempDir(), address: "127.0.0.1:0"}
	ca, err := pki.CreateCA("ca", time.Now())
	require.NoError(t, err)
	require.NoError(t, ca.Write(s.path("ca.pem"), s.path("ca-key.pem")))
	for _, name := range []string{"server", "client"} {
		pair, err := pki.IssueServer(ca, []string{"127.0.0.1", name + ".example"}, time.Now())
		require.NoError(t, err)
		require.NoError(t, pair.Write(s.path(name+".pem"), s.path(name+"-key.pem")))
	}
	pair, err := tls.LoadX509KeyPair(s.path("server.pem"), s.path("server-key.pem"))
	require.NoError(t, err)
	s.cfg = &tls.Config{Certificates: []tls.Certificate{pair}}
	t.Cleanup(s.down)
	return s
}

func (s *syslogServer) path(name string) string { return filepath.Join(s.dir, name) }

// up listens, on the address of before if there was one.
func (s *syslogServer) up() {
	s.t.Helper()
	var err error
	s.listener, err = tls.Listen("tcp", s.address, s.cfg)
	require.NoError(s.t, err)
	s.address = s.listener.Addr().String()
	listener := s.listener
	s.wg.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			s.mu.Lock()
			s.conns = append(s.conns, conn)
			s.mu.Unlock()
			s.wg.Go(func() { s.serve(conn) })
		}
	})
}

func (s *syslogServer) serve(conn net.Conn) {
	defer conn.Close()
	if s.deaf {
		_ = conn.(*tls.Conn).Handshake()
		over := make(chan struct{})
		s.mu.Lock()
		s.held = append(s.held, over)
		s.mu.Unlock()
		<-over
		return
	}
	in := bufio.NewReader(conn)
	for n := 1; ; n++ {
		message, err := readFrame(in)
		if err != nil {
			return
		}
		one, err := parse(message)
		s.mu.Lock()
		if err != nil {
			s.t.Errorf("%v", err)
		}
		quit := s.quit != nil && s.quit(n)
		if !quit {
			s.got = append(s.got, one)
		}
		s.mu.Unlock()
		if quit {
			return
		}
	}
}

// down closes everything and waits.
func (s *syslogServer) down() {
	if s.listener == nil {
		return
	}
	_ = s.listener.Close()
	s.mu.Lock()
	for _, c := range s.conns {
		_ = c.Close()
	}
	for _, h := range s.held {
		close(h)
	}
	s.conns, s.held = nil, nil
	s.mu.Unlock()
	s.wg.Wait()
	s.listener = nil
}

func (s *syslogServer) bodies() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []string
	for _, one := range s.got {
		out = append(out, one.body)
	}
	return out
}

// follow makes a world with one sink of the server.
func (s *syslogServer) follow(change func(*Settings)) *world {
	settings := Settings{
		Type: "syslog", Name: "one", Address: s.address, Facility: "local3", AppName: "strongroom", EnterpriseNumber: 32473,
		CAFile: s.path("ca.pem"), BatchEvents: 10, Timeout: 10 * time.Second,
	}
	if change != nil {
		change(&settings)
	}
	return newWorld(s.t, settings)
}

// begin runs the sink with moments that a test can wait for.
func (w *world) begin() {
	w.with(func(f *follower) {
		f.target.(*syslogTarget).first, f.target.(*syslogTarget).later = 100*time.Millisecond, 5*time.Millisecond
	})
}

func TestSyslogGetsTheTrailInOrder(t *testing.T) {
	s := newSyslogServer(t)
	s.up()
	w := s.follow(nil)
	w.begin()
	w.done(w.happen(33))
	s.await(w)
	require.Equal(t, w.native(0), s.bodies())
	require.Equal(t, 19*8+6, s.got[0].pri)
	require.Equal(t, []string{"n1", "strongroom", "audit.open", "strongroom@32473"}, []string{s.got[0].host, s.got[0].app, s.got[0].id, s.got[0].sdID})
	require.Len(t, s.conns, 1, "one connection")
}

// The receiver is away for long, and comes and goes: everything arrives, and
// in order; what was under way may come twice.
func TestSyslogThatComesAndGoesMissesNothing(t *testing.T) {
	s := newSyslogServer(t)
	s.up()
	s.down() // the address is known
	w := s.follow(nil)
	w.begin()
	w.happen(30)
	w.eventually("attempts in vain", func() bool { return strings.Contains(w.log.String(), "the receiver could not be reached") })
	for range 3 {
		s.up()
		w.done(w.happen(10))
		s.down()
		w.happen(10)
	}
	s.up()
	w.done(w.happen(1))
	s.await(w)
	requireAtLeastOnce(t, w.native(0), s.bodies())
}

// await waits for the newest event: what was acknowledged is read soon.
func (s *syslogServer) await(w *world) {
	s.t.Helper()
	all := w.native(0)
	w.eventually("the newest event", func() bool {
		got := s.bodies()
		return len(got) > 0 && got[len(got)-1] == all[len(all)-1]
	})
}

// A receiver that dies with what its kernel has acknowledged, and its program
// has not read, gets it again, although the cursor was past it.
func TestSyslogThatDiesWithoutReadingGetsItAgain(t *testing.T) {
	for _, orderly := range []bool{false, true} {
		s := newSyslogServer(t)
		s.deaf = true
		s.up()
		w := s.follow(nil)
		w.begin()
		w.done(w.happen(30))
		require.Empty(t, s.bodies())
		if !orderly { // as a process that is killed: no end of TLS
			s.mu.Lock()
			for _, c := range s.conns {
				_ = c.(*tls.Conn).NetConn().Close()
			}
			s.mu.Unlock()
		}
		s.down()
		s.deaf = false
		s.up()
		w.done(w.happen(1))
		s.await(w)
		requireAtLeastOnce(t, w.native(0), s.bodies())
	}
}

// A receiver that has read everything and closes, as many do with connections
// that are idle, gets nothing twice.
func TestSyslogThatClosesInGoodOrderGetsNothingTwice(t *testing.T) {
	s := newSyslogServer(t)
	s.up()
	w := s.follow(nil)
	w.begin()
	for range 3 {
		w.done(w.happen(5))
		s.await(w)
		s.down()
		s.up()
	}
	w.done(w.happen(5))
	s.await(w)
	requireAtLeastOnce(t, w.native(0), s.bodies())
	if !strings.Contains(w.log.String(), "does not take events") { // nothing was under way just then
		require.Equal(t, w.native(0), s.bodies())
	}
}

// requireAtLeastOnce asserts that got is want where parts may be repeated:
// each line is there, and no line is before one that it follows.
func requireAtLeastOnce(t *testing.T, want, got []string) {
	t.Helper()
	next := 0 // of want, that has not come yet
	for _, line := range got {
		if next < len(want) && line == want[next] {
			next++
			continue
		}
		require.Contains(t, want[:next], line, "a line came before another that it follows")
	}
	require.Equal(t, len(want), next, "lines are missing")
}

// A receiver that closes instead of taking what was sent has not taken it.
func TestSyslogThatClosesHasNotTaken(t *testing.T) {
	s := newSyslogServer(t)
	first := true
	s.quit = func(n int) bool { quit := first && n == 3; first = first && !quit; return quit }
	s.up()
	w := s.follow(nil)
	last := w.happen(9)
	w.begin()
	w.done(last)
	s.await(w)
	requireAtLeastOnce(t, w.native(0), s.bodies())
	require.Contains(t, w.log.String(), "closed the connection")
}

// With TLS 1.3 a certificate that is missing is refused after we could write.
func TestSyslogThatWantsACertificate(t *testing.T) {
	s := newSyslogServer(t)
	ca, err := os.ReadFile(s.path("ca.pem"))
	require.NoError(t, err)
	s.cfg.ClientCAs, s.cfg.ClientAuth = x509.NewCertPool(), tls.RequireAndVerifyClientCert
	require.True(t, s.cfg.ClientCAs.AppendCertsFromPEM(ca))
	// The authority of the project issues for servers; that is not the point here.
	s.cfg.ClientAuth = tls.RequireAnyClientCert
	s.up()
	w := s.follow(nil)
	w.happen(5)
	w.begin()
	w.eventually("an attempt in vain", func() bool { return strings.Contains(w.log.String(), "does not take events") })
	require.Equal(t, uint64(1), w.set.OldestNeeded())
	w.stop()
	require.Empty(t, s.bodies())
	w.cfg.Sinks[0].ClientCertFile, w.cfg.Sinks[0].ClientKeyFile = s.path("client.pem"), s.path("client-key.pem")
	w.begin()
	w.done(w.trail.Settled().Sequence)
	s.await(w)
	require.Equal(t, w.native(0), s.bodies())
}

func TestSyslogSpeaksOnlyToWhomItTrusts(t *testing.T) {
	s := newSyslogServer(t)
	s.up()
	for _, c := range []struct {
		change func(*Settings)
		want   string
	}{
		{func(o *Settings) { o.CAFile = "" }, "is not signed by an authority that is trusted; name it as caFile"},
		{func(o *Settings) { o.Address = strings.Replace(o.Address, "127.0.0.1", "localhost", 1) }, "its certificate is for another name"},
		{func(o *Settings) { o.CAFile = s.path("none.pem") }, "caFile: open"},
		{func(o *Settings) { o.CAFile = s.path("server-key.pem") }, "holds no certificate"},
		{func(o *Settings) { o.ClientCertFile, o.ClientKeyFile = s.path("client.pem"), s.path("server-key.pem") }, "clientCertFile, clientKeyFile"},
		{func(o *Settings) { o.Address = "169.254.169.254:6514" }, "a link-local address"},
	} {
		w := s.follow(c.change)
		w.happen(1)
		w.begin()
		w.eventually(c.want, func() bool { return strings.Contains(w.log.String(), c.want) })
		w.stop()
	}
	require.Empty(t, s.bodies())
}

// A receiver that has stopped reading holds nobody but its own sink.
func TestSyslogThatDoesNotReadTimesOut(t *testing.T) {
	s := newSyslogServer(t)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer listener.Close() // connections wait in its queue, and no handshake is answered
	s.address = listener.Addr().String()
	w := s.follow(nil)
	w.cfg.Sinks[0].Timeout = 20 * time.Millisecond
	w.happen(1)
	w.begin()
	w.eventually("the time-out", func() bool { return strings.Contains(w.log.String(), "deadline exceeded") })
}

// Another process may be started in the middle of a batch.
func TestSyslogStopsInTheMiddle(t *testing.T) {
	s := newSyslogServer(t)
	s.up()
	w := s.follow(nil)
	w.start() // with the moments of real life: the delivery waits for its second
	w.happen(20)
	w.eventually("the messages", func() bool { return len(s.bodies()) > 0 })
	w.stop()
	w.begin()
	w.done(w.happen(5))
	s.await(w)
	requireAtLeastOnce(t, w.native(0), s.bodies())
}
