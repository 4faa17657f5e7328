//go:build !levelnext

package fsm

// Level is the feature level that this build knows: it reads everything up to
// it. Whoever adds a command kind, or a field to a command or record, after a
// release gives it the next level (entry.from, grown) and raises this number
// once for that release.
const Level uint32 = 1

// rehearsed are the kinds of the build levelnext, see level_next.go.
var rehearsed []entry
