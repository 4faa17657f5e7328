package engine

import (
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/strongroom/strongroom/fsm"
)

// rotationsCounted is how long a count over all secrets is good for: scrapes
// of several collectors must not each walk a million of them.
const rotationsCounted = 15 * time.Second

// rotationCollector counts secrets by what their rotation needs.
type rotationCollector struct {
	engine                   *Engine
	overdue, failed, running *prometheus.Desc

	mu   sync.Mutex
	at   time.Time
	last rotationCount
}

type rotationCount struct{ overdue, failed, running int }

func newRotationCollector(e *Engine) *rotationCollector {
	return &rotationCollector{
		engine:  e,
		overdue: prometheus.NewDesc("strongroom_secrets_rotations_overdue", "Secrets whose rotation is due and not done, or whose path rule asks for one.", nil, nil),
		failed:  prometheus.NewDesc("strongroom_secrets_rotations_failed", "Secrets whose last rotation failed or is rolling back.", nil, nil),
		running: prometheus.NewDesc("strongroom_secrets_rotations_running", "Rotations of secrets that are on their way.", nil, nil),
	}
}

// Describe implements prometheus.Collector.
func (r *rotationCollector) Describe(out chan<- *prometheus.Desc) {
	prometheus.DescribeByCollect(r, out)
}

// Collect implements prometheus.Collector.
func (r *rotationCollector) Collect(out chan<- prometheus.Metric) {
	count := r.count(r.engine.Log.Local(), r.engine.Now())
	for desc, n := range map[*prometheus.Desc]int{r.overdue: count.overdue, r.failed: count.failed, r.running: count.running} {
		out <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, float64(n))
	}
}

func (r *rotationCollector) count(state *fsm.State, now time.Time) rotationCount {
	r.mu.Lock()
	defer r.mu.Unlock()
	if age := now.Sub(r.at); age >= 0 && age < rotationsCounted {
		return r.last
	}
	var n rotationCount
	for s := range state.Secrets("/") {
		if s.State != fsm.SecretActive {
			continue
		}
		if rotationOverdue(state, s, rotationPeriodOf(state, s.Path), now) {
			n.overdue++
		}
		if rotation := s.Rotation; rotation != nil {
			rollingBack := rotation.Run != nil && rotation.Run.Step == fsm.RotationRollBack
			if rollingBack || rotation.Outcome == fsm.RotationFailed {
				n.failed++
			}
			if rotation.Run != nil {
				n.running++
			}
		}
	}
	r.at, r.last = now, n
	return n
}
