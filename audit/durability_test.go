package audit

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// appendInBackground appends one event and answers where its error will be.
func appendInBackground(trail *Trail, e Event) <-chan error {
	out := make(chan error, 1)
	go func() {
		_, err := trail.Append(context.Background(), []Event{e})
		out <- err
	}()
	return out
}

// Synced: nobody hears of an event, neither its caller nor a reader, before
// the disk has said that it holds it; and the disk is asked after the write.
func TestSyncedAnswersAfterTheDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := config(t)
		cfg.Durability = Synced
		trail, d := mustOpenOn(t, cfg)
		release := d.hangs(false)
		before := trail.Head()
		answer := appendInBackground(trail, read("web"))
		synctest.Wait()
		require.Empty(t, answer)
		require.Equal(t, before, trail.Head())
		require.Empty(t, all(t, trail, Filter{Principal: "web"}))
		data, err := os.ReadFile(files(t, cfg.Dir)[0])
		require.NoError(t, err)
		require.Contains(t, string(data), `"principal":"web"`, "what is being synced has been written")
		release()
		require.NoError(t, <-answer)
		require.Len(t, all(t, trail, Filter{Principal: "web"}), 1)
	})
}

// Written: the operating system has it, so a killed process loses nothing,
// and a slow disk delays nobody. It is on the disk one interval later.
func TestWrittenDoesNotWaitForTheDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := config(t)
		cfg.SyncInterval = 100 * time.Millisecond
		trail, d := mustOpenOn(t, cfg)
		pass(time.Second + cfg.SyncInterval/2) // the events of the start; then all happens between two ticks
		start := d.synced()
		pass(time.Second)
		require.Equal(t, start, d.synced(), "nothing was written, so nothing is synced")

		began := time.Now()
		mustAppend(t, trail, read("web"))
		require.Equal(t, start, d.synced())
		require.Equal(t, began, time.Now(), "no clock was waited for")
		data, err := os.ReadFile(files(t, cfg.Dir)[0])
		require.NoError(t, err)
		require.Equal(t, 1, strings.Count(string(data), `"principal":"web"`))
		pass(cfg.SyncInterval)
		synctest.Wait()
		require.Equal(t, start+1, d.synced())
		pass(time.Second)
		require.Equal(t, start+1, d.synced())

		release := d.hangs(false)
		mustAppend(t, trail, read("web"))
		pass(cfg.SyncInterval)
		synctest.Wait()
		require.Equal(t, start+2, d.synced(), "it hangs in this one")
		for range 10 {
			mustAppend(t, trail, read("web"))
		}
		release()
	})
}

// Events that come while the disk is busy share the next write and the next
// fsync: that is what makes Synced bearable.
func TestWaitingEventsShareOneSync(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := config(t)
		cfg.Durability = Synced
		trail, d := mustOpenOn(t, cfg)
		writes, syncs := d.writes, d.synced()
		release := d.hangs(false)
		answers := []<-chan error{appendInBackground(trail, read("first"))}
		synctest.Wait()
		for i := range 50 {
			answers = append(answers, appendInBackground(trail, read(fmt.Sprintf("app-%d", i))))
		}
		synctest.Wait()
		release()
		for _, answer := range answers {
			require.NoError(t, <-answer)
		}
		require.Equal(t, writes+2, d.writes)
		require.Equal(t, syncs+2, d.synced())
		events := all(t, trail, Filter{})
		requireDense(t, events)
		seen := map[string]int{}
		for _, e := range events[1:] {
			seen[e.Principal]++
		}
		require.Len(t, seen, 51)
	})
}

// A file that is full is on the disk before the next begins: only the newest
// file can ever have a torn tail.
func TestFullFileIsSyncedBeforeTheNext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := config(t)
		cfg.SegmentBytes, cfg.SyncInterval = 1, time.Hour
		trail, d := mustOpenOn(t, cfg)
		var mu sync.Mutex
		var synced []string
		d.set(func(now *disk) {
			now.sync = func(f *os.File) error {
				mu.Lock()
				defer mu.Unlock()
				synced = append(synced, f.Name())
				return f.Sync()
			}
		})
		for range 3 {
			mustAppend(t, trail, read("web"))
		}
		paths := files(t, cfg.Dir)
		require.Len(t, paths, 4)
		require.Equal(t, paths[:3], synced)
		require.NoError(t, trail.Close())
		require.Equal(t, paths, synced, "and Close syncs the last")
	})
}
