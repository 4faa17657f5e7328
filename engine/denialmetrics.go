package engine

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/strongroom/strongroom/audit"
	"github.com/strongroom/strongroom/iam"
	"github.com/strongroom/strongroom/internal/fault"
)

// Reasons of strongroom_denials_total beside those of iam.
const (
	deniedUnknownCaller = "unauthenticated"
	deniedByGuard       = "guard" // of an operation itself, whatever the policies say
)

func denialReasons() []string {
	return []string{
		iam.ReasonIAM, iam.ReasonBoundary, iam.ReasonSource, iam.ReasonWindow, iam.ReasonApproval, iam.ReasonQuarantined,
		deniedByGuard, deniedUnknownCaller,
	}
}

func newDenials() *prometheus.CounterVec {
	out := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "strongroom_denials_total",
		Help: "Events of refused access that this node wrote, by reason.",
	}, []string{"reason"})
	for _, reason := range denialReasons() { // zero is an answer, too
		out.WithLabelValues(reason)
	}
	return out
}

// denied counts the denials among events that are in the trail, so that the
// counter and the trail say the same.
func (m *metrics) denied(events []audit.Event) {
	for i := range events {
		if events[i].Outcome == audit.Denied {
			m.denials.WithLabelValues(denialReason(&events[i])).Inc()
		}
	}
}

// denialReason is one of denialReasons, whatever the event says.
func denialReason(e *audit.Event) string {
	d := e.Decision
	switch {
	case e.Code == string(fault.Unauthenticated):
		return deniedUnknownCaller
	case d == nil || d.Guard:
		return deniedByGuard
	}
	switch d.Reason {
	case iam.ReasonBoundary, iam.ReasonSource, iam.ReasonWindow, iam.ReasonApproval, iam.ReasonQuarantined:
		return d.Reason
	}
	return iam.ReasonIAM
}
