package raft

import (
	"encoding/binary"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/strongroom/strongroom/internal/fault"
)

type metrics struct {
	registerer prometheus.Registerer
	all        []prometheus.Collector
	rounds     *prometheus.HistogramVec
	reads      *prometheus.CounterVec
	proposals  *prometheus.CounterVec
	commits    prometheus.Histogram
	followed   *prometheus.CounterVec
	questions  *prometheus.HistogramVec
	untrusted  prometheus.Counter
}

func newMetrics(registerer prometheus.Registerer, n *Node) (*metrics, error) {
	m := &metrics{
		rounds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "strongroom_raft_read_round_seconds", Help: "Time of one round of the read gate.",
			Buckets: prometheus.ExponentialBuckets(0.0001, 2.5, 12),
		}, []string{"outcome"}),
		reads: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "strongroom_raft_reads_total", Help: "Consistent reads served by rounds of the read gate.",
		}, []string{"outcome"}),
		proposals: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "strongroom_raft_proposals_total", Help: "Commands proposed to the log, by outcome.",
		}, []string{"outcome"}),
	}
	m.followed = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "strongroom_raft_follower_reads_total",
		Help: "Reads for which this node asked the leader, to serve them by itself, by outcome.",
	}, []string{"outcome"})
	m.questions = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "strongroom_raft_follower_question_seconds", Help: "Time of one question to the leader, which serves all reads that waited for it.",
		Buckets: prometheus.ExponentialBuckets(0.0001, 2.5, 12),
	}, []string{"outcome"})
	m.untrusted = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "strongroom_raft_untrusted_connections_total",
		Help: "Connections of the node link that were closed because their certificates are of authorities that are not trusted any more.",
	})
	m.commits = prometheus.NewHistogram(prometheus.HistogramOpts{
		Name:    "strongroom_raft_commit_seconds",
		Help:    "Time from proposing a command to its result, once it was committed and applied.",
		Buckets: prometheus.ExponentialBuckets(0.0005, 2, 14),
	})
	for _, outcome := range []string{"ok", "unreachable", "behind", "tooLarge", "apart"} { // zero is an answer, too
		m.followed.WithLabelValues(outcome)
	}
	for _, outcome := range []string{"ok", string(fault.NoLeader)} {
		m.questions.WithLabelValues(outcome)
	}
	gauge := func(name, help string, value func() float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "strongroom_raft_" + name, Help: help}, value)
	}
	m.all = []prometheus.Collector{
		m.rounds, m.reads, m.proposals, m.commits, m.followed, m.questions, m.untrusted,
		gauge("leader", "1 while this node leads and is ready.", func() float64 {
			if n.tenure() != nil {
				return 1
			}
			return 0
		}),
		gauge("term", "Current term.", func() float64 { return float64(n.raft.CurrentTerm()) }),
		gauge("commit_index", "Highest committed index known.", func() float64 { return float64(n.raft.CommitIndex()) }),
		gauge("applied_index", "Index of the last applied command.", func() float64 { return float64(n.machine.appliedIndex()) }),
		gauge("state_hash", "First 48 bits of the hash that is chained over all commands applied and their results.", func() float64 { return stateHash(n.machine.State().Hash()) }),
		gauge("last_index", "Last index in the log.", func() float64 { return float64(n.raft.LastIndex()) }),
		gauge("log_write_stall_seconds", "Age of the log write in flight.", func() float64 { return n.data.logs.stalledFor().Seconds() }),
		gauge("disk_free_bytes", "Free space on the disk of the data folder.", func() float64 { return float64(n.space.free.Load()) }),
		gauge("mending", "1 while entries that were damaged are fetched anew from the others; this node does not vote then.", func() float64 {
			if n.mending.going() {
				return 1
			}
			return 0
		}),
		gauge("state_equal_index", "Highest index at which a majority of the voters was found to have the state of this node.", func() float64 { return float64(n.equalAt.Load()) }),
		gauge("state_apart_members", "Members whose state was found to be another one than that of this node.", func() float64 {
			if apart := n.apart.Load(); apart != nil {
				return float64(len(*apart))
			}
			return 0
		}),
		gauge("feature_level", "Feature level of the cluster, as this node has applied it.", func() float64 { return float64(n.machine.State().Level()) }),
		gauge("feature_level_known", "Feature level that the build of this node knows.", func() float64 { return float64(n.cfg.level()) }),
		gauge("members_alive", "Members that gossip finds alive, this node included.", func() float64 { return float64(n.gossip.alive()) }),
	}
	if registerer == nil {
		return m, nil
	}
	for i, c := range m.all {
		if err := registerer.Register(c); err != nil {
			m.all = m.all[:i]
			m.registerer = registerer
			m.close()
			return nil, fmt.Errorf("raft metrics: %w", err)
		}
	}
	m.registerer = registerer
	return m, nil
}

// close takes the collectors back, so that a node can be opened again with
// the same registerer.
func (m *metrics) close() {
	if m.registerer == nil {
		return
	}
	for _, c := range m.all {
		m.registerer.Unregister(c)
	}
}

// stateHash is as much of a chained hash as a gauge holds exactly: two nodes at
// one index that differ in it have parted, and of two that have parted one in
// 2^48 does not. It tells nothing of what is in the state that the index does
// not tell.
func stateHash(hash [32]byte) float64 {
	var first [8]byte
	copy(first[2:], hash[:6])
	return float64(binary.BigEndian.Uint64(first[:]))
}

func outcomeOf(err error) string {
	if err == nil {
		return "ok"
	}
	return string(fault.KindOf(err))
}

func (m *metrics) round(reads int, took time.Duration, err error) {
	m.rounds.WithLabelValues(outcomeOf(err)).Observe(took.Seconds())
	m.reads.WithLabelValues(outcomeOf(err)).Add(float64(reads))
}

func (m *metrics) proposal(took time.Duration, err error) {
	m.proposals.WithLabelValues(outcomeOf(err)).Inc()
	if err == nil {
		m.commits.Observe(took.Seconds())
	}
}
