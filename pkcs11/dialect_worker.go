package pkcs11

import (
	"errors"
	"fmt"
	"strings"

	"github.com/strongroom/strongroom/internal/dialect"
)

// The dialect on its way to the worker. dialect.MaxNumber bounds the numbers
// to what fits.
func putDialect(e *encoder, d dialect.Dialect) {
	e.text(d.IVMode)
	e.flag(d.LoginPerSession)
	e.u32(uint32(len(d.Mechanisms)))
	for _, name := range dialect.Mechanisms() {
		if number, ok := d.Mechanisms[name]; ok {
			e.text(name)
			e.u32(uint32(number))
		}
	}
}

func getDialect(d *decoder) dialect.Dialect {
	out := dialect.Dialect{IVMode: d.text(), LoginPerSession: d.flag(), Mechanisms: map[string]uint64{}}
	n := d.count(8)
	for range n {
		name := d.text()
		out.Mechanisms[name] = uint64(d.u32())
	}
	return out
}

// padWraps lists the numbers that RFC 5649 may have: that of the
// configuration, or the two that stand for it in one module or another.
func (p *prober) padWraps() []uint64 {
	if number, own := p.w.config.dialect.Number(dialect.RFC5649); own {
		return []uint64{number}
	}
	return []uint64{ckmAESKeyWrapKWP, ckmAESKeyWrapPad}
}

// namesSetting adds to a refusal which setting it may come from. A module
// that says that it does not know a mechanism may have a number of its own
// for it; one that was given a number may have been given the wrong one.
func (p *prober) namesSetting(err error) error {
	var call *callError
	var refusal *opError
	coded := errors.As(err, &call)
	d := p.w.config.dialect
	if coded && call.code == rvNotLoggedIn && !d.LoginPerSession {
		return fail(statusRefused, err, "hsm.loginPerSession: the HSM module does not take the log-in of the process for that of a session; set it to true")
	}
	if !errors.As(err, &refusal) || refusal.status != statusRefused || strings.HasPrefix(refusal.text, "hsm.") {
		return err
	}
	switch own := ownNumbers(d); {
	case own != "":
		return fail(statusRefused, err, "%s (hsm.mechanisms and hsm.vendor set %s)", refusal.text, own)
	case coded && call.code == rvMechanismInvalid:
		return fail(statusRefused, err, "%s (where the module has a number of its own for it, set hsm.mechanisms)", refusal.text)
	default:
		return err
	}
}

// ownNumbers lists the numbers that the configuration gave.
func ownNumbers(d dialect.Dialect) string {
	var out []string
	for _, name := range dialect.Mechanisms() {
		if number, own := d.Number(name); own {
			out = append(out, fmt.Sprintf("%s to %#x", name, number))
		}
	}
	return strings.Join(out, ", ")
}
