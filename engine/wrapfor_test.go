package engine_test

import (
	"crypto/aes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/x509"
	"encoding/binary"
	"encoding/pem"
	"testing"

	"github.com/stretchr/testify/require"
)

// wrapFor wraps material as getImportParameters asks for it: a fresh AES key
// by RSA-OAEP (SHA-1) to the public key, then the material under that key
// by AES key wrap with padding. It is written from the RFCs alone.
func wrapFor(t *testing.T, publicPEM string, material []byte) string {
	t.Helper()
	block, _ := pem.Decode([]byte(publicPEM))
	require.NotNil(t, block)
	public, err := x509.ParsePKIXPublicKey(block.Bytes)
	require.NoError(t, err)
	key := make([]byte, 32)
	_, _ = rand.Read(key)
	box, err := rsa.EncryptOAEP(sha1.New(), rand.Reader, public.(*rsa.PublicKey), key, nil)
	require.NoError(t, err)
	return raw64(append(box, wrapPadded(t, key, material)...))
}

// wrapPadded is RFC 5649, for material of more than eight bytes.
func wrapPadded(t *testing.T, key, material []byte) []byte {
	t.Helper()
	block, err := aes.NewCipher(key)
	require.NoError(t, err)
	n := (len(material) + 7) / 8
	r := make([]byte, 8*(n+1))
	copy(r, []byte{0xA6, 0x59, 0x59, 0xA6})
	binary.BigEndian.PutUint32(r[4:], uint32(len(material)))
	copy(r[8:], material)
	var b [16]byte
	for j := range 6 {
		for i := 1; i <= n; i++ {
			copy(b[:8], r[:8])
			copy(b[8:], r[8*i:])
			block.Encrypt(b[:], b[:])
			binary.BigEndian.PutUint64(b[:8], binary.BigEndian.Uint64(b[:8])^uint64(n*j+i))
			copy(r[:8], b[:8])
			copy(r[8*i:], b[8:])
		}
	}
	return r
}
