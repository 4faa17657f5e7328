package audit

import (
	"fmt"
	"time"
)

// Outcomes of an event.
const (
	OK     = "ok"
	Denied = "denied"
	Failed = "failed"
)

// Events of the trail itself.
const (
	// EventOpen is the first event of every trail, and one for each later
	// start of its node.
	EventOpen = "audit.open"
	// EventRecovered says that a torn tail was cut, or that the trail takes
	// events again after it could not.
	EventRecovered = "audit.recovered"
)

// Event is one thing that happened. It has no field that could hold a value,
// a token, a key or the body of a request.
type Event struct {
	// Node and Sequence are stamped by Append: the sequence numbers of one
	// node are dense and start at 1.
	Node     string
	Sequence uint64
	// Time is kept in UTC to the millisecond, cut. Append stamps a zero Time.
	// It is when the request began, so it need not grow with Sequence.
	Time           time.Time
	RequestID      string
	Event          string // "secrets.get_value"
	Outcome        string // OK, Denied or Failed
	Code           string // of a failure, as in the API
	Principal      string
	CredentialID   string
	SourceAddress  string
	Via            string // member that the request came to, where it handed it on
	Path           string
	KeyID          string
	Version        uint64
	DecisionID     string
	Reason         string
	Index          uint64 // applied index of the answer
	Cached         bool   // a kms event that needed no call to the HSM
	KMS            []KMSEvent
	DurationMicros int64
	// Consumer, on the event of a version that was handed out, is what the
	// consumers' ledger is rebuilt from after a crash.
	Consumer *Consumer
	// BreakGlassID is the break-glass session without which the request would
	// not have been allowed, or that it is about.
	BreakGlassID string
	// ApprovalID is the request for approval that the event is about, or by
	// which it was allowed.
	ApprovalID string
	// Decision is there for a denial, and for what was allowed while a policy
	// that only reports would have decided otherwise.
	Decision *Decision
}

// Consumer says which instance was handed the version of its event, in which
// session of the ledger, and until when it may hold it.
type Consumer struct {
	Instance  string
	Session   uint64
	Stamp     int64  // of its end, in the session's own order
	HoldUntil int64  // milliseconds since the Unix epoch
	Uses      uint64 // the version that the instance said it uses; 0: it said nothing
	UsesStamp int64
}

// KMSEvent points at the event of a data key that the request used.
type KMSEvent struct {
	Event      string
	KeyID      string
	KeyVersion uint32
	Sequence   uint64 // of that event in the same trail, 0 if not known
	Cached     bool
}

// Bounds of an event.
const (
	maxEventName = 64
	maxLine      = 256 << 10 // bytes of one line, with its newline
	linkBytes    = len(`,"sequence":`) + 20
)

// check refuses what no code of ours should hand in: it would be an event
// that nobody can search for.
func (e *Event) check() error {
	if e.Outcome != OK && e.Outcome != Denied && e.Outcome != Failed {
		return fmt.Errorf("audit: outcome of an event is %q", e.Outcome)
	}
	if e.Event == "" || len(e.Event) > maxEventName {
		return fmt.Errorf("audit: name of an event has %d bytes; 1 to %d are allowed", len(e.Event), maxEventName)
	}
	for i := 0; i < len(e.Event); i++ {
		if c := e.Event[i]; !('a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '.' || c == '_') {
			return fmt.Errorf("audit: name of an event has the byte 0x%02x", c)
		}
	}
	if err := e.Decision.check(); err != nil {
		return err
	}
	if year := e.Time.UTC().Year(); year < 0 || year > 9999 {
		return fmt.Errorf("audit: time of an event is in the year %d", year)
	}
	return nil
}
