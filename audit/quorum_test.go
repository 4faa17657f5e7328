package audit

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func quorumTrail(t testing.TB, voters ...string) *Trail {
	t.Helper()
	cfg := config(t)
	cfg.Durability = Quorum
	trail := mustOpen(t, cfg)
	trail.SetVoters(voters)
	return trail
}

// appendLater appends one event and answers what came of it.
func appendLater(ctx context.Context, trail *Trail) <-chan error {
	done := make(chan error, 1)
	go func() {
		_, err := trail.Append(ctx, []Event{read("web")})
		done <- err
	}()
	return done
}

// untilWritten waits until the event with that sequence is on the own disk.
func untilWritten(t testing.TB, trail *Trail, sequence uint64) {
	t.Helper()
	require.NoError(t, trail.Wait(t.Context(), sequence-1))
}

func TestQuorumAnswersOnceAMajorityHoldsTheEvent(t *testing.T) {
	trail := quorumTrail(t, "n1", "n2", "n3")
	done := appendLater(t.Context(), trail)
	untilWritten(t, trail, 2)
	trail.Holds("n2", 1)
	trail.Holds("stranger", 2)
	trail.Holds("n3", 3) // more than there is: it is not this chain
	require.EqualValues(t, 1, trail.Safe())
	require.Empty(t, done, "not answered before")
	trail.Holds("n3", 2)
	require.NoError(t, <-done)
	require.EqualValues(t, 2, trail.Safe())
	require.NoError(t, trail.Ready())
}

func TestQuorumOfOneIsItsOwnDisk(t *testing.T) {
	trail := quorumTrail(t, "n1")
	mustAppend(t, trail, read("web"))
	require.Equal(t, trail.Head(), trail.Settled())
	require.Equal(t, trail.Head().Sequence, trail.Safe())
}

// A node that does not vote holds the event too, and does not count.
func TestANodeThatDoesNotVoteNeedsAMajorityOfTheOthers(t *testing.T) {
	trail := quorumTrail(t, "n2", "n3", "n4")
	done := appendLater(t.Context(), trail)
	untilWritten(t, trail, 2)
	trail.Holds("n2", 2)
	require.Empty(t, done)
	trail.Holds("n4", 2)
	require.NoError(t, <-done)
}

func TestQuorumRefusesWhileNobodyTakesTheEvents(t *testing.T) {
	trail := quorumTrail(t, "n1", "n2", "n3")
	short, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	err := <-appendLater(short, trail)
	requireUnavailable(t, err)
	require.ErrorContains(t, err, reasonNoMajority)
	require.ErrorIs(t, err, context.DeadlineExceeded)

	nobody := quorumTrail(t)
	ended, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	requireUnavailable(t, <-appendLater(ended, nobody))
}

// A caller without a deadline is not held for ever, and what comes after it is
// refused at once, until the others take what there is.
func TestQuorumRefusesAtOnceAfterAWhileAndHeals(t *testing.T) {
	trail := quorumTrail(t, "n1", "n2", "n3")
	q := trail.quorum
	err := <-appendLater(context.Background(), trail)
	requireUnavailable(t, err)
	require.ErrorContains(t, err, reasonNoMajority)
	q.mu.Lock()
	q.since = q.since.Add(-time.Second) // no need to wait for the last moment of it
	q.mu.Unlock()
	requireUnavailable(t, trail.Ready())
	requireUnavailable(t, <-appendLater(t.Context(), trail))
	require.EqualValues(t, 2, trail.Settled().Sequence, "what is refused at once is not written")
	trail.Holds("n2", 1)
	require.NoError(t, trail.Ready(), "they take some: it goes on")
	trail.Holds("n2", 2)
	require.NoError(t, trail.Ready())
	done := appendLater(t.Context(), trail)
	untilWritten(t, trail, 3)
	trail.Holds("n3", 3)
	require.NoError(t, <-done)
}

func TestCloseEndsTheWaitForAMajority(t *testing.T) {
	trail := quorumTrail(t, "n1", "n2", "n3")
	done := appendLater(context.Background(), trail)
	untilWritten(t, trail, 2)
	require.NoError(t, trail.Close())
	requireUnavailable(t, <-done)
}

