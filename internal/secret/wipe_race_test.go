package secret_test

import (
	"fmt"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/internal/secret"
)

// A cache evicts while a request looks at how long a value is or logs it: the
// length is the old one or zero, never in between, and once zero stays zero.
// The race detector watches that no byte is read.
func TestLenWhileOthersWipe(t *testing.T) {
	for range 200 {
		buffer := []byte("hunter2")
		b := secret.New(buffer)
		start := make(chan struct{})
		var wg sync.WaitGroup
		for range 2 {
			wg.Go(func() {
				<-start
				gone := false
				for range 20 {
					switch n := b.Len(); {
					case n == 0:
						gone = true
					case n != 7 || gone:
						t.Errorf("length %d, after a wipe: %v", n, gone)
					}
					if text := fmt.Sprintf("%v", b); text != "[secret]" {
						t.Errorf("printed %q", text)
					}
				}
			})
			wg.Go(func() {
				<-start
				b.Wipe()
			})
		}
		close(start)
		wg.Wait()
		require.Zero(t, b.Len())
		require.Equal(t, make([]byte, 7), buffer)
	}
}

// Two values wiped and compared crosswise must not wait for each other.
func TestEqualOfCrossedValuesDoesNotDeadlock(t *testing.T) {
	a, b := secret.Copy([]byte("hunter2")), secret.Copy([]byte("hunter2"))
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 500 {
				if !a.Equal(b) || !b.Equal(a) || !a.Equal(a) {
					t.Error("equal values differ")
				}
			}
		})
	}
	wg.Wait()
}
