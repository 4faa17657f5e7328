package engine

import (
	"context"
	"hash/maphash"

	"github.com/strongroom/strongroom/internal/fault"
	"github.com/strongroom/strongroom/internal/names"
)

// pathLocks let writers of one path queue in this process, so that they do
// not seal for nothing. They are a courtesy: Apply decides who is next.
type pathLocks struct {
	seed    maphash.Seed
	stripes [256]chan struct{}
}

func newPathLocks() *pathLocks {
	l := &pathLocks{seed: maphash.MakeSeed()}
	for i := range l.stripes {
		l.stripes[i] = make(chan struct{}, 1)
	}
	return l
}

// lock waits for its turn, or until ctx ends; then nothing was done.
func (l *pathLocks) lock(ctx context.Context, path names.Path) (unlock func(), err error) {
	stripe := l.stripes[maphash.String(l.seed, string(path))%uint64(len(l.stripes))]
	unlock = func() { <-stripe }
	select {
	case stripe <- struct{}{}: // whoever need not wait is not asked for how long
		return unlock, nil
	default:
	}
	select {
	case stripe <- struct{}{}:
		return unlock, nil
	case <-ctx.Done():
		return nil, fault.Wrap(fault.NoLeader, ctx.Err(), "the request waited too long for its turn; nothing was done, retry")
	}
}
