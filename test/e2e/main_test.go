// Package e2e_test holds what Strongroom promises against the built binary:
// real processes, real sockets, real disks, a SoftHSM token for each node, and
// signals that end or stop them at the worst moment.
package e2e_test

import (
	"fmt"
	"os"
	"testing"

	"github.com/strongroom/strongroom/test/localcluster"
)

var suite localcluster.Suite

func TestMain(m *testing.M) {
	if addresses := os.Getenv(consumerVariable); addresses != "" {
		if err := consume(addresses); err != nil {
			fmt.Fprintln(os.Stderr, "application:", err)
			os.Exit(1)
		}
		return
	}
	os.Exit(suite.Run(m))
}
