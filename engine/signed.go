package engine

import (
	"context"
	"crypto/sha256"
	"errors"
	"net/http"
	"sync"
	"time"

	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/iam"
	"github.com/strongroom/strongroom/internal/fault"
	"github.com/strongroom/strongroom/internal/sigv4"
)

// MethodAccessKey is that of requests which an access key signed.
const MethodAccessKey = "accessKey"

// signed finds out whose access key signed the request, and counts why it is
// refused: the caller is not told.
func (c *call) signed(ctx context.Context, body []byte) (identity, error) {
	who, err := c.checkSigned(ctx, body)
	var refused *signedRefusal
	if errors.As(err, &refused) {
		c.engine.metrics.signed.WithLabelValues(refused.reason).Inc()
		err = refused.error
	}
	return who, err
}

// checkSigned is signed. What costs the HSM comes after all that can be told
// without it, and a signature is used up only when it is good.
func (c *call) checkSigned(ctx context.Context, body []byte) (identity, error) {
	s := c.from.Signed
	key := c.state.AccessKey(s.KeyID)
	switch {
	case key == nil:
		return identity{}, refuseSigned(signedUnknownKey)
	case c.now.UnixMilli() >= key.ExpiresAt:
		return identity{}, refuseSigned(signedExpiredKey)
	case !s.Is(http.MethodPost, "/api/v1/"+c.op.Path()):
		return identity{}, refuseSigned(signedBad)
	}
	prefixes, err := parseCIDRs("boundCidrs", key.BoundCIDRs)
	if err != nil {
		return identity{}, err
	}
	if len(prefixes) > 0 && !iam.SourceAllowed(prefixes, c.from.Source) {
		return identity{}, refuseSigned(signedSource)
	}
	session, err := c.openSession()
	if err != nil {
		return identity{}, err
	}
	one := sighting{session: session, key: key.ID, date: s.Time, signature: s.Signature, request: c.from.RequestID}
	if err := c.engine.nonces.look(one, c.now); err != nil {
		return identity{}, err
	}
	dateKey, err := c.dateKey(ctx, key, s.Date())
	if err != nil {
		return identity{}, err
	}
	defer clear(dateKey[:])
	if !s.SignedBy(dateKey, body) {
		return identity{}, refuseSigned(signedBad)
	}
	if err := c.engine.nonces.take(one, c.now); err != nil {
		return identity{}, err
	}
	return identity{name: key.Principal, method: MethodAccessKey, credential: key.ID, expiresAt: key.ExpiresAt}, nil
}

// openSession answers the session in which this node leads, in the state that
// the request is served at. If another node has led since, it has ended there:
// what this node remembers of signatures is not all there is.
func (c *call) openSession() (uint64, error) {
	number := c.engine.ledger.current()
	if s := c.state.Session(number); number == 0 || s == nil || s.EndedAt != 0 {
		return 0, fault.New(fault.NoLeader, "this node has only begun to lead; retry")
	}
	return number, nil
}

// errSignature is the one answer to whatever is wrong with a signed request.
func errSignature() error {
	return fault.New(fault.Unauthenticated, "Authorization: the signature is not valid here: the access key is unknown, expired, deleted or bound to other source addresses, "+
		"the request is another one than was signed, X-Amz-Date is more than 5 minutes old or in the future, or it was sent before; sign each request anew, by a clock that is right")
}

// Why a signed request is refused, as the metric says it.
const (
	signedUnknownKey = "unknown_key" // or a deleted one
	signedExpiredKey = "expired_key"
	signedSource     = "source_address"
	signedBad        = "bad_signature" // of the request, or of another one
	signedLate       = "late"
	signedEarly      = "early"
	signedReplayed   = "replayed"
	signedBefore     = "before_leader" // it may have been served by another one
	signedMemory     = "memory_full"
)

func signedReasons() []string {
	return []string{signedUnknownKey, signedExpiredKey, signedSource, signedBad, signedLate, signedEarly, signedReplayed, signedBefore, signedMemory}
}

// signedRefusal is what the caller is answered, and why.
type signedRefusal struct {
	error
	reason string
}

func refuseSigned(reason string) error { return &signedRefusal{errSignature(), reason} }

// dateKey answers the key that signatures of a day follow from. It is the
// caller's to wipe.
func (c *call) dateKey(ctx context.Context, key *fsm.AccessKey, date string) ([sha256.Size]byte, error) {
	if known, ok := c.engine.dateKeys.get(key, date, c.now); ok {
		return known, nil
	}
	derived, err := c.engine.KMS.AccessKeySecret(ctx, c.state.FingerprintKey(), key.ID, key.Generation)
	if err != nil {
		return [sha256.Size]byte{}, err
	}
	text := iam.AccessKeySecret(derived)
	defer text.Wipe()
	out := sigv4.DateKey(text.Expose(), date)
	c.engine.dateKeys.put(key, date, out, c.now)
	return out, nil
}

// Bounds of what is remembered of derived keys.
const (
	maxDateKeys = 4096
	dateKeyLife = 10 * time.Minute
)

// dateKeys keeps keys that the HSM derived, for a while: an HSM call for each
// request would make it the limit of all. What is kept is good for one day's
// signatures, not the secret. An entry belongs to one record: a key that was
// deleted has none any more.
type dateKeys struct {
	mu   sync.Mutex
	kept map[dateKeyID]*dateKey
}

type dateKeyID struct {
	record *fsm.AccessKey
	date   string
}

type dateKey struct {
	key   [sha256.Size]byte
	until time.Time
}

func (d *dateKeys) get(record *fsm.AccessKey, date string, now time.Time) ([sha256.Size]byte, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	one := d.kept[dateKeyID{record, date}]
	if one == nil || !now.Before(one.until) {
		return [sha256.Size]byte{}, false
	}
	return one.key, true
}

func (d *dateKeys) put(record *fsm.AccessKey, date string, key [sha256.Size]byte, now time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for id, one := range d.kept {
		if !now.Before(one.until) || len(d.kept) >= maxDateKeys {
			d.drop(id, one)
		}
	}
	if d.kept == nil {
		d.kept = map[dateKeyID]*dateKey{}
	}
	d.kept[dateKeyID{record, date}] = &dateKey{key: key, until: now.Add(dateKeyLife)}
}

// forget wipes all: a node that does not lead needs none.
func (d *dateKeys) forget() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for id, one := range d.kept {
		d.drop(id, one)
	}
}

func (d *dateKeys) drop(id dateKeyID, one *dateKey) {
	clear(one.key[:])
	delete(d.kept, id)
}
