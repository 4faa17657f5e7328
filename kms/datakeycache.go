package kms

import (
	"container/list"
	"context"
	"crypto/sha256"
	"sync"
	"time"

	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/internal/secret"
)

// DataKeyCache holds data keys that the HSM has opened, for a bounded time and
// up to a bounded number. It is safe for concurrent use.
//
// What it answers was opened by the HSM from exactly these sealed bytes for
// exactly this version of this secret: both are what an entry is found by. So
// whoever can write to the store gains nothing from what is in memory, and a
// data key that was moved to another KMS key is a new entry. Whether the KMS
// key may open, and whether the version may be read, is decided from the state
// of the request before anything is looked up here.
//
// A key is wiped when its time has passed, counted from the call to the HSM
// and not from its last use; when more than the bound are held, the oldest
// first; and when Revise finds that its version or KMS key is gone.
type DataKeyCache struct {
	max    int
	age    time.Duration
	usable func() bool

	mu     sync.Mutex
	byBlob map[[sha256.Size]byte]*list.Element
	order  list.List   // of *dataKeyEntry, the oldest in front
	timer  *time.Timer // of the oldest; nil while there is none
}

type dataKeyEntry struct {
	blob    [sha256.Size]byte
	id      Identity
	keyID   string
	sealed  []byte       // of the state; only read
	dataKey secret.Bytes // the entry's own
	until   time.Time
}

// NewDataKeyCache makes a cache of at most keys data keys, each for at most
// age; both must be greater than zero. While usable answers false nothing is
// answered: memory must not stand in for an HSM that is away. nil: always.
func NewDataKeyCache(keys int, age time.Duration, usable func() bool) *DataKeyCache {
	return &DataKeyCache{max: keys, age: age, usable: usable, byBlob: map[[sha256.Size]byte]*list.Element{}}
}

// OpenCached is OpenValue by a data key in memory, if there is one; it reports
// whether there was. Otherwise it is OpenValue, and the data key is kept if
// still answers true, which tells whether the version is there with this data
// key in the newest state that this node has applied. So what is destroyed
// while the HSM works does not come into memory behind the Revise that was to
// remove it: either still sees the change, or a Revise follows that does.
func (s *Service) OpenCached(ctx context.Context, key *fsm.Key, id Identity, v Sealed, still func() bool) (plain secret.Bytes, cached bool, err error) {
	if s.dataKeys == nil {
		plain, err = s.OpenValue(ctx, key, id, v)
		return plain, false, err
	}
	if err := CheckOpen(key); err != nil {
		return secret.Bytes{}, false, err
	}
	blob := blobHash(key.ID, id, v.DataKey)
	dataKey, cached := s.dataKeys.get(blob)
	if !cached {
		if dataKey, err = s.openDataKey(ctx, key, id, v); err != nil {
			return secret.Bytes{}, false, err
		}
		s.dataKeys.put(&dataKeyEntry{blob: blob, id: id, keyID: key.ID, sealed: v.DataKey, dataKey: dataKey}, still)
	}
	defer dataKey.Wipe()
	plain, err = openBox(dataKey, id, v.Box)
	return plain, cached, err
}

// blobHash is what an entry is found by.
func blobHash(keyID string, id Identity, blob []byte) [sha256.Size]byte {
	return sha256.Sum256(appendField(appendField(id.fields("data-key-cache/v1"), []byte(keyID)), blob))
}

// get answers a copy, which is the caller's to wipe: an entry may be wiped at
// any moment.
func (c *DataKeyCache) get(blob [sha256.Size]byte) (secret.Bytes, bool) {
	if c.usable != nil && !c.usable() {
		return secret.Bytes{}, false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	at, ok := c.byBlob[blob]
	if !ok {
		return secret.Bytes{}, false
	}
	entry := at.Value.(*dataKeyEntry)
	if !time.Now().Before(entry.until) {
		c.remove(at)
		return secret.Bytes{}, false
	}
	return secret.Copy(entry.dataKey.Expose()), true
}

// put keeps a copy of the entry's data key, unless still answers false.
func (c *DataKeyCache) put(entry *dataKeyEntry, still func() bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !still() {
		return
	}
	if old, ok := c.byBlob[entry.blob]; ok {
		c.remove(old) // two readers have asked the HSM at once
	}
	if c.order.Len() >= c.max {
		c.remove(c.order.Front())
	}
	entry.dataKey, entry.until = secret.Copy(entry.dataKey.Expose()), time.Now().Add(c.age)
	c.byBlob[entry.blob] = c.order.PushBack(entry)
	if c.timer == nil {
		c.timer = time.AfterFunc(c.age, c.expire)
	}
}

func (c *DataKeyCache) remove(at *list.Element) {
	entry := c.order.Remove(at).(*dataKeyEntry)
	entry.dataKey.Wipe()
	delete(c.byBlob, entry.blob)
}

// expire wipes what has had its time, and comes again for the next one: a key
// that nobody asks for any more does not stay either.
func (c *DataKeyCache) expire() {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	for front := c.order.Front(); front != nil; front = c.order.Front() {
		if left := front.Value.(*dataKeyEntry).until.Sub(now); left > 0 {
			c.timer = time.AfterFunc(left, c.expire)
			return
		}
		c.remove(front)
	}
	c.timer = nil
}

// Revise wipes the data keys of which live answers false: what was destroyed,
// moved to another KMS key, or is under one that may not open any more. It is
// to be called after the state has changed; readers go on meanwhile.
func (c *DataKeyCache) Revise(live func(id Identity, keyID string, sealed []byte) bool) {
	var gone []*dataKeyEntry
	for _, entry := range c.entries() {
		if !live(entry.id, entry.keyID, entry.sealed) {
			gone = append(gone, entry)
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, entry := range gone {
		if at, ok := c.byBlob[entry.blob]; ok && at.Value == any(entry) {
			c.remove(at)
		}
	}
}

func (c *DataKeyCache) entries() []*dataKeyEntry {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := make([]*dataKeyEntry, 0, c.order.Len())
	for at := c.order.Front(); at != nil; at = at.Next() {
		out = append(out, at.Value.(*dataKeyEntry))
	}
	return out
}

// Wipe forgets everything.
func (c *DataKeyCache) Wipe() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.order.Len() > 0 {
		c.remove(c.order.Front())
	}
}

// Len answers how many data keys are held now.
func (c *DataKeyCache) Len() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.order.Len()
}
