package docs_test

import (
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// A node that has worked shows every metric that it has; the catalogue in
// docs/operations.md lists them with their types, and no other.
func TestTheCatalogueOfMetricsIsComplete(t *testing.T) {
	c := suite.Fresh(t, 3)              // a leader measures the clocks of others
	c.Configure(func(node int) string { // a sink has metrics of its own
		return fmt.Sprintf("audit:\n  checkpointEvery: 1s\n  sinks:\n    - {name: docs, type: file, path: %q}\n", filepath.Join(c.NodeDir(node), "sink.jsonl"))
	})
	leads := c.Leader()
	c.OK(leads, "secrets/createSecret", `{"path":"/app/docs/metrics","value":"eA=="}`)
	c.OK(leads, "secrets/getSecretValue", `{"path":"/app/docs/metrics"}`)
	c.OK(leads, "kms/createKey", `{"alias":"alias/docs-metrics"}`)
	c.OK(leads, "kms/scheduleKeyDeletion", `{"keyId":"alias/docs-metrics"}`)
	c.OK(leads, "kms/createKey", `{"alias":"alias/docs-turning"}`)
	c.OK(leads, "kms/setKeyRotation", `{"keyId":"alias/docs-turning","period":"720h"}`)
	c.Await("the first answers about clocks, and a checkpoint", func() bool {
		text := c.Metrics(leads)
		return strings.Contains(text, "strongroom_clock_offset_seconds{") && strings.Contains(text, "strongroom_audit_checkpoint_timestamp_seconds{")
	})
	shown := map[string]string{}
	for _, m := range regexp.MustCompile(`(?m)^# TYPE (strongroom_\S+) (\S+)$`).FindAllStringSubmatch(c.Metrics(leads), -1) {
		shown[m[1]] = m[2]
	}
	documented := map[string]string{}
	for _, row := range rows(t, read(t, "docs/operations.md"), "## Metrics")[1:] {
		require.Len(t, row, 3, "%v", row)
		documented[strings.Trim(row[0], "`")] = row[1]
		require.NotEmpty(t, row[2])
	}
	require.Equal(t, shown, documented)

	// What no request of this test brought forth would be missing on both sides.
	for _, name := range regexp.MustCompile(`"(strongroom_[a-z_]+)"`).FindAllStringSubmatch(source(t), -1) {
		require.Regexp(t, name[1], fmt.Sprint(documented), "a metric of the source")
	}
	for page, text := range pages(t) {
		for _, name := range regexp.MustCompile(`strongroom_[a-z_]*[a-z]`).FindAllString(text, -1) {
			require.Regexp(t, name, fmt.Sprint(documented), page)
		}
	}
}
