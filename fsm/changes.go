package fsm

import (
	"encoding/binary"
	"iter"

	"github.com/strongroom/strongroom/internal/names"
)

// changeKey orders secrets by when they changed.
func changeKey(index uint64, path names.Path) []byte {
	return append(binary.BigEndian.AppendUint64(make([]byte, 0, 8+len(path)), index), path...)
}

// ChangesAfter answers the secrets, tombstones included, whose last change
// has an index greater than after, in the order of those changes. It costs
// what has changed, not what there is.
func (s *State) ChangesAfter(after uint64) iter.Seq[*Secret] {
	return func(yield func(*Secret) bool) {
		if after+1 == 0 {
			return
		}
		for key := range scan(s.changes.Root(), nil, changeKey(after+1, "")) {
			if !yield(s.Secret(names.Path(key[8:]))) {
				return
			}
		}
	}
}

// SameSealed reports whether nothing differs between s and other in versions,
// secrets and keys. It compares no records, so it costs nothing.
func (s *State) SameSealed(other *State) bool {
	return s.versions == other.versions && s.secrets == other.secrets && s.keys == other.keys
}

// SameRights reports whether nothing differs between s and other on which a
// decision about a caller depends: principals, tokens, access keys, trusts,
// groups, policies, access policies and open break-glass sessions. It compares
// no records, so it costs nothing.
func (s *State) SameRights(other *State) bool {
	return s.principals == other.principals && s.tokens == other.tokens && s.trusts == other.trusts &&
		s.policies == other.policies && s.access == other.access &&
		s.groups == other.groups && s.members == other.members && s.accessKeys == other.accessKeys && s.glassOpen == other.glassOpen
}
