package origin

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
)

// header makes a header as proxies do.
func header(command, family byte, variable []byte) []byte {
	out := append([]byte(signature), command, family)
	return append(binary.BigEndian.AppendUint16(out, uint16(len(variable))), variable...)
}

func v4(source string) []byte {
	return header(0x21, tcp4, append(addr(source).AsSlice(), 10, 0, 0, 1, 0x12, 0x67, 0x1c, 0xe8))
}

func v6(source string) []byte {
	raw := addr(source).As16()
	return header(0x21, tcp6, append(append(raw[:], make([]byte, 16)...), 0x12, 0x67, 0x1c, 0xe8))
}

func TestHeadersAreReadToTheirLastByteAndNoFurther(t *testing.T) {
	withTLVs := header(0x21, tcp4, append(v4("192.0.2.9")[fixedBytes:], bytes.Repeat([]byte{0x04, 0, 1, 'x'}, 100)...))
	for name, c := range map[string]struct {
		text   []byte
		source string
	}{
		"IPv4":                        {v4("192.0.2.9"), "192.0.2.9"},
		"IPv6":                        {v6("2001:db8::9"), "2001:db8::9"},
		"IPv4 in the clothes of IPv6": {v6("::ffff:192.0.2.9"), "192.0.2.9"},
		"with TLVs":                   {withTLVs, "192.0.2.9"},
		"LOCAL":                       {header(0x20, 0, nil), ""},
		"LOCAL with an address":       {header(0x20, tcp4, v4("192.0.2.9")[fixedBytes:]), ""},
		"LOCAL with an odd family":    {header(0x20, 0xFF, []byte("anything")), ""},
	} {
		rest := strings.NewReader(string(c.text) + "and TLS")
		got, err := readHeader(rest)
		require.NoError(t, err, name)
		require.Equal(t, addr(c.source), got, name)
		left, err := io.ReadAll(rest)
		require.NoError(t, err)
		require.Equal(t, "and TLS", string(left), name)
		for cut := 1; cut < len(c.text); cut++ {
			_, err := readHeader(bytes.NewReader(c.text[:cut]))
			require.ErrorIs(t, err, errTruncated, "%s cut at %d", name, cut)
		}
	}
	_, err := readHeader(strings.NewReader(""))
	require.Equal(t, io.EOF, err, "a look at the port is no header")
}

func refusals() map[error][][]byte {
	long := header(0x21, tcp4, make([]byte, maxVariable+1))
	return map[error][][]byte{
		errVersion1:  {[]byte("PROXY TCP4 192.0.2.9 10.0.0.1 4711 7400\r\n"), []byte("PROXY UNKNOWN\r\n")},
		errNoHeader:  {[]byte("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 a hello of TLS"), []byte("GET / HTTP/1.1\r\n\r\n"), append([]byte("\n"), v4("192.0.2.9")...)},
		errTooLong:   {long, long[:fixedBytes]},
		errMalformed: {header(0x11, tcp4, v4("192.0.2.9")[fixedBytes:]), header(0x22, tcp4, v4("192.0.2.9")[fixedBytes:]), header(0x21, tcp4, make([]byte, 11)), header(0x21, tcp6, make([]byte, 35)), v4("0.0.0.0"), v4("224.0.0.1"), v6("::"), v6("ff02::1"), v6("::ffff:0.0.0.0")},
		errFamily:    {header(0x21, 0, nil), header(0x21, 0x12, v4("192.0.2.9")[fixedBytes:]), header(0x21, 0x31, make([]byte, 216)), header(0x21, 0xFF, nil)},
	}
}

func TestHeadersThatSayNothingAreRefused(t *testing.T) {
	for want, texts := range refusals() {
		for _, text := range texts {
			got, err := readHeader(bytes.NewReader(text))
			require.ErrorIs(t, err, want, "%q", text[:min(len(text), 40)])
			require.False(t, got.IsValid())
			require.Equal(t, want.Error(), reasonOf(err))
		}
	}
}

func FuzzHeader(f *testing.F) {
	f.Add(v4("192.0.2.9"))
	f.Add(v6("2001:db8::9"))
	for _, texts := range refusals() {
		for _, text := range texts {
			f.Add(text)
		}
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		r := bytes.NewReader(raw)
		got, err := readHeader(r)
		if err != nil {
			require.False(t, got.IsValid())
			return
		}
		used := len(raw) - r.Len()
		require.Equal(t, fixedBytes+int(binary.BigEndian.Uint16(raw[14:])), used)
		if got.IsValid() {
			require.True(t, usable(got) && !got.Is4In6())
			if got.Is4() && raw[13] == tcp4 {
				require.Equal(t, raw[16:20], got.AsSlice())
			}
		}
	})
}

// oneConn is a listener of one connection that is already there.
type oneConn struct {
	net.Listener
	conn net.Conn
}

func (l oneConn) Accept() (net.Conn, error) { return l.conn, nil }

type from struct {
	net.Conn
	peer net.Addr
}

func (c from) RemoteAddr() net.Addr { return c.peer }

