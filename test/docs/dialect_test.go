package docs_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/internal/config"
	"github.com/strongroom/strongroom/internal/dialect"
)

// What may be set for a vendor's HSM is all in the manuals.
func TestEveryWordOfADialectIsExplained(t *testing.T) {
	operations := spans(read(t, "docs/operations.md"))
	for _, name := range append(dialect.Mechanisms(), dialect.Vendors()...) {
		require.Contains(t, operations, name)
	}
	docs := map[string]string{}
	for _, s := range config.Settings() {
		docs[s.Name] = s.Doc
	}
	for _, vendor := range dialect.Vendors() {
		require.Contains(t, docs["hsm.vendor"], vendor)
	}
	for _, mode := range dialect.IVModes() {
		require.Contains(t, docs["hsm.ivMode"], mode)
	}
}
