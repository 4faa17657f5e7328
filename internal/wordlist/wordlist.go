// Package wordlist holds the words of passphrases: the large word list of
// the Electronic Frontier Foundation (2016), 7776 English words chosen to be
// easy to type and remember and offensive to nobody, under CC BY 3.0; the
// numbers of the dice are left out. See NOTICE.
package wordlist

import (
	_ "embed"
	"strings"
	"sync"
)

//go:embed eff_large.txt
var file string

// Words answers the list, in alphabetical order. Nobody may change it.
var Words = sync.OnceValue(func() []string { return strings.Fields(file) })
