package pkcs11

import (
	"errors"
	"testing"
	"time"

	p11 "github.com/miekg/pkcs11"
	"github.com/stretchr/testify/require"
)

// failing answers a call that fails with codes, one after the other, and then
// works; and how often it was made.
func failing(codes ...rv) (call func() error, made *int) {
	made = new(int)
	return func() error {
		*made++
		if *made <= len(codes) {
			return failed("C_Sign", codes[*made-1], forUse)
		}
		return nil
	}, made
}

// What may pass is tried again, a bounded number of times and not for long;
// what says something about the request is not.
func TestTriesAreBounded(t *testing.T) {
	later, device := time.Now().Add(time.Hour), rv(p11.CKR_DEVICE_ERROR)
	for name, c := range map[string]struct {
		codes []rv
		until time.Time
		made  int
		works bool
	}{
		"at once":         {nil, later, 1, true},
		"one error":       {[]rv{device}, later, 2, true},
		"as many as fit":  {[]rv{device, p11.CKR_SESSION_HANDLE_INVALID, p11.CKR_GENERAL_ERROR}, later, 4, true},
		"too many":        {[]rv{device, device, device, device}, later, 4, false},
		"no time is left": {[]rv{device}, time.Now().Add(-time.Second), 1, false},
		"bad input":       {[]rv{p11.CKR_DATA_INVALID}, later, 1, false},
		"no room":         {[]rv{p11.CKR_SESSION_COUNT}, later, 1, false},
		"wrong PIN":       {[]rv{p11.CKR_PIN_INCORRECT}, later, 1, false},
	} {
		call, made := failing(c.codes...)
		require.Equal(t, c.works, persist(tries, c.until, call) == nil, name)
		require.Equal(t, c.made, *made, name)
	}
	own := errors.New("the HSM answered wrongly")
	require.Equal(t, own, persist(tries, later, func() error { return own }))
}

// A refusal is what the module says of what it can do, or an answer that
// nobody understands, each time. A bad moment of the device is neither.
func TestBadMomentIsNoRefusal(t *testing.T) {
	every := func(code rv) []rv { return []rv{code, code, code, code, code} }
	for name, c := range map[string]struct {
		codes           []rv
		refused, failed bool
	}{
		"works":                   {nil, false, false},
		"cannot":                  {every(p11.CKR_MECHANISM_INVALID), true, false},
		"no such attribute":       {every(p11.CKR_ATTRIBUTE_TYPE_INVALID), true, false},
		"device":                  {[]rv{p11.CKR_DEVICE_ERROR}, false, true},
		"session":                 {[]rv{p11.CKR_SESSION_HANDLE_INVALID}, false, true},
		"room":                    {[]rv{p11.CKR_DEVICE_MEMORY}, false, true},
		"says nothing, once":      {[]rv{p11.CKR_GENERAL_ERROR}, false, false},
		"says nothing, each time": {every(p11.CKR_GENERAL_ERROR), true, false},
		"not permitted":           {every(rvKeyFunctionNotPermitted), true, false},
		"not permitted, once":     {[]rv{rvKeyFunctionNotPermitted}, false, false},
	} {
		call, _ := failing(c.codes...)
		refusal, err := verdict(call)
		require.Equal(t, c.refused, refusal != nil, name)
		require.Equal(t, c.failed, err != nil, name)
	}
	require.ErrorContains(t, lacks("GCM", failed("C_Encrypt", p11.CKR_MECHANISM_INVALID, forUse)), "lacks GCM")
	require.NotContains(t, lacks("GCM", failed("C_Encrypt", p11.CKR_DEVICE_ERROR, forUse)).Error(), "lacks")
}

// Failures in a row are counted, a success in between starts anew, and a
// stranger's material is no evidence.
func TestFailuresInARow(t *testing.T) {
	w := &worker{}
	bad := func(why purpose) status {
		return asOpError(w.failedWell(&callError{function: "C_Sign", code: p11.CKR_DEVICE_ERROR, why: why})).status
	}
	for range 2 {
		for range maxUnlucky - 1 {
			require.Equal(t, statusFailed, bad(forUse))
			require.Equal(t, statusFailed, bad(forImport))
		}
		w.lucky()
	}
	for range maxUnlucky - 1 {
		require.Equal(t, statusFailed, bad(forOpen))
	}
	require.Equal(t, statusSick, bad(forLoad))
}
