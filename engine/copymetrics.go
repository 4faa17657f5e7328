package engine

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// copyCollector answers how the copies of other members' trails are, from what
// this node knows when it is asked. Labels are names of nodes whose chains are
// known.
type copyCollector struct {
	engine                                                *Engine
	since                                                 time.Time // before any anchor is known
	events, seconds, broken, mismatch, copied, anchorAges *prometheus.Desc
}

func newCopyCollector(e *Engine) *copyCollector {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(name, help, labels, nil)
	}
	return &copyCollector{
		engine:     e,
		since:      e.Now(),
		events:     desc("strongroom_audit_copy_lag_events", "Events of a member's trail that this node was told of and has not copied yet.", "member"),
		seconds:    desc("strongroom_audit_copy_lag_seconds", "Time since this node last held all that a member had.", "member"),
		broken:     desc("strongroom_audit_copy_broken", "Copies of a member's trails that take no more, because copy and chain have parted.", "member"),
		mismatch:   desc("strongroom_audit_anchor_mismatch", "Chains of a member, its own trail or copies here, that are not what was anchored.", "member"),
		copied:     desc("strongroom_audit_copied_events_total", "Events of other members' trails that this node has copied since its start."),
		anchorAges: desc("strongroom_audit_anchor_age_seconds", "Time since the anchor of this node's own trail last moved. It stands still while there are no events."),
	}
}

// Describe implements prometheus.Collector.
func (c *copyCollector) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{c.events, c.seconds, c.broken, c.mismatch, c.copied, c.anchorAges} {
		out <- d
	}
}

// Collect implements prometheus.Collector.
func (c *copyCollector) Collect(out chan<- prometheus.Metric) {
	e := c.engine
	gauge := func(d *prometheus.Desc, value float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
	}
	for member, p := range e.copier.all() {
		gauge(c.events, float64(p.head-min(p.head, p.held)), member)
		gauge(c.seconds, max(0, e.Now().Sub(p.abreast).Seconds()), member)
	}
	if e.Copies != nil {
		broken := map[string]int{}
		for member := range e.copier.all() {
			broken[member] = 0
		}
		for _, b := range e.Copies.Broken() {
			broken[b.Node]++
		}
		for member, n := range broken {
			gauge(c.broken, float64(n), member)
		}
		out <- prometheus.MustNewConstMetric(c.copied, prometheus.CounterValue, float64(e.Copies.Copied()))
	}
	for member, n := range e.copier.mismatches(e.Node) {
		gauge(c.mismatch, float64(n), member)
	}
	moved := c.since
	if id, err := e.Trail.ChainID(context.Background()); err == nil {
		if a := e.Log.Local().Anchor(e.Node, id); a != nil {
			moved = time.UnixMilli(a.At)
		}
	}
	gauge(c.anchorAges, max(0, e.Now().Sub(moved).Seconds()))
}
