package atrest

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/subtle"
)

// xaes is XAES-256-GCM (C2SP): AES-256-GCM with nonces of 24 bytes. The first
// half of a nonce chooses a key by CMAC, as in SP 800-108, and the second half
// is the nonce under that key. Random nonces of this length do not repeat,
// however many entries a node writes, so nobody has to count them or keep a
// counter safe over a power cut.
type xaes struct {
	block  cipher.Block
	subkey [aes.BlockSize]byte
}

const xaesNonce = 24

func newXAES(key []byte) (*xaes, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	x := &xaes{block: block}
	block.Encrypt(x.subkey[:], x.subkey[:])
	var carry byte
	for i := len(x.subkey) - 1; i >= 0; i-- {
		carry, x.subkey[i] = x.subkey[i]>>7, x.subkey[i]<<1|carry
	}
	x.subkey[len(x.subkey)-1] ^= 0x87 & -carry
	return x, nil
}

// under answers AES-256-GCM under the key that the first half of the nonce
// chooses. The other half is the nonce.
func (x *xaes) under(nonce []byte) (cipher.AEAD, error) {
	var key [32]byte
	defer clear(key[:])
	for i := range 2 {
		half := key[16*i : 16*i+16]
		copy(half, []byte{0, byte(i + 1), 'X', 0})
		copy(half[4:], nonce[:12])
		subtle.XORBytes(half, half, x.subkey[:])
		x.block.Encrypt(half, half)
	}
	block, err := aes.NewCipher(key[:])
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}
