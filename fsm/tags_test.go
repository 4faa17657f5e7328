package fsm_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/internal/names"
)

// checkTags counts the index anew from the records.
func checkTags(t tester, s *fsm.State) {
	want, got := map[[2]string][]names.Path{}, map[[2]string][]names.Path{}
	entries := 0
	for secret := range s.Secrets("/") {
		for name, value := range secret.Tags {
			tag := [2]string{name, value}
			want[tag] = append(want[tag], secret.Path)
			entries++
		}
	}
	for tag := range want {
		got[tag] = slices.Collect(s.TaggedFrom(tag[0], tag[1], "/", ""))
	}
	require.Equal(t, want, got)
	require.Equal(t, entries, fsm.TaggedLen(s), "nothing is left of tags that were taken away")
}

func TestSecretsAreFoundByTheirTags(t *testing.T) {
	w := newWorld(t)
	for i, path := range []string{"/a/1", "/a/2", "/b/1", "/ab"} {
		w.ok(fsm.CreateSecret{Meta: w.meta(), Path: path, SecretID: fmt.Sprint("id", i), KeyID: defaultKey, Tags: map[string]string{"team": "x", "path": path}})
	}
	found := func(name, value, prefix, after string) []names.Path {
		checkTags(t, w.m.State())
		return slices.Collect(w.m.State().TaggedFrom(name, value, prefix, after))
	}
	require.Equal(t, []names.Path{"/a/1", "/a/2", "/ab", "/b/1"}, found("team", "x", "/", ""))
	require.Equal(t, []names.Path{"/a/1", "/a/2"}, found("team", "x", "/a/", ""))
	require.Equal(t, []names.Path{"/a/2"}, found("team", "x", "/a/", "/a/1"))
	require.Equal(t, []names.Path{"/ab", "/b/1"}, found("team", "x", "/", "/a/\x7f"))
	require.Empty(t, found("team", "", "/", ""))
	require.Empty(t, found("tea", "mx", "/", ""))
	w.ok(fsm.UpdateSecret{Meta: w.meta(), Path: "/a/1", SetTags: true, Tags: map[string]string{"team": "y", "path": "/a/1"}})
	require.Equal(t, []names.Path{"/a/1"}, found("team", "y", "/", ""))
	require.Equal(t, []names.Path{"/a/1"}, found("path", "/a/1", "/", ""))
	w.ok(fsm.UpdateSecret{Meta: w.meta(), Path: "/a/2", SetTags: true})
	w.ok(fsm.DeleteSecret{Meta: w.meta(), Path: "/b/1"}) // at once
	require.Equal(t, []names.Path{"/ab"}, found("team", "x", "/", ""))
	// A value that no engine lets through: its entries are among those of a
	// shorter value, and the record tells them apart.
	w.ok(fsm.CreateSecret{Meta: w.meta(), Path: "/z", SecretID: "z", KeyID: defaultKey, Tags: map[string]string{"team": "x\x00/a/1"}})
	for _, path := range slices.Collect(w.m.State().TaggedFrom("team", "x", "/", "")) {
		if s := w.m.State().Secret(path); s != nil {
			require.Equal(t, "x", s.Tags["team"])
		}
	}
}
