package torture

import (
	"fmt"
	"math"
	"slices"
	"sort"
)

// version is a line of a secret's history as the cluster tells it at the end.
type version struct {
	Version   int
	VersionID string
	State     string
}

// checkSecret holds the history of a secret against what the cluster says of
// it after the last operation, in n·log n, however long it is. It answers what
// is wrong. Puts number their versions, so their order is known, and what each
// read may answer follows from it.
//
// The value of a secret whose current version was also moved by activations is
// not decided here but by the model (model.go).
func checkSecret(ops []op, told []version) []string {
	c := &secretCheck{ops: ops, told: told, puts: map[int]op{}, destroyed: map[int]int64{}}
	c.history()
	c.order()
	c.reads()
	return c.wrong
}

type secretCheck struct {
	ops   []op
	told  []version
	puts  map[int]op // by version; those with an unknown outcome too, if they happened
	wrong []string

	returns   []op          // acknowledged puts by the time of their return
	top       []int         // highest version among returns[:i+1]
	destroyed map[int]int64 // when it was acknowledged first
	moved     bool          // the current version was also activated
}

func (c *secretCheck) say(format string, args ...any) {
	c.wrong = append(c.wrong, fmt.Sprintf(format, args...))
}

// history: each acknowledged put is there once, under its number and with its
// token; numbers have no gap; no version is there that nobody has put.
func (c *secretCheck) history() {
	byToken := map[string]op{}
	for _, o := range c.ops {
		if o.Kind != put {
			continue
		}
		byToken[o.Token] = o
		if !o.ok() {
			continue
		}
		if other, taken := c.puts[o.Version]; taken {
			c.say("version %d was acknowledged twice, to %s and %s", o.Version, other.Token, o.Token)
		}
		c.puts[o.Version] = o
	}
	told := map[int]version{}
	for _, v := range c.told {
		if _, twice := told[v.Version]; twice {
			c.say("version %d is in the history twice", v.Version)
		}
		told[v.Version] = v
		o, known := byToken[v.VersionID]
		switch {
		case !known:
			c.say("version %d has the id %s, which nobody has put", v.Version, v.VersionID)
		case o.ok() && o.Version != v.Version:
			c.say("the put %s was acknowledged as version %d and is version %d", o.Token, o.Version, v.Version)
		case o.Code == unknown: // it did happen
			o.Version = v.Version
			c.puts[v.Version] = o
		case !o.ok():
			c.say("version %d is of the put %s, which was refused with %s", v.Version, o.Token, o.Code)
		}
	}
	for number := 1; number <= len(c.told); number++ {
		if _, there := told[number]; !there {
			c.say("version %d is missing among %d", number, len(c.told))
		}
	}
	for number, o := range c.puts {
		if v, there := told[number]; !there || v.VersionID != o.Token {
			c.say("version %d was acknowledged to %s and is lost", number, o.Token)
		}
	}
	for _, o := range c.ops {
		switch {
		case o.Kind == activate:
			c.moved = true
		case o.Kind == destroy && o.ok():
			if at, there := c.destroyed[o.Version]; !there || o.Return < at {
				c.destroyed[o.Version] = o.Return
			}
			if v := told[o.Version]; v.State != "destroyed" {
				c.say("version %d was destroyed, as acknowledged, and is %q", o.Version, v.State)
			}
		}
	}
}

// order: a put that began after another one was acknowledged has the higher
// number.
func (c *secretCheck) order() {
	numbers := make([]int, 0, len(c.puts))
	for number, o := range c.puts {
		numbers = append(numbers, number)
		if o.ok() {
			c.returns = append(c.returns, o)
		}
	}
	slices.Sort(numbers)
	earliest := int64(math.MaxInt64)
	for _, number := range slices.Backward(numbers) {
		o := c.puts[number]
		if earliest < o.Call {
			c.say("version %d was put after a higher one was acknowledged", number)
		}
		earliest = min(earliest, o.Return)
	}
	slices.SortFunc(c.returns, func(a, b op) int { return int(min(1, max(-1, a.Return-b.Return))) })
	for _, o := range c.returns {
		highest := o.Version
		if len(c.top) > 0 {
			highest = max(highest, c.top[len(c.top)-1])
		}
		c.top = append(c.top, highest)
	}
}

// floor is the highest version that was acknowledged before a moment.
func (c *secretCheck) floor(at int64) int {
	i := sort.Search(len(c.returns), func(i int) bool { return c.returns[i].Return >= at })
	if i == 0 {
		return 0
	}
	return c.top[i-1]
}

// reads: a value is the one that was put, is not read before that was asked
// for nor after its destruction was acknowledged, and is not older than what
// was acknowledged before the read began.
func (c *secretCheck) reads() {
	for _, o := range c.ops {
		switch o.Kind {
		case get, getOne:
			if !o.ok() {
				continue
			}
			written, there := c.puts[o.Version]
			switch {
			case !there:
				c.say("client %d read version %d, which nobody has put", o.Client, o.Version)
			case written.Token != o.Value:
				c.say("client %d read version %d with the value of %s, and it has that of %s", o.Client, o.Version, o.Value, written.Token)
			case written.Call > o.Return:
				c.say("client %d read version %d before it was put", o.Client, o.Version)
			}
			if o.Kind == get && !c.moved && o.Version < c.floor(o.Call) {
				c.say("a stale read: client %d was given version %d by node%d after %d was acknowledged", o.Client, o.Version, o.Node, c.floor(o.Call))
			}
			c.alive(o, "was given")
		case describe:
			if !o.ok() {
				continue
			}
			if o.Latest < c.floor(o.Call) {
				c.say("a stale read: client %d was told by node%d that %d is the latest version after %d was acknowledged", o.Client, o.Node, o.Latest, c.floor(o.Call))
			}
			if written, there := c.puts[o.Latest]; !there || written.Call > o.Return {
				c.say("client %d was told of version %d before it was put", o.Client, o.Latest)
			}
		case activate, enable, disable:
			if o.ok() {
				c.alive(o, string(o.Kind)+"d")
			}
		}
	}
}

func (c *secretCheck) alive(o op, did string) {
	if at, there := c.destroyed[o.Version]; there && at < o.Call {
		c.say("client %d %s version %d by node%d after its destruction was acknowledged", o.Client, did, o.Version, o.Node)
	}
}
