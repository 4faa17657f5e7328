//go:build levelnext

package fsm

// This build stands for the next release in tests of upgrades: it knows one
// level more, with one command kind that this release cannot read. No release
// is built with the tag.

// Level is the feature level that this build knows.
const Level uint32 = 2

// KindRehearse is never used by a release.
const KindRehearse Kind = 101

// Rehearse changes nothing. It is what a new command is to an older build.
type Rehearse struct {
	Meta Meta `cbor:"1,keyasint,omitempty"`
	// Grown, if set, needs a level that not even this build knows.
	Grown string `cbor:"2,keyasint,omitempty"`
}

// Kind answers the number of the command.
func (Rehearse) Kind() Kind   { return KindRehearse }
func (c Rehearse) meta() Meta { return c.Meta }

var rehearsed = []entry{
	grown(kind(func(*txn, Rehearse) (Result, *Refusal) { return Result{Done: 1}, nil }).from(2), 3, func(c Rehearse) bool { return c.Grown != "" }),
}
