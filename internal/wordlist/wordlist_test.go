package wordlist_test

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/internal/wordlist"
)

func TestTheListIsTheOneOfTheEFF(t *testing.T) {
	words := wordlist.Words()
	require.Len(t, words, 6*6*6*6*6)
	require.Len(t, slices.Compact(slices.Sorted(slices.Values(words))), len(words), "no word is there twice")
	sum := sha256.Sum256([]byte(strings.Join(words, "\n") + "\n"))
	require.Equal(t, "6d557f0693958fb5e650b68b5bee585eb82cf4da32965505c789e924743bc522", hex.EncodeToString(sum[:]))
}

// TestJoinedWordsAreReadInOneWay: the entropy of a passphrase is that of its
// words only if no two sequences of words make one text. Any separator that
// is in no word sees to that. The hyphen is in a few; read from the left, each
// part then belongs to one word in one way only.
func TestJoinedWordsAreReadInOneWay(t *testing.T) {
	single, first := map[string]bool{}, map[string]bool{}
	var joined [][2]string
	for _, word := range wordlist.Words() {
		require.Empty(t, strings.Trim(word, "abcdefghijklmnopqrstuvwxyz-"), word)
		a, b, hyphen := strings.Cut(word, "-")
		if !hyphen {
			single[word] = true
			continue
		}
		require.NotContains(t, b, "-")
		joined, first[a] = append(joined, [2]string{a, b}), true
	}
	require.Len(t, joined, 4)
	for _, pair := range joined {
		alone := single[pair[0]]
		goesOn := single[pair[1]] || first[pair[1]]
		require.False(t, alone && goesOn, "%v can be read in two ways", pair)
	}
}
