package matrix_test

import (
	"os"
	"testing"

	"github.com/strongroom/strongroom/test/localcluster"
)

var suite localcluster.Suite

func TestMain(m *testing.M) { os.Exit(suite.Run(m)) }
