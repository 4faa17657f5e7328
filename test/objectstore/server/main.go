// Command server is an S3-compatible store in memory, for tests: its signatures
// are checked, and a request without a good one is refused. It is a module of
// its own, so that what it needs is nothing that Strongroom needs.
//
// Access key and secret come on standard input, one a line, and then the names
// of buckets, until its end. It prints the address that it listens on.
package main

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/rclone/gofakes3"
	"github.com/rclone/gofakes3/s3mem"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run() error {
	var lines []string
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		lines = append(lines, in.Text())
	}
	if err := in.Err(); err != nil {
		return err
	}
	if len(lines) < 2 {
		return fmt.Errorf("access key and secret are expected on standard input")
	}
	store := s3mem.New()
	for _, bucket := range lines[2:] {
		if err := store.CreateBucket(context.Background(), bucket); err != nil {
			return err
		}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println(l.Addr())
	faker := gofakes3.New(store, gofakes3.WithV4Auth(map[string]string{lines[0]: lines[1]}), gofakes3.WithIntegrityCheck(true))
	server := &http.Server{Handler: faker.Server(), ReadHeaderTimeout: 10 * time.Second}
	return server.Serve(l)
}
