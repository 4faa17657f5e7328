// Package torture runs a cluster of real processes through faults of network,
// processes, disks and HSMs while many clients use it, and holds every answer
// that they got against what Strongroom promises. docs/reliability.md says what
// is tested, and how a run is replayed.
//
// One seed decides everything that can be decided beforehand: which faults, in
// which order, on whom, for how long, and what each client asks. What the
// machine makes of it differs from run to run, so the checkers look at what
// happened and never at what should have happened by then.
//
//	lab.go, netns.go, node.go, disk.go   where the cluster lives
//	faults*.go, schedule.go              what is done to it
//	client.go, load*.go, objects.go      what is asked of it
//	registers.go, model.go, tokens.go,
//	trail.go, replicas.go                what its answers are held against
//	run.go, report.go                    the whole
package torture
