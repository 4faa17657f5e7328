package notice

import "time"

const (
	day  = int64(24 * time.Hour / time.Millisecond)
	hour = int64(time.Hour / time.Millisecond)
)

// counter counts in windows that follow each other, and remembers the fullest
// window of each of the past days.
type counter struct {
	start int64 // of the window
	count uint64
	// peaks[d%BaselineDays] is the fullest window of day d, for the days up to
	// today.
	peaks [BaselineDays + 1]uint32
	today int64
	told  uint64 // what was measured at the last alert of today
	most  uint64 // what the window is learned as, at most; 0: as it is
}

// roll moves on to the window of at, and reports whether it is another one.
// Whoever follows several trails gets events a little late: such an event counts
// in the window that is open. One that is more than a day late means that a
// clock was set back, and the counter begins again there: it must not stand
// still until time catches up.
func (c *counter) roll(at, width int64) bool {
	start := at - at%width
	if start == c.start || start < c.start && at > c.start-day {
		return false
	}
	c.learn()
	c.start, c.count, c.most = start, 0, 0
	c.openDay(start / day)
	return true
}

// learn keeps what the window that ends had.
func (c *counter) learn() {
	count := min(c.count, 1<<31)
	if c.most > 0 {
		count = min(count, c.most)
	}
	slot := &c.peaks[c.today%int64(len(c.peaks))]
	*slot = max(*slot, uint32(count))
}

// openDay forgets the days that today pushed out.
func (c *counter) openDay(today int64) {
	if today == c.today {
		return
	}
	if today < c.today || today-c.today >= int64(len(c.peaks)) {
		c.peaks = [len(c.peaks)]uint32{}
	} else {
		for d := c.today + 1; d <= today; d++ {
			c.peaks[d%int64(len(c.peaks))] = 0
		}
	}
	c.today, c.told = today, 0
}

// baseline is the fullest window of the days before today. Today does not
// count: whoever steals a token must not be able to teach within the hour what
// is usual.
func (c *counter) baseline() uint64 {
	var most uint32
	for i, p := range c.peaks {
		if int64(i) != c.today%int64(len(c.peaks)) {
			most = max(most, p)
		}
	}
	return uint64(most)
}

// passed reports whether the window holds more than the threshold, and at least
// twice what was told today already. Such a window is learned as half the
// threshold: new habits alert for some days and are habits after that, and one
// day of an attack does not make the next one usual.
func (c *counter) passed(threshold uint64) bool {
	if c.count <= threshold {
		return false
	}
	c.most = max(threshold/2, 1)
	if c.count < 2*c.told {
		return false
	}
	c.told = c.count
	return true
}
