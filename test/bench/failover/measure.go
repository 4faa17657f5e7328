package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

const secretPath = "/app/failover/secret"

func (c *cluster) prepare(ctx context.Context) error {
	_, status, err := c.call(ctx, 1, "secrets/createSecret", `{"path":"`+secretPath+`","value":"dmFsdWU="}`)
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("createSecret: status %d", status)
	}
	return err
}

func (c *cluster) write(ctx context.Context, node int) error {
	return c.served(ctx, node, "secrets/putSecretValue", `{"path":"`+secretPath+`","value":"dmFsdWU="}`)
}

func (c *cluster) read(ctx context.Context, node int) error {
	return c.served(ctx, node, "secrets/getSecretValue", `{"path":"`+secretPath+`"}`)
}

// served is one request. Its error names the code of the answer.
func (c *cluster) served(ctx context.Context, node int, operation, body string) error {
	answer, status, err := c.call(ctx, node, operation, body)
	if err != nil || status == http.StatusOK {
		return err
	}
	var failure struct {
		Error struct{ Code, Message string }
	}
	_ = json.Unmarshal(answer, &failure) // an answer that is none has no code
	return fmt.Errorf("%s: %s: %s", operation, failure.Error.Code, failure.Error.Message)
}

// firstServed sends a request every 20 ms to nodes in turn, waiting for none,
// and answers how long after began the first good answer came.
func firstServed(ctx context.Context, began time.Time, nodes []int, request func(context.Context, int) error) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	var work sync.WaitGroup
	defer work.Wait()
	defer cancel()
	served := make(chan time.Duration, 1)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for i := 0; ; i++ {
		work.Go(func() {
			one, done := context.WithTimeout(ctx, 10*time.Second)
			defer done()
			if request(one, nodes[i%len(nodes)]) == nil {
				select {
				case served <- time.Since(began):
				default:
				}
			}
		})
		select {
		case took := <-served:
			return took, nil
		case <-tick.C:
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
}

// both measures the next write and the next read through nodes.
func (c *cluster) both(ctx context.Context, began time.Time, nodes []int, write, read *series) error {
	var work sync.WaitGroup
	var tookWrite, tookRead time.Duration
	var errWrite, errRead error
	work.Go(func() { tookWrite, errWrite = firstServed(ctx, began, nodes, c.write) })
	work.Go(func() { tookRead, errRead = firstServed(ctx, began, nodes, c.read) })
	work.Wait()
	if errWrite != nil || errRead != nil {
		return fmt.Errorf("nobody served: write %v, read %v", errWrite, errRead)
	}
	write.took, read.took = append(write.took, tookWrite), append(read.took, tookRead)
	return nil
}

// kill kills the leader, measures, and starts it again.
func (c *cluster) kill(ctx context.Context, write, read *series) error {
	if err := c.ready(ctx); err != nil {
		return err
	}
	leader, err := c.leader(ctx)
	if err != nil {
		return err
	}
	began := time.Now()
	if err := c.killNode(leader); err != nil {
		return err
	}
	if err := c.both(ctx, began, others(leader), write, read); err != nil {
		return err
	}
	return c.startNode(ctx, leader)
}

// handOver hands leadership over while four clients send one request after
// the other to any node. It answers how many failed.
func (c *cluster) handOver(ctx context.Context, call, longest *series) (failed, requests int, err error) {
	if err := c.ready(ctx); err != nil {
		return 0, 0, err
	}
	leader, err := c.leader(ctx)
	if err != nil {
		return 0, 0, err
	}
	loaded, cancel := context.WithCancel(ctx)
	defer cancel()
	var work sync.WaitGroup
	var bad, all, worst atomic.Int64
	warm := make(chan struct{}, 4)
	for i := range 4 {
		work.Go(func() {
			for n := 0; loaded.Err() == nil; n++ {
				request := c.write
				if (i+n)%2 == 0 {
					request = c.read
				}
				began := time.Now()
				if err := request(ctx, 1+(i+n)%nodes); err != nil {
					bad.Add(1)
					fmt.Fprintln(os.Stderr, "during a hand-over:", err)
				}
				took := int64(time.Since(began))
				for old := worst.Load(); took > old && !worst.CompareAndSwap(old, took); old = worst.Load() {
				}
				all.Add(1)
				if n == 8 {
					warm <- struct{}{}
				}
			}
		})
	}
	for range 4 {
		<-warm
	}
	worst.Store(0)
	began := time.Now()
	_, status, err := c.call(ctx, leader, "cluster/transferLeadership", `{}`)
	took := time.Since(began)
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("transferLeadership: status %d", status)
	}
	if err == nil {
		_, err = firstServed(ctx, began, []int{1, 2, 3}, c.write)
	}
	cancel()
	work.Wait()
	if err != nil {
		return 0, 0, err
	}
	call.took, longest.took = append(call.took, took), append(longest.took, time.Duration(worst.Load()))
	return int(bad.Load()), int(all.Load()), nil
}

// freezeLeader freezes the file system of the leader, measures, and lets go.
func (c *cluster) freezeLeader(ctx context.Context, write, read *series) (err error) {
	if err := c.ready(ctx); err != nil {
		return err
	}
	leader, err := c.leader(ctx)
	if err != nil {
		return err
	}
	began := time.Now()
	if err := command("fsfreeze", "-f", c.nodeDir(leader)); err != nil {
		return err
	}
	err = c.both(ctx, began, others(leader), write, read)
	// Before anything waits for a process that waits for the disk.
	if thaw := command("fsfreeze", "-u", c.nodeDir(leader)); thaw != nil {
		return thaw
	}
	return err
}

func others(node int) []int {
	var out []int
	for n := 1; n <= nodes; n++ {
		if n != node {
			out = append(out, n)
		}
	}
	return out
}
