// Package leak_test runs everything that the product can do with marked
// values, tokens and PINs, and then looks for the marks in every byte that was
// written: plain, or dressed up in any form that programs put bytes into.
package leak_test

import (
	"os"
	"testing"

	"github.com/strongroom/strongroom/test/localcluster"
)

var suite localcluster.Suite

func TestMain(m *testing.M) { os.Exit(suite.Run(m)) }
