package engine

import (
	"iter"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/internal/names"
)

// inactiveSecrets answers the secrets whose key is not active, each once for
// each such key: those with live versions under it, and those whose next
// version would go there. What it costs depends on how many there are, not
// on how many secrets there are.
func inactiveSecrets(state *fsm.State) iter.Seq2[*fsm.Key, names.Path] {
	return func(yield func(*fsm.Key, names.Path) bool) {
		for key := range state.Keys("") {
			if key.State == fsm.KeyActive {
				continue
			}
			for path := range state.BoundPaths(key.ID, "") {
				if !yield(key, path) {
					return
				}
			}
			for path := range state.ChosenPaths(key.ID, "") {
				if !state.BoundUnder(key.ID, path) && !yield(key, path) {
					return
				}
			}
		}
	}
}

// keyCollector reads the metrics of keys from the state as this node has
// applied it, when they are asked for. Labels are states, never ids: their
// number does not grow with the keys.
type keyCollector struct {
	engine  *Engine
	keys    *prometheus.Desc
	secrets *prometheus.Desc
	overdue *prometheus.Desc
	oldest  *prometheus.Desc
	dueDays *prometheus.Desc
	jobs    *prometheus.Desc
	root    *prometheus.Desc
	oldRoot *prometheus.Desc
	expire  *prometheus.Desc
}

func newKeyCollector(e *Engine) *keyCollector {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(name, help, labels, nil)
	}
	return &keyCollector{
		engine:  e,
		keys:    desc("strongroom_kms_keys", "KMS keys, by state.", "state"),
		secrets: desc("strongroom_kms_secrets_on_inactive_keys", "Secrets whose bound key is not active, by the state of the key.", "state"),
		overdue: desc("strongroom_kms_rotations_overdue", "Keys whose rotation is due and not done."),
		oldest:  desc("strongroom_kms_oldest_version_age_seconds", "Age of the newest version of the active key that has not been rotated for longest."),
		dueDays: desc("strongroom_kms_next_deletion_seconds", "Time to the next destruction of a key that waits for its deletion; absent if none does."),
		root:    desc("strongroom_kms_root_version", "Version of the root key that new keys are wrapped under."),
		oldRoot: desc("strongroom_kms_material_on_old_root", "Pieces of key material that a rotation of the root key has still to wrap anew."),
		expire:  desc("strongroom_secrets_versions_expiring", "Versions that expire within their notifyBefore, and can still be read."),
		jobs:    desc("strongroom_jobs", "Jobs, by state; ended ones are forgotten after 90 days.", "state"),
	}
}

// Describe implements prometheus.Collector.
func (k *keyCollector) Describe(out chan<- *prometheus.Desc) { prometheus.DescribeByCollect(k, out) }

// Collect implements prometheus.Collector.
func (k *keyCollector) Collect(out chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	state := k.engine.Log.Local()
	now := k.engine.Now().UnixMilli()
	count, secrets := map[fsm.KeyState]int{}, map[fsm.KeyState]int{}
	var oldest, nextDeletion int64
	overdue := 0
	for key := range state.Keys("") {
		count[key.State]++
		if n := len(key.Versions); n > 0 && key.State == fsm.KeyActive {
			oldest = max(oldest, now-key.Versions[n-1].CreatedAt)
		}
		if key.DeletionAt != 0 && (nextDeletion == 0 || key.DeletionAt < nextDeletion) {
			nextDeletion = key.DeletionAt
		}
	}
	for range state.RotationsDue(now) {
		overdue++
	}
	for key := range inactiveSecrets(state) {
		secrets[key.State]++
	}
	for _, s := range fsm.KeyStates {
		gauge(k.keys, float64(count[s]), string(s))
		if s != fsm.KeyActive {
			gauge(k.secrets, float64(secrets[s]), string(s))
		}
	}
	gauge(k.overdue, float64(overdue))
	gauge(k.oldest, float64(oldest)/float64(time.Second/time.Millisecond))
	if nextDeletion != 0 {
		gauge(k.dueDays, float64(nextDeletion-now)/float64(time.Second/time.Millisecond))
	}
	if roots := state.Roots(); roots != nil {
		old := uint64(0)
		if roots.Previous != nil {
			old = state.MaterialUnder(roots.Previous.Version)
		}
		gauge(k.root, float64(roots.Current.Version))
		gauge(k.oldRoot, float64(old))
	}
	gauge(k.expire, float64(state.ExpiringSoon(now)))
	jobs := map[fsm.JobState]int{}
	for job := range state.Jobs("") {
		jobs[job.State]++
	}
	for _, s := range []fsm.JobState{fsm.JobRunning, fsm.JobPaused, fsm.JobFailed, fsm.JobDone, fsm.JobCancelled} {
		gauge(k.jobs, float64(jobs[s]), string(s))
	}
}
