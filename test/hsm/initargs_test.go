package hsm

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/pkcs11"
)

// NSS does not start without being told where its database is, and the code
// that it gives (CKR_ARGUMENTS_BAD) tells nobody so.
func TestAModuleThatWantsInitArgsSaysSo(t *testing.T) {
	found, err := filepath.Glob("/usr/lib*/*/libsoftokn3.so")
	require.NoError(t, err)
	require.NotEmpty(t, found, "make testdeps installs NSS")
	b := emptyBox(t)
	b.cfg.Module = found[0]
	require.Contains(t, open(t, b).Health().Reason, "hsm.initArgs")

	b.cfg.InitArgs = "configdir='sql:" + b.tokens() + "'"
	reason := open(t, b).Health().Reason
	require.Contains(t, reason, `no token labelled "strongroom"`, "it read them")
	require.NotContains(t, reason, "initArgs")
}

// SoftHSM takes nothing there, and an empty setting is nothing.
func TestAModuleThatTakesNoInitArgsSaysSo(t *testing.T) {
	b := newBox(t)
	b.cfg.InitArgs = "configdir='sql:/nowhere'"
	h := open(t, b).Health()
	require.Equal(t, pkcs11.HealthDown, h.State)
	require.Contains(t, h.Reason, "does not initialise with what hsm.initArgs says")
}