// A member that was removed counts no more, and what was answered with it
// stays answered.
func TestQuorumFollowsTheMembers(t *testing.T) {
	trail := quorumTrail(t, "n1", "n2", "n3")
	trail.Holds("n2", 1)
	done := appendLater(t.Context(), trail)
	untilWritten(t, trail, 2)
	trail.SetVoters([]string{"n1"})
	require.NoError(t, <-done, "the others are gone: it is a majority by itself")
	trail.SetVoters([]string{"n1", "n2", "n3", "n4", "n5"})
	require.EqualValues(t, 2, trail.Safe())
	require.Zero(t, trail.quorum.held["n2"], "one that comes back says anew what it has")
}

// A disk that fails is said as under synced, whatever the others hold.
func TestQuorumNeedsItsOwnDiskToo(t *testing.T) {
	cfg := config(t)
	cfg.Durability = Quorum
	trail, d := mustOpenOn(t, cfg)
	trail.SetVoters([]string{"n1"})
	d.failsSync()
	requireUnavailable(t, <-appendLater(t.Context(), trail))
	requireRefuses(t, trail)
	require.EqualValues(t, 1, trail.Safe())
}

// Whatever members say, in any order: safe is what a majority of the voters
// holds, and never goes back.
func TestSafeIsWhatAMajorityHolds(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		n := rapid.IntRange(1, 7).Draw(r, "members")
		voters := []string{"n1", "n2", "n3", "n4", "n5", "n6", "n7"}[:n]
		q := newQuorum("n1")
		q.voters = voters
		said := map[string]uint64{}
		var settled, before uint64
		for range rapid.IntRange(1, 30).Draw(r, "steps") {
			settled += rapid.Uint64Range(0, 3).Draw(r, "appended")
			who := rapid.SampledFrom(voters).Draw(r, "who")
			said[who] = max(said[who], rapid.Uint64Range(0, settled).Draw(r, "holds"))
			q.held[who] = said[who]
			said["n1"] = settled
			got, _ := q.look(settled)
			holders := 0
			for _, v := range voters {
				if said[v] >= got {
					holders++
				}
			}
			require.Greater(r, 2*holders, n)
			more := 0
			for _, v := range voters {
				if said[v] > got {
					more++
				}
			}
			require.LessOrEqual(r, 2*more, n, "and no event later than it has to")
			require.GreaterOrEqual(r, got, before)
			before = got
		}
	})
}

// Many callers at once, and members that come behind in steps: each is
// answered once its own event is held.
func TestQuorumAnswersEachCallerForItsOwnEvent(t *testing.T) {
	trail := quorumTrail(t, "n1", "n2")
	type answer struct {
		first uint64
		err   error
	}
	answers := make(chan answer, 50)
	for range cap(answers) {
		go func() {
			first, err := trail.Append(context.Background(), []Event{read("web"), read("db")})
			answers <- answer{first, errors.Join(err)}
		}()
	}
	untilWritten(t, trail, 101)
	var held uint64
	for range cap(answers) {
		if len(answers) == 0 {
			held += 2
			trail.Holds("n2", min(held+1, 101))
		}
		a := <-answers
		require.NoError(t, a.err)
		require.LessOrEqual(t, a.first+1, held+1)
	}
}

func TestStuckCountsFromWhenNothingMoved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newQuorum("n1")
		q.voters = slices.Clone([]string{"n1", "n2"})
		require.False(t, q.stuck(0), "there is nothing to take")
		pass(time.Hour)
		require.False(t, q.stuck(5))
		pass(stallAfter)
		require.False(t, q.stuck(5))
		pass(time.Millisecond)
		require.True(t, q.stuck(5))
		q.held["n2"] = 3
		require.False(t, q.stuck(5), "they took some")
		pass(stallAfter + time.Millisecond)
		require.True(t, q.stuck(5))
		q.held["n2"] = 5
		require.False(t, q.stuck(5))
		pass(time.Hour)
		require.False(t, q.stuck(5))
	})
}
