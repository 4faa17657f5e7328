package engine

import "github.com/prometheus/client_golang/prometheus"

// chainMetrics makes those of the audit chains that this node holds. member is
// the name of the node whose chain it is.
func (m *metrics) chainMetrics() {
	m.checkpoints = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "strongroom_audit_checkpoints_total",
		Help: "Checkpoints of audit chains that this node signed, or could not, by result.",
	}, []string{"result"})
	m.signedEvents = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "strongroom_audit_signed_events",
		Help: "Events of a member's audit chain that the newest checkpoint on this node is over.",
	}, []string{"member"})
	m.unsignedEvents = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "strongroom_audit_unsigned_events",
		Help: "Events of a member's audit chain on this node that no checkpoint is over yet.",
	}, []string{"member"})
	m.chainBroken = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "strongroom_audit_chain_broken",
		Help: "1 if a member's audit chain on this node is not the one that was signed: events were removed or changed.",
	}, []string{"member"})
	m.signedAt = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "strongroom_audit_checkpoint_timestamp_seconds",
		Help: "When the newest checkpoint on this node of a member's audit chain, which it agrees with, was signed, in seconds since 1970.",
	}, []string{"member"})
	for _, result := range []string{"ok", "failed"} { // zero is an answer, too
		m.checkpoints.WithLabelValues(result)
	}
}
