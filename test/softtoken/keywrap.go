package softtoken

import (
	"crypto/aes"
	"crypto/subtle"
	"encoding/binary"
	"errors"
)

// aiv is the constant half of RFC 5649's alternative initial value.
const aiv = 0xA65959A6

var errKeyWrap = errors.New("the wrapped key is damaged or under another key")

// WrapPad is AES key wrap with padding (RFC 5649) of 1 to 2^32-1 bytes, in
// Go: what a person who imports a key does outside the HSM.
func WrapPad(kek, material []byte) ([]byte, error) {
	block, err := aes.NewCipher(kek)
	if err != nil {
		return nil, err
	}
	if len(material) == 0 {
		return nil, errors.New("there is nothing to wrap")
	}
	n := (len(material) + 7) / 8
	out := make([]byte, 8*(n+1))
	binary.BigEndian.PutUint32(out, aiv)
	binary.BigEndian.PutUint32(out[4:], uint32(len(material)))
	copy(out[8:], material)
	if n == 1 {
		block.Encrypt(out, out)
		return out, nil
	}
	var b [16]byte
	copy(b[:8], out)
	for j := range 6 {
		for i := 1; i <= n; i++ {
			copy(b[8:], out[8*i:])
			block.Encrypt(b[:], b[:])
			t := uint64(n*j + i)
			binary.BigEndian.PutUint64(b[:8], binary.BigEndian.Uint64(b[:8])^t)
			copy(out[8*i:], b[8:])
		}
	}
	copy(out, b[:8])
	return out, nil
}

// UnwrapPad is the inverse of WrapPad.
func UnwrapPad(kek, blob []byte) ([]byte, error) {
	block, err := aes.NewCipher(kek)
	if err != nil {
		return nil, err
	}
	if len(blob) < 16 || len(blob)%8 != 0 {
		return nil, errKeyWrap
	}
	n := len(blob)/8 - 1
	out := append([]byte(nil), blob...)
	if n == 1 {
		block.Decrypt(out, out)
	} else {
		var b [16]byte
		copy(b[:8], out)
		for j := 5; j >= 0; j-- {
			for i := n; i >= 1; i-- {
				binary.BigEndian.PutUint64(b[:8], binary.BigEndian.Uint64(b[:8])^uint64(n*j+i))
				copy(b[8:], out[8*i:])
				block.Decrypt(b[:], b[:])
				copy(out[8*i:], b[8:])
			}
		}
		copy(out, b[:8])
	}
	size := int(binary.BigEndian.Uint32(out[4:]))
	if binary.BigEndian.Uint32(out) != aiv || size > 8*n || size <= 8*(n-1) {
		return nil, errKeyWrap
	}
	if subtle.ConstantTimeCompare(out[8+size:], make([]byte, 8*n-size)) != 1 {
		return nil, errKeyWrap
	}
	return out[8 : 8+size], nil
}
