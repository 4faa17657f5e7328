package engine_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/api/wire"
	"github.com/strongroom/strongroom/engine"
	"github.com/strongroom/strongroom/internal/fault"
	"github.com/strongroom/strongroom/internal/wordlist"
)

// chiBound answers what chi-square with so many degrees of freedom exceeds
// with a chance below one in 10^9, by the approximation of Wilson and
// Hilferty at six standard deviations.
func chiBound(freedom int) float64 {
	k := float64(freedom)
	return k * math.Pow(1-2/(9*k)+6*math.Sqrt(2/(9*k)), 3)
}

// requireUniform holds counts of equally likely things against their mean.
func requireUniform(t *testing.T, counts []int, what string) {
	t.Helper()
	draws := 0
	for _, n := range counts {
		draws += n
	}
	chi, expected := 0.0, float64(draws)/float64(len(counts))
	require.Greater(t, expected, 5.0, "too few draws for a chi-square")
	for _, n := range counts {
		chi += math.Pow(float64(n)-expected, 2) / expected
	}
	require.Less(t, chi, chiBound(len(counts)-1), what)
}

// generated answers values of spec, from crypto/rand.
func generated(t *testing.T, spec wire.GenerateSpec, n int) []string {
	t.Helper()
	out := make([]string, n)
	for i := range out {
		value, _, err := engine.Generate(spec, rand.Reader)
		require.NoError(t, err)
		out[i] = string(value)
	}
	return out
}

// TestCharactersAreUniformAtEveryPosition: with nothing required each
// position is a draw from the alphabet.
func TestCharactersAreUniformAtEveryPosition(t *testing.T) {
	length := 8
	values := generated(t, wire.GenerateSpec{Kind: "password", Length: &length, Require: []string{}}, 20_000)
	alphabet := "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789!#$%&()*+,-./:;<=>?@[]^_{|}~"
	for position := range length {
		counts := make([]int, len(alphabet))
		for _, value := range values {
			counts[strings.IndexByte(alphabet, value[position])]++
		}
		requireUniform(t, counts, "a position")
	}
}

// TestRequiredClassesFavourNoPassword holds draws against all passwords that
// satisfy the request, counted one by one: by how often each class is in them,
// and, position by position, which character is there. A way that places
// required characters first differs in both.
func TestRequiredClassesFavourNoPassword(t *testing.T) {
	// Of the alphabet a, b and 0 nearly all passwords of this length would do;
	// the fewer of a class, the harder it is hit by a bias.
	const alphabet, length = "ab0", 16
	shape := func(value string) int { return strings.Count(value, "0") } // how many digits
	want := make([]float64, length+1)
	total := 0.0
	for digits := 1; digits < length; digits++ { // both classes are there
		want[digits] = choose(length, digits) * math.Pow(2, float64(length-digits))
		total += want[digits]
	}
	n := length
	spec := wire.GenerateSpec{Kind: "password", Length: &n, Include: []string{"lower", "digits"}, Exclude: "cdefghijklmnopqrstuvwxyz123456789"}
	const draws = 30_000
	values := generated(t, spec, draws)
	got := make([]int, length+1)
	at := make([]int, length)
	for _, value := range values {
		require.Empty(t, strings.Trim(value, alphabet))
		got[shape(value)]++
		for i := range length {
			if value[i] == '0' {
				at[i]++
			}
		}
	}
	chi, cells := 0.0, 0
	for digits, ways := range want {
		expected := draws * ways / total
		if expected < 10 {
			continue
		}
		cells++
		chi += math.Pow(float64(got[digits])-expected, 2) / expected
	}
	require.Greater(t, cells, 8)
	require.Less(t, chi, chiBound(cells), "%v", got)
	requireUniform(t, at, "where the digits are")
	_, bits, err := engine.Generate(spec, rand.Reader)
	require.NoError(t, err)
	require.InDelta(t, math.Log2(total), bits, 1e-9, "the entropy is that of the passwords that can be")
}

// TestSmallSpacesAreDrawnWhole enumerates every password of a space and finds
// each as often as the others.
func TestSmallSpacesAreDrawnWhole(t *testing.T) {
	// 31 symbols may be drawn and one of ~ is required: the pairs of (first,
	// last) characters are enumerated by brute force over what lies between.
	n := 8
	spec := wire.GenerateSpec{Kind: "password", Length: &n, Include: []string{"digits", "lower"}, Require: []string{"lower"}, Exclude: "bcdefghijklmnopqrstuvwxyz"}
	const alphabet = "0123456789a"
	values := generated(t, spec, 60_000)
	// Over the first two characters: a pair with an a leaves 11^6 endings, one
	// without needs an a among the six: 11^6 - 10^6.
	full, rest := math.Pow(11, 6), math.Pow(11, 6)-math.Pow(10, 6)
	total := 21*full + 100*rest
	chi := 0.0
	for _, first := range alphabet {
		for _, second := range alphabet {
			pair := string(first) + string(second)
			expected := rest
			if strings.Contains(pair, "a") {
				expected = full
			}
			expected *= float64(len(values)) / total
			count := 0
			for _, value := range values {
				if strings.HasPrefix(value, pair) {
					count++
				}
			}
			chi += math.Pow(float64(count)-expected, 2) / expected
		}
	}
	require.Less(t, chi, chiBound(120))
}

