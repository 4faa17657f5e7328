package engine

import (
	"context"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/iam"
	"github.com/strongroom/strongroom/internal/fault"
)

// noteSession keeps in the event that the request needed the break-glass
// session, "" if it did not.
func (c *call) noteSession(id string) {
	if id != "" {
		c.event.BreakGlassID = id
	}
}

// noteGlassRead commits that the caller is about to be given v, if it is so
// because of its break-glass session. It comes before the value is opened: a
// node that cannot commit it opens nothing, so whatever was read is a duty. The
// question is asked once more here, where values are opened, so that no
// operation can forget to.
func (c *call) noteGlassRead(ctx context.Context, s *fsm.Secret, v *fsm.Version) error {
	if c.who.glass == "" {
		return nil
	}
	a, session := c.asker(), c.who.glass
	if c.approval != nil {
		a.approvedBy = c.whoApproved(c.approval.ID)
	}
	// What is not allowed any more, by what was looked at since, is noted: the
	// caller is about to have it all the same.
	if d, _ := c.decideFor(&a, readAction, iam.Resource{Path: s.Path}); d.Allowed {
		session = d.BreakGlass
	}
	if session == "" {
		return nil
	}
	if r := c.state.GlassRead(session, s.Path); r != nil && r.SecretID == s.ID && r.Has(v.Number) {
		return nil
	}
	_, err := c.commit(ctx, fsm.NoteGlassRead{
		Meta: fsm.Meta{Time: c.now.UnixMilli(), Principal: c.who.name, RequestID: c.from.RequestID},
		ID:   session, Path: string(s.Path), SecretID: s.ID, Version: v.Number,
	})
	if fault.Is(err, fault.Uncertain) {
		// Nothing is lost by noting it twice, and the next leader can.
		return fault.Wrap(fault.NoLeader, err, "the read could not be noted for the break-glass session, and nothing was opened; retry")
	}
	return err
}

// glassCollector counts break-glass sessions and their duties, from the state
// as this node has applied it.
type glassCollector struct {
	engine       *Engine
	open, duties *prometheus.Desc
}

func newGlassCollector(e *Engine) *glassCollector {
	return &glassCollector{
		engine: e,
		open:   prometheus.NewDesc("strongroom_break_glass_open", "Break-glass sessions that are open.", nil, nil),
		duties: prometheus.NewDesc("strongroom_break_glass_duties", "What is to be done after break-glass sessions, by duty: secrets to rotate, sessions to review.", []string{"duty"}, nil),
	}
}

// Describe implements prometheus.Collector.
func (g *glassCollector) Describe(out chan<- *prometheus.Desc) { prometheus.DescribeByCollect(g, out) }

// Collect implements prometheus.Collector.
func (g *glassCollector) Collect(out chan<- prometheus.Metric) {
	totals := g.engine.Log.Local().GlassTotals(g.engine.Now().UnixMilli())
	out <- prometheus.MustNewConstMetric(g.open, prometheus.GaugeValue, float64(totals.Open))
	out <- prometheus.MustNewConstMetric(g.duties, prometheus.GaugeValue, float64(totals.Rotate), dutyRotate)
	out <- prometheus.MustNewConstMetric(g.duties, prometheus.GaugeValue, float64(totals.Review), dutyReview)
}
