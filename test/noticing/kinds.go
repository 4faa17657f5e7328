package noticing

import (
	"fmt"
)

// service has a few instances, which read all they need when they start and
// again every so often. It is released now and then on workdays.
func service(p *person, end int64) {
	p.take(p.between(3, 25))
	instances, every := p.between(1, 4), int64(p.between(10, 60))*minute
	p.serve(monday, end, instances, every)
}

// newcomer is a service that is made during the month.
func newcomer(p *person, end int64) {
	p.take(p.between(3, 25))
	begin := monday + p.Int64N(max(end-monday-day, 1))
	for i, path := range p.paths { // nobody had them before
		p.read(begin-minute+int64(i)*50, path, true)
	}
	p.serve(begin, end, p.between(1, 4), int64(p.between(10, 60))*minute)
}

func (p *person) serve(begin, end int64, instances int, every int64) {
	for at := begin; at < end; at += every {
		for i := range instances {
			p.readAll(at + int64(i)*second + p.Int64N(minute))
		}
	}
	for at := begin; at < end; at += day {
		if workday(at) && p.IntN(4) == 0 {
			p.release(at + 9*hour + p.Int64N(8*hour))
		}
	}
}

// autoscaled has more instances by day than by night; each reads everything
// when it starts and nothing after that. One day in ten is twice as busy.
func autoscaled(p *person, end int64) {
	p.take(p.between(5, 30))
	most := p.between(4, 24)
	for at := monday; at < end; at += day {
		busy := most
		if p.IntN(10) == 0 {
			busy *= 2
		}
		for range 3 * busy {
			p.readAll(at + 6*hour + p.Int64N(14*hour))
		}
		if workday(at) && p.IntN(4) == 0 { // a release starts all of them anew
			start := at + 9*hour + p.Int64N(8*hour)
			for range busy {
				p.readAll(start + p.Int64N(10*minute))
			}
			p.release(start)
		}
	}
}

// cron runs every hour, every night or every week. Once in some weeks it fails
// and somebody runs it again and again.
func cron(p *person, end int64) {
	p.take(p.between(2, 60))
	every := []int64{hour, day, day, week}[p.IntN(4)]
	at := monday + p.Int64N(every)
	for ; at < end; at += every {
		p.readAll(at + p.Int64N(minute))
		if p.IntN(40) == 0 {
			for i := range p.between(1, 4) {
				p.readAll(at + int64(i+1)*3*minute)
			}
		}
	}
}

// deployer rolls out programs in office hours, each with its own secrets.
func deployer(p *person, end int64) {
	p.take(p.between(50, 200))
	for at := monday; at < end; at += day {
		if !workday(at) {
			continue
		}
		for range p.between(2, 20) {
			start := at + 8*hour + p.Int64N(10*hour)
			first, n := p.IntN(len(p.paths)-20), p.between(5, 20)
			for i := range n {
				p.read(start+int64(i)*200, p.paths[first+i], false)
			}
			if p.IntN(10) == 0 { // something new is rolled out
				before := len(p.paths)
				p.take(p.between(3, 12))
				for i, path := range p.paths[before:] {
					p.read(start+int64(n+i)*200, path, true)
				}
			}
		}
	}
}

// human looks things up in office hours: mostly the same, at times something of
// the team that is new to this human. Once in some weeks there is an incident,
// and more is read. Some stumble over what they may not see.
func human(p *person, end int64) {
	p.take(p.between(20, 80))
	favourites := 2 + len(p.paths)/8
	for at := monday; at < end; at += day {
		if !workday(at) || p.IntN(4) == 0 {
			continue
		}
		lookups := p.between(0, 8)
		if p.IntN(30) == 0 {
			lookups += p.between(10, 25)
		}
		for range lookups {
			path := p.paths[p.IntN(favourites)]
			if p.IntN(6) == 0 {
				path = p.paths[p.IntN(len(p.paths))]
			}
			p.read(at+8*hour+p.Int64N(10*hour), path, false)
		}
		if p.IntN(8) == 0 {
			stumble := at + 8*hour + p.Int64N(10*hour)
			for i := range p.between(1, 6) {
				p.denied(stumble+int64(i)*10*second, fmt.Sprintf("/other/secret-%d", p.IntN(100)))
			}
		}
	}
}

// ci runs jobs in bursts when people push, and some at night.
func ci(p *person, end int64) {
	p.take(p.between(20, 150))
	for at := monday; at < end; at += hour {
		bursts := 0
		if of := (at - monday) % day / hour; workday(at) && of >= 8 && of < 19 {
			bursts = p.IntN(4)
		} else if of == 2 {
			bursts = 3
		}
		for range bursts {
			start := at + p.Int64N(hour)
			for range p.between(1, 12) { // jobs of a pipeline
				first := p.IntN(len(p.paths) - 15)
				for i := range p.between(3, 15) {
					p.read(start+p.Int64N(3*minute), p.paths[first+i], false)
				}
			}
		}
		if workday(at) && p.IntN(60) == 0 {
			p.take(p.between(1, 3))
		}
	}
}
