package hsm

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"
)

// BenchmarkOpen is kms decrypt of 32 bytes through the worker process, one
// caller and many.
func BenchmarkOpen(b *testing.B) {
	for name, parallel := range map[string]bool{"one": false, "many": true} {
		b.Run(name, func(b *testing.B) {
			d, _ := rooted(b, newBox(b))
			k := newKey(b, d, "k1")
			iv, sealed := seal(b, d, k, "01234567890123456789012345678901", "aad")
			one := func() {
				out, err := d.Open(context.Background(), k, iv, sealed, []byte("aad"))
				require.NoError(b, err)
				out.Wipe()
			}
			b.ResetTimer()
			if !parallel {
				for b.Loop() {
					one()
				}
				return
			}
			b.SetParallelism(16)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					one()
				}
			})
		})
	}
}
