package fsm

import (
	"iter"
	"maps"

	"github.com/strongroom/strongroom/internal/names"
)

// tagKey is tag name 0 value 0 path. A value that somebody wrote with a zero
// byte in it could put entries among those of a shorter value, so a reader
// looks the secret up and holds its tags against what is asked for: the
// index finds candidates, the record decides.
func tagKey(name, value string, path names.Path) []byte {
	return append(tagPrefix(name, value), path...)
}

func tagPrefix(name, value string) []byte {
	out := make([]byte, 0, len(name)+1+len(value)+1+names.MaxPathBytes)
	out = append(append(out, name...), 0)
	return append(append(out, value...), 0)
}

// indexTags keeps the index in step with s, which replaces old. A tombstone
// has no tags. Most changes of a secret leave its tags alone and cost nothing
// here.
func (t *txn) indexTags(old, s *Secret) {
	if old != nil && maps.Equal(old.Tags, s.Tags) {
		return
	}
	if old != nil {
		for _, name := range sorted(old.Tags) {
			if value, kept := s.Tags[name]; !kept || value != old.Tags[name] {
				t.tagged.remove(tagKey(name, old.Tags[name], old.Path))
			}
		}
	}
	for _, name := range sorted(s.Tags) {
		t.tagged.put(tagKey(name, s.Tags[name], s.Path), struct{}{})
	}
}

// TaggedFrom answers the paths, below prefix and greater than after, of the
// secrets that may have the tag, in order. Every secret that has it is among
// them; whether one does is in its record.
func (s *State) TaggedFrom(name, value, prefix, after string) iter.Seq[names.Path] {
	head := tagPrefix(name, value)
	within := append(head[:len(head):len(head)], prefix...)
	var from []byte
	if after != "" {
		from = append(append(head[:len(head):len(head)], after...), 0)
	}
	return func(yield func(names.Path) bool) {
		for key := range scan(s.tagged.Root(), within, from) {
			if !yield(names.Path(key[len(head):])) {
				return
			}
		}
	}
}
