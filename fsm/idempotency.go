package fsm

import (
	"bytes"
	"encoding/binary"
)

// A write that brought a client token is remembered for a day of command
// time, and while it is among the newest 200,000: after that a repetition is
// a new write.
const (
	rememberFor = int64(24 * 60 * 60 * 1000)
	rememberMax = 200_000
	// forgetSlack lets expired writes gather, so that an idle cluster does
	// not propose a Sweep for each of them.
	forgetSlack = int64(60 * 60 * 1000)
)

// write is one remembered write and what it was answered. Only successes are
// remembered: a refusal changed nothing, so asking again is safe, and may
// succeed once what stood in the way is gone.
type write struct {
	Principal string `cbor:"1,keyasint,omitempty"`
	Operation string `cbor:"2,keyasint,omitempty"`
	Token     string `cbor:"3,keyasint,omitempty"`
	Hash      []byte `cbor:"4,keyasint,omitempty"`
	Time      int64  `cbor:"5,keyasint,omitempty"`
	Result    Result `cbor:"6,keyasint,omitempty"` // Result.Index is the index of the write
}

func (w *write) key() []byte {
	return append(append(pair(w.Principal, w.Operation), 0), w.Token...)
}

func (w *write) indexKey() []byte { return binary.BigEndian.AppendUint64(nil, w.Result.Index) }

// Replay answers what a write that comes again is to be answered: the result
// of the first time, Replayed set; or a Conflict, if the client token was
// used for another request; or nothing, if the write is new or brought no
// token. Apply decides by this same function.
func (s *State) Replay(meta Meta) (*Result, *Refusal) {
	if meta.ClientToken == "" {
		return nil, nil
	}
	asked := write{Principal: meta.Principal, Operation: meta.Operation, Token: meta.ClientToken}
	w := at(s.writes, asked.key())
	if w == nil || w.Time+rememberFor <= max(s.time, meta.Time) {
		return nil, nil
	}
	if !bytes.Equal(w.Hash, meta.RequestHash) {
		return nil, conflict("clientToken: was used for another request within the last 24 hours; repeat that request unchanged, or take a new token")
	}
	result := w.Result
	result.Replayed = true
	return &result, nil
}

// remember keeps the result of a write for retries, and forgets the oldest
// when there are too many. The order of indexes is the order of times, so
// the oldest is also the first to expire.
func (t *txn) remember(meta Meta, result Result) {
	if meta.ClientToken == "" {
		return
	}
	w := &write{
		Principal: meta.Principal, Operation: meta.Operation, Token: meta.ClientToken,
		Hash: meta.RequestHash, Time: t.now, Result: result,
	}
	t.putWrite(w)
	if t.writes.tree.Len() >= rememberMax {
		for _, oldest := range t.writeIndexes.collect(nil, 1) {
			t.forget(oldest)
		}
	}
}

func (t *txn) putWrite(w *write) {
	if old := t.writes.value(w.key()); old != nil {
		t.writeIndexes.remove(old.indexKey()) // expired, and used again
	}
	t.writes.put(w.key(), w)
	t.writeIndexes.put(w.indexKey(), w)
}

func (t *txn) forget(w *write) {
	t.writes.remove(w.key())
	t.writeIndexes.remove(w.indexKey())
}
