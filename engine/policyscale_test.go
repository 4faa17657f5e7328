package engine_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// manyPolicies makes so many policies of others, and a principal with so many
// statements, one of which lets it read.
func manyPolicies(t testing.TB, policies, statements int) (w *world, token string) {
	w = newWorld(t)
	w.ok("secrets/createSecret", `{"path":"/app/prod/web/db","value":%q}`, b64("v"))
	for i := range policies {
		w.ok("iam/putPolicy", `{"name":"other-%d","statements":[{"effect":"allow","roles":["secrets-full-access"],"paths":["/app/prod/other-%d/**"]}]}`, i, i)
	}
	all := []string{readWebProd}
	for i := len(all); i < statements; i++ {
		all = append(all, fmt.Sprintf(`{"effect":"allow","roles":["secrets-value-access"],"paths":["/app/prod/mine-%d/**"]}`, i))
	}
	return w, w.principal("web", "["+strings.Join(all, ",")+"]")
}

const readWebProd = `{"effect":"allow","roles":["secrets-value-access"],"paths":["/app/prod/web/**"]}`

// A request compiles what reaches its principal, once; the policies of others
// cost it nothing.
func TestAReadLooksOnlyAtThePoliciesOfItsPrincipal(t *testing.T) {
	w, token := manyPolicies(t, 300, 1000)
	before := w.engine.CompiledPolicies()
	for range 3 {
		_, err := w.as(token, "secrets/getSecretValue", `{"path":"/app/prod/web/db"}`)
		require.NoError(t, err)
	}
	require.Equal(t, before+1, w.engine.CompiledPolicies(), "its own, and once")
	_, err := w.as(token, "secrets/getSecretValue", `{"path":"/app/prod/other-3/db"}`)
	require.Error(t, err)
	require.Equal(t, before+1, w.engine.CompiledPolicies())
}

// BenchmarkReadAmongPolicies compares a read where there are few policies with
// one where there are ten thousand, and a thousand statements for the reader.
func BenchmarkReadAmongPolicies(b *testing.B) {
	for _, size := range []struct{ policies, statements int }{{1, 1}, {10_000, 1000}} {
		b.Run(fmt.Sprintf("%d-policies-%d-statements", size.policies, size.statements), func(b *testing.B) {
			w, token := manyPolicies(b, size.policies, size.statements)
			b.ResetTimer()
			for range b.N {
				if _, err := w.as(token, "secrets/getSecretValue", `{"path":"/app/prod/web/db"}`); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
