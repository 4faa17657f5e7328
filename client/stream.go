package client

import (
	"context"
	"fmt"
	"io"
	"time"
)

// Stream runs an operation that answers lines, and writes them to w as they
// come. It repeats the request as Do does, until the first line. A stream that
// breaks off is an error; what was written by then stays written.
func (c *Client) Stream(ctx context.Context, service, operation string, req any, w io.Writer) error {
	return c.Do(ctx, service, operation, req, &stream{w})
}

// stream stands for an answer that is written as it comes.
type stream struct{ to io.Writer }

func (s *stream) take(body io.Reader) error {
	if _, err := io.Copy(s.to, body); err != nil {
		return fmt.Errorf("client: the stream broke off: %w", err)
	}
	return nil
}

// timed bounds an attempt by d: all of it, or of one whose answer is a stream
// the part until begun is called.
func timed(ctx context.Context, d time.Duration, resp any) (limited context.Context, begun func(), cancel context.CancelFunc) {
	if _, ok := resp.(*stream); !ok {
		limited, cancel = context.WithTimeout(ctx, d)
		return limited, func() {}, cancel
	}
	limited, end := context.WithCancel(ctx)
	timer := time.AfterFunc(d, end)
	return limited, func() { timer.Stop() }, func() { timer.Stop(); end() }
}
