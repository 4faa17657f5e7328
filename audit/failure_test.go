package audit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/internal/fault"
)

// After an fsync that failed the kernel may have dropped what it could not
// write and call it clean: a second one that works proves nothing. Only a
// restart, which reads the file again, may go on.
func TestFailedSyncIsLasting(t *testing.T) {
	for name, durability := range map[string]Durability{"written": Written, "synced": Synced} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cfg := config(t)
				cfg.Durability = durability
				trail, d := mustOpenOn(t, cfg)
				mustAppend(t, trail, read("before"))
				d.failsSync()
				_, err := trail.Append(t.Context(), []Event{read("during")})
				if durability == Synced {
					requireUnavailable(t, err)
				} else {
					require.NoError(t, err, "it was handed to the operating system, and nobody knew")
				}
				pass(2 * cfg.SyncInterval)
				requireRefuses(t, trail)
				require.ErrorContains(t, trail.Ready(), "fsync failed: input/output error")
				d.mend()
				pass(time.Minute)
				requireRefuses(t, trail)
				require.NoError(t, trail.Close())

				trail = mustOpen(t, cfg)
				events := all(t, trail, Filter{})
				requireDense(t, events)
				require.Len(t, all(t, trail, Filter{Principal: "before"}), 1)
				require.Empty(t, all(t, trail, Filter{Principal: "late"}))
			})
		})
	}
}

// A full disk breaks nothing that was written. What reached the file of the
// refused batch is cut, and when there is room again an event of the trail
// says that there was a gap, since when, and why.
func TestFullDiskRefusesAndHeals(t *testing.T) {
	for _, reached := range []int{0, 1, 100, 700, 1 << 20} {
		synctest.Test(t, func(t *testing.T) {
			cfg := config(t)
			trail, d := mustOpenOn(t, cfg)
			mustAppend(t, trail, read("before"))
			d.fills(reached)
			_, err := trail.Append(t.Context(), []Event{read("during"), read("during"), read("during")})
			requireUnavailable(t, err)
			var f *fault.Error
			require.ErrorAs(t, err, &f)
			require.Equal(t, "the audit trail cannot be written: no space left on device; nothing is answered without it, retry", f.Message)
			since := time.Now().UTC()
			requireRefuses(t, trail)
			pass(10 * time.Second)
			requireRefuses(t, trail)
			require.Empty(t, all(t, trail, Filter{After: 2}), "what was not answered is not shown")

			d.mend()
			pass(2 * healInterval)
			require.NoError(t, trail.Ready())
			require.Equal(t, uint64(4), mustAppend(t, trail, read("after")))
			events := all(t, trail, Filter{})
			requireDense(t, events)
			require.Len(t, events, 4)
			require.Equal(t, EventRecovered, events[2].Event)
			require.Contains(t, events[2].Reason, "no event was taken since "+since.Format(timeLayout)+" (no space left on device); ")
			require.NoError(t, trail.Close())
			report, err := Verify(cfg.Dir)
			require.NoError(t, err)
			require.Equal(t, 2, report.Segments, "it goes on in a new file")
		})
	}
}

// A process that ends while the disk is full leaves the torn batch behind;
// the next one cuts it as any other torn tail.
func TestRestartAfterAFullDisk(t *testing.T) {
	cfg := config(t)
	trail, d := mustOpenOn(t, cfg)
	d.fills(50)
	_, err := trail.Append(t.Context(), []Event{read("during")})
	requireUnavailable(t, err)
	require.NoError(t, trail.Close())
	trail = mustOpen(t, cfg)
	events := all(t, trail, Filter{})
	requireDense(t, events)
	require.Equal(t, EventRecovered, events[len(events)-1].Event)
	require.Equal(t, "50 torn bytes after the last whole event were cut", events[len(events)-1].Reason)
}

func TestTooLittleRoomRefusesBeforeTheDiskIsFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := config(t)
		cfg.MinFreeBytes = 1000
		registry := prometheus.NewRegistry()
		cfg.Registerer = registry
		trail, d := mustOpenOn(t, cfg)
		d.hasFree(1000) // the bound itself is enough
		pass(2 * healInterval)
		mustAppend(t, trail, read("before"))

		d.hasFree(999)
		pass(2 * cfg.SyncInterval)
		requireRefuses(t, trail)
		require.ErrorContains(t, trail.Ready(), "its disk has 999 bytes free, and 1000 are required")
		requireFailedGauge(t, registry, 1)
		pass(time.Minute)
		requireRefuses(t, trail)

		d.set(func(now *disk) { now.free = func(string) (int64, error) { return 0, errors.New("statfs: gone") } })
		pass(2 * healInterval)
		requireRefuses(t, trail) // not known is not enough

		d.hasFree(1000)
		pass(2 * healInterval)
		require.NoError(t, trail.Ready())
		requireFailedGauge(t, registry, 0)
		mustAppend(t, trail, read("after"))
		events := all(t, trail, Filter{After: 2})
		require.Equal(t, []string{EventRecovered, "secrets.get_value"}, []string{events[0].Event, events[1].Event})
		require.Len(t, files(t, cfg.Dir), 1, "nothing was torn: the file goes on")
	})
}

