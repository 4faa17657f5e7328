package torture

import (
	"os"
	"testing"

	"github.com/strongroom/strongroom/test/localcluster"
)

var suite localcluster.Suite

func TestMain(m *testing.M) {
	os.Exit(Enter(func() int { return suite.Run(m) }))
}
