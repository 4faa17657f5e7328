package e2e_test

import (
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// The leader measures the clocks of the others, which are this machine's.
func TestTheLeaderMeasuresTheClocksOfTheOthers(t *testing.T) {
	c := suite.Shared(t)
	offset := regexp.MustCompile(`(?m)^strongroom_clock_offset_seconds\{peer="[^"]+"\} (\S+)$`)
	var found [][]string
	c.Await("offsets of both other members", func() bool {
		found = offset.FindAllStringSubmatch(c.Metrics(c.Leader()), -1)
		return len(found) == 2
	})
	for _, one := range found {
		seconds, err := strconv.ParseFloat(one[1], 64)
		require.NoError(t, err)
		require.InDelta(t, 0, seconds, 1)
	}
}

// The commands of the manual are run as they stand there.
func TestTheAccessPolicyOfTheManualCanBeMade(t *testing.T) {
	c := suite.Shared(t)
	manual, err := os.ReadFile("../../docs/access-policies.md")
	require.NoError(t, err)
	ran := 0
	for line := range strings.SplitSeq(string(manual), "\n") {
		if !strings.HasPrefix(line, "strongroom access-policy") {
			continue
		}
		cmd := c.Command()
		cmd.Path, cmd.Args = "/bin/bash", []string{"bash", "-c", `strongroom() { "$BINARY" "$@"; }` + "\n" + line}
		cmd.Env = append(cmd.Env, "BINARY="+c.Binary)
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s: %s", line, out)
		ran++
	}
	require.Equal(t, 2, ran)
	c.OK(1, "iam/deleteAccessPolicy", `{"name":"office"}`)
}
