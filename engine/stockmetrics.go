package engine

import (
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/strongroom/strongroom/fsm"
)

// A count over everything is good for stockCounted, and for stockShare times as
// long as it took: scrapes, however many and however often, cost at most a
// hundredth of a core.
const (
	stockCounted = 15 * time.Second
	stockShare   = 100
)

// stockCollector counts secrets, versions and consumers, as this node has
// applied them. Labels are states, so their number does not grow.
type stockCollector struct {
	engine                                       *Engine
	secrets, versions, bytes, known, behind, due *prometheus.Desc

	mu    sync.Mutex
	until time.Time
	last  fsm.Stock
}

func newStockCollector(e *Engine) *stockCollector {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(name, help, labels, nil)
	}
	return &stockCollector{
		engine:   e,
		secrets:  desc("strongroom_secrets", "Secrets, by state.", "state"),
		versions: desc("strongroom_secrets_versions", "Versions of secrets, by state.", "state"),
		bytes:    desc("strongroom_secrets_stored_bytes", "Bytes of the values of all versions that are not destroyed."),
		known:    desc("strongroom_consumers", "Instances of consumers that the ledger knows."),
		behind:   desc("strongroom_consumers_behind", "Instances of consumers that may still hold a version older than the current one."),
		due:      desc("strongroom_kms_next_rotation_seconds", "Time to the next automatic rotation of a key, below 0 if it is overdue; absent if none is planned."),
	}
}

// Describe implements prometheus.Collector.
func (s *stockCollector) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{s.secrets, s.versions, s.bytes, s.known, s.behind, s.due} {
		out <- d
	}
}

// Collect implements prometheus.Collector.
func (s *stockCollector) Collect(out chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	state, now := s.engine.Log.Local(), s.engine.Now()
	stock := s.count(state, now)
	for _, of := range []fsm.SecretState{fsm.SecretActive, fsm.SecretPendingDeletion, fsm.SecretPurged} {
		gauge(s.secrets, float64(stock.Secrets[of]), string(of))
	}
	for _, of := range []fsm.VersionState{fsm.VersionActive, fsm.VersionDisabled, fsm.VersionExpired, fsm.VersionPendingDestroy, fsm.VersionDestroyed} {
		gauge(s.versions, float64(stock.Versions[of]), string(of))
	}
	gauge(s.bytes, float64(state.StoredBelow("/").Bytes))
	gauge(s.known, float64(stock.Consumers))
	gauge(s.behind, float64(stock.Behind))
	if at := state.NextRotationAt(); at != 0 {
		gauge(s.due, float64(at-now.UnixMilli())/1000)
	}
}

func (s *stockCollector) count(state *fsm.State, now time.Time) fsm.Stock {
	s.mu.Lock()
	defer s.mu.Unlock()
	if now.Before(s.until) && s.until.Sub(now) < time.Hour { // else the clock was put back
		return s.last
	}
	began := time.Now()
	s.last = state.Stock(now.UnixMilli())
	s.until = now.Add(max(stockCounted, stockShare*time.Since(began)))
	return s.last
}
