package noticing

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/strongroom/strongroom/internal/notice"
)

// Run is one replay: so many principals, so many weeks, and every attack on so
// many victims.
type Run struct {
	Seed       uint64
	Principals int
	Weeks      int
	Victims    int
}

// Report is what came out.
type Report struct {
	Run     Run
	Events  int
	Attacks []Found
	// false counts alerts about principals that nobody attacked, by detector
	// and by kind of the principal.
	False       map[notice.Detector]int
	FalseByKind map[string]int
}

// Found is how an attack was noticed.
type Found struct {
	Name    string
	Missed  int
	By      map[notice.Detector]int // the first detector, by victim
	After   []time.Duration         // sorted
	Touched []int                   // paths or attempts by then, sorted
}

// Rate answers false alarms for 1,000 principals in a week.
func (r *Report) Rate(count int) float64 {
	return float64(count) * 1000 / float64(r.Run.Principals) / float64(r.Run.Weeks)
}

// AllFalse answers how many false alarms there were.
func (r *Report) AllFalse() int {
	n := 0
	for _, count := range r.False {
		n += count
	}
	return n
}

// Replay lets the month go by.
func Replay(run Run) (*Report, error) {
	report := &Report{Run: run, False: map[notice.Detector]int{}, FalseByKind: map[string]int{}}
	end := monday + int64(run.Weeks)*week
	for n := range run.Principals {
		kind, events := live(run.Seed, n, end)
		report.Events += len(events)
		// What is known of one principal does not depend on another, so they
		// go through one after the other.
		alerts, err := watch(events)
		if err != nil {
			return nil, err
		}
		for _, a := range alerts {
			report.False[a.Detector]++
			report.FalseByKind[kind+": "+string(a.Detector)]++
		}
	}
	for i := range attacks {
		found, err := run.attack(&attacks[i], end)
		if err != nil {
			return nil, err
		}
		report.Attacks = append(report.Attacks, found)
	}
	return report, nil
}

// alert is one, with the event that made it.
type alert struct {
	notice.Alert
	attack bool
	number int // of the events of the attack up to it
}

func watch(events []seen) (out []alert, err error) {
	watcher, err := notice.New(notice.DefaultSettings())
	if err != nil {
		return nil, err
	}
	number := 0
	for i := range events {
		e := &events[i]
		if e.attack {
			number++
		}
		for _, a := range watcher.Observe(e.Event) {
			out = append(out, alert{a, e.attack, number})
		}
	}
	return out, nil
}

func (run Run) attack(a *attack, end int64) (Found, error) {
	found := Found{Name: a.Name, By: map[notice.Detector]int{}}
	for n, victims := 0, 0; victims < run.Victims; n++ {
		if a.victim != "" && kindOf(n).name != a.victim {
			continue
		}
		victims++
		events, began := a.strike(run.Seed+1, n, end)
		alerts, err := watch(events)
		if err != nil {
			return found, err
		}
		i := slices.IndexFunc(alerts, func(a alert) bool { return a.attack })
		if i < 0 {
			found.Missed++
			continue
		}
		found.By[alerts[i].Detector]++
		found.After = append(found.After, time.Duration(alerts[i].At-began)*time.Millisecond)
		found.Touched = append(found.Touched, alerts[i].number)
	}
	slices.Sort(found.After)
	slices.Sort(found.Touched)
	return found, nil
}

// Print writes the report for people.
func (r *Report) Print(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "%d principals, %d weeks, %d events, seed %d\n\n", r.Run.Principals, r.Run.Weeks, r.Events, r.Run.Seed)
	fmt.Fprintf(t, "detector\tfalse alarms\tper 1,000 principals a week\n")
	for _, d := range notice.Detectors {
		fmt.Fprintf(t, "%s\t%d\t%.1f\n", d, r.False[d], r.Rate(r.False[d]))
	}
	fmt.Fprintf(t, "all\t%d\t%.1f\n\n", r.AllFalse(), r.Rate(r.AllFalse()))
	kinds := make([]string, 0, len(r.FalseByKind))
	for k := range r.FalseByKind {
		kinds = append(kinds, k)
	}
	slices.Sort(kinds)
	for _, k := range kinds {
		fmt.Fprintf(t, "%s\t%d\n", k, r.FalseByKind[k])
	}
	fmt.Fprintf(t, "\nattack\tnoticed\tmedian\tlongest\tdone by then, median\tlongest\tby\n")
	for _, f := range r.Attacks {
		fmt.Fprintf(t, "%s\t%d of %d\t%s\t%s\t%d\t%d\t%s\n", f.Name, len(f.After), len(f.After)+f.Missed,
			middle(f.After).Round(time.Second), last(f.After).Round(time.Second), middle(f.Touched), last(f.Touched), by(f.By))
	}
	return t.Flush()
}

func by(count map[notice.Detector]int) (out string) {
	for _, d := range notice.Detectors {
		if count[d] > 0 {
			out += fmt.Sprintf("%s %d ", d, count[d])
		}
	}
	return out
}

func middle[T cmp.Ordered](sorted []T) (t T) {
	if len(sorted) > 0 {
		return sorted[len(sorted)/2]
	}
	return t
}

func last[T cmp.Ordered](sorted []T) (t T) {
	if len(sorted) > 0 {
		return sorted[len(sorted)-1]
	}
	return t
}
