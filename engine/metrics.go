package engine

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/iam"
	"github.com/strongroom/strongroom/internal/fault"
)

// metrics of the gate. Labels are names of the table and error codes, never
// anything that a caller sends.
type metrics struct {
	requests *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
	reaped   prometheus.Counter
	kept     prometheus.Counter

	pendingUses prometheus.Counter
	rotations   *prometheus.CounterVec
	rewrapped   prometheus.Counter

	secretRotations *prometheus.CounterVec
	rotationSeconds prometheus.Histogram
	rotationRetries *prometheus.CounterVec
	observed        prometheus.Counter
	inUse           prometheus.Counter

	limited *prometheus.CounterVec
	quotas  *prometheus.CounterVec
	reports *prometheus.CounterVec
	signed  *prometheus.CounterVec

	checkpoints    *prometheus.CounterVec
	signedEvents   *prometheus.GaugeVec
	unsignedEvents *prometheus.GaugeVec
	chainBroken    *prometheus.GaugeVec
	signedAt       *prometheus.GaugeVec
	denials        *prometheus.CounterVec
	alerts         *prometheus.CounterVec

	dataKeys *prometheus.CounterVec
	backups  *prometheus.CounterVec
	followed *prometheus.CounterVec
}

func newMetrics(r prometheus.Registerer) *metrics {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "strongroom_requests_total",
			Help: "Operations served by this node, by operation and error code (ok for success).",
		}, []string{"operation", "code"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "strongroom_request_duration_seconds",
			Help:    "Time from the decoded request to the answer, audit included.",
			Buckets: prometheus.ExponentialBuckets(0.00025, 2, 16),
		}, []string{"operation"}),
		reaped: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "strongroom_reaper_items_total",
			Help: "Destructions, purges and expiries that the leader carried out because they were due.",
		}),
	}
	m.dataKeys = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "strongroom_kms_data_key_cache_reads_total",
		Help: "Reads of values that looked for their data key in memory, by result (hit, miss). A hit needed no call to the HSM.",
	}, []string{"result"})
	m.backups = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "strongroom_snapshots_saved_total",
		Help: "Snapshots that this node saved on its schedule and read back, or could not, by result.",
	}, []string{"result"})
	m.kept = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "strongroom_path_rules_destroyed_versions_total",
		Help: "Versions that the leader destroyed because a path rule keeps fewer.",
	})
	m.pendingUses = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "strongroom_kms_pending_deletion_uses_total",
		Help: "Attempts to use a key that waits for its deletion: something still needs it.",
	})
	m.rotations = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "strongroom_kms_rotations_total",
		Help: "Rotations of keys that the leader did by itself, by result.",
	}, []string{"result"})
	m.rewrapped = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "strongroom_kms_rewrapped_versions_total",
		Help: "Versions whose data key jobs of this leader moved to another key.",
	})
	m.secretRotations = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "strongroom_secrets_rotations_total",
		Help: "Rotations of secrets that ended while this node led, by result.",
	}, []string{"result"})
	m.rotationSeconds = prometheus.NewHistogram(prometheus.HistogramOpts{
		Name:    "strongroom_secrets_rotation_duration_seconds",
		Help:    "Time from the start of a rotation of a secret to its end, waits between attempts included.",
		Buckets: prometheus.ExponentialBuckets(0.05, 4, 10),
	})
	m.rotationRetries = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "strongroom_secrets_rotation_attempts_failed_total",
		Help: "Attempts of a step of a rotation of a secret that failed, by step.",
	}, []string{"step"})
	for _, result := range []string{"done", "failed", "cancelled"} {
		m.secretRotations.WithLabelValues(result)
	}
	for _, step := range rotationSteps {
		m.rotationRetries.WithLabelValues(string(step))
	}
	m.observed = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "strongroom_consumers_observations_total",
		Help: "Observations of consumers that this node committed to the ledger.",
	})
	m.limited = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "strongroom_rate_limited_total",
		Help: "Refusals because a rate limit was used up, by limit and by what it counts.",
	}, []string{"limit", "kind"})
	m.quotas = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "strongroom_quota_refusals_total",
		Help: "Writes that were refused because a path rule allows no more, by quota.",
	}, []string{"quota"})
	m.limited.WithLabelValues(builtInLimit, fsm.RateFailures)
	for _, quota := range []string{"maxSecrets", "maxVersions", "maxBytes"} {
		m.quotas.WithLabelValues(quota)
	}
	m.inUse = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "strongroom_consumers_destructions_refused_total",
		Help: "Destructions that were refused because consumers may still hold the version.",
	})
	m.followed = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "strongroom_follower_requests_total",
		Help: "Requests that this node, while it followed, served by itself, or handed to the leader after all, by why.",
	}, []string{"result"})
	for _, result := range followResults {
		m.followed.WithLabelValues(result)
	}
	m.reports, m.signed, m.alerts = newReports(), newSignedRefusals(), newAlerts()
	m.denials = newDenials()
	m.chainMetrics()
	for _, result := range []string{"ok", "failed"} { // zero is an answer, too
		m.rotations.WithLabelValues(result)
		m.backups.WithLabelValues(result)
	}
	if r != nil {
		r.MustRegister(m.followed, m.requests, m.seconds, m.reaped, m.kept, m.pendingUses, m.rotations, m.rewrapped, m.observed, m.inUse,
			m.secretRotations, m.rotationSeconds, m.rotationRetries, m.limited, m.quotas, m.reports, m.signed, m.alerts, m.dataKeys,
			m.checkpoints, m.signedEvents, m.unsignedEvents, m.chainBroken, m.signedAt, m.denials)
	}
	return m
}

// Outcomes of strongroom_policy_report_only_total.
const (
	wouldDeny  = "would_deny"
	wouldAllow = "would_allow"
)

func newReports() *prometheus.CounterVec {
	out := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "strongroom_policy_report_only_total",
		Help: "Decisions that would have been others if the policies that only report had a say, by what they would have been.",
	}, []string{"outcome"})
	for _, outcome := range []string{wouldDeny, wouldAllow} { // zero is an answer, too
		out.WithLabelValues(outcome)
	}
	return out
}

func newSignedRefusals() *prometheus.CounterVec {
	out := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "strongroom_signed_requests_refused_total",
		Help: "Signed requests that were refused while this node led, by reason; the caller is not told which.",
	}, []string{"reason"})
	for _, reason := range signedReasons() {
		out.WithLabelValues(reason)
	}
	return out
}

// report counts what policies that only report would have changed. One reason
// for a denial in place of another is no other outcome.
func (m *metrics) report(d iam.Decision) {
	switch {
	case d.Report == nil || d.Report.Allowed == d.Allowed:
	case d.Report.Allowed:
		m.reports.WithLabelValues(wouldAllow).Inc()
	default:
		m.reports.WithLabelValues(wouldDeny).Inc()
	}
}

func (m *metrics) observe(o *Operation, err error, took time.Duration) {
	code := "ok"
	if err != nil {
		code = string(fault.KindOf(err))
	}
	m.requests.WithLabelValues(o.Path(), code).Inc()
	m.seconds.WithLabelValues(o.Path()).Observe(took.Seconds())
}
