package audit

import "slices"

// links finds, for each entry of KMS in events that has no Sequence yet, the
// event of the same batch that it points at: one with the same name and key
// and no entries of its own, the first such that no earlier entry took. It
// answers per event its entries' places in the batch, -1 for none, and nil
// for an event without any.
func links(events []Event) [][]int {
	type target struct{ event, keyID string }
	var waiting map[target][]int
	var out [][]int
	for i := range events {
		if len(events[i].KMS) == 0 {
			continue
		}
		if waiting == nil {
			waiting, out = make(map[target][]int), make([][]int, len(events))
			for j := range events {
				if e := &events[j]; len(e.KMS) == 0 {
					at := target{e.Event, e.KeyID}
					waiting[at] = append(waiting[at], j)
				}
			}
		}
		for n, k := range events[i].KMS {
			at := target{k.Event, k.KeyID}
			if k.Sequence != 0 || len(waiting[at]) == 0 {
				continue
			}
			if out[i] == nil {
				out[i] = slices.Repeat([]int{-1}, len(events[i].KMS))
			}
			out[i][n] = waiting[at][0]
			waiting[at] = waiting[at][1:]
		}
	}
	return out
}

// linkedEvent is an event whose body waits for the sequence numbers of its
// batch, which only the writer knows.
type linkedEvent struct {
	event  Event // KMS is its own copy
	places []int
}

func (l *linkedEvent) fill(first uint64) *Event {
	for n, place := range l.places {
		if place >= 0 {
			l.event.KMS[n].Sequence = first + uint64(place)
		}
	}
	return &l.event
}
