package iam_test

import (
	"maps"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/iam"
	"github.com/strongroom/strongroom/internal/fault"
	"github.com/strongroom/strongroom/internal/names"
)

var noon = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

// everyAction is every action that any role names, and some that none does:
// what a release with the whole API would enforce.
func everyAction() []iam.Action {
	set := map[iam.Action]bool{"secrets:requestApproval": true, "iam:approve": true, "iam:deny": true, "iam:requestApproval": true, "backup:start": true}
	for _, actions := range iam.Roles() {
		for _, a := range actions {
			set[a] = true
		}
	}
	delete(set, iam.Everything)
	return slices.Sorted(maps.Keys(set))
}

var catalogue = iam.NewCatalogue(everyAction())

func compile(t require.TestingT, name string, statements ...iam.Statement) *iam.Policy {
	p, _, err := iam.CompilePolicy(catalogue, name, 1, statements)
	require.NoError(t, err)
	return p
}

func compileAccess(t require.TestingT, d iam.AccessDocument) *iam.AccessPolicy {
	p, err := iam.CompileAccessPolicy(catalogue, d)
	require.NoError(t, err)
	return p
}

func list(items ...string) []string { return items }

func allow(actions []string, paths ...string) iam.Statement {
	return iam.Statement{Effect: iam.Allow, Actions: actions, Paths: paths}
}

func deny(actions []string, paths ...string) iam.Statement {
	return iam.Statement{Effect: iam.Deny, Actions: actions, Paths: paths}
}

func rules(policies ...*iam.Policy) iam.Rules { return iam.Rules{Policies: iam.Set(policies...)} }

func allowed(r iam.Rules, q iam.Question) bool { return iam.Decide(r, q).Allowed }

// about asks whether web may do action to path at noon from an inner address.
func about(action iam.Action, path names.Path) iam.Question {
	return iam.Question{Principal: "web", Action: action, Resource: iam.Resource{Path: path}, Source: netip.MustParseAddr("10.1.2.3"), At: noon}
}

// aboutKey asks the same about a key.
func aboutKey(action iam.Action, id string, aliases ...string) iam.Question {
	q := about(action, "")
	q.Resource = iam.Resource{KeyID: id, KeyAliases: aliases}
	return q
}

// requireInvalid asserts that err is the caller's to mend, and says where:
// the field, in the details and first in the message, and what is wrong.
func requireInvalid(t *testing.T, err error, field, want string) {
	t.Helper()
	var f *fault.Error
	require.ErrorAs(t, err, &f, "%s: %s", field, want)
	require.Equal(t, fault.InvalidRequest, f.Kind)
	require.Equal(t, field, f.Details["field"], f.Message)
	require.Contains(t, f.Message, field+": ")
	require.Contains(t, f.Message, want)
}
