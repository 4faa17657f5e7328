package main

import (
	"context"
	"slices"
	"sync"
	"time"
)

// load is one worker's operation; worker numbers its goroutine. It answers
// an error for an operation that does not count.
type load func(ctx context.Context, worker int) error

// measure runs n workers in closed loops for about d, after a warm-up of a
// tenth of it.
func measure(ctx context.Context, do load, n int, d time.Duration) figure {
	drive(ctx, do, n, d/10)
	return measureOnly(ctx, do, n, d)
}

// measureOnly is measure without the warm-up.
func measureOnly(ctx context.Context, do load, n int, d time.Duration) figure {
	took, errs, elapsed := drive(ctx, do, n, d)
	f := figure{Connections: n, Errors: errs}
	if len(took) == 0 {
		return f
	}
	slices.Sort(took)
	f.PerSecond = float64(len(took)) / elapsed.Seconds()
	f.P50Micros = micros(took[len(took)/2])
	f.P99Micros = micros(took[len(took)*99/100])
	return f
}

func micros(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1000 }

func drive(ctx context.Context, do load, n int, d time.Duration) (took []time.Duration, errs int, elapsed time.Duration) {
	start := time.Now()
	end := start.Add(d)
	var mu sync.Mutex
	var wg sync.WaitGroup
	for worker := range n {
		wg.Add(1)
		go func() {
			defer wg.Done()
			mine := make([]time.Duration, 0, 1<<14)
			failed := 0
			for t := time.Now(); t.Before(end); {
				err := do(ctx, worker)
				now := time.Now()
				if err != nil {
					failed++
				} else {
					mine = append(mine, now.Sub(t))
				}
				t = now
			}
			mu.Lock()
			defer mu.Unlock()
			took = append(took, mine...)
			errs += failed
		}()
	}
	wg.Wait()
	return took, errs, time.Since(start)
}
