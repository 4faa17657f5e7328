package sink

import (
	"context"
	"fmt"
	"io"
)

// stdoutTarget writes lines to standard output. Taken is what was written:
// what becomes of it is up to whoever reads.
type stdoutTarget struct{ out io.Writer }

// deliver implements target. A pipe that nobody reads blocks its writer, and a
// write cannot be called back: when ctx ends it is left to itself. It is the
// one goroutine here that nobody waits for; the process ends next.
func (t *stdoutTarget) deliver(ctx context.Context, records []record) (int, error) {
	done, text := make(chan error, 1), lines(records)
	go func() {
		_, err := t.out.Write(text)
		done <- err
	}()
	select {
	case err := <-done:
		if err != nil {
			return 0, fmt.Errorf("standard output cannot be written: %w", err)
		}
		return len(records), nil
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

func (t *stdoutTarget) reload()      {}
func (t *stdoutTarget) close() error { return nil }

// lines answers the bodies, each with a newline.
func lines(records []record) []byte {
	size := 0
	for i := range records {
		size += len(records[i].body) + 1
	}
	out := make([]byte, 0, size)
	for i := range records {
		out = append(append(out, records[i].body...), '\n')
	}
	return out
}
