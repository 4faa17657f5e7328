package main

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// A difference has all lines of both sides, in their order.
func TestADifferenceIsBothSides(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		side := rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b", "c"}), 0, 8)
		a, b := side.Draw(t, "a"), side.Draw(t, "b")
		var before, after []string
		for _, edit := range difference(a, b) {
			switch line := edit[2:]; edit[:2] {
			case "- ":
				before = append(before, line)
			case "+ ":
				after = append(after, line)
			default:
				before, after = append(before, line), append(after, line)
			}
		}
		require.Equal(t, strings.Join(a, ""), strings.Join(before, ""))
		require.Equal(t, strings.Join(b, ""), strings.Join(after, ""))
	})
	require.Equal(t, []string{"  a", "- b", "+ x", "  c"}, difference([]string{"a", "b", "c"}, []string{"a", "x", "c"}))
}

func TestWhatAnArgumentIsAbout(t *testing.T) {
	for _, c := range []struct{ action, argument, path, key, prefix string }{
		{"secrets:getSecretValue", "/a/b", "/a/b", "", ""},
		{"secrets:getSecretValue", "/a/", "", "", "/a/"},
		{"kms:encrypt", "alias/pay", "", "alias/pay", ""},
		{"iam:putPolicy", "", "", "", ""},
	} {
		path, key, prefix := c.argument, "", ""
		sortTarget(c.action, &path, &key, &prefix)
		require.Equal(t, []string{c.path, c.key, c.prefix}, []string{path, key, prefix}, c.argument)
	}
}
