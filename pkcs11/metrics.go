package pkcs11

import (
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/strongroom/strongroom/internal/fault"
)

// metrics of one device. The zero value measures nothing.
type metrics struct {
	registerer prometheus.Registerer
	calls      *prometheus.CounterVec
	seconds    *prometheus.HistogramVec
	restarts   prometheus.Counter
	healthy    prometheus.Gauge
	handles    prometheus.Gauge
	inFlight   prometheus.Gauge
	held       prometheus.Gauge
	lastOK     prometheus.Gauge
}

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	if r == nil {
		return &metrics{}, nil
	}
	m := &metrics{
		registerer: r,
		calls: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "strongroom_hsm_calls_total",
			Help: "Operations of the HSM by function and result."}, []string{"function", "result"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "strongroom_hsm_call_seconds",
			Help:    "Time of HSM operations, waiting for a worker included.",
			Buckets: prometheus.ExponentialBuckets(20e-6, 2.5, 14)}, []string{"function"}),
		restarts: prometheus.NewCounter(prometheus.CounterOpts{Name: "strongroom_hsm_worker_restarts_total",
			Help: "HSM worker processes that ended and were or will be replaced."}),
		healthy: prometheus.NewGauge(prometheus.GaugeOpts{Name: "strongroom_hsm_healthy",
			Help: "1 while an HSM worker is in service."}),
		handles: prometheus.NewGauge(prometheus.GaugeOpts{Name: "strongroom_hsm_handles_loaded",
			Help: "Keys that are loaded in the HSM worker."}),
		inFlight: prometheus.NewGauge(prometheus.GaugeOpts{Name: "strongroom_hsm_requests_in_flight",
			Help: "Requests that wait for the HSM or are being served by it."}),
		held: prometheus.NewGauge(prometheus.GaugeOpts{Name: "strongroom_hsm_held",
			Help: "1 while no log-in is tried, because the PIN was refused and a person must act."}),
		lastOK: prometheus.NewGauge(prometheus.GaugeOpts{Name: "strongroom_hsm_last_success_timestamp_seconds",
			Help: "When the HSM last answered a canary, a seal and an open of its own, in seconds since 1970; 0: never since the start."}),
	}
	for i, c := range m.collectors() {
		if err := r.Register(c); err != nil {
			for _, done := range m.collectors()[:i] {
				r.Unregister(done)
			}
			return nil, err
		}
	}
	return m, nil
}

func (m *metrics) collectors() []prometheus.Collector {
	return []prometheus.Collector{m.calls, m.seconds, m.restarts, m.healthy, m.handles, m.inFlight, m.held, m.lastOK}
}

func (m *metrics) unregister() {
	if m.registerer == nil {
		return
	}
	for _, c := range m.collectors() {
		m.registerer.Unregister(c)
	}
}

func (m *metrics) observe(o op, took time.Duration, err error) {
	if m.registerer == nil {
		return
	}
	m.calls.WithLabelValues(o.String(), result(err)).Inc()
	m.seconds.WithLabelValues(o.String()).Observe(took.Seconds())
}

// result is a word from a short list: labels must stay few.
func result(err error) string {
	var failure *opError
	if errors.As(err, &failure) {
		err = failure.fault()
	}
	switch kind := fault.KindOf(err); kind {
	case "":
		return "ok"
	case fault.Internal:
		return string(fault.HsmUnavailable)
	default:
		return string(kind)
	}
}

func (m *metrics) restarted() {
	if m.registerer != nil {
		m.restarts.Inc()
	}
}

func (m *metrics) up(ok bool) {
	if m.registerer == nil {
		return
	}
	m.healthy.Set(0)
	if ok {
		m.healthy.Set(1)
	}
}

func (m *metrics) handlesLoaded(n uint32) {
	if m.registerer != nil {
		m.handles.Set(float64(n))
	}
}

// begun counts a request until the function that it answers is called.
func (m *metrics) begun() (ended func()) {
	if m.registerer == nil {
		return func() {}
	}
	m.inFlight.Inc()
	return m.inFlight.Dec
}

func (m *metrics) waitsForAPerson(held bool) {
	if m.registerer == nil {
		return
	}
	m.held.Set(0)
	if held {
		m.held.Set(1)
	}
}

func (m *metrics) answered() {
	if m.registerer != nil {
		m.lastOK.SetToCurrentTime()
	}
}
