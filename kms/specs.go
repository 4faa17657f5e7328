package kms

import (
	"slices"
	"strings"

	"github.com/strongroom/strongroom/fsm"
	"github.com/strongroom/strongroom/internal/fault"
	"github.com/strongroom/strongroom/internal/wrapped"
)

// Usages of keys, in the words of the API. A key has one, for life.
const (
	UsageEncrypt = wrapped.Encrypt
	UsageSign    = wrapped.Sign
	UsageMAC     = wrapped.MAC
)

// Specs lists what createKey can make.
var Specs = []string{
	wrapped.AES256, wrapped.HMAC256, wrapped.RSA2048, wrapped.RSA3072, wrapped.RSA4096, wrapped.ECP256, wrapped.ECP384,
}

// CheckSpec answers nil if a key of spec can be made for usage.
func CheckSpec(spec, usage string) error {
	if !slices.Contains(Specs, spec) {
		return fault.Invalid("spec", "must be one of %s", strings.Join(Specs, ", "))
	}
	if !wrapped.Allowed(spec, usage) {
		var good []string
		for _, u := range []string{UsageEncrypt, UsageSign, UsageMAC} {
			if wrapped.Allowed(spec, u) {
				good = append(good, u)
			}
		}
		return fault.Invalid("usage", "a key of spec %s is for %s", spec, strings.Join(good, " or "))
	}
	return nil
}

// DefaultUsage is what a key of spec is for when nobody says.
func DefaultUsage(spec string) string {
	switch spec {
	case wrapped.HMAC256:
		return UsageMAC
	case wrapped.AES256:
		return UsageEncrypt
	}
	return UsageSign
}

// checkUsage refuses a key that is not for usage, or of none of the specs.
func checkUsage(key *fsm.Key, usage string, specs ...string) error {
	if key.Usage != usage {
		return fault.Invalid("keyId", "the key is for %s, not for %s", key.Usage, usage)
	}
	if len(specs) != 0 && !slices.Contains(specs, key.Spec) {
		return fault.Invalid("keyId", "the key is of spec %s; this needs %s", key.Spec, strings.Join(specs, " or "))
	}
	return nil
}

func isRSA(spec string) bool {
	return spec == wrapped.RSA2048 || spec == wrapped.RSA3072 || spec == wrapped.RSA4096
}
