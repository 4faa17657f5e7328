package fsm

import iradix "github.com/hashicorp/go-immutable-radix/v2"

// table is one tree with the writes of the transaction on top.
type table[T any] struct {
	tree *iradix.Tree[T]
	txn  *iradix.Txn[T] // nil until the first write
}

func (t *table[T]) get(key []byte) (T, bool) {
	if t.txn != nil {
		return t.txn.Get(key)
	}
	return t.tree.Get(key)
}

// value is get, with the zero value for a key that is not there.
func (t *table[T]) value(key []byte) T {
	v, _ := t.get(key)
	return v
}

func (t *table[T]) put(key []byte, v T) { t.writer().Insert(key, v) }

func (t *table[T]) remove(key []byte) { t.writer().Delete(key) }

func (t *table[T]) writer() *iradix.Txn[T] {
	if t.txn == nil {
		t.txn = t.tree.Txn()
	}
	return t.txn
}

// collect answers up to limit entries with this prefix (all of them for
// limit 0). It copies, because a scan must not go on over a tree that is
// written.
func (t *table[T]) collect(prefix []byte, limit int) []T {
	var out []T
	for _, v := range scan(t.root(), prefix, nil) {
		out = append(out, v)
		if len(out) == limit {
			break
		}
	}
	return out
}

func (t *table[T]) root() *iradix.Node[T] {
	if t.txn != nil {
		return t.txn.Root()
	}
	return t.tree.Root()
}

func (t *table[T]) commit() *iradix.Tree[T] {
	if t.txn == nil {
		return t.tree
	}
	return t.txn.Commit()
}
