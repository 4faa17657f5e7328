package agent

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestBindings(t *testing.T) {
	b, err := ParseBinding("file", "KEY=/app/dev/tls#key")
	require.NoError(t, err)
	require.Equal(t, Binding{Name: "KEY", Ref: Ref{"/app/dev/tls", "key"}, File: true}, b)
	for _, text := range []string{"", "hunter2", "=/a", "1A=/a", "A-B=/a", "A=hunter2", "A=/a#", "A=/a//b", "STRONGROOM_TOKEN=/a", "STRONGROOM_TOKEN_FILE=/a"} {
		_, err := ParseBinding("env", text)
		require.ErrorContains(t, err, "--env", text)
		require.NotContains(t, err.Error(), "hunter2", "somebody may have typed a value there")
	}
}

func TestNamesOfAPrefix(t *testing.T) {
	got, err := prefixNames("/a/", []string{"/a/db-password", "/a/b/api.key", "/a/X9"}, []string{"HOME"})
	require.NoError(t, err)
	require.Equal(t, []Binding{
		{Name: "DB_PASSWORD", Ref: Ref{Path: "/a/db-password"}}, {Name: "API_KEY", Ref: Ref{Path: "/a/b/api.key"}}, {Name: "X9", Ref: Ref{Path: "/a/X9"}},
	}, got)
	for path, want := range map[string]string{
		"/a/9lives": "name of a variable", "/a/x=y": "name of a variable", "/a/x@y": "name of a variable",
		"/a/ld_preload": "how programs are run", "/a/Path": "how programs are run", "/a/node-options": "how programs are run", "/a/strongroom_addr": "how programs are run",
		"/a/editor": "already",
	} {
		_, err := prefixNames("/a/", []string{path}, []string{"EDITOR"})
		require.ErrorContains(t, err, want, path)
		require.True(t, IsRefused(err))
	}
	_, err = prefixNames("/a/", nil, nil)
	require.Error(t, err)
	twice, err := prefixNames("/a/", []string{"/a/x-y", "/a/b/x.y"}, nil)
	require.NoError(t, err)
	err = collisions(twice)
	require.ErrorContains(t, err, "/a/x-y")
	require.ErrorContains(t, err, "/a/b/x.y")
}

func TestTheCredentialIsNotInherited(t *testing.T) {
	env := []string{"A=1", "STRONGROOM_TOKEN=t", "STRONGROOM_TOKEN_FILE=f", "STRONGROOM_ADDR=a"}
	require.Equal(t, []string{"A=1", "STRONGROOM_ADDR=a"}, Inherited(env, false))
	require.Equal(t, env, Inherited(env, true))
}

func TestInstanceNamesAreStableAndHeldOnce(t *testing.T) {
	one, err := TakeInstance("--instance", "", "exec", "/here", t.Name())
	require.NoError(t, err)
	require.Equal(t, one.Name, instanceName("exec", "/here", t.Name()))
	require.NotEqual(t, one.Name, instanceName("exec", "/there", t.Name()))
	_, err = TakeInstance("--instance", one.Name)
	require.ErrorContains(t, err, "--instance")
	require.NoError(t, one.Release())
	again, err := TakeInstance("--instance", one.Name)
	require.NoError(t, err)
	require.NoError(t, again.Release())
	_, err = TakeInstance("--instance", "a b")
	require.ErrorContains(t, err, "--instance")
}
