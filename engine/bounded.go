package engine

import (
	"slices"

	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/iam"
	"github.com/strongroom/strongroom/internal/fault"
)

// A boundary caps what its holder can ever get, also when the holder may
// manage principals and policies. So whoever is under boundaries
//
//   - makes principals that are under the same ones,
//   - gives policies and credentials only to principals that are,
//   - and changes no boundary, and no policy that is one of its own.
//
// Otherwise it could make itself, or a helper, one without.

// boundedBy answers the policies that cap the caller.
func (c *call) boundedBy() []string { return c.who.boundaries }

// withinBoundaries refuses a request about a principal that is not under all
// the boundaries of the caller. One that is not there is left to what comes
// after.
func (c *call) withinBoundaries(action iam.Action, name string) error {
	if len(c.boundedBy()) == 0 {
		return nil
	}
	p := c.state.Principal(name)
	if p == nil {
		return nil
	}
	r, err := c.engine.rightsOf(c.state, p, nil, c.now.UnixMilli())
	if err != nil {
		return err
	}
	for _, boundary := range c.boundedBy() {
		if !slices.Contains(r.boundaries, boundary) {
			return c.deny(action, iam.Decision{Reason: iam.ReasonBoundary})
		}
	}
	return nil
}

// unbounded refuses to a caller under boundaries what could lift them.
func (c *call) unbounded(action iam.Action) error {
	if len(c.boundedBy()) == 0 {
		return nil
	}
	return c.deny(action, iam.Decision{Reason: iam.ReasonBoundary})
}

// notItsBoundary refuses to change a policy that caps the caller.
func (c *call) notItsBoundary(action iam.Action, policy string) error {
	if !slices.Contains(c.boundedBy(), policy) {
		return nil
	}
	return c.deny(action, iam.Decision{Reason: iam.ReasonBoundary})
}

// inherited answers the boundaries that a principal made by the caller gets.
func (c *call) inherited() []fsm.Attachment {
	var out []fsm.Attachment
	for _, boundary := range slices.Sorted(slices.Values(c.boundedBy())) {
		out = append(out, fsm.Attachment{Policy: boundary, Mode: fsm.ModeBoundary, Reason: "inherited from " + c.who.name})
	}
	return out
}

// modeOf reads the mode of an attachment as it travels.
func modeOf(mode string) (string, error) {
	switch mode {
	case "", "grant":
		return fsm.ModeGrant, nil
	case fsm.ModeBoundary, fsm.ModeBreakGlass:
		return mode, nil
	}
	return "", fault.Invalid("mode", "must be grant, boundary or breakGlass")
}

func wireMode(mode string) string {
	if mode == fsm.ModeGrant {
		return "grant"
	}
	return mode
}
