package audit

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/strongroom/strongroom/internal/fault"
)

// drawDecision makes one with texts that would break a line that is not
// escaped.
func drawDecision(t *rapid.T) *Decision {
	text := rapid.SampledFrom([]string{"", "web", `w"eb`, "a\nb", "é\U0001F511", `,"principal":"web"`})
	number := rapid.IntRange(0, 3)
	d := &Decision{
		Action: text.Draw(t, "action"), Allowed: rapid.Bool().Draw(t, "allowed"), Reason: text.Draw(t, "reason"),
		OpensAt: int64(number.Draw(t, "opensAt")), Path: text.Draw(t, "path"), Below: text.Draw(t, "below"), KeyID: text.Draw(t, "key"),
		Anywhere: rapid.Bool().Draw(t, "anywhere"), Guard: rapid.Bool().Draw(t, "guard"), AuthMethod: text.Draw(t, "method"),
		More: number.Draw(t, "more"),
	}
	for range number.Draw(t, "groups") {
		d.Groups = append(d.Groups, text.Draw(t, "group"))
	}
	for range number.Draw(t, "steps") {
		d.Steps = append(d.Steps, Step{
			Policy: text.Draw(t, "policy"), Revision: uint64(number.Draw(t, "revision")), Statement: number.Draw(t, "statement"),
			Effect: text.Draw(t, "effect"), Action: text.Draw(t, "by"), Matched: text.Draw(t, "matched"), Via: text.Draw(t, "via"),
			Unmet: text.Draw(t, "unmet"), Access: rapid.Bool().Draw(t, "access"), Boundary: rapid.Bool().Draw(t, "boundary"),
			Report: rapid.Bool().Draw(t, "report"), BreakGlass: text.Draw(t, "session"), Missing: number.Draw(t, "missing"),
		})
	}
	if rapid.Bool().Draw(t, "reports") {
		d.Report = &Outcome{rapid.Bool().Draw(t, "would"), text.Draw(t, "why")}
	}
	return d
}

func TestDecisionsComeBackAsTheyWere(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		e := read("web")
		e.Outcome, e.DecisionID, e.Decision = Denied, "d1", drawDecision(t)
		e.Node, e.Sequence, e.Time = "n1", 7, base
		line := appendCRC(appendBody(appendPrefix(nil, "n1", 7, [32]byte{}), &e), 0)
		require.NotContains(t, string(line), "\n", "no text of a caller begins a line")
		got, _, err := decodeLine(line)
		require.NoError(t, err, "%s", line)
		require.Equal(t, e, got)
	})
}

// A trail of an earlier release has no decisions, and is read byte for byte.
func TestLinesOfBeforeDecisionsAreRead(t *testing.T) {
	const old = `{"v":1,"node":"n1","sequence":2,"prev":"ab00000000000000000000000000000000000000000000000000000000000000","time":"2026-03-04T05:06:07.008Z",` +
		`"requestId":"r","event":"secrets.get_value","outcome":"denied","code":"AccessDenied","principal":"web","sourceAddress":"192.0.2.7",` +
		`"path":"/app/db","decisionId":"d","reason":"iam","index":7,"durationMicros":12`
	e, _, err := decodeLine(appendCRC([]byte(old), 0))
	require.NoError(t, err)
	require.Nil(t, e.Decision)
	require.Equal(t, "iam", e.Reason)
}

// Each of these hides from one reader what another shows.
func TestDecisionsInAnotherFormAreRefused(t *testing.T) {
	start := `{"v":1,"node":"n1","sequence":2,"prev":"` + strings.Repeat("0", 64) + `","time":"2026-03-04T05:06:07.008Z","event":"a.b","outcome":"ok"`
	for name, body := range map[string]string{
		"null":            `,"decision":null`,
		"no action":       `,"decision":{}`,
		"unknown field":   `,"decision":{"action":"a","note":"x"}`,
		"zero field":      `,"decision":{"action":"a","allowed":false}`,
		"empty list":      `,"decision":{"action":"a","steps":[]}`,
		"another order":   `,"decision":{"reason":"iam","action":"a"}`,
		"negative":        `,"decision":{"action":"a","opensAt":-1}`,
		"negative step":   `,"decision":{"action":"a","steps":[{"policy":"p","statement":-1}]}`,
		"zero in a step":  `,"decision":{"action":"a","steps":[{"policy":"p","statement":0}]}`,
		"report in parts": `,"decision":{"action":"a","report":{}}`,
		"before consumer": `,"decision":{"action":"a"},"consumer":{"session":1}`,
	} {
		_, _, err := decodeLine(appendCRC([]byte(start+body), 0))
		require.Error(t, err, name)
	}
	_, _, err := decodeLine(appendCRC([]byte(start+`,"decision":{"action":"a"}`), 0))
	require.NoError(t, err)
}

func TestADecisionThatDoesNotFitIsRefused(t *testing.T) {
	trail := mustOpen(t, config(t))
	for name, d := range map[string]*Decision{
		"steps":  {Steps: make([]Step, MaxSteps+1)},
		"groups": {Groups: make([]string, MaxGroups+1)},
		"times":  {OpensAt: -1},
	} {
		e := read("web")
		e.Decision = d
		_, err := trail.Append(context.Background(), []Event{e})
		require.Equal(t, fault.Internal, fault.KindOf(err), name)
	}
	// The most that names and patterns may be long, in every place there is.
	long := strings.Repeat("x", 64)
	d := &Decision{Action: long, Reason: long, Path: strings.Repeat("x", 512), AuthMethod: long, More: 1}
	for range MaxSteps {
		d.Steps = append(d.Steps, Step{Policy: long, Effect: long, Action: long, Matched: strings.Repeat("x", 520), Via: long, Unmet: long, BreakGlass: long, Revision: 1 << 63})
	}
	for range MaxGroups {
		d.Groups = append(d.Groups, long)
	}
	e := read("web")
	e.Decision = d
	mustAppend(t, trail, e)
	require.Equal(t, d, all(t, trail, Filter{})[1].Decision)
}

func TestDecisionsAreFoundByTheirId(t *testing.T) {
	trail := mustOpen(t, config(t))
	for _, id := range []string{"d1", "d2", ""} {
		e := read("web")
		e.DecisionID, e.Reason, e.Time = id, `,"decisionId":"d1"`, time.UnixMilli(1)
		mustAppend(t, trail, e)
	}
	got := all(t, trail, Filter{DecisionID: "d1"})
	require.Len(t, got, 1)
	require.Equal(t, "d1", got[0].DecisionID)
	require.Empty(t, all(t, trail, Filter{DecisionID: "d3"}))
}
