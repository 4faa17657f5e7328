package dialect

import "maps"

// Generic is the vendor of every module that has no entry below: the standard,
// and what the probe finds.
const Generic = "generic"

// vendors are presets from what vendors publish. They were played by the fault
// module of the tests; none was run against the vendor's hardware.
//
//   - cloudhsm (AWS CloudHSM): GCM with an IV that the HSM makes and writes into
//     the caller's zeroed buffer; AES key wrap under numbers of its own, as its
//     cloudhsm_pkcs11_vendor_defs.h has them; 1,024 sessions for an application.
//   - luna-fips (Thales Luna in FIPS mode): GCM with an IV of 16 bytes that the
//     HSM makes and appends after the tag. Out of FIPS mode a Luna takes the
//     caller's IV and needs no preset.
var vendors = []struct {
	name string
	Dialect
}{
	{Generic, Dialect{IVMode: IVAuto}},
	{"cloudhsm", Dialect{IVMode: IVWriteback, MaxSessions: 1024, Mechanisms: map[string]uint64{RFC3394: 0x80002109, RFC5649: 0x8000216F}}},
	{"luna-fips", Dialect{IVMode: IVAppended}},
}

// Vendors lists the names of the presets.
func Vendors() []string {
	out := make([]string, 0, len(vendors))
	for _, v := range vendors {
		out = append(out, v.name)
	}
	return out
}

// Of answers the preset of a vendor.
func Of(vendor string) (Dialect, bool) {
	for _, v := range vendors {
		if v.name == vendor {
			out := v.Dialect
			out.Mechanisms = maps.Clone(v.Mechanisms)
			return out, true
		}
	}
	return Dialect{}, false
}

// Over answers d with what it leaves open taken from the preset below it.
func (d Dialect) Over(preset Dialect) Dialect {
	out := preset
	out.LoginPerSession = d.LoginPerSession || preset.LoginPerSession
	if d.IVMode != "" {
		out.IVMode = d.IVMode
	}
	if d.MaxSessions != 0 {
		out.MaxSessions = d.MaxSessions
	}
	out.Mechanisms = maps.Clone(preset.Mechanisms)
	if out.Mechanisms == nil {
		out.Mechanisms = map[string]uint64{}
	}
	maps.Copy(out.Mechanisms, d.Mechanisms)
	return out
}
