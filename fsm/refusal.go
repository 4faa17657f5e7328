package fsm

import (
	"strings"

	"github.com/strongroom/strongroom/internal/fault"
	"github.com/strongroom/strongroom/internal/names"
)

// maxTime is the last millisecond of the year 9999, which RFC 3339 can still
// write; additions to times below it cannot overflow.
const maxTime = 253402300799999

// Bounds of Meta. They are above those of the API and keep keys small.
const (
	maxMetaBytes = 256
	maxHashBytes = 64
)

// refuse makes a refusal in the words of package fault, so that no code or
// text is spelled twice.
func refuse(e *fault.Error) *Refusal { return &Refusal{Code: string(e.Kind), Message: e.Message} }

func notFound(format string, args ...any) *Refusal {
	return refuse(fault.New(fault.NotFound, format, args...))
}

func alreadyExists(format string, args ...any) *Refusal {
	return refuse(fault.New(fault.AlreadyExists, format, args...))
}

func conflict(format string, args ...any) *Refusal {
	return refuse(fault.New(fault.Conflict, format, args...))
}

// race is a Conflict that the engine answers by looking again: what it
// sealed for is not what is there now.
func race(format string, args ...any) *Refusal {
	r := conflict(format, args...)
	r.Race = true
	return r
}

func invalid(field, format string, args ...any) *Refusal {
	return refuse(fault.Invalid(field, format, args...)).with("field", field)
}

func (r *Refusal) with(key, value string) *Refusal {
	if r.Details == nil {
		r.Details = map[string]string{}
	}
	r.Details[key] = value
	return r
}

// checkMeta holds for every command.
func checkMeta(m Meta) *Refusal {
	if m.Time < 0 || m.Time > maxTime {
		return invalid("time", "the leader stamped a time outside the years 1970 to 9999; check its clock")
	}
	for _, part := range []struct{ field, text string }{
		{"principal", m.Principal}, {"operation", m.Operation}, {"clientToken", m.ClientToken}, {"requestId", m.RequestID},
	} {
		if len(part.text) > maxMetaBytes || strings.IndexByte(part.text, 0) >= 0 {
			return invalid(part.field, "must have at most %d bytes and no zero byte", maxMetaBytes)
		}
	}
	if m.ClientToken != "" && (m.Operation == "" || len(m.RequestHash) == 0 || len(m.RequestHash) > maxHashBytes) {
		return invalid("clientToken", "goes with an operation and a request hash of at most %d bytes", maxHashBytes)
	}
	return nil
}

func checkPath(path string) (names.Path, *Refusal) {
	p, err := names.ParsePath(path)
	if err != nil {
		return "", invalid("path", "%v", err)
	}
	return p, nil
}

// checkName checks names and ids alike: ids come from the engine and only
// need to be safe as parts of keys.
func checkName(field, name string) *Refusal {
	if _, err := names.ParseName(name); err != nil {
		return invalid(field, "%v", err)
	}
	return nil
}

// checkLater checks a time that must lie after now.
func (t *txn) checkLater(field string, at int64) *Refusal {
	if at <= t.now || at > maxTime {
		return invalid(field, "must lie in the future, and before the year 10000")
	}
	return nil
}
