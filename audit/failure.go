package audit

import (
	"fmt"
	"time"

	"github.com/strongroom/strongroom/internal/fault"
)

func unavailable(cause error, reason string) *fault.Error {
	return fault.Wrap(fault.AuditUnavailable, cause, "the audit trail cannot be written: %s; nothing is answered without it, retry", reason)
}

// failure is why the trail takes no events.
type failure struct {
	err error // fault.AuditUnavailable
	// lasting: only opening the trail again, by a restart, can help.
	lasting bool
	// space: nothing is broken, there is only too little room.
	space bool
	since time.Time
	why   string
}

// lastingFailure reports whether nothing more can be promised of the file:
// after a failure that may heal, what was answered before is still owed to
// the disk.
func (t *Trail) lastingFailure() bool {
	f := t.failure.Load()
	return f != nil && f.lasting
}

// fail keeps the first failure, except that a lasting one takes the place of
// one that could have healed. It answers the one that is kept.
func (t *Trail) fail(f failure, cause error) *failure {
	f.err, f.since = unavailable(cause, f.why), time.Now()
	for {
		old := t.failure.Load()
		if old != nil && (old.lasting || !f.lasting) {
			return old
		}
		if t.failure.CompareAndSwap(old, &f) {
			break
		}
	}
	t.cfg.Logger.Error("the audit trail takes no events", "dir", t.cfg.Dir, "reason", f.why, "needsRestart", f.lasting, "error", fmt.Sprint(cause))
	return &f
}