func requireFailedGauge(t *testing.T, registry *prometheus.Registry, want int) {
	t.Helper()
	require.NoError(t, testutil.GatherAndCompare(registry, strings.NewReader(`
# HELP strongroom_audit_failed 1 while the audit trail takes no events and requests are refused.
# TYPE strongroom_audit_failed gauge
strongroom_audit_failed `+string(rune('0'+want))+"\n"), "strongroom_audit_failed"))
}

// A node starts on a disk that is short of room, says so, and reads on.
func TestStartWithTooLittleRoom(t *testing.T) {
	cfg := closedTrail(t, 2, 0)
	cfg.MinFreeBytes = 1 << 62
	trail := mustOpen(t, cfg)
	requireRefuses(t, trail)
	require.Len(t, all(t, trail, Filter{}), 4)
}

// Each recovery is an event. A disk that goes to and fro at its bound must
// not be filled by the events that say so.
func TestFlappingDiskIsHealedOnceASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := config(t)
		cfg.MinFreeBytes = 1000
		trail, d := mustOpenOn(t, cfg)
		const seconds = 10
		for i := range seconds * 100 {
			d.hasFree(999 + int64(i%2))
			pass(10 * time.Millisecond)
		}
		healed := all(t, trail, Filter{Events: []string{EventRecovered}})
		require.GreaterOrEqual(t, len(healed), seconds/2)
		require.LessOrEqual(t, len(healed), seconds+1)
	})
}

// Only this process writes to the file. Whatever somebody else does to it
// would split the trail that callers were promised from the one that is on
// the disk: refused until a person has looked.
func TestFileThatSomebodyElseChangedIsLeft(t *testing.T) {
	for name, change := range map[string]func(t *testing.T, path string){
		"removed":  func(t *testing.T, path string) { require.NoError(t, os.Remove(path)) },
		"renamed":  func(t *testing.T, path string) { require.NoError(t, os.Rename(path, path+".1")) },
		"emptied":  func(t *testing.T, path string) { require.NoError(t, os.Truncate(path, 0)) },
		"cut":      func(t *testing.T, path string) { require.NoError(t, os.Truncate(path, 100)) },
		"appended": func(t *testing.T, path string) { appendBytes(t, path, []byte("x")) },
		"replaced": func(t *testing.T, path string) { // by its own copy, as an editor and log rotation do
			data, err := os.ReadFile(path)
			require.NoError(t, err)
			require.NoError(t, os.WriteFile(path+".new", data, 0o600))
			require.NoError(t, os.Rename(path+".new", path))
		},
		"a link": func(t *testing.T, path string) {
			require.NoError(t, os.Rename(path, path+".1"))
			require.NoError(t, os.Symlink(filepath.Base(path)+".1", path))
		},
		"folder removed": func(t *testing.T, path string) { require.NoError(t, os.RemoveAll(filepath.Dir(path))) },
	} {
		t.Run(name, func(t *testing.T) {
			cfg := config(t)
			trail := mustOpen(t, cfg)
			mustAppend(t, trail, read("web"))
			change(t, files(t, cfg.Dir)[0])
			requireRefuses(t, trail)
			require.ErrorContains(t, trail.Ready(), "its file was changed from outside")
		})
	}
}

// It need not wait until the disk is looked at: an append looks itself.
func TestAppendNoticesAChangedFileItself(t *testing.T) {
	cfg := config(t)
	cfg.SyncInterval = time.Hour
	trail := mustOpen(t, cfg)
	require.NoError(t, os.Remove(files(t, cfg.Dir)[0]))
	_, err := trail.Append(t.Context(), []Event{read("web")})
	requireUnavailable(t, err)
	requireUnavailable(t, trail.Ready())
}

