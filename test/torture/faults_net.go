package torture

import (
	"fmt"
	"time"
)

func networkFamilies() []family {
	both := []target{leader, follower}
	return []family{
		{"cut", both, 2 * time.Second, 8 * time.Second, 3, func(l *Lab, s step) (fault, error) {
			return l.drop(s, func(n *node, others []*node) []wire {
				return append(from(n, others), to(others, n)...)
			})
		}},
		// The others do not hear it any more; it hears them.
		{"mute", both, 2 * time.Second, 8 * time.Second, 3, func(l *Lab, s step) (fault, error) {
			return l.drop(s, func(n *node, others []*node) []wire { return from(n, others) })
		}},
		// It does not hear the others any more; they hear it.
		{"deaf", both, 2 * time.Second, 8 * time.Second, 3, func(l *Lab, s step) (fault, error) {
			return l.drop(s, func(n *node, others []*node) []wire { return to(others, n) })
		}},
		// Two members do not reach each other; the others reach both.
		{"bridge", both, 2 * time.Second, 8 * time.Second, 3, func(l *Lab, s step) (fault, error) {
			return l.drop(s, func(n *node, others []*node) []wire {
				other := others[int(s.Number/7)%len(others):][:1]
				return append(from(n, other), to(other, n)...)
			})
		}},
		{"loss", []target{all}, 3 * time.Second, 12 * time.Second, 2, func(l *Lab, s step) (fault, error) {
			percent := []int{10, 20, 40}[s.Number%3]
			return l.filters(func(n *node) (rules []string) {
				for _, other := range l.others(n) {
					rules = append(rules, dropFrom(nodeAddress(other.number), percent))
				}
				return rules
			})
		}},
		// Alone: nobody reaches it, not even clients, and it reaches nobody.
		{"alone", both, 2 * time.Second, 8 * time.Second, 2, func(l *Lab, s step) (fault, error) {
			n, err := l.pick(s)
			if err != nil {
				return fault{}, err
			}
			return l.filters(func(m *node) (rules []string) {
				if m != n {
					return []string{dropFrom(nodeAddress(n.number), 100)}
				}
				return []string{"ip saddr 10.77.0.0/16 counter drop"}
			})
		}},
		{"slow line", both, 3 * time.Second, 12 * time.Second, 2, func(l *Lab, s step) (fault, error) {
			n, err := l.pick(s)
			if err != nil {
				return fault{}, err
			}
			if err := n.slow([]string{"1mbit", "2mbit", "4mbit"}[s.Number%3]); err != nil {
				return fault{}, err
			}
			return fault{
				verify: func() error {
					return l.await("packets to wait before "+n.name()+"'s line", func() bool { queued, err := n.queued(); return err == nil && queued > 0 })
				},
				disarm: n.fast,
			}, nil
		}},
	}
}

// wire is one direction between two nodes.
type wire struct{ from, to *node }

func from(n *node, others []*node) (out []wire) {
	for _, o := range others {
		out = append(out, wire{n, o})
	}
	return out
}

func to(others []*node, n *node) (out []wire) {
	for _, o := range others {
		out = append(out, wire{o, n})
	}
	return out
}

// drop cuts the wires that a step is about.
func (l *Lab) drop(s step, which func(n *node, others []*node) []wire) (fault, error) {
	n, err := l.pick(s)
	if err != nil {
		return fault{}, err
	}
	cut := which(n, l.others(n))
	return l.filters(func(m *node) (rules []string) {
		for _, w := range cut {
			if w.to == m {
				rules = append(rules, dropFrom(nodeAddress(w.from.number), 100))
			}
		}
		return rules
	})
}

// filters gives each member rules. The effect is that each node that has some
// has lost a packet by them.
func (l *Lab) filters(rules func(*node) []string) (fault, error) {
	nodes := l.members()
	f := fault{
		verify: func() error {
			return each(nodes, func(n *node) error {
				if len(rules(n)) == 0 {
					return nil
				}
				return l.await("a packet to be dropped", func() bool { count, err := n.dropped(); return err == nil && count > 0 })
			})
		},
		disarm: func() error { return each(nodes, func(n *node) error { return n.filter() }) },
	}
	if err := each(nodes, func(n *node) error { return n.filter(rules(n)...) }); err != nil {
		return fault{}, fmt.Errorf("%w; %v", err, f.disarm())
	}
	return f, nil
}
