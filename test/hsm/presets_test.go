package hsm

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/internal/dialect"
	"github.com/strongroom/strongroom/internal/wrapped"
	"github.com/strongroom/strongroom/pkcs11"
)

// played are the vendors that have a preset, as the fault module plays them.
var played = map[string]int32{
	dialect.Generic: 0,
	"cloudhsm":      ivWriteback | cloudHSMWraps,
	"luna-fips":     ivAppended | ivNull,
}

// Each preset fits the vendor that it is for, as far as that can be played.
func TestPresetsFitThePlayedVendors(t *testing.T) {
	require.Len(t, dialect.Vendors(), len(played), "a preset that nobody plays")
	for _, vendor := range dialect.Vendors() {
		t.Run(vendor, func(t *testing.T) {
			preset, ok := dialect.Of(vendor)
			require.True(t, ok)
			b := newBox(t)
			faulty(t, &b).quirks(played[vendor])
			b.cfg.Dialect = preset
			d, _ := rooted(t, b)
			p := d.Health().Profile
			sealsAndOpens(t, d, newKey(t, d, "k1"), int(p.IVBytes))
			importsSecret(t, d)
			_, err := d.Sign(context.Background(), keyOf(t, d, wrapped.ECP256, wrapped.Sign), wrapped.ECDSASHA256, make([]byte, 32))
			require.NoError(t, err)
			if number, own := preset.Number(dialect.RFC5649); own {
				require.Equal(t, number, p.PadWrap)
			}
		})
	}
}

// Without its preset a module with numbers of its own is refused, and told
// where to set them; CloudHSM's preset on another module as well.
func TestPresetsOfOthersAreRefused(t *testing.T) {
	b := newBox(t)
	f := faulty(t, &b)
	f.quirks(played["cloudhsm"])
	h := open(t, b).Health()
	require.Equal(t, pkcs11.HealthDown, h.State)
	require.Contains(t, h.Reason, "hsm.mechanisms")

	f.quirks(0)
	for _, vendor := range dialect.Vendors() {
		if vendor == dialect.Generic {
			continue
		}
		b.cfg.Dialect, _ = dialect.Of(vendor)
		h := open(t, b).Health()
		require.Equal(t, pkcs11.HealthDown, h.State, vendor)
		require.Regexp(t, `hsm\.(mechanisms|ivMode)`, h.Reason, vendor)
	}
}