// A disk that does not answer holds a caller no longer than its own patience,
// and after five seconds nobody at all.
func TestHungDiskHoldsNobody(t *testing.T) {
	for name, writes := range map[string]bool{"fsync": false, "write": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cfg := config(t)
				cfg.Durability = Synced
				trail, d := mustOpenOn(t, cfg)
				release := d.hangs(writes)
				began := time.Now()
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				_, err := trail.Append(ctx, []Event{read("patient")})
				requireUnavailable(t, err)
				require.ErrorContains(t, err, "the disk did not take the event in time")
				require.Equal(t, time.Second, time.Since(began))
				require.NoError(t, trail.Ready(), "slow is not hung")

				pass(stallAfter)
				began = time.Now()
				requireRefuses(t, trail)
				require.ErrorContains(t, trail.Ready(), "the disk does not answer")
				require.Zero(t, time.Since(began), "at once")

				release()
				synctest.Wait()
				require.NoError(t, trail.Ready())
				mustAppend(t, trail, read("after"))
				requireDense(t, all(t, trail, Filter{}))
				require.Empty(t, all(t, trail, Filter{Principal: "late"}), "who was refused at once left nothing")
				require.Len(t, all(t, trail, Filter{Principal: "patient"}), 1, "told of something that was not answered: harmless")
			})
		})
	}
}

// A disk that is slow, but answers, delays; it refuses nothing.
func TestSlowDiskDelaysAndRefusesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := config(t)
		cfg.Durability = Synced
		trail, d := mustOpenOn(t, cfg)
		const takes = 2 * time.Second // twice: write and fsync are one wait
		d.set(func(now *disk) {
			now.write = func(f *os.File, b []byte) (int, error) { pass(takes); return f.Write(b) }
			now.sync = func(f *os.File) error { pass(takes); return f.Sync() }
		})
		for i := range 5 {
			began := time.Now()
			mustAppend(t, trail, read(fmt.Sprintf("slow-%d", i)))
			require.Equal(t, 2*takes, time.Since(began))
			require.NoError(t, trail.Ready())
		}
		d.mend()
		requireDense(t, all(t, trail, Filter{}))
	})
}

// Whatever is in the place of the next file is not overwritten.
func TestNextFileThatCannotBeMade(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := config(t)
		cfg.SegmentBytes = 1
		trail, _ := mustOpenOn(t, cfg)
		next := segmentPath(cfg.Dir, 2)
		require.NoError(t, os.WriteFile(next, []byte("mine"), 0o600))
		_, err := trail.Append(t.Context(), []Event{read("during")})
		requireUnavailable(t, err)
		require.ErrorContains(t, err, "no new file: file exists")
		pass(10 * time.Second)
		requireRefuses(t, trail)
		data, err := os.ReadFile(next)
		require.NoError(t, err)
		require.Equal(t, "mine", string(data))

		require.NoError(t, os.Remove(next))
		pass(2 * healInterval)
		require.Equal(t, uint64(3), mustAppend(t, trail, read("after")))
		require.NoError(t, trail.Close())
		_, err = Verify(cfg.Dir)
		require.NoError(t, err)
	})
}

// A trail that cannot be written at its start is not open, and holds nothing.
func TestOpenOnABrokenDisk(t *testing.T) {
	cfg := closedTrail(t, 2, 0)
	broken := realDisk()
	broken.sync = func(*os.File) error { return syscall.EIO }
	_, err := open(cfg, broken)
	requireUnavailable(t, err)
	broken = realDisk()
	broken.write = func(*os.File, []byte) (int, error) { return 0, syscall.EROFS }
	_, err = open(cfg, broken)
	requireUnavailable(t, err)
	mustOpen(t, cfg)
}

// The last sync is the promise of Written: that it failed must be said.
func TestCloseSaysThatTheLastSyncFailed(t *testing.T) {
	cfg := config(t)
	cfg.SyncInterval = time.Hour
	trail, d := mustOpenOn(t, cfg)
	mustAppend(t, trail, read("web"))
	d.failsSync()
	err := trail.Close()
	requireUnavailable(t, err)
	require.ErrorIs(t, err, syscall.EIO)
	require.Equal(t, err, trail.Close())
	mustOpen(t, cfg)
}

// The log is where an operator learns which disk and why; the caller learns
// neither.
func TestFailureIsLoggedAndItsCauseNotAnswered(t *testing.T) {
	cfg := config(t)
	var out bytes.Buffer
	cfg.Logger = slog.New(slog.NewTextHandler(&out, nil))
	trail, d := mustOpenOn(t, cfg)
	d.fills(3)
	_, err := trail.Append(t.Context(), []Event{read("web")})
	var f *fault.Error
	require.ErrorAs(t, err, &f)
	require.NotContains(t, f.Message, cfg.Dir)
	d.mend()
	require.NoError(t, trail.Close())
	require.Contains(t, out.String(), cfg.Dir)
	require.Contains(t, out.String(), "no space left on device")
	require.Contains(t, out.String(), "wrote 3 of ")
}
