package engine_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/strongroom/strongroom/api/wire"
)

type appender []byte

func (a *appender) Write(b []byte) (int, error) { *a = append(*a, b...); return len(b), nil }

// node is the one that leads, most of the time.
func (p *play) node() *actor {
	if p.chance("any", 6) == 0 {
		return p.actors[p.chance("node", 3)]
	}
	return p.actors[p.leader]
}

func (p *play) latest() uint64 { return p.machine.State().Secret(held).Latest }

func (p *play) number() uint64 {
	latest := p.latest()
	return latest - min(latest-1, uint64(p.chance("back", 3)))
}

// read is a consumer that asks for a version, and may say what it uses.
func (p *play) read() { p.readFrom(p.node()) }

// readBehind is read through a node that follows.
func (p *play) readBehind() { p.readFrom(p.actors[(p.leader+1+p.chance("behind", 2))%3]) }

func (p *play) readFrom(node *actor) {
	c := p.consumers[p.chance("consumer", len(p.consumers))]
	body := `{"path":"` + held + `","instance":"` + c.instance + `"`
	if p.chance("which", 2) == 0 {
		body += fmt.Sprintf(`,"version":%d`, p.number())
	}
	if c.uses != 0 && p.chance("says", 3) == 0 {
		body += fmt.Sprintf(`,"ifNotVersion":%d`, c.uses)
		p.only(c, c.uses)
	}
	asked := p.clock
	out, err := p.ask(node, "getSecretValue", body+"}")
	if err != nil {
		return
	}
	got := decodeValue(p, out)
	p.tried["read"]++
	p.tell("%s has version %d", c.instance, got.Version)
	c.keeps[got.Version] = asked.Add(time.Duration(got.Cache.MaxAge))
	p.mustNotKeep(c, got.Version)
	if !got.NotModified && p.chance("takes", 2) == 0 {
		c.uses = got.Version
	}
}

func decodeValue(t require.TestingT, text string) (out wire.GetSecretValueResponse) {
	require.NoError(t, wire.Decode([]byte(text), &out))
	return out
}

// confirm is a consumer that has moved to what it uses, and says so.
func (p *play) confirm() {
	c := p.consumers[p.chance("consumer", len(p.consumers))]
	if c.uses == 0 {
		return
	}
	p.only(c, c.uses)
	body := fmt.Sprintf(`{"path":%q,"version":%d,"instance":%q}`, held, c.uses, c.instance)
	if _, err := p.ask(p.node(), "confirmVersion", body); err == nil {
		p.tried["confirmed"]++
	}
}

// only is that a consumer lets go of all other versions.
func (p *play) only(c *consumer, version uint64) {
	for number := range c.keeps {
		if number != version {
			delete(c.keeps, number)
		}
	}
}

// old is a version that may be destroyed, if there is one.
func (p *play) old() uint64 {
	latest := p.latest()
	return max(1, latest-min(latest, uint64(1+p.chance("old", 3))))
}

func (p *play) act() {
	acts := []struct {
		name   string
		weight int
		do     func()
	}{
		{"read", 6, p.read},
		{"read behind", 12, p.readBehind},
		{"confirm", 5, p.confirm},
		{"put", 4, p.put},
		{"destroy", 7, p.destroy},
		{"destroy later", 1, p.destroyLater},
		{"reap", 1, p.reap},
		{"flush", 5, func() { p.node().engine.FlushLedger(context.Background()) }},
		{"tell", 3, func() { p.actors[p.chance("node", 3)].engine.TellLeader(context.Background()) }},
		{"settle", 3, func() { p.node().engine.SettleSessions(context.Background()) }},
		{"elect", 1, func() { p.elect(); p.lead() }},
		{"lead", 7, p.keepLeading},
		{"die", 1, func() { p.actors[p.chance("node", 3)].die(); p.lead() }},
		{"unlink", 1, func() { a := p.actors[p.chance("node", 3)]; a.unlinked = !a.unlinked }},
		{"wait", 3, func() {
			p.clock = p.clock.Add([]time.Duration{time.Millisecond, time.Second, 4 * time.Second, 2 * time.Minute, 6 * time.Minute}[p.chance("time", 5)])
		}},
	}
	total := 0
	for _, a := range acts {
		total += a.weight
	}
	at := p.chance("act", total)
	for _, a := range acts {
		if at -= a.weight; at < 0 {
			p.tell("%s", a.name)
			a.do()
			return
		}
	}
}

// keepLeading opens a session where there is none, and now and then another.
func (p *play) keepLeading() {
	if !p.actors[p.leader].engine.HandsOut() || p.chance("again", 16) == 0 {
		p.lead()
	}
}

func (p *play) put() {
	p.values++
	_, _ = p.ask(p.node(), "putSecretValue", fmt.Sprintf(`{"path":%q,"value":%q}`, held, b64(fmt.Sprint("value ", p.values))))
}

func (p *play) destroy() {
	p.tried["asked"]++
	_, _ = p.ask(p.node(), "destroyVersion", fmt.Sprintf(`{"path":%q,"version":%d}`, held, p.old()))
}

func (p *play) destroyLater() {
	_, _ = p.ask(p.node(), "destroyVersion", fmt.Sprintf(`{"path":%q,"version":%d,"delay":"%dm"}`, held, p.old(), 1+p.chance("delay", 7)))
}

func (p *play) reap() {
	e := p.node().engine
	ctx := p.patience(e.Waits)
	defer ctx.cancel()
	e.Reap(ctx)
}

// perform plays once, for up to steps.
func perform(t *rapid.T, steps int, tape []chosen) *play {
	p := newPlay(t, tape)
	defer p.end()
	for n := steps/4 + p.chance("steps", steps*3/4); n > 0 && !p.over; n-- {
		p.step()
	}
	p.finish()
	return p
}

func TestNoScheduleDestroysWhatAConsumerKeeps(t *testing.T) {
	total := map[string]int{}
	rapid.Check(t, func(t *rapid.T) {
		rapid.SyncTest(t, func(t *rapid.T) {
			for what, n := range perform(t, 320, nil).tried {
				total[what] += n
			}
		})
	})
	for _, what := range []string{"read", "followed", "confirmed", "asked", "destroyed"} {
		require.Positive(t, total[what], "%s: %v", what, total)
	}
	t.Log(total)
}

// A play that is drawn again is the same to the last word: what fails once
// fails again, and can be made small.
func TestAPlayIsWhatIsDrawn(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rapid.SyncTest(t, func(t *rapid.T) {
			p := perform(t, 60, nil)
			same(t, p.story, perform(t, 60, p.drawn).story)
		})
	})
}

func same(t *rapid.T, one, other []string) {
	for i := range min(len(one), len(other)) {
		require.Equal(t, one[i], other[i], "line %d", i)
	}
	require.Len(t, other, len(one))
}
