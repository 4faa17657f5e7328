package pkcs11

import (
	"crypto/sha256"
	"fmt"
	"testing"

	p11 "github.com/miekg/pkcs11"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func sumFor(n int) [sha256.Size]byte { return sha256.Sum256(fmt.Append(nil, n)) }

func TestOldestHandleGoesFirst(t *testing.T) {
	h := newHandles(2)
	h.release(h.add(sumFor(1), 1, nil))
	h.release(h.add(sumFor(2), 2, nil))
	h.release(h.acquire(sumFor(1)))
	h.release(h.add(sumFor(3), 3, nil))
	require.Equal(t, []uint{2}, h.takeDead())
	require.Nil(t, h.acquire(sumFor(2)))
	require.NotNil(t, h.acquire(sumFor(1)))
}

func TestHandleInUseStays(t *testing.T) {
	h := newHandles(1)
	used := h.add(sumFor(1), 1, nil)
	h.release(h.add(sumFor(2), 2, nil))
	require.Empty(t, h.takeDead(), "both are over or in use")
	h.drop(sumFor(1))
	require.Nil(t, h.acquire(sumFor(1)), "dropped: nobody gets it any more")
	require.Empty(t, h.takeDead(), "but who has it keeps it")
	h.release(used)
	require.Equal(t, []uint{1}, h.takeDead())
}

// Whatever the order of events: no object is buried twice, none while in use,
// and with nobody using anything the bound holds.
func TestHandlesAreBuriedOnce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := newHandles(rapid.IntRange(1, 4).Draw(t, "max"))
		var using []*keyHandle
		next, buried, inUse := uint(1), map[uint]bool{}, map[uint]int{}
		bury := func() {
			for _, object := range h.takeDead() {
				require.False(t, buried[object], "twice")
				require.Zero(t, inUse[object], "while in use")
				buried[object] = true
			}
		}
		take := func(k *keyHandle) {
			require.False(t, buried[k.object])
			inUse[k.object]++
			using = append(using, k)
		}
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			sum := sumFor(rapid.IntRange(0, 6).Draw(t, "key"))
			switch rapid.IntRange(0, 3).Draw(t, "what") {
			case 0, 1:
				k := h.acquire(sum)
				if k == nil {
					k = h.add(sum, next, nil)
					next++
				}
				take(k)
			case 2:
				h.drop(sum)
			case 3:
				h.halve()
			}
			if len(using) > 0 && rapid.Bool().Draw(t, "release") {
				k := using[0]
				using = using[1:]
				inUse[k.object]--
				h.release(k)
			}
			bury()
		}
		for _, k := range using {
			inUse[k.object]--
			h.release(k)
		}
		bury()
		h.release(h.add(sumFor(99), next, nil))
		bury()
		require.LessOrEqual(t, h.len(), h.max)
		require.Equal(t, int(next), h.len()+len(buried), "every object is loaded or buried")
	})
}

// The table of error classes, against the names of miekg/pkcs11: a wrong
// number would put a failure into a wrong class.
func TestErrorClasses(t *testing.T) {
	for class, codes := range map[class][]uint{
		classSession:    {p11.CKR_SESSION_HANDLE_INVALID, p11.CKR_SESSION_CLOSED, p11.CKR_OPERATION_ACTIVE, p11.CKR_OPERATION_NOT_INITIALIZED},
		classGeneration: {p11.CKR_OBJECT_HANDLE_INVALID, p11.CKR_KEY_HANDLE_INVALID, p11.CKR_KEY_FUNCTION_NOT_PERMITTED},
		classDevice: {p11.CKR_DEVICE_ERROR, p11.CKR_DEVICE_REMOVED, p11.CKR_TOKEN_NOT_PRESENT, p11.CKR_TOKEN_NOT_RECOGNIZED,
			p11.CKR_FUNCTION_FAILED, p11.CKR_CRYPTOKI_NOT_INITIALIZED, p11.CKR_GENERAL_ERROR, p11.CKR_USER_NOT_LOGGED_IN, 0x80001234},
		classInput: {p11.CKR_ENCRYPTED_DATA_INVALID, p11.CKR_ENCRYPTED_DATA_LEN_RANGE, p11.CKR_DATA_INVALID, p11.CKR_DATA_LEN_RANGE,
			p11.CKR_SIGNATURE_INVALID, p11.CKR_SIGNATURE_LEN_RANGE, p11.CKR_WRAPPED_KEY_INVALID, p11.CKR_WRAPPED_KEY_LEN_RANGE},
		classCapacity: {p11.CKR_SESSION_COUNT, p11.CKR_DEVICE_MEMORY, p11.CKR_HOST_MEMORY},
		classCredential: {p11.CKR_PIN_INCORRECT, p11.CKR_PIN_INVALID, p11.CKR_PIN_LEN_RANGE, p11.CKR_PIN_EXPIRED, p11.CKR_PIN_LOCKED,
			p11.CKR_USER_PIN_NOT_INITIALIZED},
		classCapability: {p11.CKR_MECHANISM_INVALID, p11.CKR_MECHANISM_PARAM_INVALID, p11.CKR_ATTRIBUTE_TYPE_INVALID,
			p11.CKR_ATTRIBUTE_VALUE_INVALID, p11.CKR_TEMPLATE_INCOMPLETE, p11.CKR_TEMPLATE_INCONSISTENT, p11.CKR_FUNCTION_NOT_SUPPORTED},
	} {
		for _, code := range codes {
			got, ambiguous := classify(rv(code), forUse)
			require.Equal(t, class, got, p11.Error(code))
			require.False(t, ambiguous)
		}
	}
	for _, code := range []rv{rvGeneralError, p11.CKR_FUNCTION_FAILED} {
		got, ambiguous := classify(code, forOpen)
		require.Equal(t, classInput, got)
		require.True(t, ambiguous, "only the canary can tell")
	}
}

// An empty IV never reaches a module: SoftHSM would take it for zeros.
func TestEmptyIVIsRefused(t *testing.T) {
	for _, encrypt := range []bool{true, false} {
		_, rc := functions{}.gcm(ckmAESGCM, encrypt, false, 1, 1, nil, nil, []byte("x"), make([]byte, 17))
		require.Equal(t, rvMechanismParamInvalid, rc)
		_, rc = functions{}.gcm(ckmAESGCM, encrypt, true, 1, 1, make([]byte, 12), nil, []byte("x"), make([]byte, 17))
		require.Equal(t, rvMechanismParamInvalid, rc, "and none goes where the HSM makes its own")
	}
	_, rc := functions{}.unwrap(1, wrapRFC3394, 1, nil, nil)
	require.Equal(t, rvWrappedKeyLenRange, rc)
}

func TestSecretFileOfOthers(t *testing.T) {
	_, err := readPIN("/dev/null")
	require.ErrorContains(t, err, "/dev/null")
	require.ErrorContains(t, err, "not a regular file")
	path := t.TempDir() + "/pin"
	for text, want := range map[string]string{"1234": "1234", "1234\n": "1234", "1234\r\n": "1234", "12 34\n\n": "12 34\n"} {
		require.NoError(t, writeSecret(path, text))
		pin, err := readPIN(path)
		require.NoError(t, err)
		require.Equal(t, want, string(pin))
	}
	require.NoError(t, writeSecret(path, string(make([]byte, maxPIN+10))))
	_, err = readPIN(path)
	require.ErrorContains(t, err, "more than 256 bytes")
}
