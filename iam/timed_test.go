package iam_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/iam"
)

// A decision says whether times had a say, so that who cannot trust its clock
// does not trust it either.
func TestADecisionSaysWhetherTimesHadASay(t *testing.T) {
	past := time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)
	plain := allow(list("secrets:getSecretValue"), "/app/**")
	timed := plain
	timed.Conditions = &iam.Conditions{NotBefore: past}
	shut := deny(list("secrets:getSecretValue"), "/app/**")
	shut.Conditions = &iam.Conditions{NotAfter: past}
	q := at(about("secrets:getSecretValue", "/app/a"), past.Add(time.Hour))
	other := at(about("secrets:getSecretValue", "/b"), past.Add(time.Hour))

	require.False(t, iam.Decide(rules(compile(t, "p", plain)), q).Timed)
	d := iam.Decide(rules(compile(t, "p", timed)), q)
	require.True(t, d.Allowed && d.Timed)
	require.False(t, iam.Decide(rules(compile(t, "p", timed)), other).Timed, "it is not about the question")
	d = iam.Decide(rules(compile(t, "p", plain, shut)), q)
	require.True(t, d.Allowed && d.Timed, "at another time it is denied")
	require.False(t, iam.Decide(rules(compile(t, "p", plain), compile(t, "r", shut).ReportOnly()), q).Timed, "it has no say")

	capped := rules(compile(t, "p", plain))
	capped.Boundaries = []*iam.PolicySet{iam.Set(compile(t, "b", timed))}
	require.True(t, iam.Decide(capped, q).Timed)
	capped = rules(compile(t, "p", plain))
	capped.Access = iam.Accesses(compileAccess(t, iam.AccessDocument{Name: "a", Paths: list("/app/**"), NotBefore: past}))
	require.True(t, iam.Decide(capped, q).Timed)
}