// accepted answers the server's side of a connection of peer, and the peer's.
func accepted(t *testing.T, peer string, reg prometheus.Registerer, log io.Writer) (server, client net.Conn) {
	t.Helper()
	near, far := net.Pipe()
	t.Cleanup(func() { _, _ = near.Close(), far.Close() })
	conn := from{near, net.TCPAddrFromAddrPort(netip.AddrPortFrom(addr(peer), 4711))}
	l, err := trusted(t, true, "10.0.0.0/24").Listen(oneConn{conn: conn}, reg, slog.New(slog.NewTextHandler(log, nil)))
	require.NoError(t, err)
	server, err = l.Accept()
	require.NoError(t, err)
	return server, far
}

func TestAConnectionOfAProxySpeaksForItsClient(t *testing.T) {
	server, client := accepted(t, "10.0.0.5", prometheus.NewRegistry(), io.Discard)
	go func() { _, _ = client.Write(append(v4("192.0.2.9"), "hello"...)) }()
	got := make([]byte, 5)
	_, err := io.ReadFull(server, got)
	require.NoError(t, err)
	require.Equal(t, "hello", string(got))
	require.Equal(t, Remote{Peer: addr("10.0.0.5"), Proxied: addr("192.0.2.9")}, RemoteOf(server.RemoteAddr()))
	require.Equal(t, "10.0.0.5:4711", server.RemoteAddr().String())
}

func TestTheBytesOfOthersAreNotInterpreted(t *testing.T) {
	server, client := accepted(t, "192.0.2.66", prometheus.NewRegistry(), io.Discard)
	text := v4("192.0.2.9")
	go func() { _, _ = client.Write(text) }()
	got := make([]byte, len(text))
	_, err := io.ReadFull(server, got)
	require.NoError(t, err)
	require.Equal(t, text, got, "they are what TLS gets, which refuses them")
	require.Equal(t, Remote{Peer: addr("192.0.2.66")}, RemoteOf(server.RemoteAddr()))
}

func TestARefusedHeaderEndsTheConnectionAndIsCounted(t *testing.T) {
	for want, texts := range refusals() {
		registry, log := prometheus.NewRegistry(), &bytes.Buffer{}
		server, client := accepted(t, "10.0.0.5", registry, log)
		go func() { _, _ = client.Write(texts[0]) }()
		for range 2 {
			n, err := server.Read(make([]byte, 10))
			require.Zero(t, n)
			require.ErrorIs(t, err, want)
		}
		_, err := client.Read(make([]byte, 1))
		require.ErrorIs(t, err, io.EOF, "closed")
		require.False(t, RemoteOf(server.RemoteAddr()).Proxied.IsValid())
		require.NoError(t, testutil.GatherAndCompare(registry, strings.NewReader(exposition(want)), "strongroom_proxy_headers_refused_total"))
		require.Contains(t, log.String(), "reason="+want.Error())
		require.Contains(t, log.String(), "proxy=10.0.0.5")
	}
}

// exposition is the metric with one count for the reason.
func exposition(counted error) string {
	text := "# HELP strongroom_proxy_headers_refused_total Connections from trusted proxies that were closed because their PROXY header was missing or could not be read, by reason.\n# TYPE strongroom_proxy_headers_refused_total counter\n"
	for _, reason := range []error{errFamily, errMalformed, errNoHeader, errTooLong, errTruncated, errVersion1} {
		n := "0"
		if errors.Is(reason, counted) {
			n = "1"
		}
		text += `strongroom_proxy_headers_refused_total{reason="` + reason.Error() + `"} ` + n + "\n"
	}
	return text
}

func TestAProxyThatSendsNothingIsNotWaitedForLong(t *testing.T) {
	for _, sent := range []string{"", signature[:5], string(v4("192.0.2.9")[:20])} {
		synctest.Test(t, func(t *testing.T) {
			server, client := accepted(t, "10.0.0.5", prometheus.NewRegistry(), io.Discard)
			go func() { _, _ = io.WriteString(client, sent) }()
			_, err := server.Read(make([]byte, 10)) // the clock of the bubble moves while it waits
			require.Error(t, err)
		})
	}
}

func TestALookAtThePortIsNeitherCountedNorLogged(t *testing.T) {
	registry, log := prometheus.NewRegistry(), &bytes.Buffer{}
	server, client := accepted(t, "10.0.0.5", registry, log)
	require.NoError(t, client.Close())
	_, err := server.Read(make([]byte, 10))
	require.ErrorIs(t, err, io.EOF)
	require.NoError(t, testutil.GatherAndCompare(registry, strings.NewReader(exposition(io.EOF)), "strongroom_proxy_headers_refused_total"))
	require.Empty(t, log.String())
}

func TestAConnectionThatNobodyReadSpeaksForNobody(t *testing.T) {
	server, _ := accepted(t, "10.0.0.5", prometheus.NewRegistry(), io.Discard)
	require.False(t, RemoteOf(server.RemoteAddr()).Proxied.IsValid())
	_, err := server.Read(make([]byte, 10))
	require.Error(t, err, "and is no use any more")
}
