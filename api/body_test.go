package api

import (
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// announce opens a connection and sends a request's head and the beginning of
// its body.
func (n *node) announce(length int, begin string) net.Conn {
	n.t.Helper()
	conn, err := net.Dial("tcp", n.address)
	require.NoError(n.t, err)
	n.t.Cleanup(func() { _ = conn.Close() })
	_, err = fmt.Fprintf(conn, "POST /api/v1/iam/whoAmI HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%s", length, begin)
	require.NoError(n.t, err)
	return conn
}

// TestAnAnnouncedBodyHoldsOnlyWhatHasCome: nobody is known yet while a body
// is read, so a hundred clients that promise two megabytes and send nothing
// must not cost two hundred.
func TestAnAnnouncedBodyHoldsOnlyWhatHasCome(t *testing.T) {
	n := single(t, nil)
	for range 100 {
		n.announce(2<<20, "{")
	}
	require.Eventually(t, func() bool { return n.server.bodies.Load() == 100*firstRead }, 30*time.Second, time.Millisecond)
	require.Equal(t, 200, n.call("secrets/createSecret", `{"path":"/a/b"}`).status, "others are served meanwhile")
}

// TestBodiesTogetherAreBounded: who comes when the room is taken is asked to
// come again, and the room is given back.
func TestBodiesTogetherAreBounded(t *testing.T) {
	n := single(t, func(c *Config) { c.MaxBodies = 4 * firstRead })
	var held []net.Conn
	for range 4 {
		held = append(held, n.announce(firstRead, "{"))
	}
	require.Eventually(t, func() bool { return n.server.bodies.Load() == 4*firstRead }, 30*time.Second, time.Millisecond)
	r := n.call("secrets/createSecret", `{"path":"/a/b"}`)
	require.Equal(t, 429, r.status)
	require.Equal(t, "RateLimited", r.failed(t).Code)
	require.NotEmpty(t, r.header.Get("Retry-After"))
	for _, conn := range held {
		require.NoError(t, conn.Close())
	}
	require.Eventually(t, func() bool { return n.server.bodies.Load() == 0 }, 30*time.Second, time.Millisecond)
	require.Equal(t, 200, n.call("secrets/createSecret", `{"path":"/a/b"}`).status)
}

// TestALargeBodyThatComesInPiecesIsWhole.
func TestALargeBodyThatComesInPiecesIsWhole(t *testing.T) {
	n := single(t, nil)
	body := `{"path":"/a/big","value":"` + strings.Repeat("QUJD", 15_000) + `"}`
	text := post("secrets/createSecret", n.admin, body)
	conn, err := net.Dial("tcp", n.address)
	require.NoError(t, err)
	defer conn.Close()
	go func() {
		for len(text) > 0 {
			k := min(len(text), 7001)
			_, _ = io.WriteString(conn, text[:k])
			text = text[k:]
		}
	}()
	require.Equal(t, 200, read(t, conn).status)
	require.Contains(t, n.call("secrets/getSecretValue", `{"path":"/a/big"}`).body, strings.Repeat("QUJD", 15_000))
	require.Eventually(t, func() bool { return n.server.bodies.Load() == 0 }, 30*time.Second, time.Millisecond)
}
