// Package dialect names what vendors of PKCS#11 modules do differently: who
// makes the IV of AES-GCM, mechanism numbers of their own, log-in for each
// session, and how many sessions there may be. The configuration and the HSM
// floor share these words; neither imports the other.
package dialect

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Dialect is how one module wants to be spoken to. The zero value is a module
// that follows the standard, with an IV mode that the probe finds.
type Dialect struct {
	IVMode          string            // one of IVModes; empty means IVAuto
	Mechanisms      map[string]uint64 // by name, one of Mechanisms(); what is missing has the standard's number
	LoginPerSession bool              // C_Login in each session, not once for the process
	MaxSessions     int               // that the module lets one process have; 0: not known
}

// Who makes the IV of AES-GCM, and where it is found. Every mode answers it
// explicitly: what is stored never depends on the mode.
const (
	IVAuto      = "auto"      // the probe finds out by doing
	IVCaller    = "caller"    // we do, 96 random bits
	IVWriteback = "writeback" // the HSM, into the zeroed buffer that it is given (CloudHSM)
	IVAppended  = "appended"  // the HSM, after the tag (Luna in FIPS mode, ProtectServer)
	IVPrepended = "prepended" // the HSM, before the ciphertext, by a mechanism of its own (CloudHSM)
)

// IVModes lists the modes in the order in which the probe tries them, auto
// first.
func IVModes() []string {
	return []string{IVAuto, IVCaller, IVWriteback, IVAppended, IVPrepended}
}

// Names of the mechanisms that we use, by meaning.
const (
	AESKeyGen           = "aes-key-gen"
	GenericSecretKeyGen = "generic-secret-key-gen"
	RSAKeyPairGen       = "rsa-key-pair-gen"
	ECKeyPairGen        = "ec-key-pair-gen"
	AESGCM              = "aes-gcm"
	AESGCMPrepended     = "aes-gcm-prepended"
	RFC3394             = "rfc3394"
	RFC5649             = "rfc5649"
	HMACSHA256          = "hmac-sha256"
	RSAPKCS1            = "rsa-pkcs1"
	RSAPSS              = "rsa-pss"
	RSAOAEP             = "rsa-oaep"
	ECDSA               = "ecdsa"
)

// mechanism is a name and its number in PKCS#11 v2.40.
type mechanism struct {
	name   string
	number uint64
}

// mechanisms is the one table. RFC 5649 has no number here: 0x210B and 0x210A
// both stand for it, 0x210A also for something else, and the probe tells by
// doing. The standard has no GCM that prepends the IV; that number is the
// vendor's who made it up (CloudHSM's CKM_CLOUDHSM_AES_GCM).
var mechanisms = []mechanism{
	{AESKeyGen, 0x1080},
	{GenericSecretKeyGen, 0x350},
	{RSAKeyPairGen, 0x0},
	{ECKeyPairGen, 0x1040},
	{AESGCM, 0x1087},
	{AESGCMPrepended, 0x80001087},
	{RFC3394, 0x2109},
	{RFC5649, 0},
	{HMACSHA256, 0x251},
	{RSAPKCS1, 0x1},
	{RSAPSS, 0xD},
	{RSAOAEP, 0x9},
	{ECDSA, 0x1041},
}

// Mechanisms lists the names that Dialect.Mechanisms may have.
func Mechanisms() []string {
	out := make([]string, 0, len(mechanisms))
	for _, m := range mechanisms {
		out = append(out, m.name)
	}
	return out
}

// Number answers what d calls a mechanism, and whether that is a number of
// d's own.
func (d Dialect) Number(name string) (number uint64, own bool) {
	if n, ok := d.Mechanisms[name]; ok {
		return n, true
	}
	for _, m := range mechanisms {
		if m.name == name {
			return m.number, false
		}
	}
	return 0, false
}

// Own maps standard numbers to d's own, where they differ.
func (d Dialect) Own() map[uint64]uint64 {
	out := map[uint64]uint64{}
	for _, m := range mechanisms {
		if n, ok := d.Mechanisms[m.name]; ok && m.name != RFC5649 {
			out[m.number] = n
		}
	}
	return out
}

// MaxNumber bounds a mechanism number: PKCS#11 gives vendors what is above
// 0x80000000, and modules that are reached over a network carry 32 bits.
const MaxNumber = 0xFFFFFFFF

// Fault is something in a dialect that cannot be, with the setting that says
// it.
type Fault struct{ Setting, Text string }

// Faults lists what is wrong with d for a device with so many sessions that
// serve. The settings are those of the configuration file.
func (d Dialect) Faults(sessions int) []Fault {
	var out []Fault
	if d.IVMode != "" && !slices.Contains(IVModes(), d.IVMode) {
		out = append(out, Fault{"hsm.ivMode", fmt.Sprintf("must be one of %s; it is %q", strings.Join(IVModes(), ", "), d.IVMode)})
	}
	for _, name := range slices.Sorted(maps.Keys(d.Mechanisms)) {
		switch number := d.Mechanisms[name]; {
		case !slices.Contains(Mechanisms(), name):
			out = append(out, Fault{"hsm.mechanisms", fmt.Sprintf("%q is not a mechanism that Strongroom uses; those are %s", name, strings.Join(Mechanisms(), ", "))})
		case number > MaxNumber:
			out = append(out, Fault{"hsm.mechanisms", fmt.Sprintf("%s: a mechanism number has 32 bits; it is %#x", name, number)})
		}
	}
	switch text := TooFew(d.MaxSessions, sessions, "hsm.maxSessions is"); {
	case d.MaxSessions < 0:
		out = append(out, Fault{"hsm.maxSessions", fmt.Sprintf("must be 0 (not known) or the number of sessions that the module allows; it is %d", d.MaxSessions)})
	case d.MaxSessions > 0 && text != "":
		out = append(out, Fault{"hsm.sessions", text})
	}
	return out
}

// extraSessions are those beside the ones that serve: the anchor, which holds
// the log-in and the loaded keys, and one for what is done apart, one thing
// at a time: ceremonies, new pairs, imports, the probe. (The probe needs two
// of its own for a moment, and none serves then.)
const extraSessions = 2

// NeededSessions is how many sessions a worker opens at most at a time.
func NeededSessions(serving int) int { return serving + extraSessions }

// TooFew answers in words why limit sessions are not enough, empty when they
// are. whose begins the clause that says where the limit comes from.
func TooFew(limit, serving int, whose string) string {
	need := NeededSessions(serving)
	if limit >= need {
		return ""
	}
	sum := fmt.Sprintf("%d that serve, 1 that holds the log-in and the keys and 1 for ceremonies make %d sessions; %s %d", serving, need, whose, limit)
	if most := limit - extraSessions; most >= 1 {
		return fmt.Sprintf("%s; make hsm.sessions at most %d", sum, most)
	}
	return fmt.Sprintf("%s, and no node can serve with fewer than %d", sum, NeededSessions(1))
}
