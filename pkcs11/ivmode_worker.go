package pkcs11

import (
	"bytes"
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"fmt"
	"sync"

	"github.com/strongroom/strongroom/internal/dialect"
)

// Sizes of AES-GCM as we use it (NIST SP 800-38D): a tag of 128 bits, and a
// random IV of 96, or of 128 where the HSM makes it and makes it so. Both are
// random in all their bits, so one bound of seals for each key holds for both
// (8.2.2, 8.3).
const (
	ivBytes     = 12
	ivBytesLong = 16
	tagBytes    = 16
)

func ivFits(n int) bool { return n == ivBytes || n == ivBytesLong }

// gcmWay is how a module seals by AES-GCM: what it is handed as pIv, and
// where the IV is that it used. Whatever the way, seal answers IV and box
// apart, so the stored form is one:
//
//	mode       handed to C_EncryptInit    comes out of C_Encrypt       IV
//	caller     12 random bytes            ciphertext | tag             what was handed over
//	writeback  12 zero bytes              ciphertext | tag             what the buffer holds then
//	appended   random bytes, or NULL      ciphertext | tag | IV        the end
//	prepended  NULL                       IV | ciphertext | tag        the beginning
//
// An appended IV is asked for with random bytes where the module takes any:
// ProtectServer out of FIPS mode uses what it was handed and appends that.
// With zero bytes every seal would have one IV, and look well.
type gcmWay struct {
	mode   string
	handed int // bytes of pIv; 0: NULL
	made   int // length of the IV; 0: not known yet, for the probe
}

// ways lists all, in the order in which the probe tries them.
var ways = []gcmWay{
	{dialect.IVCaller, ivBytes, ivBytes},
	{dialect.IVWriteback, ivBytes, ivBytes},
	{dialect.IVAppended, ivBytesLong, 0},
	{dialect.IVAppended, ivBytes, 0},
	{dialect.IVAppended, 0, 0},
	{dialect.IVPrepended, 0, 0},
}

// buffer makes what is handed over as pIv.
func (w gcmWay) buffer() ([]byte, error) {
	iv := make([]byte, w.handed)
	if w.mode == dialect.IVWriteback {
		return iv, nil // CloudHSM refuses anything but zeros
	}
	if _, err := rand.Read(iv); err != nil {
		return nil, fail(statusSick, err, "no randomness")
	}
	return iv, nil
}

// mechanism is the standard's number, or that which stands for it.
func (w gcmWay) mechanism() uint64 {
	if w.mode == dialect.IVPrepended {
		return ckmAESGCMPrepended
	}
	return ckmAESGCM
}

// split finds IV and box in what a seal of size bytes left behind: before is
// what was handed over as pIv, after what that buffer holds now.
//
// It is the guard of every seal, not of the probe only: an IV that is used
// twice gives away the authentication key. A module that stops to make IVs
// leaves zeros or the wrong length; its seal never leaves the worker.
func (w gcmWay) split(before, after, out []byte, size int) (iv, box []byte, err error) {
	made := len(out) - size - tagBytes
	switch w.mode {
	case dialect.IVCaller:
		if made != 0 {
			return nil, nil, fmt.Errorf("it seals %d bytes into %d: it adds something", size, len(out))
		}
		if !bytes.Equal(before, after) {
			return nil, nil, errors.New("it overwrites the IV of the caller")
		}
		iv, box = before, out
	case dialect.IVWriteback:
		if made != 0 {
			return nil, nil, fmt.Errorf("it seals %d bytes into %d: it adds something", size, len(out))
		}
		if bytes.Equal(before, after) {
			return nil, nil, errors.New("it leaves the buffer of the IV as it was")
		}
		iv, box = after, out
	default:
		if !ivFits(made) || w.made != 0 && made != w.made {
			return nil, nil, fmt.Errorf("it seals %d bytes into %d: that leaves no room for an IV of 12 or 16 bytes and a tag of 16", size, len(out))
		}
		if w.mode == dialect.IVAppended {
			iv, box = out[size+tagBytes:], out[:size+tagBytes]
		} else {
			iv, box = out[:made], out[made:]
		}
	}
	if subtle.ConstantTimeCompare(iv, make([]byte, len(iv))) == 1 {
		return nil, nil, errors.New("its IV is all zeros")
	}
	return iv, box, nil
}

// lastIV remembers the IV of the last seal. Two that are equal mean that the
// generator of whoever makes them is broken.
type lastIV struct {
	mu sync.Mutex
	iv []byte
}

func (l *lastIV) fresh(iv []byte) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if bytes.Equal(l.iv, iv) {
		return errors.New("its IV is that of the seal before")
	}
	l.iv = bytes.Clone(iv)
	return nil
}

// seal encrypts text in the way that the probe found. An IV that is not
// fresh makes the device ill: the box is wiped, and the next worker's probe
// looks at the module anew.
func (m *module) seal(session, key uint, aad, text []byte) (iv, box []byte, err error) {
	before, err := m.gcm.buffer()
	if err != nil {
		return nil, nil, err
	}
	iv, box, err = m.sealBy(m.gcm, session, key, before, aad, text)
	if err == nil && m.gcm.mode != dialect.IVCaller {
		err = m.ivs.fresh(iv)
	}
	var call *callError
	if err != nil && !errors.As(err, &call) {
		clear(box)
		return nil, nil, fail(statusSick, err, "the HSM does not seal by AES-GCM as it did (hsm.ivMode %s)", m.gcm.mode)
	}
	return iv, box, err
}

// sealBy is one seal in one way, with before as pIv.
func (m *module) sealBy(way gcmWay, session, key uint, before, aad, text []byte) (iv, box []byte, err error) {
	m.lock.Lock()
	defer m.lock.Unlock()
	after := bytes.Clone(before)
	out := make([]byte, len(text)+tagBytes+ivBytesLong)
	n, rc := m.hot.gcm(m.number(way.mechanism()), true, way.handed == 0, session, key, after, aad, text, out)
	if rc != rvOK {
		return nil, nil, failed("C_Encrypt", rc, forUse)
	}
	iv, box, err = way.split(before, after, out[:n], len(text))
	if err != nil {
		clear(out)
	}
	return iv, box, err
}

// open decrypts box, with its tag, in the way that the probe found. out holds
// the result and must have room for it.
func (m *module) open(session, key uint, iv, aad, box, out []byte) ([]byte, error) {
	return m.openBy(m.gcm, session, key, iv, aad, box, out)
}

// openBy hands over the IV as every module takes it, but for the mechanism
// that wants it before the ciphertext. That one knows one length; an IV of
// another, which another node's HSM made, would shift what it takes for
// ciphertext.
func (m *module) openBy(way gcmWay, session, key uint, iv, aad, box, out []byte) ([]byte, error) {
	m.lock.Lock()
	defer m.lock.Unlock()
	prepended := way.mode == dialect.IVPrepended
	if prepended {
		if len(iv) != way.made {
			return nil, errCannotOpen()
		}
		iv, box = nil, append(bytes.Clone(iv), box...)
	}
	n, rc := m.hot.gcm(m.number(way.mechanism()), false, prepended, session, key, iv, aad, box, out)
	return out[:n], failed("C_Decrypt", rc, forOpen)
}
