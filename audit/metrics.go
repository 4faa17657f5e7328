package audit

import (
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	events   *prometheus.CounterVec
	latency  prometheus.Histogram
	syncs    prometheus.Histogram
	failed   prometheus.GaugeFunc
	sequence prometheus.Gauge
}

// newMetrics asks failed when it is asked itself: a gauge that is set could be
// set last by the one who lost a race.
func newMetrics(failed func() bool) *metrics {
	buckets := prometheus.ExponentialBuckets(0.00002, 2.5, 14) // 20 µs to 3 s
	return &metrics{
		events: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "strongroom_audit_events_total", Help: "Events in the audit trail of this node since its start, by event and outcome.",
		}, []string{"event", "outcome"}),
		latency: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "strongroom_audit_append_seconds", Help: "Time until the events of a request were durable as configured.", Buckets: buckets,
		}),
		syncs: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "strongroom_audit_sync_seconds", Help: "Duration of each fsync of the audit trail.", Buckets: buckets,
		}),
		failed: prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "strongroom_audit_failed", Help: "1 while the audit trail takes no events and requests are refused.",
		}, func() float64 {
			if failed() {
				return 1
			}
			return 0
		}),
		sequence: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "strongroom_audit_head_sequence", Help: "Sequence number of the newest event in the audit trail of this node.",
		}),
	}
}

func (m *metrics) register(r prometheus.Registerer) error {
	if r == nil {
		return nil
	}
	for _, c := range []prometheus.Collector{m.events, m.latency, m.syncs, m.failed, m.sequence} {
		if err := r.Register(c); err != nil {
			return fmt.Errorf("audit: metrics: %w", err)
		}
	}
	return nil
}

func (m *metrics) appended(events []Event, took time.Duration) {
	m.latency.Observe(took.Seconds())
	for i := range events {
		m.events.WithLabelValues(events[i].Event, events[i].Outcome).Inc()
	}
}

func (m *metrics) wrote(sequence uint64) { m.sequence.Set(float64(sequence)) }

func (m *metrics) synced(took time.Duration) { m.syncs.Observe(took.Seconds()) }
