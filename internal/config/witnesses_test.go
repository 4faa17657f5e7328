package config

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestWitnessesThatAreNoneAreFaultsOfTheFile(t *testing.T) {
	key := func(n int) string { return fmt.Sprintf("w%d.example.com+%sA=", n, strings.Repeat("A", 42)) }
	with := func(witnesses ...string) (Config, error) {
		return Parse([]byte(smallest + fmt.Sprintf("\naudit:\n  witnesses: [%s]\n", strings.Join(witnesses, ", "))))
	}
	c, err := with(key(1), key(2))
	require.NoError(t, err)
	known, err := c.Audit.KnownWitnesses()
	require.NoError(t, err)
	require.Len(t, known, 2)
	require.Equal(t, key(2), known[1].String())

	var many []string
	for n := range maxWitnesses + 1 {
		many = append(many, key(n))
	}
	_, err = with(many[:maxWitnesses]...)
	require.NoError(t, err)
	for says, witnesses := range map[string][]string{
		`audit.witnesses: "w1.example.com" must be NAME+KEY, as strongroom audit witness prints it`: {"w1.example.com"},
		`audit.witnesses: w1.example.com is there twice; a witness has one key`:                     {key(1), key(1)},
		`audit.witnesses: must be 16 at most; there are 17`:                                         many,
		`which is the clusters'`: {"strongroom/" + key(1)},
	} {
		_, err := with(witnesses...)
		require.ErrorContains(t, err, says)
	}
}
