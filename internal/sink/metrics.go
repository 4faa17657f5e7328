package sink

import (
	"context"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/strongroom/strongroom/audit"
	"github.com/strongroom/strongroom/internal/fault"
)

// counters are those of one sink.
type counters struct {
	sent, errors, gaps prometheus.Counter
}

// metrics has a series of each for each sink from the start. How far a sink
// lags is looked up when it is asked: a gauge that a stuck sink would have to
// set would stand still just when it matters.
type metrics struct {
	set                   *Set
	sent, errors, gaps    *prometheus.CounterVec
	lagEvents, lagSeconds *prometheus.Desc
}

func newMetrics(set *Set) *metrics {
	counter := func(name, help string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, []string{"sink"})
	}
	return &metrics{
		set:    set,
		sent:   counter("strongroom_audit_sink_sent_total", "Events that an audit sink has taken since the start of the node."),
		errors: counter("strongroom_audit_sink_errors_total", "Attempts to hand events to an audit sink, or to keep its cursor, that failed."),
		gaps:   counter("strongroom_audit_sink_gap_total", "Times that an audit sink has lost events: it fell behind what the trail keeps, or the trail was replaced."),
		lagEvents: prometheus.NewDesc("strongroom_audit_sink_lag_events",
			"Events of the trail that an audit sink has not dealt with.", []string{"sink"}, nil),
		lagSeconds: prometheus.NewDesc("strongroom_audit_sink_lag_seconds",
			"Age of the oldest event that an audit sink has not dealt with; 0 when there is none.", []string{"sink"}, nil),
	}
}

// of makes the series of a sink.
func (m *metrics) of(sink string) counters {
	return counters{m.sent.WithLabelValues(sink), m.errors.WithLabelValues(sink), m.gaps.WithLabelValues(sink)}
}

func (m *metrics) register(r prometheus.Registerer) error {
	if r == nil {
		return nil
	}
	for _, c := range []prometheus.Collector{m.sent, m.errors, m.gaps, m} {
		if err := r.Register(c); err != nil {
			return fmt.Errorf("audit sinks: metrics: %w", err)
		}
	}
	return nil
}

// Describe implements prometheus.Collector.
func (m *metrics) Describe(out chan<- *prometheus.Desc) { out <- m.lagEvents; out <- m.lagSeconds }

// Collect implements prometheus.Collector.
func (m *metrics) Collect(out chan<- prometheus.Metric) {
	for _, f := range m.set.followers {
		events, age := f.lag(time.Now())
		out <- prometheus.MustNewConstMetric(m.lagEvents, prometheus.GaugeValue, float64(events), f.Name)
		out <- prometheus.MustNewConstMetric(m.lagSeconds, prometheus.GaugeValue, age.Seconds(), f.Name)
	}
}

// lag answers how many events the sink has not dealt with, and the age of the
// oldest of them. It reads one event of the trail at most.
func (f *follower) lag(now time.Time) (events uint64, age time.Duration) {
	at, newest := f.position.Load(), f.trail.Settled().Sequence
	if at >= newest {
		return 0, 0
	}
	events = newest - at
	lines, err := f.trail.Lines(context.Background(), at, 1)
	if fault.KindOf(err) == fault.NotFound {
		lines, err = f.trail.Lines(context.Background(), f.trail.Oldest()-1, 1)
	}
	if err != nil {
		return events, 0
	}
	lines.All(func(_ uint64, line []byte) bool {
		if e, _, err := audit.Decode(line); err == nil {
			age = max(0, now.Sub(e.Time))
		}
		return false
	})
	return events, age
}
