//go:build !levelnext

package engine

// rehearsalOperations are those of the build levelnext, see level_next.go.
func rehearsalOperations() []*Operation { return nil }
