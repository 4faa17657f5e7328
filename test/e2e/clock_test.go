package e2e_test

import (
	"regexp"
	"strconv"
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
