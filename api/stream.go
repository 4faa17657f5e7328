package api

import (
	"context"
	"io"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/strongroom/strongroom/engine"
)

// streamStall is how long one write of a stream may take. A stream as a whole
// may take as long as its reader goes on to read.
const streamStall = 30 * time.Second

type begunKey struct{}

// timed answers a context with the time that o has. The time of one that
// streams ends with its first line, and so does the watch on the leader: a
// leader that is none any more still has the lines.
func (s *Server) timed(ctx context.Context, o *engine.Operation) (context.Context, context.CancelFunc) {
	if !o.Streams {
		return context.WithTimeout(ctx, s.Timeout)
	}
	flag := new(atomic.Bool)
	ctx, cancel := context.WithCancelCause(context.WithValue(ctx, begunKey{}, flag))
	timer := time.AfterFunc(s.Timeout, func() {
		if !flag.Load() {
			cancel(context.DeadlineExceeded)
		}
	})
	return ctx, func() { timer.Stop(); cancel(nil) }
}

func begun(ctx context.Context) bool {
	flag, ok := ctx.Value(begunKey{}).(*atomic.Bool)
	return ok && flag.Load()
}

func begin(ctx context.Context) {
	if flag, ok := ctx.Value(begunKey{}).(*atomic.Bool); ok {
		flag.Store(true)
	}
}

// stream writes an answer that may be longer than memory and take longer than
// other answers may. One that fails in the middle is cut: the reader sees a
// broken connection, never an end that is none.
func (s *Server) stream(ctx context.Context, w http.ResponseWriter, content string, write func(io.Writer) error) {
	begin(ctx)
	w.Header().Set("Content-Type", content)
	w.WriteHeader(http.StatusOK)
	if err := write(newPatientWriter(w)); err != nil {
		s.Logger.Warn("a stream was cut", "requestId", w.Header().Get(headerID), "error", err)
		panic(http.ErrAbortHandler)
	}
}

// handOnStream copies a stream of the leader's, and its cut.
func handOnStream(ctx context.Context, w http.ResponseWriter, from *http.Response) {
	begin(ctx)
	copyHeader(w.Header(), from.Header)
	w.WriteHeader(from.StatusCode)
	if _, err := io.Copy(newPatientWriter(w), from.Body); err != nil {
		panic(http.ErrAbortHandler)
	}
}

// patientWriter moves the deadline of a connection along as its reader reads.
type patientWriter struct {
	to      io.Writer
	control *http.ResponseController
}

func newPatientWriter(w http.ResponseWriter) *patientWriter {
	return &patientWriter{w, http.NewResponseController(w)}
}

// Write implements io.Writer.
func (p *patientWriter) Write(b []byte) (int, error) {
	if err := p.control.SetWriteDeadline(time.Now().Add(streamStall)); err != nil {
		return 0, err
	}
	return p.to.Write(b)
}
