package fsm_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/internal/fault"
)

func TestPolicies(t *testing.T) {
	w := newWorld(t)
	require.Equal(t, uint64(1), w.policy("reader").Revision)
	require.Equal(t, uint64(2), w.policy("reader").Revision)
	p := w.m.State().Policy("reader")
	require.Equal(t, "admin", p.UpdatedBy)
	var all []string
	for p := range w.m.State().Policies("") {
		all = append(all, p.Name)
	}
	require.Equal(t, []string{"full-access", "reader"}, all)
	many := make([]string, 1001)
	for i := range many {
		many[i] = "a"
	}
	for name, test := range map[string]struct {
		field string
		s     []fsm.Statement
	}{
		"none":         {"statements: ", nil},
		"effect":       {"statements[0].effect: ", []fsm.Statement{{Effect: "Allow", Actions: []string{"a"}}}},
		"says nothing": {"statements[1].actions: ", []fsm.Statement{{Effect: "allow", Actions: []string{"a"}}, {Effect: "deny"}}},
		"path":         {"statements[0].paths[1]: ", []fsm.Statement{{Effect: "allow", Actions: []string{"a"}, Paths: []string{"/a", "/**/a"}}}},
		"key":          {"statements[0].keys[0]: ", []fsm.Statement{{Effect: "allow", Actions: []string{"a"}, Keys: []string{"x"}}}},
		"empty action": {"statements[0].actions[0]: ", []fsm.Statement{{Effect: "allow", Actions: []string{""}}}},
		"long role":    {"statements[0].roles[0]: ", []fsm.Statement{{Effect: "allow", Roles: []string{strings.Repeat("x", 513)}}}},
		"many":         {"statements[0].actions: ", []fsm.Statement{{Effect: "allow", Actions: many}}},
	} {
		t.Run(name, func(t *testing.T) {
			w.t = t
			w.refused(fault.InvalidRequest, fsm.PutPolicy{Meta: w.meta(), Name: "p", Statements: test.s}, test.field)
		})
	}
	w.t = t
	w.refused(fault.InvalidRequest, fsm.PutPolicy{Meta: w.meta(), Name: "-p"}, "name: ")
	w.ok(fsm.PutPolicy{Meta: w.meta(), Name: "p", Statements: []fsm.Statement{{Effect: "deny", Actions: []string{"a"}, Keys: []string{"*", "alias/x", keyID(4)}}}})
}

func TestAccessPolicies(t *testing.T) {
	w := newWorld(t)
	put := func(p fsm.AccessPolicy) fsm.PutAccessPolicy { return fsm.PutAccessPolicy{Meta: w.meta(), Policy: p} }
	office := fsm.AccessPolicy{
		Name: "office", Paths: []string{"/app/**"}, Actions: []string{"secrets:getSecretValue"}, Principals: []string{"svc"},
		SourceCIDRs: []string{"10.0.0.0/8"}, NotBefore: 5, NotAfter: 6, Revision: 77, UpdatedBy: "forged",
	}
	require.Equal(t, uint64(1), w.ok(put(office)).Revision)
	require.Equal(t, uint64(2), w.ok(put(office)).Revision)
	p := w.m.State().AccessPolicy("office")
	require.Equal(t, uint64(2), p.Revision)
	require.Equal(t, "admin", p.UpdatedBy)
	w.ok(put(fsm.AccessPolicy{Name: "all"}))
	var all []string
	for p := range w.m.State().AccessPolicies("") {
		all = append(all, p.Name)
	}
	require.Equal(t, []string{"all", "office"}, all)

	w.refused(fault.InvalidRequest, put(fsm.AccessPolicy{Name: ""}), "name: ")
	w.refused(fault.InvalidRequest, put(fsm.AccessPolicy{Name: "x", Paths: []string{"app"}}), "paths[0]: ")
	w.refused(fault.InvalidRequest, put(fsm.AccessPolicy{Name: "x", SourceCIDRs: []string{""}}), "sourceCidrs[0]: ")
	w.refused(fault.InvalidRequest, put(fsm.AccessPolicy{Name: "x", NotBefore: 6, NotAfter: 6}), "notAfter: ")
	w.refused(fault.InvalidRequest, put(fsm.AccessPolicy{Name: "x", NotBefore: -1}), "notBefore: ")
	w.ok(fsm.DeleteAccessPolicy{Meta: w.meta(), Name: "office"})
	require.Nil(t, w.m.State().AccessPolicy("office"))
	w.refused(fault.NotFound, fsm.DeleteAccessPolicy{Meta: w.meta(), Name: "office"}, "name: ")
	require.Equal(t, uint64(1), w.ok(put(office)).Revision)
}