func choose(n, k int) float64 {
	out := 1.0
	for i := range k {
		out = out * float64(n-i) / float64(i+1)
	}
	return math.Round(out)
}

func TestWordsAreUniformAtEveryPlace(t *testing.T) {
	words := wordlist.Words()
	at := map[string]int{}
	for i, word := range words {
		at[word] = i
	}
	n := 64
	counts, first := make([]int, len(words)), make([]int, 6)
	for _, value := range generated(t, wire.GenerateSpec{Kind: "passphrase", Words: &n, Separator: "."}, 2_000) {
		for i, word := range strings.Split(value, ".") {
			place, ok := at[word]
			require.True(t, ok, word)
			counts[place]++
			if i == 0 {
				first[place*6/len(words)]++
			}
		}
	}
	requireUniform(t, counts, "words")
	requireUniform(t, first, "the first die")
}

// TestGeneratedValuesComeFromTheHSMToo: with generate.hsmRandom nothing is
// made without the HSM, and without it the HSM is not asked.
func TestGeneratedValuesComeFromTheHSMToo(t *testing.T) {
	w := newWorld(t)
	w.engine.HSMRandom = true
	for _, kind := range []string{"password", "passphrase", "bytes", "hex", "base64", "uuid", "ec", "ed25519"} {
		a := w.generate(`{"path":"/a/` + kind + `","kind":"` + kind + `","create":true,"reveal":true}`)
		b := w.generate(`{"path":"/a/` + kind + `","kind":"` + kind + `","reveal":true}`)
		require.NotEqual(t, a.Value.Expose(), b.Value.Expose())
	}
	before := w.log.machine.State().Index()
	w.token.Down.Store(true)
	_, err := w.as(w.admin, "secrets/generateSecret", `{"path":"/a/new","kind":"uuid","create":true}`)
	w.refused(fault.HsmUnavailable, "", err)
	require.Equal(t, before, w.log.machine.State().Index(), "nothing was made without it")
}

// TestSlowKindsTakeTurns: one at a time, a few wait, the rest is told so.
func TestSlowKindsTakeTurns(t *testing.T) {
	w := newWorld(t)
	w.ok("secrets/createSecret", `{"path":"/a/b"}`)
	leave, err := w.engine.EnterSlow(context.Background())
	require.NoError(t, err)
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	_, err = w.engine.EnterSlow(ended)
	w.refused(fault.RateLimited, "kind:", err)
	entered := make(chan func())
	for range engine.SlowWaiting {
		go func() {
			leave, err := w.engine.EnterSlow(context.Background())
			if err != nil {
				leave = func() {}
			}
			entered <- leave
		}()
	}
	require.Eventually(t, func() bool { // the last place is taken
		_, err := w.as(w.admin, "secrets/generateSecret", `{"path":"/a/b","kind":"ed25519"}`)
		require.NoError(t, err, "what is quick waits for nobody")
		return w.engine.SlowFull()
	}, 30*time.Second, time.Millisecond)
	_, err = w.as(w.admin, "secrets/generateSecret", `{"path":"/a/b","kind":"rsa"}`)
	w.refused(fault.RateLimited, "kind:", err)
	leave()
	for range engine.SlowWaiting {
		(<-entered)()
	}
	w.generate(`{"path":"/a/b","kind":"rsa","bits":2048}`)
}

// TestEveryKindReadsItsRandomBytes: the same stream makes the same value, so
// nothing else goes into it.
func TestEveryKindReadsItsRandomBytes(t *testing.T) {
	stream := make([]byte, 1<<16)
	_, err := rand.Read(stream)
	require.NoError(t, err)
	for _, kind := range []string{"password", "passphrase", "bytes", "hex", "base64", "uuid", "ec", "ed25519"} {
		a, _, err := engine.Generate(wire.GenerateSpec{Kind: kind}, bytes.NewReader(stream))
		require.NoError(t, err)
		b, _, err := engine.Generate(wire.GenerateSpec{Kind: kind}, bytes.NewReader(slices.Clone(stream)))
		require.NoError(t, err)
		require.Equal(t, a, b, kind)
		_, _, err = engine.Generate(wire.GenerateSpec{Kind: kind}, bytes.NewReader(nil))
		require.Error(t, err, "%s: a source that ends is no value", kind)
	}
}
