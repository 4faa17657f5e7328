// Command month replays a month of made-up traffic through the detectors and
// prints how often they cry wolf, and how long attacks stay unnoticed.
package main

import (
	"flag"
	"fmt"
	"os"

	"github.com/strongroom/strongroom/test/noticing"
)

func main() {
	var run noticing.Run
	flag.Uint64Var(&run.Seed, "seed", 1, "of the traffic")
	flag.IntVar(&run.Principals, "principals", 1000, "how many")
	flag.IntVar(&run.Weeks, "weeks", 4, "how many")
	flag.IntVar(&run.Victims, "victims", 50, "of each attack")
	flag.Parse()
	report, err := noticing.Replay(run)
	if err == nil {
		err = report.Print(os.Stdout)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
