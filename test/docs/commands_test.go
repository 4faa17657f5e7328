package docs_test

import (
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var (
	invocation = regexp.MustCompile(`(?:^|[ /(|])strongroom((?: [a-z][a-z-]*)+)(?: |$)(.*)`)
	flag       = regexp.MustCompile(`(?:^| )(--[a-z][a-z-]*)`)
	usageLine  = regexp.MustCompile(`(?m)^Usage:\n  strongroom(.*)$`)
)

// help answers what the binary says about a command.
func help(t *testing.T, words []string) string {
	t.Helper()
	out, err := exec.Command(suite.Binary(), append(append([]string{}, words...), "--help")...).CombinedOutput()
	require.NoError(t, err, string(out))
	return string(out)
}

// Each command line in the manuals is one that the binary takes, with flags
// that it has.
func TestCommandsAndFlagsInTheManualsExist(t *testing.T) {
	texts := map[string]string{}
	commands, flags := 0, 0
	for name, text := range manuals(t) {
		for _, line := range shell(text) {
			for _, part := range regexp.MustCompile(` [|;] | && |\$\(`).Split(line, -1) {
				m := invocation.FindStringSubmatch(part)
				if m == nil {
					continue
				}
				words := strings.Fields(m[1])
				for len(words) > 0 && words[0] == "strongroom" { // sudo -u strongroom strongroom …
					words = words[1:]
				}
				if len(words) == 0 {
					continue
				}
				key := strings.Join(words, " ")
				if texts[key] == "" {
					texts[key] = help(t, words)
				}
				requireTaken(t, name, words, texts[key])
				commands++
				for _, f := range flag.FindAllStringSubmatch(m[2], -1) {
					require.Regexp(t, `(?m)^ +(?:-\w, )?`+f[1]+`\b`, texts[key], "%s: strongroom %s has no %s", name, key, f[1])
					flags++
				}
			}
		}
	}
	require.Greater(t, commands, 60, "the commands must have been found")
	require.Greater(t, flags, 30, "the flags must have been found")
}

// requireTaken: the help of a command that does not exist is that of the group
// above it, which takes no arguments.
func requireTaken(t *testing.T, page string, words []string, text string) {
	t.Helper()
	usage := usageLine.FindStringSubmatch(text)
	require.NotNil(t, usage, text)
	arguments, path := 0, 0
	for _, w := range strings.Fields(usage[1]) {
		switch {
		case strings.HasPrefix(w, "--"):
		case w == strings.ToUpper(w):
			arguments++
		case path < len(words) && w == words[path] && arguments == 0:
			path++
		}
	}
	require.Positive(t, path, "%s: strongroom %s", page, strings.Join(words, " "))
	require.LessOrEqual(t, len(words)-path, arguments, "%s: there is no command strongroom %s", page, strings.Join(words, " "))
}

var target = regexp.MustCompile(`(?m)^([a-z][a-z-]*):(.*)$`)

// The Makefile's targets that the manuals name exist, and every target says
// what it does, because make by itself prints that.
func TestMakefileTargets(t *testing.T) {
	makefile := read(t, "Makefile")
	targets := map[string]bool{}
	for _, m := range target.FindAllStringSubmatch(makefile, -1) {
		targets[m[1]] = true
		require.Contains(t, m[2], "## ", "make %s is not explained", m[1])
		require.Contains(t, makefile, ".PHONY: "+m[1]+"\n")
	}
	require.Greater(t, len(targets), 8)
	out, err := exec.Command("make", "-s", "-C", root).CombinedOutput()
	require.NoError(t, err, string(out))
	for name := range targets {
		require.Regexp(t, `(?m)^ +make `+name+` `, string(out))
	}
	named := 0
	for name, text := range pages(t) {
		for _, line := range shell(text) {
			for _, m := range regexp.MustCompile(`(?:^|[ ;&(])make ([a-z][a-z-]*)\b`).FindAllStringSubmatch(line, -1) {
				named++
				require.True(t, targets[m[1]], "%s names make %s", name, m[1])
			}
		}
	}
	require.Greater(t, named, 5, "the targets must have been found")
}
