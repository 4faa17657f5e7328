package engine

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/strongroom/strongroom/api/wire"
	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/internal/fault"
	"github.com/strongroom/strongroom/internal/notice"
)

// noticeOperations are those about what is not trusted.
func noticeOperations() []*Operation {
	return slices.Concat(detectorOperations(), canaryOperations(), quarantineOperations(), compromisedOperations())
}

func detectorOperations() []*Operation {
	return []*Operation{
		operation(row[wire.DescribeDetectorsRequest, wire.DetectorsResponse]{
			service: "audit", name: "describeDetectors", event: "audit.describe_detectors",
			summary: "Show how unusual behaviour of principals is noticed.",
			scope:   func(*call, *wire.DescribeDetectorsRequest) (scope, error) { return scope{}, nil },
			run: func(_ context.Context, c *call, r *wire.DescribeDetectorsRequest) (*wire.DetectorsResponse, error) {
				return describeDetectors(c.state), c.checkConsistency(r.Consistency)
			},
		}),
		operation(row[wire.PutDetectorsRequest, wire.PutDetectorsResponse]{
			service: "audit", name: "putDetectors", event: "audit.put_detectors", write: true,
			summary: "Say how unusual behaviour of principals is noticed, and what quarantines them. Replaces all settings.",
			scope:   func(*call, *wire.PutDetectorsRequest) (scope, error) { return scope{}, nil },
			run:     putDetectors,
		}),
	}
}

// detectorSettings answers how the detectors decide: as the release has it, but
// for what somebody has set.
func detectorSettings(state *fsm.State) notice.Settings {
	out := notice.DefaultSettings()
	set := state.Detectors()
	if set == nil {
		return out
	}
	if set.Learning != 0 {
		out.Learning = time.Duration(set.Learning) * time.Millisecond
	}
	for _, d := range notice.Detectors {
		rule, given := out.Rules[d], set.Rule(string(d))
		rule.Off = given.Off
		if given.Floor != 0 {
			rule.Floor = given.Floor
		}
		if given.Factor != 0 {
			rule.Factor = given.Factor
		}
		out.Rules[d] = rule
	}
	return out
}

// exempt reports whether the detectors leave the principal alone, but for
// canaries.
func exempt(state *fsm.State, principal string, now int64) bool {
	set := state.Detectors()
	if set == nil || principal == "" {
		return false
	}
	if slices.Contains(set.Exempt, principal) {
		return true
	}
	if len(set.Groups) == 0 {
		return false
	}
	for m := range state.Memberships(principal) {
		if m.Holds(now) && slices.Contains(set.Groups, m.Group) {
			return true
		}
	}
	return false
}

func describeDetectors(state *fsm.State) *wire.DetectorsResponse {
	settings, set := detectorSettings(state), state.Detectors()
	out := &wire.DetectorsResponse{Learning: wire.Duration(settings.Learning), ExemptPrincipals: []string{}, ExemptGroups: []string{}}
	for _, d := range notice.Detectors {
		rule := settings.Rules[d]
		out.Detectors = append(out.Detectors, wire.Detector{
			Detector: string(d), On: !rule.Off, Floor: rule.Floor, Factor: rule.Factor, Quarantine: set.Rule(string(d)).Quarantine, Counts: notice.Counts(d),
		})
	}
	if set != nil {
		out.Revision, out.Reason, out.UpdatedAt, out.UpdatedBy, out.RequestID = set.Revision, set.Reason, wire.Millis(set.UpdatedAt), set.UpdatedBy, set.RequestID
		out.ExemptPrincipals, out.ExemptGroups = append(out.ExemptPrincipals, set.Exempt...), append(out.ExemptGroups, set.Groups...)
	}
	return out
}

func putDetectors(ctx context.Context, c *call, r *wire.PutDetectorsRequest) (*wire.PutDetectorsResponse, error) {
	d := fsm.Detectors{Exempt: r.ExemptPrincipals, Groups: r.ExemptGroups, Reason: r.Reason}
	for _, rule := range r.Rules {
		if rule.Detector == string(notice.Canary) && (rule.Floor != 0 || rule.Factor != 0) {
			return nil, fault.Invalid("rules", "canary has neither floor nor factor: any touch is too much")
		}
		d.Rules = append(d.Rules, fsm.DetectorRule{Detector: rule.Detector, Off: rule.Off, Floor: rule.Floor, Factor: rule.Factor, Quarantine: rule.Quarantine})
	}
	slices.SortStableFunc(d.Rules, func(a, b fsm.DetectorRule) int { return strings.Compare(a.Detector, b.Detector) })
	if r.Learning != nil {
		if *r.Learning == 0 {
			return nil, fault.Invalid("learning", "must be 1h to 90d")
		}
		d.Learning = time.Duration(*r.Learning).Milliseconds()
	}
	if err := checkText("reason", r.Reason); err != nil {
		return nil, err
	}
	meta, err := c.meta(ctx, r.ClientToken, r)
	if err != nil {
		return nil, err
	}
	result, err := c.commit(ctx, fsm.PutDetectors{Meta: meta, Detectors: d, Expected: r.ExpectedRevision})
	if err != nil {
		return nil, err
	}
	return &wire.PutDetectorsResponse{Revision: result.Revision}, nil
}

func newAlerts() *prometheus.CounterVec {
	alerts := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "strongroom_alerts_total",
		Help: "Alerts about unusual behaviour that this node wrote, by detector. The events alert.* name whom they are about.",
	}, []string{"detector"})
	for _, d := range notice.Detectors {
		alerts.WithLabelValues(string(d))
	}
	return alerts
}

// noticeCollector counts what is not trusted, from the state that this node
// has.
type noticeCollector struct {
	engine                   *Engine
	quarantined, compromised *prometheus.Desc
}

func newNoticeCollector(e *Engine) *noticeCollector {
	return &noticeCollector{
		engine:      e,
		quarantined: prometheus.NewDesc("strongroom_principals_quarantined", "Principals that may do nothing until they are released.", nil, nil),
		compromised: prometheus.NewDesc("strongroom_versions_compromised", "Versions marked as compromised that readers still get, or can still get.", nil, nil),
	}
}

// Describe implements prometheus.Collector.
func (n *noticeCollector) Describe(out chan<- *prometheus.Desc) {
	prometheus.DescribeByCollect(n, out)
}

// Collect implements prometheus.Collector.
func (n *noticeCollector) Collect(out chan<- prometheus.Metric) {
	state := n.engine.Log.Local()
	quarantined, compromised := 0, 0
	for range state.Quarantined() {
		quarantined++
	}
	for s, v := range state.Compromised("", 0) {
		if !v.Mended(s) {
			compromised++
		}
	}
	out <- prometheus.MustNewConstMetric(n.quarantined, prometheus.GaugeValue, float64(quarantined))
	out <- prometheus.MustNewConstMetric(n.compromised, prometheus.GaugeValue, float64(compromised))
}
