package hsm

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/internal/wrapped"
	"github.com/strongroom/strongroom/pkcs11"
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

// BenchmarkSign is kms sign through the worker process.
func BenchmarkSign(b *testing.B) {
	d, _ := rooted(b, newBox(b))
	for _, algorithm := range []string{wrapped.ECDSASHA256, wrapped.ECDSASHA384, wrapped.RSAPSSSHA256} {
		spec := map[string]string{wrapped.ECDSASHA256: wrapped.ECP256, wrapped.ECDSASHA384: wrapped.ECP384, wrapped.RSAPSSSHA256: wrapped.RSA2048}[algorithm]
		k := keyOf(b, d, spec, wrapped.Sign)
		digest := digestFor(b, algorithm)
		sign := func(b *testing.B) {
			_, err := d.Sign(context.Background(), k, algorithm, digest)
			require.NoError(b, err)
		}
		b.Run(spec+"/one", func(b *testing.B) {
			for b.Loop() {
				sign(b)
			}
		})
		b.Run(spec+"/many", func(b *testing.B) {
			b.SetParallelism(16)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					sign(b)
				}
			})
		})
	}
}

// BenchmarkStart is a worker from nothing to service: process, module,
// log-in, probe. A worker that is lost must be replaced within two seconds.
func BenchmarkStart(b *testing.B) {
	token := newBox(b)
	for b.Loop() {
		d, err := pkcs11.Open(context.Background(), token.cfg)
		require.NoError(b, err)
		require.NotZero(b, d.Health().WorkerPID, d.Health().Reason)
		require.NoError(b, d.Close())
	}
}
